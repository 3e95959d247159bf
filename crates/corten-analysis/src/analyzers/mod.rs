//! The analyzers: one module a subject, and the table of them all, by Istio's names.

mod annotations;
mod authorization;
mod conditions;
mod deployment;
mod deprecation;
mod destination_rule;
mod envoy_filter;
mod external_control_plane;
mod fields;
mod gateway;
mod injection;
mod kubernetes_gateway;
mod multicluster;
mod network_policy;
mod service;
mod service_entry;
mod sidecar;
mod telemetry;
mod virtual_service;
mod webhook;

use crate::objects::World;
use crate::report::Report;

/// A kind of object that analyzers look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Input {
    /// The API group.
    pub group: &'static str,
    /// The kind.
    pub kind: &'static str,
}

impl Input {
    const fn new(group: &'static str, kind: &'static str) -> Input {
        Input { group, kind }
    }

    /// Whether objects of the kind exist in a cluster as a matter of course, so that files without any say nothing about what there is.
    pub fn is_of_running_cluster(self) -> bool {
        [NAMESPACE, NODE, POD, SECRET, SERVICE].contains(&self)
    }
}

const NAMESPACE: Input = Input::new("", "Namespace");
const NODE: Input = Input::new("", "Node");
const POD: Input = Input::new("", "Pod");
const SECRET: Input = Input::new("", "Secret");
const SERVICE: Input = Input::new("", "Service");
const CONFIG_MAP: Input = Input::new("", "ConfigMap");
const DEPLOYMENT: Input = Input::new("apps", "Deployment");
const DEFINITION: Input = Input::new("apiextensions.k8s.io", "CustomResourceDefinition");
const MUTATING_WEBHOOK: Input = Input::new("admissionregistration.k8s.io", "MutatingWebhookConfiguration");
const VALIDATING_WEBHOOK: Input = Input::new("admissionregistration.k8s.io", "ValidatingWebhookConfiguration");
const AUTHORIZATION_POLICY: Input = Input::new("security.istio.io", "AuthorizationPolicy");
const PEER_AUTHENTICATION: Input = Input::new("security.istio.io", "PeerAuthentication");
const REQUEST_AUTHENTICATION: Input = Input::new("security.istio.io", "RequestAuthentication");
const DESTINATION_RULE: Input = Input::new("networking.istio.io", "DestinationRule");
const ENVOY_FILTER: Input = Input::new("networking.istio.io", "EnvoyFilter");
const GATEWAY: Input = Input::new("networking.istio.io", "Gateway");
const PROXY_CONFIG: Input = Input::new("networking.istio.io", "ProxyConfig");
const SERVICE_ENTRY: Input = Input::new("networking.istio.io", "ServiceEntry");
const SIDECAR: Input = Input::new("networking.istio.io", "Sidecar");
const VIRTUAL_SERVICE: Input = Input::new("networking.istio.io", "VirtualService");
const WORKLOAD_ENTRY: Input = Input::new("networking.istio.io", "WorkloadEntry");
const WORKLOAD_GROUP: Input = Input::new("networking.istio.io", "WorkloadGroup");
const TELEMETRY: Input = Input::new("telemetry.istio.io", "Telemetry");
const WASM_PLUGIN: Input = Input::new("extensions.istio.io", "WasmPlugin");
const TRAFFIC_EXTENSION: Input = Input::new("extensions.istio.io", "TrafficExtension");
const KUBERNETES_GATEWAY: Input = Input::new("gateway.networking.k8s.io", "Gateway");
const HTTP_ROUTE: Input = Input::new("gateway.networking.k8s.io", "HTTPRoute");
const NETWORK_POLICY: Input = Input::new("networking.k8s.io", "NetworkPolicy");
const GRPC_ROUTE: Input = Input::new("gateway.networking.k8s.io", "GRPCRoute");

/// One set of questions.
#[derive(Debug)]
pub struct Analyzer {
    /// The name, by which users choose it.
    pub name: &'static str,
    /// What it looks for.
    pub description: &'static str,
    /// The kinds it looks at.
    pub inputs: &'static [Input],
    /// Whether it is asked only by name, or before an installation.
    pub only_by_name: bool,
    /// Whether what is missing never makes it say anything.
    pub each_alone: bool,
    run: Run,
}

#[derive(Debug)]
enum Run {
    Questions(fn(&World, &mut Report)),
    /// Decodes and validates the objects of its input.
    Fields,
}

impl Analyzer {
    const fn new(
        name: &'static str,
        description: &'static str,
        inputs: &'static [Input],
        questions: fn(&World, &mut Report),
    ) -> Analyzer {
        Analyzer {
            name,
            description,
            inputs,
            only_by_name: false,
            each_alone: false,
            run: Run::Questions(questions),
        }
    }

