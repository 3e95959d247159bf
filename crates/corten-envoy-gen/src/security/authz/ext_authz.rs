//! Whom CUSTOM policies ask: the extension providers of the mesh's configuration as filters of Envoy.

use std::collections::BTreeMap;

use corten_api::istio::{
    extension_providers::{
        EnvoyExternalAuthorizationGrpcProvider as Grpc, EnvoyExternalAuthorizationHttpProvider as Http,
        EnvoyExternalAuthorizationRequestBody as Body, MeshConfigExtensionProviderProvider as Written,
    },
    mesh_config::MeshConfig,
};
use corten_core::{Duration, Host};
use corten_envoy::{
    duration,
    envoy::{
        config::core::v3::{
            ApiVersion, GrpcService, HeaderValue, HttpUri,
            grpc_service::{EnvoyGrpc, TargetSpecifier},
            http_uri::HttpUpstreamType,
        },
        extensions::filters::{
            http::ext_authz::v3::{
                AuthorizationRequest, AuthorizationResponse, BufferSettings, ExtAuthz, HttpService,
                ext_authz::Services as Service,
            },
            network::ext_authz::v3::ExtAuthz as TcpExtAuthz,
        },
        r#type::{
            matcher::v3::{ListStringMatcher, MetadataMatcher, StringMatcher},
            v3::{HttpStatus, StatusCode},
        },
    },
    seconds,
};
use corten_routing::Services;

use super::matcher;
use crate::names;

/// The providers by name, or what is wrong with them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Providers(BTreeMap<String, Result<Provider, Vec<String>>>);

/// A provider that can be asked.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Provider {
    http: ExtAuthz,
    /// None can be asked about connections over HTTP.
    tcp: Option<TcpExtAuthz>,
}

/// How long an answer may take where nothing is said.
const TIMEOUT_SECONDS: i64 = 600;

/// Finds the service that a provider names, `host` or `namespace/host`.
///
/// # Errors
///
/// There is none, or there are several of the name.
pub fn find(services: &Services, service: &str) -> Result<Host, String> {
    if service.is_empty() {
        return Err("service must not be empty".to_owned());
    }
    let unknown = || format!("there is no service '{service}'");
    if let Some((namespace, host)) = service.split_once('/') {
        let found = services.get(&Host::from(host), namespace);
        return found.map(|found| found.host.clone()).ok_or_else(unknown);
    }
    match services.of_host(&Host::from(service)) {
        [] => Err(unknown()),
        [single] => Ok(single.host.clone()),
        several => {
            let namespaces: Vec<&str> = several.iter().map(|service| service.namespace.as_ref()).collect();
            Err(format!(
                "'{service}' is in several namespaces ({}): write namespace/{service}",
                namespaces.join(", ")
            ))
        }
    }
}

impl Providers {
    /// Reads the providers of the mesh's configuration. `find` finds services by what a provider writes; see [`find`].
    pub fn new(mesh: &MeshConfig, find: &dyn Fn(&str) -> Result<Host, String>) -> Providers {
        let mut providers = BTreeMap::new();
        for written in &mesh.extension_providers {
            let made = match &written.provider {
                Some(Written::EnvoyExtAuthzHttp(provider)) => over_http(provider, find),
                Some(Written::EnvoyExtAuthzGrpc(provider)) => over_grpc(provider, find),
                _ => continue,
            };
            let mut errors = made.as_ref().err().cloned().unwrap_or_default();
            errors.extend(name_error(&written.name));
            if providers.contains_key(&written.name) {
                errors.push(format!("there are several providers '{}'", written.name));
            }
            let made = if errors.is_empty() { made } else { Err(errors) };
            providers.insert(written.name.clone(), made);
        }
        Providers(providers)
    }

    /// What is wrong with them: the name, and the errors.
    pub fn errors(&self) -> impl Iterator<Item = (&str, &[String])> {
        self.0.iter().filter_map(|(name, provider)| {
            let errors = provider.as_ref().err()?;
            Some((name.as_str(), errors.as_slice()))
        })
    }

    pub(super) fn get(&self, name: &str) -> Result<&Provider, String> {
        match self.0.get(name) {
            Some(Ok(provider)) => Ok(provider),
            Some(Err(errors)) => Err(format!(
                "extension provider '{name}' cannot be used: {}",
                errors.join("; ")
            )),
            None => {
                let known: Vec<&str> = self.0.keys().map(String::as_str).collect();
                let known = known.join(", ");
                Err(format!(
                    "there is no extension provider '{name}' for authorization (there are: {known})"
                ))
            }
        }
    }
}

