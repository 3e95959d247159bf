//! An API server in front of the API server, which lets only some requests through.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use corten_rt::TaskGroup;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::Ground;

/// It, for as long as a test.
pub(crate) struct Front {
    pub(crate) address: SocketAddr,
    state: Arc<State>,
    tasks: TaskGroup,
}

struct State {
    client: kube::Client,
    /// Ends of paths that are refused.
    denied: Mutex<Vec<String>>,
    /// Counts how often connections were broken.
    breaks: watch::Sender<u32>,
}

impl Front {
    pub(crate) async fn start(ground: &Ground) -> Front {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let state = Arc::new(State {
            client: ground.kube.clone(),
            denied: Mutex::default(),
            breaks: watch::channel(0).0,
        });
        let tasks = TaskGroup::new("front");
        let (shared, connections) = (state.clone(), tasks.clone());
        tasks.serve("front", |mut drain| async move {
            loop {
                let stream = tokio::select! {
                    () = drain.wait() => return,
                    accepted = listener.accept() => match accepted {
                        Ok((stream, _)) => stream,
                        Err(_) => continue,
                    },
                };
                let (state, mut breaks) = (shared.clone(), shared.breaks.subscribe());
                connections.serve("connection", |mut drain| async move {
                    let service = hyper::service::service_fn(move |request| {
                        let state = state.clone();
                        async move { Ok::<_, Infallible>(state.answer(request).await) }
                    });
                    let connection = hyper::server::conn::http1::Builder::new();
                    let connection = connection.serve_connection(TokioIo::new(stream), service);
                    tokio::select! {
                        () = drain.wait() => {}
                        _ = breaks.changed() => {}
                        _ = connection => {}
                    }
                });
            }
        });
        Front { address, state, tasks }
    }

    /// Refuses requests for paths that end so.
    pub(crate) fn deny(&self, ends: &[&str]) {
        let mut denied = self.state.denied.lock().unwrap_or_else(PoisonError::into_inner);
        denied.extend(ends.iter().map(|end| (*end).to_owned()));
    }

    /// Refuses them no more.
    pub(crate) fn allow(&self, end: &str) {
        let mut denied = self.state.denied.lock().unwrap_or_else(PoisonError::into_inner);
        denied.retain(|denied| denied != end);
    }

    /// Breaks all connections, so that watches begin anew.
    pub(crate) fn break_watches(&self) {
        self.state.breaks.send_modify(|count| *count += 1);
    }

    pub(crate) async fn stop(self) {
        self.tasks.shutdown(Duration::from_secs(5)).await;
    }
}

impl State {
    async fn answer(
        &self,
        request: http::Request<hyper::body::Incoming>,
    ) -> http::Response<UnsyncBoxBody<Bytes, kube::Error>> {
        let full = |bytes: Vec<u8>| {
            Full::new(Bytes::from(bytes))
                .map_err(|never| match never {})
                .boxed_unsync()
        };
        let path = request.uri().path().to_owned();
        let is_denied = {
            let denied = self.denied.lock().unwrap_or_else(PoisonError::into_inner);
            denied.iter().any(|end| path.ends_with(end.as_str()))
        };
        if is_denied {
            let status = json!({
                "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": "Forbidden", "code": 403,
                "message": format!("{path} is forbidden"),
            });
            let answer = http::Response::builder()
                .status(403)
                .header("content-type", "application/json");
            return answer.body(full(status.to_string().into_bytes())).expect("an answer");
        }
        let (mut head, body) = request.into_parts();
        head.uri = head
            .uri
            .path_and_query()
            .expect("a path")
            .as_str()
            .parse()
            .expect("a path");
        head.headers.remove("host");
        let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        let request = http::Request::from_parts(head, kube::client::Body::from(body));
        match self.client.send(request).await {
            Ok(answer) => answer.map(|body| body.boxed_unsync()),
            Err(error) => {
                let answer = http::Response::builder().status(502);
                answer.body(full(error.to_string().into_bytes())).expect("an answer")
            }
        }
    }
}
