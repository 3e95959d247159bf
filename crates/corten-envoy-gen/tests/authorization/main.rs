//! Policies mean what they say: for random policies and calls, what the filters that are generated decide is what Istio's
//! words say, which are read here a second time, without knowing Envoy.
//!
//! The whole way is taken: objects, the listener of a sidecar, and one call through it.

mod oracle;
mod random;

use std::net::{IpAddr, SocketAddr};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use corten_api::istio::mesh_config::MeshConfig;
use corten_envoy_gen::generate;
use corten_explain::{Call, Certificate, Config, Refusal, Request, Tls, follow};
use corten_model::Settings;
use corten_routing::{Proxy, World};
use proptest::{
    prelude::ProptestConfig,
    test_runner::{TestCaseError, TestRunner},
};
use serde_json::{Value, json};

/// A call, as the words of policies see it.
#[derive(Debug, Clone)]
struct Asked {
    /// The identity of the client, without `spiffe://`; `None`: it calls in plain text.
    identity: Option<String>,
    address: IpAddr,
    /// The port of the server: 8080 speaks HTTP, 9090 does not.
    port: u16,
    host: String,
    method: String,
    /// Without a query.
    path: String,
    headers: Vec<(String, String)>,
    /// What the client's token says, if it has one.
    claims: Option<Value>,
}

impl Asked {
    fn is_http(&self) -> bool {
        self.port == 8080
    }
}

const ADDRESS: &str = "10.1.0.1";
const HTTP: u16 = 8080;
const TCP: u16 = 9090;
const ISSUER: &str = "https://issuer/x";

