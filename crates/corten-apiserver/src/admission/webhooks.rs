//! Admission webhooks: which ones a request concerns, the review that is sent, what the answer means.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use rustls::RootCertStore;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use serde_json::{Value, json};
use tokio_rustls::TlsConnector;

use super::kind_of;
use crate::api::Api;
use crate::context::Context;
use crate::object::{self, Object};
use crate::pods::Duplex;
use crate::registry::Resource;
use crate::selector::LabelSelector;
use crate::status::Status;

/// The largest answer that is read from a webhook.
const ANSWER_BYTES_MAX: usize = 8 << 20;

/// Connects to webhooks where they run.
pub trait Dialer: Send + Sync {
    /// Connects to a port of a service, by its cluster address, from within the pod network.
    fn service(&self, namespace: &str, name: &str, port: u16) -> BoxFuture<'_, std::io::Result<Box<dyn Duplex>>>;
}

/// What calling webhooks needs.
#[derive(Default)]
pub(crate) struct Webhooks {
    dialer: OnceLock<Arc<dyn Dialer>>,
}

/// What is being done to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Create,
    Update,
    Delete,
}

impl Operation {
    fn word(self) -> &'static str {
        match self {
            Self::Create => "CREATE",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
        }
    }
}

/// One request as webhooks see it.
struct Review<'r> {
    context: &'r Context,
    resource: &'r Resource,
    subresource: &'r str,
    operation: Operation,
    old: Option<&'r Value>,
}

