//! What is put into Envoy's configuration beside routes: patches, plugins, logs, traces, and who is asked by gRPC.

use corten_e2e::{Namespace, eventually};
use serde_json::Value;

use super::support::{PROVIDERS, Pod, SETTLING, ask, none_rejected, service, start, until, until_status};

/// Patches of the server's listener, of the client's cluster, and a filter whose configuration is sent by itself (ECDS).
const PATCHES: &str = r#"
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: {name: server}
spec:
  workloadSelector: {labels: {app: server}}
  configPatches:
  - applyTo: HTTP_FILTER
    match: {context: SIDECAR_INBOUND, listener: {filterChain: {filter: {name: envoy.filters.network.http_connection_manager, subFilter: {name: envoy.filters.http.router}}}}}
    patch:
      operation: INSERT_BEFORE
      value:
        name: lua
        typed_config:
          '@type': type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua
          default_source_code: {inline_string: "function envoy_on_response(handle) handle:headers():add('x-lua', 'patched') end"}
  - applyTo: HTTP_FILTER
    match: {context: SIDECAR_INBOUND, listener: {filterChain: {filter: {name: envoy.filters.network.http_connection_manager, subFilter: {name: envoy.filters.http.router}}}}}
    patch:
      operation: INSERT_BEFORE
      value:
        name: sent-apart
        config_discovery:
          config_source: {ads: {}, resource_api_version: V3}
          type_urls: [type.googleapis.com/envoy.extensions.filters.http.header_mutation.v3.HeaderMutation]
  - applyTo: EXTENSION_CONFIG
    match: {context: SIDECAR_INBOUND}
    patch:
      operation: ADD
      value:
        name: sent-apart
        typed_config:
          '@type': type.googleapis.com/envoy.extensions.filters.http.header_mutation.v3.HeaderMutation
          mutations: {response_mutations: [{append: {header: {key: x-sent, value: apart}}}]}
---
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: {name: client}
spec:
  workloadSelector: {labels: {app: client}}
  configPatches:
  - applyTo: CLUSTER
    match: {context: SIDECAR_OUTBOUND, cluster: {service: server.NAMESPACE.svc.cluster.local}}
    patch: {operation: MERGE, value: {connect_timeout: 7.5s}}
"#;

