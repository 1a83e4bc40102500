//! In: an IngressClass as the API writes it. Out: its name and the controller that serves it.
use std::sync::Arc;

use serde::Deserialize;

use crate::cluster::object::{Class, Object};
use crate::cluster::partial::Partial;
use crate::cluster::partial::meta::Meta;

#[derive(Deserialize)]
pub(in crate::cluster::partial) struct IngressClass {
    metadata: Meta,
    #[serde(default)]
    spec: Spec,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Spec {
    controller: Arc<str>,
}

impl Partial for IngressClass {
    fn meta(&self) -> &Meta {
        &self.metadata
    }

    fn trim(self) -> Object {
        Object::Class(Class {
            name: self.metadata.name(),
            controller: self.spec.controller,
        })
    }
}
