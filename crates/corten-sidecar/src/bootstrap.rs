//! Envoy's bootstrap, of what is settled here.

use std::path::Path;

use corten_bootstrap::{Inputs, Problem};
use corten_enroll::sidecar::PROXY_PRIORITY;
use serde_json::Value;

use crate::settings::Settings;

/// The bootstrap, as JSON, and what of the configuration takes no effect in it. `socket` is where certificates are served.
pub fn bootstrap(settings: &Settings, socket: &Path) -> (Value, Vec<Problem>) {
    let first = settings.addresses.first().map(ToString::to_string).unwrap_or_default();
    let id = format!(
        "{}~{first}~{}.{}~{}",
        settings.arguments.kind.name(),
        settings.pod,
        settings.namespace,
        settings.domain
    );
    corten_bootstrap::bootstrap(&Inputs {
        id: &id,
        metadata: &settings.metadata(),
        config: &settings.config,
        discovery: (&settings.discovery.0, settings.discovery.1),
        discovery_name: &settings.discovery_name,
        secrets: socket,
        host_ip: settings.variable("HOST_IP"),
        log_as_json: settings.arguments.log_as_json,
        fips: settings.variable("COMPLIANCE_POLICY") == Some("fips-140-2"),
        // Where the pod has both families, the control plane has Envoy listen on both, too.
        dual_stack: settings.variable("ISTIO_DUAL_STACK") != Some("false"),
        proxy_protocol: settings.switch("ENVOY_STATUS_PORT_ENABLE_PROXY_PROTOCOL"),
        priority: settings.marked.then_some(PROXY_PRIORITY),
        build: settings.build(),
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use corten_envoy::envoy::config::bootstrap::v3::Bootstrap;

    use super::*;
    use crate::settings::{Arguments, Files};

    #[test]
    fn it_is_a_bootstrap_of_envoys_with_the_pods_identity() {
        let variables = [
            ("POD_NAME", "web-1"),
            ("POD_NAMESPACE", "shop"),
            ("INSTANCE_IP", "10.0.0.1"),
        ];
        let variables: Vec<_> = variables
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec();
        let files = Files {
            labels: Some("app=\"web\"".to_owned()),
            ..Files::default()
        };
        let arguments = Arguments::parse_from(["corten-sidecar"]);
        let settings = Settings::resolve(&arguments, &variables, &files).unwrap();
        let (made, problems) = bootstrap(&settings, Path::new("/run/sds"));
        assert_eq!(problems, []);
        let typed: Bootstrap = corten_envoy::message_from_json(&made).expect("every field is Envoy's");
        let node = typed.node.unwrap();
        assert_eq!(node.id, "sidecar~10.0.0.1~web-1.shop~shop.svc.cluster.local");
        assert_eq!(node.cluster, "web.shop");
    }
}
