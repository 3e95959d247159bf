//! Analyzers over small objects, each given as text: what is said of them, by code, object and line.

use corten_api::decode::objects;

use crate::analyzers::{ALL, named};
use crate::catalogue;
use crate::objects::Sources;
use crate::{Message, analyze};

fn said(analyzer: &str, text: &str) -> Vec<Message> {
    let (found, problems) = objects("f.yaml", text);
    assert!(problems.is_empty(), "{problems:?}");
    let mut sources = Sources::new("istio-system", 0);
    sources.add_files(found);
    let messages = analyze(&sources.world(), named(&[analyzer]));
    for message in &messages {
        let kind = catalogue::of(message.code);
        let unfilled = |name| message.text.contains(&format!("{{{name}}}"));
        assert!(
            !kind.is_some_and(|kind| kind.parameters().any(unfilled)),
            "{}",
            message.text
        );
    }
    messages
}

#[track_caller]
fn check(analyzer: &str, text: &str, expect: &[&str]) {
    assert!(ALL.iter().any(|known| known.name == analyzer), "{analyzer}");
    let lines: Vec<String> = said(analyzer, text)
        .iter()
        .map(|message| message.line(false, false))
        .collect();
    assert_eq!(lines, expect);
}

const MESHED: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: ns, labels: {istio-injection: enabled}}
---
";

#[test]
fn services_over_one_deployment() {
    let service = |name: &str, port: &str| {
        format!(
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: ns}}\nspec: {{selector: {{app: a}}, ports: [{port}]}}\n"
        )
    };
    let deployment = "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: d\n  namespace: ns\nspec: {selector: {}, template: {metadata: {labels: {app: a}}, spec: {containers: []}}}\n";
    let with = |ports: [&str; 2]| {
        format!(
            "{MESHED}{deployment}{}{}",
            service("a", ports[0]),
            service("b", ports[1])
        )
    };
    check(
        "deployment.MultiServiceAnalyzer",
        &with(["{port: 80}", "{port: 80, protocol: UDP}"]),
        &[
            "Warning [IST0116] (Deployment ns/d f.yaml:9) This deployment d is associated with multiple services using port 80 but different protocols: [ns/a ns/b]",
        ],
    );
    check(
        "deployment.MultiServiceAnalyzer",
        &with(["{port: 80, targetPort: 8080}", "{port: 81, targetPort: 8080}"]),
        &[
            r#"Warning [IST0137] (Deployment ns/d f.yaml:9) This deployment d is associated with multiple services [ns/a ns/b] using targetPort "8080" but different ports: [80 81]."#,
        ],
    );
    check(
        "deployment.MultiServiceAnalyzer",
        &with(["{port: 80}", "{port: 81}"]),
        &[],
    );
}

#[test]
fn webhooks_that_overlap_or_lead_nowhere() {
    let webhook = |name: &str, service: &str| {
        format!(
            "---
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingWebhookConfiguration
metadata: {{name: {name}}}
webhooks:
- name: sidecar-injector.istio.io
  admissionReviewVersions: [v1]
  sideEffects: None
  clientConfig: {{service: {{name: {service}, namespace: istio-system}}}}
  namespaceSelector: {{matchExpressions: [{{key: istio-injection, operator: In, values: [enabled]}}]}}
"
        )
    };
    let service = "---\napiVersion: v1\nkind: Service\nmetadata: {name: istiod, namespace: istio-system}\n";
    check("webhook.Analyzer", &format!("{}{service}", webhook("a", "istiod")), &[]);
    check(
        "webhook.Analyzer",
        &format!("{}{}{service}", webhook("a", "istiod"), webhook("b", "gone")),
        &[
            "Error [IST0139] (MutatingWebhookConfiguration a f.yaml:2) Webhook overlaps with others: [b/sidecar-injector.istio.io]. This may cause injection to occur twice.",
            "Error [IST0139] (MutatingWebhookConfiguration b f.yaml:12) Injector refers to a control plane service that does not exist: istio-system/gone.",
            "Error [IST0139] (MutatingWebhookConfiguration b f.yaml:12) Webhook overlaps with others: [a/sidecar-injector.istio.io]. This may cause injection to occur twice.",
        ],
    );
}

