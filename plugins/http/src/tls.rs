//! TLS, and clients that say by a certificate who they are.

use std::{fmt::Display, sync::Arc};

use ksi_plugin_api::prelude::*;
use rustls::{
    RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use tokio_rustls::TlsAcceptor;

use crate::config::invalid;

/// `[plugin.http.tls]`: files in PEM.
#[payload]
#[serde(deny_unknown_fields)]
pub(crate) struct TlsFiles {
    /// The server's certificate, and those between it and what clients trust.
    certificate: String,
    /// Its private key.
    key: String,
    /// Whoever signs the certificates of clients. With it, nobody is served without one.
    #[serde(default)]
    client_ca: Option<String>,
}

impl TlsFiles {
    pub(crate) fn knows_clients(&self) -> bool {
        self.client_ca.is_some()
    }
}

/// What takes connections.
pub(crate) fn acceptor(files: &TlsFiles) -> Result<TlsAcceptor> {
    let provider = Arc::new(ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()?;
    let config = match &files.client_ca {
        None => config.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates("client_ca", path)? {
                roots.add(certificate).map_err(|why| unusable("client_ca", path, why))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
            let verifier = verifier.build().map_err(|why| unusable("client_ca", path, why))?;
            config.with_client_cert_verifier(verifier)
        }
    };
    let key =
        PrivateKeyDer::from_pem_file(&files.key).map_err(|why| unusable("key", &files.key, why))?;
    let chain = certificates("certificate", &files.certificate)?;
    let mut config = config
        .with_single_cert(chain, key)
        .map_err(|why| unusable("certificate", &files.certificate, why))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn certificates(key: &str, path: &str) -> Result<Vec<CertificateDer<'static>>> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    let certificates: Vec<_> = read.map_err(|why| unusable(key, path, why))?;
    match certificates.is_empty() {
        true => Err(unusable(key, path, "there is no certificate in it")),
        false => Ok(certificates),
    }
}

fn unusable(key: &str, path: &str, why: impl Display) -> Error {
    invalid(format_args!("tls.{key}: {path:?} cannot be used: {why}"))
}
