//! A small Kubernetes API of our own, for what a real server does not do on demand: objects and a
//! script of faults in, lists, watches and the record of all requests out. Plain HTTP on loopback;
//! reads only, and checks nothing that it is given.
use std::collections::{HashMap, HashSet};
use std::fs;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::kubeconfig::{self, User};

pub mod resource;
mod serve;
mod store;

use resource::Resource;
pub use store::Order;
use store::Store;

/// A kind of request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// One object, or discovery (resource `discovery`).
    Get,
    /// A list, or a page of it.
    List,
    /// A watch.
    Watch,
}

/// What happens to a request instead of its answer.
#[derive(Clone, Debug)]
pub enum Fault {
    /// This status, with `Retry-After` in seconds if given.
    Status(u16, Option<u32>),
    /// 200, then the event that says 410, then the end. For watches.
    ExpiredInStream,
    /// 200 and the end of the stream. For watches.
    EndAtOnce,
    /// Accepted, read, and never answered.
    Stall,
    /// 200, and then nothing for ever. For watches.
    Silent,
    /// 200 with this body.
    Garbage(Vec<u8>),
    /// 200, closed in the middle of the body.
    Cut,
    /// Closed without an answer.
    Close,
    /// Served, this much later.
    Slow(Duration),
}

/// A request that came.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Its kind.
    pub verb: Verb,
    /// Plural, such as `pods`.
    pub resource: &'static str,
    /// Path without the query.
    pub path: String,
    /// The query, decoded.
    pub query: HashMap<String, String>,
    /// The bearer token, empty without one.
    pub token: String,
    /// `User-Agent`.
    pub agent: String,
    /// The status it got; 0 as long as it has none.
    pub status: u16,
    /// Bytes sent to it so far, heads included.
    pub bytes: u64,
}

#[derive(Default)]
struct State {
    store: Store,
    faults: Vec<(Target, u32, Fault)>,
    tokens: Option<HashSet<String>>,
    asked: Vec<Asked>,
    connections: HashMap<SocketAddr, TcpStream>,
    down: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Target {
    resource: &'static str,
    verb: Verb,
}

impl State {
    /// The fault that this request meets, which is then used up.
    fn fault(&mut self, resource: &str, verb: Verb) -> Option<Fault> {
        let meets = |target: &Target| target.resource == resource && target.verb == verb;
        let rule = self
            .faults
            .iter_mut()
            .find(|(target, left, _)| *left > 0 && meets(target))?;
        if rule.1 != FOREVER {
            rule.1 -= 1;
        }
        Some(rule.2.clone())
    }
}

/// For [`FakeApi::fail`]: until [`FakeApi::heal`].
pub const FOREVER: u32 = u32::MAX;

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a change, at most this long.
    fn wait(&self, state: MutexGuard<'_, State>, limit: Duration) {
        let waited = self.changed.wait_timeout(state, limit);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    /// Waits this long, less when the server goes down.
    fn pause(&self, time: Duration) {
        let deadline = Instant::now() + time;
        loop {
            let state = self.lock();
            let left = deadline.saturating_duration_since(Instant::now());
            if state.down || left.is_zero() {
                return;
            }
            self.wait(state, left);
        }
    }

    /// Waits until the server goes down.
    fn stall(&self) {
        self.pause(Duration::from_hours(24));
    }
}

/// The running stand-in. It goes down when it is dropped.
pub struct FakeApi {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<Accepting>,
}

impl FakeApi {
    /// Starts it, empty, on a free port of loopback.
    pub fn start() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
        let listener = listener.context("failed to listen for the stand-in API")?;
        let address = listener.local_addr().context("failed to read its port")?;
        let shared = Arc::<Shared>::default();
        let accepting = Some(accept(listener, &shared)?);
        Ok(Self {
            address,
            shared,
            accepting,
        })
    }

    /// Where it listens, up or down.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Writes a kubeconfig for it into the folder.
    pub fn kubeconfig(&self, folder: &Path, user: &User<'_>) -> Result<PathBuf> {
        let path = folder.join(format!("kubeconfig-{}", self.address.port()));
        let server = format!("http://{}", self.address);
        fs::write(&path, kubeconfig::text(&server, None, user))
            .context("failed to write the kubeconfig")?;
        Ok(path)
    }

    /// Closes the port and every connection, as a server that was killed. What it knows stays.
    pub fn down(&mut self) {
        let Some(accepting) = self.accepting.take() else {
            return;
        };
        let mut state = self.shared.lock();
        state.down = true;
        for (_, connection) in state.connections.drain() {
            // An error means that it is closed already.
            let _ = connection.shutdown(Shutdown::Both);
        }
        drop(state);
        self.shared.changed.notify_all();
        // Wakes `accept`, from whichever network namespace; an error means that it has ended by itself.
        let _ = accepting.listener.shutdown(Shutdown::Both);
        let _ = accepting.thread.join();
    }

    /// Undoes [`FakeApi::down`], on the same port.
    pub fn up(&mut self) -> Result<()> {
        if self.accepting.is_none() {
            let listener = TcpListener::bind(self.address).context("failed to listen again")?;
            self.shared.lock().down = false;
            self.accepting = Some(accept(listener, &self.shared)?);
        }
        Ok(())
    }