#[test]
fn control_planes_outside_of_the_cluster() {
    let webhook = |client: &str| {
        format!(
            "apiVersion: admissionregistration.k8s.io/v1\nkind: ValidatingWebhookConfiguration\nmetadata: {{name: istio-validator-x}}\nwebhooks:\n- {{name: v.istio.io, admissionReviewVersions: [v1], sideEffects: None, clientConfig: {{{client}}}}}\n"
        )
    };
    let analyzer = "externalcontrolplane.ExternalControlPlaneAnalyzer";
    check(analyzer, &webhook("url: 'https://istiod.example:15017/validate'"), &[]);
    check(analyzer, &webhook("service: {name: a, namespace: b}"), &[]);
    check(
        analyzer,
        &webhook(""),
        &[
            "Warning [IST0163] (ValidatingWebhookConfiguration istio-validator-x f.yaml:5) The hostname () that was provided for the webhook (v.istio.io) to reach the ingress gateway on the external control plane cluster is blank. Traffic may not flow properly.",
        ],
    );
    check(
        analyzer,
        &webhook("url: 'https://1.2.3.4/'"),
        &[
            "Info [IST0164] (ValidatingWebhookConfiguration istio-validator-x f.yaml:5) The address (https://1.2.3.4/) that was provided for the webhook (v.istio.io) to reach the ingress gateway on the external control plane cluster is an IP address. This is not recommended for a production environment.",
        ],
    );
}

#[test]
fn claims_need_somebody_who_verifies_tokens() {
    let objects = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: v, namespace: ns}
spec: {hosts: ['*'], gateways: [mesh, g, gone], http: [{match: [{headers: {'@request.auth.claims.sub': {exact: a}}}]}]}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: g, namespace: ns}
spec: {selector: {istio: gw}}
---
apiVersion: v1
kind: Pod
metadata: {name: p, namespace: edge, labels: {istio: gw}}
";
    let policy = |namespace: &str, labels: &str| {
        format!(
            "{objects}---\napiVersion: security.istio.io/v1\nkind: RequestAuthentication\nmetadata: {{name: r, namespace: {namespace}}}\nspec: {{selector: {{matchLabels: {labels}}}}}\n"
        )
    };
    let message = "Error [IST0149] (VirtualService ns/v f.yaml:2) The virtual service uses the JWT claim based routing (key: @request.auth.claims.sub) but found no request authentication for the gateway (ns/g) pod (p). The request authentication must first be applied for the gateway pods to validate the JWT token and make the claims available for routing.";
    let analyzer = "virtualservice.JWTClaimRouteAnalyzer";
    check(analyzer, objects, &[message]);
    check(analyzer, &policy("ns", "{istio: gw}"), &[message]);
    check(analyzer, &policy("edge", "{istio: other}"), &[message]);
    check(analyzer, &policy("edge", "{istio: gw}"), &[]);
    check(analyzer, &policy("istio-system", "{}"), &[]);
}

#[test]
fn gateways_made_by_the_control_plane_and_by_kubernetes() {
    let service = |gateway: &str| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: v, namespace: ns}}\nspec:\n  hosts: [a.example]\n  gateways:\n  - {gateway}\n"
        )
    };
    let with = |gateway: &str, listener: &str| {
        format!(
            "{}---\napiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: k, namespace: ns}}\nspec: {{gatewayClassName: istio, listeners: [{listener}]}}\n",
            service(gateway)
        )
    };
    let analyzer = "virtualservice.GatewayAnalyzer";
    check(
        analyzer,
        &service("ns/k~istio-autogenerated-k8s-gateway~http"),
        &[
            "Warning [IST0165] (VirtualService ns/v f.yaml:7) Gateway reference in VirtualService ns/v is to an implementation-generated internal Gateway: ns/k~istio-autogenerated-k8s-gateway~http.",
        ],
    );
    check(analyzer, &with("k", "{name: h, port: 80, protocol: HTTP}"), &[]);
    check(
        analyzer,
        &with("k", "{name: h, port: 80, protocol: HTTP, hostname: '*.example'}"),
        &[],
    );
    check(
        analyzer,
        &with("k", "{name: h, port: 80, protocol: HTTP, hostname: b.example}"),
        &[
            "Warning [IST0132] (VirtualService ns/v f.yaml:7) one or more host [a.example] defined in VirtualService ns/v not found in Gateway ns/k.",
        ],
    );
}

