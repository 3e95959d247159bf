//! What routes change about headers.

use std::collections::BTreeMap;

use corten_api::istio::virtual_service::{HeaderOperations, Headers};
use corten_envoy::envoy::config::core::v3::{HeaderValue, HeaderValueOption, header_value_option::HeaderAppendAction};

/// Changes, in Envoy's form.
#[derive(Debug, Default)]
pub(super) struct Changes {
    pub(super) request_add: Vec<HeaderValueOption>,
    pub(super) request_remove: Vec<String>,
    pub(super) response_add: Vec<HeaderValueOption>,
    pub(super) response_remove: Vec<String>,
    /// The host that requests are for from then on.
    pub(super) authority: Option<String>,
}

impl Changes {
    pub(super) fn of(headers: Option<&Headers>) -> Changes {
        let Some(headers) = headers else {
            return Changes::default();
        };
        let empty = HeaderOperations::default();
        let request = headers.request.as_ref().unwrap_or(&empty);
        let response = headers.response.as_ref().unwrap_or(&empty);
        Changes {
            request_add: values(request),
            request_remove: removed(request),
            response_add: values(response),
            response_remove: removed(response),
            authority: authority(&request.set).or_else(|| authority(&request.add)),
        }
    }
}

/// What requests are routed by: not changed as headers are.
fn is_internal(name: &str) -> bool {
    name.starts_with(':') || name.eq_ignore_ascii_case("host")
}

fn authority(headers: &BTreeMap<String, String>) -> Option<String> {
    let is_it = |name: &str| name.eq_ignore_ascii_case(":authority") || name.eq_ignore_ascii_case("host");
    let found = headers.iter().find(|(name, _)| is_it(name));
    found.map(|(_, value)| value.clone()).filter(|value| !value.is_empty())
}

fn values(operations: &HeaderOperations) -> Vec<HeaderValueOption> {
    let set = operations
        .set
        .iter()
        .map(|of| (of, HeaderAppendAction::OverwriteIfExistsOrAdd));
    let add = operations
        .add
        .iter()
        .map(|of| (of, HeaderAppendAction::AppendIfExistsOrAdd));
    set.chain(add)
        .filter(|((name, _), _)| !is_internal(name))
        .map(|((name, value), action)| HeaderValueOption {
            header: Some(HeaderValue {
                key: name.clone(),
                value: value.clone(),
                ..HeaderValue::default()
            }),
            append_action: action.into(),
            ..HeaderValueOption::default()
        })
        .collect()
}

fn removed(operations: &HeaderOperations) -> Vec<String> {
    operations
        .remove
        .iter()
        .filter(|name| !is_internal(name))
        .cloned()
        .collect()
}
