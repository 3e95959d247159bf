//! The table of clusters.

use serde_json::Value;

use super::{Dump, DumpError, made_of, subset_key, text};
use crate::table::{columns, row};

/// Which clusters; what is not given excludes none.
#[derive(Clone, Debug, Default)]
pub struct ClusterFilter {
    /// A part of the host.
    pub fqdn: Option<String>,
    /// `inbound` or `outbound`.
    pub direction: Option<String>,
    /// The service's port.
    pub port: Option<u16>,
    /// The subset.
    pub subset: Option<String>,
}

impl ClusterFilter {
    fn passes(&self, name: &str) -> bool {
        let has = |part: &Option<String>| part.as_deref().is_none_or(|part| name.contains(part));
        let port = self.port.is_none_or(|port| name.contains(&format!("|{port}|")));
        has(&self.fqdn) && has(&self.direction) && has(&self.subset) && port
    }
}

/// The clusters that a filter lets pass.
///
/// # Errors
///
/// The dump has none at all.
pub fn select_clusters<'a>(dump: &'a Dump, filter: &ClusterFilter) -> Result<Vec<&'a Value>, DumpError> {
    let mut found = dump.clusters()?;
    found.retain(|cluster| filter.passes(text(&cluster["name"])));
    Ok(found)
}

/// The table of clusters; `named` puts each one's name before it.
///
/// # Errors
///
/// The dump has none at all.
pub fn clusters(dump: &Dump, filter: &ClusterFilter, named: bool) -> Result<String, DumpError> {
    let heading = [
        "SERVICE FQDN",
        "PORT",
        "SUBSET",
        "DIRECTION",
        "TYPE",
        "DESTINATION RULE",
    ];
    let mut rows = vec![row(heading)];
    if named {
        rows[0].insert(0, "NAME".to_owned());
    }
    for cluster in select_clusters(dump, filter)? {
        let name = text(&cluster["name"]);
        let full = format!("cluster/{name}");
        let (kind, rule) = (kind(cluster), made_of(cluster));
        let mut cells = match subset_key(name) {
            Some((direction, port, subset, host)) => {
                let subset = if subset.is_empty() { "-" } else { subset };
                row([host, port, subset, direction, kind, &rule])
            }
            None => row([if named { &full } else { name }, "-", "-", "-", kind, &rule]),
        };
        if named {
            cells.insert(0, full);
        }
        rows.push(cells);
    }
    Ok(columns(&rows, 5))
}

/// How a cluster finds its endpoints: one of Envoy's own ways, else the name of the extension that does.
fn kind(cluster: &Value) -> &str {
    let extension = text(&cluster["clusterType"]["name"]);
    match text(&cluster["type"]) {
        "" if extension.is_empty() => "STATIC",
        "" => extension,
        kind => kind,
    }
}
