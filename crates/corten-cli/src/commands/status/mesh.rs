//! The mesh's part of `corten status`: its components, who is in it, the certificates, what is wrong and what to do.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::Result;
use corten_admin::config_dump::{Certificate, Dump};
use corten_apiserver::human_span;
use futures_util::future::join_all;
use http::Method;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use crate::cluster::Cluster;
use crate::mesh::membership::Membership;
use crate::output::table;

const SYSTEM: &str = "istio-system";

/// How long a node proxy may take to tell its certificates; a status is to come at once.
const DUMP_WITHIN: Duration = Duration::from_secs(2);

/// How many problems of one kind are worth a line each.
const LISTED_MAX: usize = 5;

/// The mesh at a glance.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Mesh {
    components: Vec<Component>,
    namespaces: Vec<Enrolment>,
    certificates: Certificates,
    problems: Vec<Problem>,
}

/// A part of the mesh.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Component {
    name: &'static str,
    ready: u64,
    desired: u64,
}

/// How many pods of a namespace are in the mesh.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
struct Enrolment {
    name: String,
    enrolled: usize,
    /// Those that are in it, and those that should be.
    meant: usize,
}

/// The certificates of all node proxies.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
struct Certificates {
    available: usize,
    /// Identity and end of the one that ends first.
    first: Option<(String, Timestamp)>,
}

/// Something wrong, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Problem {
    subject: String,
    message: String,
}

/// What the mesh is judged by, all of it as the API has it.
#[derive(Debug, Default)]
struct Objects {
    /// Deployments and DaemonSets of the mesh that are there.
    workloads: Vec<Value>,
    pods: Vec<Value>,
    namespaces: Vec<Value>,
    policies: Vec<Value>,
    /// Kubernetes' own, which know nothing of the mesh.
    network_policies: Vec<Value>,
    /// What each node proxy says, by node.
    dumps: Vec<(String, Result<Dump, String>)>,
    /// What the control planes say is wrong with the mesh's configuration.
    configuration: BTreeSet<String>,
}

/// The mesh of a cluster; `None`: it has none.
pub(super) async fn of(cluster: &Cluster) -> Result<Option<Mesh>> {
    let list = async |path: &str| match cluster.get(path).await {
        Ok(mut list) => Ok(list["items"].as_array_mut().map(std::mem::take).unwrap_or_default()),
        Err(refusal) if refusal.is_not_found() => Ok(Vec::new()),
        Err(refusal) => Err(anyhow::Error::from(refusal)),
    };
    let apps = |plural: &str| format!("/apis/apps/v1/namespaces/{SYSTEM}/{plural}");
    let (deployments, daemon_sets) = (apps("deployments"), apps("daemonsets"));
    let (deployments, daemon_sets, pods, namespaces, policies, network_policies) = futures_util::try_join!(
        list(&deployments),
        list(&daemon_sets),
        list("/api/v1/pods"),
        list("/api/v1/namespaces"),
        list("/apis/security.istio.io/v1/authorizationpolicies"),
        // Who may not see them is told the rest.
        async {
            Ok(list("/apis/networking.k8s.io/v1/networkpolicies")
                .await
                .unwrap_or_default())
        },
    )?;
    let named = |object: &Value| PARTS.iter().any(|part| object["metadata"]["name"] == *part);
    let workloads: Vec<Value> = deployments.into_iter().chain(daemon_sets).filter(named).collect();
    if workloads.is_empty() {
        return Ok(None);
    }
    let running = |app: &'static str| {
        pods.iter().filter(move |pod| {
            pod["metadata"]["namespace"] == SYSTEM
                && pod["metadata"]["labels"]["app"] == app
                && pod["metadata"]["deletionTimestamp"].is_null()
                && pod["status"]["phase"] == "Running"
        })
    };
    let dumps = join_all(running("ztunnel").map(async |pod| {
        let name = pod["metadata"]["name"].as_str().unwrap_or_default();
        let node = pod["spec"]["nodeName"].as_str().unwrap_or_default().to_owned();
        (node, dump(cluster, name).await)
    }));
    let configuration = join_all(running("istiod").map(async |pod| {
        let name = pod["metadata"]["name"].as_str().unwrap_or_default();
        configuration_problems(cluster, name).await
    }));
    let (dumps, configuration) = tokio::join!(dumps, configuration);
    let objects = Objects {
        dumps,
        configuration: configuration.into_iter().flatten().collect(),
        workloads,
        pods,
        namespaces,
        policies,
        network_policies,
    };
    Ok(Some(judge(&objects, Timestamp::now())))
}

