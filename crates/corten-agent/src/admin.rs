//! The agent's ports: health for the kubelet, metrics for collectors.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::{Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use corten_rt::{Drain, TaskGroup};
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;

/// What answers a path: status and text.
pub(crate) type Answer = Arc<dyn Fn(String) -> Answering + Send + Sync>;

/// An answer that may take a moment.
pub(crate) type Answering = Pin<Box<dyn Future<Output = Option<(StatusCode, String)>> + Send>>;

/// Connections at once; a collector that leaves its connections open must not use up the agent's files.
const CONNECTIONS_MAX: usize = 64;
const HEADER_TIME: Duration = Duration::from_secs(10);

/// Binds a port on all addresses.
pub(crate) async fn bind(port: u16) -> io::Result<TcpListener> {
    let all = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    match TcpListener::bind(all).await {
        Ok(listener) => Ok(listener),
        // A kernel without IPv6.
        Err(_) => TcpListener::bind(("0.0.0.0", port)).await,
    }
    .map_err(|error| io::Error::new(error.kind(), format!("cannot listen on port {port}: {error}")))
}

/// Answers until the drain.
pub(crate) async fn serve(listener: TcpListener, answer: Answer, mut drain: Drain) {
    let tasks = TaskGroup::new("admin");
    let room = Arc::new(tokio::sync::Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(permit) = room.clone().acquire_owned().await else {
            break;
        };
        let accepted = tokio::select! {
            () = drain.wait() => break,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else {
            // Out of files, most likely; some will be closed.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let answer = answer.clone();
        tasks.spawn("connection", async move {
            let service = service_fn(|request: Request<Incoming>| {
                let found = answer(request.uri().path().to_owned());
                async move {
                    let (status, text) = found
                        .await
                        .unwrap_or_else(|| (StatusCode::NOT_FOUND, "not found\n".into()));
                    let mut response = Response::new(Full::new(Bytes::from(text)));
                    *response.status_mut() = status;
                    Ok::<_, Infallible>(response)
                }
            });
            let mut builder = hyper::server::conn::http1::Builder::new();
            builder.timer(TokioTimer::new()).header_read_timeout(HEADER_TIME);
            builder.serve_connection(TokioIo::new(stream), service).await.ok();
            drop(permit);
        });
    }
    tasks.shutdown(Duration::from_millis(200)).await;
}
