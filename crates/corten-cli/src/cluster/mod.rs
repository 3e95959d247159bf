//! A cluster that a kubeconfig names, and the requests that commands make of it.
//!
//! Any cluster will do: nothing here knows whether it is the local runtime's.

mod discovery;
mod envoy;
mod forward;
mod target;

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use corten_install::values::known;
use http::{Method, Request};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::Status;
use serde_json::Value;

pub(crate) use discovery::{Resource, Resources};
pub(crate) use envoy::Envoy;
pub(crate) use target::{
    Target, Targets, container as container_of, parse as parse_targets, pod as pod_of, pods_behind, ready_first,
    selected_by, split_name,
};

/// The media type of tables.
pub(crate) const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";

/// What the client library gives as reason when an answer is no Kubernetes Status.
const UNREADABLE: &str = "Failed to parse error data";

/// What an API server answers about a group of kinds that nobody has defined: no Status, but these words.
fn is_unknown_path(code: u16, message: &str) -> bool {
    code == 404 && message.trim() == "404 page not found"
}

/// Which cluster, and which namespace in it.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Connection {
    /// The namespace; the kubeconfig's own when left out
    #[arg(short, long, value_name = "NAMESPACE")]
    namespace: Option<String>,
    /// The kubeconfig file; by default those in KUBECONFIG, else ~/.kube/config, else that of the running local instance
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<std::path::PathBuf>,
    /// The kubeconfig's context to use
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
}

/// A cluster one can make requests of.
#[derive(Clone)]
pub(crate) struct Cluster {
    client: kube::Client,
    /// The namespace that commands are about unless they say otherwise.
    pub(crate) namespace: String,
    server: String,
}

impl Connection {
    /// To what a kubeconfig file names, or the usual one does, in its own context or another.
    pub(crate) fn of(kubeconfig: Option<std::path::PathBuf>, context: Option<String>) -> Self {
        Self {
            namespace: None,
            kubeconfig,
            context,
        }
    }

    /// The same kubeconfig in another context.
    pub(crate) fn in_context(&self, context: &str) -> Self {
        Self {
            context: Some(context.to_owned()),
            ..self.clone()
        }
    }

    /// The namespace that was named.
    pub(crate) fn named_namespace(&self) -> Option<&str> {
        self.namespace.as_deref()
    }

    /// Runs a command's work against the cluster, on a runtime of its own.
    pub(crate) fn run<T>(&self, work: impl AsyncFnOnce(Cluster) -> Result<T>) -> Result<T> {
        // An error means that one was chosen already, which serves as well.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let outcome = runtime.block_on(async { work(self.open().await?).await });
        // A read of standard input cannot be taken back, and nobody waits for it any more.
        runtime.shutdown_background();
        outcome
    }

    /// The cluster, for work on a runtime that there is.
    pub(crate) async fn open(&self) -> Result<Cluster> {
        let kubeconfig = self.read()?;
        self.check_context(&kubeconfig)?;
        let options = KubeConfigOptions {
            context: self.context.clone(),
            ..KubeConfigOptions::default()
        };
        let mut config = kube::Config::from_custom_kubeconfig(kubeconfig, &options)
            .await
            .context("the kubeconfig is not usable")?;
        // Follows and waits read for as long as they like; a server that is not there should be noticed.
        config.read_timeout = None;
        config.connect_timeout = Some(Duration::from_secs(10));
        let namespace = self
            .namespace
            .clone()
            .unwrap_or_else(|| config.default_namespace.clone());
        let server = config.cluster_url.to_string();
        Ok(Cluster {
            client: kube::Client::try_from(config)?,
            namespace,
            server,
        })
    }

