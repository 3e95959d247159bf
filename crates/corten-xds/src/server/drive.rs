//! The server's driver: one task per stream, which reads requests, asks the session, and writes when there is room.

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use corten_grpc::{HttpResponse, Message, Messages, ProstCodec, Status};
use corten_proto::discovery::{DeltaDiscoveryRequest, DiscoveryRequest, Node};
use corten_rt::{Drain, TaskGroup};
use tokio::sync::{mpsc, watch};
use tonic::Streaming;
use tonic::codec::Codec;

use super::session::{Behind, Event, Session, WatchView};
use super::{Look, Resource, Response, Store};

/// The first request of a stream must come within this time.
const FIRST_REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// Answers that wait to be written; when there are more, requests wait.
const ANSWERS_MAX: usize = 16;

/// The two ways of asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Variant {
    /// Incremental.
    Delta,
    /// State of the world.
    State,
}

/// The store as sessions share it with its one writer.
#[derive(Debug)]
pub struct Shared {
    store: RwLock<Layers>,
    /// The store's version, and when the first event was seen that led to it.
    published: watch::Sender<(u64, Instant)>,
}

/// A store, and the one below it.
#[derive(Debug)]
struct Layers {
    own: Store,
    base: Option<Base>,
}

/// A store that others lie above: what many sessions have in common, kept once. Whoever changes it publishes all those above.
pub type Base = Arc<RwLock<Store>>;

impl Layers {
    fn look<T>(&self, look: impl FnOnce(Look<'_>) -> T) -> T {
        let base = self.base.as_ref();
        let base = base.map(|base| base.read().unwrap_or_else(PoisonError::into_inner));
        look(Look::above(&self.own, base.as_deref()))
    }
}

impl Shared {
    /// Shares a store.
    pub fn new(store: Store, now: Instant) -> Arc<Shared> {
        let (published, _) = watch::channel((store.version(), now));
        let store = RwLock::new(Layers { own: store, base: None });
        Arc::new(Shared { store, published })
    }

    /// Looks at the store. What is called must be quick and must not wait for anything: the writer waits for it.
    pub fn read<T>(&self, look: impl FnOnce(Look<'_>) -> T) -> T {
        self.store.read().unwrap_or_else(PoisonError::into_inner).look(look)
    }

    /// Makes sure that a type that is a view of another has resources: somebody asks for it.
    fn wake(&self, type_url: &str) {
        let sleeps = |layers: &Layers| layers.own.sleeps(type_url);
        if sleeps(&self.store.read().unwrap_or_else(PoisonError::into_inner)) {
            let mut layers = self.store.write().unwrap_or_else(PoisonError::into_inner);
            layers.own.wake(type_url);
        }
    }

    /// Puts another store below, or none. Sessions are told of what is different with the next [`publish`](Self::publish).
    pub fn set_base(&self, base: Option<Base>) {
        let mut layers = self.store.write().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut layers.base, base.clone());
        if before.as_ref().map(Arc::as_ptr) == base.as_ref().map(Arc::as_ptr) {
            return;
        }
        let before = before
            .as_ref()
            .map(|base| base.read().unwrap_or_else(PoisonError::into_inner));
        let now = base
            .as_ref()
            .map(|base| base.read().unwrap_or_else(PoisonError::into_inner));
        layers.own.rebase(before.as_deref(), now.as_deref());
    }

    /// Changes the store and tells every session. `since` is when the first event was seen that led to this.
    pub fn publish<T>(&self, since: Instant, change: impl FnOnce(&mut Store) -> T) -> T {
        let mut layers = self.store.write().unwrap_or_else(PoisonError::into_inner);
        let result = change(&mut layers.own);
        let version = layers.look(|look| look.version());
        drop(layers);
        self.published.send_if_modified(|published| {
            let news = published.0 != version;
            *published = (version, since);
            news
        });
        result
    }
}

/// Who learns what happens on a stream: one for each, made by whoever accepts clients.
pub trait Observer: Send + 'static {
    /// Called with the node of the first request, before it is handled; an error ends the stream. Yields the resources for this
    /// client; none: those of the stream.
    fn accept(&mut self, node: &Node) -> Result<Option<Arc<Shared>>, Status>;

