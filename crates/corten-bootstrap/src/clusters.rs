//! Whom Envoy talks to from the start: its agent, the control plane, and who takes traces, metrics and access logs.

use serde_json::{Map, Value, json};

use crate::config::{Problem, place, port};
use crate::stats::with;
use crate::{Family, Inputs};

/// The agent, where certificates come from.
pub(crate) const SECRETS: &str = "sds-grpc";
/// The control plane.
pub(crate) const DISCOVERY: &str = "xds-grpc";
/// Envoy's own administration.
pub(crate) const ADMIN: &str = "prometheus_stats";
/// The agent, where everything else is asked.
pub(crate) const AGENT: &str = "agent";
/// The proxies of the same service, for balancing by zone.
pub(crate) const OWN: &str = "local_cluster";
/// Who takes metrics.
pub(crate) const METRICS: &str = "envoy_metrics_service";
/// Who takes access logs.
const ACCESS_LOGS: &str = "envoy_accesslog_service";

/// Who takes traces.
pub(crate) struct Tracer {
    cluster: Value,
    /// What Envoy is told of it.
    pub(crate) config: Value,
}

impl Tracer {
    /// What the configuration says of traces.
    pub(crate) fn of(inputs: &Inputs<'_>, problems: &mut Vec<Problem>) -> Option<Tracer> {
        let tracing = &inputs.config["tracing"];
        let kind = ["zipkin", "lightstep", "datadog", "stackdriver", "openCensusAgent"];
        let kind = kind.into_iter().find(|kind| !tracing[kind].is_null())?;
        let field = format!("tracing.{kind}");
        if !matches!(kind, "zipkin" | "datadog") {
            problems.push(Problem::new(
                &field,
                "has no effect: Envoy speaks this no more; an extension provider of the mesh can be named in a Telemetry",
            ));
            return None;
        }
        let text = tracing[kind]["address"].as_str().filter(|text| !text.is_empty())?;
        let (host, port) = match place(text, inputs.host_ip) {
            Ok(place) => place,
            Err(reason) => {
                problems.push(Problem::new(&format!("{field}.address"), reason));
                return None;
            }
        };
        let name = if kind == "zipkin" { kind } else { "datadog_agent" };
        let mut cluster = named(inputs.family(), name, address(&host, port));
        if kind == "zipkin" {
            cluster["dnsRefreshRate"] = json!("30s");
        }
        unheeded_tls("tracing", tracing, problems);
        // Collectors of traces speak HTTP/1.1.
        let cluster = with(
            cluster,
            "transportSocket",
            tls(inputs, &tracing["tlsSettings"], "tracer", false),
        );
        let config = if kind == "zipkin" {
            json!({
                "@type": "type.googleapis.com/envoy.config.trace.v3.ZipkinConfig",
                "collectorCluster": name,
                "collectorEndpoint": "/api/v2/spans",
                "collectorEndpointVersion": "HTTP_JSON",
                "traceId128bit": true,
                "sharedSpanContext": false,
            })
        } else {
            json!({
                "@type": "type.googleapis.com/envoy.config.trace.v3.DatadogConfig",
                "collectorCluster": name,
                "serviceName": crate::metadata::service_cluster(inputs.config, inputs.metadata),
            })
        };
        Some(Tracer {
            cluster,
            config: json!({"http": {"name": format!("envoy.tracers.{kind}"), "typedConfig": config}}),
        })
    }
}

/// A place in Envoy's words.
pub(crate) fn address(host: &str, port: u64) -> Value {
    json!({"socketAddress": {"address": host, "portValue": port}})
}

