//! Code of users in filters: WasmPlugins and TrafficExtensions.
//!
//! Lua is in the listener. Wasm is sent by itself (ECDS), so that code that cannot be loaded concerns its own filter alone: until it
//! can be, the filter refuses everything, or with `FAIL_OPEN` lets everything pass. Envoy loads files, and what a server of HTTP has
//! that the proxy sees; images of registries it does not load.

use std::collections::BTreeMap;

use corten_api::{
    diagnostic::Diagnostic,
    istio::{
        extensions::{
            EnvValueSource, ExecutionPhase as Phase, FailStrategy, PluginPhase, PluginType, PullPolicy,
            TrafficExtensionFilterConfig as Written, WasmConfig,
        },
        selector::WorkloadMode,
    },
};
use corten_core::Host;
use corten_envoy::{
    any, decode,
    envoy::{
        config::{
            core::v3::{
                AsyncDataSource, DataSource, ExtensionConfigSource, HttpUri, RemoteDataSource, TrafficDirection,
                TypedExtensionConfig, address::Address, async_data_source, data_source, http_uri,
                socket_address::PortSpecifier,
            },
            listener::v3::{Filter, FilterChain, Listener, filter},
            rbac::v3::{Rbac as Rules, rbac},
        },
        extensions::{
            filters::{
                http::{lua::v3::Lua, rbac::v3::Rbac as HttpRbac, wasm::v3::Wasm as HttpWasm},
                network::{
                    http_connection_manager::v3::{HttpConnectionManager, HttpFilter, http_filter},
                    rbac::v3::Rbac as NetworkRbac,
                    wasm::v3::Wasm as NetworkWasm,
                },
            },
            wasm::v3::{EnvironmentVariables, FailurePolicy, PluginConfig, VmConfig, plugin_config::Vm},
        },
    },
    google::protobuf::{Any, StringValue},
    seconds, type_name,
};
use corten_routing::{About, Catalog, ProxyKind};
use serde_json::Value;

use crate::{Context, listener::filters, names, security::attach::Place};

/// How long Envoy may take to fetch code.
const FETCH_SECONDS: i64 = 30;
const TCP_PROXY: &str = "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy";

/// A plugin, of either kind.
#[derive(Debug, Clone)]
struct Plugin {
    /// The name of its filter.
    name: String,
    /// `namespace.name`.
    object: String,
    phase: Phase,
    priority: i32,
    code: Written,
    wanted: Vec<(WorkloadMode, Vec<u16>)>,
}

impl Plugin {
    fn is_network(&self) -> bool {
        matches!(&self.code, Written::Wasm(wasm) if wasm.type_ == PluginType::Network)
    }

    fn takes(&self, side: WorkloadMode, port: u16) -> bool {
        let fits = |(mode, ports): &(WorkloadMode, Vec<u16>)| {
            let is_side = matches!(mode, WorkloadMode::Undefined | WorkloadMode::ClientAndServer) || *mode == side;
            is_side && (ports.is_empty() || ports.contains(&port))
        };
        self.wanted.is_empty() || self.wanted.iter().any(fits)
    }
}

/// The plugins for a proxy, the first of each phase first.
fn plugins(cx: &Context<'_>) -> Vec<Plugin> {
    let catalog = &cx.snapshot.catalog;
    let place = Place::of(cx.proxy, &catalog.settings.root_namespace);
    let mut all = Vec::new();
    for config in place.select(&catalog.configs.wasm_plugins) {
        let spec = &config.spec;
        let object = format!("{}.{}", config.namespace, config.name);
        all.push(Plugin {
            name: format!("extensions.istio.io/wasmplugin/{object}"),
            object,
            phase: match spec.phase {
                PluginPhase::UnspecifiedPhase => Phase::Unspecified,
                PluginPhase::Authn => Phase::Authn,
                PluginPhase::Authz => Phase::Authz,
                PluginPhase::Stats => Phase::Stats,
            },
            priority: spec.priority.unwrap_or_default(),
            code: Written::Wasm(WasmConfig {
                url: spec.url.clone(),
                sha256: spec.sha256.clone(),
                image_pull_policy: spec.image_pull_policy,
                image_pull_secret: spec.image_pull_secret.clone(),
                verification_key: spec.verification_key.clone(),
                plugin_config: spec.plugin_config.clone(),
                plugin_name: spec.plugin_name.clone(),
                fail_strategy: spec.fail_strategy,
                vm_config: spec.vm_config.clone(),
                type_: spec.type_,
            }),
            wanted: spec
                .match_
                .iter()
                .map(|wanted| (wanted.mode, wanted.ports.iter().map(|port| port.number.0).collect()))
                .collect(),
        });
    }
    for config in place.select(&catalog.configs.traffic_extensions) {
        let Some(code) = config.spec.filter_config.clone() else {
            continue;
        };
        let object = format!("{}.{}", config.namespace, config.name);
        all.push(Plugin {
            name: format!("extensions.istio.io/trafficextension/{object}"),
            object,
            phase: config.spec.phase,
            priority: config.spec.priority.unwrap_or_default(),
            code,
            wanted: config
                .spec
                .match_
                .iter()
                .map(|wanted| (wanted.mode, wanted.ports.iter().map(|port| port.number.0).collect()))
                .collect(),
        });
    }
    // Those of one priority stay in the order of their age.
    all.sort_by_key(|plugin| std::cmp::Reverse(plugin.priority));
    all
}

