//! In: EndpointSlices. Out: a timeline for each address in each slice, found by address and by
//! Service. Keeps of a slice only what changed; bounded like the other objects.
use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;

use super::store::{Links, Past};
use super::timeline::{Timeline, Version};
use crate::cluster::object::{Endpoint, Name, Slice, SlicePort};

/// Conditions of an endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Health {
    /// It takes new connections.
    pub ready: bool,
    /// It answers, terminating or not.
    pub serving: bool,
    /// Its pod is being deleted.
    pub terminating: bool,
}

/// What the endpoints of a slice have in common.
#[derive(Debug, PartialEq, Eq)]
pub struct Head {
    /// Namespace of the slice and all that it names.
    pub namespace: Arc<str>,
    /// The Service in its namespace; none for a slice that belongs to none.
    pub service: Option<Name>,
    /// Ports.
    pub ports: Vec<SlicePort>,
}

/// An endpoint as one address of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenant {
    /// What its slice says of all its endpoints.
    pub head: Arc<Head>,
    /// Its pod, in the slice's namespace.
    pub pod: Option<Arc<str>>,
    /// Its node.
    pub node: Option<Arc<str>>,
    /// Its conditions.
    pub health: Health,
}

/// An address in a slice, and who has had it there.
#[derive(Debug)]
struct Seat {
    address: IpAddr,
    timeline: Timeline<Tenant>,
}

/// All addresses of all slices.
#[derive(Debug, Default)]
pub struct Seats {
    /// Sorted by address.
    slices: HashMap<Name, Vec<Seat>>,
    by_address: Links<IpAddr>,
    by_service: Links<Name>,
    past: Past,
}

impl Seats {
    /// Takes a slice as it is from now on.
    pub fn apply(&mut self, slice: &Slice, at: Timestamp, listed: bool) {
        let head = self.head(slice);
        let mut tenants: Vec<(IpAddr, Tenant)> = slice
            .endpoints
            .iter()
            .flat_map(|endpoint| endpoint.addresses.iter().map(move |ip| (*ip, endpoint)))
            .map(|(ip, endpoint)| (ip, tenant(&head, endpoint)))
            .collect();
        // The same address twice in a slice: the one that takes most counts.
        tenants.sort_by(|(a, x), (b, y)| (a, y.health).cmp(&(b, x.health)));
        tenants.dedup_by_key(|(ip, _)| *ip);
        let mut ended = 0;
        for address in self.present(&slice.name) {
            let absent = tenants
                .binary_search_by_key(&address, |(ip, _)| *ip)
                .is_err();
            if absent {
                ended += self.set(&slice.name, address, gone(at, listed));
            }
        }
        for (address, tenant) in tenants {
            let version = Version {
                value: Some(tenant),
                ..gone(at, listed)
            };
            ended += self.set(&slice.name, address, version);
        }
        self.ended(&slice.name, at, ended);
    }

    /// The slice was deleted.
    pub fn delete(&mut self, name: &Name, at: Timestamp, listed: bool) {
        let present = self.present(name).into_iter();
        let ended = present.map(|address| self.set(name, address, gone(at, listed)));
        let ended = ended.sum();
        self.ended(name, at, ended);
    }

    /// Drops what ended before a time.
    pub fn forget(&mut self, before: Timestamp) {
        while let Some(name) = self.past.pop(before) {
            self.forget_of(&name, before);
        }
    }

    /// Names of the slices that have endpoints.
    pub fn names(&self) -> impl Iterator<Item = &Name> {
        self.slices
            .iter()
            .filter(|(_, seats)| seats.iter().any(|seat| seat.timeline.now().is_some()))
            .map(|(name, _)| name)
    }

