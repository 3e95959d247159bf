//! Messages as patches: written as JSON, merged over messages that are there.
//!
//! What a patch sets replaces what was there, lists are appended to (or replaced, where that is asked for), entries of maps are
//! replaced by key, and messages are merged field by field. Durations and wrapped values, which stand for one value each, are
//! replaced whole: field by field, nothing could ever be set back to its default.

use std::collections::BTreeSet;

use prost::{Message, Name};
use prost_reflect::{DeserializeOptions, DynamicMessage, MessageDescriptor, ReflectMessage as _, Value};
use serde_json::Value as Json;

use crate::{
    JsonError,
    canonical::encode_as,
    google::protobuf::Any,
    json::{descriptor, type_name},
};

/// Types whose messages stand for one value.
const WHOLE: [&str; 10] = [
    "google.protobuf.BoolValue",
    "google.protobuf.BytesValue",
    "google.protobuf.DoubleValue",
    "google.protobuf.Duration",
    "google.protobuf.FloatValue",
    "google.protobuf.Int32Value",
    "google.protobuf.Int64Value",
    "google.protobuf.StringValue",
    "google.protobuf.UInt32Value",
    "google.protobuf.UInt64Value",
];
const ANY: &str = "google.protobuf.Any";

/// What becomes of lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lists {
    /// What the patch has comes after what is there.
    Append,
    /// What the patch has is all that is there.
    Replace,
}

/// A message, or a part of one, that is merged over others of its type.
#[derive(Debug, Clone, PartialEq)]
pub struct Patch {
    message: DynamicMessage,
    /// In the order that [`encode`](crate::encode) gives.
    bytes: Vec<u8>,
}

impl Patch {
    /// From JSON. Fields that the type does not have are left out; what the first of them is comes beside it.
    ///
    /// # Errors
    ///
    /// The type, or one in an `Any`, is unknown, or a value does not fit its field.
    pub fn of(name: &str, json: &Json) -> Result<(Patch, Option<JsonError>), JsonError> {
        let (mut message, unknown) = match crate::from_json(name, json) {
            Ok(message) => (message, None),
            Err(strict) => {
                let lenient = DeserializeOptions::new().deny_unknown_fields(false);
                match DynamicMessage::deserialize_with_options(descriptor(name)?, json, &lenient) {
                    Ok(message) => (message, Some(strict)),
                    Err(_) => return Err(strict),
                }
            }
        };
        settle(&mut message);
        let bytes = encode_as(name, message.encode_to_vec());
        Ok((Patch { message, bytes }, unknown))
    }

    /// The message by itself.
    ///
    /// # Errors
    ///
    /// It is of another type.
    pub fn message<M: Message + Name + Default>(&self) -> Result<M, JsonError> {
        self.check::<M>()?;
        read(&self.bytes)
    }

    /// Merges it over a message.
    ///
    /// # Errors
    ///
    /// It is of another type.
    pub fn merge_over<M: Message + Name + Default>(&self, into: &mut M, lists: Lists) -> Result<(), JsonError> {
        self.check::<M>()?;
        let mut merged = dynamic(self.message.descriptor(), &into.encode_to_vec())?;
        merge(&mut merged, &self.message, lists);
        *into = read(&merged.encode_to_vec())?;
        Ok(())
    }

    fn check<M: Name>(&self) -> Result<(), JsonError> {
        let descriptor = self.message.descriptor();
        if descriptor.full_name() == M::full_name() {
            return Ok(());
        }
        Err(JsonError::OtherType {
            found: descriptor.full_name().to_owned(),
            expected: M::full_name(),
        })
    }
}

/// Merges a wrapped message over another one of the same type.
///
/// # Errors
///
/// They are of different types, or of one that nobody knows.
pub fn merge_any(into: &mut Any, patch: &Any) -> Result<(), JsonError> {
    let (name, other) = (type_name(&into.type_url), type_name(&patch.type_url));
    if name != other {
        return Err(JsonError::OtherType {
            found: other.to_owned(),
            expected: name.to_owned(),
        });
    }
    let descriptor = descriptor(name)?;
    let mut merged = dynamic(descriptor.clone(), &into.value)?;
    merge(&mut merged, &dynamic(descriptor, &patch.value)?, Lists::Append);
    into.value = encode_as(name, merged.encode_to_vec());
    Ok(())
}

