//! The certificate authority of the proxies that are compared. Ours read its key from a folder; a stock proxy asks over the wire, as it does in
//! a cluster, and finds one that signs for whoever asks.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use corten_grpc::{Request, Response, Router, Settings, Status, TlsAcceptor};
use corten_proto::ca::{CREATE_CERTIFICATE, IstioCertificateRequest, IstioCertificateResponse};
use corten_rt::TaskGroup;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair,
};
use rustls::pki_types::PrivateKeyDer;

/// How long what it signs is valid.
const VALID: Duration = Duration::from_secs(24 * 3600);

/// A root, its key, and a folder with both as `ca-cert.pem` and `ca-key.pem`.
pub(crate) struct Authority {
    pub(crate) folder: PathBuf,
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// Makes a root.
    pub(crate) fn new(folder: PathBuf) -> Result<Arc<Authority>> {
        std::fs::create_dir_all(&folder)?;
        let key = KeyPair::generate()?;
        let mut root = CertificateParams::default();
        root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = root.self_signed(&key)?.pem();
        std::fs::write(folder.join("ca-cert.pem"), &pem)?;
        std::fs::write(folder.join("ca-key.pem"), key.serialize_pem())?;
        let issuer = Issuer::new(root, key);
        Ok(Arc::new(Authority { folder, pem, issuer }))
    }

    /// The root's certificate.
    pub(crate) fn root(&self) -> PathBuf {
        Path::new(&self.folder).join("ca-cert.pem")
    }

    fn sign(&self, request: &str) -> Result<IstioCertificateResponse, rcgen::Error> {
        let mut request = CertificateSigningRequestParams::from_pem(request)?;
        dated(&mut request.params);
        let leaf = request.signed_by(&self.issuer)?.pem();
        Ok(IstioCertificateResponse {
            cert_chain: vec![leaf, self.pem.clone()],
        })
    }

    /// Serves on `localhost` of the namespace that the listener is of, until the tasks end. Returns the address to ask.
    pub(crate) fn serve(self: &Arc<Authority>, listener: std::net::TcpListener, tasks: &TaskGroup) -> Result<String> {
        listener.set_nonblocking(true)?;
        let address = format!("https://localhost:{}", listener.local_addr()?.port());
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let key = KeyPair::generate()?;
        let mut own = CertificateParams::new(["localhost".to_owned()])?;
        dated(&mut own);
        let certificate = own.signed_by(&key, &self.issuer)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::try_from(key.serialize_der()).map_err(anyhow::Error::msg)?,
            )
            .context("the certificate was just made")?;
        tls.alpn_protocols = vec![b"h2".to_vec()];
        let tls = Arc::new(tls);
        let acceptor: TlsAcceptor = Arc::new(move || tls.clone());
        let authority = self.clone();
        let router = Router::new().unary(CREATE_CERTIFICATE, move |request: Request<IstioCertificateRequest>| {
            let signed = authority.sign(&request.get_ref().csr);
            async move {
                signed
                    .map(Response::new)
                    .map_err(|error| Status::invalid_argument(error.to_string()))
            }
        });
        tasks.serve("authority", |drain| {
            corten_grpc::serve(listener, Some(acceptor), router, Settings::default(), drain)
        });
        Ok(address)
    }
}

/// On which port of `localhost` there is room.
pub(crate) fn listen() -> std::io::Result<std::net::TcpListener> {
    std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
}

fn dated(params: &mut CertificateParams) {
    let now = SystemTime::now();
    params.not_before = (now - Duration::from_secs(60)).into();
    params.not_after = (now + VALID).into();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
}
