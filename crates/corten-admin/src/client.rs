//! A client for one question to an admin port, over any stream of bytes that leads there.

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

/// The longest answer that is read: a dump of a mesh of 100,000 workloads is half of it.
const ANSWER_BYTES_MAX: usize = 512 << 20;

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The code.
    pub status: StatusCode,
    /// What came with it.
    pub body: Bytes,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// The question is not a path of HTTP.
    #[error("it cannot be asked for {path:?}")]
    Path {
        /// What was to be asked for.
        path: String,
        /// Why not.
        source: http::Error,
    },
    /// The connection failed, or the other side does not speak HTTP.
    #[error("the connection failed")]
    Connection(#[source] hyper::Error),
    /// The answer broke off.
    #[error("the answer broke off")]
    BrokeOff(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The answer is longer than anything that is expected.
    #[error("the answer is longer than {ANSWER_BYTES_MAX} bytes")]
    TooLong,
}

/// Asks for a path and waits for the whole answer; the stream is of no use afterwards.
pub async fn ask(
    io: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    method: Method,
    path: &str,
) -> Result<Answer, AskError> {
    let request = Request::builder()
        .method(method)
        .uri(path)
        // The one name under which a program reaches its own admin port.
        .header(header::HOST, "localhost")
        .header(header::CONNECTION, "close")
        .body(Full::<Bytes>::default())
        .map_err(|source| AskError::Path {
            path: path.to_owned(),
            source,
        })?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(io)).await.map_err(AskError::Connection)?;
    let answer = async {
        let response = sender.send_request(request).await.map_err(AskError::Connection)?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|error| {
            if error.is::<LengthLimitError>() {
                AskError::TooLong
            } else {
                AskError::BrokeOff(error)
            }
        })?;
        Ok(Answer {
            status,
            body: body.to_bytes(),
        })
    };
    // The connection only moves bytes; when it ends, the answer is there or says why not.
    let connection = async {
        let _ = connection.await;
        std::future::pending::<()>().await;
    };
    tokio::select! {
        answer = answer => answer,
        () = connection => unreachable!("it never ends"),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// What is made of an answer, and the first line of the question.
    async fn check(answer: &str) -> (Result<Answer, AskError>, String) {
        let (near, mut far) = tokio::io::duplex(64);
        let server = async {
            let mut question = Vec::new();
            while !question.ends_with(b"\r\n\r\n") {
                question.push(far.read_u8().await.expect("a question"));
            }
            far.write_all(answer.as_bytes()).await.expect("somebody reads");
            drop(far);
            String::from_utf8(question).expect("text")
        };
        let (answer, question) = tokio::join!(ask(near, Method::POST, "/logging?level=info"), server);
        let line = question.lines().next().unwrap_or_default().to_owned();
        (answer, line)
    }

    #[tokio::test]
    async fn a_question_is_answered() {
        let text = "x".repeat(1000);
        let (answer, line) = check(&format!("HTTP/1.1 405 No\r\ncontent-length: 1000\r\n\r\n{text}")).await;
        let answer = answer.expect("an answer");
        assert_eq!(line, "POST /logging?level=info HTTP/1.1");
        assert_eq!((answer.status.as_u16(), answer.body), (405, Bytes::from(text)));
    }

    #[tokio::test]
    async fn an_answer_may_break_off() {
        let (answer, _) = check("HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nx").await;
        assert!(matches!(answer, Err(AskError::BrokeOff(_))), "{answer:?}");
        let (answer, _) = check("SSH-2.0-OpenSSH\r\n").await;
        assert!(matches!(answer, Err(AskError::Connection(_))), "{answer:?}");
    }
}
