//! The messages that analysis can say: Istio's codes, names, levels and words, because people look them up and search logs for them, and ours beside them.
//!
//! In templates `{name}` stands for a parameter as it is, `{name:q}` for one in quotes; lists are written `[a b]`.

use std::fmt::Write as _;

use corten_api::diagnostic::{Code, Severity};

/// A kind of message.
#[derive(Debug, PartialEq, Eq)]
pub struct MessageType {
    /// The code.
    pub code: Code,
    /// The name.
    pub name: &'static str,
    /// How bad it is.
    pub level: Severity,
    /// What it means, in one sentence.
    pub meaning: &'static str,
    /// The words, with named parameters.
    pub template: &'static str,
}

/// A parameter's name and value.
pub type Parameter<'a> = (&'a str, &'a str);

impl MessageType {
    /// The words with their parameters put in; a parameter that is not given stays visible by its name.
    pub fn text(&self, parameters: &[Parameter<'_>]) -> String {
        let mut out = String::new();
        let mut rest = self.template;
        while let Some((before, after)) = rest.split_once('{') {
            out.push_str(before);
            let Some((hole, behind)) = after.split_once('}') else {
                rest = after;
                break;
            };
            let (name, quoted) = match hole.strip_suffix(":q") {
                Some(name) => (name, true),
                None => (hole, false),
            };
            match parameters.iter().find(|(given, _)| *given == name) {
                Some((_, value)) if quoted => _ = write!(out, "{value:?}"),
                Some((_, value)) => out.push_str(value),
                None => _ = write!(out, "{{{name}}}"),
            }
            rest = behind;
        }
        out.push_str(rest);
        out
    }

    /// The names of the parameters, in the order of the words.
    pub fn parameters(&self) -> impl Iterator<Item = &'static str> {
        let holes = self.template.split('{').skip(1);
        holes.filter_map(|hole| {
            hole.split_once('}')
                .map(|(name, _)| name.strip_suffix(":q").unwrap_or(name))
        })
    }
}

/// A list as messages show it.
pub fn list<T: AsRef<str>>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| item.as_ref().to_owned()).collect();
    format!("[{}]", items.join(" "))
}

/// The message type of a code.
pub fn of(code: Code) -> Option<&'static MessageType> {
    ALL.iter().copied().find(|message| message.code == code)
}

macro_rules! catalogue {
    ($($id:ident, $code:literal, $name:literal, $level:ident, $meaning:literal, $template:literal;)*) => {
        $(
            #[doc = $meaning]
            pub const $id: MessageType = MessageType {
                code: Code($code),
                name: $name,
                level: Severity::$level,
                meaning: $meaning,
                template: $template,
            };
        )*
        /// All of them, by code; ours last.
        pub const ALL: &[&MessageType] = &[$(&$id),*];
    };
}

