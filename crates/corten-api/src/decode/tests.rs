//! What texts decode to, as data.

use serde_json::{Value, json};

use super::{documents, objects};

#[track_caller]
fn check(text: &str, expected: Value) {
    let (nodes, diagnostics) = documents("f", text);
    assert_eq!(diagnostics, [], "{text}");
    assert_eq!(
        Value::Array(nodes.iter().map(super::Node::to_value).collect()),
        expected,
        "{text}"
    );
}

#[track_caller]
fn check_problems(text: &str, documents_left: usize, expected: &[&str]) {
    let (nodes, diagnostics) = documents("f", text);
    let shown: Vec<String> = diagnostics.iter().map(ToString::to_string).collect();
    assert_eq!(shown, expected, "{text}");
    assert_eq!(nodes.len(), documents_left, "{text}");
}

#[test]
fn scalars_are_read_as_kubernetes_reads_them() {
    for (text, expected) in [
        ("yes", json!(true)),
        ("Off", json!(false)),
        ("n", json!(false)),
        ("~", json!(null)),
        ("'yes'", json!("yes")),
        ("nope", json!("nope")),
        ("010", json!(8)),
        ("0o10", json!(8)),
        ("0x1F", json!(31)),
        ("0b11", json!(3)),
        ("08", json!(8.0)),
        ("1_000", json!(1000)),
        ("-7", json!(-7)),
        ("+7", json!(7)),
        ("18446744073709551615", json!(18446744073709551615u64)),
        ("-9223372036854775808", json!(-9223372036854775808i64)),
        ("36893488147419103232", json!(36893488147419103232.0)),
        ("1.50", json!(1.5)),
        (".5", json!(0.5)),
        ("1e3", json!(1000.0)),
        ("1.2.3", json!("1.2.3")),
        ("10.0.0.0/8", json!("10.0.0.0/8")),
        ("5s", json!("5s")),
        ("-1.", json!(-1.0)),
        ("2001-01-01", json!("2001-01-01")),
        ("!!str 12", json!("12")),
        ("!!int '12'", json!(12)),
        ("!!binary aGVsbG8=", json!("hello")),
        ("!thing x", json!("x")),
        ("12:30:45", json!("12:30:45")),
    ] {
        check(&format!("a: {text}\n"), json!([{ "a": expected }]));
    }
}

#[test]
fn fractions_are_read_to_the_last_bit() {
    let exact = Value::from(7.000000000000001e56);
    check(&format!("[{exact}]"), json!([[exact]]));
}

#[test]
fn keys_become_strings() {
    check("1: a\non: b\n1.5: c\n", json!([{ "1": "a", "true": "b", "1.5": "c" }]));
}

#[test]
fn streams_have_any_number_of_documents() {
    check(
        "---\na: 1\n---\n# nothing\n---\n\n--- {b: 2}\n...\nc: 3\n---",
        json!([{"a": 1}, {"b": 2}, {"c": 3}]),
    );
    check("%YAML 1.2\n---\na: 1\n", json!([{"a": 1}]));
    check("\u{feff}a: 1\r\n---\r\nb: 2\r\n", json!([{"a": 1}, {"b": 2}]));
    check("a: |\n  x\n  ---\n  y\n", json!([{"a": "x\n---\ny\n"}]));
    check(
        "{\"a\": \"\\ud83d\\ude00\\/\"}\n\t{\"b\":\t[1, -2.5e1, true, null, {}, []]}",
        json!([{"a": "😀/"}, {"b": [1, -25.0, true, null, {}, []]}]),
    );
    check(
        "a:\n  b: [\n  x,\n\"y\"\n]\nc: 1\n",
        json!([{"a": {"b": ["x", "y"]}, "c": 1}]),
    );
    check(
        "a:\n  b:\n    c: \"x\n  y\n z\"\nd: 1\n",
        json!([{"a": {"b": {"c": "x y z"}}, "d": 1}]),
    );
    check("{a: 1, b: [x, 'y']}", json!([{"a": 1, "b": ["x", "y"]}]));
    check("", json!([]));
}

#[test]
fn anchors_and_merge_keys_are_resolved() {
    check(
        "a: &x {p: 1, q: 2}\nb: *x\n",
        json!([{"a": {"p": 1, "q": 2}, "b": {"p": 1, "q": 2}}]),
    );
    check(
        "a: &x {p: 1}\nb: &y {p: 2, q: 2}\nc:\n  r: 3\n  <<: [*x, *y]\n",
        json!([{"a": {"p": 1}, "b": {"p": 2, "q": 2}, "c": {"r": 3, "p": 1, "q": 2}}]),
    );
    check(
        "a: &x {p: 1}\nc: {<<: *x, p: 5}\n",
        json!([{"a": {"p": 1}, "c": {"p": 5}}]),
    );
    check("c: {'<<': 1}\n", json!([{"c": {"<<": 1}}]));
}

