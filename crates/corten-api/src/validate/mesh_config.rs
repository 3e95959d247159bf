//! MeshConfig: its defaults, and whether it makes sense.

use corten_core::{Duration, Host};

use super::{
    Report, default_traffic_policy, extension_provider, http_route,
    load_balancer::{locality_setting, zone_aware_setting},
    proxy_config::mesh_proxy_config,
    text::{self, shown},
};
use crate::{
    codec::{Cx, Field, FieldProblem, decode_over},
    decode::Node,
    istio::{
        destination_rule::LocalityLoadBalancerSetting,
        mesh_config::{
            InboundTrafficPolicy, InboundTrafficPolicyMode, IngressControllerMode, MeshConfig,
            MeshConfigOutboundTrafficPolicy, MeshConfigOutboundTrafficPolicyMode, TLSConfig,
        },
        proxy_config::{AuthenticationPolicy, ProxyConfig, ProxyConfigClusterName},
        virtual_service::HTTPRetry,
    },
};

/// What holds for all proxies when nobody says otherwise.
pub fn default_proxy_config() -> ProxyConfig {
    ProxyConfig {
        config_path: "./etc/istio/proxy".to_owned(),
        binary_path: "/usr/local/bin/envoy".to_owned(),
        cluster_name: Some(ProxyConfigClusterName::ServiceCluster("istio-proxy".to_owned())),
        drain_duration: Some(Duration::from_secs(45)),
        termination_drain_duration: Some(Duration::from_secs(5)),
        proxy_admin_port: 15000,
        control_plane_auth_policy: AuthenticationPolicy::MutualTls,
        discovery_address: "istiod.istio-system.svc:15012".to_owned(),
        stat_name_length: 189,
        status_port: 15020,
        ..ProxyConfig::default()
    }
}

/// What holds for the mesh when nobody says otherwise.
pub fn default_mesh_config() -> MeshConfig {
    let everywhere = || vec!["*".to_owned()];
    MeshConfig {
        enable_tracing: true,
        protocol_detection_timeout: Some(Duration::ZERO),
        ingress_service: "istio-ingressgateway".to_owned(),
        ingress_controller_mode: IngressControllerMode::Strict,
        ingress_class: "istio".to_owned(),
        trust_domain: "cluster.local".to_owned(),
        enable_auto_mtls: Some(true),
        outbound_traffic_policy: Some(MeshConfigOutboundTrafficPolicy {
            mode: MeshConfigOutboundTrafficPolicyMode::AllowAny,
            ..MeshConfigOutboundTrafficPolicy::default()
        }),
        inbound_traffic_policy: Some(InboundTrafficPolicy {
            mode: InboundTrafficPolicyMode::Passthrough,
        }),
        locality_lb_setting: Some(LocalityLoadBalancerSetting {
            enabled: Some(true),
            ..LocalityLoadBalancerSetting::default()
        }),
        default_config: Some(default_proxy_config()),
        root_namespace: "istio-system".to_owned(),
        proxy_listen_port: 15001,
        proxy_inbound_listen_port: 15006,
        connect_timeout: Some(Duration::from_secs(10)),
        default_service_export_to: everywhere(),
        default_virtual_service_export_to: everywhere(),
        default_destination_rule_export_to: everywhere(),
        dns_refresh_rate: Some(Duration::from_secs(60)),
        enable_prometheus_merge: Some(true),
        ..MeshConfig::default()
    }
}

/// Decodes what users write, which changes the defaults field by field, in the proxies' configuration too.
pub fn over_defaults(root: &Node) -> (MeshConfig, Vec<FieldProblem>) {
    over(default_mesh_config(), root)
}

/// Changes a configuration by what is written over it: fields are replaced, but extension providers are by their names, the proxies'
/// configuration and default providers field by field, and trust domains that are said to be the same add up.
pub fn over(below: MeshConfig, root: &Node) -> (MeshConfig, Vec<FieldProblem>) {
    let mut cx = Cx::default();
    let (providers, aliases, defaults) = (
        below.extension_providers.clone(),
        below.trust_domain_aliases.clone(),
        below.default_providers.clone(),
    );
    let mut proxies = below.default_config.clone();
    let mut config = below;
    config.extension_providers.clear();
    config.trust_domain_aliases.clear();
    decode_over(&mut config, root, &mut cx);
    let part = |name: &str, other: &str| {
        let node = root.get(name).or_else(|| root.get(other));
        node.filter(|node| !node.is_null())
    };
    // What is wrong in these was reported above.
    if let (Some(node), Some(proxies)) = (part("defaultConfig", "default_config"), &mut proxies) {
        decode_over(proxies, node, &mut Cx::default());
        config.default_config = Some(proxies.clone());
    }
    if let (Some(node), Some(mut known)) = (part("defaultProviders", "default_providers"), defaults) {
        decode_over(&mut known, node, &mut Cx::default());
        config.default_providers = Some(known);
    }
    let written = std::mem::replace(&mut config.extension_providers, providers);
    let below = config.extension_providers.len();
    for provider in written {
        let mut known = config.extension_providers.iter_mut().take(below);
        match known.find(|known| known.name == provider.name) {
            Some(known) => *known = provider,
            None => config.extension_providers.push(provider),
        }
    }
    config.trust_domain_aliases.extend(aliases);
    config.trust_domain_aliases.sort();
    config.trust_domain_aliases.dedup();
    (config, cx.into_problems())
}