    const fn fields(name: &'static str, description: &'static str, inputs: &'static [Input]) -> Analyzer {
        Analyzer {
            name,
            description,
            inputs,
            only_by_name: false,
            each_alone: false,
            run: Run::Fields,
        }
    }

    const fn only_by_name(mut self) -> Analyzer {
        self.only_by_name = true;
        self
    }

    const fn each_alone(mut self) -> Analyzer {
        self.each_alone = true;
        self
    }

    /// Whether its questions have an answer when there are only files: what a running cluster has of itself, and the files have none of, would
    /// seem to be missing.
    pub fn can_judge_files(&self, world: &World) -> bool {
        let there = |input: &Input| world.all.iter().any(|object| object.is(input.group, input.kind));
        self.each_alone
            || self
                .inputs
                .iter()
                .filter(|input| input.is_of_running_cluster())
                .all(there)
    }

    /// Asks its questions.
    pub fn run(&self, world: &World, report: &mut Report) {
        report.begin(self.name);
        match self.run {
            Run::Questions(questions) => questions(world, report),
            Run::Fields => fields::check(world, self.inputs, report),
        }
    }
}

/// Those that run when none is named.
pub fn default_set() -> impl Iterator<Item = &'static Analyzer> {
    ALL.iter().filter(|analyzer| !analyzer.only_by_name)
}

/// Those of these names; all of the default set when no name is known.
pub fn named<T: AsRef<str>>(names: &[T]) -> Vec<&'static Analyzer> {
    let is_named = |analyzer: &&Analyzer| names.iter().any(|name| name.as_ref() == analyzer.name);
    let found: Vec<&Analyzer> = ALL.iter().filter(is_named).collect();
    if found.is_empty() {
        default_set().collect()
    } else {
        found
    }
}