/// Puts the filters of all plugins for the proxy into its listeners; what they ask for by name.
pub fn apply(cx: &Context<'_>, listeners: &mut [Listener]) -> BTreeMap<String, TypedExtensionConfig> {
    let plugins = plugins(cx);
    let mut sent = BTreeMap::new();
    if plugins.is_empty() {
        return sent;
    }
    for listener in listeners
        .iter_mut()
        .filter(|listener| listener.name != names::TERMINATE)
    {
        let inbound = listener.traffic_direction == i32::from(TrafficDirection::Inbound);
        let side = if inbound && cx.proxy.kind != ProxyKind::Router {
            WorkloadMode::Server
        } else {
            WorkloadMode::Client
        };
        let own_port = port(listener);
        let chains = listener
            .filter_chains
            .iter_mut()
            .chain(&mut listener.default_filter_chain);
        for chain in chains {
            let port = port_of(chain).or(own_port).unwrap_or_default();
            let meant: Vec<&Plugin> = plugins.iter().filter(|plugin| plugin.takes(side, port)).collect();
            let (network, http): (Vec<&Plugin>, Vec<&Plugin>) =
                meant.into_iter().partition(|plugin| plugin.is_network());
            let mut put = |filter: &str, plugin: &Plugin| {
                if let Written::Wasm(wasm) = &plugin.code {
                    sent.insert(filter.to_owned(), extension(cx, plugin, wasm));
                }
            };
            into_chain(chain, &network, &mut put);
            for filter in &mut chain.filters {
                into_manager(filter, &http, &mut put);
            }
        }
    }
    sent
}

/// The port that a chain is for, by what it asks for or by its name behind a waypoint.
fn port_of(chain: &FilterChain) -> Option<u16> {
    let of_vip = chain.name.strip_prefix("inbound-vip|");
    if let Some(port) = of_vip.and_then(|rest| rest.split('|').next()?.parse().ok()) {
        return Some(port);
    }
    let called = chain.filter_chain_match.as_ref()?.destination_port?;
    u16::try_from(called.value).ok()
}

fn port(listener: &Listener) -> Option<u16> {
    match listener.address.as_ref()?.address.as_ref()? {
        Address::SocketAddress(socket) => match socket.port_specifier {
            Some(PortSpecifier::PortValue(port)) => u16::try_from(port).ok(),
            _ => None,
        },
        _ => None,
    }
}

type Put<'a> = &'a mut dyn FnMut(&str, &Plugin);

fn into_chain(chain: &mut FilterChain, plugins: &[&Plugin], put: Put<'_>) {
    let is_proxy = |filter: &Filter| match &filter.config_type {
        Some(filter::ConfigType::TypedConfig(config)) => type_name(&config.type_url) == TCP_PROXY,
        _ => false,
    };
    let Some(end) = chain.filters.iter().position(is_proxy) else {
        return;
    };
    let early = |phase| matches!(phase, Phase::Authn | Phase::Authz);
    let made = |plugin: &&&Plugin| Filter {
        name: plugin.name.clone(),
        config_type: Some(filter::ConfigType::ConfigDiscovery(source(plugin, true))),
    };
    let late: Vec<Filter> = in_order(plugins, &[Phase::Stats, Phase::Unspecified])
        .iter()
        .map(|one| made(&one))
        .collect();
    let first: Vec<Filter> = in_order(plugins, &[Phase::Authn, Phase::Authz])
        .iter()
        .map(|one| made(&one))
        .collect();
    chain.filters.splice(end..end, late);
    if plugins.iter().any(|plugin| early(plugin.phase)) {
        chain.filters.splice(0..0, first);
    }
    plugins.iter().for_each(|plugin| put(&plugin.name, plugin));
}

