//! Access logs: which providers get a line of what, and the loggers for them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use corten_api::istio::{
    extension_providers::{
        EnvoyFileAccessLogProvider, EnvoyFileAccessLogProviderLogFormatLogFormat as FileFormat,
        EnvoyOpenTelemetryLogProvider, MeshConfigExtensionProvider, MeshConfigExtensionProviderProvider as Provider,
    },
    mesh_config::{AccessLogEncoding, MeshConfig},
    telemetry::{AccessLogging, TelemetrySpec, WorkloadMode},
};
use corten_envoy::opentelemetry::proto::common::v1::{AnyValue, KeyValue, KeyValueList, any_value};
use corten_envoy::{
    any,
    envoy::{
        config::{
            accesslog::v3::{
                AccessLog, AccessLogFilter, AndFilter, ExtensionFilter, ResponseFlagFilter, access_log,
                access_log_filter, extension_filter,
            },
            core::v3::{
                ApiVersion, DataSource, SubstitutionFormatString, TypedExtensionConfig, data_source,
                substitution_format_string::Format,
            },
        },
        extensions::{
            access_loggers::{
                file::v3::{FileAccessLog, file_access_log},
                filters::cel::v3::ExpressionFilter,
                grpc::v3::{CommonGrpcAccessLogConfig, HttpGrpcAccessLogConfig, TcpGrpcAccessLogConfig},
                open_telemetry::v3::OpenTelemetryAccessLogConfig,
            },
            formatter::req_without_query::v3::ReqWithoutQuery,
        },
    },
    google::protobuf::{Struct, Value, value::Kind},
    prost::{Message, Name},
    string_value, structure,
};
use corten_routing::Config;
use serde_json::Value as Json;

use super::providers;
use crate::Context;

/// Istio's format of a line of an access log.
const LOG_FORMAT: &str = "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" %RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% \"%UPSTREAM_TRANSPORT_FAILURE_REASON%\" %BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" \"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\" %UPSTREAM_CLUSTER_RAW% %UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% %REQUESTED_SERVER_NAME% %ROUTE_NAME%\n";

/// Istio's fields of a line in JSON.
const JSON_FIELDS: [(&str, &str); 24] = [
    ("start_time", "%START_TIME%"),
    ("route_name", "%ROUTE_NAME%"),
    ("method", "%REQ(:METHOD)%"),
    ("path", "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%"),
    ("protocol", "%PROTOCOL%"),
    ("response_code", "%RESPONSE_CODE%"),
    ("response_flags", "%RESPONSE_FLAGS%"),
    ("response_code_details", "%RESPONSE_CODE_DETAILS%"),
    ("connection_termination_details", "%CONNECTION_TERMINATION_DETAILS%"),
    ("bytes_received", "%BYTES_RECEIVED%"),
    ("bytes_sent", "%BYTES_SENT%"),
    ("duration", "%DURATION%"),
    ("upstream_service_time", "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%"),
    ("x_forwarded_for", "%REQ(X-FORWARDED-FOR)%"),
    ("user_agent", "%REQ(USER-AGENT)%"),
    ("request_id", "%REQ(X-REQUEST-ID)%"),
    ("authority", "%REQ(:AUTHORITY)%"),
    ("upstream_host", "%UPSTREAM_HOST%"),
    ("upstream_cluster", "%UPSTREAM_CLUSTER_RAW%"),
    ("upstream_local_address", "%UPSTREAM_LOCAL_ADDRESS%"),
    ("downstream_local_address", "%DOWNSTREAM_LOCAL_ADDRESS%"),
    ("downstream_remote_address", "%DOWNSTREAM_REMOTE_ADDRESS%"),
    ("requested_server_name", "%REQUESTED_SERVER_NAME%"),
    (
        "upstream_transport_failure_reason",
        "%UPSTREAM_TRANSPORT_FAILURE_REASON%",
    ),
];

/// An operator that a formatter of its own stands behind.
const WITHOUT_QUERY: &str = "%REQ_WITHOUT_QUERY";
/// What the proxies of both ends know of each other, for logs that go over the network.
const PEERS: [&str; 2] = ["upstream_peer", "downstream_peer"];