impl Provider {
    /// The filter that asks about requests that a filter before it has marked with a policy whose name begins so.
    pub(super) fn http(&self, marked: &str) -> ExtAuthz {
        ExtAuthz {
            filter_enabled_metadata: mark("envoy.filters.http.rbac", marked),
            ..self.http.clone()
        }
    }

    /// As [`http`](Self::http), about connections; `None`: this provider cannot be asked about them.
    pub(super) fn tcp(&self, marked: &str) -> Option<TcpExtAuthz> {
        self.tcp.as_ref().map(|tcp| TcpExtAuthz {
            filter_enabled_metadata: mark("envoy.filters.network.rbac", marked),
            ..tcp.clone()
        })
    }
}

fn mark(filter: &str, prefix: &str) -> Option<MetadataMatcher> {
    let key = "istio_ext_authz_shadow_effective_policy_id";
    matcher::metadata(filter, &[key], matcher::value(matcher::prefix(prefix))).ok()
}

/// Names become parts of the names of policies and of metadata.
fn name_error(name: &str) -> Option<String> {
    let fits = |char: char| char.is_ascii_lowercase() || char.is_ascii_digit() || char == '-';
    let good =
        (1..=63).contains(&name.len()) && name.chars().all(fits) && !name.starts_with('-') && !name.ends_with('-');
    (!good).then(|| format!("the name '{name}' is not made of at most 63 lower case letters, digits and dashes"))
}

/// What providers of both kinds have.
struct Common {
    host: Host,
    cluster: String,
    status: Option<HttpStatus>,
    timeout: corten_envoy::google::protobuf::Duration,
    body: Option<BufferSettings>,
}

fn common(
    (service, port): (&str, u16),
    timeout: Option<Duration>,
    status: &str,
    body: Option<&Body>,
    find: &dyn Fn(&str) -> Result<Host, String>,
) -> Result<Common, Vec<String>> {
    let mut errors = Vec::new();
    let host = kept(find(service), &mut errors);
    let status = kept(status_on_error(status), &mut errors);
    let port = if port == 0 {
        Err("port must be between 1 and 65535".to_owned())
    } else {
        Ok(port)
    };
    let port = kept(port, &mut errors);
    let timeout = match timeout.map(Duration::to_std) {
        None => Ok(seconds(TIMEOUT_SECONDS)),
        Some(Some(timeout)) => Ok(duration(timeout)),
        Some(None) => Err("timeout must not be negative".to_owned()),
    };
    let timeout = kept(timeout, &mut errors);
    let body = match body {
        Some(body) if body.max_request_bytes == 0 => {
            Err("includeRequestBodyInCheck.maxRequestBytes must be more than 0".to_owned())
        }
        body => Ok(body.map(|body| BufferSettings {
            max_request_bytes: body.max_request_bytes,
            allow_partial_message: body.allow_partial_message,
            pack_as_bytes: body.pack_as_bytes,
        })),
    };
    let body = kept(body, &mut errors);
    match (port, host, status, timeout, body) {
        (Some(port), Some(host), Some(status), Some(timeout), Some(body)) => Ok(Common {
            cluster: names::outbound(port, "", &host),
            host,
            status,
            timeout,
            body,
        }),
        _ => Err(errors),
    }
}

fn kept<T>(result: Result<T, String>, errors: &mut Vec<String>) -> Option<T> {
    result.map_err(|error| errors.push(error)).ok()
}

fn status_on_error(written: &str) -> Result<Option<HttpStatus>, String> {
    if written.is_empty() {
        return Ok(None);
    }
    let code = written
        .parse()
        .ok()
        .and_then(|number: i32| StatusCode::try_from(number).ok());
    match code {
        Some(code) if code != StatusCode::Empty => Ok(Some(HttpStatus { code: code.into() })),
        _ => Err(format!("statusOnError '{written}' is not the number of an HTTP status")),
    }
}

