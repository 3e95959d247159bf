//! The certificates of a node over time: fetched, served stale, renewed, revoked, forgotten.

mod support;

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use corten_core::Identity;
use corten_identity::renewal::Limits;
use corten_identity::{
    Identities, IdentitiesConfig, Priority, Refusal, RevocationList, Sign, SignError, SigningRequest, State, Usage,
};
use corten_rt::TaskGroup;
use support::{Authority, DAY, handshake, identity};
use tokio::sync::Notify;

const A: &str = "spiffe://cluster.local/ns/n/sa/a";
const B: &str = "spiffe://cluster.local/ns/n/sa/b";

/// What the authority does with the next requests; signs for a day when nothing is said.
enum Answer {
    Down,
    For(&'static str),
    Until(SystemTime),
    Garbage,
    ForAnotherKey,
}

struct Fake {
    authority: Authority,
    answers: Mutex<VecDeque<Answer>>,
    asked: Mutex<Vec<String>>,
}

impl Sign for Fake {
    fn sign<'a>(
        &'a self,
        identity: &'a Identity,
        request: &'a str,
    ) -> Pin<Box<dyn Future<Output = Result<Vec<String>, SignError>> + Send + 'a>> {
        self.asked.lock().expect("sound").push(identity.service_account.clone());
        let answer = self.answers.lock().expect("sound").pop_front();
        let now = SystemTime::now();
        let (mut name, mut until) = (identity.to_string(), now + DAY);
        let result = match answer {
            Some(Answer::Down) => Err(SignError::Unavailable("it is down".to_owned())),
            Some(Answer::Garbage) => Ok(vec!["x".to_owned(), "y".to_owned()]),
            Some(Answer::ForAnotherKey) => {
                let other = SigningRequest::new(identity).expect("a request");
                Ok(self.authority.answer(other.pem(), &name, now - DAY, until))
            }
            Some(Answer::For(other)) => {
                name = other.to_owned();
                Ok(self.authority.answer(request, &name, now - DAY, until))
            }
            Some(Answer::Until(at)) => {
                until = at;
                Ok(self.authority.answer(request, &name, now, until))
            }
            None => Ok(self.authority.answer(request, &name, now - DAY, until)),
        };
        Box::pin(std::future::ready(result))
    }
}

struct Node {
    fake: Arc<Fake>,
    identities: Arc<Identities>,
    changed: Arc<Notify>,
    tasks: TaskGroup,
}

impl Node {
    fn start(config: IdentitiesConfig, answers: Vec<Answer>) -> Node {
        let fake = Arc::new(Fake {
            authority: Authority::new("mesh"),
            answers: Mutex::new(answers.into()),
            asked: Mutex::default(),
        });
        let limits = Limits {
            retry_min: Duration::from_millis(20),
            ..Limits::default()
        };
        let identities = Identities::new(fake.clone(), IdentitiesConfig { limits, ..config });
        let changed = Arc::new(Notify::new());
        let tell = changed.clone();
        identities.on_change(move || tell.notify_one());
        let tasks = TaskGroup::new("test");
        tasks.serve("identities", |drain| identities.clone().run(drain));
        Node {
            fake,
            identities,
            changed,
            tasks,
        }
    }

    async fn until(&self, what: &str, condition: impl Fn(&Node) -> bool) {
        let wait = async {
            while !condition(self) {
                self.changed.notified().await;
            }
        };
        assert!(
            tokio::time::timeout(Duration::from_secs(20), wait).await.is_ok(),
            "waited in vain for {what}"
        );
    }

    fn serial(&self, name: &str) -> Option<String> {
        let bundle = self.identities.current(&identity(name))?;
        Some(bundle.certificate().serial.clone())
    }
}

#[tokio::test]
async fn what_is_wanted_is_fetched_and_what_is_forgotten_is_gone() {
    let node = Node::start(IdentitiesConfig::default(), Vec::new());
    assert!(matches!(node.identities.state(&identity(A)), State::Unknown));
    node.identities.want(&identity(A), Priority::RealTime);
    node.identities.want(&identity(B), Priority::Warmup);
    node.until("both", |node| node.serial(A).is_some() && node.serial(B).is_some())
        .await;
    let (a, b) = (
        node.identities.current(&identity(A)),
        node.identities.current(&identity(B)),
    );
    let (a, b) = (a.expect("it is there"), b.expect("it is there"));
    // Certificates with the same roots share what verifies peers.
    assert!(Arc::ptr_eq(a.trust(), b.trust()));
    let outcome = handshake(a.client_config(&[identity(B)]), b.server_config());
    assert_eq!((outcome.client, outcome.server), (Ok(()), Ok(())));

    let views = node.identities.dump();
    let names: Vec<_> = views
        .iter()
        .map(|view| (view.identity.as_str(), view.state.as_str()))
        .collect();
    assert_eq!(names, [(A, "Available"), (B, "Available")]);
    assert_eq!((views[0].cert_chain.len(), views[0].root_certs.len()), (1, 1));
    assert_eq!(Some(&views[0].cert_chain[0].serial_number), node.serial(A).as_ref());
    assert!(views[0].cert_chain[0].expiration_time.ends_with('Z'));

    node.identities.forget(&identity(A));
    assert!(node.identities.current(&identity(A)).is_none());
    assert_eq!(node.identities.dump().len(), 1);
    node.tasks.shutdown(Duration::from_secs(1)).await;
}