/// The configuration of the mesh, with defaults.
pub fn mesh_config(config: &MeshConfig, report: &mut Report) {
    report.check("proxyListenPort", text::port(config.proxy_listen_port));
    report.check(
        "connectTimeout",
        connect_timeout(config.connect_timeout.unwrap_or_default()),
    );
    if config
        .protocol_detection_timeout
        .is_some_and(|timeout| timeout.as_nanos() % 1_000_000 != 0)
    {
        report.error("protocolDetectionTimeout", "is finer than a millisecond");
    }
    match &config.default_config {
        Some(proxies) => mesh_proxy_config("defaultConfig", proxies, report),
        None => report.error("defaultConfig", "required"),
    }
    if let Some(setting) = &config.locality_lb_setting {
        locality_setting("localityLbSetting", setting, true, report);
    }
    if let Some(setting) = &config.zone_aware_lb_setting {
        zone_aware_setting("zoneAwareLbSetting", setting, true, report);
    }
    for (i, settings) in config.service_settings.iter().enumerate() {
        for (j, host) in settings.hosts.iter().enumerate() {
            report.check(
                format!("serviceSettings[{i}].hosts[{j}]"),
                Host::from(host.as_str()).check_wildcard(),
            );
        }
    }
    report.check("trustDomain", text::trust_domain(&config.trust_domain));
    for (i, alias) in config.trust_domain_aliases.iter().enumerate() {
        report.check(format!("trustDomainAliases[{i}]"), text::trust_domain(alias));
    }
    extension_provider::providers("extensionProviders", &config.extension_providers, report);
    if config.mesh_mtls.as_ref().is_some_and(|tls| !tls.ecdh_curves.is_empty()) {
        report.error("meshMTLS.ecdhCurves", "not supported within the mesh; remove it");
    }
    if let Some(tls) = &config.tls_defaults {
        ecdh_curves("tlsDefaults.ecdhCurves", tls, report);
    }
    if let Some(policy) = &config.default_traffic_policy {
        default_traffic_policy("defaultTrafficPolicy", policy, report);
    }
    if let Some(policy) = &config.default_inbound_http_retry_policy {
        inbound_retry_policy("defaultInboundHttpRetryPolicy", policy, report);
    }
}

fn connect_timeout(timeout: Duration) -> Result<(), String> {
    text::duration(timeout)?;
    if timeout > Duration::from_secs(3600) {
        return Err(format!("{} is longer than an hour", shown(&timeout.to_string())));
    }
    Ok(())
}

fn ecdh_curves(at: &str, tls: &TLSConfig, report: &mut Report) {
    const CURVES: [&str; 8] = [
        "",
        "P-224",
        "P-256",
        "P-384",
        "P-521",
        "X25519",
        "X25519Kyber768Draft00",
        "X25519MLKEM768",
    ];
    for (i, curve) in tls.ecdh_curves.iter().enumerate() {
        let at = format!("{at}[{i}]");
        if !CURVES.contains(&curve.as_str()) {
            report.warning(at, format!("{} is not a known curve", shown(curve)));
        } else if tls.ecdh_curves.iter().take(i).any(|other| other == curve) {
            report.warning(at, format!("{} is already given", shown(curve)));
        }
    }
}

/// When proxies try requests to their own workload again.
pub fn inbound_retry_policy(at: &str, policy: &HTTPRetry, report: &mut Report) {
    http_route::retries(at, policy, report);
    if policy.attempts == 0 && policy.backoff.is_some() {
        report.error(
            format!("{at}.backoff"),
            "0 attempts mean no retries; remove it or set attempts",
        );
    }
    let ignored = [
        ("perTryTimeout", policy.per_try_timeout.is_some()),
        ("retryRemoteLocalities", policy.retry_remote_localities.is_some()),
        ("retryIgnorePreviousHosts", policy.retry_ignore_previous_hosts.is_some()),
    ];
    for (field, _) in ignored.iter().filter(|(_, given)| *given) {
        report.warning(format!("{at}.{field}"), "has no effect on inbound requests");
    }
}

/// Decodes and validates a fragment of configuration on its own, such as the settings of one feature.
pub fn fragment<T: Field>(root: &Node, check: impl FnOnce(&T, &mut Report)) -> Vec<FieldProblem> {
    let (value, mut problems) = crate::codec::decode::<T>(root);
    if let Some(value) = value {
        let mut report = Report::default();
        check(&value, &mut report);
        problems.extend(report.into_findings().into_iter().map(|finding| finding.located(root)));
    }
    problems
}
