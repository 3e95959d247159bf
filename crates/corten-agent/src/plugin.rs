//! What the CNI plugin asks, and the way of its question to the [driver](crate::driver): HTTP over a Unix socket.

use std::io;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use corten_rt::{Drain, TaskGroup};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::UnixListener;
use tokio::sync::{mpsc, oneshot};

use crate::metrics::Answered;

/// A pod that is about to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// The path of its namespace, as the container runtime sees it.
    pub netns: PathBuf,
    /// The pod's name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Its uid; empty where the plugin does not tell.
    pub uid: String,
    /// The addresses it has been given.
    pub addresses: Vec<IpAddr>,
}

/// A question with the way of its answer: whether the pod may start, or why not.
#[derive(Debug)]
pub struct Asked {
    /// The question.
    pub question: Question,
    /// The answer.
    pub answer: oneshot::Sender<Result<(), String>>,
}

#[derive(Deserialize)]
struct Body {
    #[serde(rename = "Netns")]
    netns: String,
    #[serde(rename = "PodName")]
    name: String,
    #[serde(rename = "PodNamespace")]
    namespace: String,
    #[serde(rename = "PodUID", default)]
    uid: String,
    #[serde(rename = "IPs", default)]
    ips: Option<Vec<Ip>>,
}

#[derive(Deserialize)]
struct Ip {
    #[serde(rename = "Address")]
    address: Net,
}

/// Go's `net.IPNet`; the mask is not needed.
#[derive(Deserialize)]
struct Net {
    #[serde(rename = "IP")]
    ip: IpAddr,
}

impl Question {
    /// Reads the body of a `POST /cmdadd`.
    pub fn parse(body: &[u8]) -> Result<Question, String> {
        let body: Body = serde_json::from_slice(body).map_err(|error| format!("cannot read the request: {error}"))?;
        if body.netns.is_empty() || body.name.is_empty() || body.namespace.is_empty() {
            return Err("the request names no pod or no network namespace".into());
        }
        Ok(Question {
            netns: body.netns.into(),
            name: body.name,
            namespace: body.namespace,
            uid: body.uid,
            addresses: body.ips.into_iter().flatten().map(|ip| ip.address.ip).collect(),
        })
    }
}

/// More than any question.
const BODY_BYTES_MAX: usize = 64 * 1024;
/// Questions under way; more wait in the socket's queue.
const QUESTIONS_MAX: usize = 256;

/// Answers the plugin until the drain. The socket's file appears when questions can be asked.
pub async fn serve(
    path: PathBuf,
    questions: mpsc::Sender<Asked>,
    metrics: std::sync::Arc<crate::metrics::Metrics>,
    mut drain: Drain,
) -> io::Result<()> {
    let listener = listen(&path)?;
    let tasks = TaskGroup::new("plugin");
    let room = std::sync::Arc::new(tokio::sync::Semaphore::new(QUESTIONS_MAX));
    loop {
        let permit = room.clone().acquire_owned().await.map_err(io::Error::other)?;
        let stream = tokio::select! {
            () = drain.wait() => break,
            accepted = listener.accept() => accepted?.0,
        };
        let (questions, metrics) = (questions.clone(), metrics.clone());
        tasks.spawn("question", async move {
            let service = service_fn(|request| {
                let (questions, metrics) = (questions.clone(), metrics.clone());
                async move {
                    let response = answer(request, &questions).await;
                    let response_code = response.status().as_u16();
                    metrics.plugin.get_or_create(&Answered { response_code }).inc();
                    Ok::<_, std::convert::Infallible>(response)
                }
            });
            let served = hyper::server::conn::http1::Builder::new()
                .keep_alive(false)
                .serve_connection(TokioIo::new(stream), service);
            if let Err(error) = served.await {
                tracing::debug!(%error, "a question of the plugin was broken off");
            }
            drop(permit);
        });
    }
    // Nobody is to wait for an agent that ends; who asks again finds the next one.
    std::fs::remove_file(&path).ok();
    tasks.shutdown(Duration::from_secs(2)).await;
    Ok(())
}

fn listen(path: &Path) -> io::Result<UnixListener> {
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir)?;
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

async fn answer(request: Request<Incoming>, questions: &mpsc::Sender<Asked>) -> Response<Full<Bytes>> {
    if request.uri().path() != "/cmdadd" {
        return response(StatusCode::NOT_FOUND, "ask for /cmdadd");
    }
    if request.method() != Method::POST {
        return response(StatusCode::METHOD_NOT_ALLOWED, "post the question");
    }
    let body = match Limited::new(request.into_body(), BODY_BYTES_MAX).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => return response(StatusCode::BAD_REQUEST, &error.to_string()),
    };
    let question = match Question::parse(&body) {
        Ok(question) => question,
        Err(problem) => return response(StatusCode::BAD_REQUEST, &problem),
    };
    let (sender, answered) = oneshot::channel();
    let asked = Asked {
        question,
        answer: sender,
    };
    let ends = "the node agent ends";
    if questions.send(asked).await.is_err() {
        return response(StatusCode::INTERNAL_SERVER_ERROR, ends);
    }
    match answered.await {
        Ok(Ok(())) => response(StatusCode::OK, ""),
        Ok(Err(problem)) => response(StatusCode::INTERNAL_SERVER_ERROR, &problem),
        Err(_) => response(StatusCode::INTERNAL_SERVER_ERROR, ends),
    }
}

fn response(status: StatusCode, text: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text.to_owned())));
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_of_istios_plugin_and_of_ours() {
        let istio = br#"{"Netns":"/var/run/netns/cni-1","PodName":"p","PodNamespace":"n",
            "IPs":[{"Interface":null,"Address":{"IP":"10.0.0.2","Mask":"////AA=="},"Gateway":"10.0.0.1"}]}"#;
        let question = Question::parse(istio).unwrap();
        assert_eq!(question.addresses, ["10.0.0.2".parse::<IpAddr>().unwrap()]);
        assert_eq!(question.uid, "");
        let ours = br#"{"Netns":"/n","PodName":"p","PodNamespace":"n","PodUID":"u","IPs":null}"#;
        assert_eq!(Question::parse(ours).unwrap().uid, "u");
        for wrong in [
            &b"{}"[..],
            b"[]",
            b"",
            br#"{"Netns":"","PodName":"p","PodNamespace":"n"}"#,
        ] {
            assert!(Question::parse(wrong).is_err());
        }
    }
}
