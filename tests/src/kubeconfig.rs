//! A kubeconfig's text: a server and a user in, what kubectl and the agent read out.
use std::path::Path;

use serde_json::{Value, json};

/// How a user proves who it is.
pub enum User<'a> {
    /// Not at all.
    Nobody,
    /// By this token.
    Token(&'a str),
    /// By the token in this file, which may be replaced at any time.
    TokenFile(&'a Path),
}

/// The text, as JSON, which is YAML too. `authority` is the file of the server's certificates.
pub fn text(server: &str, authority: Option<&Path>, user: &User<'_>) -> String {
    let mut cluster = json!({"server": server});
    if let Some(authority) = authority {
        cluster["certificate-authority"] = json!(authority);
    }
    let user: Value = match user {
        User::Nobody => json!({}),
        User::Token(token) => json!({"token": token}),
        User::TokenFile(path) => json!({"tokenFile": path}),
    };
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "test",
        "clusters": [{"name": "test", "cluster": cluster}],
        "users": [{"name": "test", "user": user}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
    });
    format!("{config:#}\n")
}