/// Why a webhook could not be asked.
#[derive(Debug, thiserror::Error)]
enum CallError {
    #[error("{0}")]
    Configuration(String),
    #[error("dial: {0}")]
    Dial(#[source] std::io::Error),
    #[error("{0}")]
    Http(#[from] hyper::Error),
    #[error("context deadline exceeded: no answer within {0:?}")]
    Timeout(Duration),
    #[error("the webhook answered with status {0}")]
    Code(u16),
    #[error("the webhook's answer cannot be read: {0}")]
    Answer(String),
}

impl Api {
    /// Says how webhooks at services are reached. Before that, calling one fails as its failure policy says.
    pub fn set_dialer(&self, dialer: Arc<dyn Dialer>) {
        let _ = self.webhooks.dialer.set(dialer);
    }

    /// Lets the mutating webhooks change an object.
    pub(super) async fn mutate(
        &self,
        context: &Context,
        resource: &Resource,
        subresource: &str,
        operation: Operation,
        new: &mut Value,
        old: Option<&Value>,
    ) -> Result<(), Status> {
        let review = Review {
            context,
            resource,
            subresource,
            operation,
            old,
        };
        let hooks = self.concerned("mutatingwebhookconfigurations", &review, Some(new));
        // Who changed the object last; earlier ones that asked for it see the change once more.
        let mut changed_by = None;
        for (index, hook) in hooks.iter().enumerate() {
            if Box::pin(self.mutate_by(&review, hook, new)).await? {
                changed_by = Some(index);
            }
        }
        if let Some(last) = changed_by {
            for hook in hooks
                .iter()
                .take(last)
                .filter(|h| h["reinvocationPolicy"] == "IfNeeded")
            {
                Box::pin(self.mutate_by(&review, hook, new)).await?;
            }
        }
        Ok(())
    }

    /// Asks one mutating webhook. True when it changed the object.
    async fn mutate_by(&self, review: &Review<'_>, hook: &Value, new: &mut Value) -> Result<bool, Status> {
        let Some(response) = self.ask(review, hook, Some(new)).await? else {
            return Ok(false);
        };
        let Some(patch) = response["patch"].as_str().filter(|p| !p.is_empty()) else {
            return Ok(false);
        };
        let name = hook["name"].as_str().unwrap_or("");
        let broken = |what: &dyn std::fmt::Display| {
            Status::internal(format!(
                "admission webhook {name:?} returned a patch that cannot be applied: {what}"
            ))
        };
        let bytes = STANDARD.decode(patch).map_err(|e| broken(&e))?;
        let patch: Value = serde_json::from_slice(&bytes).map_err(|e| broken(&e))?;
        let mut patched = corten_schema::patch::json(new, &patch).map_err(|e| broken(&e))?;
        // The identity is not the webhook's to change.
        for field in ["name", "namespace", "uid", "creationTimestamp"] {
            let value = new["metadata"][field].clone();
            if !value.is_null() {
                object::set_meta(&mut patched, field, value);
            }
        }
        // What the webhook wrote goes through decoding as what the client wrote did.
        let mut lenient = review.context.clone();
        lenient.validation = crate::FieldValidation::Ignore;
        self.decode(&lenient, review.resource, &mut patched)?;
        let changed = patched != *new;
        *new = patched;
        Ok(changed)
    }

    /// Asks all validating webhooks.
    pub(super) async fn validate(
        &self,
        context: &Context,
        resource: &Resource,
        subresource: &str,
        operation: Operation,
        new: Option<&Value>,
        old: Option<&Value>,
    ) -> Result<(), Status> {
        let review = Review {
            context,
            resource,
            subresource,
            operation,
            old,
        };
        let hooks = self.concerned("validatingwebhookconfigurations", &review, new);
        let asked = hooks.iter().map(|hook| self.ask(&review, hook, new));
        futures_util::future::try_join_all(asked).await.map(|_| ())
    }

    /// The webhooks of a kind of configuration that a request concerns, in the order of the configurations' names.
    fn concerned(&self, plural: &str, review: &Review<'_>, new: Option<&Value>) -> Vec<Value> {
        // Webhooks do not judge webhooks, so that a broken one can always be removed.
        if review.resource.group() == "admissionregistration.k8s.io" {
            return Vec::new();
        }
        let configurations: Vec<Object> = self
            .store
            .list(&format!("admissionregistration.k8s.io/{plural}"), None)
            .objects;
        configurations
            .iter()
            .flat_map(|c| object::items(&c["webhooks"]))
            .filter(|hook| self.concerns(review, hook, new))
            .cloned()
            .collect()
    }

    fn concerns(&self, review: &Review<'_>, hook: &Value, new: Option<&Value>) -> bool {
        if !object::items(&hook["rules"])
            .iter()
            .any(|rule| rule_matches(rule, review))
        {
            return false;
        }
        let objects: Vec<&Value> = [new, review.old].into_iter().flatten().collect();
        let labels_match = |selector: &Value, labels: &Value| {
            LabelSelector::from_object(selector).is_none_or(|s| s.matches_labels(labels))
        };
        if !objects.is_empty()
            && !objects
                .iter()
                .any(|o| labels_match(&hook["objectSelector"], &o["metadata"]["labels"]))
        {
            return false;
        }
        let selector = &hook["namespaceSelector"];
        if review.resource.id == crate::resources::NAMESPACES {
            return objects
                .first()
                .is_none_or(|o| labels_match(selector, &o["metadata"]["labels"]));
        }
        if !review.resource.namespaced {
            return true;
        }
        let namespace = objects.first().map_or("", |o| object::namespace(o));
        let namespace = self.store.get("/namespaces", "", namespace);
        namespace.is_none_or(|n| labels_match(selector, &n["metadata"]["labels"]))
    }

    /// Asks a webhook. `None` when it could not be asked and that does not matter; a failure when it denies.
    async fn ask(&self, review: &Review<'_>, hook: &Value, new: Option<&Value>) -> Result<Option<Value>, Status> {
        let name = hook["name"].as_str().unwrap_or("");
        if review.context.dry_run && !matches!(hook["sideEffects"].as_str(), Some("None" | "NoneOnDryRun")) {
            return Err(Status::bad_request(format!(
                "admission webhook {name:?} does not support dry run"
            )));
        }
        let uid = uuid::Uuid::new_v4().to_string();
        let body = review.body(&uid, new);
        let seconds = hook["timeoutSeconds"].as_u64().unwrap_or(10).clamp(1, 30);
        let timeout = Duration::from_secs(seconds);
        let answer = match tokio::time::timeout(timeout, self.call(hook, body)).await {
            Ok(answer) => answer,
            Err(_) => Err(CallError::Timeout(timeout)),
        };
        let response = match answer.and_then(|answer| checked(answer, &uid)) {
            Ok(response) => response,
            Err(error) if hook["failurePolicy"] == "Ignore" => {
                tracing::warn!(webhook = name, %error, "a webhook that may fail did");
                return Ok(None);
            }
            Err(error) => {
                return Err(Status::internal(format!(
                    "failed calling webhook {name:?}: failed to call webhook: Post {:?}: {error}",
                    address(hook)
                )));
            }
        };
        for warning in object::strings(&response["warnings"]) {
            review.context.warn(warning);
        }
        if response["allowed"] == true {
            return Ok(Some(response));
        }
        Err(denied(name, &response["status"]))
    }

    /// Sends a review and reads the answer.
    async fn call(&self, hook: &Value, body: Value) -> Result<Value, CallError> {
        let config = &hook["clientConfig"];
        let mut roots = RootCertStore::empty();
        let bundle = STANDARD
            .decode(config["caBundle"].as_str().unwrap_or(""))
            .unwrap_or_default();
        for certificate in CertificateDer::pem_slice_iter(&bundle).flatten() {
            let _ = roots.add(certificate);
        }
        if roots.is_empty() {
            return Err(CallError::Configuration(
                "clientConfig.caBundle holds no certificate".to_owned(),
            ));
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| CallError::Configuration(e.to_string()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let (host, path, stream) = self.dial(config).await?;
        let server = host.rsplit_once(':').map_or(host.as_str(), |(h, _)| h).to_owned();
        let server = ServerName::try_from(server.trim_matches(['[', ']']).to_owned())
            .map_err(|e| CallError::Configuration(e.to_string()))?;
        let stream = TlsConnector::from(Arc::new(tls))
            .connect(server, stream)
            .await
            .map_err(CallError::Dial)?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let request = hyper::Request::post(path)
            .header("host", host)
            .header("content-type", "application/json")
            .header("accept", "application/json")
            .body(Full::new(Bytes::from(body.to_string())))
            .map_err(|e| CallError::Configuration(e.to_string()))?;
        let exchange = async {
            let response = sender.send_request(request).await?;
            let code = response.status().as_u16();
            let bytes = Limited::new(response.into_body(), ANSWER_BYTES_MAX)
                .collect()
                .await
                .map_err(|e| CallError::Answer(e.to_string()))?
                .to_bytes();
            if code != 200 {
                return Err(CallError::Code(code));
            }
            serde_json::from_slice(&bytes).map_err(|e| CallError::Answer(e.to_string()))
        };
        // The connection's own end is not of interest: what it means for the exchange comes out of that.
        let driven = async {
            let _ = connection.await;
            std::future::pending::<()>().await;
        };
        tokio::select! {
            answer = exchange => answer,
            () = driven => unreachable!("it never ends"),
        }
    }

    /// The host and path of a webhook, and a connection to it.
    async fn dial(&self, config: &Value) -> Result<(String, String, Box<dyn Duplex>), CallError> {
        let service = &config["service"];
        if service.is_object() {
            let (namespace, name) = (object::text(service, &["namespace"]), object::text(service, &["name"]));
            let port = service["port"]
                .as_u64()
                .and_then(|p| u16::try_from(p).ok())
                .unwrap_or(443);
            let dialer = self.webhooks.dialer.get().ok_or_else(|| {
                CallError::Configuration("services cannot be reached: the API runs without a pod network".to_owned())
            })?;
            if self.store.get("/services", namespace, name).is_none() {
                return Err(CallError::Configuration(format!("service {name:?} not found")));
            }
            let stream = dialer.service(namespace, name, port).await.map_err(CallError::Dial)?;
            let path = match object::text(service, &["path"]) {
                "" => "/",
                path => path,
            };
            return Ok((format!("{name}.{namespace}.svc"), path.to_owned(), stream));
        }
        let url = object::text(config, &["url"]);
        let Some(rest) = url.strip_prefix("https://") else {
            return Err(CallError::Configuration(format!("{url:?} is not an https URL")));
        };
        let (host, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
        let address = if host.rsplit_once(':').is_some_and(|(_, p)| p.parse::<u16>().is_ok()) {
            host.to_owned()
        } else {
            format!("{host}:443")
        };
        let stream = tokio::net::TcpStream::connect(address).await.map_err(CallError::Dial)?;
        Ok((host.to_owned(), path.to_owned(), Box::new(stream)))
    }
}

impl Review<'_> {
    fn body(&self, uid: &str, new: Option<&Value>) -> Value {
        let subject = new.or(self.old).unwrap_or(&Value::Null);
        let id = &self.resource.id;
        let resource = json!({ "group": id.group, "version": id.version, "resource": id.plural });
        let mut request = json!({
            "uid": uid,
            "kind": kind_of(self.resource),
            "resource": resource,
            "requestKind": kind_of(self.resource),
            "requestResource": resource,
            "name": object::name(subject),
            "operation": self.operation.word(),
            "userInfo": crate::auth::user_info(&self.context.user),
            "object": new.unwrap_or(&Value::Null),
            "oldObject": self.old.unwrap_or(&Value::Null),
            "dryRun": self.context.dry_run,
            "options": { "kind": match self.operation {
                Operation::Create => "CreateOptions",
                Operation::Update => "UpdateOptions",
                _ => "DeleteOptions",
            }, "apiVersion": "meta.k8s.io/v1" },
        });
        if self.resource.namespaced {
            request["namespace"] = json!(object::namespace(subject));
        }
        if !self.subresource.is_empty() {
            request["subResource"] = json!(self.subresource);
            request["requestSubResource"] = json!(self.subresource);
        }
        json!({ "kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": request })
    }
}

fn rule_matches(rule: &Value, review: &Review<'_>) -> bool {
    let any = |key: &str, wanted: &str| {
        let list = object::strings(&rule[key]);
        list.contains(&"*") || list.contains(&wanted)
    };
    let scope = match rule["scope"].as_str() {
        Some("Cluster") => !review.resource.namespaced,
        Some("Namespaced") => review.resource.namespaced,
        _ => true,
    };
    let plural = review.resource.plural();
    let resource = object::strings(&rule["resources"]).into_iter().any(|wanted| {
        let (name, sub) = wanted.split_once('/').unwrap_or((wanted, ""));
        let name_fits = name == "*" || name == plural;
        name_fits && (sub == review.subresource || (sub == "*" && !review.subresource.is_empty()) || wanted == "*/*")
    });
    scope
        && resource
        && any("operations", review.operation.word())
        && any("apiGroups", review.resource.group())
        && any("apiVersions", &review.resource.id.version)
}

/// Takes the response out of an answer.
fn checked(mut answer: Value, uid: &str) -> Result<Value, CallError> {
    if answer["kind"] != "AdmissionReview" || !answer["response"].is_object() {
        return Err(CallError::Answer(
            "expected an AdmissionReview with a response".to_owned(),
        ));
    }
    let response = answer["response"].take();
    if response["uid"] != uid {
        return Err(CallError::Answer(format!(
            "expected response.uid={uid:?}, got {}",
            response["uid"]
        )));
    }
    Ok(response)
}

fn denied(name: &str, status: &Value) -> Status {
    let code = status["code"]
        .as_u64()
        .and_then(|c| u16::try_from(c).ok())
        .filter(|c| *c >= 400)
        .unwrap_or(400);
    let text = |key: &str| status[key].as_str().filter(|t| !t.is_empty());
    let message = match text("message").or_else(|| text("reason")) {
        Some(why) => format!("admission webhook {name:?} denied the request: {why}"),
        None => format!("admission webhook {name:?} denied the request without explanation"),
    };
    Status::new(code, text("reason").unwrap_or(""), message)
}

/// Where a webhook is, for messages.
fn address(hook: &Value) -> String {
    let config = &hook["clientConfig"];
    match config["url"].as_str() {
        Some(url) => url.to_owned(),
        None => format!(
            "https://{}.{}.svc:{}{}",
            object::text(config, &["service", "name"]),
            object::text(config, &["service", "namespace"]),
            config["service"]["port"].as_u64().unwrap_or(443),
            object::text(config, &["service", "path"]),
        ),
    }
}

#[cfg(test)]
mod tests;
