//! TLS towards a registry: the host's certificate authorities, and the ones, the client certificates and keys
//! that docker's and containers' `certs.d/HOST:PORT` hold for it (containers-certs.d(5)).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use coracle_sys::{Context, Error, Result, file, order};
use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, parse_pem};

use super::dirs;

/// Where distributions keep the certificate authorities.
const BUNDLES: [&str; 6] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
    "/usr/share/ca-certificates/ca-certificates.crt",
];

/// How to speak TLS to a host; `verify` is off where the user said so.
pub(super) fn config(host: &str, verify: bool) -> Result<TlsConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut builder =
        TlsConfig::builder().unversioned_rustls_crypto_provider(provider).disable_verification(!verify);
    let mut roots = Vec::new();
    // Where any certificate will do, there is no authority to ask.
    if let Some(bundle) = bundle().filter(|_| verify) {
        certificates(&bundle, &mut roots)?;
    }
    let mut client = None;
    for dir in folders(host) {
        for path in list(&dir) {
            match path.extension().and_then(|e| e.to_str()) {
                Some("crt") => certificates(&path, &mut roots)?,
                Some("cert") => client = Some(client_certificate(&path)?),
                _ => {}
            }
        }
    }
    builder = builder.root_certs(RootCerts::new_with_certs(&roots)).client_cert(client);
    Ok(builder.build())
}

fn bundle() -> Option<PathBuf> {
    dirs::named_by("SSL_CERT_FILE").or_else(|| BUNDLES.iter().map(PathBuf::from).find(|p| p.exists()))
}

/// The folders that may say something of a host, the strongest last.
fn folders(host: &str) -> Vec<PathBuf> {
    let mut roots: Vec<PathBuf> = vec!["/etc/docker/certs.d".into(), "/etc/containers/certs.d".into()];
    if let Some(config) = dirs::config() {
        roots.push(config.join("docker/certs.d"));
        roots.push(config.join("containers/certs.d"));
    }
    roots.into_iter().map(|r| r.join(host)).collect()
}

fn list(dir: &Path) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> =
        std::fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path()).collect();
    order::sort(&mut all);
    all
}

fn items(path: &Path) -> Result<Vec<PemItem<'static>>> {
    let text = file::read(path)?;
    parse_pem(&text)
        .collect::<std::result::Result<_, _>>()
        .map_err(|e| Error::invalid(e.to_string()).wrap(format!("read the certificates of {path:?}")))
}

fn certificates(path: &Path, into: &mut Vec<Certificate<'static>>) -> Result<()> {
    let found = items(path).context(|| "read certificate authorities")?;
    into.extend(found.into_iter().filter_map(|i| match i {
        PemItem::Certificate(c) => Some(c),
        _ => None,
    }));
    Ok(())
}

/// `NAME.cert`, with its key in `NAME.key`.
fn client_certificate(path: &Path) -> Result<ClientCert> {
    let mut chain = Vec::new();
    certificates(path, &mut chain)?;
    let key = path.with_extension("key");
    let key = items(&key)
        .context(|| format!("read the key of the client certificate {path:?}"))?
        .into_iter()
        .find_map(|i| match i {
            PemItem::PrivateKey(k) => Some::<PrivateKey<'static>>(k),
            _ => None,
        })
        .ok_or_else(|| Error::invalid(format!("read {key:?}: there is no private key in it")))?;
    Ok(ClientCert::new_with_certs(&chain, key))
}
