//! A real Kubernetes API server for tests: the program that setup built in, etcd, kube-apiserver
//! and kube-controller-manager on loopback out, gone with their owner. Runs no kubelet, no
//! scheduler and no pod: tests say what a kubelet would say.
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::kube_client::KubeClient;
use crate::kubeconfig::{self, User};
use crate::process::Process;
use crate::scratch::Scratch;
use crate::{agent, apiserver_place, tools, wait};

mod access;
mod cluster;

pub use access::Access;
pub use cluster::{Namespace, Slice};

/// How long a start may take on a busy machine.
const START: Duration = Duration::from_mins(2);
/// How long controllers may take to follow.
pub const FOLLOWS: Duration = Duration::from_secs(30);

/// The controllers that run: those that pods, Services and namespaces need.
const CONTROLLERS: &str = "endpointslice-controller,serviceaccount-controller,\
    namespace-controller,root-ca-certificate-publisher-controller,garbage-collector-controller,\
    deployment-controller,replicaset-controller";

/// A running API server.
pub struct ApiServer {
    program: PathBuf,
    folder: PathBuf,
    address: SocketAddr,
    etcd_address: SocketAddr,
    admin: KubeClient,
    // Dropped in this order: what asks goes before what answers.
    _manager: Process,
    server: Mutex<Option<Process>>,
    _etcd: Process,
    _scratch: Scratch,
}

static SHARED: Mutex<Option<Arc<ApiServer>>> = Mutex::new(None);

extern "C" fn end_shared() {
    drop(SHARED.lock().unwrap_or_else(PoisonError::into_inner).take());
}

impl ApiServer {
    /// The one of this test program, started by the first that asks, ended with the program.
    pub fn shared() -> Result<Arc<Self>> {
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(server) = &*shared {
            return Ok(Arc::clone(server));
        }
        let server = Arc::new(Self::start()?);
        // SAFETY: the handler runs once at exit, on a live process, and only drops a static.
        let registered = unsafe { libc::atexit(end_shared) };
        ensure!(registered == 0, "failed to register the server's end");
        *shared = Some(Arc::clone(&server));
        Ok(server)
    }

    /// Starts one of its own; returns when it is ready.
    pub fn start() -> Result<Self> {
        let cache = tools::cache::folder().context("failed to find the cache folder")?;
        let program = apiserver_place::program(&cache);
        ensure!(
            program.is_file(),
            "no API server at {}: ./dev setup builds it",
            program.display()
        );
        let scratch = Scratch::new()?;
        let folder = scratch.path().to_owned();
        access::keys(&folder)?;
        let (address, etcd_address) = (agent::free_address()?, agent::free_address()?);
        let etcd = start_etcd(&program, &folder, etcd_address)?;
        let mut server = start_server(&program, &folder, address, etcd_address)?;
        let admin = ready(&mut server, &folder, address)?;
        let config = folder.join("admin.kubeconfig");
        let authority = authority(&folder);
        let user = User::Token(access::ADMIN);
        let text = kubeconfig::text(&format!("https://{address}"), Some(&authority), &user);
        fs::write(&config, text).context("failed to write the kubeconfig")?;
        let manager = start_manager(&program, &folder, &config)?;
        let server = Self {
            program,
            folder,
            address,
            etcd_address,
            admin,
            _manager: manager,
            server: Mutex::new(Some(server)),
            _etcd: etcd,
            _scratch: scratch,
        };
        server.await_account("default")?;
        Ok(server)
    }

    /// Where it listens, under TLS.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its certificates, PEM.
    pub fn authority(&self) -> PathBuf {
        authority(&self.folder)
    }

    /// A client that may do everything.
    pub fn admin(&self) -> &KubeClient {
        &self.admin
    }

    /// The kubeconfig of somebody who may do everything.
    pub fn kubeconfig(&self) -> PathBuf {
        self.folder.join("admin.kubeconfig")
    }

