//! A resource, encoded once: the bytes that go to every client are these, shared.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};

const VERSION: u32 = 1;
const BODY: u32 = 2;
const NAME: u32 = 3;
const ALIASES: u32 = 4;
/// Field of the resources in a response; the number is the same in both variants, and the same as [`BODY`], which [`Resource::state`] relies on.
const RESOURCES: u32 = 2;

/// A resource of some type, with its name and version.
#[derive(Debug, Clone)]
pub struct Resource {
    name: Arc<str>,
    version: Box<str>,
    /// `Resource` as field 2 of a delta response, key and length included.
    wire: Bytes,
    /// Where in `wire` the message itself begins, after key and length.
    message: u32,
    /// Where in `wire` the body (an `Any`, with its key and length) is.
    body: (u32, u32),
}

/// What an on-demand client can find a resource by.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Keys {
    /// Other names of the resource.
    pub aliases: Vec<String>,
    /// Names of resources that bring this one along.
    pub groups: Vec<String>,
    /// The node whose clients always get it; empty for none.
    pub node: String,
}

impl Resource {
    /// Encodes a resource. `body` is the message of type `type_url`.
    pub fn new(type_url: &str, name: impl Into<Arc<str>>, version: &str, body: &[u8]) -> Resource {
        let name = name.into();
        let any_length = field_length(1, type_url.len()) + field_length(2, body.len());
        let message_length =
            field_length(VERSION, version.len()) + field_length_kept(BODY, any_length) + field_length(NAME, name.len());
        let mut wire = BytesMut::with_capacity(field_length_kept(RESOURCES, message_length));
        encode_key(RESOURCES, WireType::LengthDelimited, &mut wire);
        encode_varint(message_length as u64, &mut wire);
        let message = position(&wire);
        field(VERSION, version.as_bytes(), &mut wire);
        let body_start = position(&wire);
        encode_key(BODY, WireType::LengthDelimited, &mut wire);
        encode_varint(any_length as u64, &mut wire);
        field(1, type_url.as_bytes(), &mut wire);
        field(2, body, &mut wire);
        let body_end = position(&wire);
        field(NAME, name.as_bytes(), &mut wire);
        Resource {
            name,
            version: version.into(),
            wire: wire.freeze(),
            message,
            body: (body_start, body_end),
        }
    }

    /// Its name.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Its version; empty where its type has none.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The message, without the type around it.
    pub fn body(&self) -> Bytes {
        let any = self.wire.slice(self.body.0 as usize..self.body.1 as usize);
        // Written by `new` above: key, length, the type as field 1, the message as field 2 unless it is empty.
        crate::wire::any_value(any)
    }

    /// Whether both are the same to every client.
    pub fn same(&self, other: &Resource) -> bool {
        self.wire == other.wire
    }

    /// As a piece of a delta response.
    pub(crate) fn delta(&self) -> Bytes {
        self.wire.clone()
    }

    /// As a piece of a delta response, with other names.
    pub(crate) fn delta_with(&self, aliases: &[String]) -> Bytes {
        if aliases.is_empty() {
            return self.delta();
        }
        let message = &self.wire[self.message as usize..];
        let more: usize = aliases
            .iter()
            .map(|alias| field_length_kept(ALIASES, alias.len()))
            .sum();
        let length = message.len() + more;
        let mut wire = BytesMut::with_capacity(field_length_kept(RESOURCES, length));
        encode_key(RESOURCES, WireType::LengthDelimited, &mut wire);
        encode_varint(length as u64, &mut wire);
        wire.extend_from_slice(message);
        for alias in aliases {
            encode_key(ALIASES, WireType::LengthDelimited, &mut wire);
            encode_varint(alias.len() as u64, &mut wire);
            wire.extend_from_slice(alias.as_bytes());
        }
        wire.freeze()
    }

    /// As a piece of a state-of-the-world response.
    pub(crate) fn state(&self) -> Bytes {
        self.wire.slice(self.body.0 as usize..self.body.1 as usize)
    }
}

fn position(wire: &BytesMut) -> u32 {
    // A message of 4 GiB cannot be sent by gRPC either; the length is checked where a response is put together.
    u32::try_from(wire.len()).unwrap_or(u32::MAX)
}

fn field_length_kept(tag: u32, length: usize) -> usize {
    key_len(tag) + encoded_len_varint(length as u64) + length
}

/// Length of a field that is left out when it is empty.
pub(super) fn field_length(tag: u32, length: usize) -> usize {
    if length == 0 { 0 } else { field_length_kept(tag, length) }
}

/// A field of bytes, left out when it is empty.
pub(super) fn field(tag: u32, value: &[u8], wire: &mut BytesMut) {
    if !value.is_empty() {
        encode_key(tag, WireType::LengthDelimited, wire);
        encode_varint(value.len() as u64, wire);
        wire.put_slice(value);
    }
}
