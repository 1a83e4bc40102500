//! The ingress pod of the guest: routes to its pods in, nginx in a container of its own out; has it held back
//! by a quota. The agent finds it through the API.
use std::fs;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, ScopedJoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tests::client::{Connection, PATIENCE};
use tests::container::Container;
use tests::fake_api::FakeApi;
use tests::process::Process;
use tests::{kubelet, objects, wait};

use crate::{NAMESPACE, Pod, address, contain};

/// It is held back for so long before it fails: beyond what its counters are compared with.
const HELD: Duration = Duration::from_secs(12);

/// Where it listens.
pub fn at() -> SocketAddr {
    SocketAddr::new(address(1), 8080)
}

/// The pod, with nginx.
pub struct Ingress {
    /// To limit it.
    pub container: Container,
    _nginx: Process,
}

impl Ingress {
    /// Behind `/shed/` it answers all but the first request by itself: 503.
    pub fn start(api: &FakeApi, pods: &[&Pod]) -> Result<Self> {
        let mut object = objects::pod("edge", "web-0", kubelet::NODE, &[at().ip()], &[8080]);
        object["spec"]["containers"][0]["image"] = json!(kubelet::INGRESS);
        let container = contain(&mut object, 1)?;
        let routes = pods.iter().map(|pod| pod.route(pod.word, ""));
        let routes: String = routes
            .chain([pods[0].route("shed", "limit_req zone=most;")])
            .collect();
        let text = format!(
            "access_log off;\nproxy_read_timeout 3s;\nproxy_bind {};\nkeepalive_requests 1000000;\n\
             limit_req_zone $server_port zone=most:64k rate=1r/m;\n\
             server {{ listen {};\n{routes}}}\n",
            at().ip(),
            at()
        );
        fs::write("/etc/routes.conf", text).context("failed to write the routes")?;
        let mut nginx = container.command("nginx")?;
        nginx.args(["-c", "/etc/nginx.conf", "-e", "/tmp/error.log"]);
        let nginx = Process::start(&mut nginx)?;
        wait::holds("nginx", PATIENCE, || {
            fs::read_to_string("/tmp/nginx.pid").is_ok_and(|text| !text.is_empty())
        })?;
        let words = pods.iter().map(|pod| (pod.word, pod.word));
        let paths: Vec<(String, &str)> = words
            .chain([("shed", pods[0].word)])
            .map(|(path, word)| (format!("/{path}"), word))
            .collect();
        let paths: Vec<objects::Path<'_>> = paths
            .iter()
            .map(|(path, word)| (path.as_str(), *word, 80))
            .collect();
        api.apply_all([
            object,
            objects::ingress(NAMESPACE, "web", "nginx", "", &paths),
        ])?;
        Ok(Self {
            container,
            _nginx: nginx,
        })
    }

    /// Time for which its CPU quota has held it back.
    fn held_back(&self) -> Result<Duration> {
        let text = fs::read_to_string(self.container.folder()?.join("cpu.stat"))?;
        let mut lines = text.lines();
        let micros = lines.find_map(|line| line.strip_prefix("throttled_usec "));
        let micros = micros.context("no quota is counted")?.parse()?;
        Ok(Duration::from_micros(micros))
    }

    /// Has clients ask without a pause; does this once a quota has held it back for long.
    pub fn strained(&self, path: &str, then: impl FnOnce() -> Result<()>) -> Result<()> {
        let (over, before) = (AtomicBool::new(false), self.held_back()?);
        let ask = || -> Result<()> {
            let mut client = Connection::here(at())?;
            while !over.load(Ordering::Relaxed) {
                let answer = client.get(path)?;
                ensure!(answer.status == Some(200), "{path}: {answer:?}");
            }
            Ok(())
        };
        thread::scope(|scope| {
            let clients = [(); 3].map(|()| scope.spawn(ask));
            let done = wait::holds("the ingress held back", 5 * HELD, || {
                let now = self.held_back();
                now.is_ok_and(|now| now >= before + HELD)
                    || clients.iter().any(ScopedJoinHandle::is_finished)
            });
            let done = done.and_then(|()| then());
            over.store(true, Ordering::Relaxed);
            clients.into_iter().try_for_each(wait::joined)?;
            done
        })
    }
}
