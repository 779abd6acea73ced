use std::{net::SocketAddr, net::TcpStream, path::Path, sync::Arc};

use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

use super::{client::*, *};

fn file(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/tests/tls");
    folder.join(name).to_str().unwrap().to_owned()
}

fn certificate(name: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(file(name)).unwrap()
}

/// A client that trusts the server, with its certificate or without.
fn client(address: SocketAddr, has_certificate: bool) -> StreamOwned<ClientConnection, TcpStream> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate("ca.pem")).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let config =
        config.with_safe_default_protocol_versions().unwrap().with_root_certificates(roots);
    let config = match has_certificate {
        false => config.with_no_client_auth(),
        true => {
            let key = PrivateKeyDer::from_pem_file(file("client.key")).unwrap();
            config.with_client_auth_cert(vec![certificate("client.pem")], key).unwrap()
        }
    };
    let name = "localhost".try_into().unwrap();
    StreamOwned::new(ClientConnection::new(Arc::new(config), name).unwrap(), connect(address))
}

#[test]
fn a_client_without_a_certificate_is_not_served_where_one_is_asked_for() {
    let tls = json!({
        "certificate": file("server.pem"), "key": file("server.key"), "client_ca": file("ca.pem"),
    });
    let (_http, address) = start(json!({"tls": tls}));
    not_found(&mut client(address, true)).unwrap();
    assert!(not_found(&mut client(address, false)).is_err());
    assert!(not_found(&mut connect(address)).is_err(), "without TLS");
}

#[test]
fn tls_without_certificates_of_clients_serves_everybody() {
    let tls = json!({"certificate": file("server.pem"), "key": file("server.key")});
    let (_http, address) = start(json!({"tls": tls}));
    not_found(&mut client(address, false)).unwrap();
}

#[test]
fn a_key_or_certificate_that_is_none_is_told_with_its_file() {
    for (key, other) in [("certificate", "client.key"), ("key", "ca.pem"), ("client_ca", "none")] {
        let mut tls = json!({
            "certificate": file("server.pem"), "key": file("server.key"), "client_ca": file("ca.pem"),
        });
        tls[key] = json!(file(other));
        let config = json!({"address": "127.0.0.1:0", "tls": tls});
        let error = ksi_harness::Harness::with_config::<Http>(config).err().unwrap();
        assert!(error.message().contains(&format!("tls.{key}")), "{error}");
        assert!(error.message().contains(other), "{error}");
    }
}

#[test]
fn whoever_brings_no_token_is_turned_away() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    std::fs::write(&path, "0123456789abcdef").unwrap();
    let (http, address) = start(json!({"token_file": path}));
    let mut stream = connect(address);
    let answer = asked(&http, &mut stream, "GET /none", "", "");
    assert_eq!((answer.status, answer.header("www-authenticate")), (401, Some("bearer")));
    let token = "authorization: Bearer 0123456789abcdef\r\n";
    assert_eq!(asked(&http, &mut stream, "GET /none", token, "").status, 404);
}