    /// The context that is to be used exists.
    fn check_context(&self, kubeconfig: &Kubeconfig) -> Result<()> {
        let names: Vec<&str> = kubeconfig.contexts.iter().map(|it| it.name.as_str()).collect();
        let there = match &names[..] {
            [] => "it has none".to_owned(),
            names => format!("there are {}", names.join(", ")),
        };
        let Some(wanted) = self.context.as_deref().or(kubeconfig.current_context.as_deref()) else {
            bail!("the kubeconfig has no current context: name one with --context ({there})");
        };
        if names.contains(&wanted) {
            return Ok(());
        }
        let near = known::hint(wanted, names.iter().copied());
        bail!("the kubeconfig has no context {wanted:?}{near}; {there}")
    }

    fn read(&self) -> Result<Kubeconfig> {
        if let Some(path) = &self.kubeconfig {
            return Kubeconfig::read_from(path).with_context(|| format!("reading {}", path.display()));
        }
        let usual = std::env::var_os("HOME").map(|home| std::path::Path::new(&home).join(".kube/config"));
        if std::env::var_os("KUBECONFIG").is_some_and(|value| !value.is_empty())
            || usual.is_some_and(|path| path.is_file())
        {
            return Kubeconfig::read().context("reading the kubeconfig");
        }
        let local = crate::place::home()?.join("default/kubeconfig");
        if local.is_file() {
            return Kubeconfig::read_from(&local).with_context(|| format!("reading {}", local.display()));
        }
        bail!(
            "no cluster: start one with `corten up` and set KUBECONFIG as it says, or name a kubeconfig with --kubeconfig"
        )
    }
}

/// The warnings of an answer: `299 - "text"`, with quotes and backslashes escaped.
fn warnings(headers: &http::HeaderMap) -> Vec<String> {
    let values = headers.get_all(http::header::WARNING).into_iter();
    let text = |value: &http::HeaderValue| {
        let text = String::from_utf8_lossy(value.as_bytes()).into_owned();
        // After the code and who says it.
        let (_, quoted) = text.split_once('"')?;
        let quoted = quoted.strip_suffix('"').unwrap_or(quoted);
        let mut plain = String::new();
        let mut characters = quoted.chars();
        while let Some(character) = characters.next() {
            plain.extend(if character == '\\' {
                characters.next()
            } else {
                Some(character)
            });
        }
        Some(plain)
    };
    values.filter_map(text).collect()
}

impl Cluster {
    /// The same, as seen from another namespace.
    pub(crate) fn in_namespace(&self, namespace: &str) -> Cluster {
        let mut cluster = self.clone();
        cluster.namespace = namespace.to_owned();
        cluster
    }

    /// Where the API server is.
    pub(crate) fn server(&self) -> &str {
        &self.server
    }

    /// The client, for the verbs that stream.
    pub(crate) fn client(&self) -> kube::Client {
        self.client.clone()
    }

    /// One request with a JSON answer.
    pub(crate) async fn request(
        &self,
        method: Method,
        path: &str,
        accept: &str,
        body: Option<(&str, Vec<u8>)>,
    ) -> Result<Value, Refusal> {
        let mut request = Request::builder().method(method).uri(path).header("accept", accept);
        let mut bytes = Vec::new();
        if let Some((media, content)) = body {
            request = request.header("content-type", media);
            bytes = content;
        }
        let request = request.body(bytes).map_err(|error| Refusal::Other(error.into()))?;
        let answer = self.client.send(request.map(kube::client::Body::from)).await;
        let answer = answer.map_err(|error| self.refusal(error))?;
        // Said whatever became of the request, as kubectl does it.
        for warning in warnings(answer.headers()) {
            eprintln!("Warning: {warning}");
        }
        let code = answer.status();
        let body = answer
            .into_body()
            .collect_bytes()
            .await
            .map_err(|error| self.refusal(error))?;
        if code.is_client_error() || code.is_server_error() {
            let status = serde_json::from_slice::<Status>(&body).unwrap_or_else(|_| {
                let text = String::from_utf8_lossy(&body);
                Status::failure(text.trim(), UNREADABLE).with_code(code.as_u16())
            });
            return Err(self.refusal(kube::Error::Api(status.boxed())));
        }
        serde_json::from_slice(&body).map_err(|error| self.refusal(kube::Error::SerdeError(error)))
    }

