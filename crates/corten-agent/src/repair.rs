//! Pods with a proxy of their own that were started without redirection, because the plugin was not there yet: they are labelled or deleted, as
//! Istio's agent does it. Pods of the ambient mesh need nothing of the kind: they join as they run.
//!
//! Such a pod is told by its validating init container, which ends with a code of its own. Pure, but for [`act`].

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::kubernetes::Kubernetes;
use crate::metrics::{Metrics, Repaired};
use crate::pod::Pod;

/// After an attempt the pod is left alone for so long: what was done takes a while to be seen.
const AGAIN: Duration = Duration::from_secs(30);

/// What is to be done about broken pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// They are deleted; whoever made them makes others.
    Delete,
    /// They get a label.
    Label(String, String),
}

impl Action {
    /// Istio's word for it, in metrics.
    pub fn word(&self) -> &'static str {
        match self {
            Action::Delete => "delete",
            Action::Label(..) => "label",
        }
    }
}

/// How broken pods are told, and what is done about them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repair {
    /// What is done.
    pub action: Action,
    /// Pods without this annotation are left alone.
    pub annotation: String,
    /// The init container that finds out.
    pub container: String,
    /// What it ends with then.
    pub exit_code: i64,
    /// What it says then; empty: whatever it says.
    pub message: String,
}

impl Repair {
    /// Whether a pod is broken.
    pub fn is_broken(&self, pod: &Value) -> bool {
        let metadata = &pod["metadata"];
        if metadata["annotations"][self.annotation.as_str()].is_null() || !metadata["deletionTimestamp"].is_null() {
            return false;
        }
        if let Action::Label(key, value) = &self.action
            && metadata["labels"][key.as_str()] == **value
        {
            return false;
        }
        let statuses = pod["status"]["initContainerStatuses"].as_array().into_iter().flatten();
        let mut own = statuses.filter(|status| status["name"] == *self.container);
        own.any(|status| {
            // It is started again and again: what counts is how it ended, now or before.
            [&status["state"], &status["lastState"]].iter().any(|state| {
                let ended = &state["terminated"];
                ended["exitCode"] == self.exit_code && (self.message.is_empty() || said(ended) == self.message)
            })
        })
    }
}

fn said(ended: &Value) -> &str {
    ended["message"].as_str().unwrap_or_default().trim()
}

/// Which pods have been seen to lately.
#[derive(Debug, Default)]
pub struct Seen(BTreeMap<String, Instant>);

impl Seen {
    /// Whether a pod's turn has come; it is over then for a while.
    pub fn is_due(&mut self, uid: &str, now: Instant) -> bool {
        self.0.retain(|_, when| now.duration_since(*when) < AGAIN);
        if self.0.contains_key(uid) {
            return false;
        }
        self.0.insert(uid.to_owned(), now);
        true
    }
}

/// Does what is to be done about a broken pod.
pub async fn act(kubernetes: &Kubernetes, metrics: &Metrics, pod: &Pod, action: &Action) {
    let done = match action {
        Action::Delete => kubernetes.delete(pod).await,
        Action::Label(key, value) => kubernetes.label(pod, key, value).await,
    };
    let (name, namespace, action) = (&pod.name, &pod.namespace, action.word());
    let result = match done {
        Ok(()) => {
            tracing::warn!(
                name,
                namespace,
                action,
                "a pod was started without the redirection to its sidecar: seen to"
            );
            "success"
        }
        Err(error) => {
            tracing::warn!(name, namespace, action, %error, "a pod without the redirection to its sidecar was not seen to");
            "fail"
        }
    };
    metrics
        .pods_repaired
        .get_or_create(&Repaired { r#type: action, result })
        .inc();
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn repair(action: Action) -> Repair {
        Repair {
            action,
            annotation: "sidecar.istio.io/status".into(),
            container: "istio-validation".into(),
            exit_code: 126,
            message: String::new(),
        }
    }

    fn pod(container: &str, state: Value) -> Value {
        json!({
            "metadata": { "name": "p", "annotations": { "sidecar.istio.io/status": "{}" } },
            "status": { "initContainerStatuses": [{ "name": container, "state": state["state"], "lastState": state["lastState"] }] },
        })
    }

    #[test]
    fn broken_is_who_ended_with_the_code() {
        let delete = repair(Action::Delete);
        let ended = |code: i64| json!({ "terminated": { "exitCode": code, "message": "no redirection\n" } });
        let broken = pod(
            "istio-validation",
            json!({ "lastState": ended(126), "state": { "waiting": {} } }),
        );
        assert!(delete.is_broken(&broken));
        assert!(delete.is_broken(&pod("istio-validation", json!({ "state": ended(126) }))));
        assert!(!delete.is_broken(&pod("istio-validation", json!({ "state": ended(1) }))));
        assert!(!delete.is_broken(&pod("other", json!({ "state": ended(126) }))));
        let mut going = broken.clone();
        going["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        assert!(!delete.is_broken(&going));
        let mut plain = broken.clone();
        plain["metadata"]["annotations"] = json!({});
        assert!(!delete.is_broken(&plain));
        let message = |text: &str| Repair {
            message: text.into(),
            ..repair(Action::Delete)
        };
        assert!(message("no redirection").is_broken(&broken));
        assert!(!message("something else").is_broken(&broken));
        let label = repair(Action::Label("broken".into(), "true".into()));
        assert!(label.is_broken(&broken));
        let mut labelled = broken;
        labelled["metadata"]["labels"] = json!({ "broken": "true" });
        assert!(!label.is_broken(&labelled), "once is enough");
    }

    #[test]
    fn one_at_a_time() {
        let (mut seen, now) = (Seen::default(), Instant::now());
        assert!(seen.is_due("u", now));
        assert!(!seen.is_due("u", now + AGAIN / 2));
        assert!(seen.is_due("v", now + AGAIN / 2));
        assert!(seen.is_due("u", now + AGAIN * 2));
    }
}
