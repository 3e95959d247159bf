//! The tables of listeners: by address, and, for waypoints, by chain.

use serde_json::Value;

use super::destination::{chains as chains_of, destination, listener_type, matches};
use super::{Dump, DumpError, items, text};
use crate::table::{columns, row};

/// Which listeners; what is not given excludes none.
#[derive(Clone, Debug, Default)]
pub struct ListenerFilter {
    /// One of the addresses.
    pub address: Option<String>,
    /// The port.
    pub port: Option<u16>,
    /// `HTTP`, `TCP`, `HTTP+TCP` or `UNKNOWN`.
    pub kind: Option<String>,
}

impl ListenerFilter {
    fn passes(&self, listener: &Value) -> bool {
        let address = self.address.as_deref();
        address.is_none_or(|wanted| addresses(listener).iter().any(|it| it.eq_ignore_ascii_case(wanted)))
            && self.port.is_none_or(|wanted| port(listener) == u64::from(wanted))
            && self
                .kind
                .as_deref()
                .is_none_or(|wanted| listener_type(listener).eq_ignore_ascii_case(wanted))
    }
}

/// The addresses of a listener, the first one first.
fn addresses(listener: &Value) -> Vec<&str> {
    let first = &listener["address"];
    let own = first["socketAddress"]["address"]
        .as_str()
        .or_else(|| first["pipe"]["path"].as_str());
    let further = items(&listener["additionalAddresses"]).map(|it| text(&it["address"]["socketAddress"]["address"]));
    std::iter::once(own.unwrap_or_default()).chain(further).collect()
}

fn port(listener: &Value) -> u64 {
    listener["address"]["socketAddress"]["portValue"].as_u64().unwrap_or(0)
}

fn is_internal(listener: &Value) -> bool {
    !listener["internalListener"].is_null()
}

/// The listeners that a filter lets pass.
///
/// # Errors
///
/// The dump has none at all.
pub fn select_listeners<'a>(dump: &'a Dump, filter: &ListenerFilter) -> Result<Vec<&'a Value>, DumpError> {
    let mut found = dump.listeners()?;
    found.retain(|listener| filter.passes(listener));
    Ok(found)
}

/// The table of listeners: with what each chain takes and where it leads, or only of which type they are.
///
/// # Errors
///
/// The dump has none at all.
pub fn listeners(dump: &Dump, filter: &ListenerFilter, verbose: bool, named: bool) -> Result<String, DumpError> {
    let mut found = select_listeners(dump, filter)?;
    found.sort_by_key(|it| (port(it), addresses(it)[0], listener_type(it)));
    let mut rows = vec![if verbose {
        row(["ADDRESSES", "PORT", "MATCH", "DESTINATION"])
    } else {
        row(["ADDRESSES", "PORT", "TYPE"])
    }];
    if named {
        rows[0].insert(0, "NAME".to_owned());
    }
    for listener in found {
        let (addresses, port) = (addresses(listener).join(","), port(listener).to_string());
        let mut add = |cells: Vec<String>| {
            let name = named.then(|| format!("listener/{}", text(&listener["name"])));
            rows.push(name.into_iter().chain(cells).collect());
        };
        if !verbose {
            add(row([&addresses, &port, listener_type(listener)]));
            continue;
        }
        let mut leads: Vec<_> = chains_of(listener)
            .map(|chain| (destination(chain), matches(chain)))
            .collect();
        leads.sort_by(|a, b| b.0.cmp(&a.0));
        for (destination, taken) in leads {
            add(row([&addresses, &port, &taken, &destination]));
        }
    }
    Ok(columns(&rows, 1))
}

/// The table of chains, for proxies in which listeners lead to each other.
///
/// # Errors
///
/// The dump has no listeners.
pub fn chains(dump: &Dump, filter: &ListenerFilter) -> Result<String, DumpError> {
    let mut found = select_listeners(dump, filter)?;
    found.sort_by_key(|it| {
        let name = if is_internal(it) { text(&it["name"]) } else { "" };
        (port(it), name, addresses(it)[0], listener_type(it))
    });
    let mut rows = vec![row(["LISTENER", "CHAIN", "MATCH", "DESTINATION"])];
    for listener in found {
        let full = format!("envoy://{}", text(&listener["name"]));
        let count = chains_of(listener).count();
        for chain in chains_of(listener) {
            let name = text(&chain["name"]);
            // The same name twice says nothing.
            let of = if is_internal(listener) && count == 1 && name == full {
                "internal"
            } else {
                &full
            };
            for taken in taken(listener, chain) {
                rows.push(row([of, name, &taken, &destination(chain)]));
            }
        }
    }
    Ok(columns(&rows, 1))
}

/// What a chain takes: by its own rule, or by the listener's tree of matches, one text for each way that leads to it.
fn taken(listener: &Value, chain: &Value) -> Vec<String> {
    let tree = &listener["filterChainMatcher"];
    if tree.is_null() {
        return vec![matches(chain)];
    }
    let name = text(&chain["name"]);
    let otherwise = &tree["onNoMatch"];
    if otherwise["action"]["name"] == name {
        return vec!["UNMATCHED".to_owned()];
    }
    let mut ways = ways(&otherwise["matcher"], name);
    ways.extend(self::ways(tree, name));
    if ways.is_empty() {
        ways.push("NONE".to_owned());
    }
    ways
}

/// The ways through a tree of matches to an action.
fn ways(tree: &Value, name: &str) -> Vec<String> {
    let Some(inner) = tree["matcherTree"].as_object() else {
        return Vec::new();
    };
    let input = text(&tree["matcherTree"]["input"]["name"]);
    let mut branches: Vec<(String, &Value)> = Vec::new();
    for (kind, sign) in [("exactMatchMap", "="), ("prefixMatchMap", "^")] {
        let map = inner.get(kind).and_then(|it| it["map"].as_object());
        branches.extend(
            map.into_iter()
                .flatten()
                .map(|(key, on)| (format!("{input}{sign}{key}"), on)),
        );
    }
    let ranges = inner
        .get("customMatch")
        .map_or(&Value::Null, |it| &it["typedConfig"]["rangeMatchers"]);
    for matcher in items(ranges) {
        for range in items(&matcher["ranges"]) {
            let length = range["prefixLen"].as_u64().unwrap_or(0);
            let suffix = if [32, 128].contains(&length) {
                String::new()
            } else {
                format!("/{length}")
            };
            let prefix = text(&range["addressPrefix"]);
            branches.push((format!("{input}={prefix}{suffix}"), &matcher["onMatch"]));
        }
    }
    let mut found = Vec::new();
    for (step, on) in branches {
        if on["action"]["name"] == name {
            found.push(step);
        } else {
            found.extend(
                ways(&on["matcher"], name)
                    .into_iter()
                    .map(|rest| format!("{step} -> {rest}")),
            );
        }
    }
    if tree["onNoMatch"]["action"]["name"] == name {
        found.push("ANY".to_owned());
    }
    found
}
