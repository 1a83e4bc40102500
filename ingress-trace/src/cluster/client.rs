//! In: where the Kubernetes API is configured. Out: a client for it. An explicit file that is wrong
//! is an error that names it; asks the server nothing.
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use futures::FutureExt as _;
use http::HeaderValue;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

/// Where a pod finds its ServiceAccount.
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(10);

/// Where the configuration comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// `--kubeconfig`.
    File(PathBuf),
    /// `$KUBECONFIG`, which may name several files.
    Environment,
    /// `~/.kube/config`.
    Home(PathBuf),
    /// The ServiceAccount of the pod that this is.
    InCluster,
}

impl Source {
    /// The first that is there; `None` on a machine without an API.
    pub fn find(explicit: Option<&Path>) -> Option<Self> {
        let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        if let Some(path) = explicit {
            return Some(Self::File(path.to_owned()));
        }
        if set("KUBECONFIG").is_some() {
            return Some(Self::Environment);
        }
        let home = set("HOME").map(|home| PathBuf::from(home).join(".kube/config"));
        if let Some(path) = home.filter(|path| path.exists()) {
            return Some(Self::Home(path));
        }
        set("KUBERNETES_SERVICE_HOST").map(|_| Self::InCluster)
    }

    /// Its name for people.
    pub fn name(&self) -> String {
        match self {
            Self::File(path) | Self::Home(path) => path.display().to_string(),
            Self::Environment => "$KUBECONFIG".into(),
            Self::InCluster => "the pod's ServiceAccount".into(),
        }
    }

    /// A client for it. Needs a runtime.
    pub fn client(&self) -> Result<Client> {
        let config = self.config()?;
        let at = config.cluster_url.to_string();
        Client::try_from(config)
            .map_err(|error| anyhow!(super::failed::causes(&error)))
            .with_context(|| format!("failed to use {} for {at}", self.name()))
    }

    fn config(&self) -> Result<Config> {
        let mut config = match self {
            Self::File(path) | Self::Home(path) => from_file(Kubeconfig::read_from(path)),
            Self::Environment => from_file(Kubeconfig::read()),
            Self::InCluster => in_cluster(),
        }
        .with_context(|| format!("failed to use {}", self.name()))?;
        // Nobody's certificates to check: an image without any authority's does for `kubectl proxy`.
        if config.cluster_url.scheme_str() == Some("http") {
            config.root_cert.get_or_insert_default();
        }
        // Told here, counted here and paced here; hidden retries would do it again.
        config.default_retry = false;
        config.connect_timeout = Some(CONNECT);
        let agent = concat!("ingress-trace/", env!("CARGO_PKG_VERSION"));
        let agent = HeaderValue::from_static(agent);
        config.headers.push((http::header::USER_AGENT, agent));
        Ok(config)
    }
}

fn from_file(read: Result<Kubeconfig, kube::config::KubeconfigError>) -> Result<Config> {
    let words = |error: kube::config::KubeconfigError| anyhow!(super::failed::causes(&error));
    let file = read.map_err(words)?;
    let options = KubeConfigOptions::default();
    Config::from_custom_kubeconfig(file, &options)
        .now_or_never()
        .expect("there is nothing in it to wait for")
        .map_err(words)
}

fn in_cluster() -> Result<Config> {
    let token = Path::new(ACCOUNT).join("token");
    ensure!(
        token.exists(),
        "failed to find {}: give the pod a ServiceAccount and automountServiceAccountToken: true, \
         or run with --no-kube",
        token.display()
    );
    Config::incluster().map_err(|error| anyhow!(super::failed::causes(&error)))
}