/// Those of some phases, phase by phase.
fn in_order<'p>(plugins: &[&'p Plugin], phases: &[Phase]) -> Vec<&'p Plugin> {
    let of = |phase: &Phase| {
        let phase = *phase;
        plugins.iter().copied().filter(move |plugin| plugin.phase == phase)
    };
    phases.iter().flat_map(of).collect()
}

fn into_manager(filter: &mut Filter, plugins: &[&Plugin], put: Put<'_>) {
    if plugins.is_empty() {
        return;
    }
    let Some(filter::ConfigType::TypedConfig(config)) = &filter.config_type else {
        return;
    };
    let Some(mut manager) = decode::<HttpConnectionManager>(config).ok().flatten() else {
        return;
    };
    let all = &mut manager.http_filters;
    // From the last place to the first, so that places before stay what they are.
    let end = all
        .iter()
        .position(|filter| ENDS_SECURITY.contains(&filter.name.as_str()))
        .unwrap_or_else(|| all.len().saturating_sub(1));
    let asked = all[..end]
        .iter()
        .rposition(|filter| filter.name == "envoy.filters.http.ext_authz");
    let start = asked.map_or(0, |at| at + 1);
    let token = all[..end]
        .iter()
        .position(|filter| filter.name == "envoy.filters.http.jwt_authn");
    let places = [
        (end, [Phase::Stats, Phase::Unspecified].as_slice()),
        (token.map_or(start, |at| at + 1), &[Phase::Authz]),
        (token.unwrap_or(start), &[Phase::Authn]),
    ];
    for (place, phases) in places {
        let made: Vec<HttpFilter> = in_order(plugins, phases).into_iter().map(http_filter).collect();
        all.splice(place..place, made);
    }
    plugins.iter().for_each(|plugin| put(&plugin.name, plugin));
    filter.config_type = Some(filter::ConfigType::TypedConfig(any(&manager)));
}

/// The filters that come after all that decides whether a request passes.
const ENDS_SECURITY: [&str; 4] = [
    "envoy.filters.http.grpc_web",
    "envoy.filters.http.grpc_stats",
    "envoy.filters.http.fault",
    "envoy.filters.http.router",
];

fn http_filter(plugin: &Plugin) -> HttpFilter {
    let config = match &plugin.code {
        Written::Lua(lua) => http_filter::ConfigType::TypedConfig(any(&Lua {
            default_source_code: Some(DataSource {
                specifier: Some(data_source::Specifier::InlineString(lua.inline_code.clone())),
                ..DataSource::default()
            }),
            ..Lua::default()
        })),
        Written::Wasm(_) => http_filter::ConfigType::ConfigDiscovery(source(plugin, false)),
    };
    HttpFilter {
        name: plugin.name.clone(),
        config_type: Some(config),
        ..HttpFilter::default()
    }
}

/// Where a filter's configuration comes from, and what it is until then.
fn source(plugin: &Plugin, network: bool) -> ExtensionConfigSource {
    let types = if network {
        [
            "envoy.extensions.filters.network.wasm.v3.Wasm",
            "envoy.extensions.filters.network.rbac.v3.RBAC",
        ]
    } else {
        [
            "envoy.extensions.filters.http.wasm.v3.Wasm",
            "envoy.extensions.filters.http.rbac.v3.RBAC",
        ]
    };
    ExtensionConfigSource {
        config_source: Some(filters::ads()),
        default_config: Some(instead(&plugin.code, network)),
        type_urls: types.map(|name| format!("type.googleapis.com/{name}")).to_vec(),
        ..ExtensionConfigSource::default()
    }
}

/// What stands in for code that cannot be loaded: it refuses everything, unless that is to be passed over.
fn instead(code: &Written, network: bool) -> Any {
    let open = matches!(code, Written::Wasm(wasm) if wasm.fail_strategy == FailStrategy::FailOpen);
    // A policy that allows nothing denies everything; none at all lets everything pass.
    let rules = (!open).then(|| Rules {
        action: rbac::Action::Allow.into(),
        ..Rules::default()
    });
    if network {
        any(&NetworkRbac {
            rules,
            stat_prefix: "plugin_".to_owned(),
            ..NetworkRbac::default()
        })
    } else {
        any(&HttpRbac {
            rules,
            ..HttpRbac::default()
        })
    }
}

