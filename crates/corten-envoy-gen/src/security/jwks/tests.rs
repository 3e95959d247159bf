//! The life of keys, moment by moment.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Cache, Fetch, Limits, Source, Step, is_reachable, usable};

const KEYS: &str = r#"{"keys":[{"kty":"EC","kid":"1","crv":"P-256","x":"ko1lwHW00L8i7_o53HbQYPZDSYr_bAy_tZMFNo3BEYk","y":"nh4FbIIgVgVIoi2TDlpc8zscaMeBfB_-TXcRIARCwgw"},{"kty":"OKP","kid":"2","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;
/// The same keys in another order.
const SAME: &str = r#"{"keys":[{"kty":"OKP","kid":"2","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"},{"y":"nh4FbIIgVgVIoi2TDlpc8zscaMeBfB_-TXcRIARCwgw","crv":"P-256","x":"ko1lwHW00L8i7_o53HbQYPZDSYr_bAy_tZMFNo3BEYk","kid":"1","kty":"EC"}]}"#;
const ROTATED: &str = r#"{"keys":[{"kty":"oct","kid":"3","k":"c2VjcmV0"}]}"#;

fn source(name: &str) -> Source {
    Source {
        issuer: name.to_owned(),
        uri: format!("https://{name}/keys"),
    }
}

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn wanting(names: &[&str]) -> Cache {
    let mut cache = Cache::default();
    cache.want(at(0), names.iter().map(|name| (source(name), at(5))));
    cache
}

/// The names of the keys of the source `a`.
fn kids(cache: &Cache) -> Vec<String> {
    let keys = cache.keys(&source("a")).unwrap_or_default();
    let set: Value = serde_json::from_str(&keys).expect("a set");
    let keys = set["keys"].as_array().into_iter().flatten();
    keys.map(|key| key["kid"].as_str().unwrap_or_default().to_owned())
        .collect()
}

fn only(step: &Step) -> Fetch {
    assert_eq!(step.fetches.len(), 1, "{step:?}");
    step.fetches[0].clone()
}

/// Fetches what is due, and answers; what came of it.
fn turn(cache: &mut Cache, now: u64, answer: Result<&str, &str>) -> Step {
    let fetch = only(&cache.step(at(now)));
    cache.answer(
        at(now),
        &fetch.source,
        fetch.attempt,
        answer.map(str::as_bytes).map_err(str::to_owned),
    )
}

#[test]
fn keys_are_fetched_kept_and_rotated() {
    let mut cache = wanting(&["a"]);
    assert_eq!(cache.keys(&source("a")), None);
    assert_eq!(turn(&mut cache, 0, Ok(KEYS)).changed, [source("a")]);
    assert_eq!(kids(&cache), ["1", "2"]);
    assert_eq!(cache.next(), Some(at(1200)));
    assert_eq!(cache.step(at(1199)), Step::default());
    // Another order is not another set, and nobody is told.
    assert_eq!(turn(&mut cache, 1200, Ok(SAME)).changed, []);
    assert_eq!(kids(&cache), ["1", "2"]);
    assert_eq!(turn(&mut cache, 2400, Ok(ROTATED)).changed, [source("a")]);
    assert_eq!(kids(&cache), ["3"]);
}

#[test]
fn while_a_source_fails_the_last_keys_stay_and_it_is_asked_less_and_less() {
    let mut cache = wanting(&["a"]);
    turn(&mut cache, 0, Ok(KEYS));
    let mut now = 1200;
    for wait in [60, 120, 240, 480, 960, 1920, 3600, 3600] {
        let step = turn(&mut cache, now, Err("status 503"));
        assert_eq!(step.failures, [(source("a"), "status 503".to_owned())]);
        assert_eq!(step.changed, []);
        assert_eq!(cache.next(), Some(at(now + wait)));
        now += wait;
    }
    assert_eq!(kids(&cache), ["1", "2"]);
    // One success, and the failures are forgotten.
    turn(&mut cache, now, Ok(KEYS));
    assert_eq!(cache.next(), Some(at(now + 1200)));
    turn(&mut cache, now + 1200, Err("status 503"));
    assert_eq!(cache.next(), Some(at(now + 1260)));
}

