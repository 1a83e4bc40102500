//! A data plane with all that it does beside its clients' requests, and the agent on it: what is told
//! of healthy traffic is a false alarm. A marker that is known to fail ends it.
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use anyhow::{Result, ensure};
use serde_json::json;

use super::own::{Own, PORT, TLS_PORT, at};
use super::{Plane, checks, each, watch, watch_in};
use crate::agent::{Agent, VERDICT};
use crate::backends::{Backends, Behavior as B};
use crate::bed::Bed;
use crate::client::{self as plain, request};
use crate::expect::Differences;
use crate::fake_api::FakeApi;
use crate::nginx::unreachable_endpoints;
use crate::objects::{self, Endpoint};
use crate::{h2, https, shop, wait};

/// A request for an endpoint that refuses, and the beginning of others.
pub const MARKER: &str = "/refused/marker";

/// A bed with a data plane that has much to do beside its clients' requests.
pub struct Life {
    /// The data plane.
    pub own: Own,
    /// The backends' program.
    pub backends: Backends,
    /// The agent on it.
    pub agent: Agent,
    /// Which one.
    pub plane: Plane,
    /// Whether it has checks, a control plane, an authority and traces.
    pub busy: bool,
    /// The cluster that it is in, where the agent knows it.
    pub api: Option<FakeApi>,
    // Last: it is dropped after what lives in it.
    /// The hosts.
    pub bed: Bed,
}

impl Life {
    /// Starts all of it.
    pub fn new(plane: Plane, busy: bool) -> Result<Self> {
        Self::with(plane, busy, &[])
    }

    /// The same with arguments of the data plane's own.
    pub fn with(plane: Plane, busy: bool, arguments: &[&str]) -> Result<Self> {
        let bed = Bed::new()?;
        let backends = Backends::start(&bed)?;
        unreachable_endpoints(&bed)?;
        let api = busy.then(cluster).transpose()?;
        let agent = match &api {
            Some(api) => watch_in(&bed, plane, api)?,
            None => watch(&bed, plane)?,
        };
        let own = Own::start_with(
            &bed,
            plane,
            &checks::files(plane, &[B::Ok.endpoint()], busy)?,
            arguments,
        )?;
        // It may listen before it has read its routes.
        wait::holds("requests relayed", VERDICT, || {
            plain::get(&bed, at(PORT), "/ready").is_ok_and(|got| got.status == Some(200))
        })?;
        Ok(Self {
            own,
            backends,
            agent,
            plane,
            busy,
            api,
            bed,
        })
    }

    /// Sends a request that is known to fail.
    pub fn fails(&self, path: &str) -> Result<()> {
        let got = plain::get(&self.bed, at(PORT), path)?;
        ensure!(got.status >= Some(500), "{got:?}");
        Ok(())
    }

    /// Sends a request that is known to fail, and waits for its finding.
    pub fn mark(&self, path: &str) -> Result<()> {
        self.fails(path)?;
        let told = self.agent.finding("the marker", |one| one.path() == path);
        told.map(drop)
    }

    /// Ends the agent; whatever it told beside markers, or of the traces, is a false alarm.
    pub fn finish(self, differences: &Mutex<Differences>) -> Result<()> {
        self.mark(MARKER)?;
        let plane = self.plane;
        for alarm in self.agent.stop()? {
            let marker =
                alarm.path().starts_with(MARKER) && alarm.text("/backend/service") != TRACES;
            let expected = marker || alarm.text("/outcome") == "slow";
            if !expected {
                note(differences, format!("{plane:?}: {}", alarm.0));
            }
        }
        Ok(())
    }
}

/// The Service of what the data plane asks for itself; no route leads there.
const TRACES: &str = "traces";

/// All backends with a route, and the Service of traces, control plane and authority without one.
fn cluster() -> Result<FakeApi> {
    let (api, gone) = (shop::api()?, checks::gone());
    let port = [("http", gone.port())];
    let endpoint = Endpoint::ready(gone.ip(), "backend-0");
    api.apply_all([
        objects::service(
            shop::NAME,
            TRACES,
            None,
            &[("http", 80, json!(gone.port()))],
        ),
        objects::slice(shop::NAME, TRACES, &port, &[endpoint]),
    ])?;
    Ok(api)
}

/// Notes what is not as it should be.
pub fn note(differences: &Mutex<Differences>, text: String) {
    let mut differences = differences.lock().unwrap_or_else(PoisonError::into_inner);
    differences.note(text);
}

/// The work on every data plane; all differences at once.
///
/// # Panics
/// If there is any.
pub fn all(
    busy: bool,
    work: impl Fn(Life, &Mutex<Differences>) -> Result<()> + Sync,
) -> Result<()> {
    let differences = Mutex::new(Differences::default());
    each(|plane| work(Life::new(plane, busy)?, &differences))?;
    differences
        .into_inner()
        .expect("no thread panics with it")
        .finish("");
    Ok(())
}

/// One request of each kind of client.
pub fn ask(bed: &Bed, path: &str) -> Result<()> {
    let got = plain::get(bed, at(PORT), path)?;
    ensure!(
        (got.status, got.complete) == (Some(200), true),
        "plain: {got:?}"
    );
    let got = https::open(bed, at(TLS_PORT))?.get(path)?;
    ensure!(
        (got.status, got.complete) == (Some(200), true),
        "TLS: {got:?}"
    );
    let got = h2::Connection::open(bed, at(TLS_PORT))?.get(path)?;
    ensure!(
        (got.status, got.complete) == (Some(200), true),
        "HTTP/2: {got:?}"
    );
    Ok(())
}

/// Clients that each ask over and over, by their number and the request's, while `work` is done.
pub fn meanwhile(
    clients: usize,
    asks: impl Fn(usize, usize) -> Result<()> + Sync,
    work: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let (done, asks) = (&AtomicBool::new(false), &asks);
    thread::scope(|scope| {
        let go_on = |client| {
            let mut requests = (0..).take_while(|_| !done.load(Ordering::Relaxed));
            requests.try_for_each(|number| asks(client, number))
        };
        let clients: Vec<_> = (0..clients)
            .map(|client| scope.spawn(move || go_on(client)))
            .collect();
        let worked = work();
        done.store(true, Ordering::Relaxed);
        let clients = clients.into_iter().try_for_each(wait::joined);
        worked.and(clients)
    })
}

/// Gives it other endpoints in its own graceful way.
pub fn reload(own: &mut Own, bed: &Bed, plane: Plane, fine: &[SocketAddr]) -> Result<()> {
    let files = checks::files(plane, fine, false)?;
    own.write(&files)?;
    match plane {
        Plane::Nginx => own.process.signal(libc::SIGHUP),
        Plane::Haproxy => {
            let old = own.process.id().to_string();
            let mut before = own.succeed(bed, &["-sf", &old])?;
            before.wait(VERDICT)?;
        }
        // They watch their files.
        Plane::Envoy | Plane::Traefik => {}
        Plane::Caddy => {
            let config = &files[0].1;
            let headers = format!(
                "Content-Type: application/json\r\nContent-Length: {}\r\nOrigin: http://{}\r\n",
                config.len(),
                at(2019)
            );
            let mut admin = plain::Connection::open(bed, at(2019))?;
            let head = request("POST", "/load", &headers);
            let head = head.replace("shop.example", &at(2019).to_string());
            admin.send((head + config).as_bytes())?;
            let got = admin.answer()?;
            ensure!(got.status == Some(200), "reload: {got:?} {}", own.output());
        }
    }
    Ok(())
}
