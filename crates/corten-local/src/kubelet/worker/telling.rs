//! What a pod's task tells: the status, written when it changed, and Events.

use corten_apiserver::{Object, Patch, Status, resources};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use serde_json::{Value, json};

use super::{Done, RETRY, Worker};
use crate::kubelet::events::{Involved, News};
use crate::kubelet::lifecycle::{Report, Role};
use crate::kubelet::{Node, status, surroundings};

/// The first pause after a status that could not be written.
const RETRY_FIRST: SignedDuration = SignedDuration::from_millis(100);

impl Worker {
    pub(super) fn render(&self, now: Timestamp) -> Value {
        let before = status::conditions_before(&self.object["status"], &self.written);
        status::render(&self.pod, &self.life, &self.node.identity.addresses, &before, now)
    }

    /// Writes the status if it is not what was written last; one write at a time, so that changes in between become one.
    pub(super) fn write_status(&mut self, now: Timestamp) {
        self.entry.update(&self.life);
        if self.writing || self.gone || self.life.is_removed() || self.write_again_at.is_some_and(|at| at > now) {
            return;
        }
        self.write_again_at = None;
        let status = self.render(now);
        if status == self.written {
            return;
        }
        self.written = status.clone();
        self.writing = true;
        let client = self.node.client.clone();
        let (namespace, name, uid) = self.names();
        self.pending.push(Box::pin(async move {
            let patch = Patch::Merge(json!({ "metadata": { "uid": uid }, "status": status }));
            Done::Written(
                client
                    .patch(&resources::PODS, &namespace, &name, Some("status"), patch)
                    .await,
            )
        }));
    }

    pub(super) fn status_written(&mut self, outcome: Result<Object, Status>) {
        self.writing = false;
        match outcome {
            Ok(_) => self.write_failures = 0,
            // Its deletion comes by the watch.
            Err(status) if status.is_not_found() || status.is_conflict() => {}
            Err(status) => {
                tracing::warn!(pod = self.life.plan.full_name, %status, "the pod's status was not written");
                self.written = Value::Null;
                let pause = RETRY_FIRST * (1 << self.write_failures.min(6));
                self.write_failures += 1;
                self.write_again_at = self.now().checked_add(pause.min(RETRY)).ok();
            }
        }
    }

    pub(super) fn about(&self, container: Option<usize>) -> Involved {
        let (namespace, name, uid) = self.names();
        let field = container.map(|i| {
            let plan = &self.life.containers[i].plan;
            let list = if plan.role == Role::Main {
                "containers"
            } else {
                "initContainers"
            };
            format!("spec.{list}{{{}}}", plan.name)
        });
        Involved {
            kind: "Pod",
            namespace,
            name,
            uid,
            field: field.unwrap_or_default(),
        }
    }

    pub(super) fn report(&mut self, report: Report) {
        self.tell(report.container, report.warning, report.reason, report.message);
    }

    pub(super) fn tell(&self, container: Option<usize>, warning: bool, reason: &'static str, message: String) {
        self.node
            .recorder
            .tell(news(self.about(container), warning, reason, message));
    }
}

pub(in crate::kubelet) fn news(about: Involved, warning: bool, reason: &str, message: String) -> News {
    News {
        about,
        warning,
        reason: reason.to_owned(),
        message,
    }
}

/// Says once what a new pod asks for and does not get.
pub(super) fn tell_ignored(node: &Node, pod: &Pod, known: &PodStatus) {
    let ignored = pod.spec.as_ref().map(surroundings::ignored).unwrap_or_default();
    if ignored.is_empty() || known.start_time.is_some() {
        return;
    }
    let meta = &pod.metadata;
    let about = Involved {
        kind: "Pod",
        namespace: meta.namespace.clone().unwrap_or_default(),
        name: meta.name.clone().unwrap_or_default(),
        uid: meta.uid.clone().unwrap_or_default(),
        field: String::new(),
    };
    let message = format!("not enforced by the local runtime: {}", ignored.join(", "));
    node.recorder.tell(news(about, false, "Ignored", message));
}
