//! Keys that an operator mounts: both forms, what is missing or does not fit, and replacement while we run.

use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use corten_ca::{
    Csr, Keeper, KeeperSettings, KeySource, Overlap, Policy, SecretAccess, SecretAccessError, SecretEntries,
};
use corten_core::Identity;
use corten_identity::{Certificate, RevocationList, SigningRequest, Trust, Usage};
use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};

/// A certificate that may sign, with its key.
struct Signer {
    pem: String,
    key: String,
    issuer: Issuer<'static, KeyPair>,
}

fn signer(name: &str, under: Option<&Signer>) -> Signer {
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let certificate = match under {
        None => params.self_signed(&key),
        Some(parent) => params.signed_by(&key, &parent.issuer),
    };
    Signer {
        pem: certificate.expect("signed").pem(),
        key: key.serialize_pem(),
        issuer: Issuer::new(params, key),
    }
}

fn write(dir: &Path, files: &[(&str, &str)]) {
    for (name, content) in files {
        std::fs::write(dir.join(name), content).expect("written");
    }
}

fn settings() -> KeeperSettings {
    let hour = Duration::from_secs(3600);
    KeeperSettings {
        trust_domain: "cluster.local".to_owned(),
        policy: Policy::default(),
        overlap: Some(Overlap::of_lifetime(hour)),
        root_lifetime: None,
        published: Vec::new(),
    }
}

async fn start(dir: &Path) -> Result<Keeper, String> {
    let source = KeySource::choose(dir.to_owned(), Arc::new(Nowhere)).map_err(|error| error.to_string())?;
    assert!(matches!(source, KeySource::Plugged(_)));
    let keeper = Keeper::start(source, settings(), Arc::default(), SystemTime::now()).await;
    keeper.map_err(|error| error.to_string())
}

/// Mounted keys need no Secret.
struct Nowhere;

type Answer<'a> = Pin<Box<dyn Future<Output = Result<SecretEntries, SecretAccessError>> + Send + 'a>>;

impl SecretAccess for Nowhere {
    fn read(&self) -> Answer<'_> {
        Box::pin(std::future::ready(Err(SecretAccessError::Failed(
            "nobody may read this".to_owned(),
        ))))
    }

    fn write(&self, _: SecretEntries) -> Answer<'_> {
        Box::pin(std::future::ready(Err(SecretAccessError::Failed(
            "nobody may write this".to_owned(),
        ))))
    }
}

/// A certificate as a node gets it, and as it verifies it.
fn issue(keeper: &Keeper) -> Certificate {
    let identity: Identity = "spiffe://cluster.local/ns/n/sa/a".parse().expect("an identity");
    let request = SigningRequest::new(&identity).expect("a request");
    let csr = Csr::parse(request.pem()).expect("readable");
    let answer = keeper
        .authority()
        .sign(&csr, &[identity], 600, SystemTime::now())
        .expect("signed");
    let certificate = request.finish(&answer).expect("it fits");
    let trust = Trust::new(&certificate.roots, RevocationList::default()).expect("roots");
    assert_eq!(
        trust.verify(&certificate.chain, Usage::Server, SystemTime::now()),
        Ok(())
    );
    certificate
}

#[tokio::test]
async fn istios_form_with_two_intermediates() {
    let dir = tempfile::tempdir().expect("a directory");
    let root = signer("root", None);
    let upper = signer("upper", Some(&root));
    let lower = signer("lower", Some(&upper));
    // As Istio's makefile writes it: the chain repeats the signing certificate and the root.
    let chain = format!("{}{}{}", lower.pem, upper.pem, root.pem);
    write(
        dir.path(),
        &[
            ("ca-cert.pem", &lower.pem),
            ("ca-key.pem", &lower.key),
            ("cert-chain.pem", &chain),
            ("root-cert.pem", &root.pem),
        ],
    );
    let keeper = start(dir.path()).await.expect("keys");
    let certificate = issue(&keeper);
    assert_eq!((certificate.chain.len(), certificate.roots.len()), (3, 1));
}

