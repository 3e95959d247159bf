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
mod prototext;
mod route_rows;
mod ruleset;
mod secret_rows;
mod security;
mod semantics;
mod sidecars;
mod simulation;
mod traffic_features;
mod unknown;
mod validation;
mod xds;

use anyhow::Result;

use crate::data::Area;
use crate::outcome::Case;

/// Runs an area's cases.
pub(crate) fn run(area: &Area) -> Result<Vec<Case>> {
    match area.name.as_str() {
        "istio-config-files" | "istio-samples" => files::run(area),
        "crds" => crds::run(area),
        "gateway-api-conformance" => gateway_conformance::run(area),
        "istio-ambient-model" => ambient::run_model(area),
        "istio-ambient-policy" => ambient::run_policy(area),
        "istio-ambient-traffic" => ambient_traffic::run(area),
        "istio-analysis" => analysis::run(area),
        "istio-authz-rbac" => authz::run(area),
        "istio-cni" => cni::run(area),
        "istio-envoy-bootstrap" => bootstrap::run(area),
        "istio-gateway-api-conversion" => gateway_api::run(area),
        "istio-gateway-deployment" => gateway_deployment::run(area),
        "istio-helm" => install::run_helm(area),
        "istio-ingress-conversion" => gateway_api::run_ingress(area),
        "istio-istioctl" => inspection::run(area),
        "istio-install" => install::run(area),
        "istio-sidecar-injection" => injection::run(area),
        "istio-security-policies" => security::run(area),
        "istio-traffic-features" => traffic_features::run(area),
        "istio-traffic-simulation" => simulation::run(area),
        "istio-semantics" => semantics::run(area),
        "istio-validation" => validation::run(area),
        "istio-xds" => xds::run(area),
        _ => unknown::run(area),
    }
}