    /// The program; `kubectl` is its first argument for kubectl.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// Runs kubectl as somebody who may do everything: its output, or what it complains of.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new(&self.program);
        command
            .arg("kubectl")
            .arg("--kubeconfig")
            .arg(self.kubeconfig());
        // It keeps a cache of discovery there.
        command.env("HOME", &self.folder).args(arguments);
        let output = command.output().context("failed to run kubectl")?;
        let told = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "kubectl {arguments:?}: {}",
            told.trim()
        );
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs a line of a shell in which kubectl is this one.
    pub fn shell(&self, line: &str) -> Result<()> {
        let program = self.program.display();
        let config = self.kubeconfig();
        let config = config.display();
        let kubectl = format!("kubectl() {{ {program} kubectl --kubeconfig {config} \"$@\"; }}\n");
        let mut shell = Command::new("sh");
        shell
            .arg("-c")
            .arg(kubectl + line)
            .env("HOME", &self.folder);
        let output = shell.output().context("failed to run a shell")?;
        let told = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{line}: {}", told.trim());
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Option<Process>> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Kills the API server alone; etcd keeps what it knows.
    pub fn stop(&self) {
        drop(self.lock().take());
    }

    /// Has the API server alone fall silent, or speak again: connections to it stay as they are.
    pub fn silent(&self, silent: bool) {
        if let Some(server) = self.lock().as_mut() {
            server.signal(if silent { libc::SIGSTOP } else { libc::SIGCONT });
        }
    }

    /// Starts it again where it was stopped; returns when it is ready.
    pub fn resume(&self) -> Result<()> {
        let mut server = self.lock();
        if server.is_none() {
            let started =
                start_server(&self.program, &self.folder, self.address, self.etcd_address)?;
            ready(server.insert(started), &self.folder, self.address)?;
        }
        Ok(())
    }

    /// Stops and starts it: watches break, and its watch cache knows no old revision any more.
    pub fn restart(&self) -> Result<()> {
        self.stop();
        self.resume()
    }

    /// Has etcd forget all but the newest revision. Watches from older ones are told 410 once the
    /// server was restarted: until then it has them in its cache.
    pub fn compact(&self) -> Result<()> {
        let mut command = Command::new(&self.program);
        command.arg("compact").arg(self.etcd_address.to_string());
        let output = command.output().context("failed to run etcd's client")?;
        let told = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "failed to compact: {}",
            told.trim()
        );
        Ok(())
    }

    /// Installs HTTPRoute and GRPCRoute; returns when they are served.
    pub fn install_gateway_api(&self) -> Result<()> {
        let definitions = self.folder.join("gateway.yaml");
        fs::write(&definitions, include_str!("../../apiserver/gateway.yaml"))
            .context("failed to write the definitions")?;
        let file = definitions.display().to_string();
        self.kubectl(&["apply", "-f", &file])?;
        self.kubectl(&[
            "wait",
            "--for=condition=Established",
            "--timeout=60s",
            "-f",
            &file,
        ])?;
        let path = "/apis/gateway.networking.k8s.io/v1/grpcroutes";
        wait::holds("the routes being served", FOLLOWS, || {
            self.admin
                .get(path)
                .is_ok_and(|answer| answer.status == 200)
        })
    }

    /// What the server has logged, for a test's message.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.join("kube-apiserver.log")).unwrap_or_default()
    }
}

fn authority(folder: &Path) -> PathBuf {
    folder.join("pki/apiserver.crt")
}

fn start_etcd(program: &Path, folder: &Path, address: SocketAddr) -> Result<Process> {
    let mut etcd = Command::new(program);
    etcd.arg("etcd").arg(folder.join("etcd"));
    etcd.arg(address.to_string());
    etcd.arg(agent::free_address()?.to_string());
    start(etcd, folder, "etcd")
}

fn start_server(
    program: &Path,
    folder: &Path,
    address: SocketAddr,
    etcd: SocketAddr,
) -> Result<Process> {
    let key = folder.join("sa.key").display().to_string();
    let mut server = Command::new(program);
    server.arg("kube-apiserver");
    let mut set = |name: &str, value: &dyn std::fmt::Display| {
        server.arg(format!("--{name}={value}"));
    };
    set("etcd-servers", &format!("http://{etcd}"));
    set("bind-address", &address.ip());
    set("secure-port", &address.port());
    // Never used; without it a machine without a default route would be refused.
    set("advertise-address", &"192.0.2.1");
    set("endpoint-reconciler-type", &"none");
    // It makes itself certificates there, and finds them there after a restart.
    set("cert-dir", &folder.join("pki").display());
    set("token-auth-file", &folder.join("tokens.csv").display());
    set("authorization-mode", &"RBAC");
    set("service-cluster-ip-range", &"10.96.0.0/16,fd96::/112");
    set("service-account-issuer", &"https://kubernetes.default.svc");
    set("service-account-key-file", &key);
    set("service-account-signing-key-file", &key);
    set("profiling", &false);
    start(server, folder, "kube-apiserver")
}

fn start_manager(program: &Path, folder: &Path, config: &Path) -> Result<Process> {
    let mut manager = Command::new(program);
    manager.arg("kube-controller-manager");
    let mut set = |name: &str, value: &dyn std::fmt::Display| {
        manager.arg(format!("--{name}={value}"));
    };
    set("kubeconfig", &config.display());
    set("controllers", &CONTROLLERS);
    set("leader-elect", &false);
    set("secure-port", &0);
    set("root-ca-file", &authority(folder).display());
    set(
        "service-account-private-key-file",
        &folder.join("sa.key").display(),
    );
    set("kube-api-qps", &500);
    set("kube-api-burst", &1000);
    start(manager, folder, "kube-controller-manager")
}

/// Starts one of the programs, its log in the folder.
fn start(mut command: Command, folder: &Path, name: &str) -> Result<Process> {
    let log = folder.join(format!("{name}.log"));
    let log = File::options().create(true).append(true).open(log);
    let log = log.context("failed to create a log")?;
    let errors = log.try_clone().context("failed to share the log")?;
    command.stdin(Stdio::null()).stdout(log).stderr(errors);
    Process::start_lasting(command)
}

/// Waits until the server says that it is ready; a client that may do everything.
fn ready(server: &mut Process, folder: &Path, address: SocketAddr) -> Result<KubeClient> {
    let authority = authority(folder);
    let ready = wait::until("the API server ready", START, || {
        if let Ok(Some(status)) = server.child().try_wait() {
            return Some(Err(anyhow::anyhow!("the API server ended: {status}")));
        }
        // Its certificates are there a moment before it listens.
        let client = KubeClient::new(address, Some(&authority), access::ADMIN).ok()?;
        let answer = client.get("/readyz").ok()?;
        (answer.status == 200).then_some(Ok(client))
    });
    ready.and_then(|client| client).with_context(|| {
        let log = fs::read_to_string(folder.join("kube-apiserver.log")).unwrap_or_default();
        let last: Vec<&str> = log.lines().rev().take(10).collect();
        last.into_iter().rev().collect::<Vec<_>>().join("\n")
    })
}
