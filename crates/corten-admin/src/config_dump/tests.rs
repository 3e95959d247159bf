use serde_json::json;

use super::*;

#[track_caller]
fn parse(value: &Value) -> Dump {
    Dump::parse(value.to_string().as_bytes()).expect("a dump")
}

#[test]
fn lists_may_be_maps_and_nulls_are_absent() {
    let workload = json!({"uid": "u", "name": "a", "waypoint": null, "capacity": 2, "unheard": {"of": 1}});
    let listed = parse(&json!({"workloads": [workload], "services": null}));
    assert_eq!(listed, parse(&json!({"workloads": {"10.0.0.1": workload}})));
    assert_eq!(
        (listed.workloads[0].name.as_str(), listed.workloads[0].capacity),
        ("a", 2)
    );
    let state = json!({"info": {"name": "a"}, "connections": {"inbound": [{"src": "1.1.1.1:1", "originalDst": null}]}});
    for key in ["workloadState", "workloadstate"] {
        let dump = parse(&json!({key: {"uid": state}}));
        assert_eq!(dump.workload_state["uid"].connections.inbound[0].src, "1.1.1.1:1");
    }
}

#[test]
fn what_is_no_dump_is_refused() {
    let refusal = |text: &str| Dump::parse(text.as_bytes()).expect_err("no dump").to_string();
    assert_eq!(refusal("<html>"), "it is not JSON");
    assert!(refusal(r#"{"configs": []}"#).contains("another program"));
    assert!(refusal("[]").contains("another program"));
    assert!(refusal(r#"{"workloads": [1]}"#).contains("the form"));
}

#[test]
fn ranges_are_read_in_both_forms() {
    let dump =
        parse(&json!({"services": [{"cidrVips": ["net/10.0.0.0/8", {"network": "net", "cidr": "10.0.0.0/8"}]}]}));
    let ranges = &dump.services[0].cidr_vips;
    assert_eq!(ranges[0], ranges[1]);
    assert_eq!(ranges[0].cidr, "10.0.0.0/8");
}

#[test]
fn patterns_keep_their_form() {
    let rules = json!([[[{"principals": [{"Exact": "a"}, {"Prefix": "b"}, {"Suffix": "c"}, {"Presence": []}]}]]]);
    let dump = parse(&json!({"policies": [{"name": "p", "rules": rules}]}));
    assert_eq!(serde_json::to_value(&dump.policies[0].rules).expect("JSON"), rules);
}

#[test]
fn what_is_written_can_be_read() {
    let dump = parse(&json!({
        "workloads": [{"uid": "u", "workloadIps": ["10.0.0.1"], "waypoint": {"destination": "/10.0.0.9", "hboneMtlsPort": 15008},
            "networkMode": "HostNetwork", "services": ["a/b"]}],
        "services": [{"name": "s", "ports": {"80": 8080}, "endpoints": {"u": {"workloadUid": "u", "port": {"80": 8080}, "status": "Healthy"}}}],
        "policies": [{"name": "p", "dryRun": true}],
        "certificates": [{"identity": "spiffe://a/ns/b/sa/c", "state": "Available", "certChain": [{"serialNumber": "1"}]}],
        "workloadState": {"u": {"state": "Up", "info": {"name": "a"}}},
    }));
    let written = serde_json::to_value(&dump).expect("JSON");
    assert_eq!(written["workloads"][0]["services"], json!(["a/b"]));
    assert_eq!(parse(&written), dump);
}
