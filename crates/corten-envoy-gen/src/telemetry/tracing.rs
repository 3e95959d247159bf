//! Traces: whether, where to, how many, and with which tags.

use std::{collections::BTreeMap, sync::Arc};

use corten_api::istio::{
    extension_providers::{
        HttpService, MeshConfigExtensionProvider, MeshConfigExtensionProviderProvider as Provider,
        OpenTelemetryTracingProvider, OpenTelemetryTracingProviderSampling as Sampling, ServiceAttributeEnrichment,
        TraceContextOption as Context3, ZipkinTracingProvider,
    },
    proxy_config::{ProxyConfigClusterName, TracingCustomTagType as OldTag, TracingServiceName},
    telemetry::{TelemetrySpec, Tracing as Written, TracingCustomTag, TracingCustomTagType as Tag, WorkloadMode},
};
use corten_core::Host;
use corten_envoy::{
    any, boolean, duration,
    envoy::{
        config::{
            core::v3::{self as core, TypedExtensionConfig, http_uri::HttpUpstreamType},
            trace::v3::{
                DatadogConfig, OpenTelemetryConfig, SkyWalkingConfig, ZipkinConfig, tracing as trace,
                zipkin_config::{CollectorEndpointVersion, TraceContextOption},
            },
        },
        extensions::{
            filters::network::http_connection_manager::v3::{RequestIdExtension, http_connection_manager::Tracing},
            request_id::uuid::v3::UuidRequestIdConfig,
            tracers::opentelemetry::{
                resource_detectors::v3::{DynatraceResourceDetectorConfig, EnvironmentResourceDetectorConfig},
                samplers::v3::DynatraceSamplerConfig,
            },
        },
        r#type::{
            metadata::v3::{MetadataKey, MetadataKind, metadata_key, metadata_kind},
            tracing::v3::{CustomTag, custom_tag},
            v3::Percent,
        },
    },
    google::protobuf::Any,
    prost::{Message, Name},
    seconds, uint32,
};
use corten_routing::{Config, ProxyKind};

use super::{legacy, providers};
use crate::Context;

/// The share of requests, in percent, that are traced unless somebody says otherwise.
const SAMPLING: f64 = 1.0;
/// How long a collector may take, where Envoy must be told.
const TIMEOUT_SECONDS: i64 = 5;
/// Where RBAC writes down what policies that are only tried out would have done, and under what name it is a tag.
const DRY_RUN: [(&str, &str); 4] = [
    ("allow_policy.name", "istio_dry_run_allow_shadow_effective_policy_id"),
    ("allow_policy.result", "istio_dry_run_allow_shadow_engine_result"),
    ("deny_policy.name", "istio_dry_run_deny_shadow_effective_policy_id"),
    ("deny_policy.result", "istio_dry_run_deny_shadow_engine_result"),
];

/// The labels that workloads are called by in traces.
pub(crate) const LABELS: [&str; 5] = [
    "app",
    "app.kubernetes.io/name",
    "app.kubernetes.io/instance",
    "service.istio.io/canonical-name",
    "service.istio.io/canonical-revision",
];

/// What all that speaks of traces comes to.
#[derive(Debug, Clone, Default)]
struct Wanted {
    provider: Option<MeshConfigExtensionProvider>,
    disabled: bool,
    sampling: Option<f64>,
    tags: BTreeMap<String, TracingCustomTag>,
    ignores_request_ids: bool,
    no_istio_tags: bool,
    no_propagation: bool,
}

