//! Keys and certificates of one runtime: made once, kept in its data directory.
//!
//! A certificate authority signs the API's serving certificate and the administrator's client certificate; a separate key signs
//! service account tokens. What is missing or unreadable is made anew, and with it what depends on it.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType,
};

/// Everything secret about a runtime, as PEM texts.
#[derive(Clone, Debug)]
pub struct Pki {
    /// The certificate of the authority.
    pub ca: String,
    ca_key: String,
    /// The serving certificate.
    pub serving: String,
    pub(crate) serving_key: String,
    /// The administrator's client certificate: user `kubernetes-admin` in group `system:masters`.
    pub admin: String,
    admin_key: String,
    /// The key that signs service account tokens (EC P-256).
    pub(crate) token_key: String,
}

/// The keys cannot be made or kept.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// A file cannot be read or written.
    #[error("cannot keep keys in {path}: {source}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A key or certificate cannot be made.
    #[error("cannot make a certificate: {0}")]
    Make(#[from] rcgen::Error),
}

/// The names under which the API is reached.
const NAMES: &[&str] = &[
    "localhost",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
];
const ADDRESSES: &[&str] = &["127.0.0.1", "::1", "10.96.0.1", "fd00:10:96::1"];

impl Pki {
    /// Reads the keys in a directory, made when they are absent.
    pub fn open(dir: &Path) -> Result<Self, PkiError> {
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| PkiError::Io { path, source }
        };
        std::fs::create_dir_all(dir).map_err(io(dir))?;
        let file = dir.join("pki.json");
        if let Some(kept) = std::fs::read(&file).ok().and_then(|bytes| Self::from_json(&bytes)) {
            return Ok(kept);
        }
        let made = Self::generate()?;
        // Written beside and renamed, so that no half-written file is ever read.
        let fresh = dir.join("pki.json.new");
        write_private(&fresh, made.to_json().as_bytes()).map_err(io(&fresh))?;
        std::fs::rename(&fresh, &file).map_err(io(&file))?;
        Ok(made)
    }

    /// Makes keys that are kept nowhere.
    pub fn generate() -> Result<Self, PkiError> {
        let ca_key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name.push(DnType::CommonName, "kubernetes");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::CrlSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        lasting(&mut params);
        let ca = params.self_signed(&ca_key)?.pem();
        let issuer = Issuer::new(params, &ca_key);

        let serving_key = KeyPair::generate()?;
        let mut params = CertificateParams::new(NAMES.iter().map(|&n| n.to_owned()).collect::<Vec<_>>())?;
        for address in ADDRESSES {
            let address: IpAddr = address.parse().expect("the table holds addresses");
            params.subject_alt_names.push(SanType::IpAddress(address));
        }
        params.distinguished_name.push(DnType::CommonName, "kube-apiserver");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        lasting(&mut params);
        let serving = params.signed_by(&serving_key, &issuer)?.pem();

        let admin_key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name.push(DnType::CommonName, "kubernetes-admin");
        params
            .distinguished_name
            .push(DnType::OrganizationName, "system:masters");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        lasting(&mut params);
        let admin = params.signed_by(&admin_key, &issuer)?.pem();

        Ok(Self {
            ca,
            serving,
            admin,
            serving_key: serving_key.serialize_pem(),
            admin_key: admin_key.serialize_pem(),
            token_key: KeyPair::generate()?.serialize_pem(),
            ca_key: ca_key.serialize_pem(),
        })
    }

    fn from_json(bytes: &[u8]) -> Option<Self> {
        let value: serde_json::Value = serde_json::from_slice(bytes).ok()?;
        let text = |key: &str| value[key].as_str().map(str::to_owned);
        Some(Self {
            ca: text("ca")?,
            ca_key: text("caKey")?,
            serving: text("serving")?,
            serving_key: text("servingKey")?,
            admin: text("admin")?,
            admin_key: text("adminKey")?,
            token_key: text("tokenKey")?,
        })
    }

    fn to_json(&self) -> String {
        serde_json::json!({
            "ca": self.ca,
            "caKey": self.ca_key,
            "serving": self.serving,
            "servingKey": self.serving_key,
            "admin": self.admin,
            "adminKey": self.admin_key,
            "tokenKey": self.token_key,
        })
        .to_string()
    }

    /// A kubeconfig for the administrator; `name` names the cluster, user and context.
    pub fn kubeconfig(&self, name: &str, server_url: &str) -> String {
        let encoded = |pem: &str| STANDARD.encode(pem);
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: {name}\nclusters:\n- name: {name}\n  cluster:\n    server: {server_url}\n    certificate-authority-data: {}\n\
             contexts:\n- name: {name}\n  context:\n    cluster: {name}\n    user: {name}\nusers:\n- name: {name}\n  user:\n    client-certificate-data: {}\n    client-key-data: {}\n",
            encoded(&self.ca),
            encoded(&self.admin),
            encoded(&self.admin_key),
        )
    }
}

/// A certificate of this machine's runtime is good for as long as the runtime is.
fn lasting(params: &mut CertificateParams) {
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(2100, 1, 1);
}

fn write_private(path: &Path, contents: &[u8]) -> std::io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut file = std::fs::OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(contents)?;
    file.sync_all()
}
