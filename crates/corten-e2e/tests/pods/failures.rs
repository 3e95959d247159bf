//! What cannot run says why, in the places where one looks: status, events, exit codes.

use corten_e2e::Namespace;

pub(crate) fn back_off(ns: &Namespace<'_>) {
    ns.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: {name: crashing}
spec:
  containers: [{name: app, image: host, command: [sh, -c, "echo oh; exit 3"]}]
"#,
    );
    ns.until(
        "pod/crashing",
        "/status/containerStatuses/0/state/waiting/reason",
        |reason| reason == "CrashLoopBackOff",
    );
    let status = ns.get("pod/crashing")["status"]["containerStatuses"][0].clone();
    assert_eq!(status["lastState"]["terminated"]["exitCode"], 3, "{status:#}");
    let message = status["state"]["waiting"]["message"].as_str().unwrap_or_default();
    assert!(message.starts_with("back-off "), "{message}");
    assert!(ns.corten("get", &["pods"]).ok().contains("CrashLoopBackOff"));
    assert_eq!(ns.logs(&["crashing"]), "oh\n");
    let events = ns.corten("get", &["events"]).ok();
    assert!(events.contains("Back-off restarting failed container app"), "{events}");
}

pub(crate) fn unmapped_image(ns: &Namespace<'_>) {
    ns.apply(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec: {containers: [{name: web, image: \"nginx:1.27\"}]}\n",
    );
    let at = "/status/containerStatuses/0/state/waiting";
    let waiting = ns.until("pod/web", at, |waiting| {
        ["ErrImagePull", "ImagePullBackOff"]
            .iter()
            .any(|reason| waiting["reason"] == *reason)
    });
    let events = ns.corten("get", &["events"]).ok();
    for part in [
        "give the container a command",
        "--image nginx=COMMAND",
        "corten.dev/echo",
    ] {
        assert!(
            waiting["message"]
                .as_str()
                .is_some_and(|message| message.contains(part))
                || events.contains(part),
            "{part}: {waiting} {events}"
        );
        assert!(events.contains(part), "{part}: {events}");
    }
}

pub(crate) fn missing_command(ns: &Namespace<'_>) {
    ns.apply("apiVersion: v1\nkind: Pod\nmetadata: {name: typo}\nspec: {containers: [{name: app, image: host, command: [slepe, \"1\"]}]}\n");
    let status = ns.until("pod/typo", "/status/containerStatuses/0", |status| {
        !status["lastState"]["terminated"].is_null() || !status["state"]["terminated"].is_null()
    });
    let text = status.to_string();
    assert!(
        text.contains("StartError") && text.contains("slepe") && text.contains("not found in $PATH"),
        "{status:#}"
    );
    let failed = ns.corten("exec", &["typo", "--", "true"]);
    assert_eq!(failed.code, Some(1), "{}", failed.stderr);
    // In a pod that runs, a command that does not exist is told from one that fails.
    ns.apply("apiVersion: v1\nkind: Pod\nmetadata: {name: well}\nspec: {terminationGracePeriodSeconds: 0, containers: [{name: app, image: host, command: [sleep, infinity]}]}\n");
    ns.wait("pod/well", "condition=Ready");
    let said = ns.corten("exec", &["well", "--", "slepe"]);
    assert!(
        said.stderr.contains("\"slepe\": executable file not found in $PATH"),
        "{}",
        said.stderr
    );
    assert_eq!(ns.corten("exec", &["well", "--", "sh", "-c", "exit 7"]).code, Some(7));
}
