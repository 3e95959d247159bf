//! Rules, their scopes, their messages, and the functions they may call.

use super::*;
use serde_json::json;

#[track_caller]
fn run(property: Value, new: Value, old: Option<Value>) -> Report {
    let schema = json!({"type": "object", "properties": {"f": property}});
    let schema = Schema::parse(&schema).unwrap();
    evaluate(&schema, &json!({"f": new}), old.map(|old| json!({"f": old})).as_ref())
}

#[track_caller]
fn check(property: Value, new: Value, old: Option<Value>, expected: &[&str]) {
    let report = run(property, new, old);
    assert_eq!(report.warnings, [] as [String; 0]);
    assert_eq!(
        report.errors.iter().map(ToString::to_string).collect::<Vec<_>>(),
        expected
    );
}

fn object(rule: &str) -> Value {
    json!({"type": "object", "x-kubernetes-validations": [{"rule": rule, "message": "no"}], "properties": {
        "a": {"type": "integer"}, "b": {"type": "string"}, "n": {"type": "number"},
        "list": {"type": "array", "items": {"type": "string"}},
        "map": {"type": "object", "additionalProperties": {"type": "string"}},
        "with-dash": {"type": "string"}, "namespace": {"type": "string"},
        "time": {"type": "string", "format": "date-time"}, "wait": {"type": "string", "format": "duration"},
        "port": {"x-kubernetes-int-or-string": true}}})
}

/// The rule holds on the value.
#[track_caller]
fn holds(rule: &str, value: Value) {
    check(object(rule), value, None, &[]);
}

