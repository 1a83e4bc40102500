//! TLS at the edge: a self-signed certificate, and a client (`openssl s_client`) that speaks TLS
//! 1.3 from the client host. Reads plaintext on its own side only.
use std::io::{BufReader, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::bed::{Bed, Host};
use crate::client::request;
use crate::process::Process;
use crate::response::{self, Answer};

/// Writes `key.pem` and `cert.pem` into the folder.
pub fn certificate(folder: &Path) -> Result<()> {
    let output = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=shop.example",
        ])
        .args(["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"])
        .args(["-keyout", "key.pem", "-out", "cert.pem"])
        .current_dir(folder)
        .output()
        .context("failed to run openssl (package openssl)")?;
    let told = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "failed to make a certificate: {}",
        told.trim()
    );
    Ok(())
}

/// One TLS connection of a client.
pub struct TlsConnection {
    // Dropped with the struct: ends the client.
    _process: Process,
    writer: ChildStdin,
    reader: BufReader<ChildStdout>,
}

impl TlsConnection {
    /// Connects from the client host.
    pub fn open(bed: &Bed, to: SocketAddr) -> Result<Self> {
        let mut command = Command::new("openssl");
        command.args([
            "s_client",
            "-quiet",
            "-tls1_3",
            "-servername",
            "shop.example",
            "-connect",
        ]);
        command.arg(to.to_string());
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut process = bed.start(Host::Client, &mut command)?;
        let writer = process
            .child()
            .stdin
            .take()
            .context("failed to open its input")?;
        let out = process
            .child()
            .stdout
            .take()
            .context("failed to open its output")?;
        Ok(Self {
            _process: process,
            writer,
            reader: BufReader::new(out),
        })
    }

    /// GET on a connection that stays open.
    pub fn get(&mut self, path: &str) -> Result<Answer> {
        let head = request("GET", path, "");
        self.writer
            .write_all(head.as_bytes())
            .context("failed to send")?;
        response::read(&mut self.reader, false).context("failed to read response")
    }

    /// Sends a request and does not wait for its answer.
    pub fn ask(&mut self, path: &str) -> Result<()> {
        self.writer
            .write_all(request("GET", path, "").as_bytes())
            .context("failed to send")
    }
}

/// One GET on a TLS connection of its own.
pub fn get(bed: &Bed, to: SocketAddr, path: &str) -> Result<Answer> {
    TlsConnection::open(bed, to)?.get(path)
}
