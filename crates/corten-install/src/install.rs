//! Objects into a cluster, and waiting until what they make runs.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::StreamExt as _;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::charts::Component;
use crate::cluster::{Applied, Cluster, ClusterError, title};
use crate::found::{self, Found};
use crate::operator::{Plan, Request};
use crate::ready::Rollout;
use crate::record::shown;
use crate::render::{Rendered, rank};
use crate::tags::{self, TagError};
use crate::{beside, ready, record};

/// Objects of the same rank are applied side by side, so many at a time.
const AT_ONCE: usize = 12;

/// How often the cluster is asked whether something is ready.
const ASK_EVERY: Duration = Duration::from_millis(150);

const ASK_OFTEN: Duration = Duration::from_millis(50);

/// A control plane that can start has made the root certificates by then; one that cannot is told about when it is waited for.
const ROOTS_WITHIN: Duration = Duration::from_secs(10);

const DEFINITION: &str = "CustomResourceDefinition";

/// What happens, as it happens.
#[derive(Clone, Debug, PartialEq)]
pub enum Progress {
    /// A component's objects are in the cluster: how many, and how many of them are new or other than before.
    Applied(Component, usize, usize),
    /// A component is not ready yet: what it waits for; told each time it is looked at.
    Waiting(Component, Vec<String>),
    /// A component is ready.
    Ready(Component),
    /// The cluster has no objects of this kind, and the installation is without this one.
    NotServed(String),
    /// An object is no longer part of the installation.
    Removed(String),
}

/// How to install.
#[derive(Clone, Debug)]
pub struct Options {
    /// Take over from another Istio.
    pub adopt: bool,
    /// How long to wait for readiness.
    pub timeout: Duration,
}

/// It is not installed, or not wholly.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// Somebody else's mesh is there.
    #[error("{0}")]
    Foreign(String),
    /// The cluster.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// The webhooks of other revisions.
    #[error(transparent)]
    Tags(#[from] TagError),
    /// The time is over.
    #[error("not ready within {} s:\n{}\nwhat is there stays: the same command goes on from here, and `corten uninstall` removes it", .0.as_secs(), .1.join("\n"))]
    Timeout(Duration, Vec<String>),
}

/// Says no if another mesh is in the way, unless it can be and is to be taken over.
pub async fn check_foreign(
    cluster: &Cluster,
    plan: &Plan,
    objects: &[Rendered],
    adopt: bool,
) -> Result<Vec<Found>, InstallError> {
    let found = found::look(cluster).await?;
    let replaced = |found: &Found| objects.iter().find(|it| title(&it.object) == title(&found.object));
    let twice = found.iter().find(|found| {
        let brought = objects.iter().any(|rendered| rendered.component == found.component);
        found.is_ours && found.component != Component::Pilot && brought && replaced(found).is_none()
    });
    if let Some(found) = twice {
        return Err(InstallError::Foreign(format!(
            "Corten is installed elsewhere: {}; a node has one, so remove that first (`corten uninstall -i {}`) or install where it is",
            found.describe(),
            found.object["metadata"]["namespace"].as_str().unwrap_or_default()
        )));
    }
    let components: Vec<Component> = plan.parts.iter().map(|part| part.component).collect();
    let foreign = found::in_the_way(&found, &components, &plan.revision);
    if foreign.is_empty() {
        return Ok(Vec::new());
    }
    let list: Vec<String> = foreign.iter().map(|found| format!("  {}", found.describe())).collect();
    let list = list.join("\n");
    if !adopt {
        return Err(InstallError::Foreign(format!(
            "another Istio is installed:\n{list}\nremove it, install beside it with --revision (a control plane only), or take over from it with --adopt"
        )));
    }
    // Objects have to be the very ones that ours replace.
    for found in &foreign {
        let Some(ours) = replaced(found) else {
            return Err(InstallError::Foreign(format!(
                "{} cannot be adopted: ours would have another name or namespace; name the namespace with --istioNamespace or components.{}.namespace",
                found.describe(),
                found.component.key()
            )));
        };
        let selector = |object: &Value| object["spec"]["selector"]["matchLabels"].clone();
        if selector(&found.object) != selector(&ours.object) {
            return Err(InstallError::Foreign(format!(
                "{} cannot be adopted: it selects its pods by {}, ours by {}, and that cannot be changed; delete it, then install",
                found.describe(),
                selector(&found.object),
                selector(&ours.object)
            )));
        }
    }
    if foreign.iter().any(|found| found.component == Component::Pilot) {
        let served = found::served(cluster).await?;
        if !served.is_empty() {
            let more = served.len().saturating_sub(5);
            let more = if more > 0 {
                format!(" and {more} more")
            } else {
                String::new()
            };
            let first = served.iter().take(5).map(String::as_str).collect::<Vec<_>>().join(", ");
            return Err(InstallError::Foreign(format!(
                "the control plane cannot be adopted:\n{list}\npods with proxies that it configures: {first}{more}; such proxies are not taken over: move these pods to ambient first, or install beside it (--revision) and let them be made anew with proxies of that revision, or adopt the data plane alone (--set components.pilot.enabled=false)"
            )));
        }
    }
    Ok(foreign.into_iter().cloned().collect())
}

