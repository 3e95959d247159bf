//! `corten rollout`.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use corten_install::ready::{self, Rollout as Stage};
use serde_json::{Value, json};

use super::wait;
use crate::cluster::{Cluster, Connection, Resource, Resources, parse_targets};
use crate::output;
use crate::show::table;

/// The annotation that counts a Deployment's revisions.
const REVISION: &str = "deployment.kubernetes.io/revision";

/// Follow and steer the rollout of a Deployment, StatefulSet or DaemonSet
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Rollout {
    /// Wait until the rollout is done, and say how it goes
    Status(Status),
    /// Replace every pod, in the way of a rollout
    Restart(Subject),
    /// Go back to an earlier revision
    Undo(Revision),
    /// Show the revisions
    History(Revision),
    /// Let changes of a Deployment wait
    Pause(Subject),
    /// Roll out the changes that waited
    Resume(Subject),
}

/// Which workload.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Subject {
    #[command(flatten)]
    connection: Connection,
    /// TYPE NAME or TYPE/NAME
    #[arg(required = true, value_name = "TYPE[/NAME]")]
    words: Vec<String>,
}

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Status {
    #[command(flatten)]
    subject: Subject,
    /// How long to wait; for ever when 0
    #[arg(long, value_parser = corten_core::Duration::parse_argument, default_value = "0")]
    timeout: Duration,
    /// Say how it stands and do not wait
    #[arg(long, default_value_t = true, num_args = 0..=1, default_missing_value = "true", action = clap::ArgAction::Set)]
    watch: bool,
}

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Revision {
    #[command(flatten)]
    subject: Subject,
    /// The revision; the last but one when left out
    #[arg(long, alias = "revision", value_name = "REVISION")]
    to_revision: Option<i64>,
}

impl Rollout {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let (Self::Status(Status { subject, .. })
        | Self::Restart(subject)
        | Self::Pause(subject)
        | Self::Resume(subject)
        | Self::Undo(Revision { subject, .. })
        | Self::History(Revision { subject, .. })) = &self;
        subject.connection.clone().run(async |cluster| {
            let resources = Resources::of(&cluster).await?;
            let mut code = ExitCode::SUCCESS;
            for target in parse_targets(&subject.words, None, &resources)? {
                let resource = &target.resource;
                ensure!(
                    resource.group == "apps"
                        && ["deployments", "statefulsets", "daemonsets"].contains(&resource.plural.as_str()),
                    "{} has no rollout; Deployments, StatefulSets and DaemonSets have",
                    resource.qualified()
                );
                for object in target.objects(&cluster, Some(&cluster.namespace)).await? {
                    let name = object["metadata"]["name"].as_str().context("an object has a name")?;
                    let workload = Workload {
                        cluster: &cluster,
                        resource,
                        name,
                        object: &object,
                    };
                    match self.one(&workload).await {
                        Ok(said) => output::text(said)?,
                        Err(error) => {
                            eprintln!("error: {}: {error:#}", workload.title());
                            code = ExitCode::FAILURE;
                        }
                    }
                }
            }
            Ok(code)
        })
    }

    async fn one(&self, workload: &Workload<'_>) -> Result<String> {
        match self {
            Self::Status(status) => workload.status(status).await,
            Self::Restart(_) => workload.restart().await,
            Self::Undo(revision) => workload.undo(revision.to_revision).await,
            Self::History(revision) => workload.history(revision.to_revision).await,
            Self::Pause(_) => workload.pause(true).await,
            Self::Resume(_) => workload.pause(false).await,
        }
    }
}

/// A workload and the cluster it is in.
struct Workload<'a> {
    cluster: &'a Cluster,
    resource: &'a Resource,
    name: &'a str,
    object: &'a Value,
}