/// The logs of a side.
pub(super) fn of(cx: &Context<'_>, layers: &[Arc<Config<TelemetrySpec>>], side: WorkloadMode) -> Vec<AccessLog> {
    let mesh = cx.mesh();
    if is_by_mesh(cx, layers) {
        return super::legacy::access_log(cx);
    }
    let layers: Vec<&[AccessLogging]> = layers
        .iter()
        .map(|layer| layer.spec.access_logging.as_slice())
        .filter(|layer| !layer.is_empty())
        .collect();
    let defaults = mesh
        .default_providers
        .as_ref()
        .map_or(&[][..], |defaults| defaults.access_logging.as_slice());
    let mut made = Vec::new();
    for (name, wanted) in merge(&layers, defaults, side) {
        let Some(provider) = providers::named(mesh, &name).filter(|_| !wanted.disabled) else {
            continue;
        };
        made.extend(logger(cx, &provider).map(|log| AccessLog {
            filter: wanted.expression.map(filter),
            ..log
        }));
    }
    made
}

/// Whether neither Telemetries nor default providers say anything of logs, and the mesh's configuration does by itself.
pub(super) fn is_by_mesh(cx: &Context<'_>, layers: &[Arc<Config<TelemetrySpec>>]) -> bool {
    let defaults = cx.mesh().default_providers.as_ref();
    let no_defaults = defaults.is_none_or(|defaults| defaults.access_logging.is_empty());
    no_defaults && layers.iter().all(|layer| layer.spec.access_logging.is_empty())
}

/// A log of requests, or else of connections, that goes to a cluster by gRPC.
pub(super) fn over_grpc(name: &str, cluster: &str, of_requests: bool) -> AccessLog {
    let common_config = Some(CommonGrpcAccessLogConfig {
        log_name: name.to_owned(),
        grpc_service: Some(providers::grpc_to(cluster.to_owned())),
        transport_api_version: ApiVersion::V3.into(),
        filter_state_objects_to_log: PEERS.map(str::to_owned).to_vec(),
        ..CommonGrpcAccessLogConfig::default()
    });
    if of_requests {
        let config = HttpGrpcAccessLogConfig {
            common_config,
            ..HttpGrpcAccessLogConfig::default()
        };
        log("envoy.access_loggers.http_grpc", &config)
    } else {
        log(
            "envoy.access_loggers.tcp_grpc",
            &TcpGrpcAccessLogConfig { common_config },
        )
    }
}

/// What is wanted of a provider.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Wanted {
    disabled: bool,
    expression: Option<String>,
}

/// What is wanted of which provider, by name.
///
/// The last layer that names providers for the side says which there are; without any, the mesh's defaults are. A part that names
/// none is about those of the part before it.
fn merge(layers: &[&[AccessLogging]], defaults: &[String], side: WorkloadMode) -> BTreeMap<String, Wanted> {
    if layers.is_empty() {
        let all = defaults.iter().map(|name| (name.clone(), Wanted::default()));
        return all.collect();
    }
    let is_meant = |part: &AccessLogging| {
        let mode = part.match_.as_ref().map(|selector| selector.mode);
        mode.is_none_or(|mode| mode == WorkloadMode::ClientAndServer || mode == side)
    };
    let names =
        |part: &AccessLogging| -> Vec<String> { part.providers.iter().map(|provider| provider.name.clone()).collect() };
    let mut in_scope: BTreeSet<String> = defaults.iter().cloned().collect();
    let mut filters: BTreeMap<String, Option<String>> = BTreeMap::new();
    for layer in layers {
        let mut named = BTreeSet::new();
        for part in layer.iter().filter(|part| is_meant(part)) {
            for name in names(part) {
                let expression = part.filter.as_ref().map(|filter| filter.expression.clone());
                filters.insert(name.clone(), expression);
                named.insert(name);
            }
        }
        if !named.is_empty() {
            in_scope = named;
        }
    }
    let mut merged = BTreeMap::new();
    let mut before: Vec<String> = defaults.to_vec();
    for part in layers.iter().copied().flatten() {
        let own = names(part);
        if !own.is_empty() {
            before = own;
        }
        for name in before.iter().filter(|name| in_scope.contains(*name) && is_meant(part)) {
            let wanted = Wanted {
                disabled: part.disabled == Some(true),
                expression: filters.get(name).cloned().flatten(),
            };
            merged.insert(name.clone(), wanted);
        }
    }
    merged
}