/// What a control plane says about the mesh's configuration; nothing, if it does not know how to: whether it is ready is judged elsewhere.
async fn configuration_problems(cluster: &Cluster, istiod: &str) -> Vec<String> {
    let asked = cluster.ask_pod(SYSTEM, istiod, 15014, Method::GET, "/debug/problemz");
    match tokio::time::timeout(DUMP_WITHIN, asked).await {
        Ok(Ok(answer)) if answer.status.is_success() => serde_json::from_slice(&answer.body).unwrap_or_default(),
        _ => Vec::new(),
    }
}

async fn dump(cluster: &Cluster, ztunnel: &str) -> Result<Dump, String> {
    let asked = cluster.ask_pod(SYSTEM, ztunnel, 15000, Method::GET, "/config_dump");
    match tokio::time::timeout(DUMP_WITHIN, asked).await {
        Err(_) => Err(format!("it does not answer within {} s", DUMP_WITHIN.as_secs())),
        Ok(Err(error)) => Err(format!("{error:#}")),
        Ok(Ok(answer)) if !answer.status.is_success() => Err(format!("it answers {}", answer.status)),
        Ok(Ok(answer)) => Dump::parse(&answer.body).map_err(|error| error.to_string()),
    }
}

/// The parts of a mesh, in the order in which they depend on each other.
const PARTS: [&str; 3] = ["istiod", "istio-cni-node", "ztunnel"];

fn judge(objects: &Objects, now: Timestamp) -> Mesh {
    let mut mesh = Mesh::default();
    components(&mut mesh, &objects.workloads, &objects.pods);
    enrolments(&mut mesh, objects);
    certificates(&mut mesh, &objects.dumps, now);
    policies(&mut mesh, &objects.policies);
    for message in &objects.configuration {
        mesh.problem("ConfigMap istio", message.clone());
    }
    beside(&mut mesh, objects);
    mesh
}

/// On how many nodes a DaemonSet of the mesh has a pod that is ready and stays.
fn nodes_served(name: &str, pods: &[Value]) -> u64 {
    let each = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let of_set = |pod: &&Value| {
        let mut owners = each(&pod["metadata"]["ownerReferences"]).into_iter();
        pod["metadata"]["namespace"] == SYSTEM && owners.any(|it| it["kind"] == "DaemonSet" && it["name"] == name)
    };
    let stays = |pod: &&Value| pod["metadata"]["deletionTimestamp"].is_null();
    let is_ready = |pod: &&Value| {
        let mut conditions = each(&pod["status"]["conditions"]).into_iter();
        conditions.any(|it| it["type"] == "Ready" && it["status"] == "True")
    };
    let serving = pods.iter().filter(of_set).filter(stays).filter(is_ready);
    let nodes: BTreeSet<&str> = serving.filter_map(|pod| pod["spec"]["nodeName"].as_str()).collect();
    nodes.len() as u64
}

