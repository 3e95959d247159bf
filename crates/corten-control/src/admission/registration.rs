//! The care for the ValidatingWebhookConfigurations of our revision: the roots by which API servers know us, and what happens to objects
//! while nobody answers.
//!
//! A configuration is installed with `failurePolicy: Ignore`. It becomes `Fail` once an object that must be refused has been refused, in a
//! dry run that goes the whole way: API server, Service, certificate, validator. Entries whose name begins with `system.` stay as they
//! are; installations have them for the control plane's own namespace, which is never to be blocked by a control plane that is away.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use corten_rt::{Drain, TaskGroup};
use corten_store_kube::{Change, Event, Kind, Selection, Source, kinds};
use serde_json::{Value, json};
use tokio::sync::watch;

/// How often is tried what did not succeed.
const RETRY: Duration = Duration::from_secs(1);
/// The longest that one call of the API may take.
const CALL_MAX: Duration = Duration::from_secs(10);
/// Entries that are never closed.
const OPEN: &str = "system.";
const PATH: &str = "/apis/admissionregistration.k8s.io/v1";
/// The end of the names of entries that lead to injection.
const INJECTOR: &str = "sidecar-injector.istio.io";
const MANAGER: &str = "pilot-discovery";

/// What is to happen to objects while nobody judges them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// They are refused.
    Fail,
    /// They are let through.
    Ignore,
}

/// Whom we look after, and as whom.
#[derive(Clone, Debug)]
pub(crate) struct Registration {
    /// The namespace of our Service.
    pub(crate) namespace: String,
    /// Configurations are ours by the label `istio.io/rev`.
    pub(crate) revision: String,
    /// What we are asked for.
    pub(crate) task: Task,
}

/// What a registration is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Task {
    /// Objects are judged; what the administrator wants while nobody does.
    Validation(Policy),
    /// Pods get proxies. Whether they are made without one while nobody answers, the installation says.
    Injection,
}

impl Task {
    fn kind(self) -> Kind {
        match self {
            Task::Validation(_) => kinds::VALIDATING_WEBHOOKS,
            Task::Injection => kinds::MUTATING_WEBHOOKS,
        }
    }
}

/// How far it is known that objects are judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gate {
    /// Not yet.
    Untried,
    /// One was refused as it should be.
    Works,
}

impl Registration {
    /// Looks after the configurations while we lead, until told to stop.
    pub(crate) async fn run(
        self,
        client: kube::Client,
        mut keys: watch::Receiver<Arc<corten_ca::Published>>,
        mut leads: watch::Receiver<bool>,
        mut drain: Drain,
    ) {
        loop {
            tokio::select! {
                () = drain.wait() => return,
                lead = leads.wait_for(|leads| *leads) => if lead.is_err() { return },
            }
            tokio::select! {
                () = drain.wait() => return,
                () = self.lead(&client, &mut keys) => return,
                lost = leads.wait_for(|leads| !*leads) => if lost.is_err() { return },
            }
        }
    }