/// All of them.
pub(crate) fn all(
    inputs: &Inputs<'_>,
    family: Family,
    traces: Option<&Tracer>,
    problems: &mut Vec<Problem>,
) -> Vec<Value> {
    let local = |name: &str, field: &str| {
        let at = address(family.loopback, u64::from(port(inputs.config, field)));
        json!({
            "name": name, "altStatName": format!("{name};"), "type": "STATIC", "connectTimeout": "0.250s", "lbPolicy": "ROUND_ROBIN",
            "loadAssignment": assignment(name, &at),
        })
    };
    let mut clusters = vec![
        local(ADMIN, "proxyAdminPort"),
        local(AGENT, "statusPort"),
        json!({
            "name": SECRETS,
            "altStatName": format!("{SECRETS};"),
            "type": "STATIC",
            "connectTimeout": "1s",
            "lbPolicy": "ROUND_ROBIN",
            "typedExtensionProtocolOptions": http2(),
            "loadAssignment": assignment(SECRETS, &json!({"pipe": {"path": inputs.secrets}})),
        }),
        discovery(inputs),
    ];
    clusters.extend(traces.map(|tracer| tracer.cluster.clone()));
    for (field, name) in [("envoyMetricsService", METRICS), ("envoyAccessLogService", ACCESS_LOGS)] {
        let Some((text, service)) = service(inputs, field) else {
            continue;
        };
        let (host, port) = match place(text, inputs.host_ip) {
            Ok(place) => place,
            Err(reason) => {
                problems.push(Problem::new(&format!("{field}.address"), reason));
                // Metrics name their cluster, which has to be there.
                (String::from("localhost"), 1)
            }
        };
        unheeded_tls(field, service, problems);
        let cluster = named(family, name, address(&host, port));
        let cluster = with(cluster, "typedExtensionProtocolOptions", Some(http2()));
        let cluster = with(
            cluster,
            "transportSocket",
            tls(inputs, &service["tlsSettings"], name, true),
        );
        clusters.push(with(
            cluster,
            "upstreamConnectionOptions",
            keepalive(&service["tcpKeepalive"]),
        ));
    }
    if inputs.says("ENABLE_SELF_DISCOVERY") == "true" {
        clusters.push(json!({
            "name": OWN,
            "altStatName": format!("{OWN};"),
            "type": "EDS",
            "connectTimeout": "1s",
            "loadBalancingPolicy": {"policies": [{"typedExtensionConfig": {
                "name": "envoy.load_balancing_policies.least_request",
                "typedConfig": {
                    "@type": "type.googleapis.com/envoy.extensions.load_balancing_policies.least_request.v3.LeastRequest",
                    "localityLbConfig": {"zoneAwareLbConfig": {"minClusterSize": "1"}},
                },
            }}]},
            "edsClusterConfig": {"edsConfig": {"ads": {}, "resourceApiVersion": "V3"}, "serviceName": OWN},
        }));
    }
    clusters
}

/// The address of a service that takes what Envoy has to say, and all of its settings.
pub(crate) fn service<'a>(inputs: &Inputs<'a>, field: &str) -> Option<(&'a str, &'a Value)> {
    let service = &inputs.config[field];
    let address = service["address"].as_str().filter(|text| !text.is_empty());
    let old = || {
        inputs.config[&format!("{field}Address")]
            .as_str()
            .filter(|text| !text.is_empty())
    };
    Some((address.or_else(old)?, service))
}

/// The control plane: with mutual TLS by the workload's own certificate, which whoever asks has to wait for.
fn discovery(inputs: &Inputs<'_>) -> Value {
    let (host, port) = inputs.discovery;
    let name = inputs.discovery_name;
    let many = |priority: &str| json!({"priority": priority, "maxConnections": 100_000, "maxPendingRequests": 100_000, "maxRequests": 100_000});
    let waiting = |name: &str| {
        let mut secret = secret(name);
        secret["sdsConfig"]["initialFetchTimeout"] = json!("0s");
        secret
    };
    json!({
        "name": DISCOVERY,
        "altStatName": format!("{DISCOVERY};"),
        "type": "STRICT_DNS",
        "respectDnsTtl": true,
        "dnsLookupFamily": "V4_PREFERRED",
        "connectTimeout": "1s",
        "lbPolicy": "ROUND_ROBIN",
        "loadAssignment": assignment(DISCOVERY, &address(host, u64::from(port))),
        "circuitBreakers": {"thresholds": [many("DEFAULT"), many("HIGH")]},
        "upstreamConnectionOptions": {"tcpKeepalive": {"keepaliveTime": 300}},
        "maxRequestsPerConnection": 1,
        "typedExtensionProtocolOptions": http2(),
        "transportSocket": {
            "name": "envoy.transport_sockets.tls",
            "typedConfig": {
                "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
                "sni": name,
                "commonTlsContext": {
                    "alpnProtocols": ["h2"],
                    "tlsCertificateSdsSecretConfigs": [waiting("default")],
                    "combinedValidationContext": {
                        "defaultValidationContext": {
                            "matchTypedSubjectAltNames": [{"sanType": "DNS", "matcher": {"exact": name}}],
                        },
                        "validationContextSdsSecretConfig": waiting("ROOTCA"),
                    },
                },
            },
        },
    })
}

/// A cluster by a name that is asked for.
fn named(family: Family, name: &str, at: Value) -> Value {
    json!({
        "name": name,
        "altStatName": format!("{name};"),
        "type": "STRICT_DNS",
        "respectDnsTtl": true,
        "dnsLookupFamily": family.lookup,
        "connectTimeout": "1s",
        "lbPolicy": "ROUND_ROBIN",
        "loadAssignment": assignment(name, &at),
    })
}

