//! What a running instance says of itself: the one view that `corten up`, `corten status` and the tests read.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Where in its life an instance is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Not all nodes were ready yet.
    #[default]
    Starting,
    /// The API answers and all nodes are or were ready.
    Ready,
    /// It is bringing its pods to an end.
    Stopping,
}

/// A running instance at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RuntimeStatus {
    /// The instance's name.
    pub name: String,
    /// Where in its life it is.
    pub phase: Phase,
    /// The process outside that keeps it.
    pub pid: i32,
    /// The API's address as clients outside use it.
    pub server: String,
    /// The file to point `KUBECONFIG` at.
    pub kubeconfig: PathBuf,
    /// Where its log is.
    pub log: PathBuf,
    /// Milliseconds from its start until it was ready.
    pub ready_after_ms: Option<u64>,
    /// Its nodes, in order.
    pub nodes: Vec<NodeStatus>,
    /// Its namespaces that have pods, in order.
    pub namespaces: Vec<NamespaceStatus>,
    /// What is not as it should be, the most important first.
    pub problems: Vec<Problem>,
}

/// A node in short.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeStatus {
    /// Its name.
    pub name: String,
    /// Whether it takes pods.
    pub ready: bool,
    /// How many pods it has.
    pub pods: usize,
}

/// A namespace's pods in numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NamespaceStatus {
    /// Its name.
    pub name: String,
    /// How many pods it has, those that finished aside.
    pub pods: usize,
    /// How many of them are ready.
    pub ready: usize,
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// What it is about, like `pod orders/web-1` or `component dns`.
    pub subject: String,
    /// What is wrong.
    pub message: String,
}