/// Installs a plan's objects, and waits until they are what they should be.
pub async fn install(
    cluster: &Cluster,
    plan: &Plan,
    request: &Request,
    objects: &[Rendered],
    options: &Options,
    tell: &mut dyn FnMut(Progress),
) -> Result<(), InstallError> {
    let adopted = check_foreign(cluster, plan, objects, options.adopt).await?;
    let before = record::read(cluster, &plan.namespace, &plan.revision).await?;
    // First the namespaces, then what remembers the rest: whatever happens after, uninstalling finds it.
    apply_ranked(cluster, objects, &adopted, |it| kind(it) == "Namespace").await?;
    if !cluster.is_dry_run() {
        let mut all = objects.to_vec();
        if let Some(before) = &before {
            let old = before.left_over(objects).into_iter().map(|object| Rendered {
                component: Component::Base,
                object,
            });
            all.extend(old);
        }
        cluster.apply(&record::object(plan, request, &all)).await?;
    }
    let begin = Instant::now();
    let left = || options.timeout.saturating_sub(begin.elapsed());
    let mut open: BTreeSet<Component> = plan.parts.iter().map(|part| part.component).collect();
    // What runs on nodes already is replaced when the control plane that it will ask is there, the agents before the proxies.
    let later: &[Component] = match (&before, &adopted[..]) {
        (None, []) => &[],
        _ => &[Component::Cni, Component::Ztunnel],
    };
    let is_later = |it: &Rendered| kind(it) == "DaemonSet" && later.contains(&it.component);
    // Definitions take the API server a second. The rest needs none of them to start, and the control plane takes up what is served later.
    let is_proxy = |rendered: &Rendered| {
        rendered.component == Component::Ztunnel
            && kind(rendered) == "DaemonSet"
            && later.is_empty()
            && !cluster.is_dry_run()
    };
    let definitions = apply_ranked(cluster, objects, &adopted, |it| kind(it) == DEFINITION);
    let rest = async {
        let early = |it: &Rendered| ![DEFINITION, "Namespace"].contains(&kind(it)) && !is_proxy(it) && !is_later(it);
        let mut applied = apply_ranked(cluster, objects, &adopted, early).await?;
        if let Some(proxies) = objects.iter().find(|it| is_proxy(it)) {
            roots(cluster, plan, proxies, ROOTS_WITHIN.min(options.timeout)).await?;
            applied.add(apply_ranked(cluster, objects, &adopted, is_proxy).await?);
        }
        Ok(applied)
    };
    let (mut applied, rest) = futures_util::future::try_join(definitions, rest).await?;
    applied.add(rest);
    let mut then: Vec<&Rendered> = objects.iter().filter(|it| is_later(it)).collect();
    then.sort_by_key(|rendered| rendered.component);
    if !cluster.is_dry_run() && !then.is_empty() {
        let first = &open - &later.iter().copied().collect();
        open = &open - &first;
        wait(cluster, first, objects, left(), tell).await?;
    }
    for rendered in then {
        let one = std::slice::from_ref(rendered);
        applied.add(apply_ranked(cluster, one, &adopted, |_| true).await?);
        if !cluster.is_dry_run() {
            let component = BTreeSet::from([rendered.component]);
            open = &open - &component;
            wait(cluster, component, objects, left(), tell).await?;
        }
    }
    let Tally { mut counts, not_served } = applied;
    not_served
        .into_iter()
        .for_each(|object| tell(Progress::NotServed(object)));
    for part in &plan.parts {
        let (all, changed) = counts.remove(&part.component).unwrap_or_default();
        tell(Progress::Applied(part.component, all, changed));
    }
    if cluster.is_dry_run() {
        return Ok(());
    }
    for object in found::injectors(cluster, &adopted, objects).await? {
        cluster.delete(&object, None).await?;
        tell(Progress::Removed(title(&object)));
    }
    if let Some(before) = before {
        let others = record::all(cluster, &plan.namespace).await?;
        let shared = |object: &Value| {
            let mut others = others.iter().filter(|other| other.revision != plan.revision);
            others.any(|other| other.has(object))
        };
        for object in before.left_over(objects).into_iter().filter(|object| !shared(object)) {
            cluster.delete(&object, None).await?;
            tell(Progress::Removed(title(&object)));
        }
        cluster.apply(&record::object(plan, request, objects)).await?;
    }
    let stepped_back = beside::take_over(cluster, &plan.namespace, &plan.revision, objects).await?;
    tags::settle(cluster, &plan.namespace, &stepped_back, shown(&plan.revision)).await?;
    wait(cluster, open, objects, left(), tell).await
}