#[test]
fn a_source_without_keys_is_asked_soon_again() {
    let mut cache = wanting(&["a"]);
    let mut now = 0;
    for wait in [1, 2, 4, 8, 16, 32, 60, 60] {
        turn(&mut cache, now, Err("refused"));
        assert_eq!(cache.next(), Some(at(now + wait)));
        now += wait;
    }
    assert_eq!(cache.keys(&source("a")), None);
    assert_eq!(turn(&mut cache, now, Ok(KEYS)).changed, [source("a")]);
}

#[test]
fn a_source_that_hangs_is_given_up_and_its_late_answer_does_not_count() {
    let mut cache = wanting(&["a"]);
    let fetch = only(&cache.step(at(0)));
    assert_eq!(fetch.deadline, at(5));
    assert_eq!(cache.next(), Some(at(5)));
    assert_eq!(cache.step(at(4)), Step::default());
    let step = cache.step(at(5));
    assert_eq!(step.failures, [(source("a"), "no answer within 5s".to_owned())]);
    assert_eq!(
        cache.answer(at(5), &fetch.source, fetch.attempt, Ok(KEYS.as_bytes())),
        Step::default()
    );
    assert_eq!(cache.keys(&source("a")), None);
    // The next attempt counts.
    assert_eq!(turn(&mut cache, 6, Ok(KEYS)).changed, [source("a")]);
}