fn read<M: Message + Name + Default>(bytes: &[u8]) -> Result<M, JsonError> {
    M::decode(bytes).map_err(|source| JsonError::Bytes {
        name: M::full_name(),
        source,
    })
}

fn dynamic(descriptor: MessageDescriptor, bytes: &[u8]) -> Result<DynamicMessage, JsonError> {
    let name = descriptor.full_name().to_owned();
    DynamicMessage::decode(descriptor, bytes).map_err(|source| JsonError::Bytes { name, source })
}

fn merge(into: &mut DynamicMessage, patch: &DynamicMessage, lists: Lists) {
    for (field, value) in patch.fields() {
        match value {
            Value::List(more) => match into.get_field_mut(&field) {
                Value::List(held) if lists == Lists::Append => held.extend(more.iter().cloned()),
                held => *held = value.clone(),
            },
            Value::Map(more) => match into.get_field_mut(&field) {
                Value::Map(held) => held.extend(more.iter().map(|(key, value)| (key.clone(), value.clone()))),
                held => *held = value.clone(),
            },
            Value::Message(inner) if !is_whole(inner) && into.has_field(&field) => match into.get_field_mut(&field) {
                Value::Message(held) => merge(held, inner, lists),
                held => *held = value.clone(),
            },
            other => into.set_field(&field, other.clone()),
        }
    }
}

fn is_whole(message: &DynamicMessage) -> bool {
    let descriptor = message.descriptor();
    let name = descriptor.full_name();
    name == ANY || WHOLE.contains(&name)
}

/// Puts what is wrapped anywhere in a message in the order in which [`encode`](crate::encode) has it: read from JSON, the entries of
/// maps come in any order.
fn settle(message: &mut DynamicMessage) {
    if message.descriptor().full_name() == ANY {
        let url = message.get_field_by_name("type_url");
        let url = url.as_ref().and_then(|url| url.as_str()).unwrap_or_default().to_owned();
        let name = type_name(&url);
        let bytes = message.get_field_by_name("value");
        let bytes = bytes.as_ref().and_then(|value| value.as_bytes()).cloned();
        if let (Ok(descriptor), Some(bytes)) = (descriptor(name), bytes)
            && let Ok(mut inner) = DynamicMessage::decode(descriptor, bytes)
        {
            settle(&mut inner);
            let bytes = encode_as(name, inner.encode_to_vec());
            message.set_field_by_name("value", Value::Bytes(bytes.into()));
        }
        return;
    }
    for (_, value) in message.fields_mut() {
        match value {
            Value::Message(inner) => settle(inner),
            Value::List(items) => items.iter_mut().for_each(settle_value),
            Value::Map(entries) => entries.values_mut().for_each(settle_value),
            _ => {}
        }
    }
}

fn settle_value(value: &mut Value) {
    if let Value::Message(inner) = value {
        settle(inner);
    }
}