/// A log of what no filter chain is for; filters do not see it.
pub(super) fn unrouted(log: &AccessLog) -> AccessLog {
    let unrouted = AccessLogFilter {
        filter_specifier: Some(access_log_filter::FilterSpecifier::ResponseFlagFilter(
            ResponseFlagFilter {
                flags: vec!["NR".to_owned()],
            },
        )),
    };
    with(log, unrouted)
}

/// The same log with a further condition.
pub(crate) fn with(log: &AccessLog, condition: AccessLogFilter) -> AccessLog {
    let filter = match &log.filter {
        None => condition,
        Some(own) => AccessLogFilter {
            filter_specifier: Some(access_log_filter::FilterSpecifier::AndFilter(AndFilter {
                filters: vec![condition, own.clone()],
            })),
        },
    };
    AccessLog {
        filter: Some(filter),
        ..log.clone()
    }
}

/// Lines of what an expression of CEL is true for.
fn filter(expression: String) -> AccessLogFilter {
    AccessLogFilter {
        filter_specifier: Some(access_log_filter::FilterSpecifier::ExtensionFilter(ExtensionFilter {
            name: "envoy.access_loggers.extension_filters.cel".to_owned(),
            config_type: Some(extension_filter::ConfigType::TypedConfig(any(&ExpressionFilter {
                expression,
                ..ExpressionFilter::default()
            }))),
        })),
    }
}

/// The logger of a provider; `None`: it takes no logs, or the proxy does not see it.
fn logger(cx: &Context<'_>, provider: &MeshConfigExtensionProvider) -> Option<AccessLog> {
    let mesh = cx.mesh();
    match provider.provider.as_ref()? {
        Provider::EnvoyFileAccessLog(file) => {
            let usual = file.log_format.is_none() && !file.omit_empty_values;
            if usual && provider.name == providers::BUILT_IN {
                return Some(of_file(&file.path, format_of_mesh(mesh)));
            }
            Some(of_file(&file.path, format_of(file)))
        }
        Provider::EnvoyHttpAls(als) => {
            let config = HttpGrpcAccessLogConfig {
                common_config: Some(common(
                    cx,
                    (&als.service, als.port.0),
                    &als.log_name,
                    "http_envoy_accesslog",
                    &als.filter_state_objects_to_log,
                )?),
                additional_request_headers_to_log: als.additional_request_headers_to_log.clone(),
                additional_response_headers_to_log: als.additional_response_headers_to_log.clone(),
                additional_response_trailers_to_log: als.additional_response_trailers_to_log.clone(),
            };
            Some(log("envoy.access_loggers.http_grpc", &config))
        }
        Provider::EnvoyTcpAls(als) => {
            let config = TcpGrpcAccessLogConfig {
                common_config: Some(common(
                    cx,
                    (&als.service, als.port.0),
                    &als.log_name,
                    "tcp_envoy_accesslog",
                    &als.filter_state_objects_to_log,
                )?),
            };
            Some(log("envoy.access_loggers.tcp_grpc", &config))
        }
        Provider::EnvoyOtelAls(als) => open_telemetry(cx, als),
        _ => None,
    }
}

/// Whether a provider takes logs.
pub(super) fn takes_logs(provider: &Provider) -> bool {
    matches!(
        provider,
        Provider::EnvoyFileAccessLog(_)
            | Provider::EnvoyHttpAls(_)
            | Provider::EnvoyTcpAls(_)
            | Provider::EnvoyOtelAls(_)
    )
}

fn log<M: Message + Name>(name: &str, config: &M) -> AccessLog {
    AccessLog {
        name: name.to_owned(),
        config_type: Some(access_log::ConfigType::TypedConfig(any(config))),
        ..AccessLog::default()
    }
}