    /// Called for each request after it was handled, with what it was and the session's state for its type.
    fn requested(&mut self, type_url: &str, event: &Event, view: Option<&WatchView>);

    /// Called for each response when it begins to be written, with its size and, if it is a push, when the change was seen that led to it.
    fn sent(&mut self, response: &Response, bytes: usize, since: Option<Instant>);

    /// Answers a question that is no subscription, such as those of tools; none: the type is not of that kind. An error ends the stream.
    ///
    /// Without names it is not asked anew: an answer is acknowledged.
    fn answer(&mut self, _type_url: &str, _names: Option<&[String]>) -> Option<Result<Answer, Status>> {
        None
    }

    /// Called once, at the end.
    fn closed(&mut self, reason: &str);
}

/// The answer to a question that is no subscription.
#[derive(Debug, Clone, Default)]
pub struct Answer {
    /// What is found.
    pub resources: Vec<Resource>,
    /// Who answers; empty: that is not said.
    pub control_plane: String,
}

/// What a stream needs.
#[derive(Debug)]
pub struct Stream<O> {
    /// The resources.
    pub shared: Arc<Shared>,
    /// The two ways of asking.
    pub variant: Variant,
    /// Where the stream's task goes.
    pub tasks: TaskGroup,
    /// Largest request accepted.
    pub message_bytes_max: usize,
    /// Who looks on.
    pub observer: O,
}

/// Answers the call that opens a stream; its task ends with the stream, with drain, or with the group.
pub fn connect<O: Observer>(stream: Stream<O>, request: corten_grpc::HttpRequest) -> HttpResponse {
    let (sender, queue) = mpsc::channel(1);
    let (body, max) = (request.into_body(), Some(stream.message_bytes_max));
    let tasks = stream.tasks.clone();
    match stream.variant {
        Variant::Delta => {
            let mut codec: ProstCodec<(), DeltaDiscoveryRequest> = ProstCodec::default();
            let requests = Streaming::new_request(codec.decoder(), body, None, max);
            tasks.serve("stream", |drain| serve(stream, requests, sender, drain));
        }
        Variant::State => {
            let mut codec: ProstCodec<(), DiscoveryRequest> = ProstCodec::default();
            let requests = Streaming::new_request(codec.decoder(), body, None, max);
            tasks.serve("stream", |drain| serve(stream, requests, sender, drain));
        }
    }
    Messages::new(queue).into_response()
}

/// A request of either variant.
trait Ask: prost::Message + Default + 'static {
    fn type_url(&self) -> &str;
    /// The names that a question has, unless it is only the acknowledgement of an answer.
    fn names(&self) -> Option<&[String]>;
    fn node(&mut self) -> Option<Node>;
    fn handle(self, session: &mut Session, store: Look<'_>) -> (Event, Option<Response>);
}

impl Ask for DeltaDiscoveryRequest {
    fn type_url(&self) -> &str {
        &self.type_url
    }
    fn names(&self) -> Option<&[String]> {
        self.response_nonce.is_empty().then_some(&self.resource_names_subscribe)
    }
    fn node(&mut self) -> Option<Node> {
        self.node.take()
    }
    fn handle(self, session: &mut Session, store: Look<'_>) -> (Event, Option<Response>) {
        session.delta(store, self)
    }
}

impl Ask for DiscoveryRequest {
    fn type_url(&self) -> &str {
        &self.type_url
    }
    fn names(&self) -> Option<&[String]> {
        self.response_nonce.is_empty().then_some(&self.resource_names)
    }
    fn node(&mut self) -> Option<Node> {
        self.node.take()
    }
    fn handle(self, session: &mut Session, store: Look<'_>) -> (Event, Option<Response>) {
        session.state(store, self)
    }
}

type Sender = mpsc::Sender<Result<Message, Status>>;

