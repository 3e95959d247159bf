//! A response body of gRPC messages that are put together from shared pieces.
//!
//! A discovery response for a large mesh is megabytes of resources that many clients receive at once.
//! Here it is a list of pieces that all of them share; bytes are copied only as fast as one connection takes them, [`PIECE_BYTES`] at a time.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{BufMut, Bytes, BytesMut};
use http::HeaderMap;
use hyper::body::{Body, Frame};
use tokio::sync::mpsc;
use tonic::Status;

use crate::codec;

/// Small pieces are joined up to this size; it is one HTTP/2 frame of the default maximum size, which then fills one TLS record.
const PIECE_BYTES: usize = 16 * 1024;

/// One encoded message, as pieces in order.
pub struct Message {
    length: usize,
    pieces: Box<dyn Iterator<Item = Bytes> + Send>,
}

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Message")
            .field("length", &self.length)
            .finish_non_exhaustive()
    }
}

impl Message {
    /// A message of `length` bytes, which is what `pieces` must come to together; they are asked for when there is room to send them.
    pub fn new(length: usize, pieces: impl Iterator<Item = Bytes> + Send + 'static) -> Message {
        let pieces = Box::new(pieces);
        Message { length, pieces }
    }

    /// Bytes of the message.
    pub fn len(&self) -> usize {
        self.length
    }

    /// The whole message at once.
    pub fn into_bytes(self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(self.length);
        self.pieces.for_each(|piece| bytes.extend_from_slice(&piece));
        bytes.freeze()
    }

    /// Whether the message has no bytes (and all its fields their defaults).
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }
}

/// The body: messages from a queue until it is closed, or a status that ends it.
#[derive(Debug)]
pub struct Messages {
    queue: mpsc::Receiver<Result<Message, Status>>,
    current: Option<Message>,
    ended: bool,
}

impl Messages {
    /// A body fed by the queue. Its capacity bounds how many messages wait; the sender may use it to learn when there is room.
    pub fn new(queue: mpsc::Receiver<Result<Message, Status>>) -> Messages {
        Messages {
            queue,
            current: None,
            ended: false,
        }
    }

    /// The response that carries this body.
    pub fn into_response(self) -> http::Response<tonic::body::Body> {
        let mut response = http::Response::new(tonic::body::Body::new(self));
        response.headers_mut().insert(
            http::header::CONTENT_TYPE,
            http::HeaderValue::from_static("application/grpc"),
        );
        response
    }

    /// Joins pieces until a buffer is full or the message over. A large piece alone is passed on without a copy.
    fn fill(message: &mut Message, mut buffer: BytesMut) -> (Bytes, bool) {
        loop {
            match message.pieces.next() {
                None => return (buffer.freeze(), true),
                Some(piece) if buffer.is_empty() && piece.len() >= PIECE_BYTES => return (piece, false),
                Some(piece) => {
                    buffer.extend_from_slice(&piece);
                    if buffer.len() >= PIECE_BYTES {
                        return (buffer.freeze(), false);
                    }
                }
            }
        }
    }
}

impl Body for Messages {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        if let Some(message) = &mut this.current {
            let (bytes, over) = Self::fill(message, BytesMut::with_capacity(PIECE_BYTES));
            if over {
                this.current = None;
            }
            if !bytes.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
        }
        if this.ended {
            return Poll::Ready(None);
        }
        let end = match this.queue.poll_recv(context) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(None) => Status::ok(""),
            Poll::Ready(Some(Err(status))) => status,
            Poll::Ready(Some(Ok(mut message))) => match u32::try_from(message.length) {
                Err(_) => Status::out_of_range(format!("a message of {} bytes cannot be sent", message.length)),
                Ok(length) => {
                    if codec::is_shown() {
                        let bytes = message.into_bytes();
                        codec::show("sent", "message in pieces", &bytes);
                        message = Message::new(bytes.len(), std::iter::once(bytes));
                    }
                    let mut buffer = BytesMut::with_capacity((message.length + 5).min(PIECE_BYTES + 5));
                    // Not compressed; then the length.
                    buffer.put_u8(0);
                    buffer.put_u32(length);
                    let (bytes, over) = Self::fill(&mut message, buffer);
                    this.current = (!over).then_some(message);
                    return Poll::Ready(Some(Ok(Frame::data(bytes))));
                }
            },
        };
        this.ended = true;
        let mut trailers = HeaderMap::new();
        match end.add_header(&mut trailers) {
            Ok(()) => Poll::Ready(Some(Ok(Frame::trailers(trailers)))),
            Err(status) => Poll::Ready(Some(Err(status))),
        }
    }
}