fn common(
    cx: &Context<'_>,
    (service, port): (&str, u16),
    name: &str,
    otherwise: &str,
    state: &[String],
) -> Option<CommonGrpcAccessLogConfig> {
    let (host, cluster) = providers::cluster(cx, service, port)?;
    Some(CommonGrpcAccessLogConfig {
        log_name: if name.is_empty() { otherwise } else { name }.to_owned(),
        grpc_service: Some(providers::grpc(&host, cluster)),
        transport_api_version: ApiVersion::V3.into(),
        filter_state_objects_to_log: if state.is_empty() {
            PEERS.map(str::to_owned).to_vec()
        } else {
            state.to_vec()
        },
        ..CommonGrpcAccessLogConfig::default()
    })
}

#[expect(deprecated, reason = "Envoys before 1.36 know no newer field")]
fn open_telemetry(cx: &Context<'_>, als: &EnvoyOpenTelemetryLogProvider) -> Option<AccessLog> {
    let format = als.log_format.as_ref();
    let text = format
        .map(|format| format.text.as_str())
        .filter(|text| !text.is_empty());
    let text = text.unwrap_or(LOG_FORMAT);
    let labels = format.and_then(|format| format.labels.as_ref());
    let attributes: Vec<KeyValue> = labels
        .into_iter()
        .flat_map(|labels| &labels.0)
        .map(|(key, value)| KeyValue {
            key: key.clone(),
            value: Some(any_value_of(&text_of(value))),
            ..KeyValue::default()
        })
        .collect();
    let uses = labels.is_some_and(|labels| labels.0.values().any(|value| text_of(value).contains(WITHOUT_QUERY)));
    let config = OpenTelemetryAccessLogConfig {
        common_config: Some(common(
            cx,
            (&als.service, als.port.0),
            &als.log_name,
            "otel_envoy_accesslog",
            &[],
        )?),
        disable_builtin_labels: true,
        body: Some(any_value_of(text)),
        attributes: (!attributes.is_empty()).then_some(KeyValueList { values: attributes }),
        formatters: formatters(uses || text.contains(WITHOUT_QUERY)),
        ..OpenTelemetryAccessLogConfig::default()
    };
    Some(log("envoy.access_loggers.open_telemetry", &config))
}

fn any_value_of(text: &str) -> AnyValue {
    AnyValue {
        value: Some(any_value::Value::StringValue(text.to_owned())),
    }
}

fn text_of(value: &Json) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn formatters(without_query: bool) -> Vec<TypedExtensionConfig> {
    if !without_query {
        return Vec::new();
    }
    vec![TypedExtensionConfig {
        name: "envoy.formatter.req_without_query".to_owned(),
        typed_config: Some(any(&ReqWithoutQuery {})),
    }]
}

/// A log that is a file.
pub(super) fn of_file(path: &str, format: SubstitutionFormatString) -> AccessLog {
    let config = FileAccessLog {
        path: if path.is_empty() { "/dev/stdout" } else { path }.to_owned(),
        access_log_format: Some(file_access_log::AccessLogFormat::LogFormat(format)),
    };
    log("envoy.access_loggers.file", &config)
}

/// Lines as the mesh's configuration has them.
pub(super) fn format_of_mesh(mesh: &MeshConfig) -> SubstitutionFormatString {
    let written = Some(mesh.access_log_format.as_str()).filter(|format| !format.is_empty());
    match mesh.access_log_encoding {
        AccessLogEncoding::Text => text_lines(written.unwrap_or_default(), false),
        AccessLogEncoding::Json => {
            // A format that is no JSON object was reported when it was read.
            let fields = written.and_then(|text| serde_json::from_str(text).ok());
            json_lines(fields.as_ref(), false)
        }
    }
}

fn format_of(file: &EnvoyFileAccessLogProvider) -> SubstitutionFormatString {
    match file.log_format.as_ref().and_then(|format| format.log_format.as_ref()) {
        Some(FileFormat::Text(text)) => text_lines(text, file.omit_empty_values),
        Some(FileFormat::Labels(labels)) => json_lines(Some(&labels.0), file.omit_empty_values),
        None => text_lines("", file.omit_empty_values),
    }
}