fn over_http(provider: &Http, find: &dyn Fn(&str) -> Result<Host, String>) -> Result<Provider, Vec<String>> {
    let shared = common(
        (&provider.service, provider.port.0),
        provider.timeout,
        &provider.status_on_error,
        provider.include_request_body_in_check.as_ref(),
        find,
    );
    let mut errors = shared.as_ref().err().cloned().unwrap_or_default();
    if !(provider.path_prefix.is_empty() || provider.path_prefix.starts_with('/')) {
        errors.push(format!("pathPrefix '{}' does not begin with /", provider.path_prefix));
    }
    for (field, names) in [
        (
            "includeRequestHeadersInCheck",
            &provider.include_request_headers_in_check,
        ),
        ("includeHeadersInCheck", &provider.include_headers_in_check),
        ("headersToDownstreamOnDeny", &provider.headers_to_downstream_on_deny),
        ("headersToDownstreamOnAllow", &provider.headers_to_downstream_on_allow),
        ("headersToUpstreamOnAllow", &provider.headers_to_upstream_on_allow),
    ] {
        if names.iter().any(|name| name == "*") {
            errors.push(format!("{field} cannot be * alone: write a prefix or a suffix"));
        }
    }
    let shared = match shared {
        Ok(shared) if errors.is_empty() => shared,
        _ => return Err(errors),
    };
    let added: Vec<HeaderValue> = provider
        .include_additional_headers_in_check
        .iter()
        .map(|(key, value)| HeaderValue {
            key: key.clone(),
            value: value.clone(),
            ..HeaderValue::default()
        })
        .collect();
    let answered = [
        headers(&provider.headers_to_upstream_on_allow),
        headers(&provider.headers_to_downstream_on_deny),
        headers(&provider.headers_to_downstream_on_allow),
    ];
    let response = answered.iter().any(Option::is_some).then(|| {
        let [upstream, denied, allowed] = answered;
        AuthorizationResponse {
            allowed_upstream_headers: upstream,
            allowed_client_headers: denied,
            allowed_client_headers_on_success: allowed,
            ..AuthorizationResponse::default()
        }
    });
    let service = HttpService {
        path_prefix: provider.path_prefix.clone(),
        server_uri: Some(HttpUri {
            // Only the cluster counts, but Envoy wants one.
            uri: format!("http://{}", shared.host),
            timeout: Some(shared.timeout),
            http_upstream_type: Some(HttpUpstreamType::Cluster(shared.cluster)),
        }),
        authorization_request: (!added.is_empty()).then(|| AuthorizationRequest {
            headers_to_add: added,
            ..AuthorizationRequest::default()
        }),
        authorization_response: response,
        ..HttpService::default()
    };
    Ok(Provider {
        http: ExtAuthz {
            services: Some(Service::HttpService(service)),
            transport_api_version: ApiVersion::V3.into(),
            status_on_error: shared.status,
            failure_mode_allow: provider.fail_open,
            clear_route_cache: provider.clear_route_cache,
            with_request_body: shared.body,
            allowed_headers: headers(&provider.include_request_headers_in_check)
                .or_else(|| headers(&provider.include_headers_in_check)),
            ..ExtAuthz::default()
        },
        tcp: None,
    })
}

fn over_grpc(provider: &Grpc, find: &dyn Fn(&str) -> Result<Host, String>) -> Result<Provider, Vec<String>> {
    let shared = common(
        (&provider.service, provider.port.0),
        provider.timeout,
        &provider.status_on_error,
        provider.include_request_body_in_check.as_ref(),
        find,
    )?;
    let service = GrpcService {
        target_specifier: Some(TargetSpecifier::EnvoyGrpc(EnvoyGrpc {
            cluster_name: shared.cluster,
            authority: shared.host.to_string(),
            ..EnvoyGrpc::default()
        })),
        timeout: Some(shared.timeout),
        ..GrpcService::default()
    };
    Ok(Provider {
        http: ExtAuthz {
            services: Some(Service::GrpcService(service.clone())),
            transport_api_version: ApiVersion::V3.into(),
            status_on_error: shared.status,
            failure_mode_allow: provider.fail_open,
            clear_route_cache: provider.clear_route_cache,
            with_request_body: shared.body,
            ..ExtAuthz::default()
        },
        tcp: Some(TcpExtAuthz {
            stat_prefix: "tcp.".to_owned(),
            grpc_service: Some(service),
            transport_api_version: ApiVersion::V3.into(),
            failure_mode_allow: provider.fail_open,
            ..TcpExtAuthz::default()
        }),
    })
}

fn headers(patterns: &[String]) -> Option<ListStringMatcher> {
    let patterns = patterns.iter().map(|pattern| StringMatcher {
        ignore_case: true,
        ..matcher::text(pattern)
    });
    (patterns.len() > 0).then(|| ListStringMatcher {
        patterns: patterns.collect(),
    })
}