/// The workload that is called, its ports, and that its tokens are looked at.
fn surroundings() -> Vec<Value> {
    let port =
        |name: &str, number: u16| json!({ "name": name, "port": number, "targetPort": number, "protocol": "TCP" });
    vec![
        json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "shop" } }),
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": { "name": "web", "namespace": "shop", "uid": "1", "labels": { "app": "web" } },
            "spec": { "serviceAccountName": "web", "nodeName": "n" },
            "status": { "phase": "Running", "podIP": ADDRESS, "podIPs": [{ "ip": ADDRESS }], "conditions": [{ "type": "Ready", "status": "True" }] },
        }),
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": { "name": "web", "namespace": "shop" },
            "spec": { "clusterIP": "10.9.0.1", "clusterIPs": ["10.9.0.1"], "selector": { "app": "web" }, "ports": [port("http", HTTP), port("tcp", TCP)] },
        }),
        json!({
            "apiVersion": "security.istio.io/v1", "kind": "RequestAuthentication",
            "metadata": { "name": "tokens", "namespace": "shop" },
            "spec": { "jwtRules": [{ "issuer": ISSUER, "jwks": r#"{"keys":[{"kty":"RSA","kid":"k","n":"0NZzcDVlMnRq6aUGMF-I5TYeIvC8G0jgADnm7yo9h_k_TZBDsplVtV9zm1t2LUZ09W36OioZOu0g-htm5V5KlZGM9p30UmfsSGr9DEQNQTJLYwjQGlXRtO_epxgCYF5FWE-UnwUij416yVg2eptEC_2iWkH6WAdgWYJkG3nsfSwb6jsAvCIo4thDtzNEK56Oe8SVdW9p3JTAEWH7i_JtDiGFStCz-qAnb6zl5eneVP5NYU-vbvcjnZnL4CDJpY_47rb8U36V1_GoB334foPqwMRtMVP4GC6mMCk2yXGLCNG1Wx8vK6ZidV7mraHsxw2362HO0vUGKblgKtvTMWQx_w","e":"AQAB"}]}"# }] },
        }),
    ]
}

/// What the proxy of the workload is sent.
fn configuration(policies: &[Value]) -> Config {
    let mesh = MeshConfig {
        trust_domain: "cluster.local".to_owned(),
        trust_domain_aliases: vec!["old".to_owned()],
        ..corten_api::validate::mesh_config::default_mesh_config()
    };
    let mut world = World::new(Settings::default(), mesh);
    let mut objects = surroundings();
    objects.extend_from_slice(policies);
    let problems = world.put(&objects);
    assert!(problems.is_empty(), "{problems:?}");
    let metadata = json!({ "NAMESPACE": "shop", "LABELS": { "app": "web" } });
    let id = format!("sidecar~{ADDRESS}~web.shop~shop.svc.cluster.local");
    let proxy = Proxy::of_node(&id, &metadata).expect("a proxy");
    let made = generate(&world.snapshot(), &proxy);
    Config::new(
        made.listeners,
        made.routes.into_values(),
        made.clusters,
        made.endpoints.into_values(),
    )
}

/// Whether the proxy lets a call in.
fn is_let_in(config: &Config, asked: &Asked) -> Result<bool, TestCaseError> {
    let destination = SocketAddr::new(ADDRESS.parse().expect("an address"), asked.port);
    let mut call = Call::new(destination).inbound();
    call.source = SocketAddr::new(asked.address, 40_000);
    if asked.is_http() {
        let mut request = Request {
            method: asked.method.clone(),
            host: asked.host.clone(),
            path: format!("{}?query=1", asked.path),
            ..Request::default()
        };
        for (name, value) in &asked.headers {
            request = request.header(name, value);
        }
        if let Some(claims) = &asked.claims {
            request = request.header("authorization", &format!("Bearer {}", token(claims)));
        }
        call = call.http(request);
    }
    if let Some(identity) = &asked.identity {
        call = call.tls(Tls {
            sni: "outbound_.80_._.web".to_owned(),
            alpn: vec![if asked.is_http() { "istio-http/1.1" } else { "istio" }.to_owned()],
            certificate: Some(Certificate {
                uris: vec![format!("spiffe://{identity}")],
                dns: Vec::new(),
            }),
            ..Tls::default()
        });
    }
    let trace = follow(config, &call);
    let hop = trace
        .hops
        .first()
        .ok_or_else(|| TestCaseError::fail("the call goes nowhere"))?;
    match hop.refusal() {
        Some(Refusal::Denied) => Ok(false),
        // What comes after the policies is not the question.
        None | Some(Refusal::NoCluster | Refusal::NoEndpoint) => Ok(true),
        Some(_) => Err(TestCaseError::fail(format!("another end: {:?}", hop.outcome))),
    }
}

fn token(claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let head = json!({ "alg": "RS256", "kid": "k", "typ": "JWT" });
    format!("{}.{}.c2ln", part(&head), part(claims))
}

#[test]
fn filters_decide_what_policies_say() {
    let mut runner = TestRunner::new(ProptestConfig {
        cases: 200,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let given = (random::policies(), random::calls());
    let outcome = runner.run(&given, |(policies, calls)| {
        let config = configuration(&policies);
        for asked in &calls {
            let let_in = is_let_in(&config, asked)?;
            let expected = oracle::is_allowed(&policies, asked);
            if let_in != expected {
                let message = format!(
                    "let in: {let_in}, policies say {expected}: {asked:?}\n{}",
                    json!(policies)
                );
                return Err(TestCaseError::fail(message));
            }
        }
        Ok(())
    });
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
}

/// The random cases say something: calls are let in and refused, with policies of both kinds, on both ports.
#[test]
fn random_policies_are_not_all_alike() {
    use proptest::{strategy::Strategy, strategy::ValueTree};
    let mut runner = TestRunner::deterministic();
    let mut seen = std::collections::BTreeMap::<(bool, bool), usize>::new();
    for _ in 0..100 {
        let policies = random::policies().new_tree(&mut runner).expect("policies").current();
        let calls = random::calls().new_tree(&mut runner).expect("calls").current();
        for asked in &calls {
            *seen
                .entry((asked.is_http(), oracle::is_allowed(&policies, asked)))
                .or_default() += 1;
        }
    }
    assert_eq!(seen.len(), 4, "{seen:?}");
    assert!(seen.values().all(|times| *times > 50), "{seen:?}");
}
