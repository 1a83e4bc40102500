//! In: a Node as the API writes it. Out: the trimmed node.
use serde::Deserialize;

use super::Partial;
use super::meta::{Meta, StatusCondition, addresses, ready};
use crate::cluster::object::{self, Object};

#[derive(Deserialize)]
pub(super) struct Node {
    metadata: Meta,
    #[serde(default)]
    status: Status,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Status {
    addresses: Option<Vec<Address>>,
    conditions: Option<Vec<StatusCondition>>,
}

#[derive(Deserialize)]
struct Address {
    address: String,
}

impl Partial for Node {
    fn meta(&self) -> &Meta {
        &self.metadata
    }

    fn trim(self) -> Object {
        // Host names are in the same list and are no addresses.
        let listed = self.status.addresses.into_iter().flatten();
        Object::Node(object::Node {
            name: self.metadata.name(),
            addresses: addresses(listed.map(|one| one.address)),
            ready: ready(self.status.conditions),
        })
    }
}
