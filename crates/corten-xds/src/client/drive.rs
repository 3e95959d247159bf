//! The client's driver: streams over a channel, one after the other, and the session between them.

use std::collections::VecDeque;
use std::time::Duration;

use corten_grpc::{Code, ProstCodec, Request, Status, Streaming};
use corten_proto::discovery::{DELTA_METHOD, DeltaDiscoveryRequest};
use corten_rt::Drain;
use tokio::sync::mpsc;
use tokio::time::sleep;
use tonic::metadata::{MetadataKey, MetadataValue};

use super::{Cause, Config, Demands, Disconnected, Known, Rejected, Session, Update};
use crate::wire::DeltaResponse;

const BACKOFF_MIN: Duration = Duration::from_millis(10);
const BACKOFF_MAX: Duration = Duration::from_secs(15);
/// Requests waiting to be sent; when there are more, responses wait.
const REQUESTS_MAX: usize = 64;

/// Keeps a session with the server until drain.
///
/// `handler` is called for each [`Update`], one after the other. What it answers counts for [`Update::Changes`] only:
/// the resources it names are reported to the server as rejected, all others of that response are taken as applied.
pub async fn run(
    config: Config,
    known: Vec<Known>,
    mut demands: Option<Demands>,
    mut handler: impl FnMut(Update) -> Result<(), Vec<Rejected>>,
    mut drain: Drain,
) {
    let mut session = Session::new(config.node.clone(), &config.subscriptions, known);
    let mut backoff = BACKOFF_MIN;
    loop {
        let ended = tokio::select! {
            biased;
            // The stream's requests and responses in flight are lost, as the process is about to be.
            () = drain.wait() => return,
            ended = stream(&config, &mut session, &mut demands, &mut handler) => ended,
        };
        let (cause, reason, answered) = ended;
        if answered || matches!(cause, Cause::Reconnect | Cause::Complete) {
            backoff = BACKOFF_MIN;
        }
        // Spread by a fifth, so that the nodes of a mesh do not come back in one instant.
        let retry_in = backoff.mul_f64(0.8 + 0.4 * rand::random::<f64>());
        backoff = (backoff * 2).min(BACKOFF_MAX);
        let disconnected = Disconnected {
            cause,
            reason,
            retry_in,
        };
        let _ = handler(Update::Disconnected(disconnected));
        let mut pause = std::pin::pin!(sleep(retry_in));
        loop {
            tokio::select! {
                biased;
                () = drain.wait() => return,
                () = pause.as_mut() => break,
                wanted = next(&mut demands) => {
                    // Remembered for the next stream, whose first request it will be part of.
                    let (type_url, name) = wanted;
                    session.want(type_url, name);
                }
            }
        }
    }
}

/// One stream from its opening to its end; the cause, the reason, and whether the server had answered anything.
async fn stream(
    config: &Config,
    session: &mut Session,
    demands: &mut Option<Demands>,
    handler: &mut impl FnMut(Update) -> Result<(), Vec<Rejected>>,
) -> (Cause, String, bool) {
    let opening = session.open();
    let (requests, queue) = mpsc::channel(opening.len().max(1));
    // The first requests go with the call: there are servers that send nothing, not even headers, before they have been asked.
    for request in opening {
        let _ = requests.try_send(request);
    }
    let mut responses = match open(config, queue).await {
        Ok(responses) => responses,
        Err(reason) => return (Cause::ConnectionError, reason, false),
    };
    let _ = handler(Update::Connected);
    let mut waiting: VecDeque<DeltaDiscoveryRequest> = VecDeque::new();
    let mut answered = false;
    loop {
        // Cancel safe, each of them: a permit, a message or a demand not taken stays where it is.
        tokio::select! {
            biased;
            permit = requests.reserve(), if !waiting.is_empty() => match (permit, waiting.pop_front()) {
                (Ok(permit), Some(request)) => permit.send(request),
                // The call has ended; how, the responses say.
                (Err(_), _) => waiting.clear(),
                (Ok(_), None) => {}
            },
            response = responses.message(), if waiting.len() < REQUESTS_MAX => match response {
                Ok(Some(response)) => {
                    answered = true;
                    waiting.push_back(session.receive(response, |changes| handler(Update::Changes(changes))));
                }
                Ok(None) => return (Cause::Complete, "the server ended the stream".to_owned(), answered),
                Err(status) => return (cause(&status), describe(&status), answered),
            },
            (type_url, name) = next(demands) => waiting.extend(session.want(type_url, name)),
        }
    }
}

/// The next name that somebody wants; never, where nobody can want one.
async fn next(demands: &mut Option<Demands>) -> (&'static str, String) {
    if let Some(Demands(queue)) = demands {
        if let Some(wanted) = queue.recv().await {
            return wanted;
        }
        *demands = None;
    }
    std::future::pending().await
}

async fn open(
    config: &Config,
    queue: mpsc::Receiver<DeltaDiscoveryRequest>,
) -> Result<Streaming<DeltaResponse>, String> {
    let requests = futures_util::stream::unfold(queue, async |mut queue| {
        let request = queue.recv().await?;
        Some((request, queue))
    });
    let mut request = Request::new(requests);
    for (key, value) in (config.metadata)().map_err(|error| format!("no credentials: {error}"))? {
        let key = MetadataKey::from_bytes(key.to_ascii_lowercase().as_bytes());
        let key = key.map_err(|error| format!("a header has an invalid name: {error}"))?;
        let value = MetadataValue::try_from(value).map_err(|_| format!("header {key} has an invalid value"))?;
        request.metadata_mut().insert(key, value);
    }
    let mut grpc = tonic::client::Grpc::new(config.channel.clone()).max_decoding_message_size(config.message_bytes_max);
    let codec: ProstCodec<DeltaDiscoveryRequest, DeltaResponse> = ProstCodec::default();
    let path = http::uri::PathAndQuery::from_static(DELTA_METHOD);
    match grpc.streaming(request, path, codec).await {
        Ok(response) => Ok(response.into_inner()),
        Err(status) => Err(describe(&status)),
    }
}

/// The kind of an end. These are how a server or a proxy on the way says that a new stream is welcome.
fn cause(status: &Status) -> Cause {
    let message = status.message();
    let graceful = matches!(status.code(), Code::Unknown | Code::Cancelled | Code::DeadlineExceeded)
        || (status.code() == Code::Unavailable
            && (message.contains("transport is closing") || message.contains("received prior goaway")));
    match status.code() {
        _ if graceful => Cause::Reconnect,
        Code::Ok => Cause::Complete,
        _ => Cause::Error,
    }
}

fn describe(status: &Status) -> String {
    match status.message() {
        "" => status.code().to_string(),
        message => format!("{}: {message}", status.code()),
    }
}