catalogue! {
    INTERNAL_ERROR, "IST0001", "InternalError", Error,
        "The analysis itself failed.",
        "Internal error: {detail}";
    DEPRECATED, "IST0002", "Deprecated", Warning,
        "Something is used that is deprecated.",
        "Deprecated: {detail}";
    REFERENCED_RESOURCE_NOT_FOUND, "IST0101", "ReferencedResourceNotFound", Error,
        "Something is referred to that does not exist.",
        "Referenced {reftype} not found: {refval:q}";
    NAMESPACE_NOT_INJECTED, "IST0102", "NamespaceNotInjected", Info,
        "A namespace has no label that says whether its pods get sidecars.",
        "The namespace is not enabled for Istio injection. Run 'kubectl label namespace {namespace} istio-injection=enabled' to enable it, or 'kubectl label namespace {namespace} istio-injection=disabled' to explicitly mark it as not needing injection.";
    POD_MISSING_PROXY, "IST0103", "PodMissingProxy", Warning,
        "A pod that should have a sidecar has none.",
        "The pod {podName} is missing the Istio proxy. This can often be resolved by restarting or redeploying the workload.";
    SCHEMA_VALIDATION_ERROR, "IST0106", "SchemaValidationError", Error,
        "An object breaks a rule of its kind.",
        "Schema validation error: {err}";
    MISPLACED_ANNOTATION, "IST0107", "MisplacedAnnotation", Warning,
        "An annotation stands on a kind of object where it has no effect.",
        "Misplaced annotation: {annotation} can only be applied to {kind}";
    UNKNOWN_ANNOTATION, "IST0108", "UnknownAnnotation", Warning,
        "An annotation in Istio's name is none of Istio's.",
        "Unknown annotation: {annotation}";
    CONFLICTING_MESH_GATEWAY_VIRTUAL_SERVICE_HOSTS, "IST0109", "ConflictingMeshGatewayVirtualServiceHosts", Error,
        "Several VirtualServices for calls within the mesh have the same host.",
        "The VirtualServices {virtualServices} associated with mesh gateway define the same host {host} which can lead to undefined behavior. This can be fixed by merging the conflicting VirtualServices into a single resource.";
    CONFLICTING_SIDECAR_WORKLOAD_SELECTORS, "IST0110", "ConflictingSidecarWorkloadSelectors", Error,
        "Several Sidecars select the same pod.",
        "The Sidecars {conflictingSidecars} in namespace {namespace:q} select the same workload pod {workloadPod:q}, which can lead to undefined behavior.";
    MULTIPLE_SIDECARS_WITHOUT_WORKLOAD_SELECTORS, "IST0111", "MultipleSidecarsWithoutWorkloadSelectors", Error,
        "Several Sidecars of a namespace select no workload in particular.",
        "The Sidecars {conflictingSidecars} in namespace {namespace:q} have no workload selector, which can lead to undefined behavior.";
    VIRTUAL_SERVICE_DESTINATION_PORT_SELECTOR_REQUIRED, "IST0112", "VirtualServiceDestinationPortSelectorRequired", Error,
        "A route leads to a service of several ports and names none.",
        "This VirtualService routes to a service {destHost:q} that exposes multiple ports {destPorts}. Specifying a port in the destination is required to disambiguate.";
    DEPLOYMENT_ASSOCIATED_TO_MULTIPLE_SERVICES, "IST0116", "DeploymentAssociatedToMultipleServices", Warning,
        "Services over the same pods use one port with several protocols.",
        "This deployment {deployment} is associated with multiple services using port {port} but different protocols: {services}";
    PORT_NAME_IS_NOT_UNDER_NAMING_CONVENTION, "IST0118", "PortNameIsNotUnderNamingConvention", Info,
        "A port's name does not say its protocol, which is then detected.",
        "Port name {portName} (port: {port}, targetPort: {targetPort}) doesn't follow the naming convention of Istio port.";
    NAMESPACE_MULTIPLE_INJECTION_LABELS, "IST0123", "NamespaceMultipleInjectionLabels", Warning,
        "A namespace asks for several modes of the mesh at once.",
        "The namespace has more than one type of injection labels {labels}, which may lead to undefined behavior. Make sure only one injection label exists.";
    INVALID_ANNOTATION, "IST0125", "InvalidAnnotation", Warning,
        "An annotation has a value that it cannot have.",
        "Invalid annotation {annotation}: {problem}";
    UNKNOWN_MESH_NETWORKS_SERVICE_REGISTRY, "IST0126", "UnknownMeshNetworksServiceRegistry", Error,
        "A network is given the endpoints of a cluster that is not known.",
        "Unknown service registry {serviceregistry} in network {network}";
    NO_MATCHING_WORKLOADS_FOUND, "IST0127", "NoMatchingWorkloadsFound", Warning,
        "A policy applies to no workload.",
        "No matching workloads for this resource with the following labels: {labels}";
    NO_SERVER_CERTIFICATE_VERIFICATION_DESTINATION_LEVEL, "IST0128", "NoServerCertificateVerificationDestinationLevel", Warning,
        "TLS towards a host does not verify the server's certificate.",
        "DestinationRule {destinationrule} in namespace {namespace} has TLS mode set to {mode} but no caCertificates are set to validate server identity for host: {host}";
    NO_SERVER_CERTIFICATE_VERIFICATION_PORT_LEVEL, "IST0129", "NoServerCertificateVerificationPortLevel", Warning,
        "TLS towards a port of a host does not verify the server's certificate.",
        "DestinationRule {destinationrule} in namespace {namespace} has TLS mode set to {mode} but no caCertificates are set to validate server identity for host: {host} at port {port}";
    VIRTUAL_SERVICE_UNREACHABLE_RULE, "IST0130", "VirtualServiceUnreachableRule", Warning,
        "A route is never used, because those before it take everything it would.",
        "VirtualService rule {ruleno} not used ({reason}).";
    VIRTUAL_SERVICE_INEFFECTIVE_MATCH, "IST0131", "VirtualServiceIneffectiveMatch", Info,
        "A match is never used, because a route before has it, too.",
        "VirtualService rule {ruleno} match {matchno} is not used (duplicate/overlapping match in rule {dupno}).";
    VIRTUAL_SERVICE_HOST_NOT_FOUND_IN_GATEWAY, "IST0132", "VirtualServiceHostNotFoundInGateway", Warning,
        "A VirtualService is for a gateway that takes none of its hosts.",
        "one or more host {host} defined in VirtualService {virtualservice} not found in Gateway {gateway}.";
    SCHEMA_WARNING, "IST0133", "SchemaWarning", Warning,
        "An object is accepted, but probably does not do what its author expects.",
        "Schema validation warning: {err}";
    SERVICE_ENTRY_ADDRESSES_REQUIRED, "IST0134", "ServiceEntryAddressesRequired", Warning,
        "A ServiceEntry for TCP has no address by which calls could be told from others.",
        "ServiceEntry addresses are required for this protocol.";
    DEPRECATED_ANNOTATION, "IST0135", "DeprecatedAnnotation", Info,
        "An annotation is deprecated.",
        "Annotation {annotation:q} has been deprecated{extra} and may not work in future Istio versions.";
    ALPHA_ANNOTATION, "IST0136", "AlphaAnnotation", Info,
        "An annotation belongs to a feature that is not settled.",
        "Annotation {annotation:q} is part of an alpha-phase feature and may be incompletely supported.";
    DEPLOYMENT_CONFLICTING_PORTS, "IST0137", "DeploymentConflictingPorts", Warning,
        "Services over the same pods give one target port several ports.",
        "This deployment {deployment} is associated with multiple services {services} using targetPort {targetPort:q} but different ports: {ports}.";
    GATEWAY_DUPLICATE_CERTIFICATE, "IST0138", "GatewayDuplicateCertificate", Warning,
        "Gateways share a certificate, so browsers reuse a connection to one for the hosts of the other.",
        "Duplicate certificate in multiple gateways {gateways} may cause 404s if clients re-use HTTP2 connections.";
    INVALID_WEBHOOK, "IST0139", "InvalidWebhook", Error,
        "A webhook overlaps with another, or refers to a service that does not exist.",
        "{error}";
    INGRESS_ROUTE_RULES_NOT_AFFECTED, "IST0140", "IngressRouteRulesNotAffected", Warning,
        "The subset of one VirtualService does not hold for calls that another one takes from a gateway.",
        "Subset in virtual service {virtualservicesubset} has no effect on ingress gateway {virtualservice} requests";
    INSUFFICIENT_PERMISSIONS, "IST0141", "InsufficientPermissions", Error,
        "The user may not create what an installation needs.",
        "Missing required permission to create resource {resource} ({error})";
    UNSUPPORTED_KUBERNETES_VERSION, "IST0142", "UnsupportedKubernetesVersion", Error,
        "The cluster is too old.",
        "The Kubernetes Version {version:q} is lower than the minimum version: {minimumVersion}";
    LOCALHOST_LISTENER, "IST0143", "LocalhostListener", Error,
        "A port of a service is bound to the local address only.",
        "Port {port} is exposed in a Service but listens on localhost. It will not be exposed to other pods.";
    INVALID_APPLICATION_UID, "IST0144", "InvalidApplicationUID", Warning,
        "An application runs as the user that redirection leaves out.",
        "User ID (UID) 1337 is reserved for the sidecar proxy.";
    CONFLICTING_GATEWAYS, "IST0145", "ConflictingGateways", Error,
        "Gateways of the same workload have the same port and hosts.",
        "Conflict with gateways {gateway} (workload selector {selector}, port {portnumber}, hosts {hosts}).";
    IMAGE_AUTO_WITHOUT_INJECTION_WARNING, "IST0146", "ImageAutoWithoutInjectionWarning", Warning,
        "A Deployment leaves its proxy's image to injection, and is not injected.",
        "{resourceType} {resourceName} contains `image: auto` but does not match any Istio injection webhook selectors.";
    IMAGE_AUTO_WITHOUT_INJECTION_ERROR, "IST0147", "ImageAutoWithoutInjectionError", Error,
        "A pod left its proxy's image to injection, and was not injected.",
        "{resourceType} {resourceName} contains `image: auto` but does not match any Istio injection webhook selectors.";
    NAMESPACE_INJECTION_ENABLED_BY_DEFAULT, "IST0148", "NamespaceInjectionEnabledByDefault", Info,
        "A namespace without labels is injected, because the installation says so of all.",
        "is enabled for Istio injection, as Istio is installed with enableNamespacesByDefault as true.";
    JWT_CLAIM_BASED_ROUTING_WITHOUT_REQUEST_AUTHN, "IST0149", "JwtClaimBasedRoutingWithoutRequestAuthN", Error,
        "Routes look at a token's claims, and nothing verifies tokens at the gateway.",
        "The virtual service uses the JWT claim based routing (key: {key}) but found no request authentication for the gateway ({gateway}) pod ({pod}). The request authentication must first be applied for the gateway pods to validate the JWT token and make the claims available for routing.";
    EXTERNAL_NAME_SERVICE_TYPE_INVALID_PORT_NAME, "IST0150", "ExternalNameServiceTypeInvalidPortName", Warning,
        "A port of an ExternalName service is TCP by its name, or by no name.",
        "Port name for ExternalName service is invalid. Proxy may prevent tcp named ports and unmatched traffic for ports serving TCP protocol from being forwarded correctly";
    ENVOY_FILTER_USES_RELATIVE_OPERATION, "IST0151", "EnvoyFilterUsesRelativeOperation", Warning,
        "A patch depends on what others have done before, and has no priority.",
        "This EnvoyFilter does not have a priority and has a relative patch operation set which can cause the EnvoyFilter not to be applied. Using the INSERT_FIRST of ADD option or setting the priority may help in ensuring the EnvoyFilter is applied correctly.";
    ENVOY_FILTER_USES_REPLACE_OPERATION_INCORRECTLY, "IST0152", "EnvoyFilterUsesReplaceOperationIncorrectly", Error,
        "A patch replaces what cannot be replaced.",
        "The REPLACE operation is only valid for HTTP_FILTER and NETWORK_FILTER.";
    ENVOY_FILTER_USES_ADD_OPERATION_INCORRECTLY, "IST0153", "EnvoyFilterUsesAddOperationIncorrectly", Error,
        "A patch adds what cannot be added.",
        "The ADD operation will be ignored when applyTo is set to ROUTE_CONFIGURATION, or HTTP_ROUTE.";
    ENVOY_FILTER_USES_REMOVE_OPERATION_INCORRECTLY, "IST0154", "EnvoyFilterUsesRemoveOperationIncorrectly", Error,
        "A patch removes what cannot be removed.",
        "The REMOVE operation will be ignored when applyTo is set to ROUTE_CONFIGURATION, or HTTP_ROUTE.";
    ENVOY_FILTER_USES_RELATIVE_OPERATION_WITH_PROXY_VERSION, "IST0155", "EnvoyFilterUsesRelativeOperationWithProxyVersion", Warning,
        "A patch depends on one that only some versions of the proxy get, and has no priority.",
        "This EnvoyFilter does not have a priority and has a relative patch operation (NSTERT_BEFORE/AFTER, REPLACE, MERGE, DELETE) and proxyVersion set which can cause the EnvoyFilter not to be applied during an upgrade. Using the INSERT_FIRST or ADD option or setting the priority may help in ensuring the EnvoyFilter is applied correctly.";
    UNSUPPORTED_GATEWAY_API_VERSION, "IST0156", "UnsupportedGatewayAPIVersion", Error,
        "The Gateway API that is installed is too old.",
        "The Gateway API CRD version {version} is lower than the minimum version: {minimumVersion}";
    INVALID_TELEMETRY_PROVIDER, "IST0157", "InvalidTelemetryProvider", Warning,
        "A Telemetry asks for access logs of no provider, and there is no default.",
        "The Telemetry {name} in namespace {namespace:q} with empty providers will be ignored.";
    PODS_ISTIO_PROXY_IMAGE_MISMATCH_IN_NAMESPACE, "IST0158", "PodsIstioProxyImageMismatchInNamespace", Warning,
        "Pods run other sidecars than they would get today.",
        "The Istio proxy images of the pods running in the namespace do not match the image defined in the injection configuration (pod names: {podNames}). This often happens after upgrading the Istio control-plane and can be fixed by redeploying the pods.";
    CONFLICTING_TELEMETRY_WORKLOAD_SELECTORS, "IST0159", "ConflictingTelemetryWorkloadSelectors", Error,
        "Several Telemetries select the same pod.",
        "The Telemetries {conflictingTelemetries} in namespace {namespace:q} select the same workload pod {workloadPod:q}, which can lead to undefined behavior.";
    MULTIPLE_TELEMETRIES_WITHOUT_WORKLOAD_SELECTORS, "IST0160", "MultipleTelemetriesWithoutWorkloadSelectors", Error,
        "Several Telemetries of a namespace select no workload in particular.",
        "The Telemetries {conflictingTelemetries} in namespace {namespace:q} have no workload selector, which can lead to undefined behavior.";
    INVALID_GATEWAY_CREDENTIAL, "IST0161", "InvalidGatewayCredential", Error,
        "The secret of a gateway holds no certificate and key that could be used.",
        "The credential referenced by the Gateway {gatewayName} in namespace {gatewayNamespace} is invalid, which can cause the traffic not to work as expected.";
    GATEWAY_PORT_NOT_DEFINED_ON_SERVICE, "IST0162", "GatewayPortNotDefinedOnService", Warning,
        "A gateway listens on a port that no service leads to.",
        "The gateway is listening on a target port (port {port}) that is not defined in the Service associated with its workload instances (Pod selector {selector}). If you need to access the gateway port through the gateway Service, it will not be available.";
    INVALID_EXTERNAL_CONTROL_PLANE_CONFIG, "IST0163", "InvalidExternalControlPlaneConfig", Warning,
        "A webhook of a control plane outside of the cluster has no usable address.",
        "The hostname ({hostname}) that was provided for the webhook ({webhook}) to reach the ingress gateway on the external control plane cluster {msg}. Traffic may not flow properly.";
    EXTERNAL_CONTROL_PLANE_ADDRESS_IS_NOT_A_HOSTNAME, "IST0164", "ExternalControlPlaneAddressIsNotAHostname", Info,
        "A webhook reaches a control plane outside of the cluster by an address instead of a name.",
        "The address ({hostname}) that was provided for the webhook ({webhook}) to reach the ingress gateway on the external control plane cluster is an IP address. This is not recommended for a production environment.";
    REFERENCED_INTERNAL_GATEWAY, "IST0165", "ReferencedInternalGateway", Warning,
        "A VirtualService is for a gateway that the control plane makes for itself.",
        "Gateway reference in VirtualService {virtualservice} is to an implementation-generated internal Gateway: {gateway}.";
    INEFFECTIVE_SELECTOR, "IST0166", "IneffectiveSelector", Warning,
        "A policy selects the pods of a Kubernetes Gateway by labels, which has no effect.",
        "Ineffective selector on Kubernetes Gateway {gateway}. Use the TargetRef field instead.";
    INEFFECTIVE_POLICY, "IST0167", "IneffectivePolicy", Warning,
        "A policy has no effect where it is.",
        "The policy has no impact: {reason}.";
    UNKNOWN_UPGRADE_COMPATIBILITY, "IST0168", "UnknownUpgradeCompatibility", Warning,
        "Whether a changed default matters cannot be told.",
        "The configuration {field:q} changed in release {release}, but compatibility cannot be automatically detected: {info}. Or, install with `--set compatibilityVersion={compatVersion}` to retain the old default.";
    UPDATE_INCOMPATIBILITY, "IST0169", "UpdateIncompatibility", Warning,
        "A changed default matters.",
        "The configuration {field:q} changed in release {release}: {info}. Or, install with `--set compatibilityVersion={compatVersion}` to retain the old default.";
    MULTI_CLUSTER_INCONSISTENT_SERVICE, "IST0170", "MultiClusterInconsistentService", Warning,
        "A service is not the same in all clusters.",
        "The service {serviceName} in namespace {namespace:q} is inconsistent across clusters {clusters}, which can lead to undefined behaviors. The inconsistent behaviors are: {error}.";
    NEGATIVE_CONDITION_STATUS, "IST0171", "NegativeConditionStatus", Warning,
        "A controller says in an object's status that something is wrong with it.",
        "A condition with a negative status is present: type={conditionType}, reason={reason}, message={message}.";
    FUTURE_UNSUPPORTED_GATEWAY_API_VERSION, "IST0172", "FutureUnsupportedGatewayAPIVersion", Warning,
        "The Gateway API that is installed will soon be too old.",
        "The Gateway API CRD version {version} is lower than the minimum version: {minimumVersion}";
    DESTINATION_RULE_SUBSET_NOT_SELECT_PODS, "IST0173", "DestinationRuleSubsetNotSelectPods", Error,
        "A subset has no pods.",
        "The Subset {subset} defined in the DestinationRule does not select any pods. Which may lead to 503 UH (NoHealthyUpstream).";
    UNKNOWN_DESTINATION_RULE_HOST, "IST0174", "UnknownDestinationRuleHost", Warning,
        "A DestinationRule is for a host that nobody has.",
        "The host {host} defined in the DestinationRule does not match any services in the mesh.";
    JWKS_URI_FETCH_UNRESTRICTED, "IST0175", "JwksUriFetchUnrestricted", Warning,
        "The control plane fetches keys from wherever a RequestAuthentication says.",
        "BLOCKED_CIDRS_IN_JWKS_URIS is not configured but {count} RequestAuthentication resource(s) exist ({names}). Consider configuring it to restrict JWKS URI fetches to trusted networks.";
    GATEWAY_API_CRD_VERSION_BELOW_MINIMUM, "IST0176", "GatewayAPICRDVersionBelowMinimum", Warning,
        "A kind of the Gateway API is too old, so that its objects are left out.",
        "Gateway API CRD {crd:q} is at version {installedVersion:q} but Istio requires at least {minimumVersion:q}; resources of this kind will not be processed. Upgrade the Gateway API CRDs to satisfy the minimum version.";
    CONFLICTING_SERVICE_ENTRY_PROTOCOL, "IST0177", "ConflictingServiceEntryProtocol", Warning,
        "ServiceEntries give the same port of a host different protocols.",
        "Multiple ServiceEntries ({serviceEntryNames}) define the same host {host:q} and port {port} with conflicting protocols ({protocols}).";
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn parameters_are_put_in() {
        let text = REFERENCED_RESOURCE_NOT_FOUND.text(&[("reftype", "gateway"), ("refval", "a\"b")]);
        assert_eq!(text, r#"Referenced gateway not found: "a\"b""#);
        assert_eq!(DEPRECATED.text(&[]), "Deprecated: {detail}");
        let names: Vec<&str> = NAMESPACE_NOT_INJECTED.parameters().collect();
        assert_eq!(names, ["namespace", "namespace"]);
        assert_eq!(list(["a", "b"]), "[a b]");
    }

    #[test]
    fn codes_and_names_are_unique() {
        let codes: BTreeSet<Code> = ALL.iter().map(|message| message.code).collect();
        let names: BTreeSet<&str> = ALL.iter().map(|message| message.name).collect();
        assert_eq!((codes.len(), names.len()), (ALL.len(), ALL.len()));
    }
}
