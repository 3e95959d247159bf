//! Paths, values of the command line, and merging.

use serde_json::json;

use super::path::{Step, parse, put, remove, setting};
use super::*;

#[test]
fn maps_are_merged_and_the_rest_is_replaced() {
    let mut base = json!({"a": {"b": 1, "c": [1, 2]}, "d": true});
    merge(&mut base, &json!({"a": {"c": [3], "e": null}, "d": false}));
    assert_eq!(base, json!({"a": {"b": 1, "c": [3], "e": null}, "d": false}));
}

#[test]
fn settings_have_the_types_that_istioctl_gives_them() {
    for (argument, expected) in [
        ("a=true", json!(true)),
        ("a=1", json!(1)),
        ("a=1.5", json!(1.5)),
        ("a=1.30", json!("1.30")),
        ("a=007", json!("007")),
        ("a=null", json!(null)),
        ("a=x=y", json!("x=y")),
        ("a=", json!("")),
        ("a=[1, b]", json!([1, "b"])),
        ("a={b: {c: 1}}", json!({"b": {"c": 1}})),
        ("a=[unclosed", json!("[unclosed")),
    ] {
        assert_eq!(setting(argument, false).unwrap().1, expected, "{argument}");
    }
    assert_eq!(setting("a=true", true).unwrap().1, json!("true"));
    assert!(setting("a", false).unwrap_err().to_string().contains("path=value"));
}

#[test]
fn paths_lead_into_maps_and_lists() {
    let name = |name: &str| Step::Name(name.to_owned());
    assert_eq!(
        parse(r"a.b\.c[1].d.[e:f].[30m]").unwrap(),
        [
            name("a"),
            name("b.c"),
            Step::Index(1),
            name("d"),
            Step::Where("e".into(), "f".into()),
            Step::Is("30m".into())
        ]
    );
    for wrong in ["", ".a", "a.", "a..b", "a[", "a[]", "a\\"] {
        assert!(parse(wrong).is_err(), "{wrong:?}");
    }
    let mut tree = json!({"l": [{"n": "x", "v": 1}]});
    let mut set = |path: &str, value| put(&mut tree, &parse(path).unwrap(), value);
    set("l.[n:x].v", json!(2)).unwrap();
    set("l[1].n", json!("y")).unwrap();
    set("m.n", json!(1)).unwrap();
    assert!(set("l[7].n", json!(0)).unwrap_err().contains("2 elements"));
    assert!(set("l.n", json!(0)).unwrap_err().contains("cannot be set"));
    assert!(remove(&mut tree, &parse("l.[n:x]").unwrap()));
    assert!(!remove(&mut tree, &parse("l.[n:x].v").unwrap()));
    assert_eq!(tree, json!({"l": [{"n": "y"}], "m": {"n": 1}}));
}