/// The traces of a side, and how its requests get their ids.
pub(super) fn of(
    cx: &Context<'_>,
    layers: &[Arc<Config<TelemetrySpec>>],
    side: WorkloadMode,
) -> (Option<Tracing>, Option<RequestIdExtension>) {
    let defaults = cx.mesh().default_providers.as_ref();
    let default = defaults.and_then(|defaults| defaults.tracing.first());
    let parts: Vec<&Written> = layers.iter().flat_map(|layer| &layer.spec.tracing).collect();
    if parts.is_empty() && default.is_none() {
        return (of_mesh(cx), None);
    }
    let wanted = merge(cx, &parts, default.map(String::as_str), side);
    if wanted.disabled {
        return (None, None);
    }
    let Some(provider) = wanted.provider.as_ref().and_then(|provider| provider.provider.as_ref()) else {
        return (None, None);
    };
    let Some(tracer) = tracer(cx, provider) else {
        return (None, None);
    };
    let sampling = if tracer.samples {
        100.0
    } else {
        wanted.sampling.unwrap_or_else(|| usual_sampling(cx))
    };
    let own = legacy::tracing(cx);
    let longest = [tracer.longest_tag, own.map_or(0, |own| own.max_path_tag_length)];
    let made = Tracing {
        spawn_upstream_span: if cx.proxy.kind == ProxyKind::Router || tracer.name == "envoy.tracers.skywalking" {
            boolean(true)
        } else {
            None
        },
        provider: Some(trace::Http {
            name: tracer.name.to_owned(),
            config_type: Some(trace::http::ConfigType::TypedConfig(tracer.config)),
        }),
        max_path_tag_length: longest.into_iter().find(|length| *length != 0).and_then(uint32),
        no_context_propagation: wanted.no_propagation,
        custom_tags: tags(cx, !wanted.no_istio_tags, &wanted.tags),
        ..sampled(sampling)
    };
    let request_id = RequestIdExtension {
        typed_config: Some(any(&UuidRequestIdConfig {
            use_request_id_for_trace_sampling: boolean(!wanted.ignores_request_ids),
            ..UuidRequestIdConfig::default()
        })),
    };
    (Some(made), Some(request_id))
}

/// Later parts decide; of tags, the last part that has any has all.
fn merge(cx: &Context<'_>, parts: &[&Written], default: Option<&str>, side: WorkloadMode) -> Wanted {
    let mesh = cx.mesh();
    let mut wanted = Wanted {
        provider: default.and_then(|name| providers::named(mesh, name)),
        ..Wanted::default()
    };
    for part in parts {
        let mode = part.match_.as_ref().map(|selector| selector.mode);
        if mode.is_some_and(|mode| mode != WorkloadMode::ClientAndServer && mode != side) {
            continue;
        }
        if let Some(named) = part.providers.first() {
            wanted.provider = providers::named(mesh, &named.name);
        }
        if let Some(disabled) = part.disable_span_reporting {
            wanted.disabled = disabled;
        }
        if !part.custom_tags.is_empty() {
            wanted.tags.clone_from(&part.custom_tags);
        }
        wanted.sampling = part.random_sampling_percentage.or(wanted.sampling);
        if let Some(uses) = part.use_request_id_for_trace_sampling {
            wanted.ignores_request_ids = !uses;
        }
        if let Some(enabled) = part.enable_istio_tags {
            wanted.no_istio_tags = !enabled;
        }
        if let Some(disabled) = part.disable_context_propagation {
            wanted.no_propagation = disabled;
        }
    }
    wanted
}

/// What the mesh's configuration asks for by itself.
fn of_mesh(cx: &Context<'_>) -> Option<Tracing> {
    let own = legacy::tracing(cx).filter(|_| cx.mesh().enable_tracing)?;
    // Proxies have such a tracer from the start, for what is no service of the mesh, or has TLS of its own.
    let provider = match legacy::zipkin(own) {
        Some((service, port)) => providers::cluster(cx, service, port).map(|(host, cluster)| {
            let config = zipkin(&ZipkinTracingProvider::default(), &host, cluster);
            trace::Http {
                name: "envoy.tracers.zipkin".to_owned(),
                config_type: Some(trace::http::ConfigType::TypedConfig(any(&config))),
            }
        }),
        None if legacy::from_the_start(own) => None,
        None => return None,
    };
    Some(Tracing {
        spawn_upstream_span: (cx.proxy.kind == ProxyKind::Router).then(|| boolean(true)).flatten(),
        provider,
        max_path_tag_length: (own.max_path_tag_length != 0)
            .then(|| uint32(own.max_path_tag_length))
            .flatten(),
        custom_tags: tags(cx, own.enable_istio_tags.unwrap_or(true), &BTreeMap::new()),
        ..sampled(usual_sampling(cx))
    })
}

fn usual_sampling(cx: &Context<'_>) -> f64 {
    match legacy::tracing(cx).map_or(0.0, |own| own.sampling) {
        share if share <= 0.0 || share > 100.0 => SAMPLING,
        share => share,
    }
}

fn sampled(share: f64) -> Tracing {
    let percent = |value| Some(Percent { value });
    Tracing {
        client_sampling: percent(100.0),
        random_sampling: percent(share),
        overall_sampling: percent(100.0),
        ..Tracing::default()
    }
}