#[tokio::test]
async fn failures_are_told_and_tried_again() {
    let other = Answer::For("spiffe://cluster.local/ns/n/sa/other");
    let node = Node::start(
        IdentitiesConfig::default(),
        vec![Answer::Down, other, Answer::Garbage, Answer::ForAnotherKey],
    );
    let reasons: Arc<Mutex<Vec<String>>> = Arc::default();
    let (identities, seen) = (Arc::downgrade(&node.identities), reasons.clone());
    node.identities.on_change(move || {
        let state = identities.upgrade().map(|identities| identities.state(&identity(A)));
        if let Some(State::Unavailable(why)) = state {
            seen.lock().expect("sound").push(why.to_string());
        }
    });
    node.identities.want(&identity(A), Priority::RealTime);
    node.until("a certificate", |node| node.serial(A).is_some()).await;
    assert_eq!(
        *reasons.lock().expect("sound"),
        [
            "the certificate authority is not available: it is down",
            "the authority signed spiffe://cluster.local/ns/n/sa/other when spiffe://cluster.local/ns/n/sa/a was asked for",
            "the PEM text holds no certificate",
            "the authority signed another key than the one it was sent",
        ]
    );
    node.tasks.shutdown(Duration::from_secs(1)).await;
}

#[tokio::test]
async fn an_expired_certificate_is_not_used_and_says_why_there_is_no_other() {
    let soon = SystemTime::now() + Duration::from_secs(4);
    let node = Node::start(IdentitiesConfig::default(), vec![Answer::Until(soon)]);
    node.identities.want(&identity(A), Priority::RealTime);
    node.until("the short one", |node| node.serial(A).is_some()).await;
    // It is renewed ten seconds after it came at the earliest; until it expires it serves.
    while SystemTime::now() < soon + Duration::from_secs(1) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(node.identities.current(&identity(A)).is_none());
    match node.identities.state(&identity(A)) {
        State::Unavailable(why) => assert!(why.starts_with("the certificate expired and was not renewed"), "{why}"),
        other => panic!("{other:?}"),
    }
    node.tasks.shutdown(Duration::from_secs(1)).await;
}

#[tokio::test]
async fn a_revocation_list_counts_for_new_handshakes_and_for_peers_accepted_before() {
    let node = Node::start(IdentitiesConfig::default(), Vec::new());
    for name in [A, B] {
        node.identities.want(&identity(name), Priority::RealTime);
    }
    node.until("both", |node| node.serial(A).is_some() && node.serial(B).is_some())
        .await;
    let (a, b) = (
        node.identities.current(&identity(A)),
        node.identities.current(&identity(B)),
    );
    let (a, b) = (a.expect("it is there"), b.expect("it is there"));
    let peer = a.certificate().chain.clone();
    assert_eq!(
        node.identities.recheck(&identity(B), &peer, Usage::Client),
        Some(Ok(()))
    );

    let serial = corten_serial(&a.certificate().serial);
    let list = node.fake.authority.revocation_pem_of(&serial);
    node.identities
        .revoke(RevocationList::parse(list.as_bytes()).expect("a list"));
    assert_eq!(
        node.identities.recheck(&identity(B), &peer, Usage::Client),
        Some(Err(Refusal::Revoked))
    );
    let now_b = node.identities.current(&identity(B)).expect("it is there");
    assert!(
        handshake(a.client_config(&[identity(B)]), b.server_config())
            .server
            .is_ok()
    );
    assert!(
        handshake(a.client_config(&[identity(B)]), now_b.server_config())
            .server
            .is_err()
    );
    node.tasks.shutdown(Duration::from_secs(1)).await;
}

/// The bytes of a decimal number.
fn corten_serial(decimal: &str) -> Vec<u8> {
    let mut bytes: Vec<u8> = vec![0];
    for digit in decimal.bytes().map(|byte| u32::from(byte - b'0')) {
        let mut carry = digit;
        for byte in bytes.iter_mut().rev() {
            let value = u32::from(*byte) * 10 + carry;
            (*byte, carry) = ((value & 0xff) as u8, value >> 8);
        }
        if carry > 0 {
            bytes.insert(0, carry as u8);
        }
    }
    bytes
}

#[tokio::test]
async fn files_of_roots_and_revocation_lists_are_followed() {
    let dir = tempfile::tempdir().expect("a directory");
    let (roots, list) = (dir.path().join("root-cert.pem"), dir.path().join("ca-crl.pem"));
    std::fs::write(&roots, "one").expect("written");
    let config = IdentitiesConfig {
        revocation: Some(list.clone()),
        roots: Some(roots.clone()),
        look_interval: Duration::from_millis(50),
        ..IdentitiesConfig::default()
    };
    let node = Node::start(config, Vec::new());
    for name in [A, B] {
        node.identities.want(&identity(name), Priority::RealTime);
    }
    node.until("both", |node| node.serial(A).is_some() && node.serial(B).is_some())
        .await;
    let first = node.serial(B);
    let peer = node
        .identities
        .current(&identity(A))
        .expect("it is there")
        .certificate()
        .chain
        .clone();
    std::fs::write(&roots, "another").expect("written");
    node.until("another certificate", |node| node.serial(B) != first).await;

    // What cannot be read changes nothing; what can be, counts.
    std::fs::write(&list, "garbage").expect("written");
    let serial = corten_serial(&peer_serial(&peer[0]));
    std::fs::write(dir.path().join("new"), node.fake.authority.revocation_pem_of(&serial)).expect("written");
    std::fs::rename(dir.path().join("new"), &list).expect("renamed");
    let revoked = |node: &Node| node.identities.recheck(&identity(B), &peer, Usage::Client);
    node.until("the revocation", |node| revoked(node) == Some(Err(Refusal::Revoked)))
        .await;
    node.tasks.shutdown(Duration::from_secs(1)).await;
}

fn peer_serial(leaf: &rustls_pki_types::CertificateDer<'_>) -> String {
    use x509_parser::prelude::{FromDer, X509Certificate};
    X509Certificate::from_der(leaf)
        .expect("a certificate")
        .1
        .tbs_certificate
        .serial
        .to_string()
}
