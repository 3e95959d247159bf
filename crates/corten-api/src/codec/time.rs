//! Points in time, as Kubernetes writes them (RFC 3339).

use serde_json::json;

use super::{Cx, Field, Json, SchemaCx};
use crate::decode::Node;

/// A point in time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp(pub jiff::Timestamp);

impl Field for Timestamp {
    fn decode(node: &Node, cx: &mut Cx) -> Option<Timestamp> {
        let Some(text) = node.as_str() else {
            return cx.wrong_type(node, "a time such as 2025-01-31T15:04:05Z");
        };
        match text.parse() {
            Ok(time) => Some(Timestamp(time)),
            Err(_) => cx.out_of_range(
                node,
                format!("'{}' is not a time such as 2025-01-31T15:04:05Z", text.escape_debug()),
            ),
        }
    }
    fn encode(&self) -> Json {
        Json::from(self.0.to_string())
    }
    fn schema(_: &SchemaCx) -> Json {
        json!({ "type": "string", "format": "date-time" })
    }
}