impl Workload<'_> {
    fn title(&self) -> String {
        format!("{}/{}", self.resource.qualified(), self.name)
    }

    fn path(&self) -> String {
        self.resource.path(Some(&self.cluster.namespace), Some(self.name))
    }

    async fn patch(&self, patch: Value) -> Result<()> {
        self.cluster
            .patch(&self.path(), "application/merge-patch+json", &patch)
            .await?;
        Ok(())
    }

    async fn status(&self, options: &Status) -> Result<String> {
        let said = std::cell::RefCell::new(String::new());
        let collection = self.resource.path(Some(&self.cluster.namespace), None);
        let judge = |object: Option<&Value>| {
            let Some(object) = object else { return false };
            let (done, line) = match self.resource.plural.as_str() {
                "deployments" => told(object, false),
                "daemonsets" => told(object, true),
                _ => stateful_set(object),
            };
            // Each line once, as things change.
            if *said.borrow() != line {
                let _ = output::line(&line);
                *said.borrow_mut() = line;
            }
            done || failure(object).is_some() || !options.watch
        };
        let follow = wait::until(self.cluster, &collection, self.name, false, judge);
        let object = if options.timeout.is_zero() {
            follow.await?
        } else {
            tokio::time::timeout(options.timeout, follow)
                .await
                .context("timed out waiting for the rollout")??
        };
        match object.as_ref().and_then(failure) {
            Some(message) => bail!("{message}"),
            None => Ok(String::new()),
        }
    }

    async fn restart(&self) -> Result<String> {
        ensure!(self.object["spec"]["paused"] != true, "it is paused; resume it first");
        let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        self.patch(
            json!({"spec": {"template": {"metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": now}}}}}),
        )
        .await?;
        Ok(format!("{} restarted\n", self.title()))
    }

    async fn pause(&self, pause: bool) -> Result<String> {
        ensure!(self.resource.plural == "deployments", "only Deployments can be paused");
        let paused = self.object["spec"]["paused"] == true;
        ensure!(
            paused != pause,
            "it is {}",
            if paused { "already paused" } else { "not paused" }
        );
        self.patch(json!({"spec": {"paused": if pause { Value::from(true) } else { Value::Null }}}))
            .await?;
        Ok(format!(
            "{} {}\n",
            self.title(),
            if pause { "paused" } else { "resumed" }
        ))
    }

    /// The revisions with the template of each.
    async fn revisions(&self) -> Result<BTreeMap<i64, Value>> {
        let deployment = self.resource.plural == "deployments";
        let owned = if deployment {
            "replicasets"
        } else {
            "controllerrevisions"
        };
        let path = format!("/apis/apps/v1/namespaces/{}/{owned}", self.cluster.namespace);
        let list = self.cluster.get(&path).await?;
        let uid = &self.object["metadata"]["uid"];
        let mut revisions = BTreeMap::new();
        for object in list["items"].as_array().into_iter().flatten() {
            let owners = object["metadata"]["ownerReferences"].as_array().into_iter().flatten();
            if !owners.into_iter().any(|owner| owner["uid"] == *uid) {
                continue;
            }
            let (revision, template) = if deployment {
                let revision = object["metadata"]["annotations"][REVISION]
                    .as_str()
                    .and_then(|text| text.parse().ok());
                (revision, object["spec"]["template"].clone())
            } else {
                (object["revision"].as_i64(), object["data"]["spec"]["template"].clone())
            };
            if let Some(revision) = revision {
                revisions.insert(revision, template);
            }
        }
        Ok(revisions)
    }

    async fn history(&self, wanted: Option<i64>) -> Result<String> {
        let revisions = self.revisions().await?;
        if let Some(wanted) = wanted {
            let template = revisions
                .get(&wanted)
                .with_context(|| format!("there is no revision {wanted}"))?;
            return Ok(format!(
                "{} with revision #{wanted}\n{}",
                self.title(),
                corten_api::yaml::document(template)
            ));
        }
        let mut rows = vec![vec!["REVISION".to_owned(), "CHANGE-CAUSE".to_owned()]];
        for (revision, template) in &revisions {
            let cause = template["metadata"]["annotations"]["kubernetes.io/change-cause"]
                .as_str()
                .unwrap_or("<none>");
            rows.push(vec![revision.to_string(), cause.to_owned()]);
        }
        Ok(format!("{}\n{}", self.title(), table::lines(&rows)))
    }

    async fn undo(&self, wanted: Option<i64>) -> Result<String> {
        ensure!(self.object["spec"]["paused"] != true, "it is paused; resume it first");
        let revisions = self.revisions().await?;
        let wanted = match wanted.filter(|wanted| *wanted != 0) {
            Some(wanted) => wanted,
            None => *revisions.keys().rev().nth(1).context("there is no earlier revision")?,
        };
        let mut template = revisions
            .get(&wanted)
            .with_context(|| format!("there is no revision {wanted}"))?
            .clone();
        if let Some(labels) = template["metadata"]["labels"].as_object_mut() {
            labels.remove("pod-template-hash");
        }
        if template == self.object["spec"]["template"] {
            return Ok(format!(
                "{} skipped rollback (current template already matches revision {wanted})\n",
                self.title()
            ));
        }
        // The template is replaced as a whole: what the revision does not have must go.
        let patch = json!([{"op": "replace", "path": "/spec/template", "value": template}]);
        self.cluster
            .patch(&self.path(), "application/json-patch+json", &patch)
            .await?;
        Ok(format!("{} rolled back\n", self.title()))
    }
}

