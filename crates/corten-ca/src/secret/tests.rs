//! The Secret read and written, at each phase of a change.

use super::*;

const TTL: Duration = Duration::from_secs(24 * 3600);
const LIFETIME: Duration = root::ROOT_LIFETIME;

fn start() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_900_000_000)
}

fn overlap() -> Overlap {
    Overlap::of_lifetime(TTL)
}

fn fresh() -> SelfMade {
    SelfMade::generate("cluster.local", LIFETIME, overlap(), start()).expect("a root")
}

fn entries(made: &SelfMade) -> Entries {
    let mut entries = Entries::new();
    made.encode(&mut entries);
    entries
}

fn read(entries: &Entries, now: SystemTime) -> SelfMade {
    SelfMade::decode(entries, overlap(), now)
        .expect("readable")
        .expect("keys")
}

#[track_caller]
fn same(one: &Rotation, other: &Rotation) {
    assert!(one.signer().same_as(other.signer()));
    assert_eq!(one.bundle(), other.bundle());
    assert_eq!(one.wake_at(), other.wake_at());
    assert_eq!(
        one.next().map(|next| next.anchor()),
        other.next().map(|next| next.anchor())
    );
    assert_eq!(one.materials().count(), other.materials().count());
}

#[test]
fn the_form_is_istios_with_entries_of_our_own() {
    let made = fresh();
    let names: Vec<String> = entries(&made).into_keys().collect();
    assert_eq!(
        names,
        [
            "ca-cert.pem",
            "ca-key.pem",
            "cert-chain.pem",
            "key.pem",
            "root-cert.pem",
            "rotation.json"
        ]
    );
    same(&read(&entries(&made), start()).rotation, &made.rotation);
    assert!(
        SelfMade::decode(&Entries::new(), overlap(), start())
            .expect("readable")
            .is_none()
    );
    // What is not ours stays.
    let mut kept = Entries::from([("other".to_owned(), b"x".to_vec())]);
    made.encode(&mut kept);
    assert_eq!(kept["other"], b"x");
}

#[test]
fn a_secret_of_istio_is_taken_as_it_is() {
    let made = fresh();
    let mut entries = entries(&made);
    entries.remove(ROTATION);
    same(&read(&entries, start()).rotation, &made.rotation);
}

#[test]
fn a_change_survives_being_written_and_read_at_every_step() {
    let mut entries = entries(&fresh());
    entries.insert(ROTATE.to_owned(), Vec::new());
    let mut now = start();
    let mut signers = Vec::new();
    let mut bundles = Vec::new();
    for _ in 0..60 {
        let mut made = read(&entries, now);
        if made.step("cluster.local", LIFETIME, now).expect("a step") {
            made.encode(&mut entries);
            same(&read(&entries, now).rotation, &made.rotation);
        }
        assert!(!entries.contains_key(ROTATE), "the wish is fulfilled once");
        signers.push(made.rotation.signer().anchor().clone());
        bundles.push(made.rotation.bundle().len());
        now += Duration::from_secs(3600);
    }
    signers.dedup();
    assert_eq!(signers.len(), 2);
    assert_eq!(bundles, [vec![2; 48], vec![1; 12]].concat());
}

#[test]
fn an_operator_says_how_long_old_and_new_overlap() {
    let mut entries = entries(&fresh());
    entries.insert(ROTATE.to_owned(), b"20m\n".to_vec());
    let mut bundles = Vec::new();
    for minute in 0..50 {
        let now = start() + Duration::from_secs(60 * minute);
        let mut made = read(&entries, now);
        if made.step("cluster.local", LIFETIME, now).expect("a step") {
            made.encode(&mut entries);
        }
        bundles.push(made.rotation.bundle().len());
        if minute == 45 {
            assert_eq!(made.rotation.overlap(), overlap(), "the next change is as always");
        }
    }
    assert_eq!(bundles, [vec![2; 40], vec![1; 10]].concat());
}

#[test]
fn an_old_root_is_changed_in_the_last_fifth_of_its_life() {
    let mut made = fresh();
    let at = |part: f64| start() + LIFETIME.mul_f64(part);
    assert!(!made.step("cluster.local", LIFETIME, at(0.79)).expect("a step"));
    assert!(made.step("cluster.local", LIFETIME, at(0.81)).expect("a step"));
    assert!(made.rotation.next().is_some());
    assert!(!made.step("cluster.local", LIFETIME, at(0.81)).expect("a step"), "once");
}

#[test]
fn what_cannot_be_read_is_named() {
    #[track_caller]
    fn check(change: impl Fn(&mut Entries), expected: &str) {
        let mut entries = entries(&fresh());
        change(&mut entries);
        let error = SelfMade::decode(&entries, overlap(), start())
            .expect_err("unusable")
            .to_string();
        assert!(error.contains(expected), "{error}");
    }
    let set = |name: &'static str, value: &'static str| {
        move |entries: &mut Entries| {
            entries.insert(name.to_owned(), value.as_bytes().to_vec());
        }
    };
    check(
        set(CERTIFICATE, "x"),
        "the signing certificate: the PEM text holds no certificate",
    );
    check(set(KEY, "x"), "the signing key cannot be used");
    check(set(ROTATION, "{"), "the entry rotation.json");
    check(set(ROTATION, r#"{"retiring": [{}]}"#), "a root is missing");
    check(set(ROTATE, "soon"), "write a duration such as 20m, or nothing");
    check(set(REVOKED, "12\nabc"), "'abc' is not a serial number");
    let other = entries(&fresh());
    check(
        |entries| {
            entries.insert(KEY.to_owned(), other[KEY].clone());
        },
        "the signing key does not belong to the signing certificate",
    );
}
