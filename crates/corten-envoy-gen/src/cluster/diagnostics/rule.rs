//! DestinationRules.

use corten_api::{
    diagnostic::Diagnostic,
    istio::destination_rule::{
        ClientTLSSettings, ClientTLSSettingsTLSmode as Mode, ConnectionPoolSettings, DestinationRuleSpec,
        HTTPSettingsH2UpgradePolicy, LoadBalancerSettings, LoadBalancerSettingsLbPolicy as Algorithm, OutlierDetection,
        SimpleLB, TrafficPolicy,
    },
};
use corten_core::Host;
use corten_model::input::TrafficDistribution;
use corten_routing::{About, Catalog, Resolution, Service, merge_policies};

use crate::security::secret;

/// One rule, and what is known of its host.
struct Rule<'a> {
    about: About<'a>,
    catalog: &'a Catalog,
    services: Vec<&'a Service>,
    selects: bool,
    said: Vec<Diagnostic>,
}

pub(super) fn diagnostics(catalog: &Catalog) -> Vec<Diagnostic> {
    let mut said = conflicts(catalog);
    for config in catalog.configs.destination_rules.values() {
        let host = corten_routing::full_host(&config.spec.host, &config.namespace, &catalog.settings.domain);
        let mut rule = Rule {
            about: About::networking("DestinationRule", &config.namespace, &config.name),
            catalog,
            services: services(catalog, &host),
            selects: config.spec.workload_selector.is_some(),
            said: Vec::new(),
        };
        rule.look(&config.spec);
        said.extend(rule.said);
    }
    said.sort_by(|a, b| (&a.object, &a.path).cmp(&(&b.object, &b.path)));
    said
}

/// The services that a rule for a host is for.
fn services<'a>(catalog: &'a Catalog, host: &Host) -> Vec<&'a Service> {
    if host.is_wildcard() {
        let covered = |service: &&std::sync::Arc<Service>| service.host.is_subset_of(host);
        return catalog.services.iter().filter(covered).map(AsRef::as_ref).collect();
    }
    catalog.services.of_host(host).iter().map(AsRef::as_ref).collect()
}

/// What rules say of a host that another rule of the namespace says already.
fn conflicts(catalog: &Catalog) -> Vec<Diagnostic> {
    let mut said = Vec::new();
    for merged in catalog.destination_rules.iter().filter(|merged| merged.from.len() > 1) {
        let written = |name: &corten_model::Name| {
            let key = (merged.namespace.clone(), name.clone());
            catalog.configs.destination_rules.get(&key)
        };
        let (mut policy, mut subsets) = (None, Vec::new());
        // A rule for all clients also adds to those for some: there it gives way as it should.
        let alike = |config: &&std::sync::Arc<corten_routing::Config<DestinationRuleSpec>>| {
            config.spec.workload_selector.is_some() == merged.selector.is_some()
        };
        for config in merged.from.iter().filter_map(written).filter(alike) {
            let about = About::networking("DestinationRule", &config.namespace, &config.name);
            let generated = config.annotations.contains_key("internal.istio.io/parents");
            if config.spec.traffic_policy.is_some() && !generated {
                match policy {
                    Some(first) => {
                        let message = format!("takes no effect: DestinationRule {first} for the same host comes first");
                        said.push(about.conflict("spec.trafficPolicy", message));
                    }
                    None => policy = Some(&config.name),
                }
            }
            for (index, subset) in config.spec.subsets.iter().enumerate() {
                match subsets.iter().find(|(known, _)| *known == &subset.name) {
                    Some((_, first)) if *first != &config.name => {
                        let message = format!(
                            "takes no effect: subset {} of DestinationRule {first} for the same host comes first",
                            subset.name
                        );
                        said.push(about.conflict(format!("spec.subsets[{index}]"), message));
                    }
                    Some(_) => {}
                    None => subsets.push((&subset.name, &config.name)),
                }
            }
        }
    }
    said
}