    /// Whether we may watch what we register in; asked until there is an answer.
    async fn may_watch(&self, client: &kube::Client) -> bool {
        loop {
            match corten_store_kube::may(client, "watch", self.task.kind()).await {
                Ok(may) => return may,
                Err(error) => {
                    tracing::debug!(%error, "it is not known whether mutating webhooks may be seen");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    async fn lead(&self, client: &kube::Client, keys: &mut watch::Receiver<Arc<corten_ca::Published>>) {
        // Installations that know nothing of injection do not let us see who registered for it, and there is nothing to look after then.
        if self.task == Task::Injection && !self.may_watch(client).await {
            tracing::info!("mutating webhooks are not ours to see: their registrations are left alone");
            return std::future::pending().await;
        }
        let tasks = TaskGroup::new("webhook registration");
        let selection = Selection {
            labels: Some(format!("istio.io/rev={}", self.revision)),
            ..Selection::default()
        };
        let source = Source::new().select(self.task.kind(), selection);
        let mut events = source.start(client, &tasks);
        let mut known: Vec<Value> = Vec::new();
        let mut gate = Gate::Untried;
        // What did not succeed is tried again, and what was said about it is not said again.
        let mut said = String::new();
        let mut again = false;
        loop {
            tokio::select! {
                event = events.recv() => match event {
                    None => return,
                    Some(Event::Synced) => {}
                    Some(Event::Changes(changes)) => changes.into_iter().for_each(|change| see(&mut known, change)),
                },
                changed = keys.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(RETRY), if again => {}
            }
            let bundle = STANDARD.encode(keys.borrow_and_update().roots_pem.as_bytes());
            again = false;
            let mut problem = self.write_all(client, &known, &bundle, gate).await.err();
            if problem.is_none() && gate == Gate::Untried && known.iter().any(|c| self.is_to_be_closed(c)) {
                match self.try_out(client).await {
                    Ok(()) => {
                        tracing::info!("invalid objects are refused: from now on nothing passes unjudged");
                        gate = Gate::Works;
                        problem = self.write_all(client, &known, &bundle, gate).await.err();
                    }
                    Err(reason) => problem = Some(reason),
                }
            }
            if let Some(problem) = problem {
                again = true;
                if said != problem {
                    tracing::warn!(task = ?self.task, problem, "webhooks are not fully registered yet");
                    said = problem;
                }
            }
        }
    }

    async fn write_all(&self, client: &kube::Client, known: &[Value], bundle: &str, gate: Gate) -> Result<(), String> {
        for configuration in known {
            let Some(patch) = self.patch(configuration, bundle, gate) else {
                continue;
            };
            let name = configuration["metadata"]["name"].as_str().unwrap_or_default();
            let request = http::Request::patch(format!(
                "{PATH}/{}/{name}?fieldManager={MANAGER}",
                self.task.kind().plural
            ))
            .header("content-type", "application/strategic-merge-patch+json")
            .body(patch.to_string().into_bytes())
            .map_err(|error| error.to_string())?;
            match tokio::time::timeout(CALL_MAX, client.request::<Value>(request)).await {
                Ok(Ok(_)) => tracing::info!(name, "webhook configuration brought up to date"),
                // It is gone; the watch will say so.
                Ok(Err(kube::Error::Api(status))) if status.code == 404 => {}
                Ok(Err(error)) => return Err(format!("cannot change the webhook configuration {name}: {error}")),
                Err(_) => return Err(format!("cannot change the webhook configuration {name}: no answer")),
            }
        }
        Ok(())
    }

    /// What makes a configuration right; `None`: it is.
    fn patch(&self, configuration: &Value, bundle: &str, gate: Gate) -> Option<Value> {
        let mut wrong = Vec::new();
        for entry in self.entries(configuration) {
            let mut change = json!({ "name": entry["name"] });
            if entry["clientConfig"]["caBundle"] != bundle {
                change["clientConfig"] = json!({ "caBundle": bundle });
            }
            if let Some(policy) = self
                .policy(entry, gate)
                .filter(|policy| entry["failurePolicy"] != *policy)
            {
                change["failurePolicy"] = json!(policy);
            }
            if change.as_object().is_some_and(|change| change.len() > 1) {
                wrong.push(change);
            }
        }
        (!wrong.is_empty()).then(|| json!({ "webhooks": wrong }))
    }

    /// The entries that lead to us.
    fn entries<'c>(&self, configuration: &'c Value) -> impl Iterator<Item = &'c Value> {
        let ours = configuration["metadata"]["labels"]["istio.io/rev"] == *self.revision;
        let entries = configuration["webhooks"].as_array().into_iter().flatten();
        let (namespace, task) = (self.namespace.clone(), self.task);
        entries.filter(move |entry| {
            let config = &entry["clientConfig"];
            let named = |name: &str| task != Task::Injection || name.ends_with(INJECTOR);
            ours && entry["name"].as_str().is_some_and(named)
                && (config["url"].is_string() || config["service"]["namespace"] == *namespace)
        })
    }

    /// What an entry's failure policy is to be; `None`: as it is.
    fn policy(&self, entry: &Value, gate: Gate) -> Option<&'static str> {
        let never_closed = entry["name"].as_str().is_none_or(|name| name.starts_with(OPEN));
        let Task::Validation(policy) = self.task else {
            return None;
        };
        match (policy, gate) {
            _ if never_closed => None,
            (Policy::Ignore, _) => Some("Ignore"),
            (Policy::Fail, Gate::Works) => Some("Fail"),
            (Policy::Fail, Gate::Untried) => None,
        }
    }

    fn is_to_be_closed(&self, configuration: &Value) -> bool {
        let wanted = |entry| {
            self.policy(entry, Gate::Works)
                .is_some_and(|policy| entry["failurePolicy"] != *policy)
        };
        self.entries(configuration).any(wanted)
    }

    /// Lets the API server have an object judged that must be refused; nothing is stored.
    async fn try_out(&self, client: &kube::Client) -> Result<(), String> {
        let object = json!({
            "apiVersion": "networking.istio.io/v1",
            "kind": "Gateway",
            "metadata": {
                "name": "invalid-gateway",
                "namespace": self.namespace,
                "labels": { "istio.io/rev": self.revision },
                "annotations": { "internal.istio.io/webhook-always-reject": "true" },
            },
            "spec": { "servers": [] },
        });
        let path = format!(
            "/apis/networking.istio.io/v1/namespaces/{}/gateways?dryRun=All",
            self.namespace
        );
        let request = http::Request::post(path)
            .header("content-type", "application/json")
            .body(object.to_string().into_bytes())
            .map_err(|error| error.to_string())?;
        match tokio::time::timeout(CALL_MAX, client.request::<Value>(request)).await {
            Ok(Ok(_)) => Err("an object that must be refused was not".to_owned()),
            Ok(Err(kube::Error::Api(status))) => tried(status.code, &status.message),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("the API server does not answer".to_owned()),
        }
    }
}

/// What the API server's refusal of the trial says about the gate.
fn tried(code: u16, message: &str) -> Result<(), String> {
    // Without definitions there is nothing to judge, and with a webhook of somebody's that takes no dry runs there is no way to try.
    if message.contains("denied the request") || message.contains("does not support dry run") {
        return Ok(());
    }
    if code == 404 && message.contains("could not find the requested resource") {
        return Ok(());
    }
    Err(format!(
        "an object that must be refused was refused for another reason: {message}"
    ))
}

fn see(known: &mut Vec<Value>, change: Change) {
    let remove = |known: &mut Vec<Value>, name: &Value| known.retain(|other| other["metadata"]["name"] != *name);
    match change {
        Change::Put { object, .. } => {
            remove(known, &object["metadata"]["name"]);
            known.push(object);
        }
        Change::Removed { key, .. } => remove(known, &json!(key.name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ours(policy: Policy) -> Registration {
        Registration {
            namespace: "istio-system".into(),
            revision: "blue".into(),
            task: Task::Validation(policy),
        }
    }

    fn configuration(revision: &str, entries: &[(&str, &str, &str)]) -> Value {
        let entry = |(name, namespace, policy): &(&str, &str, &str)| {
            json!({ "name": name, "failurePolicy": policy, "clientConfig": {
                "caBundle": "b2xk", "service": { "namespace": namespace, "name": "istiod" } } })
        };
        let entries: Vec<Value> = entries.iter().map(entry).collect();
        json!({ "metadata": { "name": "c", "labels": { "istio.io/rev": revision } }, "webhooks": entries })
    }

    const OURS: (&str, &str, &str) = ("rev.validation.istio.io", "istio-system", "Ignore");

    #[test]
    fn closed_only_when_it_works() {
        let c = configuration("blue", &[OURS]);
        let bundle = json!({ "webhooks": [{ "name": OURS.0, "clientConfig": { "caBundle": "bmV3" } }] });
        assert_eq!(ours(Policy::Fail).patch(&c, "bmV3", Gate::Untried), Some(bundle));
        let closed = json!({ "webhooks": [{ "name": OURS.0, "failurePolicy": "Fail" }] });
        assert_eq!(ours(Policy::Fail).patch(&c, "b2xk", Gate::Works), Some(closed));
        assert!(ours(Policy::Fail).is_to_be_closed(&c));
    }

    #[test]
    fn of_injection_only_the_roots_are_written() {
        let injection = Registration {
            task: Task::Injection,
            ..ours(Policy::Fail)
        };
        let entries = [
            ("rev.namespace.sidecar-injector.istio.io", "istio-system", "Fail"),
            ("other.example.org", "istio-system", "Fail"),
        ];
        let bundle = json!({ "webhooks": [{ "name": entries[0].0, "clientConfig": { "caBundle": "bmV3" } }] });
        let c = configuration("blue", &entries);
        assert_eq!(injection.patch(&c, "bmV3", Gate::Untried), Some(bundle));
        assert!(!injection.is_to_be_closed(&c));
    }

    #[test]
    fn what_is_right_is_left_alone() {
        let closed = configuration("blue", &[(OURS.0, OURS.1, "Fail")]);
        // A control plane that starts anew does not open what was closed.
        for gate in [Gate::Untried, Gate::Works] {
            assert_eq!(ours(Policy::Fail).patch(&closed, "b2xk", gate), None);
        }
        assert!(!ours(Policy::Fail).is_to_be_closed(&closed));
    }

    #[test]
    fn as_configured() {
        let closed = configuration("blue", &[(OURS.0, OURS.1, "Fail")]);
        let opened = json!({ "webhooks": [{ "name": OURS.0, "failurePolicy": "Ignore" }] });
        assert_eq!(ours(Policy::Ignore).patch(&closed, "b2xk", Gate::Untried), Some(opened));
        assert!(!ours(Policy::Ignore).is_to_be_closed(&configuration("blue", &[OURS])));
    }

    #[test]
    fn others_and_our_own_namespaces_stay_as_they_are() {
        let registration = ours(Policy::Fail);
        assert_eq!(
            registration.patch(&configuration("green", &[OURS]), "bmV3", Gate::Works),
            None
        );
        let of_others = configuration("blue", &[("a.example.org", "elsewhere", "Ignore")]);
        assert_eq!(registration.patch(&of_others, "bmV3", Gate::Works), None);
        let own = configuration("blue", &[("system.rev.validation.istio.io", "istio-system", "Ignore")]);
        assert_eq!(registration.patch(&own, "b2xk", Gate::Works), None);
        assert!(!registration.is_to_be_closed(&own));
    }

    #[test]
    fn refusals_of_the_trial() {
        assert!(
            tried(
                400,
                "admission webhook \"x\" denied the request: configuration is invalid"
            )
            .is_ok()
        );
        assert!(tried(404, "the server could not find the requested resource").is_ok());
        assert!(tried(400, "admission webhook \"y\" does not support dry run").is_ok());
        assert!(tried(404, "namespaces \"istio-system\" not found").is_err());
        assert!(tried(500, "failed calling webhook: connection refused").is_err());
        assert!(tried(403, "gateways is forbidden").is_err());
    }
}