/// The names of types that JSON wraps in `Any` (`@type`), wherever in it, which nobody here knows: each once, in order.
pub fn unknown_types(json: &Json) -> Vec<String> {
    fn look(json: &Json, into: &mut BTreeSet<String>) {
        match json {
            Json::Object(fields) => {
                if let Some(url) = fields.get("@type").and_then(Json::as_str)
                    && descriptor(type_name(url)).is_err()
                {
                    into.insert(url.to_owned());
                }
                fields.values().for_each(|value| look(value, into));
            }
            Json::Array(items) => items.iter().for_each(|item| look(item, into)),
            _ => {}
        }
    }
    let mut unknown = BTreeSet::new();
    look(json, &mut unknown);
    unknown.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        envoy::{
            config::{cluster::v3::Cluster, listener::v3::Filter, listener::v3::filter::ConfigType},
            extensions::filters::network::http_connection_manager::v3::HttpConnectionManager as Manager,
        },
        message_from_json, message_to_json,
    };

    #[track_caller]
    fn check(lists: Lists, base: Json, patch: Json, expect: Json) {
        let mut cluster: Cluster = message_from_json(&base).unwrap();
        let (patch, unknown) = Patch::of("envoy.config.cluster.v3.Cluster", &patch).unwrap();
        assert!(unknown.is_none());
        patch.merge_over(&mut cluster, lists).unwrap();
        assert_eq!(message_to_json(&cluster).unwrap(), expect);
    }

    #[test]
    fn what_is_set_replaces_and_the_rest_stays() {
        let base = json!({
            "name": "a", "connectTimeout": "10s", "perConnectionBufferLimitBytes": 5,
            "circuitBreakers": {"thresholds": [{"maxConnections": 1}]},
            "upstreamConnectionOptions": {"tcpKeepalive": {"keepaliveTime": 7}},
        });
        check(
            Lists::Append,
            base.clone(),
            json!({"connect_timeout": "0.5s", "per_connection_buffer_limit_bytes": 0,
                "circuit_breakers": {"thresholds": [{"max_retries": 2}]},
                "upstream_connection_options": {"tcp_keepalive": {"keepalive_probes": 3}}}),
            json!({
                "name": "a", "connectTimeout": "0.500s", "perConnectionBufferLimitBytes": 0,
                "circuitBreakers": {"thresholds": [{"maxConnections": 1}, {"maxRetries": 2}]},
                "upstreamConnectionOptions": {"tcpKeepalive": {"keepaliveTime": 7, "keepaliveProbes": 3}},
            }),
        );
        check(
            Lists::Replace,
            base,
            json!({"circuitBreakers": {"thresholds": [{"maxRetries": 2}]}}),
            json!({
                "name": "a", "connectTimeout": "10s", "perConnectionBufferLimitBytes": 5,
                "circuitBreakers": {"thresholds": [{"maxRetries": 2}]},
                "upstreamConnectionOptions": {"tcpKeepalive": {"keepaliveTime": 7}},
            }),
        );
        // Of alternatives the patch's is what is left.
        check(
            Lists::Append,
            json!({"name": "a", "type": "EDS"}),
            json!({"cluster_type": {"name": "x"}}),
            json!({"name": "a", "clusterType": {"name": "x"}}),
        );
    }

    #[test]
    fn wrapped_messages_merge_with_their_like_alone() {
        let manager = |fields: Json| -> Any {
            let mut wrapped = json!({"@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"});
            wrapped
                .as_object_mut()
                .unwrap()
                .extend(fields.as_object().unwrap().clone());
            let filter: Filter = message_from_json(&json!({"name": "m", "typedConfig": wrapped})).unwrap();
            match filter.config_type {
                Some(ConfigType::TypedConfig(config)) => config,
                _ => panic!("no configuration"),
            }
        };
        let mut into = manager(json!({"statPrefix": "a", "useRemoteAddress": true, "routeConfig": {"name": "r"}}));
        let patch =
            manager(json!({"useRemoteAddress": false, "xffNumTrustedHops": 1, "rds": {"routeConfigName": "x"}}));
        merge_any(&mut into, &patch).unwrap();
        let merged = Manager::decode(&into.value[..]).unwrap();
        let expect = json!({"statPrefix": "a", "useRemoteAddress": false, "xffNumTrustedHops": 1, "rds": {"routeConfigName": "x"}});
        assert_eq!(message_to_json(&merged).unwrap(), expect);
        into.type_url = "type.googleapis.com/envoy.config.cluster.v3.Cluster".to_owned();
        let error = merge_any(&mut into, &patch).unwrap_err();
        assert!(error.to_string().contains("HttpConnectionManager"), "{error}");
    }

    #[test]
    fn what_nobody_knows_is_named() {
        let (_, unknown) = Patch::of("envoy.config.cluster.v3.Cluster", &json!({"name": "a", "colour": "b"})).unwrap();
        assert!(unknown.unwrap().to_string().contains("colour"));
        let typed = json!({"name": "a", "typed_config": {"@type": "type.googleapis.com/no.such.Type"}});
        assert!(Patch::of("envoy.config.listener.v3.Filter", &typed).is_err());
        assert_eq!(unknown_types(&typed), ["type.googleapis.com/no.such.Type"]);
    }
}