    fn script<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        let result = work(&mut self.shared.lock());
        self.shared.changed.notify_all();
        result
    }

    /// Creates or replaces an object (see [`crate::objects`]); watches tell.
    pub fn apply(&self, object: Value) -> Result<()> {
        self.script(|state| state.store.apply(object))
    }

    /// Applies each of them.
    pub fn apply_all(&self, objects: impl IntoIterator<Item = Value>) -> Result<()> {
        objects
            .into_iter()
            .try_for_each(|object| self.apply(object))
    }

    /// Deletes an object at once, without a grace period; watches tell.
    pub fn delete(&self, resource: &str, namespace: &str, name: &str) -> Result<()> {
        self.script(|state| {
            let resource = Resource::named(resource);
            state.store.delete(resource, namespace, name)
        })
    }

    /// Serves HTTPRoutes and GRPCRoutes from now on; before, they are 404.
    pub fn install_gateway_api(&self) {
        self.script(|state| state.store.gateway = true);
    }

    /// Has the next `times` requests of this kind meet a fault. Resource `discovery` stands for
    /// `/api`, `/apis`, `/version` and the like.
    pub fn fail(&self, resource: &'static str, verb: Verb, times: u32, fault: Fault) {
        let target = Target { resource, verb };
        self.script(|state| state.faults.push((target, times, fault)));
    }

    /// Forgets the faults of a resource that have not been met.
    pub fn heal(&self, resource: &str) {
        self.script(|state| {
            state
                .faults
                .retain(|(target, ..)| target.resource != resource);
        });
    }

    /// Has open watches of the resource send these bytes, whatever they are (a line ends with a
    /// newline).
    pub fn send(&self, resource: &str, text: &str) {
        self.script(|state| state.store.send(Resource::named(resource), text.to_owned()));
    }

    /// Has open watches of the resource send the event that says 410, and end.
    pub fn expire(&self, resource: &str) {
        self.script(|state| {
            let resource = Resource::named(resource);
            state.store.send(resource, store::expired_line());
            state.store.end(resource, false);
        });
    }

    /// Has open watches of the resource send a bookmark, those that asked for bookmarks.
    pub fn bookmark(&self, resource: &str) {
        self.script(|state| state.store.bookmark(Resource::named(resource)));
    }

    /// Ends open watches of the resource in order, as a timeout does.
    pub fn end_watches(&self, resource: &str) {
        self.script(|state| state.store.end(Resource::named(resource), false));
    }

    /// Cuts open watches of the resource in the middle of an event.
    pub fn cut_watches(&self, resource: &str) {
        self.script(|state| state.store.end(Resource::named(resource), true));
    }

    /// Watches of the resource stay open and tell nothing from now on.
    pub fn hold(&self, resource: &str) {
        self.script(|state| state.store.hold(Resource::named(resource)));
    }

    /// Undoes [`FakeApi::hold`]; what was held back is told now.
    pub fn release(&self, resource: &str, order: Order) {
        self.script(|state| state.store.release(Resource::named(resource), order));
    }

    /// Forgets the past: a watch from before gets its 410 in the stream, a continue token from
    /// before gets HTTP 410. Open watches go on.
    pub fn compact(&self) {
        self.script(|state| state.store.compact());
    }

    /// From now on only these tokens are good, all others get 401; open watches go on.
    pub fn accept_only(&self, tokens: &[&str]) {
        let tokens = tokens.iter().map(|token| (*token).to_owned()).collect();
        self.script(|state| state.tokens = Some(tokens));
    }

    /// All requests so far, in their order.
    pub fn asked(&self) -> Vec<Asked> {
        self.shared.lock().asked.clone()
    }

    /// How many requests of this kind have come.
    pub fn requests(&self, resource: &str, verb: Verb) -> usize {
        let state = self.shared.lock();
        let of_kind = |asked: &&Asked| asked.resource == resource && asked.verb == verb;
        state.asked.iter().filter(of_kind).count()
    }

    /// Bytes sent for requests of this kind.
    pub fn bytes(&self, resource: &str, verb: Verb) -> u64 {
        let state = self.shared.lock();
        let of_kind = |asked: &&Asked| asked.resource == resource && asked.verb == verb;
        let of_kind = state.asked.iter().filter(of_kind);
        of_kind.map(|asked| asked.bytes).sum()
    }
}

impl Drop for FakeApi {
    fn drop(&mut self) {
        self.down();
    }
}

/// A thread that accepts connections, and its socket, by which it can be ended.
struct Accepting {
    listener: TcpStream,
    thread: JoinHandle<()>,
}

fn accept(listener: TcpListener, shared: &Arc<Shared>) -> Result<Accepting> {
    let shared = Arc::clone(shared);
    let own = listener.try_clone().context("failed to share a socket")?;
    let thread = thread::spawn(move || {
        for stream in listener.incoming() {
            let mut state = shared.lock();
            if state.down {
                return;
            }
            let Ok(stream) = stream else { continue };
            // Answers are small; without this a peer's delayed ACK would hold them.
            let kept = stream.set_nodelay(true).and_then(|()| stream.try_clone());
            let (Ok(kept), Ok(peer)) = (kept, stream.peer_addr()) else {
                continue;
            };
            state.connections.insert(peer, kept);
            drop(state);
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                // An error means that the client has gone.
                let _ = serve::connection(&shared, &stream);
                let _ = stream.shutdown(Shutdown::Both);
                shared.lock().connections.remove(&peer);
            });
        }
    });
    Ok(Accepting {
        listener: OwnedFd::from(own).into(),
        thread,
    })
}