#[test]
fn what_is_wrong_costs_its_own_document() {
    check_problems(
        "a: [1\n---\nb: 2\n",
        1,
        &["f:2:1: error CRT0001: not YAML: while parsing a flow sequence, expected ',' or ']'"],
    );
    check_problems(
        "a: 1\nb: 2\na: 3\n",
        1,
        &["f:3:1: error CRT0002: key 'a' is already given at line 1; remove one of them"],
    );
    check_problems(
        "{\"a\": 1, \"a\": 2}",
        1,
        &["f:1:10: error CRT0002: key 'a' is already given at line 1; remove one of them"],
    );
    check_problems(
        "a: .inf\n",
        1,
        &["f:1:4: error CRT0001: .inf cannot be represented in JSON; quote it if a string is meant"],
    );
    check_problems(
        "? [a]\n: 1\nb: 2\n",
        1,
        &["f:1:3: error CRT0001: a list cannot be a key; write a string"],
    );
    check_problems(
        "a: &x [*x]\n",
        0,
        &["f:1:8: error CRT0001: an alias inside the very value it stands for"],
    );
    check_problems(
        "a: *x\n",
        0,
        &["f:1:4: error CRT0001: not YAML: while parsing node, found unknown anchor"],
    );
    check_problems(
        "b: {<<: 5}\n",
        1,
        &["f:1:5: error CRT0001: '<<' merges mappings, this is a number"],
    );
    check_problems("a: {\"b\": tru}\n---\n{\"b\": \"x\n\"}", 2, &[]);
}

#[test]
fn bombs_are_refused() {
    let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for i in 1..12 {
        let previous = vec![format!("*a{}", i - 1); 10].join(", ");
        text += &format!("a{i}: &a{i} [{previous}]\n");
    }
    let (nodes, diagnostics) = documents("f", &text);
    assert!(nodes.is_empty());
    assert_eq!(diagnostics.first().map(|d| d.code), Some(super::Code::LIMIT));

    for deep in [
        "[".repeat(100_000),
        "{\"a\":".repeat(100_000),
        "- ".repeat(100_000),
        format!("a: {}", "[".repeat(100_000)),
    ] {
        let (nodes, diagnostics) = documents("f", &deep);
        assert!(nodes.is_empty());
        assert!(diagnostics.iter().any(super::Diagnostic::is_error));
    }
}

#[test]
fn objects_carry_their_names_and_places() {
    let text = "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Pod\n  metadata: {name: a, namespace: ns}\n  spec:\n    nodeName: x\n- 5\n---\nkind: Pod\n---\napiVersion: v1\nkind: PodList\nitems: []\n";
    let (found, diagnostics) = objects("f.yaml", text);
    assert_eq!(
        found.iter().map(|o| o.reference.to_string()).collect::<Vec<_>>(),
        ["Pod ns/a"]
    );
    let shown: Vec<String> = diagnostics.iter().map(ToString::to_string).collect();
    assert_eq!(
        shown,
        [
            "f.yaml:9:3: error CRT0004: a Kubernetes object is a mapping, this is a number",
            "f.yaml:11:1: error CRT0004: a Kubernetes object needs the field apiVersion",
        ]
    );
    let pod = &found[0];
    assert_eq!(pod.root.locate("spec.nodeName").to_string(), "8:5");
    assert_eq!(pod.root.locate("spec.containers[0].name").to_string(), "7:3");
}

#[test]
fn names_that_are_no_texts_are_said() {
    let text = "apiVersion: v1\nkind: Service\nmetadata:\n  name: 12\n  namespace: n\n---\napiVersion: v1\nkind: Pod\nmetadata: {name: \"n\", namespace: 'yes'}\n";
    let (found, diagnostics) = objects("f.yaml", text);
    assert_eq!(found.len(), 2);
    let shown: Vec<String> = diagnostics.iter().map(ToString::to_string).collect();
    assert_eq!(
        shown,
        [
            "f.yaml:4:3: error CRT0006: Service: metadata.name: a string (put the value in quotes) expected, this is a number",
            "f.yaml:5:3: error CRT0006: Service: metadata.namespace: a string (put the value in quotes) expected, this is a boolean",
        ]
    );
}
