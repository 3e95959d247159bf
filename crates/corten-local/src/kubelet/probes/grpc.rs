//! The gRPC health check (`grpc.health.v1.Health/Check`) of probes, over cleartext HTTP/2.

use std::net::IpAddr;

use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::{Answer, http};
use crate::kubelet::machine::Connect;

/// Asks the server at the pod's address for the health of `service`.
pub(crate) async fn check(connect: &Connect, ip: IpAddr, port: u16, service: &str) -> Answer {
    let host = ip.to_string();
    let address = std::net::SocketAddr::new(ip, port);
    let stream = match http::dial(connect, &host, port).await {
        Ok(stream) => stream,
        Err(error) => return Answer::Failure(format!("error: failed to connect service at \"{address}\": {error}")),
    };
    match call(stream, &address.to_string(), service).await {
        Ok(1) => Answer::Success,
        Ok(status) => {
            let word = match status {
                0 => "UNKNOWN",
                2 => "NOT_SERVING",
                3 => "SERVICE_UNKNOWN",
                _ => "an unknown status",
            };
            Answer::Failure(format!("service unhealthy (responded with \"{word}\")"))
        }
        Err(CallError::Unimplemented(message)) => Answer::Failure(format!(
            "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): {message}"
        )),
        Err(CallError::Other(message)) => Answer::Failure(format!("error: health rpc probe failed: {message}")),
    }
}

/// What the real kubelet says when the server does not answer in time.
pub(crate) fn timed_out(seconds: i64) -> Answer {
    Answer::Failure(format!("timeout: health rpc did not complete within {seconds}s"))
}

enum CallError {
    Unimplemented(String),
    Other(String),
}

async fn call(stream: tokio::net::TcpStream, authority: &str, service: &str) -> Result<u64, CallError> {
    let other = |error: hyper::Error| CallError::Other(error.to_string());
    let builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
    let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(other)?;
    let request = ::http::Request::post(format!("http://{authority}/grpc.health.v1.Health/Check"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header(
            "user-agent",
            format!("kube-probe/{}", crate::kubelet::node::MAJOR_MINOR),
        )
        .body(Full::new(Bytes::from(framed(service))))
        .map_err(|error| CallError::Other(error.to_string()))?;
    let exchanged = async {
        let response = sender.send_request(request).await.map_err(other)?;
        let (head, body) = response.into_parts();
        let collected = body.collect().await.map_err(other)?;
        let trailers = collected.trailers().cloned().unwrap_or_default();
        let header = |name: &str| {
            trailers
                .get(name)
                .or_else(|| head.headers.get(name))
                .and_then(|value| value.to_str().ok())
        };
        let message = header("grpc-message").unwrap_or_default().to_owned();
        match header("grpc-status") {
            Some("0") => Ok(serving_status(&collected.to_bytes())),
            Some("12") => Err(CallError::Unimplemented(message)),
            Some(code) => Err(CallError::Other(format!("rpc error: code = {code} desc = {message}"))),
            None => Err(CallError::Other(format!(
                "the answer is not gRPC: HTTP status {}",
                head.status.as_u16()
            ))),
        }
    };
    tokio::pin!(connection, exchanged);
    tokio::select! {
        biased;
        answer = &mut exchanged => answer,
        ended = &mut connection => match ended {
            Ok(()) => exchanged.await,
            Err(error) => Err(other(error)),
        },
    }
}

/// A `HealthCheckRequest` (field 1: service) as one gRPC message.
fn framed(service: &str) -> Vec<u8> {
    let mut message = Vec::new();
    if !service.is_empty() {
        message.push(0x0a);
        let mut length = service.len();
        while length >= 0x80 {
            message.push(u8::try_from(length & 0x7f).unwrap_or(0) | 0x80);
            length >>= 7;
        }
        message.push(u8::try_from(length).unwrap_or(0));
        message.extend_from_slice(service.as_bytes());
    }
    let mut frame = vec![0];
    frame.extend_from_slice(&u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes());
    frame.extend(message);
    frame
}

/// The status (field 1) of a framed `HealthCheckResponse`; an absent field is 0, `UNKNOWN`.
fn serving_status(frame: &[u8]) -> u64 {
    match frame.get(5..) {
        Some([0x08, status, ..]) => u64::from(*status),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_framed() {
        assert_eq!(framed(""), [0, 0, 0, 0, 0]);
        assert_eq!(framed("ab"), [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
        assert_eq!(framed(&"x".repeat(200))[5..8], [0x0a, 0xc8, 1]);
        assert_eq!(serving_status(&[0, 0, 0, 0, 2, 0x08, 1]), 1);
        assert_eq!(serving_status(&[0, 0, 0, 0, 0]), 0);
    }
}