#[tokio::test]
async fn cert_managers_form() {
    let dir = tempfile::tempdir().expect("a directory");
    let root = signer("root", None);
    let intermediate = signer("intermediate", Some(&root));
    write(
        dir.path(),
        &[
            ("tls.crt", &intermediate.pem),
            ("tls.key", &intermediate.key),
            ("ca.crt", &root.pem),
        ],
    );
    let keeper = start(dir.path()).await.expect("keys");
    assert_eq!(issue(&keeper).chain.len(), 2);
}

#[tokio::test]
async fn what_is_missing_or_does_not_fit_is_named() {
    let (root, other) = (signer("root", None), signer("other", None));
    let intermediate = signer("intermediate", Some(&root));
    let all = [
        ("ca-cert.pem", intermediate.pem.as_str()),
        ("ca-key.pem", intermediate.key.as_str()),
        ("root-cert.pem", root.pem.as_str()),
    ];
    let cases = [
        (("ca-cert.pem", None), "ca-cert.pem is missing"),
        (("ca-key.pem", None), "ca-key.pem is missing"),
        (("root-cert.pem", None), "root-cert.pem is missing"),
        (
            ("root-cert.pem", Some(other.pem.as_str())),
            "is not trusted by any of the 1 roots",
        ),
        (
            ("ca-key.pem", Some(other.key.as_str())),
            "the signing key does not belong to the signing certificate",
        ),
        (("ca-key.pem", Some("garbage")), "the signing key cannot be used"),
        (
            ("ca-cert.pem", Some("garbage")),
            "the signing certificate: the PEM text holds no certificate",
        ),
    ];
    for ((name, content), expected) in cases {
        let dir = tempfile::tempdir().expect("a directory");
        write(dir.path(), &all);
        match content {
            Some(content) => write(dir.path(), &[(name, content)]),
            None => std::fs::remove_file(dir.path().join(name)).expect("removed"),
        }
        let error = start(dir.path()).await.expect_err("refused");
        assert!(error.contains(expected), "{name}: {error}");
    }
}

#[tokio::test]
async fn files_are_followed_and_a_new_root_is_trusted_first() {
    let dir = tempfile::tempdir().expect("a directory");
    let (root, new_root) = (signer("root", None), signer("new root", None));
    let first = signer("first", Some(&root));
    write(
        dir.path(),
        &[
            ("ca-cert.pem", &first.pem),
            ("ca-key.pem", &first.key),
            ("root-cert.pem", &root.pem),
        ],
    );
    let mut keeper = start(dir.path()).await.expect("keys");
    let before = issue(&keeper);

    // Another intermediate of the same root, and a revocation list: at once.
    let second = signer("second", Some(&root));
    write(
        dir.path(),
        &[
            ("ca-cert.pem", &second.pem),
            ("ca-key.pem", &second.key),
            ("ca-crl.pem", "lists"),
        ],
    );
    keeper.step(SystemTime::now()).await.expect("a step");
    let after = issue(&keeper);
    assert_ne!(before.chain[1], after.chain[1]);
    assert_eq!(keeper.authority().current().revocation_pem.as_deref(), Some("lists"));

    // Half-written files change nothing.
    let third = signer("third", Some(&new_root));
    write(dir.path(), &[("ca-cert.pem", &third.pem)]);
    let error = keeper.step(SystemTime::now()).await.expect_err("not yet").to_string();
    assert!(error.contains("the signing key does not belong"), "{error}");
    assert_eq!(issue(&keeper).chain[1], after.chain[1]);

    write(
        dir.path(),
        &[("ca-key.pem", &third.key), ("root-cert.pem", &new_root.pem)],
    );
    let now = SystemTime::now();
    keeper.step(now).await.expect("a step");
    let announced = issue(&keeper);
    assert_eq!(announced.chain[1], after.chain[1], "the old one signs");
    assert_eq!(announced.roots.len(), 2, "both are trusted");
    keeper.step(now + Duration::from_secs(3601)).await.expect("a step");
    let switched = issue(&keeper);
    assert_ne!(switched.chain[1], after.chain[1]);
    assert_eq!(switched.roots.len(), 2);
    keeper.step(now + Duration::from_secs(7202)).await.expect("a step");
    assert_eq!(issue(&keeper).roots.len(), 1);
}