fn components(mesh: &mut Mesh, workloads: &[Value], pods: &[Value]) {
    for name in PARTS {
        let Some(object) = workloads.iter().find(|it| it["metadata"]["name"] == name) else {
            mesh.problem(
                name,
                "it is not installed; `corten down` and `corten up` put it there again".to_owned(),
            );
            continue;
        };
        let number = |value: &Value| value.as_u64();
        let (status, spec) = (&object["status"], &object["spec"]);
        // DaemonSets count by nodes, Deployments by replicas.
        let desired = number(&status["desiredNumberScheduled"])
            .or_else(|| number(&spec["replicas"]))
            .unwrap_or(0);
        let ready = number(&status["numberReady"])
            .or_else(|| number(&status["readyReplicas"]))
            .unwrap_or(0);
        // A DaemonSet's status is of each node's oldest pod, which may be one that is being replaced and only serves what it still has.
        let ready = ready.max(nodes_served(name, pods));
        mesh.components.push(Component { name, ready, desired });
        // None wanted is as bad as none ready: somebody scaled it away.
        if ready < desired || desired == 0 {
            let effect = match name {
                "istiod" => "what is changed meanwhile reaches no proxy, and certificates are not renewed",
                "istio-cni-node" => "pods of its node cannot join or leave the mesh",
                _ => "pods of its node are cut off",
            };
            let kind = if name == "istiod" { "deploy" } else { "ds" };
            let of = match desired {
                0 => "none is wanted".to_owned(),
                1 => "it is not ready".to_owned(),
                _ => format!("{ready} of {desired} are ready"),
            };
            mesh.problem(
                name,
                format!("{of}: {effect}; `corten logs -n {SYSTEM} {kind}/{name}` says more"),
            );
        }
    }
}

fn enrolments(mesh: &mut Mesh, objects: &Objects) {
    let namespaces: BTreeMap<&str, &Value> = objects
        .namespaces
        .iter()
        .filter_map(|it| Some((it["metadata"]["name"].as_str()?, it)))
        .collect();
    let mut enrolments: BTreeMap<&str, Enrolment> = BTreeMap::new();
    let mut waiting = Vec::new();
    for pod in &objects.pods {
        let text = |key: &str| pod["metadata"][key].as_str().unwrap_or_default();
        let (namespace, name) = (text("namespace"), text("name"));
        let membership = Membership::of(pod, namespaces.get(namespace).copied());
        let enrolled = matches!(membership, Membership::InMesh | Membership::Sidecar);
        if !enrolled && !matches!(membership, Membership::Pending(_)) {
            continue;
        }
        let entry = enrolments.entry(namespace).or_default();
        entry.name = namespace.to_owned();
        entry.meant += 1;
        entry.enrolled += usize::from(enrolled);
        // Those that do not run are told of as pods.
        if let Membership::Pending(why) = membership
            && pod["status"]["phase"] == "Running"
        {
            waiting.push((format!("{namespace}/{name}"), why));
        }
    }
    mesh.namespaces = enrolments.into_values().collect();
    let more = waiting.len().saturating_sub(LISTED_MAX);
    for (pod, why) in waiting.into_iter().take(LISTED_MAX) {
        mesh.problem(pod, format!("it should be in the mesh and is not: {why}"));
    }
    if more > 0 {
        mesh.problem("pods", format!("{more} more should be in the mesh and are not"));
    }
}

fn certificates(mesh: &mut Mesh, dumps: &[(String, Result<Dump, String>)], now: Timestamp) {
    for (node, dump) in dumps {
        let dump = match dump {
            Ok(dump) => dump,
            Err(error) => {
                mesh.problem(format!("ztunnel on {node}"), format!("its state is not known: {error}"));
                continue;
            }
        };
        for certificate in &dump.certificates {
            certificate_of(mesh, node, certificate, now);
        }
    }
}

fn certificate_of(mesh: &mut Mesh, node: &str, certificate: &Certificate, now: Timestamp) {
    let identity = certificate.identity.trim_start_matches("spiffe://").to_owned();
    if let Some(why) = certificate.state.strip_prefix("Unavailable") {
        let why = why.trim_start_matches([':', ' ']);
        mesh.problem(
            format!("certificate of {identity} on {node}"),
            format!("there is none, so its pods can neither call nor be called: {why}"),
        );
    }
    let end = certificate
        .cert_chain
        .first()
        .and_then(|leaf| leaf.expiration_time.parse::<Timestamp>().ok());
    let Some(end) = end else { return };
    if end <= now {
        mesh.problem(
            format!("certificate of {identity} on {node}"),
            format!(
                "it ended {} ago and could not be renewed; `corten logs -n {SYSTEM} deploy/istiod` says why",
                human_span(now.as_second() - end.as_second())
            ),
        );
        return;
    }
    let found = &mut mesh.certificates;
    found.available += 1;
    if found.first.as_ref().is_none_or(|(_, first)| end < *first) {
        found.first = Some((identity, end));
    }
}

