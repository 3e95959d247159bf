//! Messages to JSON and back, by protobuf's canonical mapping.

use prost::{Message, Name};
use prost_reflect::{DeserializeOptions, DynamicMessage, MessageDescriptor, SerializeOptions};
use serde_json::Value;

use crate::pool;

/// Why a message cannot be shown as JSON, or JSON is no message.
#[derive(Debug, thiserror::Error)]
pub enum JsonError {
    /// Nobody knows the type.
    #[error("{0:?} is not a type of Envoy's messages")]
    UnknownType(String),
    /// The bytes are not of the type.
    #[error("not a {name}: {source}")]
    Bytes {
        /// The type.
        name: String,
        /// What is wrong.
        source: prost::DecodeError,
    },
    /// A message is of another type than the one that it is for.
    #[error("{found} cannot be put over {expected}")]
    OtherType {
        /// Its type.
        found: String,
        /// The type that is there.
        expected: String,
    },
    /// The JSON does not fit the type.
    #[error("not a {name}: {source}")]
    Json {
        /// The type.
        name: String,
        /// What is wrong, with the field's name.
        source: serde_json::Error,
    },
}

/// The name of the type in a type URL.
pub fn type_name(url: &str) -> &str {
    url.rsplit_once('/').map_or(url, |(_, name)| name)
}

pub(crate) fn descriptor(name: &str) -> Result<MessageDescriptor, JsonError> {
    pool()
        .get_message_by_name(name)
        .ok_or_else(|| JsonError::UnknownType(name.to_owned()))
}

/// A message of a type by its name, from JSON. Fields that the type does not have are errors that name them.
///
/// # Errors
///
/// The type is unknown, or the JSON does not fit it.
pub fn from_json(name: &str, json: &Value) -> Result<DynamicMessage, JsonError> {
    let options = DeserializeOptions::new().deny_unknown_fields(true);
    DynamicMessage::deserialize_with_options(descriptor(name)?, json, &options).map_err(|source| JsonError::Json {
        name: name.to_owned(),
        source,
    })
}

/// JSON of a message of a type by its name. Fields that have their default are left out, names are in camel case.
///
/// # Errors
///
/// The type, or that of an `Any` in it, is unknown, or the bytes are not of it.
pub fn to_json(name: &str, bytes: &[u8]) -> Result<Value, JsonError> {
    let message = DynamicMessage::decode(descriptor(name)?, bytes).map_err(|source| JsonError::Bytes {
        name: name.to_owned(),
        source,
    })?;
    let options = SerializeOptions::new().skip_default_fields(true);
    message
        .serialize_with_options(serde_json::value::Serializer, &options)
        .map_err(|source| JsonError::Json {
            name: name.to_owned(),
            source,
        })
}

/// JSON of a typed message.
///
/// # Errors
///
/// An `Any` in it has an unknown type.
pub fn message_to_json<M: Message + Name>(message: &M) -> Result<Value, JsonError> {
    to_json(&M::full_name(), &message.encode_to_vec())
}

/// A typed message from JSON.
///
/// # Errors
///
/// The JSON does not fit.
pub fn message_from_json<M: Message + Name + Default>(json: &Value) -> Result<M, JsonError> {
    let bytes = from_json(&M::full_name(), json)?.encode_to_vec();
    M::decode(&bytes[..]).map_err(|source| JsonError::Bytes {
        name: M::full_name(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::envoy::config::listener::v3::Listener;

    #[test]
    fn json_goes_there_and_back_with_what_is_wrapped_in_it() {
        let json = json!({
            "name": "0.0.0.0_80",
            "trafficDirection": "OUTBOUND",
            "perConnectionBufferLimitBytes": 32768,
            "filterChains": [{"filters": [{
                "name": "envoy.filters.network.tcp_proxy",
                "typedConfig": {
                    "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
                    "statPrefix": "BlackHoleCluster",
                    "cluster": "BlackHoleCluster",
                    "idleTimeout": "1.500s",
                },
            }]}],
        });
        let listener: Listener = message_from_json(&json).unwrap();
        assert_eq!(listener.filter_chains[0].filters.len(), 1);
        assert_eq!(message_to_json(&listener).unwrap(), json);
    }

    #[test]
    fn messages_of_unknown_types_are_shown_as_structures() {
        use crate::{any_struct, envoy::config::core::v3::TypedExtensionConfig, number, structure};
        let config = TypedExtensionConfig {
            name: "a".to_owned(),
            typed_config: Some(any_struct("istio.Thing", structure([("weight", number(3.0))]))),
        };
        let shown = json!({"name": "a", "typedConfig": {
            "@type": "type.googleapis.com/xds.type.v3.TypedStruct",
            "typeUrl": "type.googleapis.com/istio.Thing",
            "value": {"weight": 3.0},
        }});
        assert_eq!(message_to_json(&config).unwrap(), shown);
        let mut old = shown.clone();
        old["typedConfig"]["@type"] = json!("type.googleapis.com/udpa.type.v1.TypedStruct");
        assert!(message_from_json::<TypedExtensionConfig>(&old).is_ok());
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let error = from_json("envoy.config.listener.v3.Listener", &json!({"nam": "a"})).unwrap_err();
        assert!(error.to_string().contains("nam"), "{error}");
        let error = from_json("envoy.config.Nothing", &json!({})).unwrap_err();
        assert_eq!(
            error.to_string(),
            "\"envoy.config.Nothing\" is not a type of Envoy's messages"
        );
        let wrapped = json!({"name": "x", "typedConfig": {"@type": "type.googleapis.com/no.such.Type"}});
        assert!(from_json("envoy.config.listener.v3.Filter", &wrapped).is_err());
    }
}