fn extension(cx: &Context<'_>, plugin: &Plugin, wasm: &WasmConfig) -> TypedExtensionConfig {
    let network = plugin.is_network();
    let config = match code(cx, wasm) {
        Ok(code) => {
            let config = Some(config(plugin, wasm, code));
            if network {
                any(&NetworkWasm { config })
            } else {
                any(&HttpWasm { config })
            }
        }
        Err(_) => instead(&plugin.code, network),
    };
    TypedExtensionConfig {
        name: plugin.name.clone(),
        typed_config: Some(config),
    }
}

/// Where Envoy loads code from.
///
/// # Errors
///
/// It cannot; why not.
fn code(cx: &Context<'_>, wasm: &WasmConfig) -> Result<AsyncDataSource, String> {
    use async_data_source::Specifier;
    let (scheme, rest) = wasm.url.split_once("://").unwrap_or(("oci", &wasm.url));
    let specifier = match scheme {
        "file" => Specifier::Local(DataSource {
            specifier: Some(data_source::Specifier::Filename(rest.to_owned())),
            ..DataSource::default()
        }),
        "http" | "https" => {
            if wasm.sha256.is_empty() {
                return Err("Envoy fetches nothing without its sha256".to_owned());
            }
            let authority = rest.split('/').next().unwrap_or_default();
            let usual = if scheme == "https" { 443 } else { 80 };
            let (host, port) = authority
                .rsplit_once(':')
                .and_then(|(host, port)| Some((host, port.parse().ok()?)))
                .unwrap_or((authority, usual));
            let host = Host::from(host);
            let seen = cx.scope.named(&host).filter(|service| service.port(port).is_some());
            let Some(service) = seen else {
                return Err(format!(
                    "the proxy sees no service {host}:{port}; a ServiceEntry makes it one"
                ));
            };
            Specifier::Remote(RemoteDataSource {
                http_uri: Some(HttpUri {
                    uri: wasm.url.clone(),
                    timeout: Some(seconds(FETCH_SECONDS)),
                    http_upstream_type: Some(http_uri::HttpUpstreamType::Cluster(names::outbound(
                        port,
                        "",
                        &service.host,
                    ))),
                }),
                sha256: wasm.sha256.clone(),
                ..RemoteDataSource::default()
            })
        }
        _ => return Err(NO_IMAGES.to_owned()),
    };
    Ok(AsyncDataSource {
        specifier: Some(specifier),
    })
}

const NO_IMAGES: &str =
    "Envoy does not load images from registries: put the module into a file (file://), or where it is fetched by http";

fn config(plugin: &Plugin, wasm: &WasmConfig, code: AsyncDataSource) -> PluginConfig {
    let mut variables = EnvironmentVariables::default();
    for variable in wasm.vm_config.iter().flat_map(|vm| &vm.env) {
        match variable.value_from {
            EnvValueSource::Inline => {
                variables
                    .key_values
                    .insert(variable.name.clone(), variable.value.clone());
            }
            EnvValueSource::Host => variables.host_env_keys.push(variable.name.clone()),
        }
    }
    let given = wasm.plugin_config.as_ref().filter(|config| !config.0.is_empty());
    PluginConfig {
        name: plugin.object.clone(),
        root_id: wasm.plugin_name.clone(),
        configuration: given.map(|config| {
            any(&StringValue {
                value: Value::Object(config.0.clone()).to_string(),
            })
        }),
        failure_policy: match wasm.fail_strategy {
            FailStrategy::FailClose => FailurePolicy::FailClosed.into(),
            FailStrategy::FailOpen => FailurePolicy::FailOpen.into(),
            FailStrategy::FailReload => FailurePolicy::FailReload.into(),
        },
        vm: Some(Vm::VmConfig(VmConfig {
            runtime: "envoy.wasm.runtime.v8".to_owned(),
            code: Some(code),
            environment_variables: Some(variables),
            ..VmConfig::default()
        })),
        ..PluginConfig::default()
    }
}

