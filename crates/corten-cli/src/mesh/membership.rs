//! Whether a pod is in the mesh, and why.

use serde_json::Value;

/// Whether a pod is in the mesh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Membership {
    /// Its node's proxy takes its connections.
    InMesh,
    /// It has a proxy of its own.
    Sidecar,
    /// It should be, and is not yet.
    Pending(&'static str),
    /// It is to be left out, for this reason.
    Outside(String),
}

impl Membership {
    /// Of a pod in a namespace, both as objects.
    pub(crate) fn of(pod: &Value, namespace: Option<&Value>) -> Membership {
        let outside = |reason: &str| Membership::Outside(reason.to_owned());
        let annotation = |key: &str| pod["metadata"]["annotations"][key].as_str();
        let mode = |object: &Value| {
            object["metadata"]["labels"]["istio.io/dataplane-mode"]
                .as_str()
                .map(str::to_owned)
        };
        let redirection = annotation("ambient.istio.io/redirection");
        if redirection == Some("enabled") {
            return Membership::InMesh;
        }
        if annotation("sidecar.istio.io/status").is_some() {
            return Membership::Sidecar;
        }
        let namespace_name = pod["metadata"]["namespace"].as_str().unwrap_or_default();
        let (own, wider) = (mode(pod), namespace.and_then(mode));
        match (own.as_deref(), wider.as_deref()) {
            (Some("none"), _) => return outside("its label istio.io/dataplane-mode=none leaves it out"),
            (Some("ambient"), _) | (_, Some("ambient")) => {}
            _ => {
                return Membership::Outside(format!(
                    "neither it nor its namespace has the label istio.io/dataplane-mode=ambient (`corten label namespace {namespace_name} istio.io/dataplane-mode=ambient`)"
                ));
            }
        }
        if pod["spec"]["hostNetwork"] == true {
            return outside("it uses its node's network, whose connections cannot be told apart");
        }
        if namespace_name == "kube-system" {
            return outside("kube-system is left out");
        }
        match pod["status"]["phase"].as_str() {
            Some("Succeeded" | "Failed") => outside("it has ended"),
            Some("Running") if redirection == Some("pending") => {
                Membership::Pending("istio-cni-node has tried to take it and tries again; `corten get events` says why")
            }
            Some("Running") => Membership::Pending(
                "istio-cni-node has not taken it; does it run on the pod's node, and what do its log and the pod's events say?",
            ),
            _ => Membership::Pending("it does not run yet"),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(pod: Value, namespace: Value, expected: &str) {
        let shown = match Membership::of(&pod, Some(&namespace)) {
            Membership::InMesh => "in".to_owned(),
            Membership::Sidecar => "sidecar".to_owned(),
            Membership::Pending(why) => format!("pending: {why}"),
            Membership::Outside(why) => format!("outside: {why}"),
        };
        assert!(shown.starts_with(expected), "{shown}");
    }

    #[test]
    fn why_a_pod_is_in_or_out() {
        let labelled = || json!({"metadata": {"labels": {"istio.io/dataplane-mode": "ambient"}}});
        let running = json!({"phase": "Running"});
        let plain = || json!({"metadata": {"namespace": "a"}, "status": running});
        check(plain(), json!({}), "outside: neither it nor its namespace");
        check(plain(), labelled(), "pending: istio-cni-node has not");
        let with = |path: &str, value: Value| {
            let mut pod = plain();
            *pod.pointer_mut("/metadata").expect("metadata") = json!({"namespace": "a"});
            let (outer, key) = path.split_once('|').expect("two parts");
            pod[outer] = match outer {
                "metadata" => json!({"namespace": "a", key: value}),
                _ => json!({key: value}),
            };
            if outer != "status" {
                pod["status"] = running.clone();
            }
            pod
        };
        let annotated = |key: &str, value: &str| with("metadata|annotations", json!({key: value}));
        check(annotated("ambient.istio.io/redirection", "enabled"), json!({}), "in");
        check(
            annotated("ambient.istio.io/redirection", "pending"),
            labelled(),
            "pending: istio-cni-node has tried",
        );
        check(annotated("sidecar.istio.io/status", "{}"), labelled(), "sidecar");
        let marked = |mode: &str| with("metadata|labels", json!({"istio.io/dataplane-mode": mode}));
        check(marked("none"), labelled(), "outside: its label");
        check(marked("ambient"), json!({}), "pending");
        check(
            with("spec|hostNetwork", json!(true)),
            labelled(),
            "outside: it uses its node's network",
        );
        check(
            with("status|phase", json!("Failed")),
            labelled(),
            "outside: it has ended",
        );
        check(
            with("status|phase", json!("Pending")),
            labelled(),
            "pending: it does not run",
        );
    }
}
