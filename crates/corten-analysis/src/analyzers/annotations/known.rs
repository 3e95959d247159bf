//! The annotations that Istio defines: on which kinds they have an effect, how settled they are, and whether they are still meant to be used.

/// An annotation.
#[derive(Debug)]
pub(super) struct Annotation {
    /// Its name.
    pub(super) name: &'static str,
    /// The kinds that it may stand on; `Any` among them means all.
    pub(super) kinds: &'static [&'static str],
    /// Whether its feature is not settled.
    pub(super) is_alpha: bool,
    /// Whether something else should be used.
    pub(super) is_deprecated: bool,
}

/// The annotation of a name.
pub(super) fn find(name: &str) -> Option<&'static Annotation> {
    ALL.iter().find(|annotation| annotation.name == name)
}

const fn alpha(name: &'static str, kinds: &'static [&'static str]) -> Annotation {
    Annotation {
        name,
        kinds,
        is_alpha: true,
        is_deprecated: false,
    }
}

const fn settled(name: &'static str, kinds: &'static [&'static str]) -> Annotation {
    Annotation {
        name,
        kinds,
        is_alpha: false,
        is_deprecated: false,
    }
}

impl Annotation {
    const fn deprecated(mut self) -> Annotation {
        self.is_deprecated = true;
        self
    }
}

const ALL: &[Annotation] = &[
    alpha("alpha.istio.io/canonical-serviceaccounts", &["Service"]).deprecated(),
    alpha("alpha.istio.io/kubernetes-serviceaccounts", &["Service"]).deprecated(),
    alpha("ambient.istio.io/bypass-inbound-capture", &["Pod"]),
    alpha("ambient.istio.io/dns-capture", &["Pod"]),
    settled("ambient.istio.io/redirection", &["Pod"]),
    alpha(
        "ambient.istio.io/waypoint-inbound-binding",
        &["GatewayClass", "Gateway"],
    ),
    alpha("galley.istio.io/analyze-suppress", &["Any"]),
    alpha("gateway.istio.io/controller-version", &["Any"]),
    alpha("gateway.istio.io/name-override", &["Gateway"]),
    alpha("gateway.istio.io/service-account", &["Gateway"]),
    alpha("inject.istio.io/templates", &["Pod"]),
    alpha("istio.io/autoRegistrationGroup", &["WorkloadEntry"]),
    alpha("istio.io/connectedAt", &["WorkloadEntry"]),
    alpha("istio.io/disconnectedAt", &["WorkloadEntry"]),
    alpha("istio.io/dry-run", &["AuthorizationPolicy"]),
    alpha("istio.io/reroute-virtual-interfaces", &["Pod"]),
    alpha("istio.io/rev", &["Pod"]),
    alpha(
        "istio.io/use-waypoint-canary-weight",
        &["Service", "ServiceEntry", "Namespace"],
    ),
    alpha("istio.io/workloadController", &["WorkloadEntry"]),
    settled("kubernetes.io/ingress.class", &["Ingress"]),
    alpha("networking.istio.io/exportTo", &["Service"]),
    alpha("networking.istio.io/service-type", &["Gateway"]),
    alpha(
        "networking.istio.io/traffic-distribution",
        &["Namespace", "Service", "ServiceEntry"],
    ),
    alpha("prometheus.istio.io/merge-metrics", &["Pod"]),
    settled("proxy.istio.io/config", &["Pod"]),
    alpha("proxy.istio.io/overrides", &["Pod"]),
    alpha("readiness.status.sidecar.istio.io/applicationPorts", &["Pod"]),
    alpha("readiness.status.sidecar.istio.io/failureThreshold", &["Pod"]),
    alpha("readiness.status.sidecar.istio.io/initialDelaySeconds", &["Pod"]),
    alpha("readiness.status.sidecar.istio.io/periodSeconds", &["Pod"]),
    alpha("sidecar.istio.io/agentLogLevel", &["Pod"]),
    alpha("sidecar.istio.io/bootstrapOverride", &["Pod"]),
    alpha("sidecar.istio.io/componentLogLevel", &["Pod"]),
    alpha("sidecar.istio.io/discoveryAddress", &["Pod"]).deprecated(),
    alpha("sidecar.istio.io/extraStatTags", &["Pod"]).deprecated(),
    settled("sidecar.istio.io/inject", &["Pod"]).deprecated(),
    alpha("sidecar.istio.io/interceptionMode", &["Pod"]),
    alpha("sidecar.istio.io/logLevel", &["Pod"]),
    alpha("sidecar.istio.io/nativeSidecar", &["Pod"]),
    alpha("sidecar.istio.io/proxyCPU", &["Pod"]),
    alpha("sidecar.istio.io/proxyCPULimit", &["Pod"]),
    alpha("sidecar.istio.io/proxyImage", &["Pod"]),
    alpha("sidecar.istio.io/proxyImageType", &["Pod"]),
    alpha("sidecar.istio.io/proxyMemory", &["Pod"]),
    alpha("sidecar.istio.io/proxyMemoryLimit", &["Pod"]),
    alpha("sidecar.istio.io/rewriteAppHTTPProbers", &["Pod"]),
    alpha("sidecar.istio.io/statsCompression", &["Pod"]).deprecated(),
    alpha("sidecar.istio.io/statsEvictionInterval", &["Pod"]),
    alpha("sidecar.istio.io/statsFlushInterval", &["Pod"]),
    alpha("sidecar.istio.io/statsHistogramBins", &["Pod"]),
    alpha("sidecar.istio.io/statsHistogramBuckets", &["Pod"]),
    alpha("sidecar.istio.io/statsInclusionPrefixes", &["Pod"]).deprecated(),
    alpha("sidecar.istio.io/statsInclusionRegexps", &["Pod"]).deprecated(),
    alpha("sidecar.istio.io/statsInclusionSuffixes", &["Pod"]).deprecated(),
    alpha("sidecar.istio.io/status", &["Pod"]),
    alpha("sidecar.istio.io/userVolume", &["Pod"]),
    alpha("sidecar.istio.io/userVolumeMount", &["Pod"]),
    alpha("status.sidecar.istio.io/port", &["Pod"]),
    alpha("topology.istio.io/controlPlaneClusters", &["Namespace"]),
    settled("traffic.istio.io/nodeSelector", &["Service"]),
    alpha("traffic.sidecar.istio.io/excludeInboundPorts", &["Pod"]),
    alpha("traffic.sidecar.istio.io/excludeInterfaces", &["Pod"]),
    alpha("traffic.sidecar.istio.io/excludeOutboundIPRanges", &["Pod"]),
    alpha("traffic.sidecar.istio.io/excludeOutboundPorts", &["Pod"]),
    alpha("traffic.sidecar.istio.io/includeInboundPorts", &["Pod"]),
    alpha("traffic.sidecar.istio.io/includeOutboundIPRanges", &["Pod"]),
    alpha("traffic.sidecar.istio.io/includeOutboundPorts", &["Pod"]),
    alpha("traffic.sidecar.istio.io/kubevirtInterfaces", &["Pod"]).deprecated(),
];