fn text_lines(written: &str, omit_empty_values: bool) -> SubstitutionFormatString {
    let text = match written {
        "" => LOG_FORMAT.to_owned(),
        ended if ended.ends_with('\n') => ended.to_owned(),
        other => format!("{other}\n"),
    };
    SubstitutionFormatString {
        formatters: formatters(text.contains(WITHOUT_QUERY)),
        format: Some(Format::TextFormatSource(DataSource {
            specifier: Some(data_source::Specifier::InlineString(text)),
            ..DataSource::default()
        })),
        omit_empty_values,
        ..SubstitutionFormatString::default()
    }
}

fn json_lines(fields: Option<&serde_json::Map<String, Json>>, omit_empty_values: bool) -> SubstitutionFormatString {
    let fields = match fields.filter(|fields| !fields.is_empty()) {
        Some(fields) => structure(fields.iter().map(|(key, value)| (key.clone(), json_value(value)))),
        None => structure(JSON_FIELDS.map(|(key, value)| (key, string_value(value)))),
    };
    let texts = fields.fields.values().filter_map(|value| match &value.kind {
        Some(Kind::StringValue(text)) => Some(text),
        _ => None,
    });
    SubstitutionFormatString {
        formatters: formatters(texts.into_iter().any(|text| text.contains(WITHOUT_QUERY))),
        format: Some(Format::JsonFormat(fields)),
        omit_empty_values,
        ..SubstitutionFormatString::default()
    }
}

/// A field of a line: texts, and objects of them.
fn json_value(value: &Json) -> Value {
    match value {
        Json::Object(fields) => Value {
            kind: Some(Kind::StructValue(Struct {
                fields: fields
                    .iter()
                    .map(|(key, value)| (key.clone(), json_value(value)))
                    .collect(),
            })),
        },
        other => string_value(text_of(other)),
    }
}

#[cfg(test)]
mod tests {
    use corten_api::istio::telemetry::{AccessLoggingFilter, LogSelector, ProviderRef};

    use super::*;

    fn part(providers: &[&str], mode: Option<WorkloadMode>, disabled: bool, expression: &str) -> AccessLogging {
        AccessLogging {
            match_: mode.map(|mode| LogSelector { mode }),
            providers: providers
                .iter()
                .map(|name| ProviderRef {
                    name: (*name).to_owned(),
                })
                .collect(),
            disabled: disabled.then_some(true),
            filter: (!expression.is_empty()).then(|| AccessLoggingFilter {
                expression: expression.to_owned(),
            }),
        }
    }

    #[track_caller]
    fn check(layers: &[&[AccessLogging]], defaults: &[&str], side: WorkloadMode, expect: &[&str]) {
        let defaults: Vec<String> = defaults.iter().map(|name| (*name).to_owned()).collect();
        let merged = merge(layers, &defaults, side).into_iter().map(|(name, wanted)| {
            let state = if wanted.disabled { " off" } else { "" };
            format!("{name}{state} {}", wanted.expression.unwrap_or_default())
                .trim_end()
                .to_owned()
        });
        assert_eq!(merged.collect::<Vec<_>>(), expect);
    }

    #[test]
    fn the_last_layer_that_names_providers_decides() {
        use WorkloadMode::{Client, Server};
        check(&[], &["a"], Client, &["a"]);
        check(&[&[part(&[], None, false, "")]], &["a"], Client, &["a"]);
        check(&[&[part(&["b"], None, false, "x > 1")]], &["a"], Client, &["b x > 1"]);
        check(
            &[&[part(&["b"], None, false, "")], &[part(&["c", "d"], None, false, "")]],
            &[],
            Client,
            &["c", "d"],
        );
        check(
            &[&[part(&["b"], None, false, "")], &[part(&[], None, true, "")]],
            &[],
            Client,
            &["b off"],
        );
        check(&[&[part(&["b"], Some(Server), false, "")]], &["a"], Client, &[]);
        check(&[&[part(&["b"], Some(Server), false, "")]], &["a"], Server, &["b"]);
        check(
            &[&[part(&["a"], None, false, ""), part(&["a"], Some(Client), true, "")]],
            &[],
            Client,
            &["a off"],
        );
        check(
            &[&[part(&["a"], None, false, ""), part(&["a"], Some(Client), true, "")]],
            &[],
            Server,
            &["a"],
        );
    }
}