    /// Reads a path.
    pub(crate) async fn get(&self, path: &str) -> Result<Value, Refusal> {
        self.request(Method::GET, path, "application/json", None).await
    }

    /// Patches a path.
    pub(crate) async fn patch(&self, path: &str, media: &str, patch: &Value) -> Result<Value, Refusal> {
        self.request(
            Method::PATCH,
            path,
            "application/json",
            Some((media, patch.to_string().into_bytes())),
        )
        .await
    }

    /// What went wrong, in the words of the server if it answered.
    pub(crate) fn refusal(&self, error: kube::Error) -> Refusal {
        match error {
            kube::Error::Api(status)
                if status.reason == UNREADABLE && !is_unknown_path(status.code, &status.message) =>
            {
                Refusal::Other(anyhow::anyhow!(
                    "{} answers with code {} and no Kubernetes Status, so it is no Kubernetes API server; does the kubeconfig name the right one?",
                    self.server,
                    status.code
                ))
            }
            kube::Error::Api(status) => Refusal::Status {
                code: status.code,
                reason: status.reason.clone(),
                message: status.message.clone(),
            },
            other => Refusal::Other(self.no_answer(other)),
        }
    }

    /// Why there was no answer: the last cause says it, those before only wrap it.
    fn no_answer(&self, error: kube::Error) -> anyhow::Error {
        let error = anyhow::Error::new(error);
        let cause = error.root_cause().to_string();
        let server = &self.server;
        if cause.contains("refused") {
            anyhow::anyhow!(
                "nothing listens at {server}: {cause}; does the instance run (`corten status`), and does the kubeconfig name the right server?"
            )
        } else if cause.contains("certificate") || cause.contains("corrupt message") {
            anyhow::anyhow!(
                "{server} is not the server that the kubeconfig means: {cause}; does the kubeconfig name the right one?"
            )
        } else {
            error.context(format!("asking the server {server}"))
        }
    }
}

/// Why a request was not done.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// The server's answer.
    Status { code: u16, reason: String, message: String },
    /// There was no answer.
    Other(anyhow::Error),
}

impl Refusal {
    /// Whether there is no such object.
    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self, Self::Status { code: 404, .. })
    }
}

impl From<Refusal> for anyhow::Error {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Status { reason, message, .. } if !reason.is_empty() => {
                anyhow::anyhow!("from server ({reason}): {message}")
            }
            Refusal::Status { message, .. } => anyhow::anyhow!("from server: {message}"),
            Refusal::Other(error) => error,
        }
    }
}

/// A query string of the pairs that are present; empty without any.
pub(crate) fn query(pairs: &[(&str, Option<String>)]) -> String {
    let mut text = String::new();
    for (key, value) in pairs {
        if let Some(value) = value {
            text.push(if text.is_empty() { '?' } else { '&' });
            text.push_str(key);
            text.push('=');
            for byte in value.bytes() {
                match byte {
                    b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                        text.push(char::from(byte))
                    }
                    _ => text.push_str(&format!("%{byte:02X}")),
                }
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_encoded() {
        assert_eq!(query(&[("a", None)]), "");
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(
            query(&[("a", some("x=1,y!=2")), ("b", None), ("c", some("d e"))]),
            "?a=x%3D1%2Cy%21%3D2&c=d%20e"
        );
    }

    #[test]
    fn warnings_are_read_as_they_are_written() {
        let mut headers = http::HeaderMap::new();
        for value in [r#"299 - "a \"quoted\" field""#, r#"299 kube "another""#] {
            headers.append(http::header::WARNING, http::HeaderValue::from_static(value));
        }
        assert_eq!(warnings(&headers), [r#"a "quoted" field"#, "another"]);
        assert!(warnings(&http::HeaderMap::new()).is_empty());
    }
}
