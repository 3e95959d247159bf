//! Enumerations: names, and in protobuf's dialect their numbers too.

use serde_json::json;

use super::{Cx, Field, Json, SchemaCx};
use crate::decode::{Data, Node};

/// One value of an enumeration.
#[derive(Debug)]
pub struct ValueInfo {
    /// The name.
    pub name: &'static str,
    /// The number in protobuf.
    pub number: i32,
    /// Whether the schema leaves it out.
    pub hidden: bool,
    /// Whether only the experimental channel has it.
    pub experimental: bool,
}

/// An enum of names. Derived.
pub trait Enumeration: Sized {
    /// The values, in order.
    const VALUES: &'static [ValueInfo];
    /// Whether numbers are understood.
    const PROTO: bool;
    /// The value at an index of the table.
    fn from_index(index: usize) -> Option<Self>;
    /// The index in the table.
    fn index(&self) -> usize;

    /// The row of the table.
    fn info(&self) -> &'static ValueInfo {
        // The derived index is below the length of the derived table.
        &Self::VALUES[self.index()]
    }

    /// The name.
    fn name(&self) -> &'static str {
        self.info().name
    }

    /// The value of a name.
    fn from_name(name: &str) -> Option<Self> {
        Self::from_index(Self::VALUES.iter().position(|v| v.name == name)?)
    }
}

/// Decodes an enumeration.
pub fn decode_enumeration<T: Enumeration + Field>(node: &Node, cx: &mut Cx) -> Option<T> {
    T::from_index(position(T::VALUES, T::PROTO, node, cx)?)
}

fn position(values: &'static [ValueInfo], proto: bool, node: &Node, cx: &mut Cx) -> Option<usize> {
    let found = match &node.data {
        Data::String(name) => values.iter().position(|v| v.name == name),
        Data::Number(number) if proto => values.iter().position(|v| number.as_i64() == Some(v.number.into())),
        _ => return cx.wrong_type(node, &format!("one of {}", listed(values))),
    };
    if found.is_none() {
        let given = match &node.data {
            Data::String(name) => name.escape_debug().to_string(),
            other => format!(
                "{}",
                Node {
                    at: node.at,
                    data: other.clone()
                }
                .to_value()
            ),
        };
        return cx.out_of_range(node, format!("'{given}' is not one of {}", listed(values)));
    }
    found
}

fn listed(values: &'static [ValueInfo]) -> String {
    values
        .iter()
        .filter(|v| !v.hidden)
        .map(|v| v.name)
        .collect::<Vec<_>>()
        .join(", ")
}

/// The schema of an enumeration.
pub fn enumeration_schema(values: &'static [ValueInfo], cx: &SchemaCx) -> Json {
    let names: Vec<&str> = values
        .iter()
        .filter(|v| !v.hidden && (cx.experimental || !v.experimental))
        .map(|v| v.name)
        .collect();
    json!({ "type": "string", "enum": names })
}
