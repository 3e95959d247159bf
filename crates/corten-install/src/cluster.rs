//! The requests that an installation makes of a cluster.

use std::time::Duration;

use http::{Method, Request};
use serde_json::{Value, json};

/// Who owns the fields that an installation writes.
pub const MANAGER: &str = "corten-install";

/// Resource definitions need a moment before objects of theirs are served.
const SERVED_WITHIN: Duration = Duration::from_secs(15);

/// The kinds of objects that are installed, looked for or removed: group and version, plural, and whether they are in namespaces.
const KINDS: [(&str, &str, &str, bool); 25] = [
    ("ControllerRevision", "apps/v1", "controllerrevisions", true),
    ("Namespace", "v1", "namespaces", false),
    ("Node", "v1", "nodes", false),
    ("Pod", "v1", "pods", true),
    ("Event", "v1", "events", true),
    ("ConfigMap", "v1", "configmaps", true),
    ("Secret", "v1", "secrets", true),
    ("Service", "v1", "services", true),
    ("ServiceAccount", "v1", "serviceaccounts", true),
    ("ResourceQuota", "v1", "resourcequotas", true),
    ("Deployment", "apps/v1", "deployments", true),
    ("DaemonSet", "apps/v1", "daemonsets", true),
    ("ControllerRevision", "apps/v1", "controllerrevisions", true),
    ("Lease", "coordination.k8s.io/v1", "leases", true),
    ("NetworkPolicy", "networking.k8s.io/v1", "networkpolicies", true),
    (
        "HorizontalPodAutoscaler",
        "autoscaling/v2",
        "horizontalpodautoscalers",
        true,
    ),
    ("PodDisruptionBudget", "policy/v1", "poddisruptionbudgets", true),
    ("Role", "rbac.authorization.k8s.io/v1", "roles", true),
    ("RoleBinding", "rbac.authorization.k8s.io/v1", "rolebindings", true),
    ("ClusterRole", "rbac.authorization.k8s.io/v1", "clusterroles", false),
    (
        "ClusterRoleBinding",
        "rbac.authorization.k8s.io/v1",
        "clusterrolebindings",
        false,
    ),
    (
        "CustomResourceDefinition",
        "apiextensions.k8s.io/v1",
        "customresourcedefinitions",
        false,
    ),
    ("GatewayClass", "gateway.networking.k8s.io/v1", "gatewayclasses", false),
    (
        "ValidatingWebhookConfiguration",
        "admissionregistration.k8s.io/v1",
        "validatingwebhookconfigurations",
        false,
    ),
    (
        "MutatingWebhookConfiguration",
        "admissionregistration.k8s.io/v1",
        "mutatingwebhookconfigurations",
        false,
    ),
];

/// A cluster.
#[derive(Clone)]
pub struct Cluster {
    client: kube::Client,
    /// Where the API server is, for messages.
    server: String,
    dry_run: bool,
}

/// The cluster did not do something.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// Whoever asks may not.
    #[error(
        "you may not {action}: {message}; use the kubeconfig of somebody who administers the cluster{}",
        granted(message)
    )]
    Forbidden {
        /// What was to be done.
        action: String,
        /// The server's words.
        message: String,
    },
    /// The server does not know who asks.
    #[error(
        "cannot {action}: {server} does not know who you are ({message}); are the credentials of the kubeconfig's context expired, or those of another cluster?"
    )]
    Unknown {
        /// What was to be done.
        action: String,
        /// Where the server is.
        server: String,
        /// Its words.
        message: String,
    },
    /// There is no answer.
    #[error(
        "cannot {action}: the API server {server} does not answer: {problem}; is it running, and does the kubeconfig's context name the right cluster (`kubectl config get-contexts`; --context names another)?"
    )]
    NoAnswer {
        /// What was to be done.
        action: String,
        /// Where the server is.
        server: String,
        /// Why not.
        problem: String,
    },
    /// What answers is no API server.
    #[error(
        "cannot {action}: {server} answers ({problem}) and is no Kubernetes API server; does the kubeconfig's context name the right cluster (`kubectl config get-contexts`; --context names another)?"
    )]
    Foreign {
        /// What was to be done.
        action: String,
        /// Where the server is.
        server: String,
        /// What is strange about its answer.
        problem: String,
    },
    /// The server refuses.
    #[error("cannot {action}: {message}")]
    Refused {
        /// What was to be done.
        action: String,
        /// The server's words.
        message: String,
        /// The HTTP code.
        code: u16,
    },
    /// An object of a kind that no chart has.
    #[error("nothing is known of the kind {0:?}")]
    Kind(String),
}