/// A tracer.
struct Tracer {
    name: &'static str,
    config: Any,
    longest_tag: u32,
    /// It chooses itself what is traced.
    samples: bool,
}

/// Whether a provider takes traces.
pub(super) fn takes_traces(provider: &Provider) -> bool {
    matches!(
        provider,
        Provider::Zipkin(_) | Provider::Datadog(_) | Provider::Skywalking(_) | Provider::Opentelemetry(_)
    )
}

/// The tracer of a provider; `None`: it takes no traces, or the proxy does not see it.
fn tracer(cx: &Context<'_>, provider: &Provider) -> Option<Tracer> {
    fn made<M: Message + Name>(name: &'static str, config: &M, longest_tag: u32) -> Tracer {
        Tracer {
            name,
            config: any(config),
            longest_tag,
            samples: false,
        }
    }
    Some(match provider {
        Provider::Zipkin(written) => {
            let (host, cluster) = providers::cluster(cx, &written.service, written.port.0)?;
            made(
                "envoy.tracers.zipkin",
                &zipkin(written, &host, cluster),
                written.max_tag_length,
            )
        }
        Provider::Datadog(written) => {
            let (host, cluster) = providers::cluster(cx, &written.service, written.port.0)?;
            let config = DatadogConfig {
                collector_cluster: cluster,
                service_name: service_name(cx),
                collector_hostname: host.to_string(),
                ..DatadogConfig::default()
            };
            made("envoy.tracers.datadog", &config, written.max_tag_length)
        }
        Provider::Skywalking(written) => {
            let (host, cluster) = providers::cluster(cx, &written.service, written.port.0)?;
            let config = SkyWalkingConfig {
                grpc_service: Some(providers::grpc(&host, cluster)),
                ..SkyWalkingConfig::default()
            };
            made("envoy.tracers.skywalking", &config, 0)
        }
        Provider::Opentelemetry(written) => Tracer {
            samples: written.sampling.is_some(),
            ..made(
                "envoy.tracers.opentelemetry",
                &open_telemetry(cx, written)?,
                written.max_tag_length,
            )
        },
        _ => return None,
    })
}

fn zipkin(written: &ZipkinTracingProvider, host: &Host, cluster: String) -> ZipkinConfig {
    let path = if written.path.is_empty() {
        "/api/v2/spans"
    } else {
        &written.path
    };
    let mut config = ZipkinConfig {
        collector_endpoint_version: CollectorEndpointVersion::HttpJson.into(),
        trace_id_128bit: !written.enable_64bit_trace_id,
        shared_span_context: boolean(false),
        trace_context_option: match written.trace_context_option {
            Context3::UseB3 => TraceContextOption::UseB3.into(),
            Context3::UseB3WithW3cPropagation => TraceContextOption::UseB3WithW3cPropagation.into(),
        },
        ..ZipkinConfig::default()
    };
    // Envoys before 1.36 know only the older fields, which say neither.
    if written.timeout.is_some() || !written.headers.is_empty() {
        config.collector_service = Some(core::HttpService {
            http_uri: Some(uri(
                format!("http://{host}{path}"),
                cluster,
                Some(written.timeout.map_or_else(
                    || seconds(TIMEOUT_SECONDS),
                    |time| duration(time.to_std().unwrap_or_default()),
                )),
            )),
            request_headers_to_add: providers::options(&written.headers),
            ..core::HttpService::default()
        });
    } else {
        config.collector_cluster = cluster;
        path.clone_into(&mut config.collector_endpoint);
        config.collector_hostname = host.to_string();
    }
    config
}

fn uri(uri: String, cluster: String, timeout: Option<corten_envoy::google::protobuf::Duration>) -> core::HttpUri {
    core::HttpUri {
        uri,
        // Envoy must be told.
        timeout: Some(timeout.unwrap_or_else(|| seconds(TIMEOUT_SECONDS))),
        http_upstream_type: Some(HttpUpstreamType::Cluster(cluster)),
    }
}

/// Where a path of a host is, as Istio writes it: without a scheme.
fn join(host: &Host, path: &str) -> String {
    format!("{host}/{}", path.trim_start_matches('/'))
}

fn http(host: &Host, cluster: String, path: &str, written: &HttpService) -> core::HttpService {
    let timeout = written.timeout.map(|time| duration(time.to_std().unwrap_or_default()));
    core::HttpService {
        http_uri: Some(uri(join(host, path), cluster, timeout)),
        request_headers_to_add: providers::options(&written.headers),
        ..core::HttpService::default()
    }
}

