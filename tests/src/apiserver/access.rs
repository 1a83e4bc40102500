//! Who may do what at the real API server: `deploy/` in, the agent's account with exactly those
//! rights out, and its tokens: given by TokenRequest, rotated as a kubelet does, or about to expire.
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::ApiServer;
use crate::kube_client::KubeClient;
use crate::kubeconfig::{self, User};

/// The token of somebody who may do everything: whoever can read it can reach loopback only.
pub const ADMIN: &str = "admin";

/// The agent's namespace and account, as in `deploy/rbac.yaml`.
const ACCOUNT: (&str, &str) = ("ingress-trace", "ingress-trace");

/// How many seconds the server lets a token in beyond its end (go-jose's default).
const LEEWAY: i64 = 60;

/// `deploy/` of this repository.
const DEPLOY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy");

/// Makes the key that signs accounts' tokens, and the list of static tokens.
pub fn keys(folder: &Path) -> Result<()> {
    let tokens = format!("{ADMIN},admin,admin,system:masters\n");
    fs::write(folder.join("tokens.csv"), tokens).context("failed to write tokens")?;
    let mut openssl = Command::new("openssl");
    openssl.args(["genpkey", "-algorithm", "RSA", "-out"]);
    openssl.arg(folder.join("sa.key")).stderr(Stdio::null());
    let status = openssl.status().context("failed to run openssl")?;
    ensure!(status.success(), "failed to make a key: {status}");
    Ok(())
}

/// What a kubelet mounts, into a pod of its own: a folder in, the program in that pod out. The
/// mounts are the program's alone, and go with it.
const MOUNT: &str = r#"
place=/run/secrets/kubernetes.io/serviceaccount
mount -t tmpfs none /run
mkdir -p $place
mount --bind "$1" $place
shift
exec "$@"
"#;

/// The agent's access: what a kubelet mounts (token, authority, namespace), and a kubeconfig that
/// names the token's file.
pub struct Access {
    /// For `--kubeconfig`.
    pub kubeconfig: PathBuf,
    mounted: PathBuf,
    address: SocketAddr,
}

impl Access {
    /// Replaces the token as a kubelet does, at once and whole.
    pub fn set_token(&self, token: &str) -> Result<()> {
        let part = self.mounted.join("part");
        fs::write(&part, token).context("failed to write the token")?;
        fs::rename(&part, self.token_file()).context("failed to replace the token")
    }

    fn token_file(&self) -> PathBuf {
        self.mounted.join("token")
    }

    /// Runs the program as in a pod: with the API's environment, and the account's files where a
    /// kubelet mounts them. Needs root; the program sees an empty /run but for them.
    pub fn in_pod(&self, program: &Path) -> Command {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--", "sh", "-eu", "-c", MOUNT, "sh"]);
        command.arg(&self.mounted).arg(program);
        command.env("KUBERNETES_SERVICE_HOST", self.address.ip().to_string());
        command.env("KUBERNETES_SERVICE_PORT", self.address.port().to_string());
        command.env_remove("KUBECONFIG");
        command
    }

    /// The token that is there now.
    pub fn token(&self) -> Result<String> {
        fs::read_to_string(self.token_file()).context("failed to read the token")
    }
}

impl ApiServer {
    /// Applies the namespace and the rights of `deploy/`, and gives its account a token.
    pub fn agent_access(&self, folder: &Path) -> Result<Access> {
        for file in ["namespace.yaml", "rbac.yaml"] {
            self.kubectl(&["apply", "-f", &format!("{DEPLOY}/{file}")])?;
        }
        let access = Access {
            kubeconfig: folder.join("agent.kubeconfig"),
            mounted: folder.join("serviceaccount"),
            address: self.address(),
        };
        fs::create_dir_all(&access.mounted).context("failed to create the account's folder")?;
        access.set_token(&self.agent_token()?)?;
        let authority = access.mounted.join("ca.crt");
        fs::copy(self.authority(), &authority).context("failed to copy the authority")?;
        let namespace = access.mounted.join("namespace");
        fs::write(namespace, ACCOUNT.0).context("failed to write the namespace")?;
        let server = format!("https://{}", self.address());
        let token_file = access.token_file();
        let user = User::TokenFile(&token_file);
        let text = kubeconfig::text(&server, Some(&authority), &user);
        fs::write(&access.kubeconfig, text).context("failed to write the kubeconfig")?;
        Ok(access)
    }

    /// Gives the agent's account the right to write Events, as `deploy/` does.
    pub fn allow_events(&self) -> Result<()> {
        let file = format!("{DEPLOY}/rbac-events.yaml");
        self.kubectl(&["apply", "-f", &file]).map(drop)
    }

    /// A client with the agent's rights and no others.
    pub fn agent_client(&self, access: &Access) -> Result<KubeClient> {
        Ok(self.admin().with_token(&access.token()?))
    }

    /// A new token of the agent's account, by TokenRequest.
    pub fn agent_token(&self) -> Result<String> {
        let (namespace, name) = ACCOUNT;
        let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token");
        let ask = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
            "spec": {"expirationSeconds": 3600}});
        let given = self.admin().json("POST", &path, &ask)?.success()?;
        let token = given["status"]["token"].as_str().map(str::to_owned);
        token.context("no token was given")
    }

    /// A token of the agent's account that is good for this long only: the server gives none below
    /// ten minutes, so one that it gave is signed again with another end. A server that has just
    /// let it in does so for up to ten seconds more.
    pub fn short_token(&self, life: Duration) -> Result<String> {
        let token = self.agent_token()?;
        let (signed, _) = token.rsplit_once('.').context("failed to read the token")?;
        let (head, claims) = signed.split_once('.').context("failed to read the token")?;
        let claims = self.openssl(&["base64", "-d", "-A"], padded(claims).as_bytes())?;
        let mut claims: Value = serde_json::from_slice(&claims).context("failed to read claims")?;
        let life = life.as_secs().cast_signed() - LEEWAY;
        let end = jiff::Timestamp::now().as_second() + life;
        claims["exp"] = json!(end);
        let signed = format!("{head}.{}", self.base64(claims.to_string().as_bytes())?);
        let signature = self.openssl(&["dgst", "-sha256", "-sign", "sa.key"], signed.as_bytes())?;
        Ok(format!("{signed}.{}", self.base64(&signature)?))
    }

    /// base64url without padding, as tokens have it.
    fn base64(&self, bytes: &[u8]) -> Result<String> {
        let text = self.openssl(&["base64", "-A"], bytes)?;
        let text = String::from_utf8(text).context("failed to read base64")?;
        let text = text.replace('+', "-").replace('/', "_");
        Ok(text.trim_end().trim_end_matches('=').to_owned())
    }

    fn openssl(&self, arguments: &[&str], input: &[u8]) -> Result<Vec<u8>> {
        let file = self.folder.join("openssl.in");
        fs::write(&file, input).context("failed to write openssl's input")?;
        let input = fs::File::open(&file).context("failed to open openssl's input")?;
        let mut openssl = Command::new("openssl");
        openssl
            .args(arguments)
            .current_dir(&self.folder)
            .stdin(input);
        let output = openssl.output().context("failed to run openssl")?;
        let told = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "openssl {arguments:?}: {told}");
        Ok(output.stdout)
    }
}

/// base64url without padding as the base64 that openssl reads.
fn padded(text: &str) -> String {
    let mut text = text.replace('-', "+").replace('_', "/");
    while !text.len().is_multiple_of(4) {
        text.push('=');
    }
    text
}