/// What became of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// It is new.
    Created,
    /// It is another than before.
    Configured,
    /// It was like this.
    Unchanged,
    /// The server does not have such objects, and the mesh runs without.
    NotServed,
}

/// What becomes of what an object owns when it is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dependents {
    /// It is deleted, too.
    Go,
    /// It stays, on its own.
    Stay,
}

/// Kinds that small servers do not have: what they do is of use, and the mesh runs without.
const OPTIONAL: [&str; 4] = [
    "HorizontalPodAutoscaler",
    "PodDisruptionBudget",
    "ResourceQuota",
    "NetworkPolicy",
];

/// An object's title: `Kind namespace/name`.
pub fn title(object: &Value) -> String {
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (kind, meta) = (word(&object["kind"]), &object["metadata"]);
    match meta["namespace"].as_str() {
        Some(namespace) => format!("{kind} {namespace}/{}", word(&meta["name"])),
        None => format!("{kind} {}", word(&meta["name"])),
    }
}

/// The path of a kind's objects, in a namespace or all of them; and of one, if a name is given.
pub fn path(kind: &str, namespace: Option<&str>, name: Option<&str>) -> Result<String, ClusterError> {
    let (_, version, plural, namespaced) = known(kind)?;
    let root = if version.contains('/') { "/apis" } else { "/api" };
    let mut path = format!("{root}/{version}");
    if let (true, Some(namespace)) = (*namespaced, namespace) {
        path += &format!("/namespaces/{namespace}");
    }
    path += &format!("/{plural}");
    if let Some(name) = name {
        path += &format!("/{name}");
    }
    Ok(path)
}

fn known(kind: &str) -> Result<&'static (&'static str, &'static str, &'static str, bool), ClusterError> {
    let mut kinds = KINDS.iter();
    kinds
        .find(|(known, ..)| *known == kind)
        .ok_or_else(|| ClusterError::Kind(kind.to_owned()))
}

/// A kind as roles name it: `deployments.apps`.
pub fn qualified(kind: &str) -> Result<String, ClusterError> {
    let (_, version, plural, _) = known(kind)?;
    Ok(match version.split_once('/') {
        Some((group, _)) => format!("{plural}.{group}"),
        None => (*plural).to_owned(),
    })
}

fn path_of(object: &Value) -> Result<String, ClusterError> {
    let meta = &object["metadata"];
    path(
        object["kind"].as_str().unwrap_or_default(),
        meta["namespace"].as_str(),
        Some(meta["name"].as_str().unwrap_or_default()),
    )
}

impl Cluster {
    /// By a client of a server; with `dry_run` the server judges what is written and keeps nothing of it.
    pub fn new(client: kube::Client, server: &str, dry_run: bool) -> Cluster {
        let server = server.to_owned();
        Cluster {
            client,
            server,
            dry_run,
        }
    }

    /// The same cluster, in which nothing is kept.
    pub fn trial(&self) -> Cluster {
        Cluster {
            dry_run: true,
            ..self.clone()
        }
    }

    /// What applying an object would make of it; nothing, if it is not there.
    pub async fn tried(&self, object: &Value, live: &Value) -> Result<Option<Value>, ClusterError> {
        let mut object = object.clone();
        if object["kind"] == "ValidatingWebhookConfiguration" {
            keep_policy(&mut object, Some(live));
        }
        let path = path_of(&object)? + &format!("?fieldManager={MANAGER}&force=true");
        let action = format!("compare {}", title(&object));
        let body = Some(("application/apply-patch+yaml", &object));
        self.trial().request(&action, Method::PATCH, &path, body).await
    }