fn open_telemetry(cx: &Context<'_>, written: &OpenTelemetryTracingProvider) -> Option<OpenTelemetryConfig> {
    let (host, cluster) = providers::cluster(cx, &written.service, written.port.0)?;
    let by_conventions = written.service_attribute_enrichment == ServiceAttributeEnrichment::OtelSemanticConventions;
    let mut config = OpenTelemetryConfig {
        service_name: if by_conventions {
            conventional_name(cx)
        } else {
            service_name(cx)
        },
        ..OpenTelemetryConfig::default()
    };
    if let Some(over_http) = &written.http {
        config.http_service = Some(http(&host, cluster.clone(), &over_http.path, over_http));
    } else {
        let grpc = written.grpc.as_ref();
        config.grpc_service = Some(core::GrpcService {
            timeout: grpc
                .and_then(|grpc| grpc.timeout)
                .map(|time| duration(time.to_std().unwrap_or_default())),
            initial_metadata: grpc
                .map(|grpc| providers::values(&grpc.initial_metadata))
                .unwrap_or_default(),
            ..providers::grpc(&host, cluster.clone())
        });
    }
    let detectors = written.resource_detectors.as_ref();
    if by_conventions || detectors.is_some_and(|detectors| detectors.environment.is_some()) {
        config.resource_detectors.push(extension(
            "envoy.tracers.opentelemetry.resource_detectors.environment",
            &EnvironmentResourceDetectorConfig {},
        ));
    }
    if detectors.is_some_and(|detectors| detectors.dynatrace.is_some()) {
        config.resource_detectors.push(extension(
            "envoy.tracers.opentelemetry.resource_detectors.dynatrace",
            &DynatraceResourceDetectorConfig {},
        ));
    }
    if let Some(Sampling::DynatraceSampler(sampler)) = &written.sampling {
        let service = match (&sampler.http_service, &written.http) {
            (Some(own), _) => {
                let (host, cluster) = providers::cluster(cx, &own.service, own.port.0)?;
                let over_http = own.http.clone().unwrap_or_default();
                http(&host, cluster, &over_http.path, &over_http)
            }
            (None, Some(over_http)) => http(&host, cluster, "api/v2/samplingConfiguration", over_http),
            (None, None) => return None,
        };
        config.sampler = Some(extension(
            "envoy.tracers.opentelemetry.samplers.dynatrace",
            &DynatraceSamplerConfig {
                tenant: sampler.tenant.clone(),
                cluster_id: sampler.cluster_id,
                root_spans_per_minute: sampler.root_spans_per_minute,
                http_service: Some(service),
            },
        ));
    }
    Some(config)
}

fn extension<M: Message + Name>(name: &str, config: &M) -> TypedExtensionConfig {
    TypedExtensionConfig {
        name: name.to_owned(),
        typed_config: Some(any(config)),
    }
}

fn label<'a>(cx: &'a Context<'_>, names: &[&str]) -> Option<&'a str> {
    let mut found = names.iter().filter_map(|name| cx.proxy.labels.get(*name));
    found.find(|value| !value.is_empty()).map(String::as_str)
}

/// What the proxy's workload is called in traces.
fn service_name(cx: &Context<'_>) -> String {
    const CANONICAL: &str = "service.istio.io/canonical-name";
    let wanted = match cx.proxy_config().and_then(|config| config.cluster_name.as_ref()) {
        Some(ProxyConfigClusterName::TracingServiceName(wanted)) => *wanted,
        _ => TracingServiceName::AppLabelAndNamespace,
    };
    let namespace = &cx.proxy.namespace;
    let canonical = label(cx, &[CANONICAL, "app.kubernetes.io/name", "app"]);
    let app = label(cx, &["app", "app.kubernetes.io/name", CANONICAL]);
    match wanted {
        TracingServiceName::CanonicalNameOnly => canonical.unwrap_or("istio-proxy").to_owned(),
        TracingServiceName::CanonicalNameAndNamespace => {
            format!("{}.{namespace}", canonical.unwrap_or("istio-proxy"))
        }
        TracingServiceName::AppLabelAndNamespace => format!("{}.{namespace}", app.unwrap_or("istio-proxy")),
    }
}

