//! Fields of several values: optional ones, lists, maps.

use std::collections::BTreeMap;

use serde_json::json;

use super::{Cx, Field, Json, SchemaCx};
use crate::decode::{Data, Node};

impl<T: Field> Field for Option<T> {
    fn decode(node: &Node, cx: &mut Cx) -> Option<Option<T>> {
        T::decode(node, cx).map(Some)
    }
    fn encode(&self) -> Json {
        self.as_ref().map_or(Json::Null, T::encode)
    }
    fn is_absent(&self) -> bool {
        self.is_none()
    }
    fn schema(cx: &SchemaCx) -> Json {
        T::schema(cx)
    }
}

impl<T: Field> Field for Box<T> {
    fn decode(node: &Node, cx: &mut Cx) -> Option<Box<T>> {
        T::decode(node, cx).map(Box::new)
    }
    fn encode(&self) -> Json {
        T::encode(self)
    }
    fn is_absent(&self) -> bool {
        T::is_absent(self)
    }
    fn schema(cx: &SchemaCx) -> Json {
        T::schema(cx)
    }
}

impl<T: Field> Field for Vec<T> {
    /// Items that are not usable are left out.
    fn decode(node: &Node, cx: &mut Cx) -> Option<Vec<T>> {
        let Data::List(items) = &node.data else {
            return cx.wrong_type(node, "a list");
        };
        let drops_nulls = cx.takes_nulls();
        let items = items
            .iter()
            .enumerate()
            .filter(|(_, item)| !(drops_nulls && item.is_null()));
        Some(
            items
                .filter_map(|(i, item)| cx.item(i, |cx| element(item, cx)))
                .collect(),
        )
    }
    fn encode(&self) -> Json {
        Json::Array(self.iter().map(T::encode).collect())
    }
    fn is_absent(&self) -> bool {
        self.is_empty()
    }
    fn schema(cx: &SchemaCx) -> Json {
        json!({ "type": "array", "items": T::schema(cx) })
    }
}

/// A list or map cannot hold `null`.
fn element<T: Field>(node: &Node, cx: &mut Cx) -> Option<T> {
    if node.is_null() {
        return cx.wrong_type(node, "a value");
    }
    T::decode(node, cx)
}

/// What the keys of a map can be.
pub trait Key: Ord + Sized {
    /// Reads a key.
    fn parse(text: &str) -> Option<Self>;
    /// The key as JSON has it.
    fn print(&self) -> String;
    /// What it must be, for messages.
    const EXPECTED: &'static str;
}

impl Key for String {
    fn parse(text: &str) -> Option<String> {
        Some(text.to_owned())
    }
    fn print(&self) -> String {
        self.clone()
    }
    const EXPECTED: &'static str = "a string";
}

impl Key for u32 {
    fn parse(text: &str) -> Option<u32> {
        text.parse().ok()
    }
    fn print(&self) -> String {
        self.to_string()
    }
    const EXPECTED: &'static str = "a number from 0 to 4294967295";
}

impl<K: Key, T: Field> Field for BTreeMap<K, T> {
    fn decode(node: &Node, cx: &mut Cx) -> Option<BTreeMap<K, T>> {
        let Data::Map(entries) = &node.data else {
            return cx.wrong_type(node, "a mapping");
        };
        let mut map = BTreeMap::new();
        for entry in entries {
            cx.item(&entry.key, |cx| {
                let Some(key) = K::parse(&entry.key) else {
                    cx.out_of_range::<()>(&entry.value, format!("the key must be {}", K::EXPECTED));
                    return;
                };
                if let Some(value) = element(&entry.value, cx) {
                    map.insert(key, value);
                }
            });
        }
        Some(map)
    }
    fn encode(&self) -> Json {
        Json::Object(self.iter().map(|(key, value)| (key.print(), value.encode())).collect())
    }
    fn is_absent(&self) -> bool {
        self.is_empty()
    }
    fn schema(cx: &SchemaCx) -> Json {
        json!({ "type": "object", "additionalProperties": T::schema(cx) })
    }
}