    /// Whether nothing is kept.
    pub fn is_dry_run(&self) -> bool {
        self.dry_run
    }

    /// One request. Nothing, if there is no such thing.
    pub async fn request(
        &self,
        action: &str,
        method: Method,
        path: &str,
        body: Option<(&str, &Value)>,
    ) -> Result<Option<Value>, ClusterError> {
        let mut path = path.to_owned();
        if self.dry_run && method != Method::GET && !path.contains("authorization.k8s.io") {
            path += if path.contains('?') {
                "&dryRun=All"
            } else {
                "?dryRun=All"
            };
        }
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("accept", "application/json");
        let mut bytes = Vec::new();
        if let Some((media, value)) = body {
            request = request.header("content-type", media);
            bytes = value.to_string().into_bytes();
        }
        let failed = |error: kube::Error| {
            let (action, server, problem) = (action.to_owned(), self.server.clone(), last_cause(&error));
            match error {
                kube::Error::SerdeError(_) => ClusterError::Foreign {
                    action,
                    server,
                    problem,
                },
                _ => ClusterError::NoAnswer {
                    action,
                    server,
                    problem,
                },
            }
        };
        let request = request
            .body(bytes)
            .map_err(|error| failed(kube::Error::HttpError(error)))?;
        match self.client.request::<Value>(request).await {
            Ok(value) => Ok(Some(value)),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
            Err(kube::Error::Api(status)) => {
                let (action, message) = (action.to_owned(), status.message.clone());
                let server = self.server.clone();
                Err(match status.code {
                    401 | 403 if status.code == 401 || message.contains("\"system:anonymous\"") => {
                        ClusterError::Unknown {
                            action,
                            server,
                            message,
                        }
                    }
                    // Webhooks, quotas and namespaces that are going refuse with the same code.
                    403 if user(&message).is_some() => ClusterError::Forbidden { action, message },
                    code => ClusterError::Refused { action, message, code },
                })
            }
            Err(error) => Err(failed(error)),
        }
    }

    /// Reads a path; nothing, if there is nothing.
    pub async fn read(&self, path: &str) -> Result<Option<Value>, ClusterError> {
        self.request(&format!("read {path}"), Method::GET, path, None).await
    }

    /// An object as it is in the cluster.
    pub async fn live(&self, object: &Value) -> Result<Option<Value>, ClusterError> {
        let action = format!("read {}", title(object));
        self.request(&action, Method::GET, &path_of(object)?, None).await
    }

    /// The objects of a kind with these labels; none where the kind is not served.
    pub async fn list(&self, kind: &str, namespace: Option<&str>, labels: &str) -> Result<Vec<Value>, ClusterError> {
        let mut path = path(kind, namespace, None)?;
        if !labels.is_empty() {
            path += &format!("?labelSelector={}", labels.replace('=', "%3D").replace(',', "%2C"));
        }
        let list = self.request(&format!("list {kind}s"), Method::GET, &path, None).await?;
        let items = list.map(|mut list| list["items"].take());
        let mut items = match items {
            Some(Value::Array(items)) => items,
            _ => Vec::new(),
        };
        for item in &mut items {
            // Items of a list do not carry their type.
            item["kind"] = json!(kind);
        }
        Ok(items)
    }