/// All of them.
pub const ALL: &[Analyzer] = &[
    Analyzer::new(
        "annotations.K8sAnalyzer",
        "Checks for misplaced and invalid Istio annotations in Kubernetes resources",
        &[NAMESPACE, SERVICE, POD, DEPLOYMENT],
        annotations::known,
    )
    .each_alone(),
    Analyzer::new(
        "annotations.AlphaAnalyzer",
        "Checks for alpha Istio annotations in Kubernetes resources",
        &[NAMESPACE, SERVICE, POD, DEPLOYMENT],
        annotations::alpha,
    )
    .each_alone()
    .only_by_name(),
    Analyzer::new(
        "authn.BlockedCIDRsAnalyzer",
        "Checks that BLOCKED_CIDRS_IN_JWKS_URIS is configured on istiod when RequestAuthentication resources exist",
        &[REQUEST_AUTHENTICATION, DEPLOYMENT],
        authorization::key_fetches,
    ),
    Analyzer::new(
        "auth.AuthorizationPoliciesAnalyzer",
        "Checks the validity of authorization policies",
        &[AUTHORIZATION_POLICY, NAMESPACE, POD],
        authorization::policies,
    ),
    Analyzer::new(
        "conditions.ConditionAnalyzer",
        "Checks for negative status conditions on resources",
        &[
            SERVICE,
            SERVICE_ENTRY,
            WORKLOAD_ENTRY,
            AUTHORIZATION_POLICY,
            KUBERNETES_GATEWAY,
            HTTP_ROUTE,
            GRPC_ROUTE,
        ],
        conditions::check,
    )
    .each_alone(),
    Analyzer::new(
        "deployment.MultiServiceAnalyzer",
        "Checks association between services and pods",
        &[SERVICE, DEPLOYMENT, NAMESPACE],
        deployment::services,
    ),
    Analyzer::new(
        "applicationUID.Analyzer",
        "Checks invalid application UID",
        &[POD, DEPLOYMENT],
        deployment::users,
    )
    .each_alone(),
    Analyzer::new(
        "destinationrule.CaCertificateAnalyzer",
        "Checks if caCertificates is set when TLS mode is SIMPLE/MUTUAL",
        &[DESTINATION_RULE],
        destination_rule::certificates,
    ),
    Analyzer::new(
        "destinationrule.SubsetSelectPodAnalyzer",
        "Checks if pods are selected by subsets in destination rules",
        &[DESTINATION_RULE, POD, SERVICE, SERVICE_ENTRY, NODE],
        destination_rule::subsets,
    ),
    Analyzer::new(
        "deprecation.DeprecationAnalyzer",
        "Checks for deprecated Istio types and fields",
        &[VIRTUAL_SERVICE, SIDECAR, DEFINITION],
        deprecation::check,
    ),
    Analyzer::new(
        "envoyfilter.EnvoyPatchAnalyzer",
        "Checks the patches of EnvoyFilters",
        &[ENVOY_FILTER],
        envoy_filter::check,
    ),
    Analyzer::new(
        "externalcontrolplane.ExternalControlPlaneAnalyzer",
        "Checks that the webhooks of a remote cluster reference an external control plane",
        &[VALIDATING_WEBHOOK, MUTATING_WEBHOOK],
        external_control_plane::check,
    ),
    Analyzer::new(
        "gateway.IngressGatewayPortAnalyzer",
        "Checks a gateway's ports against the gateway's Kubernetes service ports",
        &[GATEWAY, POD, SERVICE],
        gateway::ports,
    ),
    Analyzer::new(
        "gateway.CertificateAnalyzer",
        "Checks a gateway certificate",
        &[GATEWAY],
        gateway::certificates,
    ),
    Analyzer::new(
        "gateway.SecretAnalyzer",
        "Checks a gateway's referenced secrets for correctness",
        &[GATEWAY, POD, SECRET],
        gateway::secrets,
    ),
    Analyzer::new(
        "gateway.ConflictingGatewayAnalyzer",
        "Checks a gateway's selector, port number and hosts",
        &[GATEWAY, POD],
        gateway::conflicts,
    )
    .each_alone(),
    Analyzer::new(
        "injection.Analyzer",
        "Checks conditions related to Istio sidecar injection",
        &[NAMESPACE, POD, CONFIG_MAP],
        injection::namespaces_and_pods,
    ),
    Analyzer::new(
        "injection.ImageAnalyzer",
        "Checks the image of auto-injection configured with the running proxies on pods",
        &[NAMESPACE, POD, CONFIG_MAP, PROXY_CONFIG],
        injection::images,
    ),
    Analyzer::new(
        "injection.ImageAutoAnalyzer",
        "Makes sure that Pods and Deployments with `image: auto` are going to be injected",
        &[NAMESPACE, POD, DEPLOYMENT, MUTATING_WEBHOOK],
        injection::automatic_images,
    ),
    Analyzer::new(
        "k8sgateway.SelectorAnalyzer",
        "Check that selectors are effective for Kubernetes gateway",
        &[
            AUTHORIZATION_POLICY,
            REQUEST_AUTHENTICATION,
            TELEMETRY,
            WASM_PLUGIN,
            POD,
        ],
        kubernetes_gateway::selectors,
    ),
    Analyzer::new(
        "k8sgateway.CRDVersionAnalyzer",
        "Checks Gateway API CRDs are at the minimum version required by this Istio version",
        &[DEFINITION],
        kubernetes_gateway::definitions,
    ),
    Analyzer::new(
        "meshnetworks.MeshNetworksAnalyzer",
        "Check the validity of MeshNetworks in the cluster",
        &[SECRET],
        multicluster::networks,
    ),
    Analyzer::new(
        "services.MultiClusterServiceAnalyzer",
        "Check the validity of services in the multi-cluster environment",
        &[SERVICE],
        multicluster::services,
    ),
    Analyzer::new(
        "service.PortNameAnalyzer",
        "Checks the port names associated with each service",
        &[SERVICE],
        service::port_names,
    ),
    Analyzer::new(
        "sidecar.SelectorAnalyzer",
        "Validates that sidecars that define a workload selector match at least one pod, and that there aren't multiple sidecar resources that select overlapping pods",
        &[SIDECAR, POD, NAMESPACE],
        sidecar::selectors,
    ),
    Analyzer::new(
        "virtualservice.ConflictingMeshGatewayHostsAnalyzer",
        "Checks if multiple virtual services associated with the mesh gateway have conflicting hosts",
        &[VIRTUAL_SERVICE],
        virtual_service::conflicts,
    ),
    Analyzer::new(
        "virtualservice.DestinationHostAnalyzer",
        "Checks the destination hosts associated with each virtual service",
        &[SERVICE_ENTRY, VIRTUAL_SERVICE, SERVICE],
        virtual_service::destinations,
    ),
    Analyzer::new(
        "virtualservice.DestinationRuleAnalyzer",
        "Checks the destination rules associated with each virtual service",
        &[VIRTUAL_SERVICE, DESTINATION_RULE],
        virtual_service::subsets,
    ),
    Analyzer::new(
        "virtualservice.GatewayAnalyzer",
        "Checks the gateways associated with each virtual service",
        &[GATEWAY, KUBERNETES_GATEWAY, VIRTUAL_SERVICE],
        virtual_service::gateways,
    ),
    Analyzer::new(
        "virtualservice.JWTClaimRouteAnalyzer",
        "Checks the VirtualService using JWT claim based routing has corresponding RequestAuthentication",
        &[VIRTUAL_SERVICE, REQUEST_AUTHENTICATION, GATEWAY, POD],
        virtual_service::claims,
    ),
    Analyzer::new(
        "serviceentry.Analyzer",
        "Checks the validity of ServiceEntry",
        &[SERVICE_ENTRY],
        service_entry::addresses,
    ),
    Analyzer::new(
        "serviceentry.ConflictingServiceEntryProtocolAnalyzer",
        "Checks if multiple ServiceEntries define the same host and port with different protocols",
        &[SERVICE_ENTRY],
        service_entry::protocols,
    ),
    Analyzer::new(
        "webhook.Analyzer",
        "Checks the validity of Istio webhooks",
        &[MUTATING_WEBHOOK, SERVICE],
        webhook::check,
    ),
    Analyzer::new(
        "telemetry.ProviderAnalyzer",
        "Validates that providers in telemetry resource is valid",
        &[TELEMETRY],
        telemetry::providers,
    ),
    Analyzer::new(
        "telemetry.SelectorAnalyzer",
        "Validates that telemetries that define a selector match at least one pod, and that there aren't multiple telemetry resources that select overlapping pods",
        &[TELEMETRY, POD],
        telemetry::selectors,
    ),
    Analyzer::new(
        "telemetry.DefaultSelectorAnalyzer",
        "Validates that there aren't multiple telemetry resources that have no selector",
        &[TELEMETRY],
        telemetry::namespace_wide,
    ),
    Analyzer::new(
        "telemetry.LightstepAnalyzer",
        "Validates that lightstep provider is still used",
        &[TELEMETRY],
        telemetry::lightstep,
    ),
    Analyzer::fields(
        "schema.ValidationAnalyzer.AuthorizationPolicy",
        FIELDS,
        &[AUTHORIZATION_POLICY],
    ),
    Analyzer::fields("schema.ValidationAnalyzer.DestinationRule", FIELDS, &[DESTINATION_RULE]),
    Analyzer::fields("schema.ValidationAnalyzer.EnvoyFilter", FIELDS, &[ENVOY_FILTER]),
    Analyzer::fields("schema.ValidationAnalyzer.Gateway", FIELDS, &[GATEWAY]),
    Analyzer::fields(
        "schema.ValidationAnalyzer.PeerAuthentication",
        FIELDS,
        &[PEER_AUTHENTICATION],
    ),
    Analyzer::fields("schema.ValidationAnalyzer.ProxyConfig", FIELDS, &[PROXY_CONFIG]),
    Analyzer::fields(
        "schema.ValidationAnalyzer.RequestAuthentication",
        FIELDS,
        &[REQUEST_AUTHENTICATION],
    ),
    Analyzer::fields("schema.ValidationAnalyzer.ServiceEntry", FIELDS, &[SERVICE_ENTRY]),
    Analyzer::fields("schema.ValidationAnalyzer.Sidecar", FIELDS, &[SIDECAR]),
    Analyzer::fields("schema.ValidationAnalyzer.Telemetry", FIELDS, &[TELEMETRY]),
    Analyzer::fields(
        "schema.ValidationAnalyzer.TrafficExtension",
        FIELDS,
        &[TRAFFIC_EXTENSION],
    ),
    Analyzer::fields("schema.ValidationAnalyzer.VirtualService", FIELDS, &[VIRTUAL_SERVICE]),
    Analyzer::fields("schema.ValidationAnalyzer.WasmPlugin", FIELDS, &[WASM_PLUGIN]),
    Analyzer::fields("schema.ValidationAnalyzer.WorkloadEntry", FIELDS, &[WORKLOAD_ENTRY]),
    Analyzer::fields("schema.ValidationAnalyzer.WorkloadGroup", FIELDS, &[WORKLOAD_GROUP]),
    Analyzer::new(
        "corten.NetworkPolicyAnalyzer",
        "Checks that NetworkPolicies let through the ports of the mesh and the node's probes",
        &[NETWORK_POLICY, NAMESPACE, POD],
        network_policy::check,
    ),
    Analyzer::fields(
        "corten.GatewayAPIAnalyzer",
        "Decodes the objects of the Gateway API, field by field",
        &[KUBERNETES_GATEWAY, HTTP_ROUTE, GRPC_ROUTE],
    ),
];

const FIELDS: &str = "Decodes and validates the objects of the kind, field by field";
