//! JSON of messages brought into one shape without being read as messages: names in camel case, fields in the order of their declaration.
//!
//! What a proxy of another make shows may have types and fields that are not known here. They stay as they are, where reading it all as
//! messages would refuse it all.

use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};
use serde::Serialize;
use serde::ser::{SerializeMap as _, SerializeSeq as _, Serializer};
use serde_json::{Map, Value};

use crate::{pool, type_name};

const ANY: &str = "google.protobuf.Any";
const TYPE: &str = "@type";

/// The descriptor by which an object is looked at: that of a wrapped message for what is wrapped.
fn of(descriptor: Option<MessageDescriptor>, object: &Map<String, Value>) -> Option<MessageDescriptor> {
    let descriptor = descriptor?;
    let found = match descriptor.full_name() {
        ANY => object
            .get(TYPE)
            .and_then(Value::as_str)
            .and_then(|url| pool().get_message_by_name(type_name(url))),
        _ => Some(descriptor),
    };
    // Those have a JSON of their own, in which keys are data.
    found.filter(|it| !it.full_name().starts_with("google.protobuf."))
}

fn field(descriptor: &MessageDescriptor, key: &str) -> Option<FieldDescriptor> {
    descriptor
        .get_field_by_json_name(key)
        .or_else(|| descriptor.get_field_by_name(key))
}

/// The type of a field's messages, and whether they are the values of a map.
fn inside(field: &FieldDescriptor) -> (Option<MessageDescriptor>, bool) {
    let Kind::Message(message) = field.kind() else {
        return (None, false);
    };
    if !field.is_map() {
        return (Some(message), false);
    }
    let value = message.map_entry_value_field().kind();
    (value.as_message().cloned(), true)
}

/// JSON of a message of a type by its name, with the names of all known fields in camel case, whichever of protobuf's two forms they had.
pub fn camel_case(name: &str, json: Value) -> Value {
    renamed(pool().get_message_by_name(name), json)
}

fn renamed(descriptor: Option<MessageDescriptor>, json: Value) -> Value {
    match json {
        Value::Array(items) => items
            .into_iter()
            .map(|item| renamed(descriptor.clone(), item))
            .collect(),
        Value::Object(object) => {
            let Some(descriptor) = of(descriptor, &object) else {
                return Value::Object(object);
            };
            let entries = object.into_iter().map(|(key, value)| {
                let Some(field) = field(&descriptor, &key) else {
                    return (key, value);
                };
                let value = match (inside(&field), value) {
                    ((message, true), Value::Object(map)) => {
                        let entries = map.into_iter();
                        Value::Object(
                            entries
                                .map(|(key, value)| (key, renamed(message.clone(), value)))
                                .collect(),
                        )
                    }
                    ((message, _), value) => renamed(message, value),
                };
                (field.json_name().to_owned(), value)
            });
            Value::Object(entries.collect())
        }
        other => other,
    }
}

/// JSON of a message of a type by its name, which is written with its fields in the order of their declaration, those that are not known last.
pub fn in_order<'a>(name: &str, json: &'a Value) -> impl Serialize + use<'a> {
    Ordered {
        descriptor: pool().get_message_by_name(name),
        json,
        is_map: false,
    }
}

struct Ordered<'a> {
    descriptor: Option<MessageDescriptor>,
    json: &'a Value,
    is_map: bool,
}

impl Serialize for Ordered<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let within = |json, descriptor, is_map| Ordered {
            descriptor,
            json,
            is_map,
        };
        match self.json {
            Value::Array(items) => {
                let mut list = serializer.serialize_seq(Some(items.len()))?;
                for item in items {
                    list.serialize_element(&within(item, self.descriptor.clone(), false))?;
                }
                list.end()
            }
            Value::Object(object) => {
                let mut map = serializer.serialize_map(Some(object.len()))?;
                if self.is_map {
                    for (key, value) in object {
                        map.serialize_entry(key, &within(value, self.descriptor.clone(), false))?;
                    }
                    return map.end();
                }
                let Some(descriptor) = of(self.descriptor.clone(), object) else {
                    for (key, value) in object {
                        map.serialize_entry(key, value)?;
                    }
                    return map.end();
                };
                let place = |key: &str| {
                    let at = || {
                        descriptor
                            .fields()
                            .position(|it| it.json_name() == key || it.name() == key)
                    };
                    if key == TYPE { Some(0) } else { at().map(|at| at + 1) }
                };
                let mut entries: Vec<_> = object.iter().map(|(key, value)| (place(key), key, value)).collect();
                entries.sort_by_key(|(place, ..)| place.unwrap_or(usize::MAX));
                for (_, key, value) in entries {
                    let (message, is_map) = field(&descriptor, key).map_or((None, false), |field| inside(&field));
                    map.serialize_entry(key, &within(value, message, is_map))?;
                }
                map.end()
            }
            other => other.serialize(serializer),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_are_those_of_json_and_what_is_data_or_unknown_stays() {
        let dump = json!({"configs": [{
            "@type": "type.googleapis.com/envoy.admin.v3.ClustersConfigDump",
            "dynamic_active_clusters": [{"cluster": {
                "@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster",
                "name": "a",
                "some_day": {"more_of_it": 1},
                "connect_timeout": "1s",
                "metadata": {"filter_metadata": {"istio": {"some_key": {"in_it": 1}}}},
                "typed_extension_protocol_options": {"a_b": {"@type": "type.googleapis.com/not.Known", "one_two": 3}},
            }}],
        }]});
        let cluster = camel_case("envoy.admin.v3.ConfigDump", dump)["configs"][0]["dynamicActiveClusters"][0].take();
        assert_eq!(
            cluster["cluster"],
            json!({
                "@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster",
                "name": "a",
                "some_day": {"more_of_it": 1},
                "connectTimeout": "1s",
                "metadata": {"filterMetadata": {"istio": {"some_key": {"in_it": 1}}}},
                "typedExtensionProtocolOptions": {"a_b": {"@type": "type.googleapis.com/not.Known", "one_two": 3}},
            })
        );
        let text = serde_json::to_string(&in_order("google.protobuf.Any", &cluster["cluster"])).unwrap();
        let order = [
            "@type",
            "name",
            "connectTimeout",
            "metadata",
            "typedExtensionProtocolOptions",
            "some_day",
        ];
        let places: Vec<_> = order
            .iter()
            .map(|key| text.find(&format!("\"{key}\"")).unwrap())
            .collect();
        assert!(places.is_sorted(), "{text}");
    }
}