/// The stream's task: how it ends is told to the client and to the observer.
async fn serve<O: Observer, Q: Ask>(mut stream: Stream<O>, requests: Streaming<Q>, sender: Sender, mut drain: Drain) {
    let ended = tokio::select! {
        biased;
        // The client shall find another server, or this one's successor.
        () = drain.wait() => Err(Status::unavailable("the server is shutting down")),
        ended = exchange(&mut stream, requests, &sender) => ended,
    };
    match ended {
        Ok(()) => stream.observer.closed("the client ended the stream"),
        Err(status) => {
            stream.observer.closed(status.message());
            // If a response is still being written, the status waits behind it; a client that has gone needs none.
            let _ = sender.send(Err(status)).await;
        }
    }
}

async fn exchange<O: Observer, Q: Ask>(
    stream: &mut Stream<O>,
    mut requests: Streaming<Q>,
    sender: &Sender,
) -> Result<(), Status> {
    let first = tokio::time::timeout(FIRST_REQUEST_TIMEOUT, requests.message()).await;
    let Some(mut first) = first.map_err(|_| Status::deadline_exceeded("no request came"))?? else {
        return Ok(());
    };
    let node = first.node().filter(|node| !node.id.is_empty());
    let node = node.ok_or_else(|| Status::invalid_argument("the first request must say which node asks"))?;
    if let Some(own) = stream.observer.accept(&node)? {
        stream.shared = own;
    }
    let mut published = stream.shared.published.subscribe();
    let mut session = Session::new(stream.variant, node_name(&node));
    // Answers to requests, in order; then whatever has changed.
    let mut answers: VecDeque<Response> = request(stream, &mut session, first)?.into_iter().collect();
    let mut behind = false;
    loop {
        // Cancel safe, each of them. Requests come first: what they say about interest and acknowledgement changes what is pushed.
        tokio::select! {
            biased;
            asked = requests.message(), if answers.len() < ANSWERS_MAX => match asked? {
                Some(asked) => answers.extend(request(stream, &mut session, asked)?),
                None => return Ok(()),
            },
            permit = sender.reserve(), if behind || !answers.is_empty() => {
                let Ok(permit) = permit else { return Ok(()) };
                let next = match answers.pop_front() {
                    Some(answer) => Some((answer, None)),
                    None => {
                        let since = published.borrow_and_update().1;
                        let push = stream.shared.read(|store| session.push(store)).map_err(|Behind| {
                            Status::unavailable(Behind.to_string())
                        })?;
                        behind = push.is_some();
                        push.map(|response| (response, Some(since)))
                    }
                };
                if let Some((response, since)) = next {
                    let message = response.clone().into_message();
                    stream.observer.sent(&response, message.len(), since);
                    permit.send(Ok(message));
                }
            }
            changed = published.changed(), if !behind => {
                if changed.is_err() {
                    return Err(Status::unavailable("the server is shutting down"));
                }
                behind = true;
            }
        }
    }
}

fn request<O: Observer, Q: Ask>(
    stream: &mut Stream<O>,
    session: &mut Session,
    request: Q,
) -> Result<Option<Response>, Status> {
    let type_url = request.type_url().to_owned();
    if let Some(answer) = stream.observer.answer(&type_url, request.names()) {
        let answer = answer?;
        if request.names().is_none() {
            return Ok(None);
        }
        return Ok(Some(
            stream.shared.read(|store| session.answer(store, &type_url, answer)),
        ));
    }
    stream.shared.wake(&type_url);
    let (event, response) = stream.shared.read(|store| request.handle(session, store));
    let view = session.view_of(&type_url);
    stream.observer.requested(&type_url, &event, view.as_ref());
    Ok(response)
}

/// The Kubernetes node that a client says it is on.
fn node_name(node: &Node) -> String {
    let metadata = node.metadata.as_ref();
    let value = metadata.and_then(|metadata| metadata.fields.get("NODE_NAME")?.kind.as_ref());
    match value {
        Some(corten_proto::value::Kind::StringValue(name)) => name.clone(),
        _ => String::new(),
    }
}
