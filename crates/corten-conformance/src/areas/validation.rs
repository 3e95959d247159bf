//! Area `istio-validation`: tables of objects, fragments and single values that Istio accepts or refuses, and documents
//! that the schemas of the custom resources accept or refuse.

use anyhow::{Context, Result};
use corten_api::{
    codec::FieldProblem,
    crds::{Channel, schema},
    decode::{Node, SpannedObject},
    diagnostic::{Diagnostic, Severity},
    istio::{
        destination_rule::{ClientTLSSettings, LocalityLoadBalancerSetting, ZoneAwareLoadBalancerSetting},
        extension_providers::MeshConfigExtensionProvider,
        mesh_config::DefaultTrafficPolicy,
        mesh_networks::MeshNetworks,
        proxy_config::ProxyConfig,
        virtual_service::HTTPRetry,
    },
    validate::{self, Report, mesh_config::fragment, text},
};
use corten_schema::{Schema, validate::validate as validate_schema};
use serde_json::{Value, json};

use crate::accepted;
use crate::data::{self, Area};
use crate::outcome::{Case, Outcome};

/// Runs the tables and the documents.
pub(crate) fn run(area: &Area) -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    for (relative, path) in area.files("yaml")? {
        if relative.starts_with("crd-documents/") {
            documents(area, &relative, &path, &mut cases)?;
            continue;
        }
        let table = data::document(&path)?;
        let name = table["table"].as_str().unwrap_or_default();
        for (row, case) in data::rows(&table) {
            let verdict = judge(name, case);
            if verdict.as_ref().is_some_and(|verdict| verdict.errors.is_empty()) && case["resource"].is_object() {
                accepted::objects(std::slice::from_ref(&case["resource"]))?;
            }
            let outcome = verdict.map_or_else(
                || Outcome::Skipped(format!("no validator for table {name}")),
                |verdict| verdict.compared_with(case),
            );
            cases.push(Case {
                area: area.name.clone(),
                case: format!("{relative}: {row}"),
                outcome,
            });
        }
    }
    Ok(cases)
}

/// What the product says of a case.
#[derive(Default)]
struct Verdict {
    errors: Vec<String>,
    warnings: Vec<String>,
}

impl Verdict {
    fn compared_with(&self, case: &Value) -> Outcome {
        let valid = case["valid"].as_bool().unwrap_or(true);
        if valid != self.errors.is_empty() {
            return Outcome::Failed(match valid {
                true => format!("refused: {}", self.errors.join("; ")),
                false => format!("accepted, expected an error about {}", case["errorContains"]),
            });
        }
        match case["warning"].as_bool() {
            Some(true) if self.warnings.is_empty() => Outcome::Failed("no warning".to_owned()),
            Some(false) if !self.warnings.is_empty() => {
                Outcome::Failed(format!("warned: {}", self.warnings.join("; ")))
            }
            _ => Outcome::Passed,
        }
    }

    fn of<T>(found: Vec<T>, part: impl Fn(T) -> (Severity, String)) -> Verdict {
        let mut verdict = Verdict::default();
        for finding in found {
            match part(finding) {
                (Severity::Error, text) => verdict.errors.push(text),
                (_, text) => verdict.warnings.push(text),
            }
        }
        verdict
    }

    fn diagnostics(found: Vec<Diagnostic>) -> Verdict {
        Verdict::of(found, |d| (d.severity, d.to_string()))
    }

    fn problems(found: Vec<FieldProblem>) -> Verdict {
        Verdict::of(found, |p| (p.severity, format!("{}: {}", p.path, p.message)))
    }

    fn result(result: Result<(), String>) -> Verdict {
        Verdict {
            errors: result.err().into_iter().collect(),
            warnings: Vec::new(),
        }
    }
}