/// Waits until there are the root certificates that node proxies mount.
///
/// A pod that is made before what it mounts is tried again at growing intervals, and would be ready later.
async fn roots(cluster: &Cluster, plan: &Plan, proxies: &Rendered, within: Duration) -> Result<(), InstallError> {
    if !plan.parts.iter().any(|part| part.component == Component::Pilot) {
        return Ok(());
    }
    let map = json!({
        "kind": "ConfigMap",
        "metadata": {"name": "istio-ca-root-cert", "namespace": proxies.object["metadata"]["namespace"]},
    });
    let begin = Instant::now();
    while cluster.live(&map).await?.is_none() && begin.elapsed() < within {
        tokio::time::sleep(ASK_OFTEN).await;
    }
    Ok(())
}

/// What came of applying objects.
#[derive(Default)]
struct Tally {
    /// How many objects a component has, and how many of them changed.
    counts: BTreeMap<Component, (usize, usize)>,
    /// What the cluster has no kind for.
    not_served: Vec<String>,
}

impl Tally {
    fn add(&mut self, other: Tally) {
        for (component, (all, changed)) in other.counts {
            let count = self.counts.entry(component).or_default();
            *count = (count.0 + all, count.1 + changed);
        }
        self.not_served.extend(other.not_served);
    }
}

fn kind(rendered: &Rendered) -> &str {
    rendered.object["kind"].as_str().unwrap_or_default()
}

/// Applies the objects that are wanted, rank by rank.
async fn apply_ranked(
    cluster: &Cluster,
    objects: &[Rendered],
    adopted: &[Found],
    wanted: impl Fn(&Rendered) -> bool,
) -> Result<Tally, InstallError> {
    let mut ranks: BTreeMap<usize, Vec<&Rendered>> = BTreeMap::new();
    for rendered in objects.iter().filter(|rendered| wanted(rendered)) {
        ranks.entry(rank(kind(rendered))).or_default().push(rendered);
    }
    let mut tally = Tally::default();
    for same in ranks.into_values() {
        let each = futures_util::stream::iter(same).map(async |rendered| {
            let object = &rendered.object;
            let foreign = adopted.iter().find(|found| title(&found.object) == title(object));
            if let Some(found) = foreign {
                cluster.replace(object, &found.object).await?;
            }
            let applied = cluster.apply(object).await?;
            Ok::<_, ClusterError>((rendered, applied))
        });
        let mut each = each.buffer_unordered(AT_ONCE);
        while let Some(done) = each.next().await {
            let (rendered, applied) = done?;
            if applied == Applied::NotServed {
                tally.not_served.push(title(&rendered.object));
            }
            let (all, changed) = tally.counts.entry(rendered.component).or_default();
            *all += 1;
            *changed += usize::from(matches!(applied, Applied::Created | Applied::Configured));
        }
    }
    Ok(tally)
}

