//! Requests to the service, and what it answers.

use std::future::Future;
use std::pin::Pin;
use std::sync::Mutex;

use corten_core::Identity;
use corten_identity::{SigningRequest, Trust, Usage};
use prost_types::{Struct, Value, value::Kind};
use rustls_pki_types::CertificateDer;
use tonic::metadata::MetadataMap;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::*;
use crate::authority::{Policy, Published};
use crate::caller::{AuthenticationError, PodBinding};
use crate::impersonation::{PodPlace, Pods};
use crate::root;

const HOUR: Duration = Duration::from_secs(3600);

struct Known(Mutex<Result<Caller, AuthenticationError>>);

impl Authenticate for Known {
    fn authenticate<'a>(
        &'a self,
        _: &'a MetadataMap,
        _: Option<&'a Peer>,
    ) -> Pin<Box<dyn Future<Output = Result<Caller, AuthenticationError>> + Send + 'a>> {
        Box::pin(std::future::ready(self.0.lock().expect("sound").clone()))
    }
}

fn id(name: &str) -> Identity {
    name.parse().expect("an identity")
}

const API: &str = "spiffe://cluster.local/ns/orders/sa/api";
const NODE: &str = "spiffe://cluster.local/ns/istio-system/sa/ztunnel";

fn service(caller: Result<Caller, AuthenticationError>) -> (Arc<Service>, Arc<Metrics>, Arc<Pods>) {
    let root = Arc::new(root::generate("cluster.local", HOUR * 24 * 3650, SystemTime::now()).expect("a root"));
    let published = Published::new(root.clone(), vec![root.anchor().clone()], None);
    let authority = Arc::new(Authority::new(published, Policy::default()));
    let (metrics, pods) = (Arc::new(Metrics::default()), Arc::new(Pods::default()));
    let settings = ServiceSettings {
        trusted_node_accounts: [NamespacedName::new("istio-system", "ztunnel")].into(),
        trust_domains: watch::channel(Arc::from(["cluster.local".to_owned()])).1,
    };
    let place = |node: &str, account: &str| PodPlace {
        uid: format!("uid-{account}"),
        node: node.to_owned(),
        service_account: account.to_owned(),
        failed: false,
    };
    pods.put(NamespacedName::new("istio-system", "ztunnel-x"), place("n1", "ztunnel"));
    pods.put(NamespacedName::new("orders", "api-x"), place("n1", "api"));
    let known = Arc::new(Known(Mutex::new(caller)));
    (
        Service::new(authority, known, pods.clone(), metrics.clone(), settings),
        metrics,
        pods,
    )
}

fn node_caller() -> Caller {
    Caller {
        identities: vec![id(NODE)],
        pod: Some(PodBinding {
            name: "ztunnel-x".to_owned(),
            uid: "uid-ztunnel".to_owned(),
        }),
    }
}

fn own(name: &str) -> Caller {
    Caller {
        identities: vec![id(name)],
        pod: None,
    }
}

fn message(csr: &str, validity_duration: i64, impersonated: Option<&str>) -> IstioCertificateRequest {
    let metadata = impersonated.map(|name| {
        let kind = Some(Kind::StringValue(name.to_owned()));
        Struct {
            fields: [(IMPERSONATED_IDENTITY.to_owned(), Value { kind })].into(),
        }
    });
    IstioCertificateRequest {
        csr: csr.to_owned(),
        validity_duration,
        metadata,
    }
}

async fn ask(service: &Service, message: IstioCertificateRequest) -> Result<Vec<String>, Status> {
    let answer = service.create_certificate(Request::new(message)).await;
    answer.map(|answer| answer.into_inner().cert_chain)
}

fn der(pem: &str) -> CertificateDer<'static> {
    corten_identity::pem::certificates(pem.as_bytes())
        .expect("PEM")
        .remove(0)
}

