//! Certificates and keys of one cluster: its own authority, the API server's certificate, and the
//! key that signs service account tokens.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose};

use crate::Cluster;

/// Names and addresses under which an API server is reached, from outside and from inside.
const SERVER_NAMES: [&str; 5] =
    ["127.0.0.1", "localhost", "10.0.0.1", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"];

/// Files of one cluster's certificates.
#[derive(Clone, Debug)]
pub(crate) struct Certificates {
    /// Certificate of the authority.
    pub(crate) authority: PathBuf,
    /// Certificate of the API server.
    pub(crate) server: PathBuf,
    /// Key of the API server's certificate.
    pub(crate) server_key: PathBuf,
    /// Private key for service account tokens.
    pub(crate) account_key: PathBuf,
    /// Public half of `account_key`.
    pub(crate) account_public_key: PathBuf,
}

impl Certificates {
    /// Makes new certificates for a cluster and writes them into a directory.
    pub(crate) fn create(cluster: Cluster, directory: &Path) -> Result<Self> {
        let issued = Issued::new(cluster).context("make certificates")?;
        let write = |name: &str, text: &str| -> Result<PathBuf> {
            let path = directory.join(name);
            fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
            Ok(path)
        };
        Ok(Certificates {
            authority: write("ca.crt", &issued.authority)?,
            server: write("server.crt", &issued.server)?,
            server_key: write("server.key", &issued.server_key)?,
            account_key: write("accounts.key", &issued.account_key)?,
            account_public_key: write("accounts.pub", &issued.account_public_key)?,
        })
    }
}

/// The same in memory, as PEM.
struct Issued {
    authority: String,
    server: String,
    server_key: String,
    account_key: String,
    account_public_key: String,
}

impl Issued {
    fn new(cluster: Cluster) -> Result<Self, rcgen::Error> {
        let mut authority = CertificateParams::default();
        authority.distinguished_name.push(DnType::CommonName, format!("bed-{}-ca", cluster.name()));
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;

        let mut server = CertificateParams::new(SERVER_NAMES.map(str::to_owned))?;
        server.distinguished_name.push(DnType::CommonName, "kube-apiserver");
        let server_key = KeyPair::generate()?;
        let server = server.signed_by(&server_key, &authority)?;

        let account_key = KeyPair::generate()?;
        Ok(Issued {
            authority: authority.pem(),
            server: server.pem(),
            server_key: server_key.serialize_pem(),
            account_key: account_key.serialize_pem(),
            account_public_key: account_key.public_key_pem(),
        })
    }
}
