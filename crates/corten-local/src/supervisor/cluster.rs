//! The cluster in short, for the live view: from nodes and pods to counts and to what is wrong.
//!
//! Pure: objects in, summary out.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::status::{NamespaceStatus, NodeStatus, Problem};

/// Reasons for which a container waits and which do not pass by themselves in a moment.
const BAD_REASONS: [&str; 8] = [
    "CrashLoopBackOff",
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
    "StartError",
];

/// More problems than this are counted, not listed.
const PROBLEMS_MAX: usize = 20;

/// What the view needs to remember of each object.
#[derive(Debug, Default)]
pub(super) struct Cluster {
    nodes: BTreeMap<String, bool>,
    pods: BTreeMap<(String, String), Pod>,
}

#[derive(Debug)]
struct Pod {
    node: String,
    ready: bool,
    finished: bool,
    problem: Option<String>,
}

impl Cluster {
    /// A node as it is now.
    pub(super) fn node(&mut self, node: &Value) {
        self.nodes.insert(name(node), condition(node, "Ready"));
    }

    /// A node that is gone.
    pub(super) fn node_gone(&mut self, node: &Value) {
        self.nodes.remove(&name(node));
    }

    /// A pod as it is now.
    pub(super) fn pod(&mut self, pod: &Value) {
        let phase = text(&pod["status"]["phase"]);
        self.pods.insert(
            key(pod),
            Pod {
                node: text(&pod["spec"]["nodeName"]).to_owned(),
                ready: condition(pod, "Ready"),
                finished: matches!(phase, "Succeeded" | "Failed"),
                problem: problem(pod),
            },
        );
    }

    /// A pod that is gone.
    pub(super) fn pod_gone(&mut self, pod: &Value) {
        self.pods.remove(&key(pod));
    }

    /// How many nodes are ready.
    pub(super) fn nodes_ready(&self) -> usize {
        self.nodes.values().filter(|ready| **ready).count()
    }

    /// The summary.
    pub(super) fn summary(&self) -> (Vec<NodeStatus>, Vec<NamespaceStatus>, Vec<Problem>) {
        let running = || self.pods.iter().filter(|(_, pod)| !pod.finished);
        let nodes = self.nodes.iter().map(|(name, ready)| NodeStatus {
            name: name.clone(),
            ready: *ready,
            pods: running().filter(|(_, pod)| pod.node == *name).count(),
        });
        let mut namespaces: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
        for ((namespace, _), pod) in running() {
            let (pods, ready) = namespaces.entry(namespace).or_default();
            *pods += 1;
            *ready += usize::from(pod.ready);
        }
        let namespaces = namespaces.into_iter().map(|(name, (pods, ready))| NamespaceStatus {
            name: name.to_owned(),
            pods,
            ready,
        });
        (nodes.collect(), namespaces.collect(), self.problems())
    }

    fn problems(&self) -> Vec<Problem> {
        let nodes = self
            .nodes
            .iter()
            .filter(|(_, ready)| !**ready)
            .map(|(name, _)| Problem {
                subject: format!("node {name}"),
                message: "not ready".into(),
            });
        let pods = self.pods.iter().filter_map(|((namespace, name), pod)| {
            Some(Problem {
                subject: format!("pod {namespace}/{name}"),
                message: pod.problem.clone()?,
            })
        });
        let mut all: Vec<Problem> = nodes.chain(pods).collect();
        if all.len() > PROBLEMS_MAX {
            let more = all.len() - PROBLEMS_MAX;
            all.truncate(PROBLEMS_MAX);
            all.push(Problem {
                subject: "and".into(),
                message: format!("{more} more"),
            });
        }
        all
    }
}

/// What is wrong with a pod, if anything is.
fn problem(pod: &Value) -> Option<String> {
    let status = &pod["status"];
    let containers = ["initContainerStatuses", "containerStatuses"]
        .iter()
        .filter_map(|list| status[list].as_array());
    for container in containers.flatten() {
        let waiting = &container["state"]["waiting"];
        if BAD_REASONS.contains(&text(&waiting["reason"])) {
            let (container, reason) = (text(&container["name"]), text(&waiting["reason"]));
            return Some(match text(&waiting["message"]) {
                "" => format!("container {container}: {reason}"),
                message => format!("container {container}: {reason}: {message}"),
            });
        }
    }
    (text(&status["phase"]) == "Failed").then(|| match (text(&status["reason"]), text(&status["message"])) {
        ("", "") => "failed".to_owned(),
        (reason, "") => format!("failed: {reason}"),
        ("", message) => format!("failed: {message}"),
        (reason, message) => format!("failed: {reason}: {message}"),
    })
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn name(object: &Value) -> String {
    text(&object["metadata"]["name"]).to_owned()
}

fn key(object: &Value) -> (String, String) {
    (text(&object["metadata"]["namespace"]).to_owned(), name(object))
}

/// Whether a condition is `True`.
fn condition(object: &Value, kind: &str) -> bool {
    let conditions = object["status"]["conditions"].as_array();
    conditions
        .into_iter()
        .flatten()
        .any(|it| it["type"] == kind && it["status"] == "True")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(namespace: &str, name: &str, status: Value) -> Value {
        json!({"metadata": {"namespace": namespace, "name": name}, "spec": {"nodeName": "node1"}, "status": status})
    }

    fn ready(status: &str) -> Value {
        json!({"phase": "Running", "conditions": [{"type": "Ready", "status": status}]})
    }

    #[test]
    fn pods_are_counted_by_namespace_and_node() {
        let mut cluster = Cluster::default();
        cluster.node(&json!({"metadata": {"name": "node1"}, "status": ready("True")}));
        cluster.node(&json!({"metadata": {"name": "node2"}, "status": {}}));
        cluster.pod(&pod("a", "one", ready("True")));
        cluster.pod(&pod("a", "two", ready("False")));
        cluster.pod(&pod("b", "done", json!({"phase": "Succeeded"})));
        let (nodes, namespaces, problems) = cluster.summary();
        assert_eq!(
            nodes[0],
            NodeStatus {
                name: "node1".into(),
                ready: true,
                pods: 2
            }
        );
        assert_eq!(
            namespaces,
            [NamespaceStatus {
                name: "a".into(),
                pods: 2,
                ready: 1
            }]
        );
        assert_eq!(
            problems,
            [Problem {
                subject: "node node2".into(),
                message: "not ready".into()
            }]
        );
        assert_eq!(cluster.nodes_ready(), 1);
    }

    #[test]
    fn a_pod_that_cannot_run_says_why_until_it_is_gone() {
        let mut cluster = Cluster::default();
        let waiting = json!({"waiting": {"reason": "ErrImagePull", "message": "no command for image \"x\""}});
        let bad = pod(
            "a",
            "one",
            json!({"phase": "Pending", "containerStatuses": [{"name": "app", "state": waiting}]}),
        );
        cluster.pod(&bad);
        let (_, _, problems) = cluster.summary();
        assert_eq!(
            problems[0].message,
            "container app: ErrImagePull: no command for image \"x\""
        );
        cluster.pod_gone(&bad);
        assert!(cluster.summary().2.is_empty());
    }

    #[test]
    fn a_flood_of_problems_is_cut() {
        let mut cluster = Cluster::default();
        for number in 0..30 {
            cluster.pod(&pod(
                "a",
                &format!("p{number}"),
                json!({"phase": "Failed", "reason": "Evicted"}),
            ));
        }
        let (_, _, problems) = cluster.summary();
        assert_eq!((problems.len(), problems[20].message.as_str()), (21, "10 more"));
    }
}
