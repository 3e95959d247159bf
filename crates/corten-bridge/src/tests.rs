//! What is refused before anything is touched; attaching is tested with the binary, in `tests/`.

use serde_json::{Value, json};

use super::run;

fn call(variables: &[(&str, &str)], input: &str) -> Result<Option<Value>, Value> {
    let variables: Vec<(String, String)> = variables.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
    run(
        &|name| {
            variables
                .iter()
                .find(|(key, _)| key == name)
                .map(|(_, value)| value.clone())
        },
        input.as_bytes(),
    )
}

const CONFIG: &str = r#"{"cniVersion":"1.0.0","name":"n","type":"corten-bridge","bridge":"pods0","dir":"/nowhere","range4":"10.244.1.0/24"}"#;

#[track_caller]
fn refused(variables: &[(&str, &str)], input: &str, code: u32, part: &str) {
    let error = call(variables, input).unwrap_err();
    assert_eq!(error["code"], code, "{error}");
    assert!(error["msg"].as_str().unwrap().contains(part), "{error}");
}

#[test]
fn a_call_that_cannot_be_meant_is_refused_with_the_interfaces_code() {
    let add = &[
        ("CNI_COMMAND", "ADD"),
        ("CNI_CONTAINERID", "a"),
        ("CNI_IFNAME", "eth0"),
        ("CNI_NETNS", "/no/such"),
    ];
    refused(&[], CONFIG, 4, "CNI_COMMAND");
    refused(&[("CNI_COMMAND", "PLEASE")], CONFIG, 4, "PLEASE");
    refused(add, "{", 6, "cannot read");
    refused(add, &CONFIG.replace("1.0.0", "9.0.0"), 1, "9.0.0");
    refused(add, &CONFIG.replace("/24", "/31"), 7, "10.244.1.0/31");
    refused(&add[..3], CONFIG, 4, "CNI_NETNS is not set");
    refused(&[add[0], add[2], add[3]], CONFIG, 4, "CNI_CONTAINERID is not set");
    refused(
        &[add[0], ("CNI_CONTAINERID", "../a"), add[2], add[3]],
        CONFIG,
        4,
        "malformed",
    );
}

#[test]
fn versions_are_told() {
    let answer = call(&[("CNI_COMMAND", "VERSION")], "").unwrap().unwrap();
    assert_eq!(
        answer["supportedVersions"],
        json!(["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"])
    );
}
