//! In: who owned an address. Out: whether routes lead there, so that a client may have asked for it.
//! Routes that only a controller knows (`IngressRoute`, `HTTPProxy`, `VirtualService`) are not seen here.
use std::net::IpAddr;

use super::Index;
use super::owned::{Owned, Picked};
use super::timeline::Standing;
use crate::cluster::object::Name;

/// Whether the routes of the cluster lead to an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// They lead to its Service.
    Routed,
    /// It is a Service's that none leads to, while others are led to.
    Unrouted,
    /// It is nothing of the cluster's, nor near to it.
    Foreign,
    /// Not certain, or the cluster's own API.
    Unclear,
}

impl Index {
    /// Whether routes lead to an address, by now.
    pub fn way(&self, owned: &Owned, address: IpAddr) -> Way {
        if self.led.is_empty() {
            return Way::Unclear;
        }
        match owned {
            Owned::Endpoint(tenancy) => {
                let Some(service) = &tenancy.service else {
                    return Way::Unclear;
                };
                // Others may have the address; the port is what tells.
                let sole = matches!(tenancy.picked, Picked::Only | Picked::Port);
                let held = tenancy.standing == Standing::Held;
                self.way_of(
                    service,
                    held && (sole || !self.leads_to_any(&tenancy.others)),
                )
            }
            Owned::Front(front) => self.way_of(&front.service, front.standing == Standing::Held),
            Owned::Outside if self.is_far(address) && !self.leads_outside() => Way::Foreign,
            Owned::Outside | Owned::Pod { .. } | Owned::Node(_) => Way::Unclear,
        }
    }

    fn way_of(&self, service: &Name, certain: bool) -> Way {
        let api = (&*service.namespace, &*service.name) == ("default", "kubernetes");
        match () {
            () if self.led.contains_key(service) => Way::Routed,
            () if certain && !api => Way::Unrouted,
            () => Way::Unclear,
        }
    }

    fn leads_to_any(&self, services: &[Name]) -> bool {
        services
            .iter()
            .any(|service| self.led.contains_key(service))
    }

    /// Whether a route leads to a Service that stands for a name outside.
    fn leads_outside(&self) -> bool {
        self.led.keys().any(|name| {
            let now = self.services.get(name).and_then(|known| known.now());
            now.is_some_and(|service| service.external_name.is_some())
        })
    }

    /// Whether no address of the cluster has the same beginning: a pod's that has been gone for longer
    /// than the past is kept has.
    fn is_far(&self, address: IpAddr) -> bool {
        let address = beginning(address);
        let services = self.services.present();
        let services = services.flat_map(|(_, service)| service.cluster_ips.iter().copied());
        let nodes = self.nodes.present();
        let nodes = nodes.flat_map(|(_, node)| node.addresses.iter().copied());
        let mut known = self.seats.addresses().chain(services).chain(nodes);
        known.all(|other| beginning(other) != address)
    }
}

/// What the pods of a cluster have in common: the first 16 bits of an IPv4 address, 48 of an IPv6 one.
fn beginning(address: IpAddr) -> (bool, u64) {
    match address.to_canonical() {
        IpAddr::V4(address) => (false, u64::from(address.to_bits() >> 16)),
        IpAddr::V6(address) => (
            true,
            u64::try_from(address.to_bits() >> 80).unwrap_or(u64::MAX),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::index::example::{
        at, backend, index, prefix, ready, route, rule, service, shop, slice, to,
    };
    use crate::cluster::object::{Kind, Object, Service};

    fn way(index: &Index, address: &str) -> Way {
        let address = to(address);
        let owned = index.whose(address, at(1000), None);
        index.way(&owned, address.ip())
    }

    /// A Service that is led to, one that is not, on pods of their own, and one pod of both.
    fn cluster() -> Index {
        let mut index = index();
        let rules = vec![rule("shop.example", prefix("/"), "cart")];
        index.apply(Object::Route(route(Kind::Ingress, "all", rules)), at(0));
        let both = ready("10.77.1.5", "both");
        let cart = [ready("10.77.1.3", "cart-x"), both.clone()];
        index.apply(slice("cart-1", "cart", 8080, &cart), at(0));
        let traces = [ready("10.77.1.4", "traces-x"), both];
        index.apply(slice("traces-1", "traces", 9411, &traces), at(0));
        index.apply(Object::Service(service("traces", "10.96.0.4")), at(0));
        index
    }

    #[test]
    fn a_service_that_no_route_leads_to_is_unrouted_while_others_are_led_to() {
        let mut index = cluster();
        assert_eq!(way(&index, "10.77.1.3:8080"), Way::Routed);
        assert_eq!(way(&index, "10.77.1.4:9411"), Way::Unrouted);
        assert_eq!(way(&index, "10.96.0.4:80"), Way::Unrouted);
        // Of a pod of both the port tells.
        assert_eq!(way(&index, "10.77.1.5:8080"), Way::Routed);
        assert_eq!(way(&index, "10.77.1.5:9411"), Way::Unrouted);
        assert_ne!(way(&index, "10.77.1.5:7000"), Way::Unrouted);
        let name = shop("all");
        index.delete(Kind::Ingress, &name, at(500));
        assert_eq!(way(&index, "10.77.1.4:9411"), Way::Unclear);
    }

    #[test]
    fn what_was_an_endpoint_or_is_the_api_is_never_unrouted() {
        let mut index = cluster();
        index.apply(slice("traces-1", "traces", 9411, &[]), at(500));
        assert_eq!(way(&index, "10.77.1.4:9411"), Way::Unclear);
        let api = Service {
            name: Name::new("default", "kubernetes"),
            ..service("kubernetes", "10.96.0.1")
        };
        index.apply(Object::Service(api), at(0));
        assert_eq!(way(&index, "10.96.0.1:443"), Way::Unclear);
    }

    #[test]
    fn only_what_is_far_from_the_cluster_is_foreign_and_nothing_where_a_route_leads_outside() {
        let mut index = cluster();
        assert_eq!(way(&index, "198.51.100.7:80"), Way::Foreign);
        assert_eq!(way(&index, "[2001:db8::7]:80"), Way::Foreign);
        // Perhaps a pod of long ago.
        assert_eq!(way(&index, "10.77.200.7:80"), Way::Unclear);
        let outside = Service {
            external_name: Some("shop.example".into()),
            ..service("outside", "10.96.0.9")
        };
        index.apply(Object::Service(outside), at(0));
        assert_eq!(way(&index, "198.51.100.7:80"), Way::Foreign);
        let mut more = route(Kind::Ingress, "more", Vec::new());
        more.default_backend = Some(backend("outside"));
        index.apply(Object::Route(more), at(0));
        assert_eq!(way(&index, "198.51.100.7:80"), Way::Unclear);
    }
}