/// Waits until these components are ready.
pub async fn wait(
    cluster: &Cluster,
    mut open: BTreeSet<Component>,
    objects: &[Rendered],
    timeout: Duration,
    tell: &mut dyn FnMut(Progress),
) -> Result<(), InstallError> {
    let begin = Instant::now();
    loop {
        let mut problems = Vec::new();
        for component in open.clone() {
            let waits = waits_for(cluster, objects, component).await?;
            if waits.is_empty() {
                open.remove(&component);
                tell(Progress::Ready(component));
                continue;
            }
            tell(Progress::Waiting(component, waits.clone()));
            problems.extend(waits.into_iter().map(|what| format!("  {}: {what}", component.title())));
        }
        if open.is_empty() {
            return Ok(());
        }
        if begin.elapsed() > timeout {
            return Err(InstallError::Timeout(timeout, problems));
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
}

/// What a component waits for.
pub async fn waits_for(
    cluster: &Cluster,
    objects: &[Rendered],
    component: Component,
) -> Result<Vec<String>, ClusterError> {
    let mut waits = Vec::new();
    if component == Component::Base {
        let mut served: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        for rendered in objects.iter().filter(|rendered| kind(rendered) == DEFINITION) {
            let object = &rendered.object;
            let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let versions = object["spec"]["versions"].as_array().into_iter().flatten();
            for version in versions.filter(|version| version["served"] == true) {
                // What a group serves is a small document, the definitions themselves are more than a megabyte.
                let path = format!("/apis/{}/{}", word(&object["spec"]["group"]), word(&version["name"]));
                if !served.contains_key(&path) {
                    let mut found = cluster.read(&path).await?.unwrap_or_default();
                    let kinds = match found["resources"].take() {
                        Value::Array(kinds) => kinds,
                        _ => Vec::new(),
                    };
                    served.insert(path.clone(), kinds);
                }
                let plural = &object["spec"]["names"]["plural"];
                if !served[&path].iter().any(|kind| kind["name"] == *plural) {
                    let (name, version) = (word(&object["metadata"]["name"]), word(&version["name"]));
                    waits.push(format!("the definition {name} ({version}) is not served yet"));
                }
            }
        }
        return Ok(waits);
    }
    for rendered in objects.iter().filter(|rendered| rendered.component == component) {
        let object = &rendered.object;
        if object["kind"] != "Deployment" && object["kind"] != "DaemonSet" {
            continue;
        }
        let Some(live) = cluster.live(object).await? else {
            waits.push(format!("{} is gone", title(object)));
            continue;
        };
        let mut rollout = ready::rollout(&live);
        let mut pods = None;
        // One that is done by its own counts is.
        if object["kind"] == "DaemonSet" && rollout != Rollout::Done {
            let all = all_pods(cluster, &live).await?;
            rollout = ready::nodes(&live, &all, newest(cluster, &live).await?.as_deref());
            pods = Some(all);
        }
        let Some(waiting) = ready::waits(&live, rollout) else {
            continue;
        };
        waits.push(format!("{}: {waiting}", title(object)));
        let events = cluster
            .list("Event", object["metadata"]["namespace"].as_str(), "")
            .await?;
        let pods = match pods {
            Some(all) => staying(all),
            None => self::pods(cluster, &live).await?,
        };
        if pods.is_empty()
            && let Some(why) = ready::refused(&live, &events)
        {
            waits.push(format!("{}: its pods cannot be made: {why}", title(object)));
        }
        for pod in pods {
            if let Some(what) = ready::pod(&pod, &events) {
                waits.push(format!("{}: {what}", title(&pod)));
            }
        }
    }
    Ok(waits)
}

/// The hash of what was last written of a DaemonSet, as its pods carry it.
async fn newest(cluster: &Cluster, set: &Value) -> Result<Option<String>, ClusterError> {
    let revisions = cluster
        .list("ControllerRevision", set["metadata"]["namespace"].as_str(), "")
        .await?;
    let owned = |revision: &&Value| {
        let owners = revision["metadata"]["ownerReferences"].as_array().into_iter().flatten();
        owners.into_iter().any(|owner| owner["uid"] == set["metadata"]["uid"])
    };
    let last = revisions.iter().filter(owned).max_by_key(|it| it["revision"].as_i64());
    let hash = last.and_then(|last| last["metadata"]["labels"]["controller-revision-hash"].as_str());
    Ok(hash.map(str::to_owned))
}

/// The pods of a workload that are not on their way out.
pub async fn pods(cluster: &Cluster, workload: &Value) -> Result<Vec<Value>, ClusterError> {
    Ok(staying(all_pods(cluster, workload).await?))
}

fn staying(mut pods: Vec<Value>) -> Vec<Value> {
    pods.retain(|pod| pod["metadata"]["deletionTimestamp"].is_null());
    pods
}

async fn all_pods(cluster: &Cluster, workload: &Value) -> Result<Vec<Value>, ClusterError> {
    let labels = workload["spec"]["selector"]["matchLabels"].as_object();
    let labels = labels.into_iter().flatten();
    let labels: Vec<String> = labels
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    let namespace = workload["metadata"]["namespace"].as_str();
    cluster.list("Pod", namespace, &labels.join(",")).await
}