#[test]
fn lies_are_not_keys() {
    let large = format!(r#"{{"keys":[{{"kty":"RSA","n":"{}"}}]}}"#, "A".repeat(1 << 20));
    let deep = format!("{}{}", "[".repeat(5000), "]".repeat(5000));
    for (body, expected) in [
        ("<html>", "not JSON"),
        ("{}", "has no list keys"),
        (r#"{"keys":{}}"#, "has no list keys"),
        (r#"{"keys":[]}"#, "without keys"),
        (r#"{"keys":["secret"]}"#, "key 0: a key is a JSON object"),
        (deep.as_str(), "not JSON"),
        (large.as_str(), "larger than 1048576 bytes"),
    ] {
        let mut cache = wanting(&["a"]);
        turn(&mut cache, 0, Ok(KEYS));
        let step = turn(&mut cache, 1200, Ok(body));
        assert!(step.failures[0].1.contains(expected), "{:?}", step.failures);
        assert_eq!(kids(&cache), ["1", "2"]);
    }
    let mut cache = wanting(&["a"]);
    let fetch = only(&cache.step(at(0)));
    let step = cache.answer(at(0), &fetch.source, fetch.attempt, Ok(&[0xff, 0xfe]));
    assert_eq!(step.failures[0].1, "the answer is not text");
}

#[test]
fn an_issuer_says_where_its_keys_are() {
    let issuer = |name: &str| Source {
        issuer: name.to_owned(),
        uri: String::new(),
    };
    let mut cache = Cache::default();
    cache.want(at(0), [(issuer("https://i/"), at(5))]);
    let first = only(&cache.step(at(0)));
    assert_eq!(first.url, "https://i/.well-known/openid-configuration");
    let body = r#"{"jwks_uri":"https://i/k"}"#;
    let second = only(&cache.answer(at(2), &first.source, first.attempt, Ok(body.as_bytes())));
    assert_eq!((second.url.as_str(), second.deadline), ("https://i/k", at(5)));
    let step = cache.answer(at(3), &second.source, second.attempt, Ok(KEYS.as_bytes()));
    assert_eq!(step.changed, [issuer("https://i/")]);
    // The next time it is asked again: it may have moved.
    assert_eq!(only(&cache.step(at(1203))).url, first.url);

    for (body, expected) in [
        (
            r#"{"jwks_uri":"file:///etc/passwd"}"#,
            "is not an address of http or https",
        ),
        ("{}", "has no jwks_uri"),
        ("nothing", "is not JSON"),
    ] {
        let mut cache = Cache::default();
        cache.want(at(0), [(issuer("https://i"), at(5))]);
        let step = turn(&mut cache, 0, Ok(body));
        assert!(step.failures[0].1.contains(expected), "{:?}", step.failures);
        assert_eq!(step.fetches, []);
    }
    let mut cache = Cache::default();
    cache.want(at(0), [(issuer("somebody@example.com"), at(5))]);
    let step = cache.step(at(0));
    assert_eq!(step.fetches, []);
    assert!(step.failures[0].1.contains("is not an address of http or https"));
}

#[test]
fn few_are_fetched_at_a_time_and_those_without_keys_first() {
    let limits = Limits {
        fetches_max: 4,
        ..Limits::default()
    };
    let mut cache = Cache::new(limits);
    cache.want(at(0), [(source("a"), at(5))]);
    turn(&mut cache, 0, Ok(KEYS));
    cache.want(at(1200), ["b", "c", "d"].map(|name| (source(name), at(5))));
    let step = cache.step(at(1200));
    let names: Vec<&str> = step.fetches.iter().map(|fetch| fetch.source.issuer.as_str()).collect();
    // Half of the places are for those that are known to answer.
    assert_eq!(names, ["b", "c", "a"]);
    assert_eq!(cache.step(at(1200)), Step::default());
    // Nothing to be done before one of them has answered, or is given up.
    assert_eq!(cache.next(), Some(at(1205)));
    let first = &step.fetches[0];
    cache.answer(at(1201), &first.source, first.attempt, Ok(KEYS.as_bytes()));
    assert_eq!(only(&cache.step(at(1201))).source, source("d"));
}

#[test]
fn sources_that_hang_keep_neither_those_that_answer_nor_the_processor_busy() {
    let limits = Limits {
        fetches_max: 4,
        refresh_interval: at(60),
        ..Limits::default()
    };
    let mut cache = Cache::new(limits);
    let good = source("good");
    let hanging: Vec<Source> = (0..50).map(|number| source(&format!("hangs{number}"))).collect();
    cache.want(at(0), [(good.clone(), at(5))]);
    let (mut now, mut answers, mut failed) = (at(0), Vec::new(), 0);
    let mut steps = 0;
    while now < at(3600) {
        let all = hanging.iter().cloned().chain([good.clone()]);
        cache.want(now, all.map(|source| (source, at(5))).filter(|_| steps > 0));
        steps += 1;
        let of_good = cache.step(now).fetches.into_iter().find(|fetch| fetch.source == good);
        if let Some(fetch) = of_good {
            // Once in a while it fails as well, and is no worse off for that.
            let fails = answers.len() % 10 == 9 && failed < answers.len() / 9;
            let answer = if fails {
                Err("status 503".to_owned())
            } else {
                Ok(KEYS.as_bytes())
            };
            failed += usize::from(fails);
            cache.answer(now, &fetch.source, fetch.attempt, answer);
            answers.extend((!fails).then_some(now));
            // The place that it had may be another's now.
            continue;
        }
        let next = cache.next().expect("there is always something to be done");
        assert!(next > now, "at {now:?} the next moment is {next:?}");
        now = next;
    }
    // Every minute; after a failure the next try is a minute later, and waits for one that hangs at most.
    let longest = answers.windows(2).map(|two| two[1] - two[0]).max();
    assert!(longest <= Some(at(60 + 60 + 5)), "{longest:?}");
    assert!(
        answers.len() >= 50 && failed >= 5,
        "{} answers, {failed} failures",
        answers.len()
    );
    // Each hangs for five seconds, two at a time, so that there are some 1,400 ends in an hour.
    assert!(steps < 5000, "{steps} steps");
}

#[test]
fn what_nobody_wants_or_vouches_for_is_forgotten() {
    let week = 7 * 24 * 3600;
    let mut cache = wanting(&["a"]);
    turn(&mut cache, 0, Ok(KEYS));
    // Still asked for, but never refreshed.
    let mut now = 1200;
    while now < week {
        turn(&mut cache, now, Err("gone"));
        cache.want(at(now), [(source("a"), at(5))]);
        now = cache.next().expect("a moment").as_secs();
    }
    let step = cache.step(at(week));
    assert_eq!(step.changed, [source("a")]);
    assert_eq!(cache.keys(&source("a")), None);
    // No longer asked for.
    let mut cache = wanting(&["a"]);
    turn(&mut cache, 0, Ok(KEYS));
    assert_eq!(cache.step(at(week)), Step::default());
    assert_eq!((cache.keys(&source("a")), cache.next()), (None, None));
}

#[test]
fn secrets_of_machines_are_out_of_reach() {
    for (address, expected) in [
        ("10.0.0.1", true),
        ("127.0.0.1", true),
        ("169.254.169.254", false),
        ("::ffff:169.254.169.254", false),
        ("100.100.100.200", false),
        ("fe80::1", false),
        ("fd00:ec2::254", false),
        ("2001:db8::1", true),
    ] {
        assert_eq!(
            is_reachable(address.parse().expect("an address")),
            expected,
            "{address}"
        );
    }
}

#[test]
fn keys_that_a_proxy_would_not_take_are_left_out() {
    let modulus = |bytes: usize| format!("v{}8", "_".repeat(bytes * 4 / 3));
    let points: [(&str, &str, &str); 3] = [
        (
            "P-256",
            "ko1lwHW00L8i7_o53HbQYPZDSYr_bAy_tZMFNo3BEYk",
            "nh4FbIIgVgVIoi2TDlpc8zscaMeBfB_-TXcRIARCwgw",
        ),
        (
            "P-384",
            "BcdM9uJifE7y8W-MMy9IV8nCZAReUiAxwbC6a4L8lgyeS_33ztwtlPNUuXFNVjzs",
            "1tWer5qWsfrJvs89KBCw16l2ncGTWmrKoe3V3HXCVASes3I_5gY176orNQIK0VG8",
        ),
        (
            "P-521",
            "Aa_uHm94wr8qHZLfT7MRQ4h0LfdHXiYPlrGFyiBimVmtWYR9R6Gs7R5DJl5e0jCoy2TGWQoCIpDNKP2qwUF8a7US",
            "AUm9l3Cy83SMN3nxjcaxLPX3AkzzwUY-N7IFVFUHrSXwyIL_1U2j3bPDrRYRkOBXK02IX4yf3WKjYuQzAoWN-H3Z",
        ),
    ];
    let mut cases = vec![
        (
            json!({ "kty": "RSA", "n": modulus(256), "e": "AQAB", "d": "secret" }),
            None,
        ),
        (
            json!({ "kty": "RSA", "n": modulus(256), "e": "AQAB", "alg": "HS256" }),
            Some("the algorithm \"HS256\" is not one for such a key"),
        ),
        (
            json!({ "kty": "RSA", "n": "AQAB", "e": "AQAB" }),
            Some("an RSA key of 17 bits"),
        ),
        (
            json!({ "kty": "RSA", "n": modulus(2048), "e": "AQAB" }),
            Some("an RSA key of 16392 bits"),
        ),
        (
            json!({ "kty": "RSA", "n": modulus(256), "e": "AA" }),
            Some("the member e is not an exponent"),
        ),
        (
            json!({ "kty": "RSA", "n": "not base64", "e": "AQAB" }),
            Some("the member n is not base64url"),
        ),
        (json!({ "kty": "RSA", "e": "AQAB" }), Some("it has no member n")),
        (
            json!({ "kty": "EC", "crv": "P-100" }),
            Some("the curve \"P-100\" is not one of P-256, P-384, P-521"),
        ),
        (
            json!({ "kty": "OKP", "crv": "X25519", "x": "" }),
            Some("it is not an Ed25519 key of 32 bytes"),
        ),
        (json!({ "kty": "oct", "k": 7 }), Some("the member k must be a text")),
        (
            json!({ "kty": "new" }),
            Some("the type \"new\" is not one of RSA, EC, OKP, oct"),
        ),
    ];
    for (curve, x, y) in points {
        cases.push((json!({ "kty": "EC", "crv": curve, "x": x, "y": y }), None));
        // Another point than those of the curve.
        let elsewhere = match curve {
            "P-256" => "it is no point of P-256",
            "P-384" => "it is no point of P-384",
            _ => "it is no point of P-521",
        };
        cases.push((json!({ "kty": "EC", "crv": curve, "x": y, "y": x }), Some(elsewhere)));
    }
    for (key, problem) in cases {
        let made = usable(&json!({ "keys": [key, { "kty": "oct", "k": "AA" }] }).to_string());
        let problems: Vec<String> = problem.map(|problem| format!("key 0: {problem}")).into_iter().collect();
        assert_eq!(made.problems, problems, "{key}");
        let kept: Value = serde_json::from_str(&made.keys.expect("keys")).expect("JSON");
        assert_eq!(kept["keys"].as_array().map(Vec::len), Some(2 - problems.len()), "{key}");
        assert!(kept["keys"][0].get("d").is_none(), "what is private stays here");
    }
    // A single key is a set of one.
    assert!(usable(r#"{"kty":"oct","k":"AA"}"#).keys.is_some());
}