fn judge(table: &str, case: &Value) -> Option<Verdict> {
    if case.get("resource").is_some() {
        return Some(Verdict::diagnostics(validate::object(&SpannedObject::from_value(
            &case["resource"],
        ))));
    }
    if let Some(scalar) = table.strip_prefix("scalar-") {
        return scalar_verdict(scalar, case).map(Verdict::result);
    }
    mesh_verdict(table, case).map(Verdict::problems)
}

fn scalar_verdict(table: &str, case: &Value) -> Option<Result<(), String>> {
    let text = case["in"].as_str().unwrap_or_default();
    Some(match table {
        "export-to" => return Some(export_to(case)),
        "fqdn" => text::fqdn(text),
        "http-header-name" => text::matched_header_name(text),
        "http-header-name-strict" => text::strict_header_name(text),
        "http-header-value" => text::header_value(text),
        "http-status" => text::http_status(case["in"].as_i64().unwrap_or_default()),
        "ip-address" => text::ip_address(text),
        "ip-subnet" => text::ip_subnet(text),
        "port-name" => text::port_name(text),
        "trust-domain" => text::trust_domain(text),
        "wildcard-domain" => text::wildcard_domain(text),
        "wildcard-domain-vs-gateway" => text::gateway_domain(text, case["sni"].as_bool().unwrap_or_default()),
        _ => return None,
    })
}

fn strings(value: &Value) -> Vec<String> {
    value
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|v| v.as_str().map(str::to_owned))
        .collect()
}

fn export_to(case: &Value) -> Result<(), String> {
    let mut report = Report::default();
    let of = validate::ExportTo {
        namespace: case["namespace"].as_str().unwrap_or_default(),
        service_entry: case["isServiceEntry"].as_bool().unwrap_or_default(),
        selected_workloads: case["isDestinationRuleWithSelector"].as_bool().unwrap_or_default(),
    };
    validate::export_to(&strings(&case["exportTo"]), of, &mut report);
    match report.into_findings().into_iter().next() {
        Some(finding) => Err(finding.message),
        None => Ok(()),
    }
}

fn mesh_verdict(table: &str, case: &Value) -> Option<Vec<FieldProblem>> {
    let root = Node::from_value(&case["in"]);
    let detects_outliers = !case["outlierDetection"].is_null();
    let message = case["message"].as_str().unwrap_or_default();
    if table == "sub-ServerPort" {
        let server = json!({ "port": case["in"], "bind": case["bind"], "hosts": ["*"] });
        let gateway = json!({
            "apiVersion": "networking.istio.io/v1", "kind": "Gateway",
            "metadata": { "name": "some-config" }, "spec": { "servers": [server] },
        });
        let found = validate::object(&SpannedObject::from_value(&gateway)).into_iter();
        let found = found.filter(|d| d.path.starts_with("spec.servers[0].port"));
        let problem = |d: Diagnostic| FieldProblem {
            code: d.code,
            severity: d.severity,
            path: d.path,
            at: root.at,
            message: d.message,
        };
        return Some(found.map(problem).collect());
    }
    if table == "mesh-ExtensionProviderService" {
        let mut report = Report::default();
        validate::extension_service("service", root.as_str().unwrap_or_default(), &mut report);
        return Some(report.into_findings().into_iter().map(|f| f.located(&root)).collect());
    }
    if let Some(provider) = message.strip_prefix("MeshConfig_ExtensionProvider_") {
        let entry = json!({ "name": "x", provider_field(provider)?: case["in"] });
        return Some(fragment::<MeshConfigExtensionProvider>(
            &Node::from_value(&entry),
            |entry, report| {
                if let Some(provider) = &entry.provider {
                    validate::extension_provider("provider", provider, report);
                }
            },
        ));
    }
    Some(match message {
        "ClientTLSSettings" => fragment::<ClientTLSSettings>(&root, |tls, report| {
            validate::client_tls("tls", tls, case["namespace"].as_str().unwrap_or_default(), report);
        }),
        "HTTPRetry" => fragment::<HTTPRetry>(&root, |policy, report| {
            validate::mesh_config::inbound_retry_policy("retries", policy, report);
        }),
        "LocalityLoadBalancerSetting" => fragment::<LocalityLoadBalancerSetting>(&root, |setting, report| {
            validate::locality_setting("setting", setting, detects_outliers, report);
        }),
        "ZoneAwareLoadBalancerSetting" => fragment::<ZoneAwareLoadBalancerSetting>(&root, |setting, report| {
            validate::zone_aware_setting("setting", setting, detects_outliers, report);
        }),
        "MeshConfig_DefaultTrafficPolicy" => fragment::<DefaultTrafficPolicy>(&root, |policy, report| {
            validate::default_traffic_policy("policy", policy, report);
        }),
        "MeshNetworks" => fragment::<MeshNetworks>(&root, validate::mesh_networks),
        "ProxyConfig" => fragment::<ProxyConfig>(&root, |config, report| {
            validate::mesh_proxy_config("config", config, report);
        }),
        "MeshConfig" => validate::mesh_config_text(&root),
        "list" if table == "mesh-Localities" => {
            let mut report = Report::default();
            report.check(
                "",
                validate::localities(strings(&case["in"]).iter().map(String::as_str)),
            );
            report.into_findings().into_iter().map(|f| f.located(&root)).collect()
        }
        _ => return None,
    })
}

