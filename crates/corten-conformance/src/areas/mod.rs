//! The runner of each area.
//!
//! A runner is a function `fn(&Area) -> Result<Vec<Case>>`: it walks the area's own index, asks the product, compares.
//! `Err` is for data that cannot be read at all.

mod ambient;
mod ambient_traffic;
mod analysis;
mod authz;
mod bootstrap;
mod cluster_rows;
mod cni;
mod crds;
mod files;
mod gateway_api;
mod gateway_conformance;
mod gateway_deployment;
mod injection;
mod injection_rows;
mod inspection;
mod install;
mod pending;
mod prototext;
mod route_rows;
mod ruleset;
mod secret_rows;
mod security;
mod semantics;
mod sidecars;
mod simulation;
mod traffic_features;
mod validation;
mod xds;

use anyhow::Result;

use crate::data::Area;
use crate::outcome::Case;

/// Runs an area's cases.
pub(crate) fn run(area: &Area) -> Result<Vec<Case>> {
    let feature = match area.name.as_str() {
        "istio-config-files" | "istio-samples" => return files::run(area),
        "crds" => return crds::run(area),
        "gateway-api-conformance" => return gateway_conformance::run(area),
        "istio-ambient-model" => return ambient::run_model(area),
        "istio-ambient-policy" => return ambient::run_policy(area),
        "istio-ambient-traffic" => return ambient_traffic::run(area),
        "istio-analysis" => return analysis::run(area),
        "istio-authz-rbac" => return authz::run(area),
        "istio-cni" => return cni::run(area),
        "istio-envoy-bootstrap" => return bootstrap::run(area),
        "istio-gateway-api-conversion" => return gateway_api::run(area),
        "istio-gateway-deployment" => return gateway_deployment::run(area),
        "istio-helm" => return install::run_helm(area),
        "istio-ingress-conversion" => return gateway_api::run_ingress(area),
        "istio-istioctl" => return inspection::run(area),
        "istio-install" => return install::run(area),
        "istio-sidecar-injection" => return injection::run(area),
        "istio-security-policies" => return security::run(area),
        "istio-traffic-features" => return traffic_features::run(area),
        "istio-traffic-simulation" => return simulation::run(area),
        "istio-semantics" => return semantics::run(area),
        "istio-validation" => return validation::run(area),
        "istio-xds" => return xds::run(area),
        _ => "an area without a runner",
    };
    pending::run(area, feature)
}
