//! Changes of keys and roots step by step: at every moment, any two workloads trust each other.

use std::collections::BTreeMap;

use corten_identity::{Refusal, SigningRequest, Trust, Usage};

use super::*;
use crate::authority::{Authority, Policy, Published};
use crate::csr::Csr;
use crate::root;

const HOUR: Duration = Duration::from_secs(3600);
/// How long the certificates of these tests are valid.
const TTL: Duration = Duration::from_secs(24 * 3600);

fn start() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_900_000_000)
}

fn root_of(name: &str, now: SystemTime) -> Arc<Material> {
    Arc::new(root::generate(name, HOUR * 24 * 3650, now).expect("a root"))
}

/// A workload with the certificate and the roots it got at its last renewal.
struct Workload {
    chain: Vec<CertificateDer<'static>>,
    trust: Trust,
    renewed: SystemTime,
}

/// Workloads that renew at different times, under one rotation.
struct Mesh {
    rotation: Rotation,
    workloads: BTreeMap<u32, Workload>,
}

impl Mesh {
    fn new(rotation: Rotation) -> Mesh {
        Mesh {
            rotation,
            workloads: BTreeMap::new(),
        }
    }

    fn renew(&mut self, name: u32, now: SystemTime) {
        let published = Published::new(self.rotation.signer().clone(), self.rotation.bundle(), None);
        let authority = Authority::new(
            published,
            Policy {
                default_ttl: TTL,
                max_ttl: TTL,
            },
        );
        let identity = corten_core::Identity::new("mesh", "n", &format!("w{name}")).expect("an identity");
        let request = SigningRequest::new(&identity).expect("a request");
        let csr = Csr::parse(request.pem()).expect("it is read");
        let answer = authority.sign(&csr, &[identity], 0, now).expect("signed");
        let certificate = request.finish(&answer).expect("it fits");
        let trust = Trust::new(&certificate.roots, Default::default()).expect("roots");
        let workload = Workload {
            chain: certificate.chain,
            trust,
            renewed: now,
        };
        self.workloads.insert(name, workload);
    }

    /// Every pair in both roles.
    fn check(&self, now: SystemTime) {
        for (one, a) in &self.workloads {
            for (other, b) in &self.workloads {
                for usage in [Usage::Client, Usage::Server] {
                    let verdict = b.trust.verify(&a.chain, usage, now);
                    let hours = now.duration_since(start()).expect("later").as_secs() / 3600;
                    assert_eq!(verdict, Ok(()), "{other} does not trust {one} after {hours} h");
                }
            }
        }
    }

    /// Lets time pass: workloads renew at the middle of their life, the last of them only just before its end.
    fn run(&mut self, from: SystemTime, hours: u32, mut each: impl FnMut(&mut Rotation, SystemTime)) -> SystemTime {
        let mut now = from;
        for _ in 0..hours {
            now += HOUR;
            self.rotation.tick(now);
            each(&mut self.rotation, now);
            let late = *self.workloads.keys().last().expect("some");
            let due: Vec<u32> = self
                .workloads
                .iter()
                .filter(|(name, workload)| {
                    let age = now.duration_since(workload.renewed).expect("later");
                    age >= if **name == late { TTL - HOUR } else { TTL / 2 }
                })
                .map(|(name, _)| *name)
                .collect();
            for name in due {
                self.renew(name, now);
            }
            self.check(now);
        }
        now
    }
}

fn mesh(rotation: Rotation) -> Mesh {
    let mut mesh = Mesh::new(rotation);
    for name in 0..6 {
        // Spread over half a day before the start.
        mesh.renew(name, start() - HOUR * 2 * name);
    }
    mesh.check(start());
    mesh
}

#[test]
fn a_new_root_is_trusted_before_it_signs_and_the_old_one_until_nothing_of_it_is_left() {
    let old = root_of("mesh", start());
    let mut mesh = mesh(Rotation::new(old.clone(), Overlap::of_lifetime(TTL)));
    let new = root_of("mesh", start());
    assert_eq!(
        mesh.rotation.offer(new.clone(), start()),
        Offered::Announced(start() + TTL)
    );
    assert_eq!(mesh.rotation.bundle(), [old.anchor().clone(), new.anchor().clone()]);
    assert_eq!(mesh.rotation.wake_at(), Some(start() + TTL));

    let now = mesh.run(start(), 23, |rotation, _| assert!(rotation.signer().same_as(&old)));
    let now = mesh.run(now, 1, |rotation, _| assert!(rotation.signer().same_as(&new)));
    assert_eq!(mesh.rotation.bundle(), [new.anchor().clone(), old.anchor().clone()]);
    let now = mesh.run(now, 24, |_, _| {});
    assert_eq!(mesh.rotation.bundle(), [new.anchor().clone()]);
    assert_eq!(mesh.rotation.wake_at(), None);
    mesh.run(now, 48, |_, _| {});
}