    /// Makes an object what it should be. Fields of others that we do not set stay theirs.
    pub async fn apply(&self, object: &Value) -> Result<Applied, ClusterError> {
        let before = self.live(object).await?;
        let mut object = object.clone();
        if object["kind"] == "ValidatingWebhookConfiguration" {
            keep_policy(&mut object, before.as_ref());
        }
        let path = path_of(&object)? + &format!("?fieldManager={MANAGER}&force=true");
        let action = format!("apply {}", title(&object));
        let begin = tokio::time::Instant::now();
        let after = loop {
            let body = Some(("application/apply-patch+yaml", &object));
            if let Some(after) = self.request(&action, Method::PATCH, &path, body).await? {
                break after;
            }
            if !self.serves(&object).await? {
                return Ok(Applied::NotServed);
            }
            // Its namespace or kind is only just made, or in a dry run never is.
            if self.dry_run {
                return Ok(Applied::Created);
            }
            if begin.elapsed() > SERVED_WITHIN {
                let message = "the server does not know the kind, or the namespace is missing".to_owned();
                return Err(ClusterError::Refused {
                    action,
                    message,
                    code: 404,
                });
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        };
        let version = |object: &Value| object["metadata"]["resourceVersion"].clone();
        Ok(match before {
            None => Applied::Created,
            Some(before) if version(&before) == version(&after) => Applied::Unchanged,
            Some(_) => Applied::Configured,
        })
    }

    /// Whether the server has objects like this; only asked of kinds that may be missing.
    pub async fn serves(&self, object: &Value) -> Result<bool, ClusterError> {
        let kind = object["kind"].as_str().unwrap_or_default();
        Ok(!OPTIONAL.contains(&kind) || self.read(&path(kind, None, None)?).await?.is_some())
    }

    /// Puts an object in the place of another's, whole.
    pub async fn replace(&self, object: &Value, live: &Value) -> Result<(), ClusterError> {
        let mut object = object.clone();
        object["metadata"]["resourceVersion"] = live["metadata"]["resourceVersion"].clone();
        let path = path_of(&object)? + &format!("?fieldManager={MANAGER}");
        let action = format!("replace {}", title(&object));
        let body = Some(("application/json", &object));
        self.request(&action, Method::PUT, &path, body).await.map(drop)
    }

    /// Changes fields of an object (a JSON merge patch), if it is there.
    pub async fn merge(&self, object: &Value, patch: &Value) -> Result<(), ClusterError> {
        let action = format!("change {}", title(object));
        let body = Some(("application/merge-patch+json", patch));
        self.request(&action, Method::PATCH, &path_of(object)?, body)
            .await
            .map(drop)
    }

    /// Deletes an object, and what it owns; whether there was one. A pod gets so many seconds to end, if they are given.
    pub async fn delete(&self, object: &Value, grace: Option<u32>) -> Result<bool, ClusterError> {
        self.delete_with(object, grace, Dependents::Go).await
    }

    /// Deletes an object; whether there was one.
    pub async fn delete_only(&self, object: &Value, dependents: Dependents) -> Result<bool, ClusterError> {
        self.delete_with(object, None, dependents).await
    }

    async fn delete_with(
        &self,
        object: &Value,
        grace: Option<u32>,
        dependents: Dependents,
    ) -> Result<bool, ClusterError> {
        let policy = match dependents {
            Dependents::Go => "Background",
            Dependents::Stay => "Orphan",
        };
        let mut options = json!({"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": policy});
        if let Some(grace) = grace {
            options["gracePeriodSeconds"] = json!(grace);
        }
        let action = format!("delete {}", title(object));
        let body = Some(("application/json", &options));
        let gone = self.request(&action, Method::DELETE, &path_of(object)?, body).await?;
        Ok(gone.is_some())
    }

    /// Whether whoever asks may do something to a kind, in a namespace or in all of them.
    pub async fn may(&self, verb: &str, kind: &str, namespace: Option<&str>) -> Result<bool, ClusterError> {
        let (_, version, plural, _) = known(kind)?;
        let group = version.split_once('/').map_or("", |(group, _)| group);
        let mut attributes = json!({"verb": verb, "group": group, "resource": plural});
        if let Some(namespace) = namespace {
            attributes["namespace"] = json!(namespace);
        }
        self.allowed(attributes).await
    }

    /// Whether whoever asks may do everything.
    pub async fn may_everything(&self) -> Result<bool, ClusterError> {
        self.allowed(json!({"verb": "*", "group": "*", "resource": "*"})).await
    }

    async fn allowed(&self, attributes: Value) -> Result<bool, ClusterError> {
        let review = json!({
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes},
        });
        let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
        let body = Some(("application/json", &review));
        let answer = self.request("ask what you may do", Method::POST, path, body).await?;
        // A server that does not know reviews lets whoever may connect do everything.
        Ok(answer.is_none_or(|answer| answer["status"]["allowed"] == json!(true)))
    }