/// The field of an extension provider that holds a message.
fn provider_field(message: &str) -> Option<&'static str> {
    Some(match message {
        "EnvoyExternalAuthorizationHttpProvider" => "envoyExtAuthzHttp",
        "EnvoyExternalAuthorizationGrpcProvider" => "envoyExtAuthzGrpc",
        "ZipkinTracingProvider" => "zipkin",
        "LightstepTracingProvider" => "lightstep",
        "DatadogTracingProvider" => "datadog",
        "StackdriverProvider" => "stackdriver",
        "OpenCensusAgentTracingProvider" => "opencensus",
        "SkyWalkingTracingProvider" => "skywalking",
        "OpenTelemetryTracingProvider" => "opentelemetry",
        "PrometheusMetricsProvider" => "prometheus",
        "EnvoyFileAccessLogProvider" => "envoyFileAccessLog",
        "EnvoyHttpGrpcV3LogProvider" => "envoyHttpAls",
        "EnvoyTcpGrpcV3LogProvider" => "envoyTcpAls",
        "EnvoyOpenTelemetryLogProvider" => "envoyOtelAls",
        _ => return None,
    })
}

/// Documents for the schemas that the product generates.
fn documents(area: &Area, relative: &str, path: &std::path::Path, cases: &mut Vec<Case>) -> Result<()> {
    for (index, mut document) in data::documents(path)?.into_iter().enumerate() {
        let expected = document.as_object_mut().and_then(|object| object.remove("_err"));
        let outcome = schema_errors(&document)
            .with_context(|| relative.to_owned())
            .map_or_else(
                |error| Outcome::Failed(format!("{error:#}")),
                |errors| match (&expected, errors.is_empty()) {
                    (None, false) => Outcome::Failed(format!("refused: {}", errors.join("; "))),
                    (Some(expected), true) => Outcome::Failed(format!("accepted, expected {expected}")),
                    _ => Outcome::Passed,
                },
            );
        cases.push(Case {
            area: area.name.clone(),
            case: format!("{relative}: {}", index + 1),
            outcome,
        });
    }
    Ok(())
}

fn schema_errors(document: &Value) -> Result<Vec<String>> {
    let object = SpannedObject::from_value(document);
    let registered = corten_api::kind(object.reference.group(), &object.reference.kind).context("unknown kind")?;
    let version = registered
        .kind
        .version(object.reference.version())
        .context("unknown version")?;
    let openapi = schema(registered, version, Channel::Experimental);
    let schema = Schema::parse(&openapi).map_err(|errors| {
        anyhow::anyhow!(
            "{}",
            errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
        )
    })?;
    Ok(validate_schema(&schema, document, None)
        .iter()
        .map(ToString::to_string)
        .collect())
}
