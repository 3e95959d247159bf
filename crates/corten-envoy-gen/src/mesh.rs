//! What of the mesh's configuration takes no effect, for whichever proxy. What it says of where traces and logs go is looked at there.

use corten_api::{
    diagnostic::Diagnostic,
    istio::mesh_config::{CertificateDataCertificateData, MeshConfig, MeshConfigOutboundTrafficPolicyMode as Mode},
};
use corten_routing::{About, Catalog};

/// What takes no effect, by field.
pub(crate) fn diagnostics(catalog: &Catalog) -> Vec<Diagnostic> {
    let about = about(catalog);
    let fields = unhonoured(&catalog.mesh).into_iter();
    let fields = fields.map(|(field, why)| (field.to_owned(), why));
    let all = fields.chain(of_authorities(&catalog.mesh));
    all.map(|(field, why)| about.no_effect(field, format!("takes no effect: {why}")))
        .collect()
}

/// What of further root certificates is not looked at.
fn of_authorities(mesh: &MeshConfig) -> impl Iterator<Item = (String, &'static str)> {
    let each = mesh.ca_certificates.iter().enumerate();
    each.flat_map(|(index, one)| {
        let by_url = matches!(
            one.certificate_data,
            Some(CertificateDataCertificateData::SpiffeBundleUrl(_))
        );
        let written = [
            (
                "spiffeBundleUrl",
                by_url,
                "bundles are not fetched; write the certificates as pem",
            ),
            (
                "certSigners",
                !one.cert_signers.is_empty(),
                "certificates are signed by the control plane, or where it says, and not by signers of Kubernetes",
            ),
        ];
        let found = written.into_iter().filter(|(_, is_written, _)| *is_written);
        found.map(move |(field, _, why)| (format!("caCertificates[{index}].{field}"), why))
    })
}

/// The object that what is said of the mesh's configuration is about.
pub(crate) fn about(catalog: &Catalog) -> About<'_> {
    About {
        api_version: "mesh.istio.io/v1alpha1",
        kind: "MeshConfig",
        namespace: &catalog.settings.system_namespace,
        name: "istio",
    }
}

fn unhonoured(mesh: &MeshConfig) -> Vec<(&'static str, &'static str)> {
    let visibility = mesh.service_entry_visibility.as_ref();
    let policy = mesh.outbound_traffic_policy.as_ref();
    let looks_up = policy.is_some_and(|policy| policy.mode == Mode::AllowAnyDynamicDns);
    let defaults = mesh.default_providers.as_ref();
    let traffic = mesh.default_traffic_policy.as_ref();
    let outliers = traffic.and_then(|policy| policy.outlier_detection.as_ref());
    let zones = mesh.zone_aware_lb_setting.is_some();
    let places = mesh.locality_lb_setting.as_ref();
    let places = places.filter(|places| places.enabled != Some(false));
    let written = [
        (
            "proxyHttpPort",
            mesh.proxy_http_port != 0,
            "proxies are no forward proxies of HTTP; traffic is captured",
        ),
        (
            "configSources",
            !mesh.config_sources.is_empty(),
            "configuration is read from Kubernetes alone",
        ),
        (
            "discoverySelectors",
            !mesh.discovery_selectors.is_empty(),
            "the control plane looks at all namespaces; exportTo and Sidecars limit what proxies see",
        ),
        (
            "certificates",
            !mesh.certificates.is_empty(),
            "no certificates for names of DNS are made; cert-manager makes such Secrets",
        ),
        (
            "ca",
            mesh.ca.is_some(),
            "certificates are asked for where the proxies' configuration says",
        ),
        (
            "verifyCertificateAtClient",
            mesh.verify_certificate_at_client.is_some(),
            "give caCertificates, or insecureSkipVerify, in the DestinationRule",
        ),
        (
            "serviceScopeConfigs",
            !mesh.service_scope_configs.is_empty(),
            "services of other clusters are not read",
        ),
        (
            "serviceEntryVisibility.applyToSidecars",
            visibility.is_some_and(|visibility| visibility.apply_to_sidecars),
            "sidecars see what exportTo lets them see",
        ),
        (
            "outboundTrafficPolicy.tls",
            policy.is_some_and(|policy| policy.tls.is_some()) && !looks_up,
            "only connections of the mode ALLOW_ANY_DYNAMIC_DNS are made with it",
        ),
        (
            "defaultProviders.metrics",
            defaults.is_some_and(|defaults| !defaults.metrics.is_empty()),
            "the filter that counts by Istio's metrics is in Istio's builds of Envoy alone, and is not configured; Envoy's own statistics are there",
        ),
        (
            "defaultTrafficPolicy.outlierDetection.consecutiveErrors",
            outliers.is_some_and(|outliers| outliers.consecutive_errors != 0),
            "it is no longer looked at: give consecutive5xxErrors or consecutiveGatewayErrors",
        ),
        (
            "defaultTrafficPolicy.outlierDetection.consecutiveLocalOriginFailures",
            outliers.is_some_and(|outliers| {
                outliers.consecutive_local_origin_failures.is_some() && !outliers.split_external_local_origin_errors
            }),
            "it counts only with splitExternalLocalOriginErrors: true",
        ),
        (
            "zoneAwareLbSetting",
            zones,
            "proxies do not know how many of their own kind each zone has, without which all zones count alike; localityLbSetting prefers the own zone",
        ),
        (
            "localityLbSetting",
            zones
                && places.is_some_and(|places| {
                    !places.distribute.is_empty() || !places.failover.is_empty() || !places.failover_priority.is_empty()
                }),
            "zoneAwareLbSetting counts instead",
        ),
        (
            "localityLbSetting.failover",
            places.is_some_and(|places| !places.distribute.is_empty() && !places.failover.is_empty()),
            "distribute counts instead",
        ),
        (
            "localityLbSetting.failoverPriority",
            places.is_some_and(|places| !places.distribute.is_empty() && !places.failover_priority.is_empty()),
            "distribute counts instead",
        ),
    ];
    let found = written.into_iter().filter(|(_, is_written, _)| *is_written);
    found.map(|(field, _, why)| (field, why)).collect()
}