    /// All addresses.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.slices.values().flatten().map(|seat| seat.address)
    }

    /// Who has had an address, slice by slice.
    pub fn of_address(&self, address: IpAddr) -> impl Iterator<Item = &Timeline<Tenant>> {
        let slices = self.by_address.get(&address).iter();
        slices.filter_map(move |name| {
            let seats = self.slices.get(name)?;
            Some(&seats[place(seats, address).ok()?].timeline)
        })
    }

    /// The addresses that a Service has had, slice by slice.
    pub fn of_service(&self, service: &Name) -> impl Iterator<Item = (IpAddr, &Timeline<Tenant>)> {
        let slices = self.by_service.get(service).iter();
        slices
            .filter_map(|name| self.slices.get(name))
            .flatten()
            .map(|seat| (seat.address, &seat.timeline))
    }

    /// How many slices, links and changes are kept.
    pub fn kept(&self) -> usize {
        let links = self.by_address.len() + self.by_service.len();
        self.slices.len() + links + self.past.len()
    }

    /// How many changes were forgotten before their time.
    pub fn evicted(&self) -> u64 {
        self.past.evicted
    }

    /// Addresses that a slice has now.
    fn present(&self, slice: &Name) -> Vec<IpAddr> {
        self.slices
            .get(slice)
            .into_iter()
            .flatten()
            .filter(|seat| seat.timeline.now().is_some())
            .map(|seat| seat.address)
            .collect()
    }

    /// The head of a slice; the one its endpoints share already if it is still the same.
    fn head(&self, slice: &Slice) -> Arc<Head> {
        let service = slice.service.as_ref().map(|service| Name {
            namespace: slice.name.namespace.clone(),
            name: service.clone(),
        });
        let head = Head {
            namespace: slice.name.namespace.clone(),
            service,
            ports: slice.ports.clone(),
        };
        let seats = self.slices.get(&slice.name).into_iter().flatten();
        seats
            .filter_map(|seat| seat.timeline.now())
            .map(|tenant| &tenant.head)
            .find(|known| ***known == head)
            .map_or_else(|| Arc::new(head), Arc::clone)
    }

    /// Sets who has an address from now on; gives how many values ended by it.
    fn set(&mut self, slice: &Name, address: IpAddr, version: Version<Tenant>) -> u32 {
        let service = version.value.as_ref();
        let service = service.and_then(|tenant| tenant.head.service.clone());
        let seats = self.slices.entry(slice.clone()).or_default();
        let ended = match place(seats, address) {
            Err(at) => {
                seats.reserve_exact(1);
                let timeline = Timeline::new(version);
                seats.insert(at, Seat { address, timeline });
                self.by_address.add(address, slice);
                0
            }
            Ok(place) => match seats[place].timeline.set(version) {
                Err(_) => return 0,
                Ok(dropped) => {
                    self.past.evicted += u64::from(dropped.is_some());
                    1
                }
            },
        };
        if let Some(service) = service {
            self.by_service.add(service, slice);
        }
        ended
    }

    /// So many values of a slice ended; makes room for them.
    fn ended(&mut self, slice: &Name, at: Timestamp, ended: u32) {
        self.past.push(at, slice, ended);
        while let Some((before, slice)) = self.past.too_many() {
            self.forget_of(&slice, before);
        }
    }

    fn forget_of(&mut self, slice: &Name, before: Timestamp) {
        let Some(seats) = self.slices.get_mut(slice) else {
            return;
        };
        let mut left = Vec::new();
        let mut empty = Vec::new();
        seats.retain_mut(|seat| {
            let (ended, some) = seat.timeline.forget(before);
            left.extend(ended);
            if !some {
                empty.push(seat.address);
            }
            some
        });
        seats.shrink_to_fit();
        if seats.is_empty() {
            self.slices.remove(slice);
        }
        for address in empty {
            self.by_address.remove(address, slice);
        }
        let services = left
            .iter()
            .filter_map(|tenant| tenant.head.service.as_ref());
        for service in services.collect::<BTreeSet<_>>() {
            self.unlink(service, slice);
        }
    }

    /// Removes the link of a Service to a slice that has nothing of it any more.
    fn unlink(&mut self, service: &Name, slice: &Name) {
        let mut seats = self.slices.get(slice).into_iter().flatten();
        let of = |tenant: &Tenant| tenant.head.service.as_ref() == Some(service);
        if !seats.any(|seat| seat.timeline.values().any(of)) {
            self.by_service.remove(service.clone(), slice);
        }
    }
}

fn place(seats: &[Seat], address: IpAddr) -> Result<usize, usize> {
    seats.binary_search_by_key(&address, |seat| seat.address)
}

fn gone(at: Timestamp, listed: bool) -> Version<Tenant> {
    Version {
        from: at,
        listed,
        value: None,
    }
}

fn tenant(head: &Arc<Head>, endpoint: &Endpoint) -> Tenant {
    Tenant {
        head: head.clone(),
        pod: endpoint.pod.clone(),
        node: endpoint.node.clone(),
        health: Health {
            ready: endpoint.ready,
            serving: endpoint.serving,
            terminating: endpoint.terminating,
        },
    }
}
