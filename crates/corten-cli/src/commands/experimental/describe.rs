//! `corten x describe`: what the mesh does with a pod or service, with istioctl's words where it has them.

use std::collections::BTreeSet;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use corten_api::istio::peer_authentication::MutualTLSMode;
use corten_model::ObjectKind;
use corten_traffic::{Destination, GatewayAddress, Workload};
use serde_json::Value;

use crate::mesh::explain::{action, identity, is_converted};
use crate::mesh::membership::Membership;
use crate::mesh::{Mesh, Source};
use crate::output;

const RULER: &str = "--------------------\n";

/// What to describe.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Describe {
    /// A pod: whether it is in the mesh, its services, who may call it
    #[command(visible_alias = "po")]
    Pod {
        #[command(flatten)]
        source: Source,
        /// The pod, or TYPE/NAME for a pod of a workload
        #[arg(value_name = "[TYPE/]NAME[.NAMESPACE]")]
        pod: String,
        /// Do not warn when it is not in the mesh
        #[arg(long = "ignoreUnmeshed")]
        ignore_unmeshed: bool,
    },
    /// A service: its ports and waypoint, and each of its pods
    #[command(visible_alias = "svc")]
    Service {
        #[command(flatten)]
        source: Source,
        /// The service
        #[arg(value_name = "NAME[.NAMESPACE]")]
        service: String,
        /// Do not warn about pods that are not in the mesh
        #[arg(long = "ignoreUnmeshed")]
        ignore_unmeshed: bool,
    },
}

impl Describe {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let text = match self {
            Self::Pod {
                source,
                pod,
                ignore_unmeshed,
            } => {
                let (mesh, namespace) = source.open()?;
                let (namespace, name) = mesh.pod_named(&pod, &namespace)?;
                described_pod(&mesh, &namespace, &name, ignore_unmeshed)?
            }
            Self::Service {
                source,
                service,
                ignore_unmeshed,
            } => {
                let (mesh, namespace) = source.open()?;
                described_service(&mesh, &service, &namespace, ignore_unmeshed)?
            }
        };
        output::text(text)?;
        Ok(ExitCode::SUCCESS)
    }
}

fn described_pod(mesh: &Mesh, namespace: &str, name: &str, ignore_unmeshed: bool) -> Result<String> {
    let pod = mesh
        .object(ObjectKind::Pod, namespace, name)
        .context("the pod was found")?;
    let mut text = about_pod(mesh, pod, namespace, ignore_unmeshed);
    let Ok(workload) = mesh.workload(namespace, name) else {
        return Ok(text);
    };
    for membership in &workload.services {
        let short = membership.hostname.split('.').next().unwrap_or_default();
        text.push_str(RULER);
        match mesh.object(ObjectKind::Service, &membership.namespace, short) {
            Some(service) => text.push_str(&about_service(mesh, service, Some(workload))),
            None => text.push_str(&format!(
                "Service: {} (ServiceEntry of {})\n",
                membership.hostname, membership.namespace
            )),
        }
    }
    if workload.services.is_empty() {
        text.push_str("WARNING: no service selects this pod, so it is only called by its address\n");
    }
    text.push_str(RULER);
    text.push_str(&about_policies(mesh, workload));
    Ok(text)
}

fn described_service(mesh: &Mesh, service: &str, namespace: &str, ignore_unmeshed: bool) -> Result<String> {
    let found = mesh.service_named(service, namespace)?;
    let mut text = match mesh.object(ObjectKind::Service, &found.namespace, &found.name) {
        Some(object) => about_service(mesh, object, None),
        None => format!("Service: {} (ServiceEntry of {})\n", found.hostname, found.namespace),
    };
    let endpoints: Vec<_> = mesh.tables.endpoints(found).collect();
    if endpoints.is_empty() {
        text.push_str("WARNING: no pod is behind it, so calls to it fail\n");
    }
    let mut policies = BTreeSet::new();
    for endpoint in endpoints {
        let workload = &endpoint.workload;
        if let Some(pod) = mesh.object(ObjectKind::Pod, &workload.namespace, &workload.name) {
            text.push_str(RULER);
            text.push_str(&about_pod(mesh, pod, &workload.namespace, ignore_unmeshed));
        }
        policies.insert(about_policies(mesh, workload));
    }
    // Mostly all pods of a service are under the same policies.
    for policies in policies {
        text.push_str(RULER);
        text.push_str(&policies);
    }
    Ok(text)
}

