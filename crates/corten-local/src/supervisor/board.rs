//! The board on which the parts of the runtime write how they are, and which the conversations read.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::status::{NamespaceStatus, NodeStatus, Phase, Problem, RuntimeStatus};

/// Collects what the parts say into one status.
#[derive(Debug)]
pub(crate) struct Board {
    status: watch::Sender<RuntimeStatus>,
    problems: Mutex<Problems>,
}

/// Problems by who noticed them, so that each writer replaces its own.
#[derive(Debug, Default)]
struct Problems {
    components: BTreeMap<String, String>,
    cluster: Vec<Problem>,
}

impl Board {
    pub(crate) fn new(status: RuntimeStatus) -> Self {
        Self {
            status: watch::Sender::new(status),
            problems: Mutex::default(),
        }
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<RuntimeStatus> {
        self.status.subscribe()
    }

    /// A new phase of life.
    pub(crate) fn phase(&self, phase: Phase) {
        self.status.send_modify(|status| status.phase = phase);
    }

    /// It became ready.
    pub(crate) fn ready(&self, took: Duration) {
        self.status.send_modify(|status| {
            status.phase = Phase::Ready;
            status.ready_after_ms = Some(u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
        });
    }

    /// What is wrong with a component, or nothing.
    pub(crate) fn component(&self, name: &str, problem: Option<String>) {
        self.write(|problems, _| {
            match problem {
                Some(problem) => problems.components.insert(name.to_owned(), problem),
                None => problems.components.remove(name),
            };
        });
    }

    /// How nodes and pods are.
    pub(crate) fn cluster(&self, nodes: Vec<NodeStatus>, namespaces: Vec<NamespaceStatus>, wrong: Vec<Problem>) {
        self.write(|problems, status| {
            problems.cluster = wrong;
            status.nodes = nodes;
            status.namespaces = namespaces;
        });
    }

    /// Publishes only what changed.
    fn write(&self, change: impl FnOnce(&mut Problems, &mut RuntimeStatus)) {
        let mut problems = self.problems.lock().unwrap_or_else(PoisonError::into_inner);
        self.status.send_if_modified(|status| {
            let before = status.clone();
            change(&mut problems, status);
            let components = problems.components.iter().map(|(name, message)| Problem {
                subject: format!("component {name}"),
                message: message.clone(),
            });
            status.problems = components.chain(problems.cluster.iter().cloned()).collect();
            *status != before
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writers_replace_only_their_own_problems() {
        let board = Board::new(RuntimeStatus::default());
        let mut reader = board.subscribe();
        let pod = Problem {
            subject: "pod a/b".into(),
            message: "no image".into(),
        };
        board.component("dns", Some("ended".into()));
        board.cluster(Vec::new(), Vec::new(), vec![pod.clone()]);
        let subjects = |status: &RuntimeStatus| status.problems.iter().map(|it| it.subject.clone()).collect::<Vec<_>>();
        assert_eq!(subjects(&reader.borrow_and_update()), ["component dns", "pod a/b"]);
        board.component("dns", None);
        assert_eq!(subjects(&reader.borrow_and_update()), ["pod a/b"]);
        board.cluster(Vec::new(), Vec::new(), vec![pod]);
        assert!(!reader.has_changed().unwrap(), "nothing new is not told");
    }
}
