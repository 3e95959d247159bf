//! Checks of single values and a few whole objects, as data; Istio's own tables are run by the conformance harness.

use super::{object, text, url};
use crate::decode::objects;

#[track_caller]
fn check(check: fn(&str) -> text::Refusal, good: &[&str], bad: &[&str]) {
    for value in good {
        assert_eq!(check(value), Ok(()), "{value}");
    }
    for value in bad {
        assert!(check(value).is_err(), "{value}");
    }
}

#[test]
fn single_values() {
    check(
        text::fqdn,
        &["a", "a.b-c.d1", "a.b.", "A.COM"],
        &["", ".", "a..b", "-a.b", "a_b.c", "1.2.3.4", "*.a", "a.12"],
    );
    check(
        text::wildcard_domain,
        &["*", "*.a", "*-x.a.b", "12", "a."],
        &["", "a.*", "**.a", "*.12", "a.*.b"],
    );
    check(
        text::ip_subnet,
        &["10.0.0.0/8", "::/0", "::1", "fe80::1%eth0"],
        &["10.0.0.0/33", "10.0.0.0/08", "/8", "a/8", "10.0.0.1/"],
    );
    check(text::trust_domain, &["a", "a.b", "a.b."], &["", ".", "a..b", "a/b"]);
    check(
        text::regex,
        &["", "^/a/{id}$", r"\p{L}{2,3}", "a{2}", r"x\{"],
        &["*", "(", "(?=a)", "[a"],
    );
    check(
        text::header_value,
        &["", "a", "100%%", "%REQ(A)%", "%DYNAMIC([\"a\", \"b\"])% x"],
        &["%", "a%b", "%REQ(A", "a\u{1}b"],
    );
    check(
        text::proxy_address,
        &["a:1", "[::1]:80", "1.2.3.4:65535"],
        &["a", "a:0", "::1:80", "a:b", ":80"],
    );
}

#[test]
fn urls() {
    check(
        url::http,
        &["http://a", "https://a.b:443/c?d#e"],
        &["", "a", "ftp://a", "http://[::1", "http://a:b/", "http://a/%zz"],
    );
    check(
        url::module,
        &["oci://a/b:1", "a.b/c:1", "/path", "file:///a", "https://a/b"],
        &["", "ftp://a", "a.b:80/c", "\u{7f}"],
    );
}

#[track_caller]
fn check_object(text: &str, expected: &[&str]) {
    let (found, diagnostics) = objects("f", text);
    assert_eq!(diagnostics, []);
    let shown: Vec<String> = found.iter().flat_map(object).map(|d| d.to_string()).collect();
    assert_eq!(shown, expected);
}

#[test]
fn findings_stand_where_the_field_stands() {
    check_object(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: a, namespace: b}\nspec:\n  hosts: [x.y]\n  http:\n  - rout: []\n    match:\n    - port: 70000\n      uri: {prefix: /}\n    timeout: 1us\n    route:\n    - destination: {host: '*'}\n",
        &[
            "f:7:5: warning CRT0005: VirtualService b/a: spec.http[0].rout: unknown field; did you mean route?",
            "f:9:13: error CRT0007: VirtualService b/a: spec.http[0].match[0].port: 70000 is not between 0 and 65535",
            "f:13:21: error IST0106: VirtualService b/a: spec.http[0].route[0].destination.host: '*' is not a destination; name a host",
            "f:11:5: error IST0106: VirtualService b/a: spec.http[0].timeout: 0.000001s is shorter than 1ms",
        ],
    );
    check_object(
        "apiVersion: networking.istio.io/v2\nkind: Gateway\nmetadata: {name: a}\nspec: {servers: 5}\n",
        &[
            "f:4:17: error CRT0006: Gateway a: spec.servers: a list expected, this is a number",
            "f:1:1: error CRT0010: Gateway a: apiVersion: no such version of Gateway; write networking.istio.io/v1 or v1alpha3 or v1beta1",
        ],
    );
    check_object("apiVersion: example.com/v1\nkind: Thing\nmetadata: {name: a}\n", &[]);
}