#[test]
fn telemetries_for_a_whole_namespace() {
    let telemetry = |name: &str, namespace: &str| {
        format!(
            "---\napiVersion: telemetry.istio.io/v1\nkind: Telemetry\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec: {{}}\n"
        )
    };
    let text = [telemetry("a", "ns"), telemetry("b", "ns"), telemetry("c", "m")].concat();
    let message = |name: &str, line: u8| {
        format!(
            r#"Error [IST0160] (Telemetry ns/{name} f.yaml:{line}) The Telemetries [a b] in namespace "ns" have no workload selector, which can lead to undefined behavior."#
        )
    };
    check(
        "telemetry.DefaultSelectorAnalyzer",
        &text,
        &[&message("a", 2), &message("b", 7)],
    );
}

#[test]
fn patches_that_do_nothing() {
    let filter = |to: &str, operation: &str| {
        format!(
            "apiVersion: networking.istio.io/v1alpha3\nkind: EnvoyFilter\nmetadata: {{name: e, namespace: ns}}\nspec: {{configPatches: [{{applyTo: {to}, patch: {{operation: {operation}, value: {{name: x}}}}}}]}}\n"
        )
    };
    for (to, operation, expected) in [
        ("HTTP_ROUTE", "ADD", Some("IST0153")),
        ("ROUTE_CONFIGURATION", "REMOVE", Some("IST0154")),
        ("CLUSTER", "REPLACE", Some("IST0152")),
        ("VIRTUAL_HOST", "REPLACE", Some("IST0151")),
        ("HTTP_FILTER", "INSERT_BEFORE", Some("IST0151")),
        ("HTTP_FILTER", "INSERT_FIRST", None),
        ("CLUSTER", "MERGE", None),
    ] {
        let found = said("envoyfilter.EnvoyPatchAnalyzer", &filter(to, operation));
        let codes: Vec<&str> = found.iter().map(|message| message.code.0).collect();
        assert_eq!(codes, Vec::from_iter(expected), "{operation} {to}");
    }
}

#[test]
fn services_that_differ_between_clusters() {
    let service = |spec: &str| {
        let text = format!("apiVersion: v1\nkind: Service\nmetadata: {{name: s, namespace: ns}}\nspec: {spec}\n");
        objects("", &text).0
    };
    for (one, two, expected) in [
        ("{ports: [{port: 80}]}", "{ports: [{port: 80, nodePort: 30000}]}", None),
        (
            "{ports: [{port: 80}]}",
            "{ports: [{port: 81}]}",
            Some("service ports are inconsistent"),
        ),
        (
            "{type: ClusterIP}",
            "{type: NodePort}",
            Some("service type is inconsistent"),
        ),
        (
            "{clusterIP: None}",
            "{}",
            Some("service has mixed mode like headless and clusterIP"),
        ),
    ] {
        let mut sources = Sources::new("istio-system", 0);
        sources.add_cluster("east", service(one));
        sources.add_cluster("west", service(two));
        let found = analyze(&sources.world(), named(&["services.MultiClusterServiceAnalyzer"]));
        let lines: Vec<String> = found.iter().map(|message| message.line(false, true)).collect();
        let expected: Vec<String> = expected
            .iter()
            .map(|reason| {
                format!(r#"Warning [IST0170] [cluster-east] (Service ns/s) The service s in namespace "ns" is inconsistent across clusters ["east" "west"], which can lead to undefined behaviors. The inconsistent behaviors are: {reason}."#)
            })
            .collect();
        assert_eq!(lines, expected);
    }
}

#[test]
fn fields_are_named_with_their_line() {
    check(
        "schema.ValidationAnalyzer.Gateway",
        "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: g, namespace: ns}\nspec:\n  servers:\n  - hosts: [a.example]\n    port: {number: 80, name: http, protocol: HTTP}\n    hots: 1\n",
        &["Warning [CRT0005] (Gateway ns/g f.yaml:8) spec.servers[0].hots: unknown field; did you mean hosts?"],
    );
    let found = said(
        "schema.ValidationAnalyzer.Gateway",
        "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: g, namespace: ns}\nspec: {servers: []}\n",
    );
    assert_eq!((found[0].code.0, &*found[0].path), ("IST0106", "spec.servers"));
    assert!(
        found[0].text.starts_with("Schema validation error: spec.servers: "),
        "{}",
        found[0].text
    );
}

#[test]
fn routes_that_are_never_used() {
    let text = "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: v, namespace: ns}
spec:
  hosts: [a.example]
  http:
  - name: first
    match: [{uri: {prefix: /a}}]
    route: [{destination: {host: a}}]
  - match:
    - {uri: {prefix: /a}}
    - {uri: {prefix: /b}}
    route: [{destination: {host: a}}]
  - route: [{destination: {host: a}}]
  - match: [{uri: {prefix: /c}}]
    route: [{destination: {host: a}}]
";
    check(
        "schema.ValidationAnalyzer.VirtualService",
        text,
        &[
            "Warning [IST0130] (VirtualService ns/v f.yaml:15) VirtualService rule #3 not used (http[2] before it has no match and so takes everything).",
            "Info [IST0131] (VirtualService ns/v f.yaml:11) VirtualService rule #1 match #0 is not used (duplicate/overlapping match in rule \"first\").",
        ],
    );
}

#[test]
fn ports_of_names_outside() {
    let service = |name: &str| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: s, namespace: ns}}\nspec:\n  type: ExternalName\n  externalName: a.example\n  ports:\n  - {{name: {name}, port: 9}}\n"
        )
    };
    let message = "Warning [IST0150] (Service ns/s f.yaml:8) Port name for ExternalName service is invalid. Proxy may prevent tcp named ports and unmatched traffic for ports serving TCP protocol from being forwarded correctly";
    check("service.PortNameAnalyzer", &service("tcp"), &[message]);
    check("service.PortNameAnalyzer", &service("x"), &[message]);
    check("service.PortNameAnalyzer", &service("http"), &[]);
}

