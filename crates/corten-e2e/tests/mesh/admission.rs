//! What is wrong with an object of the mesh is said when it is written, by the server.

use corten_e2e::{Namespace, Output, eventually};

use super::support::SETTLING;

/// A policy for callers from some addresses. The definition takes any text for an address; the validator does not.
fn policy(name: &str, block: &str) -> String {
    format!(
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: {name}}}\n\
         spec:\n  selector: {{matchLabels: {{app: nothing}}}}\n  rules:\n  - from:\n    - source: {{ipBlocks: [\"{block}\"]}}\n"
    )
}

/// Applies a policy, judged by the server alone.
#[track_caller]
fn write(ns: &Namespace<'_>, namespace: &str, name: &str, block: &str) -> Output {
    let file = ns.file(&policy(name, block));
    ns.corten_in(namespace, "apply", &["--validate=false", "-f", &file])
}

/// Waits until what nobody has judged is not let through any more.
#[track_caller]
fn closed(ns: &Namespace<'_>) {
    eventually(SETTLING, || {
        let configuration = ns.get("validatingwebhookconfiguration/istiod-default-validator");
        let policy = |index: usize| configuration["webhooks"][index]["failurePolicy"].clone();
        if policy(0) == "Fail" && policy(1) == "Ignore" {
            Ok(())
        } else {
            Err(format!("{configuration:#}"))
        }
    });
}

pub(crate) fn invalid_objects_are_refused(ns: &Namespace<'_>) {
    closed(ns);
    let refused = write(ns, ns.name(), "odd", "everywhere");
    assert_ne!(refused.code, Some(0), "{}", refused.stdout);
    for part in [
        "admission webhook \"validation.istio.io\" denied the request",
        "spec.rules[0].from[0].source.ipBlocks",
        "everywhere",
    ] {
        assert!(refused.stderr.contains(part), "{part:?} is not in {}", refused.stderr);
    }
    write(ns, ns.name(), "plain", "10.0.0.0/8").ok();
    // What is not enforced as written is accepted, and said.
    let by_method = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: by-method}\n\
        spec: {selector: {matchLabels: {app: nothing}}, rules: [{to: [{operation: {methods: [GET]}}]}]}\n";
    let warned = ns.corten("apply", &["--validate=false", "-f", &ns.file(by_method)]);
    assert_eq!(warned.code, Some(0), "{}", warned.stderr);
    assert!(
        warned
            .stderr
            .contains("Warning: spec.rules[0].to[0].operation.methods: a node proxy sees no requests"),
        "{}",
        warned.stderr
    );
    // What was right can be made wrong no more than what is new.
    assert_ne!(write(ns, ns.name(), "plain", "10.0.0.0/99").code, Some(0));
    // The control plane's own namespace is judged as well.
    assert_ne!(write(ns, "istio-system", "odd", "everywhere").code, Some(0));
}

pub(crate) fn nobody_validates(ns: &Namespace<'_>) {
    closed(ns);
    let scale = |replicas: u32| {
        let file = ns.file(&format!(
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: istiod}}\nspec: {{replicas: {replicas}}}\n"
        ));
        ns.corten_in("istio-system", "apply", &["--force-conflicts", "-f", &file])
            .ok();
    };
    scale(0);
    eventually(SETTLING, || {
        let refused = write(ns, ns.name(), "later", "10.0.0.0/8");
        if refused.code != Some(0)
            && refused
                .stderr
                .contains("failed calling webhook \"validation.istio.io\"")
        {
            Ok(())
        } else {
            Err(format!("{}{}", refused.stdout, refused.stderr))
        }
    });
    write(ns, "istio-system", "unblocked", "10.0.0.0/8").ok();
    // Objects of others are nobody's business here.
    ns.apply("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: plain}\n");
    scale(1);
    eventually(SETTLING, || match write(ns, ns.name(), "later", "10.0.0.0/8") {
        written if written.code == Some(0) => Ok(()),
        refused => Err(refused.stderr),
    });
}
