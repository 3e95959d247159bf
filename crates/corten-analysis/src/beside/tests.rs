//! Objects as text in, codes and paths out.

use super::*;

/// Two namespaces of the mesh and one beside it, each with a web server and a client.
const CLUSTER: &str = "
- {kind: Namespace, metadata: {name: shop, labels: {istio.io/dataplane-mode: ambient}}}
- {kind: Namespace, metadata: {name: bank, labels: {istio.io/dataplane-mode: ambient, team: money}}}
- {kind: Namespace, metadata: {name: old}}
- kind: Pod
  metadata: {name: web, namespace: shop, labels: {app: web}}
  spec:
    containers:
    - name: c
      ports: [{name: http, containerPort: 8080}]
- kind: Pod
  metadata: {name: probed, namespace: shop, labels: {app: probed}}
  spec:
    containers:
    - name: c
      ports: [{name: http, containerPort: 8080}]
      readinessProbe: {httpGet: {port: http}}
- {kind: Pod, metadata: {name: ended, namespace: shop, labels: {app: ended}}, status: {phase: Succeeded}}
- {kind: Pod, metadata: {name: out, namespace: shop, labels: {app: out, istio.io/dataplane-mode: none}}}
- {kind: Pod, metadata: {name: teller, namespace: bank, labels: {app: teller}}}
- {kind: Pod, metadata: {name: client, namespace: old, labels: {app: client}}}
";

/// What is said about policies in `shop`, given as their specs, when they are there together.
#[track_caller]
fn check(specs: &[&str], expect: &[&str]) {
    let mut text = CLUSTER.to_owned();
    for (index, spec) in specs.iter().enumerate() {
        text.push_str(&format!(
            "- {{kind: NetworkPolicy, metadata: {{name: p{index}, namespace: shop}}, spec: {spec}}}\n"
        ));
    }
    let found = analyze_text(&text);
    let said: Vec<String> = found
        .iter()
        .map(|d| {
            let object = d.object.as_ref().map_or("", |object| object.name.as_str());
            format!("{object} {} {}", d.code, d.path)
        })
        .collect();
    assert_eq!(said, expect, "{found:#?}");
}

fn analyze_text(text: &str) -> Vec<Diagnostic> {
    let (nodes, problems) = corten_api::decode::documents("test", text);
    assert!(problems.is_empty(), "{problems:?}");
    let all: Vec<Value> = nodes
        .iter()
        .flat_map(|node| node.to_value().as_array().cloned().unwrap_or_default())
        .collect();
    let of = |kind: &str| -> Vec<Value> { all.iter().filter(|object| object["kind"] == kind).cloned().collect() };
    let (namespaces, pods, network_policies) = (of("Namespace"), of("Pod"), of("NetworkPolicy"));
    analyze(Objects {
        namespaces: &namespaces,
        pods: &pods,
        network_policies: &network_policies,
    })
}

#[test]
fn ports_without_the_tunnels() {
    let web = |rest: &str| format!("{{podSelector: {{matchLabels: {{app: web}}}}, {rest}}}");
    let missing = ["p0 CRT0104 spec.ingress[0].ports"];
    check(&[&web("ingress: [{ports: [{port: 8080}]}]")], &missing);
    check(&[&web("ingress: [{ports: [{port: http}]}]")], &missing);
    check(&[&web("ingress: [{ports: [{port: 8080}, {port: 15008}]}]")], &[]);
    check(&[&web("ingress: [{ports: [{port: 8000, endPort: 16000}]}]")], &[]);
    check(&[&web("ingress: [{ports: [{protocol: TCP}]}]")], &[]);
    // UDP travels as ever; without ports everything may come; and nothing at all is what deny-all means.
    check(&[&web("ingress: [{ports: [{protocol: UDP, port: 53}]}]")], &[]);
    check(&[&web("ingress: [{from: [{podSelector: {}}]}]")], &[]);
    check(&[&web("policyTypes: [Ingress]")], &[]);
    check(
        &[&web("policyTypes: [Egress], ingress: [{ports: [{port: 8080}]}]")],
        &[],
    );
}

#[test]
fn policies_add_up() {
    let of = |from: &str, port: u16| {
        format!("{{podSelector: {{matchLabels: {{app: web}}}}, ingress: [{{{from}ports: [{{port: {port}}}]}}]}}")
    };
    let bank = "from: [{namespaceSelector: {matchLabels: {team: money}}}], ";
    check(&[&of("", 8080), &of("", 15008)], &[]);
    check(&[&of(bank, 8080), &of(bank, 15008)], &[]);
    check(&[&of(bank, 8080), &of("", 15008)], &[]);
    check(
        &[&of("", 8080), &of(bank, 15008)],
        &["p0 CRT0104 spec.ingress[0].ports"],
    );
}

