//! In: an address and a time. Out: who owned it then: an endpoint of a Service, a Service itself, a
//! pod, a node, or nobody in the cluster; where several did, the one that is most likely meant.
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use jiff::{SignedDuration, Timestamp};

use super::Index;
use super::owned::{Front, Label, Next, Owned, Picked, PortOf, Tenancy, Via};
use super::ports::{Group, Has, port_in, port_of};
use super::routes::Asked;
use super::seats::Tenant;
use super::services::Spot;
use super::timeline::{Since, Standing, Timeline, Version};
use crate::cluster::object::{Name, Pod};

/// How much later than a controller this agent may learn of an endpoint.
const LATE: SignedDuration = SignedDuration::from_secs(10);

/// What a Service's slices say of an address at a time.
struct View<'a> {
    tenant: &'a Tenant,
    standing: Standing,
    timeline: &'a Timeline<Tenant>,
    port: PortOf,
}

/// A Service's claim on an address; what is smaller goes first.
struct Claim<'a> {
    service: Option<&'a Name>,
    view: View<'a>,
    criteria: [i64; 6],
}

/// What the places of [`Claim::criteria`] behind the first stand for.
const CRITERIA: [Picked; 5] = [
    Picked::Asked,
    Picked::Port,
    Picked::Standing,
    Picked::Standing,
    Picked::Routed,
];

impl Index {
    /// Who owned an address at a time; `hint` is what was asked for there.
    pub fn whose(&self, address: SocketAddr, at: Timestamp, hint: Option<&Asked>) -> Owned {
        let ip = address.ip().to_canonical();
        let address = SocketAddr::new(ip, address.port());
        self.endpoint(address, at, hint)
            .map(|tenancy| Owned::Endpoint(Box::new(tenancy)))
            .or_else(|| self.front(address, at).map(Owned::Front))
            .or_else(|| self.pod_of(ip, at))
            .or_else(|| self.node_of(ip, at).map(Owned::Node))
            .unwrap_or(Owned::Outside)
    }

    /// Whether an address may be a Service's own, or a node's: a few look-ups, for every connection.
    pub fn may_lead_on(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        let mut own = self.services.linked(&Spot::Address(ip));
        own.next().is_some() || self.is_node(ip)
    }