/// Whether the rollout of a Deployment or DaemonSet is done, and how it stands, in kubectl's words.
fn told(object: &Value, is_set: bool) -> (bool, String) {
    let name = object["metadata"]["name"].as_str().unwrap_or("");
    let what = if is_set { "daemon set" } else { "deployment" };
    let waiting = |how: String| format!("Waiting for {what} {name:?} rollout to finish: {how}...");
    // Items of a list do not carry their kind.
    let mut object = object.clone();
    object["kind"] = json!(if is_set { "DaemonSet" } else { "Deployment" });
    let line = match ready::rollout(&object) {
        Stage::Done => return (true, format!("{what} {name:?} successfully rolled out")),
        Stage::Unnoticed | Stage::Unmade => format!("Waiting for {what} spec update to be observed..."),
        Stage::Updating(updated, wanted) => {
            let of = if is_set { "pods" } else { "replicas" };
            waiting(format!("{updated} out of {wanted} new {of} have been updated"))
        }
        Stage::Ending(old) => waiting(format!("{old} old replicas are pending termination")),
        Stage::Starting(available, wanted) => {
            let of = if is_set { "pods" } else { "replicas" };
            waiting(format!("{available} of {wanted} updated {of} are available"))
        }
    };
    (false, line)
}

/// Whether a StatefulSet's rollout is done, and how it stands.
fn stateful_set(object: &Value) -> (bool, String) {
    let status = &object["status"];
    let count = |field: &str| status[field].as_i64().unwrap_or(0);
    let wanted = object["spec"]["replicas"].as_i64().unwrap_or(1);
    if count("observedGeneration") < object["metadata"]["generation"].as_i64().unwrap_or(0) {
        return (
            false,
            "Waiting for statefulset spec update to be observed...".to_owned(),
        );
    }
    if count("readyReplicas") < wanted {
        return (
            false,
            format!("Waiting for {} pods to be ready...", wanted - count("readyReplicas")),
        );
    }
    let partition = object["spec"]["updateStrategy"]["rollingUpdate"]["partition"]
        .as_i64()
        .unwrap_or(0);
    if count("updatedReplicas") < wanted - partition {
        return (
            false,
            format!(
                "waiting for statefulset rolling update to complete {} pods at revision {}...",
                count("updatedReplicas"),
                status["updateRevision"].as_str().unwrap_or("")
            ),
        );
    }
    (
        true,
        format!(
            "statefulset rolling update complete {} pods at revision {}...",
            count("currentReplicas"),
            status["currentRevision"].as_str().unwrap_or("")
        ),
    )
}

/// Why a rollout will not be done by itself.
fn failure(object: &Value) -> Option<String> {
    let conditions = object["status"]["conditions"].as_array()?;
    let late = conditions
        .iter()
        .any(|condition| condition["type"] == "Progressing" && condition["reason"] == "ProgressDeadlineExceeded");
    late.then(|| "it exceeded its progress deadline".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(status: Value, expect: (bool, &str)) {
        let object = json!({"metadata": {"name": "d", "generation": 2}, "spec": {"replicas": 3}, "status": status});
        let (done, line) = told(&object, false);
        assert_eq!((done, line.as_str()), expect);
    }

    #[test]
    fn how_a_deployment_stands() {
        check(
            json!({"observedGeneration": 1}),
            (false, "Waiting for deployment spec update to be observed..."),
        );
        check(
            json!({"observedGeneration": 2, "updatedReplicas": 1, "replicas": 3}),
            (
                false,
                "Waiting for deployment \"d\" rollout to finish: 1 out of 3 new replicas have been updated...",
            ),
        );
        check(
            json!({"observedGeneration": 2, "updatedReplicas": 3, "replicas": 4}),
            (
                false,
                "Waiting for deployment \"d\" rollout to finish: 1 old replicas are pending termination...",
            ),
        );
        check(
            json!({"observedGeneration": 2, "updatedReplicas": 3, "replicas": 3, "availableReplicas": 2}),
            (
                false,
                "Waiting for deployment \"d\" rollout to finish: 2 of 3 updated replicas are available...",
            ),
        );
        check(
            json!({"observedGeneration": 2, "updatedReplicas": 3, "replicas": 3, "availableReplicas": 3}),
            (true, "deployment \"d\" successfully rolled out"),
        );
    }

    #[test]
    fn a_rollout_that_is_too_late_has_failed() {
        let object = json!({"status": {"conditions": [{"type": "Progressing", "reason": "ProgressDeadlineExceeded"}]}});
        assert!(failure(&object).is_some() && failure(&json!({})).is_none());
    }
}