#[test]
fn only_peers_of_the_mesh_come_in_tunnels() {
    let from = |peer: &str| {
        format!(
            "{{podSelector: {{matchLabels: {{app: web}}}}, ingress: [{{from: [{peer}], ports: [{{port: 8080}}]}}]}}"
        )
    };
    let missing = ["p0 CRT0104 spec.ingress[0].ports"];
    check(&[&from("{podSelector: {matchLabels: {app: probed}}}")], &missing);
    check(&[&from("{podSelector: {matchLabels: {app: out}}}")], &[]);
    check(
        &[&from(
            "{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: bank}}}",
        )],
        &missing,
    );
    check(
        &[&from(
            "{namespaceSelector: {matchExpressions: [{key: team, operator: Exists}]}, podSelector: {matchLabels: {app: teller}}}",
        )],
        &missing,
    );
    check(
        &[&from(
            "{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: old}}}",
        )],
        &[],
    );
    check(&[&from("{ipBlock: {cidr: 192.0.2.0/24}}")], &[]);
    check(&[&from("{ipBlock: {cidr: 0.0.0.0/0}}")], &missing);
}

#[test]
fn egress_likewise() {
    let to =
        |rule: &str| format!("{{podSelector: {{matchLabels: {{app: web}}}}, policyTypes: [Egress], egress: [{rule}]}}");
    check(&[&to("{ports: [{port: 443}]}")], &["p0 CRT0104 spec.egress[0].ports"]);
    check(
        &[&to("{to: [{ipBlock: {cidr: 192.0.2.0/24}}], ports: [{port: 443}]}")],
        &[],
    );
    check(
        &[&to("{ports: [{protocol: UDP, port: 53}]}, {ports: [{port: 15008}]}")],
        &[],
    );
}

#[test]
fn pods_beside_the_mesh_are_nobodys_business() {
    for app in ["out", "ended", "nothing"] {
        check(
            &[&format!(
                "{{podSelector: {{matchLabels: {{app: {app}}}}}, ingress: [{{ports: [{{port: 8080}}]}}]}}"
            )],
            &[],
        );
    }
}

#[test]
fn probes_come_from_their_own_address() {
    let probed = |rest: &str| format!("{{podSelector: {{matchLabels: {{app: probed}}}}, {rest}}}");
    let kept_out = ["p0 CRT0105 spec.ingress"];
    check(&[&probed("policyTypes: [Ingress]")], &kept_out);
    check(&[&probed("ingress: [{from: [{podSelector: {}}]}]")], &kept_out);
    check(&[&probed("ingress: [{ports: [{port: 8080}, {port: 15008}]}]")], &[]);
    check(
        &[&probed(
            "ingress: [{from: [{podSelector: {}}]}, {from: [{ipBlock: {cidr: 169.254.7.127/32}}]}]",
        )],
        &[],
    );
    check(
        &[&probed(
            "ingress: [{from: [{ipBlock: {cidr: 169.254.7.127/32}}], ports: [{port: 9090}]}]",
        )],
        &kept_out,
    );
    check(
        &[&probed(
            "ingress: [{from: [{ipBlock: {cidr: 0.0.0.0/0, except: [169.254.0.0/16]}}]}]",
        )],
        &kept_out,
    );
    // Whatever is wrong in either way is said once for each.
    let both = ["p0 CRT0104 spec.ingress[0].ports", "p0 CRT0105 spec.ingress"];
    check(
        &[&probed("ingress: [{from: [{podSelector: {}}], ports: [{port: 8080}]}]")],
        &both,
    );
}

#[test]
fn one_mode_at_a_time() {
    let namespace = |labels: &str| {
        analyze_text(&format!(
            "- {{kind: Namespace, metadata: {{name: shop, labels: {{{labels}}}}}}}"
        ))
    };
    let ambient = "istio.io/dataplane-mode: ambient";
    let found = namespace(&format!("{ambient}, istio-injection: enabled"));
    assert_eq!(
        (found[0].code, found[0].path.as_str()),
        (TWO_MODES, "metadata.labels[istio-injection]")
    );
    assert_eq!(namespace(&format!("{ambient}, istio.io/rev: blue")).len(), 1);
    assert_eq!(
        namespace(&format!("{ambient}, istio.io/rev: blue, istio-injection: disabled")).len(),
        0
    );
    assert_eq!(namespace(ambient).len(), 0);
    assert_eq!(namespace("istio-injection: enabled").len(), 0);
}

#[test]
fn messages_say_what_to_add() {
    let text = format!(
        "{CLUSTER}- {{kind: NetworkPolicy, metadata: {{name: p, namespace: shop}}, spec: {{podSelector: {{}}, ingress: [{{ports: [{{port: 8080}}]}}]}}}}\n"
    );
    let found = analyze_text(&text);
    let message = found[0].to_string();
    assert!(
        message.contains("NetworkPolicy shop/p: spec.ingress[0].ports") && message.contains("pod web and 1 more"),
        "{message}"
    );
    assert!(message.contains("{protocol: TCP, port: 15008}"), "{message}");
}
