//! Notes (filter state) that one listener of a waypoint leaves for the next.

use corten_envoy::envoy::{
    config::{
        core::v3::{DataSource, SubstitutionFormatString, data_source::Specifier, substitution_format_string::Format},
        listener::v3::Filter,
    },
    extensions::filters::{
        common::set_filter_state::v3::{
            FilterStateValue,
            filter_state_value::{Key, SharedWithUpstream, Value},
        },
        http::set_filter_state::v3::Config as OfRequests,
        network::{http_connection_manager::v3::HttpFilter, set_filter_state::v3::Config as OfConnections},
    },
};

use crate::{endpoint, listener::filters};

/// The address that a connection inside the proxy was made to.
const DESTINATION: &str = "envoy.filters.listener.original_dst.local_ip";
/// The address that it came from.
const SOURCE: &str = "envoy.filters.listener.original_dst.remote_ip";
/// Who opened the tunnel.
const PEER: &str = "io.istio.peer_principal";
/// Whom it was opened to.
const LOCAL: &str = "io.istio.local_principal";
/// The authority of the tunnel, as it was written.
const AUTHORITY: &str = "io.istio.connect_authority";
/// Names of which one must be in the certificate of whom a connection is made to. Connections of other names are never shared.
const PEER_NAMES: &str = "envoy.network.upstream_subject_alt_names";
/// How texts are kept.
const TEXT: &str = "envoy.string";

/// What the listener that ends tunnels notes of each: where it leads, who opened it, and from where.
///
/// Connections inside the proxy are kept apart by the addresses among these, of which the caller's has its port: texts need not
/// tell them apart too, which only Istio's own proxies could.
pub(super) fn of_tunnel() -> HttpFilter {
    let values = vec![
        note(DESTINATION, "%REQ(:AUTHORITY)%", ""),
        note(SOURCE, "%DOWNSTREAM_REMOTE_ADDRESS%", ""),
        note(AUTHORITY, "%REQ(:AUTHORITY)%", TEXT),
        note(PEER, "%DOWNSTREAM_PEER_URI_SAN%", TEXT),
        note(LOCAL, "%DOWNSTREAM_LOCAL_URI_SAN%", TEXT),
    ];
    filters::http(
        "connect_authority",
        &OfRequests {
            on_request_headers: values,
            ..OfRequests::default()
        },
    )
}

/// Leaves the address that was called for the listener that begins tunnels, where there is no endpoint that says another.
pub(super) fn same_destination() -> Filter {
    let format = format!("%FILTER_STATE({DESTINATION}:PLAIN)%");
    filters::network(
        "connect_authority",
        &OfConnections {
            on_new_connection: vec![note(DESTINATION, &format, "")],
            ..OfConnections::default()
        },
    )
}

/// Whom the tunnel is believed to be to: who the chosen endpoint is, or where none was chosen, these names, separated by commas; beside the
/// cluster's own question about trust domains.
pub(super) fn expected(names: Option<&str>) -> Filter {
    let of_endpoint = format!(
        "%DYNAMIC_METADATA({}:{})%",
        endpoint::TUNNEL_TARGET,
        endpoint::TUNNEL_PEER
    );
    let names = names.map(|names| names.replace('%', "%%"));
    let values = names.into_iter().chain([of_endpoint]).map(|format| {
        let mut value = note(PEER_NAMES, &format, "");
        value.shared_with_upstream = SharedWithUpstream::None.into();
        value.skip_if_empty = true;
        if let Some(Value::FormatString(format)) = &mut value.value {
            format.omit_empty_values = true;
        }
        value
    });
    filters::network(
        "peer",
        &OfConnections {
            on_new_connection: values.collect(),
            ..OfConnections::default()
        },
    )
}

/// The header that tells an application who called, where a waypoint is asked to: it never saw the caller's certificate.
pub(super) fn client_identity() -> String {
    format!("By=%FILTER_STATE({LOCAL}:PLAIN)%;URI=%FILTER_STATE({PEER}:PLAIN)%")
}

/// A note for the next listener, and no further.
fn note(key: &str, format: &str, factory: &str) -> FilterStateValue {
    FilterStateValue {
        key: Some(Key::ObjectKey(key.to_owned())),
        factory_key: factory.to_owned(),
        shared_with_upstream: SharedWithUpstream::Once.into(),
        value: Some(Value::FormatString(SubstitutionFormatString {
            format: Some(Format::TextFormatSource(DataSource {
                specifier: Some(Specifier::InlineString(format.to_owned())),
                ..DataSource::default()
            })),
            ..SubstitutionFormatString::default()
        })),
        ..FilterStateValue::default()
    }
}