fn about_pod(mesh: &Mesh, pod: &Value, namespace: &str, ignore_unmeshed: bool) -> String {
    let name = pod["metadata"]["name"].as_str().unwrap_or_default();
    let mut text = format!("Pod: {name}.{namespace}\n");
    let ports: Vec<String> = items(&pod["spec"]["containers"])
        .flat_map(|container| {
            let owner = container["name"].as_str().unwrap_or_default();
            items(&container["ports"]).filter_map(move |port| {
                let number = port["containerPort"].as_u64()?;
                let udp = if port["protocol"] == "UDP" { "/UDP" } else { "" };
                Some(format!("{number}{udp} ({owner})"))
            })
        })
        .collect();
    if ports.is_empty() {
        text.push_str("   Pod does not expose ports\n");
    } else {
        text.push_str(&format!("   Pod Ports: {}\n", ports.join(", ")));
    }
    let workload = mesh.workload(namespace, name);
    if let Ok(workload) = &workload {
        text.push_str(&format!("   Identity: {}\n", identity(workload)));
        text.push_str(&format!("   Node: {}\n", workload.node));
    }
    let namespace_object = mesh.object(ObjectKind::Namespace, "", namespace);
    let warning = match Membership::of(pod, namespace_object) {
        Membership::InMesh => {
            text.push_str("   Mesh: in the mesh, through the ztunnel of its node\n");
            None
        }
        Membership::Sidecar => {
            text.push_str("   Mesh: in the mesh, through a sidecar of its own\n");
            None
        }
        Membership::Pending(why) => {
            text.push_str("   Mesh: not yet in the mesh\n");
            Some(format!(
                "WARNING: {name}.{namespace} should be in the mesh and is not: {why}\n"
            ))
        }
        Membership::Outside(why) => {
            text.push_str("   Mesh: not in the mesh\n");
            (!ignore_unmeshed).then(|| format!("WARNING: {name}.{namespace} is not part of mesh: {why}\n"))
        }
    };
    if let Ok(workload) = &workload {
        text.push_str(&waypoint(mesh, workload.waypoint.as_deref()));
    }
    for status in items(&pod["status"]["containerStatuses"]).filter(|it| it["ready"] != true) {
        let container = status["name"].as_str().unwrap_or_default();
        text.push_str(&format!(
            "WARNING: Pod {name}.{namespace} Container {container} NOT READY\n"
        ));
    }
    text.extend(warning);
    if let Err(error) = workload {
        text.push_str(&format!("WARNING: {error}\n"));
    }
    text
}

/// A service; with a pod, which of the pod's ports its ports lead to.
fn about_service(mesh: &Mesh, service: &Value, workload: Option<&Workload>) -> String {
    let field = |key: &str| service["metadata"][key].as_str().unwrap_or_default();
    let (namespace, name) = (field("namespace"), field("name"));
    let mut text = format!("Service: {name}.{namespace}\n");
    let domain = &mesh.settings.cluster_domain;
    let known = mesh
        .tables
        .service(namespace, &format!("{name}.{namespace}.svc.{domain}"));
    for port in items(&service["spec"]["ports"]) {
        let number = port["port"]
            .as_u64()
            .and_then(|it| u16::try_from(it).ok())
            .unwrap_or_default();
        let label = port["name"].as_str().unwrap_or_default();
        let spoken = protocol(port);
        let membership = workload.and_then(|it| it.membership(namespace, &format!("{name}.{namespace}.svc.{domain}")));
        let target = membership.and_then(|it| it.target_port(number));
        let target = target
            .or_else(|| known.and_then(|it| it.target_port(number)))
            .filter(|it| *it != 0);
        let target = match (target, &port["targetPort"]) {
            (Some(target), _) => target.to_string(),
            (None, Value::Null) => number.to_string(),
            (None, other) => other.as_str().map_or_else(|| other.to_string(), str::to_owned),
        };
        let gap = if label.is_empty() { "" } else { " " };
        text.push_str(&format!(
            "   Port: {label}{gap}{number}/{spoken} targets pod port {target}\n"
        ));
    }
    if let Some(known) = known {
        text.push_str(&waypoint(mesh, known.waypoint.as_deref()));
    }
    for policy in mesh.objects_of(ObjectKind::AuthorizationPolicy, namespace) {
        let refs = items(&policy["spec"]["targetRefs"]).chain(std::iter::once(&policy["spec"]["targetRef"]));
        let targets = refs.filter(|it| it["kind"] == "Service" && it["name"] == name).count();
        if targets > 0 {
            let policy = policy["metadata"]["name"].as_str().unwrap_or_default();
            text.push_str(&format!(
                "   AuthorizationPolicy {policy}.{namespace} is for its waypoint\n"
            ));
            if known.is_some_and(|it| it.waypoint.is_none()) {
                text.push_str(&format!("WARNING: {name}.{namespace} has no waypoint, so AuthorizationPolicy {policy} is enforced by nobody\n"));
            }
        }
    }
    text.extend(
        mesh.said_of(ObjectKind::Service, namespace, name)
            .map(|said| format!("WARNING: {said}\n")),
    );
    text
}

