//! Which handler answers which path, and the adapters from functions over messages to handlers.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::Stream;
use tonic::{Request, Response, Status, Streaming};

use crate::ProstCodec;

/// A call as it arrives.
pub type HttpRequest = http::Request<hyper::body::Incoming>;
/// A call's answer.
pub type HttpResponse = http::Response<tonic::body::Body>;

type Answer<T> = Pin<Box<dyn Future<Output = T> + Send>>;
type Handler = Arc<dyn Fn(HttpRequest) -> Answer<HttpResponse> + Send + Sync>;

/// The methods that a server has, by their full path (`/package.Service/Method`). Cheap to clone.
#[derive(Clone)]
pub struct Router {
    handlers: Arc<HashMap<&'static str, Handler>>,
    message_bytes_max: usize,
}

impl Default for Router {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Router {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Router").field(&self.handlers.keys()).finish()
    }
}

impl Router {
    /// No methods; received messages may have 4 MiB.
    pub fn new() -> Router {
        Router {
            handlers: Arc::default(),
            message_bytes_max: 4 << 20,
        }
    }

    /// The largest message that the methods added from here on receive.
    #[must_use]
    pub fn message_bytes_max(self, message_bytes_max: usize) -> Router {
        Router {
            message_bytes_max,
            ..self
        }
    }

    /// Adds a method that sees the HTTP request itself. A path that was there is replaced.
    #[must_use]
    pub fn raw<F, A>(mut self, path: &'static str, handler: F) -> Router
    where
        F: Fn(HttpRequest) -> A + Send + Sync + 'static,
        A: Future<Output = HttpResponse> + Send + 'static,
    {
        let handler: Handler = Arc::new(move |request| Box::pin(handler(request)));
        let mut handlers = HashMap::clone(&self.handlers);
        handlers.insert(path, handler);
        self.handlers = Arc::new(handlers);
        self
    }

    /// Adds a method of one request and one response.
    #[must_use]
    pub fn unary<Q, A, F, Fut>(self, path: &'static str, handler: F) -> Router
    where
        Q: prost::Message + Default + 'static,
        A: prost::Message + Default + 'static,
        F: Fn(Request<Q>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Response<A>, Status>> + Send + 'static,
    {
        let (handler, max) = (Arc::new(handler), self.message_bytes_max);
        self.raw(path, move |request| {
            let handler = handler.clone();
            async move {
                let codec: ProstCodec<A, Q> = ProstCodec::default();
                let mut grpc = tonic::server::Grpc::new(codec).max_decoding_message_size(max);
                grpc.unary(Function(handler), request).await
            }
        })
    }

    /// Adds a method of many requests and many responses.
    #[must_use]
    pub fn streaming<Q, A, F, Fut, S>(self, path: &'static str, handler: F) -> Router
    where
        Q: prost::Message + Default + 'static,
        A: prost::Message + Default + 'static,
        F: Fn(Request<Streaming<Q>>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Response<S>, Status>> + Send + 'static,
        S: Stream<Item = Result<A, Status>> + Send + 'static,
    {
        let (handler, max) = (Arc::new(handler), self.message_bytes_max);
        self.raw(path, move |request| {
            let handler = handler.clone();
            async move {
                let codec: ProstCodec<A, Q> = ProstCodec::default();
                let mut grpc = tonic::server::Grpc::new(codec).max_decoding_message_size(max);
                grpc.streaming(Function(handler), request).await
            }
        })
    }

    /// Answers a call; a path without a method is `Unimplemented`.
    pub async fn answer(&self, request: HttpRequest) -> HttpResponse {
        match self.handlers.get(request.uri().path()) {
            Some(handler) => handler(request).await,
            None => {
                let path: String = request.uri().path().chars().take(200).collect();
                Status::unimplemented(format!("there is no method {path}")).into_http()
            }
        }
    }
}

/// A function as the service that `tonic` calls: of a message or of a stream of them, to the same.
struct Function<F>(Arc<F>);

impl<Q, A, F, Fut> tower_service::Service<Request<Q>> for Function<F>
where
    F: Fn(Request<Q>) -> Fut,
    Fut: Future<Output = Result<Response<A>, Status>>,
{
    type Response = Response<A>;
    type Error = Status;
    type Future = Fut;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Q>) -> Fut {
        self.0(request)
    }
}
