//! All that a proxy enforces, in the order in which it does: CUSTOM policies, tokens, then AUDIT, DENY and ALLOW.

use corten_api::{diagnostic::Diagnostic, istio::authorization_policy::AuthorizationPolicyAction};
use corten_envoy::envoy::{
    config::listener::v3::Filter, extensions::filters::network::http_connection_manager::v3::HttpFilter,
};
use corten_routing::ProxyKind;

use super::{
    attach::Place,
    authn::{self, Keys},
    authz::{self, Options, Peer, Providers},
    jwks::Source,
};
use crate::Context;

/// The filters of what a place enforces.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Enforcement {
    /// Of requests.
    pub http: Vec<HttpFilter>,
    /// Of connections that carry none, or none that can be seen.
    pub tcp: Vec<Filter>,
    /// What is not enforced as it is written.
    pub diagnostics: Vec<Diagnostic>,
}

impl Enforcement {
    /// What is enforced at a place; `peer` is whose identity its policies are about.
    pub fn new(cx: &Context<'_>, place: Place<'_>, peer: Peer) -> Enforcement {
        let catalog = &cx.snapshot.catalog;
        let policies = place.select(&catalog.configs.authorization_policies);
        let tokens = place.select(&catalog.configs.request_authentications);
        if policies.is_empty() && tokens.is_empty() {
            return Enforcement::default();
        }
        let asks = policies
            .iter()
            .any(|policy| policy.spec.action == AuthorizationPolicyAction::Custom);
        let providers = if asks {
            Providers::new(cx.mesh(), &|service| authz::find(&catalog.services, service))
        } else {
            Providers::default()
        };
        let own = catalog.settings.trust_domain.to_string();
        let aliases = catalog.settings.trust_domain_aliases.iter().map(ToString::to_string);
        let options = Options {
            trust_domains: &std::iter::once(own).chain(aliases).collect::<Vec<String>>(),
            peer,
            providers: &providers,
            several_providers: false,
        };
        let written = || policies.iter().map(|policy| policy.as_ref());
        let requests = authz::http(written(), &options);
        let connections = authz::tcp(written(), &options);
        let keys = |source: &Source| {
            let key = (source.issuer.clone(), source.uri.clone());
            match cx.snapshot.keys.get(&key) {
                Some(keys) => Keys::Fetched(keys.clone()),
                None => Keys::Unreachable,
            }
        };
        // Gateways and waypoints choose routes by what tokens say.
        let routes_by_tokens = cx.proxy.kind != ProxyKind::Sidecar;
        let tokens = authn::filter(tokens.iter().map(|policy| policy.as_ref()), &keys, routes_by_tokens);
        let mut diagnostics = requests.diagnostics;
        for diagnostic in connections.diagnostics.into_iter().chain(tokens.diagnostics) {
            if !diagnostics.contains(&diagnostic) {
                diagnostics.push(diagnostic);
            }
        }
        Enforcement {
            http: [requests.custom, tokens.filter.into_iter().collect(), requests.others].concat(),
            tcp: [connections.custom, connections.others].concat(),
            diagnostics,
        }
    }
}

#[cfg(test)]
mod tests {
    use corten_api::istio::mesh_config::MeshConfig;
    use corten_model::Settings;
    use corten_routing::{Proxy, World};
    use serde_json::{Value, json};

    use crate::generate;

    #[test]
    fn listeners_enforce_what_is_for_their_workload() {
        let policy = |name: &str, spec: Value| {
            json!({
                "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
                "metadata": { "name": name, "namespace": "shop" }, "spec": spec,
            })
        };
        let tokens = json!({
            "apiVersion": "security.istio.io/v1", "kind": "RequestAuthentication",
            "metadata": { "name": "tokens", "namespace": "shop" },
            "spec": { "jwtRules": [{ "issuer": "i", "jwksUri": "https://i/keys" }] },
        });
        let objects = [
            policy(
                "deny",
                json!({ "action": "DENY", "rules": [{ "when": [{ "key": "source.ip", "values": ["10.0.0.9"] }] }] }),
            ),
            policy(
                "allow",
                json!({ "rules": [{ "to": [{ "operation": { "methods": ["GET"] } }] }] }),
            ),
            policy("audit", json!({ "action": "AUDIT", "rules": [{}] })),
            policy(
                "ask",
                json!({ "action": "CUSTOM", "provider": { "name": "nobody" }, "rules": [{}] }),
            ),
            policy(
                "other",
                json!({ "selector": { "matchLabels": { "app": "other" } }, "action": "DENY", "rules": [{}] }),
            ),
            tokens,
        ];
        let mut world = World::new(Settings::default(), MeshConfig::default());
        assert_eq!(world.put(&objects), []);
        let metadata = json!({ "NAMESPACE": "shop", "LABELS": { "app": "web" } });
        let proxy = Proxy::of_node("sidecar~10.0.0.1~web.shop~shop.svc.cluster.local", &metadata).expect("a proxy");
        let shown = |world: &World| {
            let made = generate(&world.snapshot(), &proxy);
            let inbound = made.listeners.iter().find(|listener| listener.name == "virtualInbound");
            corten_envoy::message_to_json(inbound.expect("an inbound listener")).expect("JSON")
        };
        let listener = shown(&world);
        // The name of a filter, and the action of one that decides.
        let names = |filters: &Value| -> Vec<String> {
            let all = filters.as_array().into_iter().flatten();
            all.map(|filter| {
                let name = filter["name"]
                    .as_str()
                    .unwrap_or_default()
                    .rsplit('.')
                    .next()
                    .unwrap_or_default();
                match filter["typedConfig"].get("rules").filter(|_| name == "rbac") {
                    Some(rules) => format!("{name} {}", rules["action"].as_str().unwrap_or("ALLOW")),
                    None => name.to_owned(),
                }
            })
            .collect()
        };
        let mut seen = (0, 0);
        for chain in listener["filterChains"].as_array().into_iter().flatten() {
            let filters = names(&chain["filters"]);
            if chain["name"] == "virtualInbound-blackhole" {
                continue;
            }
            if filters == ["http_connection_manager"] {
                seen.0 += 1;
                let inner = names(&chain["filters"][0]["typedConfig"]["httpFilters"]);
                assert_eq!(
                    inner[..5],
                    ["rbac DENY", "jwt_authn", "rbac LOG", "rbac DENY", "rbac ALLOW"],
                    "{inner:?}"
                );
            } else {
                seen.1 += 1;
                assert_eq!(
                    filters,
                    ["rbac DENY", "rbac LOG", "rbac DENY", "rbac ALLOW", "tcp_proxy"]
                );
            }
        }
        assert!(seen.0 > 0 && seen.1 > 0, "{seen:?}");
        // Keys that come later are in what is sent then.
        assert!(!listener.to_string().contains("\\\"kid\\\":\\\"k1\\\""));
        let keys = ("i".to_owned(), "https://i/keys".to_owned());
        world.set_keys([(keys, r#"{"keys":[{"kty":"RSA","kid":"k1"}]}"#.into())].into());
        assert!(shown(&world).to_string().contains("\\\"kid\\\":\\\"k1\\\""));
    }
}
