//! The table of filters that are discovered on their own (ECDS).

use serde_json::{Value, json};

use super::{Dump, PREFIX, text};
use crate::table::{columns, row};

const SECTION: &str = "EcdsConfigDump";

/// The section, without its type, for JSON and YAML, and the table. Most proxies have no such filters.
pub fn extensions(dump: &Dump) -> (Value, String) {
    let section = dump.section(SECTION).unwrap_or_else(|| json!({}));
    let mut found = dump.entries(SECTION, &[("ecdsFilters", "/ecdsFilter")]);
    fn key(filter: &Value) -> (&str, &str) {
        (text(&filter["typedConfig"]["@type"]), text(&filter["name"]))
    }
    found.sort_by(|a, b| key(a).cmp(&key(b)));
    let mut rows = vec![row(["ECDS NAME", "TYPE"])];
    rows.extend(found.into_iter().map(|filter| {
        let (kind, name) = key(filter);
        row([name, kind.strip_prefix(PREFIX).unwrap_or(kind)])
    }));
    (section, columns(&rows, 5))
}
