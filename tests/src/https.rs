//! TLS 1.3 on a bed's client host, without a process per connection: an address in, a connection
//! for HTTP/1.1 or the settings for HTTP/2 out. Trusts any certificate: the bed makes its own.
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::Arc;

use anyhow::{Context, Result};
use tokio_rustls::rustls;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme, StreamOwned,
};

use crate::bed::Bed;
use crate::client::{Connection, connect};

/// The name that clients ask for.
pub const NAME: &str = "shop.example";

#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not offered".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// A client's TLS settings: 1.3, and this protocol alone by ALPN.
pub fn config(protocol: &[u8]) -> Result<Arc<ClientConfig>> {
    let provider = Arc::new(ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .context("failed to choose TLS 1.3")?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    Ok(Arc::new(config))
}

/// TLS over TCP.
pub type Stream = StreamOwned<ClientConnection, TcpStream>;

/// Connects from the client host, to speak HTTP/1.1 under TLS.
pub fn open(bed: &Bed, to: SocketAddr) -> Result<Connection<Stream>> {
    let stream = connect(bed, to)?;
    let socket = stream.as_raw_fd();
    let name = ServerName::try_from(NAME).context("failed to read the server's name")?;
    let tls = ClientConnection::new(config(b"http/1.1")?, name).context("failed to begin TLS")?;
    Ok(Connection::over(StreamOwned::new(tls, stream), socket))
}
