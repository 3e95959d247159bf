//! WebSocket: every message comes back.

use futures_util::{SinkExt, StreamExt};
use http::{HeaderValue, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::server::{Body, empty};

/// Whether a request wants to become a WebSocket.
pub(crate) fn wanted(request: &Request<Incoming>) -> bool {
    let has = |name, word: &str| {
        let value = request
            .headers()
            .get(name)
            .and_then(|value: &HeaderValue| value.to_str().ok());
        value.is_some_and(|value| value.split(',').any(|part| part.trim().eq_ignore_ascii_case(word)))
    };
    has(header::UPGRADE, "websocket")
        && has(header::CONNECTION, "upgrade")
        && request.headers().contains_key(header::SEC_WEBSOCKET_KEY)
}

/// The answer that switches protocols, and what serves the connection after it.
pub(crate) fn accept(mut request: Request<Incoming>) -> (Response<Body>, impl Future<Output = ()> + Send) {
    let key = request
        .headers()
        .get(header::SEC_WEBSOCKET_KEY)
        .map_or(&b""[..], HeaderValue::as_bytes)
        .to_vec();
    let upgrade = hyper::upgrade::on(&mut request);
    let mut response = Response::new(empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    if let Ok(accept) = HeaderValue::from_str(&derive_accept_key(&key)) {
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    }
    (response, async move {
        if let Ok(connection) = upgrade.await {
            let mut socket = WebSocketStream::from_raw_socket(TokioIo::new(connection), Role::Server, None).await;
            while let Some(Ok(message)) = socket.next().await {
                let done = message.is_close();
                let back = message.is_text() || message.is_binary();
                if done || (back && socket.send(message).await.is_err()) {
                    break;
                }
            }
            // The peer may be gone already, and then there is nobody to say goodbye to.
            let _ = socket.close(None).await;
        }
    })
}