/// A secret of the agent.
pub(crate) fn secret(name: &str) -> Value {
    json!({"name": name, "sdsConfig": {
        "apiConfigSource": {
            "apiType": "GRPC",
            "transportApiVersion": "V3",
            "setNodeOnFirstMessageOnly": true,
            "grpcServices": [{"envoyGrpc": {"clusterName": SECRETS}}],
        },
        "resourceApiVersion": "V3",
    }})
}

/// What of the settings of TLS to a service takes no effect.
fn unheeded_tls(of: &str, service: &Value, problems: &mut Vec<Problem>) {
    for (field, reason) in [
        (
            "caCrl",
            "has no effect: certificates that are called back are not known",
        ),
        (
            "credentialName",
            "has no effect: files are named by clientCertificate and privateKey",
        ),
        (
            "insecureSkipVerify",
            "has no effect: the service's certificate is verified",
        ),
    ] {
        let said = &service["tlsSettings"][field];
        if !said.is_null() && *said != false && *said != "" {
            problems.push(Problem::new(&format!("{of}.tlsSettings.{field}"), reason));
        }
    }
}

/// TLS to a service, as its settings say; files are read by the agent.
fn tls(inputs: &Inputs<'_>, settings: &Value, sni: &str, h2: bool) -> Option<Value> {
    let mode = settings["mode"].as_str().unwrap_or("DISABLE");
    // Where the workload brings files of its own, they are meant for everything.
    let file = |own: &str, field: &str| -> String {
        let own = inputs.says(own);
        let said = settings[field].as_str().unwrap_or_default();
        if own.is_empty() { said } else { own }.to_owned()
    };
    let names = settings["subjectAltNames"].as_array().into_iter().flatten();
    let names: Vec<Value> = names.map(|name| json!({"exact": name})).collect();
    let validation = if names.is_empty() {
        json!({})
    } else {
        json!({"matchSubjectAltNames": names})
    };
    let mut common = json!({"combinedValidationContext": {"defaultValidationContext": validation}});
    if mode == "ISTIO_MUTUAL" {
        common["tlsCertificateSdsSecretConfigs"] = json!([secret("default")]);
        common["combinedValidationContext"]["validationContextSdsSecretConfig"] = secret("ROOTCA");
    } else if matches!(mode, "SIMPLE" | "MUTUAL") {
        let root = file("TLS_CLIENT_ROOT_CERT", "caCertificates");
        // Nothing said: whom the operating system trusts, so that somebody is asked for.
        let root = if root.is_empty() { "system" } else { &root };
        common["combinedValidationContext"]["validationContextSdsSecretConfig"] = secret(&format!("file-root:{root}"));
        let own = (
            file("TLS_CLIENT_CERT_CHAIN", "clientCertificate"),
            file("TLS_CLIENT_KEY", "privateKey"),
        );
        if mode == "MUTUAL" && !own.0.is_empty() && !own.1.is_empty() {
            let name = format!("file-cert:{}~{}", own.0, own.1);
            common["tlsCertificateSdsSecretConfigs"] = json!([secret(&name)]);
        }
    } else {
        return None;
    }
    if h2 {
        let istio: &[&str] = if mode == "ISTIO_MUTUAL" {
            &["istio", "h2"]
        } else {
            &["h2"]
        };
        common["alpnProtocols"] = json!(istio);
    }
    let mut context = json!({
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        "commonTlsContext": common,
    });
    let said = settings["sni"].as_str().unwrap_or_default();
    if !said.is_empty() {
        context["sni"] = json!(said);
    } else if mode == "ISTIO_MUTUAL" {
        context["sni"] = json!(sni);
    }
    Some(json!({"name": "envoy.transport_sockets.tls", "typedConfig": context}))
}

/// How an idle connection is watched.
fn keepalive(settings: &Value) -> Option<Value> {
    settings.as_object()?;
    let mut made = Map::new();
    if let Some(probes) = settings["probes"].as_u64().filter(|probes| *probes > 0) {
        made.insert("keepaliveProbes".to_owned(), json!(probes));
    }
    for (field, name) in [("time", "keepaliveTime"), ("interval", "keepaliveInterval")] {
        let read = settings[field]
            .as_str()
            .and_then(|text| corten_core::Duration::parse(text).ok());
        if let Some(seconds) = read.and_then(corten_core::Duration::to_std).map(|read| read.as_secs())
            && seconds > 0
        {
            made.insert(name.to_owned(), json!(seconds));
        }
    }
    Some(json!({"tcpKeepalive": made}))
}

fn http2() -> Value {
    json!({"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicitHttpConfig": {"http2ProtocolOptions": {}},
    }})
}

fn assignment(cluster: &str, address: &Value) -> Value {
    json!({"clusterName": cluster, "endpoints": [{"lbEndpoints": [{"endpoint": {"address": address}}]}]})
}
