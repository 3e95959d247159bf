//! The table of filters that are discovered on their own (ECDS).

use serde_json::Value;

use super::{Dump, DumpError, PREFIX, text};
use crate::table::{columns, row};

const SECTION: &str = "EcdsConfigDump";

/// The section, without its type, for JSON and YAML, and the table.
///
/// # Errors
///
/// The proxy has no such filters.
pub fn extensions(dump: &Dump) -> Result<(Value, String), DumpError> {
    let section = dump.section(SECTION).ok_or(DumpError::Nothing("ECDS filters"))?;
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
    Ok((section, columns(&rows, 5)))
}