/// What is left out of a proxy's plugins, and why; called for one that sees `cx`.
pub fn notices(cx: &Context<'_>) -> Vec<Diagnostic> {
    let mut said = Vec::new();
    for plugin in plugins(cx) {
        let Written::Wasm(wasm) = &plugin.code else { continue };
        let Err(problem) = code(cx, wasm) else { continue };
        let (namespace, name) = plugin.object.split_once('.').unwrap_or_default();
        let is_plugin = plugin.name.contains("/wasmplugin/");
        let (kind, path) = if is_plugin {
            ("WasmPlugin", "spec.url")
        } else {
            ("TrafficExtension", "spec.wasm.url")
        };
        let instead = if wasm.fail_strategy == FailStrategy::FailOpen {
            "is not loaded, and everything passes"
        } else {
            "is not loaded, and everything is refused"
        };
        said.push(about(kind, namespace, name).no_effect(path, format!("{instead}: {problem}")));
    }
    said
}

fn about<'a>(kind: &'a str, namespace: &'a str, name: &'a str) -> About<'a> {
    About {
        api_version: "extensions.istio.io/v1alpha1",
        ..About::networking(kind, namespace, name)
    }
}

/// What of WasmPlugins and TrafficExtensions takes no effect, whichever proxy they are for.
pub fn diagnostics(catalog: &Catalog) -> Vec<Diagnostic> {
    let mut said = Vec::new();
    let mut pulled = |about: &About<'_>, at: &str, policy: PullPolicy, secret: &str, key: &str| {
        let fields = [
            ("imagePullPolicy", policy != PullPolicy::UnspecifiedPolicy),
            ("imagePullSecret", !secret.is_empty()),
            ("verificationKey", !key.is_empty()),
        ];
        for (field, _) in fields.into_iter().filter(|(_, set)| *set) {
            said.push(about.no_effect(format!("{at}.{field}"), format!("takes no effect: {NO_IMAGES}")));
        }
    };
    for config in catalog.configs.wasm_plugins.values() {
        let spec = &config.spec;
        let about = about("WasmPlugin", &config.namespace, &config.name);
        pulled(
            &about,
            "spec",
            spec.image_pull_policy,
            &spec.image_pull_secret,
            &spec.verification_key,
        );
    }
    for config in catalog.configs.traffic_extensions.values() {
        let about = about("TrafficExtension", &config.namespace, &config.name);
        if let Some(Written::Wasm(wasm)) = &config.spec.filter_config {
            pulled(
                &about,
                "spec.wasm",
                wasm.image_pull_policy,
                &wasm.image_pull_secret,
                &wasm.verification_key,
            );
        }
    }
    said
}

#[cfg(test)]
mod tests {
    use corten_routing::Scope;
    use serde_json::json;

    use super::*;
    use crate::{accepted::sent, generate, testing::cases};

    #[test]
    fn where_plugins_are_and_what_they_are_sent() {
        let mut compared = 0;
        for (file, case) in cases("plugins") {
            let scope = Scope::of(&case.snapshot.catalog, &case.proxy);
            let cx = Context {
                snapshot: &case.snapshot,
                proxy: &case.proxy,
                scope: &scope,
            };
            let made = sent(&generate(&case.snapshot, &case.proxy));
            let mut shown = json!({});
            for listener in &made.listeners {
                let chains = listener["filterChains"].as_array().into_iter().flatten();
                for chain in chains.chain(listener.get("defaultFilterChain")) {
                    let own = chain["filters"].as_array().into_iter().flatten();
                    let lists = own
                        .clone()
                        .filter_map(|filter| filter["typedConfig"]["httpFilters"].as_array());
                    let names: Vec<&Value> = own.chain(lists.flatten()).map(|filter| &filter["name"]).collect();
                    let key = format!(
                        "{} {} {}",
                        listener["name"].as_str().unwrap_or_default(),
                        chain["name"].as_str().unwrap_or_default(),
                        chain["filterChainMatch"]["destinationPort"]
                    );
                    if names.iter().any(|name| name.to_string().contains(".istio.io/")) {
                        shown[key] = json!(names);
                    }
                }
            }
            shown["extensions"] = json!(made.extensions);
            let said = diagnostics(&case.snapshot.catalog).into_iter().chain(notices(&cx));
            shown["said"] = said.map(|found| json!(found.to_string())).collect();
            let expected = file.with_extension("expected.yaml");
            expect_test::expect_file![expected].assert_eq(&corten_api::yaml::document(&shown));
            compared += 1;
        }
        assert!(compared > 0);
    }
}
