//! Lists in pages: `limit`, `continue`, `resourceVersion` and `resourceVersionMatch`.
//!
//! All pages show the revision of the first one, undone from the watch history; when that is too old the client is told to begin again.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::{Query, watch};
use crate::api::Api;
use crate::object::{self, Object};
use crate::registry::Resource;
use crate::selector::Selector;
use crate::status::{Cause, Status};
use crate::verbs;

/// One page of a list.
pub(crate) struct Page {
    pub(crate) objects: Vec<Object>,
    pub(crate) revision: u64,
    pub(crate) next: Option<String>,
    pub(crate) remaining: Option<usize>,
}

/// Reads a page.
pub(crate) fn page(
    api: &Api,
    resource: &Resource,
    namespace: Option<&str>,
    selector: &Selector,
    query: &Query,
) -> Result<Page, Status> {
    let limit = query.number::<usize>("limit")?.unwrap_or(0);
    let start = query.text("continue").map(parse_token).transpose()?;
    let exact = exact_revision(api, query, start.as_ref())?;
    let (mut objects, revision) = match exact {
        Some(revision) => {
            let shard = api.store.shard(&resource.storage);
            let snapshot = shard
                .list_at(namespace, revision)
                .map_err(|_| too_old(start.is_some()))?;
            let objects = snapshot.objects.into_iter().filter(|o| selector.matches(o));
            (objects.map(|o| verbs::in_version(resource, o)).collect(), revision)
        }
        None => verbs::list(api, resource, namespace, selector),
    };
    if let Some((_, after)) = &start {
        objects.retain(|object: &Object| key(object).as_str() > after.as_str());
    }
    let mut page = Page {
        revision,
        next: None,
        remaining: None,
        objects,
    };
    if limit > 0 && page.objects.len() > limit {
        let remaining = page.objects.len() - limit;
        page.objects.truncate(limit);
        let last = page.objects.last().map(|o| key(o)).unwrap_or_default();
        page.next = Some(URL_SAFE_NO_PAD.encode(json!({ "rv": revision, "start": last }).to_string()));
        // As the real server does: unknown when a selector is used.
        page.remaining = selector.is_everything().then_some(remaining);
    }
    Ok(page)
}

/// The revision that the list must be of; `None` for the newest.
fn exact_revision(api: &Api, query: &Query, start: Option<&(u64, String)>) -> Result<Option<u64>, Status> {
    if let Some((revision, _)) = start {
        return Ok(Some(*revision));
    }
    let asked: u64 = match query.get("resourceVersion").unwrap_or("") {
        "" => 0,
        text => text.parse().map_err(|_| watch::invalid_version(text))?,
    };
    let current = api.store.revision();
    if asked > current {
        return Err(watch::too_large(asked, current));
    }
    match query.text("resourceVersionMatch") {
        None | Some("NotOlderThan") => Ok(None),
        Some("Exact") if asked > 0 => Ok(Some(asked)),
        Some(other) => Err(Status::invalid(
            "meta.k8s.io",
            "ListOptions",
            "",
            vec![Cause {
                reason: "FieldValueForbidden".to_owned(),
                message: format!("Forbidden: resourceVersionMatch {other:?} needs a resourceVersion other than 0"),
                field: "resourceVersionMatch".to_owned(),
            }],
        )),
    }
}

fn too_old(continued: bool) -> Status {
    Status::expired(if continued {
        "The provided continue parameter is too old to display a consistent list result. You must start a new list without the continue parameter."
    } else {
        "The resourceVersion for the provided list is too old."
    })
}

/// The key by which lists are ordered.
fn key(object: &Value) -> String {
    let (namespace, name) = (object::namespace(object), object::name(object));
    if namespace.is_empty() {
        name.to_owned()
    } else {
        format!("{namespace}/{name}")
    }
}

fn parse_token(token: &str) -> Result<(u64, String), Status> {
    let parse = || -> Option<(u64, String)> {
        let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
        let value: Value = serde_json::from_slice(&bytes).ok()?;
        Some((value["rv"].as_u64()?, value["start"].as_str()?.to_owned()))
    };
    parse().ok_or_else(|| Status::bad_request(format!("continue key is not valid: {token:?}")))
}