fn about_policies(mesh: &Mesh, workload: &Workload) -> String {
    let applied = mesh.applied_peer_authentication(workload);
    let mut text = format!(
        "Effective PeerAuthentication:\n   Workload mTLS mode: {}\n",
        mode(applied.mode)
    );
    if !applied.ports.is_empty() {
        text.push_str("   Port Level mTLS mode:\n");
        text.extend(
            applied
                .ports
                .iter()
                .map(|(port, own)| format!("      {port}: {}\n", mode(*own))),
        );
    }
    if !applied.policies.is_empty() {
        let names: Vec<String> = applied
            .policies
            .iter()
            .map(|(namespace, name)| format!("{name}.{namespace}"))
            .collect();
        text.push_str(&format!("Applied PeerAuthentication:\n   {}\n", names.join(", ")));
    }
    let mut warnings = Vec::new();
    for (namespace, name) in &applied.policies {
        warnings.extend(mesh.said_of(ObjectKind::PeerAuthentication, namespace, name));
    }
    let policies: Vec<_> = mesh
        .tables
        .applicable(workload)
        .flatten()
        .filter(|it| !is_converted(it))
        .collect();
    if policies.is_empty() {
        text.push_str("Authorization policies: none, so whoever passes the above may call it\n");
    } else {
        text.push_str("Authorization policies:\n");
    }
    for policy in policies {
        let dry_run = if policy.dry_run { ", dry run" } else { "" };
        let rules = match (policy.rules.len(), action(policy)) {
            (0, "ALLOW") => "no rule, which allows nobody".to_owned(),
            (0, _) => "no rule, which denies nobody".to_owned(),
            (1, _) => "1 rule".to_owned(),
            (rules, _) => format!("{rules} rules"),
        };
        text.push_str(&format!(
            "   {} {}.{} ({rules}{dry_run})\n",
            action(policy),
            policy.name,
            policy.namespace
        ));
        if let Some(why) = &policy.broken {
            warnings.push(format!(
                "AuthorizationPolicy {}.{} cannot be used, so it denies everything: {why}",
                policy.name, policy.namespace
            ));
        }
        warnings.extend(mesh.said_of(ObjectKind::AuthorizationPolicy, &policy.namespace, &policy.name));
    }
    for missing in mesh.tables.applicable(workload).filter_map(Result::err) {
        warnings.push(format!(
            "policy {missing} applies and is not known to node proxies, so it denies everything"
        ));
    }
    if !workload.is_hbone() {
        warnings.push("it is not in the mesh, so nothing of this is enforced".to_owned());
    }
    text.extend(warnings.into_iter().map(|warning| format!("WARNING: {warning}\n")));
    text
}

fn waypoint(mesh: &Mesh, waypoint: Option<&GatewayAddress>) -> String {
    let named = match waypoint.map(|it| &it.destination) {
        None => "none".to_owned(),
        Some(Destination::Hostname { namespace, hostname }) => format!("{hostname} (of {namespace})"),
        Some(Destination::Address { network, address }) => {
            let service = mesh.tables.service_at(network, *address, "");
            service.map_or_else(|| address.to_string(), |it| format!("{}.{}", it.name, it.namespace))
        }
    };
    format!("   Waypoint: {named}\n")
}

/// What a port speaks: by `appProtocol`, else by the beginning of its name, as Istio has it.
fn protocol(port: &Value) -> String {
    if port["protocol"] == "UDP" {
        return "UDP".to_owned();
    }
    let declared = port["appProtocol"]
        .as_str()
        .map(|it| it.rsplit('/').next().unwrap_or(it));
    let named = port["name"].as_str().and_then(|it| it.split('-').next());
    let word = declared.or(named).unwrap_or_default().to_lowercase();
    match word.as_str() {
        "http" | "http2" | "https" | "grpc" | "tls" | "mongo" | "mysql" | "redis" => word.to_uppercase(),
        "grpc-web" => "GRPC-Web".to_owned(),
        "h2c" => "HTTP2".to_owned(),
        _ => "TCP".to_owned(),
    }
}

fn mode(mode: MutualTLSMode) -> &'static str {
    match mode {
        MutualTLSMode::Unset => "UNSET",
        MutualTLSMode::Disable => "DISABLE",
        MutualTLSMode::Permissive => "PERMISSIVE",
        MutualTLSMode::Strict => "STRICT",
    }
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

#[cfg(test)]
mod tests;
