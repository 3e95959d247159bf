//! The discovery messages again, with resources as shared bytes: a client keeps what it received without a copy.

use bytes::Bytes;

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct Any {
    #[prost(string, tag = "1")]
    pub(crate) type_url: String,
    #[prost(bytes = "bytes", tag = "2")]
    pub(crate) value: Bytes,
}

/// `envoy.service.discovery.v3.Resource`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct Resource {
    #[prost(string, tag = "1")]
    pub(crate) version: String,
    #[prost(message, optional, tag = "2")]
    pub(crate) resource: Option<Any>,
    #[prost(string, tag = "3")]
    pub(crate) name: String,
    #[prost(string, repeated, tag = "4")]
    pub(crate) aliases: Vec<String>,
}

/// `envoy.service.discovery.v3.DeltaDiscoveryResponse`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct DeltaResponse {
    #[prost(string, tag = "1")]
    pub(crate) system_version_info: String,
    #[prost(message, repeated, tag = "2")]
    pub(crate) resources: Vec<Resource>,
    #[prost(string, tag = "4")]
    pub(crate) type_url: String,
    #[prost(string, tag = "5")]
    pub(crate) nonce: String,
    #[prost(string, repeated, tag = "6")]
    pub(crate) removed_resources: Vec<String>,
}

/// The value of an `Any` that is encoded as a field (with its key and length); empty if it is not one.
pub(crate) fn any_value(field: Bytes) -> Bytes {
    use prost::Message;
    use prost::encoding::{WireType, decode_key, decode_varint};
    let mut rest = field;
    match (decode_key(&mut rest), decode_varint(&mut rest)) {
        (Ok((_, WireType::LengthDelimited)), Ok(_)) => Any::decode(rest).map(|any| any.value).unwrap_or_default(),
        _ => Bytes::new(),
    }
}
