//! What Telemetries, and the mesh's configuration about the same, say that takes no effect.

use corten_api::{
    codec::encode_message,
    diagnostic::Diagnostic,
    istio::{
        extension_providers::{
            HttpHeader, HttpHeaderHeaderValue, MeshConfigExtensionProviderProvider as Provider,
            OpenTelemetryTracingProviderSampling as Sampling,
        },
        telemetry::TelemetrySpec,
    },
};
use corten_routing::{About, Catalog, Config};

use super::{logging::takes_logs, providers, tracing::takes_traces};
use crate::security::{attach::Attached as _, authz};

/// What takes no effect, by object and field, whichever proxy it is for.
pub fn diagnostics(catalog: &Catalog) -> Vec<Diagnostic> {
    let mut said = of_mesh(catalog);
    for config in catalog.configs.telemetries.values() {
        let about = About {
            api_version: "telemetry.istio.io/v1",
            ..About::networking("Telemetry", &config.namespace, &config.name)
        };
        of_object(catalog, config, &about, &mut said);
    }
    said
}

fn of_object(catalog: &Catalog, config: &Config<TelemetrySpec>, about: &About<'_>, said: &mut Vec<Diagnostic>) {
    let spec = &config.spec;
    let mut no_effect = |path: String, message: String| said.push(about.no_effect(path, message));
    for index in 0..spec.metrics.len() {
        no_effect(
            format!("spec.metrics[{index}]"),
            "takes no effect: the filter that counts by Istio's metrics is in Istio's builds of Envoy alone, and is not configured; Envoy's own statistics are there".to_owned(),
        );
    }
    let wide = spec.selector().is_none_or(|labels| labels.is_empty()) && spec.targets().is_empty();
    let is_older = |other: &&std::sync::Arc<Config<TelemetrySpec>>| {
        other.namespace == config.namespace
            && other.age() < config.age()
            && other.spec.selector().is_none_or(|labels| labels.is_empty())
            && other.spec.targets().is_empty()
    };
    if wide && let Some(older) = catalog.configs.telemetries.values().find(is_older) {
        no_effect(
            "spec".to_owned(),
            format!(
                "takes no effect: Telemetry {}/{} for all of the namespace is older",
                older.namespace, older.name
            ),
        );
    }
    let problem = |name: &str, what: &str, takes: &dyn Fn(&Provider) -> bool| {
        let found = providers::named(&catalog.mesh, name);
        match found.as_ref().and_then(|found| found.provider.as_ref()) {
            None => Some(format!(
                "takes no effect: the mesh's configuration has no extension provider {name:?}"
            )),
            Some(provider) if takes(provider) => None,
            Some(_) => Some(format!(
                "takes no effect: the extension provider {name:?} takes no {what}"
            )),
        }
    };
    for (index, logging) in spec.access_logging.iter().enumerate() {
        for (at, provider) in logging.providers.iter().enumerate() {
            if let Some(problem) = problem(&provider.name, "logs", &takes_logs) {
                no_effect(format!("spec.accessLogging[{index}].providers[{at}]"), problem);
            }
        }
    }
    for (index, tracing) in spec.tracing.iter().enumerate() {
        for (at, provider) in tracing.providers.iter().enumerate() {
            let path = format!("spec.tracing[{index}].providers[{at}]");
            let said = if at == 0 {
                problem(&provider.name, "traces", &takes_traces)
            } else {
                Some("takes no effect: traces go to the first provider alone".to_owned())
            };
            if let Some(said) = said {
                no_effect(path, said);
            }
        }
    }
}

