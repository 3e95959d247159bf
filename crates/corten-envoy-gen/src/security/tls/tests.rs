//! TLS of clusters and listeners, as tables: what is wanted, and what Envoy is told.

use corten_api::istio::{
    destination_rule::{ClientTLSSettings, ClientTLSSettingsTLSmode as Mode},
    mesh_config::{CertificateData, MeshConfig, TLSConfig, TLSConfigTLSProtocol},
    peer_authentication::MutualTLSMode,
};
use corten_envoy::message_to_json;
use serde_json::{Value, json};

use super::{Files, Inbound, Outbound, inbound, outbound, trust_domains, tunnel_inbound};

fn settings(mode: Mode) -> ClientTLSSettings {
    ClientTLSSettings {
        mode,
        ..ClientTLSSettings::default()
    }
}

/// What a cluster does, in one line for each kind of endpoint: `match: socket`.
fn shown(wanted: &Outbound<'_>) -> Vec<String> {
    let upstream = outbound(wanted);
    let mut lines: Vec<String> = Vec::new();
    if let Some(socket) = &upstream.socket {
        lines.push(format!("all: {}", of_socket(&message_to_json(socket).expect("JSON"))));
    }
    for one in &upstream.matches {
        let json = message_to_json(one).expect("JSON");
        let labels = json
            .get("match")
            .map_or_else(|| "anything".to_owned(), Value::to_string);
        lines.push(format!(
            "{} {labels}: {}",
            one.name,
            of_socket(&json["transportSocket"])
        ));
    }
    if upstream.name_of_request {
        lines.push("auto_sni".to_owned());
    }
    if upstream.verify_name_of_request {
        lines.push("auto_san_validation".to_owned());
    }
    lines.extend(upstream.problem.map(|problem| format!("problem: {problem}")));
    lines
}

fn of_socket(socket: &Value) -> String {
    let config = &socket["typedConfig"];
    match config["@type"].as_str().unwrap_or_default().rsplit('.').next() {
        Some("RawBuffer") => "plain".to_owned(),
        Some("InternalUpstreamTransport") => format!("tunnel({})", of_socket(&config["transportSocket"])),
        _ => {
            let common = &config["commonTlsContext"];
            let validation = &common["combinedValidationContext"];
            let names: Vec<String> = validation["defaultValidationContext"]["matchTypedSubjectAltNames"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|name| {
                    format!(
                        "{}={}",
                        name["sanType"].as_str().unwrap_or("?"),
                        name["matcher"]["exact"]
                    )
                })
                .collect();
            format!(
                "tls sni={} cert={} roots={} names={names:?} alpn={}",
                config["sni"],
                common["tlsCertificateSdsSecretConfigs"][0]["name"],
                validation["validationContextSdsSecretConfig"]["name"],
                common["alpnProtocols"],
            )
        }
    }
}

const MESH: &str = r#"tls sni="outbound_.80_._.a" cert="default" roots="ROOTCA" names=["URI=\"spiffe://td/ns/x/sa/y\""] alpn=["istio"]"#;

fn of_mesh() -> Vec<String> {
    vec!["spiffe://td/ns/x/sa/y".to_owned()]
}

#[test]
fn mutual_tls_is_automatic_where_the_host_takes_it() {
    let identities = of_mesh();
    let base = Outbound {
        cluster: "outbound|80||a",
        server_name: "outbound_.80_._.a",
        identities: &identities,
        ..Outbound::default()
    };
    for (automatic, external, tunnels, expected) in [
        (None, false, false, vec![]),
        (Some(MutualTLSMode::Disable), false, false, vec![]),
        (Some(MutualTLSMode::Unset), false, false, vec![]),
        (Some(MutualTLSMode::Strict), true, false, vec![]),
        (
            Some(MutualTLSMode::Permissive),
            false,
            false,
            vec![
                format!("tlsMode-istio {{\"tlsMode\":\"istio\"}}: {MESH}"),
                "tlsMode-disabled {}: plain".to_owned(),
            ],
        ),
        (
            Some(MutualTLSMode::Strict),
            false,
            true,
            vec![
                "hbone {\"tunnel\":\"http\"}: tunnel(plain)".to_owned(),
                format!("tlsMode-istio {{\"tlsMode\":\"istio\"}}: {MESH}"),
                "tlsMode-disabled {}: plain".to_owned(),
            ],
        ),
        (
            None,
            false,
            true,
            vec![
                "hbone {\"tunnel\":\"http\"}: tunnel(plain)".to_owned(),
                "tlsMode-disabled {}: plain".to_owned(),
            ],
        ),
    ] {
        let wanted = Outbound {
            automatic,
            mesh_external: external,
            tunnels,
            ..base
        };
        assert_eq!(
            shown(&wanted),
            expected,
            "{automatic:?}, external {external}, tunnels {tunnels}"
        );
    }
}

