//! Deployments: services over them that do not go together, and users that they must not run as.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use corten_api::kubernetes::core::{PodSpec, ServicePort};
use corten_api::kubernetes::{apps, core};

use crate::catalogue::{self, list};
use crate::membership::{PROXY, deployment_has_sidecar, is_control_plane};
use crate::objects::{Item, Labels, Object, World};
use crate::report::Report;
use crate::selector;

/// The user that the sidecar runs as.
const PROXY_USER: i64 = 1337;
const MANAGED: &str = "gateway.istio.io/managed";

pub(super) fn services(world: &World, report: &mut Report) {
    for deployment in &world.deployments {
        let manager = deployment.object.labels.get(MANAGED).map_or("", String::as_str);
        if manager != "istio.io-mesh-controller" && deployment_has_sidecar(deployment, world) {
            let ports = ports_of_services(deployment, world);
            protocols(&deployment.object, &ports, report);
            target_ports(&deployment.object, &ports, report);
        }
    }
}

/// The ports of the services that select a Deployment's pods, each with its service's name.
fn ports_of_services<'a>(deployment: &Item<apps::Deployment>, world: &'a World) -> Vec<(String, &'a ServicePort)> {
    let nothing = Labels::new();
    let template = deployment
        .spec
        .spec
        .as_ref()
        .and_then(|spec| spec.template.metadata.as_ref());
    let labels = template
        .and_then(|metadata| metadata.labels.as_ref())
        .unwrap_or(&nothing);
    let selects = |service: &&Item<core::Service>| {
        let selector = service.spec.spec.as_ref().and_then(|spec| spec.selector.as_ref());
        service.object.namespace() == deployment.object.namespace()
            && selector.is_some_and(|wanted| !wanted.is_empty() && selector::matches(wanted, labels))
    };
    let ports = |service: &'a Item<core::Service>| {
        let ports = service.spec.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
        ports.map(|port| (service.object.full_name(), port))
    };
    world.services.iter().filter(selects).flat_map(ports).collect()
}

fn protocols(deployment: &Arc<Object>, ports: &[(String, &ServicePort)], report: &mut Report) {
    let mut by_port: BTreeMap<i32, Vec<(&str, &str)>> = BTreeMap::new();
    for (service, port) in ports {
        let protocol = port
            .protocol
            .as_deref()
            .filter(|protocol| !protocol.is_empty())
            .unwrap_or("TCP");
        by_port.entry(port.port).or_default().push((protocol, service));
    }
    for (port, uses) in by_port {
        let protocols: BTreeSet<&str> = uses.iter().map(|(protocol, _)| *protocol).collect();
        if protocols.len() > 1 {
            let mut services: Vec<&str> = uses.iter().map(|(_, service)| *service).collect();
            services.sort_unstable();
            let parameters = [
                ("deployment", deployment.name()),
                ("port", &port.to_string()),
                ("services", &list(services)),
            ];
            let kind = &catalogue::DEPLOYMENT_ASSOCIATED_TO_MULTIPLE_SERVICES;
            report.add(kind, deployment, "metadata.name", &parameters);
        }
    }
}

fn target_ports(deployment: &Arc<Object>, ports: &[(String, &ServicePort)], report: &mut Report) {
    let mut by_target: BTreeMap<String, BTreeMap<i32, &str>> = BTreeMap::new();
    for (service, port) in ports {
        let target = match &port.target_port {
            Some(target) => super::service::target(target),
            None => String::new(),
        };
        let target = match target.as_str() {
            "" | "0" => port.port.to_string(),
            _ => target,
        };
        by_target.entry(target).or_default().insert(port.port, service);
    }
    for (target, uses) in by_target {
        if uses.len() > 1 {
            let mut services: Vec<&str> = uses.values().copied().collect();
            services.sort_unstable();
            let parameters = [
                ("deployment", deployment.name()),
                ("services", &list(services)),
                ("targetPort", &target),
                ("ports", &list(uses.keys().map(i32::to_string))),
            ];
            report.add(
                &catalogue::DEPLOYMENT_CONFLICTING_PORTS,
                deployment,
                "metadata.name",
                &parameters,
            );
        }
    }
}

pub(super) fn users(world: &World, report: &mut Report) {
    for pod in &world.pods {
        if let Some(spec) = &pod.spec.spec {
            user(&pod.object, spec, "spec", report);
        }
    }
    for deployment in &world.deployments {
        if let Some(spec) = deployment
            .spec
            .spec
            .as_ref()
            .and_then(|spec| spec.template.spec.as_ref())
        {
            user(&deployment.object, spec, "spec.template.spec", report);
        }
    }
}

fn user(object: &Arc<Object>, pod: &PodSpec, path: &str, report: &mut Report) {
    if is_control_plane(object) {
        return;
    }
    let of_pod = pod.security_context.as_ref().and_then(|context| context.run_as_user);
    if of_pod == Some(PROXY_USER) {
        let path = format!("{path}.securityContext.runAsUser");
        report.add_once(&catalogue::INVALID_APPLICATION_UID, object, &path, &[]);
    }
    for (index, container) in pod.containers.iter().enumerate() {
        let user = container
            .security_context
            .as_ref()
            .and_then(|context| context.run_as_user);
        if user == Some(PROXY_USER) && ![PROXY, "istio-operator"].contains(&container.name.as_str()) {
            let path = format!("{path}.containers[{index}].securityContext.runAsUser");
            report.add_once(&catalogue::INVALID_APPLICATION_UID, object, &path, &[]);
        }
    }
}