impl Rule<'_> {
    fn say(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.said.push(self.about.no_effect(path, message));
    }

    fn look(&mut self, spec: &DestinationRuleSpec) {
        if self
            .services
            .iter()
            .any(|service| service.resolution == Resolution::Alias)
        {
            self.say(
                "spec.host",
                "is only another name for a service: rules are for the service that it names",
            );
        }
        if self.selects && !spec.export_to.is_empty() {
            self.say(
                "spec.exportTo",
                "a rule with a workloadSelector is for its own namespace only",
            );
        }
        let all_dynamic = !self.services.is_empty()
            && self
                .services
                .iter()
                .all(|service| service.resolution == Resolution::DynamicDns);
        if all_dynamic && !spec.subsets.is_empty() {
            self.say(
                "spec.subsets",
                "the host is looked up for each request: there are no endpoints to divide",
            );
        }
        if let Some(policy) = &spec.traffic_policy {
            self.policy("spec.trafficPolicy", policy, policy);
        }
        for (index, subset) in spec.subsets.iter().enumerate() {
            if spec.subsets.iter().take(index).any(|first| first.name == subset.name) {
                self.say(
                    format!("spec.subsets[{index}]"),
                    "the rule has a subset of this name before",
                );
            }
            if let Some(own) = &subset.traffic_policy {
                // What a subset leaves out is the rule's.
                let whole = merge_policies(spec.traffic_policy.clone(), own, 0);
                self.policy(&format!("spec.subsets[{index}].trafficPolicy"), own, &whole);
            }
        }
    }

    /// A policy as it is written, and as it is with what it inherits.
    fn policy(&mut self, at: &str, policy: &TrafficPolicy, whole: &TrafficPolicy) {
        self.parts(
            at,
            policy.load_balancer.as_ref(),
            policy.connection_pool.as_ref(),
            policy.outlier_detection.as_ref(),
            policy.tls.as_ref(),
            whole.outlier_detection.is_some(),
            None,
        );
        for (index, port) in policy.port_level_settings.iter().enumerate() {
            let at = format!("{at}.portLevelSettings[{index}]");
            let Some(number) = port.port.as_ref().map(|port| port.number.0) else {
                self.say(at, "names no port");
                continue;
            };
            self.parts(
                &at,
                port.load_balancer.as_ref(),
                port.connection_pool.as_ref(),
                port.outlier_detection.as_ref(),
                port.tls.as_ref(),
                port.outlier_detection.is_some(),
                Some(number),
            );
            let lost = [
                ("tunnel", policy.tunnel.is_some()),
                ("proxyProtocol", policy.proxy_protocol.is_some()),
                ("retryBudget", policy.retry_budget.is_some()),
            ];
            for (field, _) in lost.into_iter().filter(|(_, written)| *written) {
                self.say(
                    at.clone(),
                    format!("replaces the whole policy for port {number}: the {field} beside it does not count there"),
                );
            }
            let first = policy.port_level_settings.iter().take(index);
            if first
                .filter_map(|other| other.port.as_ref())
                .any(|other| other.number.0 == number)
            {
                self.say(at, format!("port {number} has settings before these"));
            }
        }
    }

    #[expect(clippy::too_many_arguments, reason = "they are the parts of a policy")]
    fn parts(
        &mut self,
        at: &str,
        balancer: Option<&LoadBalancerSettings>,
        pool: Option<&ConnectionPoolSettings>,
        outliers: Option<&OutlierDetection>,
        tls: Option<&ClientTLSSettings>,
        detects: bool,
        port: Option<u16>,
    ) {
        if let Some(settings) = balancer {
            self.balancer(&format!("{at}.loadBalancer"), settings, detects);
        }
        if let Some(pool) = pool {
            self.pool(&format!("{at}.connectionPool"), pool, port);
        }
        if let Some(outliers) = outliers {
            self.outliers(&format!("{at}.outlierDetection"), outliers);
        }
        if let Some(tls) = tls {
            self.tls(&format!("{at}.tls"), tls);
        }
    }

    fn balancer(&mut self, at: &str, settings: &LoadBalancerSettings, detects: bool) {
        let warms = settings.warmup.is_some() || settings.warmup_duration_secs.is_some();
        let one_by_one = matches!(
            settings.lb_policy,
            None | Some(Algorithm::Simple(
                SimpleLB::Unspecified | SimpleLB::RoundRobin | SimpleLB::LeastRequest | SimpleLB::LeastConn
            ))
        );
        if warms && !one_by_one {
            let field = if settings.warmup.is_some() {
                "warmup"
            } else {
                "warmupDurationSecs"
            };
            self.say(
                format!("{at}.{field}"),
                "only ROUND_ROBIN and LEAST_REQUEST let new endpoints warm up",
            );
        }
        if settings.warmup.is_some() && settings.warmup_duration_secs.is_some() {
            self.say(format!("{at}.warmupDurationSecs"), "warmup counts instead");
        }
        if let Some(Algorithm::ConsistentHash(hash)) = &settings.lb_policy
            && hash.minimum_ring_size != 0
            && hash.hash_algorithm.is_some()
        {
            let message = "ringHash or maglev beside it counts instead: give the size there";
            self.say(format!("{at}.consistentHash.minimumRingSize"), message);
        }
        if settings.zone_aware_lb_setting.is_some() {
            let message = "proxies do not know how many of their own kind each zone has, without which all zones count alike; \
                           localityLbSetting prefers the own zone";
            self.say(format!("{at}.zoneAwareLbSetting"), message);
        }
        let Some(places) = &settings.locality_lb_setting else {
            return;
        };
        let at = format!("{at}.localityLbSetting");
        if settings.zone_aware_lb_setting.is_some() {
            self.say(at, "zoneAwareLbSetting counts instead");
            return;
        }
        let fields = [
            ("failover", !places.failover.is_empty()),
            ("failoverPriority", !places.failover_priority.is_empty()),
        ];
        for (field, _) in fields.into_iter().filter(|(_, written)| *written) {
            let path = format!("{at}.{field}");
            if places.enabled == Some(false) {
                self.say(path, "the setting is not enabled");
            } else if !places.distribute.is_empty() {
                self.say(path, "distribute counts instead");
            } else if !detects {
                self.say(
                    path,
                    "nothing finds out which endpoints fail: add outlierDetection beside loadBalancer",
                );
            }
        }
    }

    fn pool(&mut self, at: &str, pool: &ConnectionPoolSettings, port: Option<u16>) {
        let Some(http) = &pool.http else { return };
        let upgrades = http.h2_upgrade_policy == HTTPSettingsH2UpgradePolicy::Upgrade;
        if http.use_client_protocol && upgrades {
            self.say(format!("{at}.http.h2UpgradePolicy"), "useClientProtocol counts instead");
        }
        let ports = self.services.iter().flat_map(|service| &service.ports);
        let mut concerned = ports
            .filter(|of| port.is_none_or(|number| of.number == number))
            .peekable();
        let known = concerned.peek().is_some();
        let two = concerned.any(|of| {
            let http = of.protocol.is_http();
            let mesh = self.catalog.mesh.h2_upgrade_policy;
            of.protocol.is_http2() || http && mesh == corten_api::istio::mesh_config::MeshConfigH2UpgradePolicy::Upgrade
        });
        if http.use_client_protocol || known && !two && !upgrades {
            let why = if http.use_client_protocol {
                "the host is spoken to as the client speaks"
            } else {
                "no port of the host speaks HTTP/2: name one so, or give h2UpgradePolicy: UPGRADE"
            };
            if http.max_concurrent_streams > 0 {
                self.say(format!("{at}.http.maxConcurrentStreams"), why);
            }
            if http.http2_keep_alive.is_some() {
                self.say(format!("{at}.http.http2KeepAlive"), why);
            }
        }
    }

    fn outliers(&mut self, at: &str, outliers: &OutlierDetection) {
        for (field, percent) in [
            ("maxEjectionPercent", outliers.max_ejection_percent),
            ("minHealthPercent", outliers.min_health_percent),
        ] {
            if percent > 100 {
                self.say(format!("{at}.{field}"), format!("{percent} percent are taken for 100"));
            }
        }
        if outliers.consecutive_errors != 0 {
            let message = "is no longer looked at: give consecutive5xxErrors or consecutiveGatewayErrors";
            self.say(format!("{at}.consecutiveErrors"), message);
        }
        if outliers.consecutive_local_origin_failures.is_some() && !outliers.split_external_local_origin_errors {
            let message = "counts only with splitExternalLocalOriginErrors: true";
            self.say(format!("{at}.consecutiveLocalOriginFailures"), message);
        }
        let spreads = |service: &&Service| {
            service
                .traffic_distribution
                .is_some_and(|wanted| wanted != TrafficDistribution::Any)
        };
        if outliers.min_health_percent > 0 && self.services.iter().any(spreads) {
            let message =
                "the service asks for near endpoints, for which those that are not ready are known and never called";
            self.say(format!("{at}.minHealthPercent"), message);
        }
    }

    fn tls(&mut self, at: &str, tls: &ClientTLSSettings) {
        let written = [
            ("clientCertificate", !tls.client_certificate.is_empty()),
            ("privateKey", !tls.private_key.is_empty()),
            ("caCertificates", !tls.ca_certificates.is_empty()),
            ("caCrl", !tls.ca_crl.is_empty()),
            ("credentialName", !tls.credential_name.is_empty()),
            ("subjectAltNames", !tls.subject_alt_names.is_empty()),
            ("sni", !tls.sni.is_empty()),
            ("insecureSkipVerify", tls.insecure_skip_verify.is_some()),
        ];
        let unverified = tls.insecure_skip_verify == Some(true);
        for (field, _) in written.into_iter().filter(|(_, written)| *written) {
            let why = match (tls.mode, field) {
                (Mode::Disable, _) => "TLS is disabled",
                (Mode::IstioMutual, "subjectAltNames" | "sni") => continue,
                (Mode::IstioMutual, _) => "the mesh's own certificates are used",
                (Mode::Simple, "clientCertificate" | "privateKey") => "SIMPLE shows no certificate: MUTUAL does",
                (_, "caCertificates" | "caCrl" | "clientCertificate" | "privateKey")
                    if !tls.credential_name.is_empty() =>
                {
                    "credentialName counts instead"
                }
                (_, "caCertificates" | "caCrl" | "subjectAltNames") if unverified => "the certificate is not verified",
                (_, "credentialName") if !self.selects && !secret::is_public(&tls.credential_name) => {
                    "is for gateways; sidecars, which may not read it, refuse to connect: give the rule a workloadSelector, or use \
                     files"
                }
                _ => continue,
            };
            self.say(format!("{at}.{field}"), why);
        }
    }
}