/// What a leaf says, line by line.
fn facts(leaf: &CertificateDer<'_>) -> Vec<String> {
    let (_, leaf) = X509Certificate::from_der(leaf).expect("a certificate");
    let names = leaf.subject_alternative_name().expect("sound").expect("there");
    let usage = leaf.key_usage().expect("sound").expect("there").value;
    let extended = leaf.extended_key_usage().expect("sound").expect("there").value;
    let lifetime = leaf.validity().not_after.timestamp() - leaf.validity().not_before.timestamp();
    vec![
        format!("subject '{}'", leaf.subject()),
        format!("critical {} {:?}", names.critical, names.value.general_names),
        format!(
            "sign {} encipher {}",
            usage.digital_signature(),
            usage.key_encipherment()
        ),
        format!("others {}", usage.flags & !0b101),
        format!("server {} client {}", extended.server_auth, extended.client_auth),
        format!("ca {}", leaf.is_ca()),
        format!("lifetime {lifetime}"),
    ]
}

#[tokio::test]
async fn the_certificate_has_the_callers_identity_whatever_the_request_says() {
    let (service, metrics, _) = service(Ok(own(API)));
    // The request is for somebody else; only its key counts.
    let request = SigningRequest::new(&id("spiffe://cluster.local/ns/kube-system/sa/admin")).expect("a request");
    let answer = ask(&service, message(request.pem(), 3600, None)).await.expect("signed");
    assert_eq!(
        answer.len(),
        2,
        "leaf and roots: a root that signs needs no intermediates"
    );
    let (leaf, root) = (der(&answer[0]), der(&answer[1]));
    assert_eq!(
        facts(&leaf),
        [
            "subject ''".to_owned(),
            format!("critical true [URI({API:?})]"),
            "sign true encipher true".to_owned(),
            "others 0".to_owned(),
            "server true client true".to_owned(),
            "ca false".to_owned(),
            format!("lifetime {}", 3600 + 120),
        ]
    );
    let trust = Trust::new(&[root], Default::default()).expect("trust");
    assert_eq!(trust.verify(&[leaf], Usage::Server, SystemTime::now()), Ok(()));
    assert!(
        request
            .finish(&answer)
            .expect_err("refused")
            .to_string()
            .contains("was asked for")
    );
    let values = metrics.values();
    assert_eq!(
        (
            values.citadel_server_csr_count,
            values.citadel_server_success_cert_issuance_count
        ),
        (1, 1)
    );
}

#[tokio::test]
async fn a_node_proxy_gets_certificates_of_its_pods_as_a_node_checks_them() {
    let (service, metrics, _) = service(Ok(node_caller()));
    let request = SigningRequest::new(&id(API)).expect("a request");
    let answer = ask(&service, message(request.pem(), 0, Some(API)))
        .await
        .expect("signed");
    let certificate = request.finish(&answer).expect("it fits");
    assert_eq!(certificate.identity, id(API));
    // Asking for nobody in particular: its own.
    let request = SigningRequest::new(&id(NODE)).expect("a request");
    let answer = ask(&service, message(request.pem(), 0, None)).await.expect("signed");
    assert_eq!(request.finish(&answer).expect("it fits").identity, id(NODE));

    let refused = ask(
        &service,
        message(
            SigningRequest::new(&id(API)).expect("a request").pem(),
            0,
            Some("spiffe://cluster.local/ns/x/sa/y"),
        ),
    )
    .await
    .expect_err("refused");
    assert_eq!(refused.code(), corten_grpc::Code::Unauthenticated);
    assert!(
        refused
            .message()
            .contains("no pod with the service account x/y runs on the caller's node n1"),
        "{refused}"
    );
    assert_eq!(metrics.values().citadel_server_authentication_failure_count, 1);
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_is_not_known_yet_is_waited_for() {
    let (service, _, pods) = service(Ok(node_caller()));
    let wanted = "spiffe://cluster.local/ns/orders/sa/late";
    let request = SigningRequest::new(&id(wanted)).expect("a request");
    let (answer, ()) = tokio::join!(ask(&service, message(request.pem(), 0, Some(wanted))), async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let place = PodPlace {
            uid: "u".to_owned(),
            node: "n1".to_owned(),
            service_account: "late".to_owned(),
            failed: false,
        };
        pods.put(NamespacedName::new("orders", "late-x"), place);
    });
    assert!(answer.is_ok(), "{answer:?}");
}

