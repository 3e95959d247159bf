//! Whom proxies tell: the extension providers of the mesh's configuration.

use corten_api::istio::{
    extension_providers::{
        HttpHeader, HttpHeaderHeaderValue, MeshConfigExtensionProvider, MeshConfigExtensionProviderProvider,
    },
    mesh_config::MeshConfig,
};
use corten_core::Host;
use corten_envoy::envoy::config::core::v3::{
    GrpcService, HeaderValue, HeaderValueOption,
    grpc_service::{EnvoyGrpc, TargetSpecifier},
    header_value_option::HeaderAppendAction,
};

use crate::{Context, names, security::authz};

/// The provider of a name, in whatever case; the file that the mesh's own settings describe is there without being written.
pub(super) fn named(mesh: &MeshConfig, name: &str) -> Option<MeshConfigExtensionProvider> {
    let written = mesh
        .extension_providers
        .iter()
        .find(|provider| provider.name.eq_ignore_ascii_case(name));
    let built_in = || {
        name.eq_ignore_ascii_case(BUILT_IN)
            .then(|| MeshConfigExtensionProvider {
                name: BUILT_IN.to_owned(),
                provider: Some(MeshConfigExtensionProviderProvider::EnvoyFileAccessLog(
                    corten_api::istio::extension_providers::EnvoyFileAccessLogProvider {
                        path: "/dev/stdout".to_owned(),
                        ..Default::default()
                    },
                )),
            })
    };
    written.cloned().or_else(built_in)
}

/// The provider whose lines are as the mesh's configuration has them.
pub(super) const BUILT_IN: &str = "envoy";

/// The service of a provider, if it is one that is told logs or traces.
pub(super) fn service(provider: &MeshConfigExtensionProviderProvider) -> Option<&str> {
    use MeshConfigExtensionProviderProvider as Provider;
    Some(match provider {
        Provider::Zipkin(zipkin) => &zipkin.service,
        Provider::Datadog(datadog) => &datadog.service,
        Provider::Skywalking(skywalking) => &skywalking.service,
        Provider::Opentelemetry(otel) => &otel.service,
        Provider::EnvoyHttpAls(als) => &als.service,
        Provider::EnvoyTcpAls(als) => &als.service,
        Provider::EnvoyOtelAls(als) => &als.service,
        _ => return None,
    })
}

/// Whether any provider calls workloads as OpenTelemetry's conventions have it.
pub(super) fn use_conventions(mesh: &MeshConfig) -> bool {
    use corten_api::istio::extension_providers::ServiceAttributeEnrichment::OtelSemanticConventions;
    mesh.extension_providers.iter().any(|provider| {
        matches!(&provider.provider, Some(MeshConfigExtensionProviderProvider::Opentelemetry(otel))
            if otel.service_attribute_enrichment == OtelSemanticConventions)
    })
}

/// The host of a provider's service and the cluster that leads there; `None`: the proxy does not see it.
pub(super) fn cluster(cx: &Context<'_>, service: &str, port: u16) -> Option<(Host, String)> {
    let host = authz::find(&cx.snapshot.catalog.services, service).ok()?;
    let seen = cx.scope.named(&host)?;
    seen.port(port)?;
    let cluster = names::outbound(port, "", &seen.host);
    Some((host, cluster))
}

/// A provider that speaks gRPC.
pub(super) fn grpc(host: &Host, cluster: String) -> GrpcService {
    GrpcService {
        target_specifier: Some(TargetSpecifier::EnvoyGrpc(EnvoyGrpc {
            cluster_name: cluster,
            authority: host.to_string(),
            ..EnvoyGrpc::default()
        })),
        ..GrpcService::default()
    }
}

/// A service that proxies know from the start.
pub(super) fn grpc_to(cluster: String) -> GrpcService {
    GrpcService {
        target_specifier: Some(TargetSpecifier::EnvoyGrpc(EnvoyGrpc {
            cluster_name: cluster,
            ..EnvoyGrpc::default()
        })),
        ..GrpcService::default()
    }
}

/// The headers with a value; values that are in the control plane's environment are none of it.
pub(super) fn values(headers: &[HttpHeader]) -> Vec<HeaderValue> {
    let of = headers.iter().filter_map(|header| match &header.header_value {
        Some(HttpHeaderHeaderValue::Value(value)) => Some(HeaderValue {
            key: header.name.clone(),
            value: value.clone(),
            ..HeaderValue::default()
        }),
        _ => None,
    });
    of.collect()
}

/// The same as options.
pub(super) fn options(headers: &[HttpHeader]) -> Vec<HeaderValueOption> {
    let of = values(headers).into_iter().map(|header| HeaderValueOption {
        header: Some(header),
        append_action: HeaderAppendAction::OverwriteIfExistsOrAdd.into(),
        ..HeaderValueOption::default()
    });
    of.collect()
}