/// A plugin of Lua, at the client's side.
const PLUGIN: &str = "
apiVersion: extensions.istio.io/v1alpha1
kind: TrafficExtension
metadata: {name: marks}
spec:
  selector: {matchLabels: {app: client}}
  match: [{mode: CLIENT}]
  lua: {inlineCode: \"function envoy_on_request(handle) handle:headers():add('x-plugin', 'lua') end\"}
";

/// Failures are logged in a form of their own, and every request is traced, by two providers.
const TELEMETRY: &str = "
apiVersion: telemetry.istio.io/v1
kind: Telemetry
metadata: {name: server}
spec:
  selector: {matchLabels: {app: server}}
  accessLogging: [{providers: [{name: short-log}], filter: {expression: response.code >= 400}}]
  tracing: [{providers: [{name: spans-by-zipkin}], randomSamplingPercentage: 100, customTags: {who: {literal: {value: server}}}}]
---
apiVersion: telemetry.istio.io/v1
kind: Telemetry
metadata: {name: client}
spec:
  selector: {matchLabels: {app: client}}
  tracing: [{providers: [{name: spans-by-otel}], randomSamplingPercentage: 100}]
";

pub(crate) fn patches_logs_and_traces(ns: &Namespace<'_>) {
    let pods = [
        Pod::client("client").sidecar(),
        Pod::echo("server").sidecar(),
        Pod::new(
            "collector",
            "{name: app, image: corten.dev/echo, args: [--print]}".to_owned(),
        ),
        Pod::echo("judge"),
    ];
    let grpc = "apiVersion: v1\nkind: Service\nmetadata: {name: judge}\nspec: {selector: {app: judge}, ports: [{name: grpc, port: 9000, targetPort: 8080}]}\n---\n";
    let services = service("server", "app: server", 8080) + &service("collector", "app: collector", 8080) + grpc;
    ns.apply(PROVIDERS);
    start(ns, &pods, &services);
    until_status(ns, "client", "server/", 200);
    patches(ns);
    logs(ns);
    spans(ns);
    judge(ns);
    none_rejected(ns, &["client", "server"]);
}

fn patches(ns: &Namespace<'_>) {
    ns.apply(&PATCHES.replace("NAMESPACE", ns.name()));
    ns.apply(PLUGIN);
    until(ns, "client", "server/", |answer| {
        let marks = (answer.get("x-lua"), answer.get("x-sent"), answer.get("header x-plugin"));
        marks == ("patched", "apart", "lua")
    });
    let clusters = until(
        ns,
        "client",
        "'localhost:15000/config_dump?resource=dynamic_active_clusters'",
        |answer| answer.text.contains("\"7.500s\""),
    );
    assert_eq!(
        clusters.text.matches("\"7.500s\"").count(),
        1,
        "nobody else's is another"
    );
    ns.corten("delete", &["envoyfilter", "server"]).ok();
    until(ns, "client", "server/", |answer| {
        answer.status == 200 && answer.get("x-lua").is_empty() && answer.get("x-sent").is_empty()
    });
}

fn logs(ns: &Namespace<'_>) {
    ns.apply(TELEMETRY);
    // The first that is logged tells that the rule is in force; what succeeds after that is not.
    let lines = || {
        let log = ns.logs(&["server", "-c", "istio-proxy"]);
        let own = log.lines().filter(|line| line.starts_with("short ")).map(str::to_owned);
        own.collect::<Vec<String>>()
    };
    let mut number = 0;
    eventually(SETTLING, || {
        number += 1;
        ask(ns, "client", &format!("'server/bad/{number}?codes=503'"));
        // Envoy writes its log every second, or when there is much of it.
        let found = lines();
        (!found.is_empty())
            .then_some(())
            .ok_or_else(|| format!("nothing after {number} failures"))
    });
    ask(ns, "client", "server/good");
    ask(ns, "client", "'server/last?codes=404'");
    let found = eventually(SETTLING, || {
        let found = lines();
        let complete = found.iter().any(|line| line.contains("/last"));
        complete.then(|| found.clone()).ok_or_else(|| found.join("\n"))
    });
    assert!(found.iter().all(|line| !line.contains("/good")), "{found:?}");
    assert_eq!(found.last().map(String::as_str), Some("short 404 GET /last?codes=404"));
}

/// Spans as a Zipkin gets them, and as a collector of OpenTelemetry does: the test's own, which prints what it is told.
fn spans(ns: &Namespace<'_>) {
    let told = |path: &str| {
        let log = ns.logs(&["collector"]);
        let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let bodies = lines.filter(|line| line["path"].as_str().is_some_and(|found| found.starts_with(path)));
        bodies
            .map(|line| line["body"].as_str().unwrap_or_default().to_owned())
            .collect::<Vec<String>>()
    };
    let number = std::cell::Cell::new(0);
    let calls = || {
        number.set(number.get() + 1);
        ask(ns, "client", &format!("server/traced/{}", number.get()));
    };
    let span = eventually(SETTLING, || {
        calls();
        let spans = told("/api/v2/spans");
        let all = spans
            .iter()
            .filter_map(|body| serde_json::from_str::<Vec<Value>>(body).ok())
            .flatten();
        let traced = all.into_iter().find(|span| {
            span["tags"]["http.url"]
                .as_str()
                .is_some_and(|url| url.contains("/traced/"))
        });
        traced.ok_or_else(|| format!("{} posts, no span of a request", spans.len()))
    });
    let tag = |name: &str| span["tags"][name].as_str().unwrap_or_default().to_owned();
    assert_eq!(
        [
            tag("who"),
            tag("istio.namespace"),
            tag("istio.mesh_id"),
            tag("istio.canonical_service"),
            tag("http.status_code")
        ],
        ["server", ns.name(), "cluster.local", "server", "200"],
        "{span}"
    );
    assert_eq!(span["kind"], "SERVER", "{span}");
    eventually(SETTLING, || {
        calls();
        let spans = told("/v1/traces");
        let traced = spans
            .iter()
            .any(|body| body.contains("istio.canonical_service") && body.contains("/traced/"));
        traced
            .then_some(())
            .ok_or_else(|| format!("{} posts, no span of a request", spans.len()))
    });
}

/// Who is asked by gRPC lets pass what has a header.
fn judge(ns: &Namespace<'_>) {
    ns.apply(
        "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: judged}
spec:
  selector: {matchLabels: {app: server}}
  action: CUSTOM
  provider: {name: asks-by-grpc}
  rules: [{to: [{operation: {paths: [/judged]}}]}]
",
    );
    let denied = until_status(ns, "client", "server/judged", 403);
    assert_eq!(denied.get("x-ext-authz-check-result"), "denied", "{}", denied.text);
    let allowed = until_status(ns, "client", "-H 'x-ext-authz: allow' server/judged", 200);
    assert_eq!(
        allowed.get("header x-ext-authz-check-result"),
        "allowed",
        "{}",
        allowed.text
    );
    assert_eq!(ask(ns, "client", "server/other").status, 200);
    // Without anybody to ask, nothing passes.
    ns.corten("delete", &["pod", "judge"]).ok();
    until_status(ns, "client", "-H 'x-ext-authz: allow' server/judged", 403);
}