    /// The Service of an address by now, for metrics; none outside of Services.
    pub fn labels(&self, address: SocketAddr) -> Option<Label<'_>> {
        let (ip, port) = (address.ip().to_canonical(), address.port());
        let timelines = self.seats.of_address(ip);
        let claims = timelines.filter_map(|timeline| {
            let (tenant, standing) = timeline.at(Timestamp::MAX)?;
            let service = tenant.head.service.as_ref()?;
            let port = port_in(&tenant.head, port);
            let gone = standing != Standing::Held;
            let unrouted = !self.led.contains_key(service);
            Some(((port.class(), gone, unrouted, service), port))
        });
        let best = claims.min_by(|(a, _), (b, _)| a.cmp(b));
        let told = best.filter(|(_, port)| matches!(port, Has::Named(_)) || !self.is_node(ip));
        if let Some(((.., service), port)) = told {
            let port = match port {
                Has::Named(name) => name,
                Has::Any | Has::Not => "",
            };
            return Some(Label { service, port });
        }
        self.front_label(SocketAddr::new(ip, port))
    }

    fn endpoint(
        &self,
        address: SocketAddr,
        at: Timestamp,
        hint: Option<&Asked>,
    ) -> Option<Tenancy> {
        let (ip, port) = (address.ip(), address.port());
        let groups = groups(self.seats.of_address(ip));
        if groups.is_empty() {
            return None;
        }
        let asked = match hint {
            Some(hint) if groups.len() > 1 => self.route(hint, at),
            _ => None,
        };
        // On a node's address the port alone tells one pod from another.
        let shared = self.is_node(ip);
        let mut claims: Vec<Claim> = groups
            .iter()
            .filter_map(|(service, group)| {
                let view = view(group, port, at)?;
                let claim = Claim::new(*service, view, at, |service| Weight {
                    asked: asked.as_ref().is_some_and(|routed| {
                        let mut backends = routed.backends.iter();
                        backends.any(|backend| backend.service == *service)
                    }),
                    routed: self.led.contains_key(service),
                });
                let told = !matches!(claim.view.port, PortOf::Other | PortOf::Any);
                (!shared || told).then_some(claim)
            })
            .collect();
        claims.sort_by(|a, b| (a.criteria, a.service).cmp(&(b.criteria, b.service)));
        let picked = picked(&claims);
        let best = claims.first()?;
        let others = claims.iter().skip(1);
        let group = &groups[&best.service];
        let gone = matches!(best.view.standing, Standing::Gone(_));
        let moved = gone.then(|| self.mover(best, &claims, ip, at)).flatten();
        Some(Tenancy {
            moved,
            picked,
            others: others.filter_map(|claim| claim.service.cloned()).collect(),
            ..tenancy(best, group, port, at)
        })
    }

    /// The pod that has an address now, where the pod of a claim has it no more.
    fn mover(&self, best: &Claim, claims: &[Claim], ip: IpAddr, at: Timestamp) -> Option<Name> {
        let had = pod_name(best);
        let held = claims
            .iter()
            .filter(|claim| claim.view.standing == Standing::Held);
        held.filter_map(pod_name)
            .chain(match self.pod_of(ip, at) {
                Some(Owned::Pod {
                    pod,
                    standing: Standing::Held,
                }) => Some(pod),
                _ => None,
            })
            .find(|pod| had.as_ref() != Some(pod))
    }

    fn front(&self, address: SocketAddr, at: Timestamp) -> Option<Front> {
        let (ip, number) = (address.ip(), address.port());
        let own = self
            .services
            .linked(&Spot::Address(ip))
            .filter_map(|(name, timeline)| {
                let (service, standing) = timeline.at(at)?;
                let via = match () {
                    () if service.cluster_ips.contains(&ip) => Via::ClusterIp,
                    () if service.external_ips.contains(&ip) => Via::ExternalIp,
                    () => return None,
                };
                let port = service.ports.iter().find(|port| port.port == number);
                Some(Front {
                    service: name.clone(),
                    port: port.map(|port| (port.name.clone(), port.port)),
                    via,
                    standing,
                })
            });
        // A load balancer's address may be several Services', and a node's.
        let node = self.node_of(ip, at);
        let nodes = self.services.linked(&Spot::NodePort(number));
        let on_node = nodes.filter_map(|(name, timeline)| {
            let (service, standing) = timeline.at(at)?;
            let mut ports = service.ports.iter();
            let port = ports.find(|port| port.node_port == Some(number))?;
            Some(Front {
                service: name.clone(),
                port: Some((port.name.clone(), port.port)),
                via: Via::NodePort(node.clone()?),
                standing,
            })
        });
        let fronts = own.filter(|front| node.is_none() || front.port.is_some());
        fronts.chain(on_node).min_by(|a, b| {
            let key = |it: &Front| (it.port.is_none(), standing_class(it.standing));
            (key(a), &a.service).cmp(&(key(b), &b.service))
        })
    }

    fn front_label(&self, address: SocketAddr) -> Option<Label<'_>> {
        let front = self.front(address, Timestamp::MAX)?;
        // Names that live as long as the index are in it.
        let (service, timeline) = self.services.entry(&front.service)?;
        let number = front.port.map_or(0, |(_, number)| number);
        let now = timeline.values().last();
        let port = now.and_then(|service| service.ports.iter().find(|port| port.port == number));
        let port = port.map_or("", |port| &*port.name);
        Some(Label { service, port })
    }

    fn pod_of(&self, ip: IpAddr, at: Timestamp) -> Option<Owned> {
        let known = self.pods.linked(&ip).filter_map(|(name, timeline)| {
            let (pod, standing) = timeline.at(at)?;
            // One that has ended has given its address back.
            let ended = matches!(&*pod.phase, "Succeeded" | "Failed");
            let has = pod.addresses.contains(&ip) && !pod.host_network && !ended;
            has.then(|| (name, pod, standing_of(pod, standing, at)))
        });
        let (pod, _, standing) = known.min_by_key(|(name, pod, standing)| {
            (standing_class(*standing), Reverse(pod.created), *name)
        })?;
        Some(Owned::Pod {
            pod: pod.clone(),
            standing,
        })
    }

    fn node_of(&self, ip: IpAddr, at: Timestamp) -> Option<Name> {
        let nodes = self.nodes.linked(&ip).filter_map(|(name, timeline)| {
            let (node, standing) = timeline.at(at)?;
            let has = node.addresses.contains(&ip);
            has.then_some((standing_class(standing), name))
        });
        let known = nodes.min().map(|(_, name)| name.clone());
        known.or_else(|| {
            let node = self.hosted(ip).find_map(|pod| pod.node.as_deref())?;
            Some(Name::new("", node))
        })
    }

    fn is_node(&self, ip: IpAddr) -> bool {
        self.nodes.linked(&ip).next().is_some() || self.hosted(ip).next().is_some()
    }

    /// The pods that are in the network of the node with this address: nodes may not be known.
    fn hosted(&self, ip: IpAddr) -> impl Iterator<Item = &Pod> {
        let timelines = self.pods.linked(&ip);
        let pods = timelines.flat_map(|(_, timeline)| timeline.values());
        let has = move |pod: &&Pod| pod.host_network && pod.addresses.contains(&ip);
        pods.map(|pod| &**pod).filter(has)
    }
}