#[test]
fn network_policies_let_the_mesh_through() {
    let text = "
apiVersion: v1
kind: Namespace
metadata: {name: ns, labels: {istio.io/dataplane-mode: ambient}}
---
apiVersion: v1
kind: Pod
metadata: {name: p, namespace: ns}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: np, namespace: ns}
spec: {podSelector: {}, policyTypes: [Ingress], ingress: [{ports: [{port: 8080}]}]}
";
    let found = said("corten.NetworkPolicyAnalyzer", text);
    assert!(found.iter().any(|message| message.text.contains("15008")), "{found:?}");
    assert_eq!(found[0].reference().as_deref(), Some("f.yaml:13"));
}

#[test]
fn objects_may_say_what_is_not_to_be_said() {
    let namespace = |codes: &str| {
        format!(
            "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: ns\n  annotations: {{galley.istio.io/analyze-suppress: '{codes}'}}\n"
        )
    };
    for (codes, expected) in [("", 1), ("IST0103", 1), ("IST0103, IST0102", 0), ("*", 0)] {
        assert_eq!(said("injection.Analyzer", &namespace(codes)).len(), expected, "{codes}");
    }
}

#[test]
fn files_stand_over_the_cluster() {
    let namespace = |labels: &str| {
        let text = format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: ns, labels: {labels}}}\n");
        objects("f.yaml", &text).0
    };
    let count = |live: &str, file: &str| {
        let mut sources = Sources::new("istio-system", 0);
        sources.add_cluster(crate::objects::DEFAULT_CLUSTER, namespace(live));
        sources.add_files(namespace(file));
        analyze(&sources.world(), named(&["injection.Analyzer"])).len()
    };
    assert_eq!(count("{}", "{istio-injection: enabled}"), 0);
    assert_eq!(count("{istio-injection: enabled}", "{}"), 1);
}

#[test]
fn programs_get_istioctls_keys() {
    let found = said(
        "injection.Analyzer",
        "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: ns\n",
    );
    let value = found[0].to_value(false);
    let keys: Vec<&String> = value.as_object().into_iter().flat_map(|map| map.keys()).collect();
    assert_eq!(
        keys,
        ["code", "documentationUrl", "level", "message", "origin", "reference"]
    );
    assert_eq!(
        (&value["origin"], &value["reference"]),
        (&"Namespace ns".into(), &"f.yaml:4".into())
    );
    assert_eq!(
        value["documentationUrl"],
        "https://istio.io/latest/docs/reference/config/analysis/ist0102/"
    );
}
