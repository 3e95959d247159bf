//! The codec of `prost` messages, which shows every message as it is on the wire to those who ask for it.
//!
//! With the level `corten_grpc::wire=trace` each message that is sent or received is logged with its type and its bytes in hexadecimal
//! digits: what a peer really says is then known, fields that we have no name for included. Call headers, and so tokens, are not shown.

use std::fmt::Write as _;
use std::marker::PhantomData;

use bytes::{Buf, Bytes};
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

/// A codec for `prost` messages, as `tonic::client::Grpc` and `tonic::server::Grpc` take it.
#[derive(Debug)]
pub struct ProstCodec<S, R>(PhantomData<fn(S) -> R>);

impl<S, R> Default for ProstCodec<S, R> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

/// The half that writes.
#[derive(Debug)]
pub struct ProstEncoder<S>(PhantomData<fn(S)>);

/// The half that reads.
#[derive(Debug)]
pub struct ProstDecoder<R>(PhantomData<fn() -> R>);

impl<S, R> Codec for ProstCodec<S, R>
where
    S: prost::Message + 'static,
    R: prost::Message + Default + 'static,
{
    type Encode = S;
    type Decode = R;
    type Encoder = ProstEncoder<S>;
    type Decoder = ProstDecoder<R>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstEncoder(PhantomData)
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstDecoder(PhantomData)
    }
}

impl<S: prost::Message> Encoder for ProstEncoder<S> {
    type Item = S;
    type Error = Status;

    fn encode(&mut self, message: S, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        if is_shown() {
            show("sent", type_name::<S>(), &message.encode_to_vec());
        }
        message
            .encode(buffer)
            .map_err(|error| Status::internal(format!("a message cannot be encoded: {error}")))
    }
}

impl<R: prost::Message + Default> Decoder for ProstDecoder<R> {
    type Item = R;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<R>, Status> {
        let decoded = if is_shown() {
            let bytes: Bytes = buffer.copy_to_bytes(buffer.remaining());
            show("received", type_name::<R>(), &bytes);
            R::decode(bytes)
        } else {
            R::decode(buffer)
        };
        decoded
            .map(Some)
            .map_err(|error| Status::internal(format!("a message that is none of its type: {error}")))
    }
}

/// Whether messages are to be shown.
pub(crate) fn is_shown() -> bool {
    tracing::enabled!(target: "corten_grpc::wire", tracing::Level::TRACE)
}

/// Shows a message.
pub(crate) fn show(direction: &'static str, kind: &str, bytes: &[u8]) {
    let mut hex = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        // Writing to a string cannot fail.
        let _ = write!(hex, "{byte:02x}");
    }
    tracing::trace!(target: "corten_grpc::wire", direction, kind, hex, "message");
}

/// A message's name without the modules that it is in.
fn type_name<M>() -> &'static str {
    let name = std::any::type_name::<M>();
    name.rsplit("::").next().unwrap_or(name)
}