/// What is said for a Service beside its slices.
struct Weight {
    asked: bool,
    routed: bool,
}

impl<'a> Claim<'a> {
    fn new(
        service: Option<&'a Name>,
        view: View<'a>,
        at: Timestamp,
        weigh: impl Fn(&Name) -> Weight,
    ) -> Self {
        let weight = service.map(weigh);
        let near = match view.standing {
            Standing::Later(from) => from.at.duration_since(at) <= LATE,
            Standing::Held | Standing::Gone(_) => true,
        };
        let tier = match (near, &view.port) {
            (true, PortOf::Other) => 1,
            (true, _) => 0,
            (false, _) => 2,
        };
        let class = match view.port {
            // Who has the address now, and had the port, is nearer than who had both before, or
            // got them afterwards.
            PortOf::Named(_) if view.standing != Standing::Held => 2,
            PortOf::Named(_) => 0,
            PortOf::Any => 1,
            PortOf::Former { .. } => 2,
            PortOf::Coming { .. } => 3,
            PortOf::Other => 4,
        };
        let not = |said: fn(&Weight) -> bool| i64::from(!weight.as_ref().is_some_and(said));
        let criteria = [
            tier,
            not(|weight| weight.asked),
            class,
            i64::from(view.standing != Standing::Held),
            distance(&view, at),
            not(|weight| weight.routed),
        ];
        Self {
            service,
            view,
            criteria,
        }
    }
}

fn groups<'a>(
    timelines: impl Iterator<Item = &'a Timeline<Tenant>>,
) -> BTreeMap<Option<&'a Name>, Group<'a>> {
    let mut groups: BTreeMap<Option<&Name>, Group> = BTreeMap::new();
    for timeline in timelines {
        // A slice hardly ever changes its Service; if it does, the newest counts.
        if let Some(tenant) = timeline.values().last() {
            let service = tenant.head.service.as_ref();
            groups.entry(service).or_default().push(timeline);
        }
    }
    groups
}

/// What the slices of a Service say of an address at a time: of several the one that has the port,
/// then the newest, as endpoints move between slices and are twice in between.
fn view<'a>(group: &Group<'a>, port: u16, at: Timestamp) -> Option<View<'a>> {
    let seen = group.iter().filter_map(|timeline| {
        let (tenant, standing) = timeline.at(at)?;
        let known = port_in(&tenant.head, port).class();
        let age = match standing {
            Standing::Held => timeline.stood(at).map(|version| Reverse(version.from)),
            Standing::Gone(since) => Some(Reverse(since.at)),
            Standing::Later(_) => None,
        };
        let first = match standing {
            Standing::Later(from) => Some(from.at),
            Standing::Held | Standing::Gone(_) => None,
        };
        let class = standing_class(standing);
        let key = (
            class,
            known,
            age,
            first,
            Reverse(tenant.health),
            &tenant.pod,
        );
        Some((key, *timeline, tenant, standing))
    });
    let (_, timeline, tenant, standing) = seen.min_by(|(a, ..), (b, ..)| a.cmp(b))?;
    Some(View {
        tenant,
        standing,
        timeline,
        port: port_of(group, tenant, port, at),
    })
}