    /// The name by which the server knows whoever asks, if it says so.
    pub async fn user(&self) -> Result<Option<String>, ClusterError> {
        let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
        let path = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
        let body = Some(("application/json", &review));
        match self.request("ask who you are", Method::POST, path, body).await {
            Ok(answer) => Ok(answer.and_then(|answer| {
                let name = answer["status"]["userInfo"]["username"].as_str();
                name.map(str::to_owned)
            })),
            Err(ClusterError::Forbidden { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Whom the server's words name, if they say that somebody lacks a right.
fn user(message: &str) -> Option<&str> {
    let (_, rest) = message.split_once("orbidden: ")?;
    let rest = rest.strip_prefix("User \"").or_else(|| rest.strip_prefix("user \""))?;
    Some(rest.split_once('"')?.0)
}

/// How what was refused can be granted.
fn granted(message: &str) -> String {
    user(message).map_or_else(String::new, |user| {
        format!(", or have them grant it: {}", crate::permissions::grant(user))
    })
}

/// The last cause of an error: it says what happened, those before only wrap it.
fn last_cause(error: &kube::Error) -> String {
    let mut last: &dyn std::error::Error = error;
    while let Some(cause) = last.source() {
        last = cause;
    }
    last.to_string()
}

/// What the control plane has filled into a webhook stays: once it answers, objects are to be refused while it is away.
fn keep_policy(object: &mut Value, live: Option<&Value>) {
    let live: Vec<Value> = live
        .and_then(|live| live["webhooks"].as_array())
        .cloned()
        .unwrap_or_default();
    for webhook in object["webhooks"].as_array_mut().into_iter().flatten() {
        let there = live.iter().find(|there| there["name"] == webhook["name"]);
        if let Some(there) = there
            && there["failurePolicy"] == "Fail"
            && there["clientConfig"]["caBundle"]
                .as_str()
                .is_some_and(|bundle| !bundle.is_empty())
        {
            webhook["failurePolicy"] = json!("Fail");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_kubernetes_own() {
        let path = |kind, namespace, name| path(kind, namespace, name).unwrap();
        assert_eq!(path("Pod", None, None), "/api/v1/pods");
        assert_eq!(
            path("Deployment", Some("n"), Some("x")),
            "/apis/apps/v1/namespaces/n/deployments/x"
        );
        assert_eq!(path("Namespace", Some("n"), Some("x")), "/api/v1/namespaces/x");
    }

    #[test]
    fn who_lacks_a_right_is_read_from_the_servers_words() {
        for (message, expected) in [
            (
                r#"deployments.apps is forbidden: User "system:serviceaccount:a:b" cannot list resource "deployments""#,
                Some("system:serviceaccount:a:b"),
            ),
            (
                r#"clusterroles "x" is forbidden: user "jane" (groups=["g"]) is attempting to grant RBAC permissions not currently held"#,
                Some("jane"),
            ),
            (r#"pods "x" is forbidden: exceeded quota: q"#, None),
            (r#"admission webhook "w" denied the request: no"#, None),
        ] {
            assert_eq!(user(message), expected, "{message}");
        }
    }

    #[test]
    fn a_webhook_that_works_stays_closed() {
        let fresh = json!({"webhooks": [{"name": "a", "failurePolicy": "Ignore"}]});
        let live = |bundle: &str| json!({"webhooks": [{"name": "a", "failurePolicy": "Fail", "clientConfig": {"caBundle": bundle}}]});
        for (live, policy) in [(Some(live("x")), "Fail"), (Some(live("")), "Ignore"), (None, "Ignore")] {
            let mut object = fresh.clone();
            keep_policy(&mut object, live.as_ref());
            assert_eq!(object["webhooks"][0]["failurePolicy"], policy);
        }
    }
}