#[test]
fn rules_say_which_tls() {
    let identities = of_mesh();
    let external = vec!["a.example".to_owned()];
    let base = Outbound {
        cluster: "outbound|80||a",
        server_name: "outbound_.80_._.a",
        identities: &identities,
        automatic: Some(MutualTLSMode::Strict),
        ..Outbound::default()
    };
    let named = ClientTLSSettings {
        sni: "b.example".to_owned(),
        subject_alt_names: vec!["b.example".to_owned(), "10.0.0.1".to_owned()],
        ca_certificates: "/etc/ca.pem".to_owned(),
        ..settings(Mode::Simple)
    };
    let mutual = ClientTLSSettings {
        client_certificate: "/c".to_owned(),
        private_key: "/k".to_owned(),
        ..settings(Mode::Mutual)
    };
    let credential = ClientTLSSettings {
        credential_name: "secret".to_owned(),
        ..settings(Mode::Mutual)
    };
    let public = ClientTLSSettings {
        credential_name: "configmap://x/roots".to_owned(),
        ..settings(Mode::Simple)
    };
    let refused = r#"all: tls sni=null cert=null roots="file-root:system" names=["DNS=\"refused.invalid\""] alpn=null"#;
    for (name, settings, credentials, expected) in [
        ("none", settings(Mode::Disable), false, vec![]),
        ("of the mesh", settings(Mode::IstioMutual), false, vec![format!("all: {MESH}")]),
        (
            "by the system's authorities",
            settings(Mode::Simple),
            false,
            vec![
                r#"all: tls sni=null cert=null roots="file-root:system" names=["DNS=\"a.example\""] alpn=null"#.to_owned(),
                "auto_sni".to_owned(),
                "auto_san_validation".to_owned(),
            ],
        ),
        (
            "with names",
            named,
            false,
            vec![r#"all: tls sni="b.example" cert=null roots="file-root:/etc/ca.pem" names=["DNS=\"b.example\"", "IP_ADDRESS=\"10.0.0.1\""] alpn=null"#.to_owned()],
        ),
        (
            "files",
            mutual,
            false,
            vec![
                r#"all: tls sni=null cert="file-cert:/c~/k" roots="file-root:system" names=["DNS=\"a.example\""] alpn=null"#.to_owned(),
                "auto_sni".to_owned(),
                "auto_san_validation".to_owned(),
            ],
        ),
        (
            "no files",
            settings(Mode::Mutual),
            false,
            vec![
                refused.to_owned(),
                "auto_sni".to_owned(),
                "auto_san_validation".to_owned(),
                "problem: clientCertificate and privateKey must both be given for TLS of mode MUTUAL".to_owned(),
            ],
        ),
        (
            "a credential",
            credential.clone(),
            true,
            vec![
                r#"all: tls sni=null cert="kubernetes://secret" roots="kubernetes://secret-cacert" names=["DNS=\"a.example\""] alpn=null"#.to_owned(),
                "auto_sni".to_owned(),
                "auto_san_validation".to_owned(),
            ],
        ),
        (
            "a credential for a sidecar",
            credential,
            false,
            vec![
                refused.to_owned(),
                "auto_sni".to_owned(),
                "auto_san_validation".to_owned(),
                "problem: credentialName 'secret' is not for sidecars: give the rule a workloadSelector, or use files".to_owned(),
            ],
        ),
        (
            "authorities that are no secret",
            public,
            false,
            vec![
                r#"all: tls sni=null cert=null roots="configmap://x/roots-cacert" names=["DNS=\"a.example\""] alpn=null"#.to_owned(),
                "auto_sni".to_owned(),
                "auto_san_validation".to_owned(),
            ],
        ),
    ] {
        let wanted = Outbound {
            settings: Some(&settings),
            credentials,
            external_names: &external,
            ..base
        };
        assert_eq!(shown(&wanted), expected, "{name}");
    }
}

#[test]
fn tls_that_the_host_is_to_see_goes_inside_tunnels() {
    let simple = settings(Mode::Simple);
    let mutual = settings(Mode::IstioMutual);
    let shown = |settings| {
        let wanted = Outbound {
            settings: Some(settings),
            tunnels: true,
            cluster: "c",
            ..Outbound::default()
        };
        let lines = shown(&wanted);
        lines
            .iter()
            .map(|line| line.chars().take(44).collect())
            .collect::<Vec<String>>()
    };
    assert_eq!(
        shown(&simple),
        [
            "hbone {\"tunnel\":\"http\"}: tunnel(tls sni=null",
            "user anything: tls sni=null cert=null roots=",
            "auto_sni",
            "auto_san_validation"
        ]
    );
    assert_eq!(
        shown(&mutual),
        [
            "hbone {\"tunnel\":\"http\"}: tunnel(plain)",
            "tlsMode-istio anything: tls sni=\"c\" cert=\"de"
        ]
    );
}

#[test]
fn a_workload_may_bring_its_own_certificates() {
    let files = Files {
        certificate: "/c".to_owned(),
        key: "/k".to_owned(),
        authorities: "/ca".to_owned(),
        own_agent: true,
    };
    let identities = of_mesh();
    let wanted = Outbound {
        automatic: Some(MutualTLSMode::Strict),
        identities: &identities,
        server_name: "s",
        files: Some(&files),
        ..Outbound::default()
    };
    assert_eq!(
        shown(&wanted)[0],
        r#"tlsMode-istio {"tlsMode":"istio"}: tls sni="s" cert="file-cert:/c~/k" roots="file-root:/ca" names=["URI=\"spiffe://td/ns/x/sa/y\""] alpn=null"#
    );
    let context = inbound(&Inbound {
        trust_domains: &[],
        settings: None,
        files: Some(&files),
    });
    let json = message_to_json(&context).expect("JSON");
    let common = &json["commonTlsContext"];
    assert_eq!(common["tlsCertificateSdsSecretConfigs"][0]["name"], "file-cert:/c~/k");
    assert_eq!(
        common["combinedValidationContext"]["validationContextSdsSecretConfig"]["sdsConfig"]["apiConfigSource"]["grpcServices"]
            [0]["envoyGrpc"]["clusterName"],
        "sds-files-grpc"
    );
}

#[test]
fn workloads_serve_the_identities_of_the_mesh() {
    let mesh = MeshConfig {
        trust_domain: "td".to_owned(),
        trust_domain_aliases: vec!["old".to_owned()],
        ca_certificates: vec![CertificateData {
            trust_domains: vec!["far".to_owned(), "td".to_owned()],
            ..CertificateData::default()
        }],
        mesh_mtls: Some(TLSConfig {
            min_protocol_version: TLSConfigTLSProtocol::Tlsv13,
            cipher_suites: vec!["ECDHE-RSA-AES128-GCM-SHA256".to_owned()],
            ..TLSConfig::default()
        }),
        ..MeshConfig::default()
    };
    let trusted = trust_domains(&mesh);
    assert_eq!(trusted, ["td", "old", "far"]);
    let context = inbound(&Inbound {
        trust_domains: &trusted,
        settings: mesh.mesh_mtls.as_ref(),
        files: None,
    });
    let agent = json!({ "apiConfigSource": {
        "apiType": "GRPC", "setNodeOnFirstMessageOnly": true, "transportApiVersion": "V3",
        "grpcServices": [{ "envoyGrpc": { "clusterName": "sds-grpc" } }],
    }, "initialFetchTimeout": "0s", "resourceApiVersion": "V3" });
    let names: Vec<Value> = ["spiffe://td/", "spiffe://old/", "spiffe://far/"]
        .iter()
        .map(|prefix| json!({ "sanType": "URI", "matcher": { "prefix": prefix } }))
        .collect();
    assert_eq!(
        message_to_json(&context).expect("JSON"),
        json!({
            "commonTlsContext": {
                "tlsParams": {
                    "tlsMinimumProtocolVersion": "TLSv1_3", "tlsMaximumProtocolVersion": "TLSv1_3",
                    "cipherSuites": ["ECDHE-RSA-AES128-GCM-SHA256"],
                },
                "alpnProtocols": ["h2", "http/1.1"],
                "tlsCertificateSdsSecretConfigs": [{ "name": "default", "sdsConfig": agent }],
                "combinedValidationContext": {
                    "defaultValidationContext": { "matchTypedSubjectAltNames": names },
                    "validationContextSdsSecretConfig": { "name": "ROOTCA", "sdsConfig": agent },
                },
            },
            "requireClientCertificate": true,
        })
    );
    let tunnel = message_to_json(&tunnel_inbound(&trusted)).expect("JSON");
    assert_eq!(tunnel["commonTlsContext"]["alpnProtocols"], json!(["h2"]));
    assert_eq!(
        tunnel["commonTlsContext"]["tlsParams"]["tlsMinimumProtocolVersion"],
        "TLSv1_3"
    );
}
