//! exec, attach and portforward: the WebSocket handshake, and the choice of the protocol in it.

use corten_rt::Drain;
use hyper::header::{
    CONNECTION, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, UPGRADE,
};
use hyper::upgrade::Upgraded;
use hyper::{HeaderMap, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::{ExecOptions, forward, streams};
use crate::http::{Body, Call, Query, Target};
use crate::object;
use crate::status::Status;

/// A WebSocket to a client.
pub(super) type Socket = WebSocketStream<TokioIo<Upgraded>>;

const FORWARD_TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";

/// Answers an exec, attach or portforward request.
pub(crate) async fn connect(call: Call<'_>, target: Target) -> Result<Response<Body>, Status> {
    let (pod, backend) = super::running(call.api(), &target)?;
    let forward = target.subresource == "portforward";
    let exec = if forward {
        None
    } else {
        Some(exec_options(&call.query, &pod, target.subresource == "attach")?)
    };
    if matches!(object::text(&pod, &["status", "phase"]), "Succeeded" | "Failed") && !forward {
        return Err(Status::bad_request(format!(
            "cannot {} into a container in a completed pod; current phase is {}",
            target.subresource,
            object::text(&pod, &["status", "phase"])
        )));
    }
    if object::text(&pod, &["spec", "nodeName"]).is_empty() {
        return Err(Status::bad_request(format!(
            "pod {} does not have a host assigned",
            object::name(&pod)
        )));
    }
    let key = websocket_key(&call.headers)?;
    let known: &[&str] = if forward {
        &[FORWARD_TUNNEL, "v4.channel.k8s.io", "portforward.k8s.io"]
    } else {
        &["v5.channel.k8s.io", "v4.channel.k8s.io"]
    };
    let protocol = protocol(&call.headers, known)?;
    let ports: Vec<u16> = call
        .query
        .all("ports")
        .iter()
        .flat_map(|list| list.split(','))
        .filter_map(|port| port.parse().ok())
        .collect();
    let drain = call.front.drain.clone();
    let upgrade = hyper::upgrade::on(call.request);
    call.front
        .tasks
        .spawn(format!("{} {}", target.subresource, target.name), async move {
            let upgraded = match upgrade.await {
                Ok(upgraded) => TokioIo::new(upgraded),
                Err(error) => {
                    tracing::debug!(%error, "no upgrade");
                    return;
                }
            };
            let socket = WebSocketStream::from_raw_socket(upgraded, Role::Server, None).await;
            let session = async {
                match exec {
                    Some(options) => {
                        streams::serve(socket, backend, &pod, options, protocol == "v5.channel.k8s.io").await
                    }
                    None if protocol == FORWARD_TUNNEL => forward::tunnel(socket, backend, &pod).await,
                    None => forward::channels(socket, backend, &pod, &ports).await,
                }
            };
            until_drain(session, drain).await;
        });
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    if let Ok(accept) = HeaderValue::from_str(&derive_accept_key(&key)) {
        headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    }
    headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
    Ok(response)
}

async fn until_drain(session: impl Future<Output = ()>, mut drain: Drain) {
    tokio::select! {
        () = session => {}
        () = drain.wait() => {}
    }
}

fn exec_options(query: &Query, pod: &serde_json::Value, attach: bool) -> Result<ExecOptions, Status> {
    let options = ExecOptions {
        container: super::container(pod, query.text("container"), "exec")?,
        command: query.all("command"),
        stdin: query.flag("stdin"),
        stdout: query.flag("stdout"),
        // With a terminal there is only one output.
        stderr: query.flag("stderr") && !query.flag("tty"),
        tty: query.flag("tty"),
        attach,
    };
    if !attach && options.command.is_empty() {
        return Err(Status::bad_request(
            "you must specify at least one command for the container",
        ));
    }
    if !(options.stdin || options.stdout || options.stderr) {
        return Err(Status::bad_request(
            "you must specify at least one of stdin, stdout, stderr",
        ));
    }
    Ok(options)
}

fn websocket_key(headers: &HeaderMap) -> Result<Vec<u8>, Status> {
    let upgrade = headers.get(UPGRADE).and_then(|v| v.to_str().ok()).unwrap_or("");
    if upgrade.eq_ignore_ascii_case("websocket") {
        return headers
            .get(SEC_WEBSOCKET_KEY)
            .map(|key| key.as_bytes().to_vec())
            .ok_or_else(|| Status::bad_request("a WebSocket handshake needs a Sec-WebSocket-Key"));
    }
    if upgrade.to_ascii_uppercase().starts_with("SPDY") {
        return Err(Status::bad_request(
            "SPDY is not served here; use a client that speaks WebSocket, such as kubectl 1.31 or newer",
        ));
    }
    Err(Status::bad_request("Upgrade request required"))
}

/// The client's first protocol that is known here.
fn protocol(headers: &HeaderMap, known: &[&'static str]) -> Result<&'static str, Status> {
    let offered: Vec<String> = headers
        .get_all(SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','))
        .map(|p| p.trim().to_owned())
        .collect();
    offered
        .iter()
        .find_map(|p| known.iter().find(|k| *k == p))
        .copied()
        .ok_or_else(|| {
            Status::bad_request(format!(
                "none of the WebSocket protocols {offered:?} is served; known are {known:?}"
            ))
        })
}