#[tokio::test]
async fn refusals_have_istios_codes() {
    use corten_grpc::Code;
    let good = || SigningRequest::new(&id(API)).expect("a request").pem().to_owned();
    let caller = own(API);
    let nobody = Caller {
        identities: Vec::new(),
        pod: None,
    };
    let day = 24 * 3600;
    let cases = [
        (
            Err(AuthenticationError("no token".to_owned())),
            message(&good(), 0, None),
            Code::Unauthenticated,
            "authenticate",
        ),
        (
            Ok(nobody),
            message(&good(), 0, None),
            Code::Unauthenticated,
            "no identity",
        ),
        (
            Ok(caller.clone()),
            message("garbage", 0, None),
            Code::InvalidArgument,
            "CSR parsing error",
        ),
        (
            Ok(caller.clone()),
            message("", 0, None),
            Code::InvalidArgument,
            "CSR parsing error",
        ),
        (
            Ok(caller.clone()),
            message(&good(), 90 * day + 1, None),
            Code::InvalidArgument,
            "requested TTL",
        ),
        (
            Ok(caller.clone()),
            message(&good(), i64::MAX, None),
            Code::InvalidArgument,
            "requested TTL",
        ),
        (
            Ok(caller.clone()),
            message(&good(), 0, Some(API)),
            Code::Unauthenticated,
            "not a trusted node account",
        ),
        (
            Ok(node_caller()),
            message(&good(), 0, Some("spiffe://x")),
            Code::Unauthenticated,
            "is not of the form",
        ),
    ];
    for (caller, message, code, words) in cases {
        let (service, metrics, _) = service(caller);
        let status = ask(&service, message).await.expect_err("refused");
        assert_eq!(status.code(), code, "{status}");
        assert!(status.message().contains(words), "{status}");
        assert_eq!(metrics.values().citadel_server_success_cert_issuance_count, 0);
    }
    for (validity, expected) in [(0, day), (-5, day), (60, 60), (90 * day, 90 * day)] {
        let (service, ..) = service(Ok(caller.clone()));
        let answer = ask(&service, message(&good(), validity, None)).await.expect("signed");
        assert!(facts(&der(&answer[0])).contains(&format!("lifetime {}", expected + 120)));
    }
}

#[tokio::test]
async fn a_request_with_a_common_name_or_an_rsa_key_or_a_foreign_signature() {
    let (service, ..) = service(Ok(own(API)));
    let key = rcgen::KeyPair::generate().expect("a key");
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::CommonName, "whatever");
    let csr = params.serialize_request(&key).expect("a request");
    let answer = ask(&service, message(&csr.pem().expect("PEM"), 0, None))
        .await
        .expect("signed");
    let facts = facts(&der(&answer[0]));
    assert_eq!(facts[0], format!("subject 'CN={API}'"));
    assert!(facts[1].starts_with("critical true"), "{facts:?}");

    let rsa = rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048).expect("a key");
    let csr = rcgen::CertificateParams::default()
        .serialize_request(&rsa)
        .expect("a request");
    assert!(ask(&service, message(&csr.pem().expect("PEM"), 0, None)).await.is_ok());

    // The last byte belongs to the signature.
    let mut forged = csr.der().to_vec();
    let last = forged.len() - 1;
    forged[last] ^= 1;
    let pem = corten_identity::pem::encode("CERTIFICATE REQUEST", &forged);
    let status = ask(&service, message(&pem, 0, None)).await.expect_err("refused");
    assert!(
        status
            .message()
            .contains("the signature of the signing request is not by the key in it"),
        "{status}"
    );
}
