//! The cluster that a bed would be: the backend host's ports in, objects with names for each of
//! them out, and the stand-in API that serves them. For the demo and for tests that want names.
use std::net::IpAddr;

use anyhow::Result;
use serde_json::{Value, json};

use crate::backends::Behavior;
use crate::bed::Host;
use crate::fake_api::FakeApi;
use crate::nginx::Fault;
use crate::objects::{self, Endpoint};

/// The namespace of it all.
pub const NAME: &str = "shop";
/// The node of all pods.
pub const NODE: &str = "bed";
/// The Service that selects no pod; its path at the proxy is the same word.
pub const NONE: &str = "none";

/// The port of every Service.
const PORT: u16 = 80;

/// A pod: its name's stem, which its Services select, and where it is.
struct Place {
    app: &'static str,
    address: IpAddr,
    /// Words of its Services with the pod's ports.
    services: Vec<(&'static str, u16)>,
}

/// Starts the stand-in API with these objects.
pub fn api() -> Result<FakeApi> {
    let api = FakeApi::start()?;
    api.apply_all(objects())?;
    Ok(api)
}

/// A Node; a pod for every address behind the proxy; for every first segment of a path a Service
/// of that name, with its EndpointSlice; and the Ingress that leads there.
pub fn objects() -> Vec<Value> {
    let places = places();
    let words = places.iter().flat_map(|place| &place.services);
    let words = words.map(|(word, _)| *word).chain([NONE]);
    let paths: Vec<(String, &str)> = words.map(|word| (format!("/{word}"), word)).collect();
    let routes: Vec<objects::Path<'_>> = paths
        .iter()
        .map(|(path, word)| (path.as_str(), *word, PORT))
        .collect();
    let mut all = vec![
        objects::node(NODE),
        objects::ingress(NAME, NAME, "nginx", "", &routes),
        service(NONE, Some(NONE), 8080),
        objects::slice(NAME, NONE, &[], &[]),
    ];
    for place in &places {
        let Place {
            app,
            address,
            services,
        } = place;
        let name = format!("{app}-0");
        let ports: Vec<u16> = services.iter().map(|(_, port)| *port).collect();
        all.push(objects::pod(NAME, &name, NODE, &[*address], &ports));
        for (word, port) in services {
            let endpoint = Endpoint::ready(*address, &name);
            all.push(service(word, Some(app), *port));
            all.push(objects::slice(NAME, word, &[("http", *port)], &[endpoint]));
        }
    }
    all
}

fn service(word: &str, app: Option<&str>, port: u16) -> Value {
    objects::service(NAME, word, app, &[("http", PORT, json!(port))])
}

fn places() -> Vec<Place> {
    let mut services: Vec<_> = Behavior::ALL
        .iter()
        .map(|behavior| (behavior.word(), behavior.port()))
        .collect();
    let backend = Host::Backend.v4();
    let mut elsewhere = Vec::new();
    for fault in Fault::ALL {
        let address = address(fault);
        let service = (fault.word(), fault.port());
        if address == backend {
            services.push(service);
        } else {
            elsewhere.push(Place {
                app: fault.word(),
                address,
                services: vec![service],
            });
        }
    }
    elsewhere.push(Place {
        app: "backend",
        address: backend,
        services,
    });
    elsewhere
}

fn address(fault: Fault) -> IpAddr {
    let address = fault.address(false).parse();
    address.expect("the endpoints of faults are addresses")
}