/// How far from a time, in microseconds, somebody had the address and the port who did not then.
fn distance(view: &View, at: Timestamp) -> i64 {
    let stood = match view.standing {
        Standing::Held => at,
        Standing::Gone(until) => until.at,
        Standing::Later(from) => from.at,
    };
    let near = match &view.port {
        PortOf::Former { until, .. } => stood.min(until.at),
        _ => stood,
    };
    near.as_microsecond()
        .abs_diff(at.as_microsecond())
        .try_into()
        .unwrap_or(i64::MAX)
}

fn standing_class(standing: Standing) -> u8 {
    match standing {
        Standing::Held => 0,
        Standing::Gone(_) => 1,
        Standing::Later(_) => 2,
    }
}

/// A pod that was learned of later was there if it had been created before.
fn standing_of(pod: &Pod, standing: Standing, at: Timestamp) -> Standing {
    match standing {
        Standing::Later(_) if pod.created.is_some_and(|created| created <= at) => Standing::Held,
        other => other,
    }
}

fn pod_name(claim: &Claim) -> Option<Name> {
    let pod = claim.view.tenant.pod.as_ref()?;
    Some(Name {
        namespace: claim.view.tenant.head.namespace.clone(),
        name: pod.clone(),
    })
}

/// Why the first claim is the first: the criterion that leaves no other.
fn picked(claims: &[Claim]) -> Picked {
    let Some(best) = claims.first() else {
        return Picked::Only;
    };
    let alike = |places: usize| {
        let same = |claim: &&Claim| claim.criteria[..=places] == best.criteria[..=places];
        claims.iter().filter(same).count()
    };
    if claims.len() == 1 {
        return Picked::Only;
    }
    if alike(0) == 1 {
        return Picked::Port;
    }
    let places = CRITERIA.iter().enumerate();
    let alone = places.map(|(place, why)| (alike(place + 1), *why));
    alone
        .into_iter()
        .find(|(alike, _)| *alike == 1)
        .map_or(Picked::Guess, |(_, why)| why)
}

fn tenancy(claim: &Claim, group: &Group, port: u16, at: Timestamp) -> Tenancy {
    let View {
        tenant,
        standing,
        timeline,
        port: known,
    } = &claim.view;
    let alike = |other: &Tenant| other.health == tenant.health && other.pod == tenant.pod;
    let since = match *standing {
        Standing::Held => timeline.since(at, alike),
        Standing::Gone(until) => timeline
            .versions()
            .rev()
            .skip_while(|version| version.from > at || version.value.is_none())
            .take_while(|version| version.value.as_ref().is_some_and(alike))
            .last()
            .map(Version::since)
            .or(Some(until)),
        Standing::Later(from) => Some(from),
    };
    Tenancy {
        service: claim.service.cloned(),
        port: known.clone(),
        pod: pod_name(claim),
        node: tenant.node.clone(),
        health: tenant.health,
        standing: *standing,
        since: since.unwrap_or(Since { at, exact: false }),
        next: next(group, &claim.view, port, at),
        moved: None,
        picked: Picked::Only,
        others: Vec::new(),
    }
}

/// What became of an endpoint after a time, over all slices of its Service.
fn next(group: &Group, now: &View, port: u16, at: Timestamp) -> Option<Next> {
    if now.standing != Standing::Held {
        return None;
    }
    let versions = group.iter().flat_map(|timeline| timeline.versions());
    let mut changes: Vec<Since> = versions
        .filter(|version| version.from > at)
        .map(Version::since)
        .collect();
    changes.sort_by_key(|since| since.at);
    changes.into_iter().find_map(|since| {
        let then = view(group, port, since.at)?;
        let same = then.standing == Standing::Held && then.tenant.pod == now.tenant.pod;
        let health = same.then_some(then.tenant.health);
        (health != Some(now.tenant.health)).then_some(Next { at: since, health })
    })
}

#[cfg(test)]
#[path = "whose_tests.rs"]
mod tests;