fn of_mesh(catalog: &Catalog) -> Vec<Diagnostic> {
    let mut said = Vec::new();
    let about = crate::mesh::about(catalog);
    let mut no_effect = |path: String, message: String| said.push(about.no_effect(path, message));
    let mesh = &catalog.mesh;
    let service = mesh.default_config.as_ref();
    let service = service.and_then(|config| config.envoy_access_log_service.as_ref());
    if mesh.enable_envoy_access_log_service && service.is_none_or(|service| service.address.is_empty()) {
        no_effect(
            "enableEnvoyAccessLogService".to_owned(),
            "takes no effect: defaultConfig.envoyAccessLogService.address does not say where the logs go".to_owned(),
        );
    }
    if let Some(config) = &mesh.default_config {
        for problem in corten_bootstrap::unheeded(&encode_message(config)) {
            no_effect(format!("defaultConfig.{}", problem.field), problem.reason);
        }
    }
    for (index, provider) in mesh.extension_providers.iter().enumerate() {
        let path = format!("extensionProviders[{index}]");
        let Some(written) = &provider.provider else { continue };
        let service = match written {
            Provider::Zipkin(zipkin) => Some(&zipkin.service),
            Provider::Datadog(datadog) => Some(&datadog.service),
            Provider::Skywalking(skywalking) => {
                if !skywalking.access_token.is_empty() {
                    no_effect(
                        format!("{path}.skywalking.accessToken"),
                        "takes no effect: no token is sent".to_owned(),
                    );
                }
                Some(&skywalking.service)
            }
            Provider::Opentelemetry(otel) => Some(&otel.service),
            Provider::EnvoyHttpAls(als) => Some(&als.service),
            Provider::EnvoyTcpAls(als) => Some(&als.service),
            Provider::EnvoyOtelAls(als) => Some(&als.service),
            Provider::EnvoyFileAccessLog(_) | Provider::EnvoyExtAuthzHttp(_) | Provider::EnvoyExtAuthzGrpc(_) => None,
            Provider::Prometheus(_) => {
                no_effect(
                    path.clone(),
                    "takes no effect: the filter that counts by Istio's metrics is in Istio's builds of Envoy alone, and is not configured; Envoy's own statistics are there".to_owned(),
                );
                None
            }
            Provider::Lightstep(_) | Provider::Stackdriver(_) | Provider::Opencensus(_) | Provider::Sds(_) => {
                no_effect(
                    path.clone(),
                    "takes no effect: Envoy does not, or does no longer, have such a provider".to_owned(),
                );
                None
            }
        };
        if let Some(Err(problem)) = service.map(|service| authz::find(&catalog.services, service)) {
            no_effect(path.clone(), format!("nothing is sent there: {problem}"));
        }
        let by_environment =
            |header: &HttpHeader| matches!(header.header_value, Some(HttpHeaderHeaderValue::EnvName(_)));
        for (at, headers) in headers_of(written) {
            for (index, header) in headers.iter().enumerate().filter(|(_, header)| by_environment(header)) {
                no_effect(
                    format!("{path}.{at}[{index}]"),
                    format!(
                        "the header {:?} is not sent: its value is in a variable of the control plane's environment, which is not read; write the value",
                        header.name
                    ),
                );
            }
        }
    }
    said
}

/// The headers that a provider is to be sent, and where they are written.
fn headers_of(provider: &Provider) -> Vec<(&'static str, &[HttpHeader])> {
    match provider {
        Provider::Zipkin(zipkin) => vec![("zipkin.headers", &zipkin.headers)],
        Provider::Opentelemetry(otel) => {
            let over_http = otel.http.iter();
            let over_http = over_http.map(|http| ("opentelemetry.http.headers", http.headers.as_slice()));
            let over_grpc = otel.grpc.iter();
            let over_grpc =
                over_grpc.map(|grpc| ("opentelemetry.grpc.initialMetadata", grpc.initial_metadata.as_slice()));
            let sampler = match &otel.sampling {
                Some(Sampling::DynatraceSampler(sampler)) => sampler.http_service.as_ref(),
                None => None,
            };
            let of_sampler = sampler
                .and_then(|service| service.http.as_ref())
                .into_iter()
                .map(|http| {
                    (
                        "opentelemetry.dynatraceSampler.httpService.http.headers",
                        http.headers.as_slice(),
                    )
                });
            over_http.chain(over_grpc).chain(of_sampler).collect()
        }
        _ => Vec::new(),
    }
}
