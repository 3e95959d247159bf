//! A server in front of an instance's API: what passes is counted, and what an API server may say otherwise is said here.
//!
//! The local runtime stores roles and does not enforce them, and is one version of Kubernetes; commands have to be clear to whoever has
//! fewer rights or an older server.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use corten_rt::TaskGroup;
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::runtime::Runtime;

/// What is said instead of what the instance says.
#[derive(Clone, Debug, Default)]
pub struct Says {
    /// The minor version.
    pub minor: Option<&'static str>,
    /// Who asks, and what he may do: verb and resource, as in `list pods` or `* deployments.apps`. `None`: everything.
    pub user: Option<(&'static str, &'static [&'static str])>,
}

/// A front of an instance; ends when dropped.
#[derive(Debug)]
pub struct Front {
    address: SocketAddr,
    written: Arc<Mutex<Vec<String>>>,
    _runtime: tokio::runtime::Runtime,
}

impl Front {
    /// In front of the instance `default` of a runtime.
    ///
    /// # Panics
    /// If the instance does not run.
    pub fn new(of: &Runtime, says: Says) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a thread can be started");
        let client = runtime.block_on(of.client("default"));
        let listener = runtime
            .block_on(TcpListener::bind("127.0.0.1:0"))
            .expect("there are free ports");
        let address = listener.local_addr().expect("it is bound");
        let written = Arc::new(Mutex::new(Vec::new()));
        let front = Serving {
            client,
            says,
            written: written.clone(),
        };
        let tasks = TaskGroup::new("front");
        let accepting = tasks.clone();
        runtime.block_on(async {
            accepting.spawn("listener", async move {
                while let Ok((stream, _)) = listener.accept().await {
                    let front = front.clone();
                    tasks.spawn("connection", async move {
                        let service = service_fn(move |request| {
                            let front = front.clone();
                            async move { Ok::<_, Infallible>(front.answer(request).await) }
                        });
                        let connection = hyper::server::conn::http1::Builder::new();
                        drop(connection.serve_connection(TokioIo::new(stream), service).await);
                    });
                }
            });
        });
        Self {
            address,
            written,
            _runtime: runtime,
        }
    }

    /// Writes a kubeconfig that leads here; with `context` as its only context.
    ///
    /// # Panics
    /// If the file cannot be written.
    pub fn kubeconfig(&self, file: &Path, context: &str) {
        let address = self.address;
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: {context}\n\
             clusters: [{{name: c, cluster: {{server: \"http://{address}\"}}}}]\nusers: [{{name: u, user: {{}}}}]\n\
             contexts: [{{name: {context}, context: {{cluster: c, user: u}}}}]\n"
        );
        std::fs::write(file, text).expect("the test's own directory");
    }

    /// What was written through here: method and path; nothing of which the server kept nothing.
    pub fn written(&self) -> Vec<String> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[derive(Clone)]
struct Serving {
    client: kube::Client,
    says: Says,
    written: Arc<Mutex<Vec<String>>>,
}

impl Serving {
    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let (mut parts, body) = request.into_parts();
        let Ok(body) = body.collect().await else {
            return json_answer(400, &json!({"message": "the request was cut off"}));
        };
        let bytes = body.to_bytes();
        let path = parts.uri.path().to_owned();
        if let (true, Some(minor)) = (path == "/version", self.says.minor) {
            return json_answer(
                200,
                &json!({"major": "1", "minor": minor, "gitVersion": format!("v1.{minor}.0")}),
            );
        }
        if let Some((user, may)) = self.says.user {
            let asked: Value = serde_json::from_slice(&bytes).unwrap_or_default();
            if let Some(refused) = judge(user, may, &parts.method, &path, parts.uri.query(), &asked) {
                return refused;
            }
        }
        let kept = !parts.uri.query().unwrap_or_default().contains("dryRun") && !path.contains("selfsubject");
        if parts.method != Method::GET && kept {
            let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
            written.push(format!("{} {path}", parts.method));
        }
        parts.headers.remove("host");
        match self.client.send(Request::from_parts(parts, Body::from(bytes))).await {
            Ok(answer) => answer,
            Err(error) => json_answer(502, &json!({"message": error.to_string()})),
        }
    }
}

fn json_answer(code: u16, value: &Value) -> Response<Body> {
    let mut response = Response::new(Body::from(value.to_string().into_bytes()));
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or_default();
    let json = http::HeaderValue::from_static("application/json");
    response.headers_mut().insert("content-type", json);
    response
}

/// Whether one of the rights covers a verb on a resource.
fn covers(may: &[&str], verb: &str, resource: &str) -> bool {
    may.iter().any(|right| {
        let (verbs, resources) = right.split_once(' ').unwrap_or(("", ""));
        (verbs == "*" || verbs == verb) && (resources == "*" || resources == resource)
    })
}

/// Answers reviews, and refuses what may not be done in Kubernetes' words; nothing where the instance is to answer.
fn judge(
    user: &str,
    may: &[&str],
    method: &Method,
    path: &str,
    query: Option<&str>,
    asked: &Value,
) -> Option<Response<Body>> {
    if path.ends_with("/selfsubjectreviews") {
        return Some(json_answer(201, &json!({"status": {"userInfo": {"username": user}}})));
    }
    let qualified = |group: &str, plural: &str| match group {
        "" => plural.to_owned(),
        group => format!("{plural}.{group}"),
    };
    if path.ends_with("/selfsubjectaccessreviews") {
        let of = &asked["spec"]["resourceAttributes"];
        let word = |key: &str| of[key].as_str().unwrap_or_default();
        let resource = match word("resource") {
            "*" => "*".to_owned(),
            plural => qualified(word("group"), plural),
        };
        let allowed = covers(may, word("verb"), &resource);
        return Some(json_answer(201, &json!({"status": {"allowed": allowed}})));
    }
    let mut words = path.split('/').skip(1);
    let group = match words.next() {
        Some("api") => "",
        Some("apis") => words.next()?,
        // Versions and health are everybody's.
        _ => return None,
    };
    let mut words = words.skip(1).peekable();
    let mut plural = words.next()?;
    let is_within = plural == "namespaces" && words.clone().count() > 1;
    if is_within {
        words.next();
        plural = words.next()?;
    }
    let named = words.next().is_some();
    let watches = query.is_some_and(|query| query.contains("watch=true"));
    let verb = match (method.as_str(), named) {
        ("GET", _) if watches => "watch",
        ("GET", true) => "get",
        ("GET", false) => "list",
        ("POST", _) => "create",
        ("PUT", _) => "update",
        ("PATCH", _) => "patch",
        (_, _) => "delete",
    };
    let resource = qualified(group, plural);
    (!covers(may, verb, &resource)).then(|| {
        let message = format!(
            "{resource} is forbidden: User \"{user}\" cannot {verb} resource \"{plural}\" in API group \"{group}\" at the cluster scope"
        );
        json_answer(
            403,
            &json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Forbidden", "code": 403, "message": message}),
        )
    })
}