/// The same by the conventions of OpenTelemetry.
fn conventional_name(cx: &Context<'_>) -> String {
    let annotation = cx.proxy.annotations.get("resource.opentelemetry.io/service.name");
    let own = annotation.map(String::as_str).filter(|name| !name.is_empty());
    let labelled = || label(cx, &["app.kubernetes.io/instance", "app.kubernetes.io/name"]);
    let workload = || cx.proxy.said.get("WORKLOAD_NAME").map(String::as_str);
    let pod = Some(&*cx.proxy.name).filter(|name| !name.is_empty());
    own.or_else(labelled)
        .or_else(workload)
        .or(pod)
        .unwrap_or("unknown_service")
        .to_owned()
}

/// The tags of spans, by name.
fn tags(cx: &Context<'_>, istio: bool, written: &BTreeMap<String, TracingCustomTag>) -> Vec<CustomTag> {
    let mut all = if istio { istio_tags(cx) } else { Vec::new() };
    let mut put = |tag: &str, kind| {
        all.push(CustomTag {
            tag: tag.to_owned(),
            r#type: Some(kind),
        });
    };
    if written.is_empty() {
        let own = legacy::tracing(cx).into_iter().flat_map(|own| &own.custom_tags);
        for (name, tag) in own {
            match &tag.type_ {
                Some(OldTag::Literal(literal)) => put(name, literal_of(&literal.value)),
                Some(OldTag::Environment(variable)) => put(name, variable_of(&variable.name, &variable.default_value)),
                Some(OldTag::Header(header)) => put(name, header_of(&header.name, &header.default_value)),
                None => {}
            }
        }
    }
    for (name, tag) in written {
        match &tag.type_ {
            Some(Tag::Literal(literal)) => put(name, literal_of(&literal.value)),
            Some(Tag::Environment(variable)) => put(name, variable_of(&variable.name, &variable.default_value)),
            Some(Tag::Header(header)) => put(name, header_of(&header.name, &header.default_value)),
            Some(Tag::Formatter(formatter)) => put(name, custom_tag::Type::Value(formatter.value.clone())),
            None => {}
        }
    }
    all.sort_by(|a, b| a.tag.cmp(&b.tag));
    all
}

fn literal_of(value: &str) -> custom_tag::Type {
    custom_tag::Type::Literal(custom_tag::Literal {
        value: value.to_owned(),
    })
}

fn variable_of(name: &str, default_value: &str) -> custom_tag::Type {
    custom_tag::Type::Environment(custom_tag::Environment {
        name: name.to_owned(),
        default_value: default_value.to_owned(),
    })
}

fn header_of(name: &str, default_value: &str) -> custom_tag::Type {
    custom_tag::Type::RequestHeader(custom_tag::Header {
        name: name.to_owned(),
        default_value: default_value.to_owned(),
    })
}

/// Who the proxy's workload is, and what policies that are only tried out would have done.
fn istio_tags(cx: &Context<'_>) -> Vec<CustomTag> {
    let said = |key: &str| cx.proxy.said.get(key).map_or("unknown", String::as_str);
    let literals = [
        (
            "istio.canonical_revision",
            label(cx, &["service.istio.io/canonical-revision"]).unwrap_or("latest"),
        ),
        (
            "istio.canonical_service",
            label(cx, &["service.istio.io/canonical-name"]).unwrap_or("unknown"),
        ),
        ("istio.mesh_id", said("MESH_ID")),
        ("istio.namespace", &*cx.proxy.namespace),
        ("istio.cluster_id", said("CLUSTER_ID")),
    ];
    let literals = literals.into_iter().map(|(tag, value)| CustomTag {
        tag: tag.to_owned(),
        r#type: Some(literal_of(value)),
    });
    let tried = DRY_RUN.into_iter().map(|(tag, key)| CustomTag {
        tag: format!("istio.authorization.dry_run.{tag}"),
        r#type: Some(custom_tag::Type::Metadata(custom_tag::Metadata {
            kind: Some(MetadataKind {
                kind: Some(metadata_kind::Kind::Request(metadata_kind::Request {})),
            }),
            metadata_key: Some(MetadataKey {
                key: "envoy.filters.http.rbac".to_owned(),
                path: vec![metadata_key::PathSegment {
                    segment: Some(metadata_key::path_segment::Segment::Key(key.to_owned())),
                }],
            }),
            ..custom_tag::Metadata::default()
        })),
    });
    literals.chain(tried).collect()
}