#[test]
fn rules_hold_or_not() {
    holds("self.a > 1 && self.b == 'x'", json!({"a": 2, "b": "x"}));
    check(
        object("self.a > 1"),
        json!({"a": 1}),
        None,
        &[r#"f: Invalid value: "object": no"#],
    );
    holds("has(self.a) && !has(self.b)", json!({"a": 1}));
    holds("self.n == 1.0", json!({"n": 1}));
    holds(
        "self.with__dash__dash == 'x' && self.__namespace__ == 'y'",
        json!({"with-dash": "x", "namespace": "y"}),
    );
    holds(
        "self.map['a-b'] == 'x' && self.map.all(k, k.size() == 3)",
        json!({"map": {"a-b": "x"}}),
    );
    holds(
        "self.time < timestamp('2026-01-02T00:00:00Z')",
        json!({"time": "2026-01-01T00:00:00Z"}),
    );
    holds("self.wait == duration('90s')", json!({"wait": "1m30s"}));
    holds(
        "type(self.port) == int ? self.port > 1 : self.port == 'x'",
        json!({"port": "x"}),
    );
    holds(
        "self.?b.orValue('none') == 'none' && optional.of(1).hasValue()",
        json!({}),
    );
}

#[test]
fn a_missing_key_refuses() {
    check(
        object("self.a > 1"),
        json!({}),
        None,
        &[r#"f: Invalid value: "object": no such key: a evaluating rule: no"#],
    );
}

#[test]
fn messages_reasons_and_paths() {
    let rule = |extra: Value| {
        let mut rule = json!({"rule": "self.a == 1"});
        rule.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        json!({"type": "object", "properties": {"a": {"type": "integer"}}, "x-kubernetes-validations": [rule]})
    };
    let value = || json!({"a": 2});
    check(
        rule(json!({})),
        value(),
        None,
        &[r#"f: Invalid value: "object": failed rule: self.a == 1"#],
    );
    check(
        rule(json!({"messageExpression": "'a is ' + string(self.a)", "message": "x"})),
        value(),
        None,
        &[r#"f: Invalid value: "object": a is 2"#],
    );
    check(
        rule(json!({"messageExpression": "self.missing", "message": "x"})),
        value(),
        None,
        &[r#"f: Invalid value: "object": x"#],
    );
    check(
        rule(json!({"reason": "FieldValueForbidden", "fieldPath": ".a"})),
        value(),
        None,
        &["f.a: Forbidden: failed rule: self.a == 1"],
    );
    check(
        rule(json!({"reason": "FieldValueRequired"})),
        value(),
        None,
        &["f: Required value: failed rule: self.a == 1"],
    );
}

#[test]
fn rules_stand_in_lists_and_maps() {
    let item = json!({"type": "string", "x-kubernetes-validations": [{"rule": "self.startsWith('a')"}]});
    check(
        json!({"type": "array", "items": item}),
        json!(["a", "b"]),
        None,
        &[r#"f[1]: Invalid value: "string": failed rule: self.startsWith('a')"#],
    );
    check(
        json!({"type": "object", "additionalProperties": item}),
        json!({"k": "b"}),
        None,
        &[r#"f[k]: Invalid value: "string": failed rule: self.startsWith('a')"#],
    );
}

#[test]
fn rules_about_changes() {
    let immutable =
        json!({"type": "string", "x-kubernetes-validations": [{"rule": "self == oldSelf", "message": "is fixed"}]});
    check(immutable.clone(), json!("a"), None, &[]);
    check(immutable.clone(), json!("a"), Some(json!("a")), &[]);
    check(
        immutable,
        json!("b"),
        Some(json!("a")),
        &[r#"f: Invalid value: "string": is fixed"#],
    );
    let optional = json!({"type": "string", "x-kubernetes-validations": [
        {"rule": "oldSelf.hasValue() || self == 'first'", "optionalOldSelf": true}]});
    check(optional.clone(), json!("first"), None, &[]);
    assert_eq!(run(optional.clone(), json!("x"), None).errors.len(), 1);
    check(optional, json!("x"), Some(json!("y")), &[]);
    // In a list of type map the old item is found by its key.
    let list = json!({"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"], "items": {
        "type": "object", "properties": {"k": {"type": "string"}, "v": {"type": "integer"}},
        "x-kubernetes-validations": [{"rule": "self.v >= oldSelf.v"}]}});
    let (old, new) = (
        json!([{"k": "a", "v": 2}, {"k": "b", "v": 1}]),
        json!([{"k": "b", "v": 1}, {"k": "a", "v": 1}]),
    );
    check(
        list,
        new,
        Some(old),
        &[r#"f[1]: Invalid value: "object": failed rule: self.v >= oldSelf.v"#],
    );
}

#[test]
fn functions_of_kubernetes() {
    for rule in [
        "[1, 2, 3].sum() == 6 && [3, 1].min() == 1 && [3, 1].max() == 3 && [1, 2].isSorted()",
        "['a', 'b', 'a'].indexOf('a') == 0 && ['a', 'b', 'a'].lastIndexOf('a') == 2",
        "'a,b'.split(',').size() == 2 && ['a', 'b'].join('-') == 'a-b' && 'AbC'.lowerAscii() == 'abc'",
        "'hello'.substring(1, 3) == 'el' && 'hello'.indexOf('l') == 2 && ' x '.trim() == 'x' && 'aa'.replace('a', 'b') == 'bb'",
        "'%s-%d'.format(['a', 1]) == 'a-1'",
        "'abc 123'.find('[0-9]+') == '123' && '1 2 3'.findAll('[0-9]', 2) == ['1', '2']",
        "url('https://u@a.b:80/p?x=1&x=2').getHost() == 'a.b:80' && url('https://a.b:80/p').getPort() == '80'",
        "url('https://[::1]:8/p').getHostname() == '::1' && url('http://a/p?x=1').getQuery()['x'] == ['1']",
        "isURL('https://a') && !isURL('a b') && url('/x').getEscapedPath() == '/x' && url('HTTP://a').getScheme() == 'http'",
        "quantity('1.5Gi').isGreaterThan(quantity('1G')) && quantity('100m').add(quantity('900m')).asInteger() == 1",
        "isQuantity('1Ki') && !isQuantity('x') && quantity('1k').compareTo(quantity('1000')) == 0 && quantity('2').sub(1).sign() == 1",
        "quantity('50e3').asInteger() == 50000 && quantity('500m').asApproximateFloat() == 0.5 && !quantity('1m').isInteger()",
        "isIP('::1') && !isIP('1') && ip('10.0.0.1').family() == 4 && ip('127.0.0.1').isLoopback() && ip.isCanonical('::1')",
        "cidr('10.0.0.0/8').containsIP('10.1.2.3') && cidr('10.0.0.0/8').containsCIDR('10.1.0.0/16') && isCIDR('::/0')",
        "cidr('10.1.2.3/8').masked() == cidr('10.0.0.0/8') && cidr('10.0.0.0/8').prefixLength() == 8",
        "string(ip('10.0.0.1')) == '10.0.0.1' && string(cidr('10.0.0.0/8').ip()) == '10.0.0.0'",
        "!format.dns1123Label().validate('a-b').hasValue() && format.dns1123Label().validate('A').hasValue()",
        "!format.named('uuid').value().validate('6ba7b810-9dad-11d1-80b4-00c04fd430c8').hasValue()",
        "sets.contains([1, 2], [1]) && sets.equivalent([1, 2], [2, 1]) && !sets.intersects([1], [2])",
        "[1, 2].map(x, x * 2) == [2, 4] && [1, 2].exists_one(x, x == 1) && [1, 2, 3].filter(x, x > 1).size() == 2",
    ] {
        holds(rule, json!({}));
    }
}

#[test]
fn rules_that_cannot_run_are_named() {
    for (rule, why) in [
        ("self.a.unheardOf()", "the function"),
        ("self.a >", "mismatched"),
        ("self.a", "it gives int instead of true or false"),
        ("unknown == 1", "Undeclared reference"),
        ("self.b + 1 == 2", "unsupported binary operator"),
    ] {
        let report = run(object(rule), json!({"a": 1, "b": "x"}), None);
        assert_eq!(report.errors, []);
        let [warning] = report.warnings.as_slice() else {
            panic!("{rule}: {:?}", report.warnings)
        };
        assert!(
            warning.contains(&format!("{rule:?} is not enforced here"))
                && warning.to_lowercase().contains(&why.to_lowercase()),
            "{warning}"
        );
    }
    let schema = Schema::parse(&object("self.unheardOf()")).unwrap();
    assert_eq!(warnings(&schema).len(), 1);
}

#[test]
fn monstrous_rules_do_no_harm() {
    for rule in [
        "(".repeat(5000),
        "!".repeat(9000),
        format!("{}1", "1+".repeat(4000)),
        format!("self{}", ".a".repeat(4000)),
    ] {
        let schema = Schema::parse(&object(&rule)).unwrap();
        evaluate(&schema, &json!({"a": 1}), None);
    }
}

#[test]
fn rules_that_would_run_for_ages_are_named_instead() {
    let rule = "self.list.all(a, self.list.all(b, self.list.all(c, a + b + c != '')))";
    let list = |length: usize| json!({"list": vec!["x"; length]});
    assert_eq!(run(object(rule), list(10), None), Report::default());
    let report = run(object(rule), list(10_000), None);
    let [warning] = report.warnings.as_slice() else {
        panic!("{:?}", report.warnings)
    };
    assert!(warning.ends_with("it could take too long on 10000 items"), "{warning}");
    // One loop after another is no loop inside of another.
    let rule = "self.list.all(a, a != '') && self.list.all(a, a != '') && self.list.filter(a, a != '').all(a, a != '')";
    assert_eq!(run(object(rule), list(2_000), None), Report::default());
}