/// Policies that are not enforced as they are written, by the conditions that the control plane writes.
fn policies(mesh: &mut Mesh, policies: &[Value]) {
    let mut found = Vec::new();
    for policy in policies {
        let text = |key: &str| policy["metadata"][key].as_str().unwrap_or_default();
        let conditions = policy["status"]["conditions"].as_array().into_iter().flatten();
        let refused = conditions
            .filter(|it| it["status"] == "False" && it["type"].as_str().is_some_and(|kind| kind.ends_with("Accepted")));
        found.extend(refused.map(|it| {
            let subject = format!("AuthorizationPolicy {}/{}", text("namespace"), text("name"));
            (
                subject,
                it["message"].as_str().unwrap_or("it is not accepted").to_owned(),
            )
        }));
    }
    let more = found.len().saturating_sub(LISTED_MAX);
    for (subject, message) in found.into_iter().take(LISTED_MAX) {
        mesh.problem(subject, message);
    }
    if more > 0 {
        mesh.problem("AuthorizationPolicies", format!("{more} more are not accepted"));
    }
}

/// What objects that are none of the mesh's do to it.
fn beside(mesh: &mut Mesh, objects: &Objects) {
    let found = corten_analysis::beside::analyze(corten_analysis::beside::Objects {
        namespaces: &objects.namespaces,
        pods: &objects.pods,
        network_policies: &objects.network_policies,
    });
    let more = found.len().saturating_sub(LISTED_MAX);
    for diagnostic in found.into_iter().take(LISTED_MAX) {
        let object = diagnostic.object.as_ref().map(ToString::to_string).unwrap_or_default();
        mesh.problem(object, format!("{}: {}", diagnostic.path, diagnostic.message));
    }
    if more > 0 {
        mesh.problem(
            "NetworkPolicies and namespaces",
            format!("{more} more do not fit the mesh"),
        );
    }
}

impl Mesh {
    fn problem(&mut self, subject: impl Into<String>, message: String) {
        let subject = subject.into();
        self.problems.push(Problem { subject, message });
    }

    /// In a few lines.
    pub(super) fn lines(&self, now: Timestamp) -> Vec<String> {
        let row = |cells: [&str; 2]| cells.map(str::to_owned).to_vec();
        let mut rows = vec![row(["MESH", "READY"])];
        rows.extend(
            self.components
                .iter()
                .map(|it| row([it.name, &format!("{}/{}", it.ready, it.desired)])),
        );
        let mut lines = table(&rows);
        lines.push(String::new());
        if self.namespaces.is_empty() {
            lines.push(
                "no pod is in the mesh; `corten label namespace NAME istio.io/dataplane-mode=ambient` takes all of a namespace's in".to_owned(),
            );
        } else {
            let mut rows = vec![row(["NAMESPACE", "IN THE MESH"])];
            rows.extend(
                self.namespaces
                    .iter()
                    .map(|it| row([&it.name, &format!("{}/{}", it.enrolled, it.meant)])),
            );
            lines.extend(table(&rows));
        }
        if let Some((identity, end)) = &self.certificates.first {
            let left = human_span(end.as_second() - now.as_second());
            lines.push(String::new());
            lines.push(format!(
                "certificates: {}, the first to end has {left} left ({identity})",
                self.certificates.available
            ));
        }
        if !self.problems.is_empty() {
            lines.push(String::new());
            lines.extend(
                self.problems
                    .iter()
                    .map(|it| format!("! {}: {}", it.subject, it.message)),
            );
        }
        lines
    }
}

#[cfg(test)]
mod tests;