#[test]
fn another_change_during_a_change_breaks_nothing_either() {
    let old = root_of("mesh", start());
    let mut mesh = mesh(Rotation::new(old, Overlap::of_lifetime(TTL)));
    mesh.rotation.offer(root_of("mesh", start()), start());
    let now = mesh.run(start(), 30, |_, _| {});
    let third = root_of("mesh", now);
    mesh.rotation.offer(third.clone(), now);
    assert_eq!(mesh.rotation.bundle().len(), 3);
    let now = mesh.run(now, 60, |_, _| {});
    assert!(mesh.rotation.signer().same_as(&third));
    assert_eq!(mesh.rotation.bundle(), [third.anchor().clone()]);
    // Announced and taken back: what may have learned it goes on.
    let signer = mesh.rotation.signer().clone();
    mesh.rotation.offer(root_of("mesh", now), now);
    assert_eq!(mesh.rotation.offer(signer, now), Offered::Same);
    assert_eq!(mesh.rotation.bundle().len(), 2);
    mesh.run(now, 48, |_, _| {});
    assert_eq!(mesh.rotation.bundle(), [third.anchor().clone()]);
}

/// An intermediate under a root, with a bundle of roots.
fn intermediate(under: &Material, bundle: &[&Material], now: SystemTime) -> Arc<Material> {
    let key = rcgen::KeyPair::generate().expect("a key");
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
        .distinguished_name
        .push(rcgen::DnType::OrganizationName, "intermediate");
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Constrained(0));
    params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign, rcgen::KeyUsagePurpose::CrlSign];
    params.use_authority_key_identifier_extension = true;
    let certificate = params.signed_by(&key, under.issuer()).expect("signed").der().clone();
    let roots = bundle.iter().map(|root| root.anchor().clone()).collect();
    Arc::new(Material::new(vec![certificate], &key.serialize_pem(), roots, now).expect("they fit"))
}

#[test]
fn an_intermediate_under_a_known_root_signs_at_once() {
    let root = root_of("mesh", start());
    let first = intermediate(&root, &[&root], start());
    assert_eq!(first.intermediates().len(), 1);
    let mut mesh = mesh(Rotation::new(first, Overlap::of_lifetime(TTL)));
    let second = intermediate(&root, &[&root], start());
    assert_eq!(mesh.rotation.offer(second.clone(), start()), Offered::Switched);
    assert!(mesh.rotation.signer().same_as(&second));
    assert_eq!(mesh.rotation.bundle(), [root.anchor().clone()]);
    mesh.run(start(), 48, |_, _| {});
}

#[test]
fn an_operator_in_a_hurry_is_held_back() {
    // Documented order: add the new root; when all have it, sign under it; when nothing is left, drop the old.
    let (one, two) = (root_of("one", start()), root_of("two", start()));
    let first = intermediate(&one, &[&one], start());
    let mut mesh = mesh(Rotation::new(first.clone(), Overlap::of_lifetime(TTL)));
    let key = first.key_pem().to_owned();
    let both = vec![one.anchor().clone(), two.anchor().clone()];
    let widened = Material::new(vec![first.certificate().clone()], &key, both, start()).expect("they fit");
    assert_eq!(mesh.rotation.offer(Arc::new(widened), start()), Offered::Switched);
    let now = mesh.run(start(), 5, |_, _| {});
    // Too early, and with the old root dropped at the same time.
    let second = intermediate(&two, &[&two], now);
    assert_eq!(
        mesh.rotation.offer(second.clone(), now),
        Offered::Announced(start() + TTL)
    );
    let now = mesh.run(now, 18, |rotation, _| assert!(!rotation.signer().same_as(&second)));
    let now = mesh.run(now, 24, |rotation, _| assert!(rotation.signer().same_as(&second)));
    assert!(mesh.rotation.bundle().contains(one.anchor()));
    mesh.run(now, 2, |_, _| {});
    assert_eq!(mesh.rotation.bundle(), [two.anchor().clone()]);
}

#[test]
fn without_the_overlap_the_check_of_these_tests_would_fail() {
    let mut mesh = mesh(Rotation::new(
        root_of("mesh", start()),
        Overlap {
            announce: Duration::ZERO,
            retire: Duration::ZERO,
        },
    ));
    mesh.rotation.offer(root_of("mesh", start()), start());
    mesh.rotation.tick(start());
    mesh.renew(0, start());
    let (fresh, old) = (&mesh.workloads[&0], &mesh.workloads[&5]);
    assert_eq!(
        fresh.trust.verify(&old.chain, Usage::Client, start()),
        Err(Refusal::UnknownAuthority)
    );
    assert_eq!(
        old.trust.verify(&fresh.chain, Usage::Client, start()),
        Err(Refusal::UnknownAuthority)
    );
}

#[test]
fn roots_published_before_the_start_are_trusted_a_while() {
    let (old, new) = (root_of("mesh", start()), root_of("mesh", start()));
    let mut rotation = Rotation::new(new.clone(), Overlap::of_lifetime(TTL));
    rotation.keep_published(vec![old.anchor().clone(), new.anchor().clone()], start());
    assert_eq!(rotation.bundle(), [new.anchor().clone(), old.anchor().clone()]);
    assert!(!rotation.tick(start() + TTL / 2));
    assert!(rotation.tick(start() + TTL));
    assert_eq!(rotation.bundle(), [new.anchor().clone()]);
}
