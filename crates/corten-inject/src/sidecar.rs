//! What a pod with a sidecar gets: containers, volumes, labels and annotations, as a partial pod.

use serde_json::{Value, json};

use crate::config::Config;
use crate::injector::{Subject, image};
use crate::object::{INIT, PROXY, STATUS_PORT, VALIDATION, annotation, containers, is_set, label, text};
use crate::proxy_config::{brief, interception};
use crate::resources::resources;

/// The longest that a label's value may be.
const LABEL_MAX: usize = 63;
const NATIVE: &str = "sidecar.istio.io/nativeSidecar";

/// All that the parts are made of.
pub(crate) struct Draft<'a> {
    pub(crate) config: &'a Config,
    pub(crate) mesh: &'a Value,
    pub(crate) revision: &'a str,
    pub(crate) compliance_policy: Option<&'a str>,
    pub(crate) subject: &'a Subject<'a>,
    pub(crate) pod: &'a Value,
}

impl Draft<'_> {
    fn value(&self, path: &str) -> &Value {
        self.config.values.pointer(path).unwrap_or(&Value::Null)
    }

    /// The pod's annotation, or else the installation's value, as text.
    fn setting(&self, name: &str, path: &str) -> String {
        annotation(self.pod, name).map_or_else(|| text(self.value(path)), str::to_owned)
    }

    fn traffic(&self, name: &str, path: &str) -> String {
        self.setting(&format!("traffic.sidecar.istio.io/{name}"), path)
    }

    pub(crate) fn native(&self) -> bool {
        native(self.pod, self.subject.native_sidecars)
    }

    fn mode(&self) -> String {
        interception(self.pod, &self.subject.proxy_config)
    }

    fn with_cni(&self) -> bool {
        is_set(self.value("/pilot/cni/enabled"))
    }

    fn metadata(&self, name: &str) -> &str {
        self.subject.proxy_config["proxyMetadata"][name]
            .as_str()
            .unwrap_or_default()
    }

    fn applications(&self) -> Vec<&str> {
        let names = containers(self.pod, "containers")
            .iter()
            .filter_map(|container| container["name"].as_str());
        names.filter(|name| *name != PROXY).collect()
    }

    fn status_port(&self) -> String {
        self.setting(STATUS_PORT, "/global/proxy/statusPort")
    }

    /// The ports that are left alone on the way in.
    fn excluded_inbound(&self) -> String {
        let port = self.status_port();
        let excluded = self.traffic("excludeInboundPorts", "/global/proxy/excludeInboundPorts");
        if port.trim().is_empty() || port.trim() == "0" || excluded.split(',').any(|one| one == port.trim()) {
            return excluded;
        }
        let listed = excluded.split(',').map(str::trim).filter(|one| !one.is_empty());
        listed.chain([port.trim()]).collect::<Vec<_>>().join(",")
    }

    /// The partial pod.
    pub(crate) fn pod(&self) -> Value {
        let (proxy, init) = (self.proxy(), self.init());
        let mut initial: Vec<Value> = init.into_iter().collect();
        let mut made = json!({"metadata": {"labels": self.labels(), "annotations": self.annotations()}, "spec": {}});
        if self.native() {
            initial.push(proxy);
        } else {
            made["spec"]["containers"] = json!([proxy]);
        }
        made["spec"]["initContainers"] = Value::Array(initial);
        made["spec"]["volumes"] = self.volumes();
        if let Some(secrets) = pull_secrets(self.value("/global/imagePullSecrets")) {
            made["spec"]["imagePullSecrets"] = secrets;
        }
        made
    }

    fn labels(&self) -> Value {
        let mut labels = canonical(self.pod, &self.subject.owner_name);
        labels["security.istio.io/tlsMode"] = json!(label(self.pod, "security.istio.io/tlsMode").unwrap_or("istio"));
        if self.metadata("ISTIO_META_ENABLE_HBONE") == "true" {
            let tunnel = label(self.pod, "networking.istio.io/tunnel").unwrap_or("http");
            labels["networking.istio.io/tunnel"] = json!(tunnel);
        }
        labels
    }

    fn annotations(&self) -> Value {
        let mut annotations = common_annotations(self.pod, self.revision, &self.applications());
        if !self.with_cni() {
            return annotations;
        }
        // The plugin reads what the init container would be told.
        let mut put = |name: &str, value: String| annotations[name] = json!(value);
        if self.value("/pilot/cni/provider") == "multus" {
            let networks = annotation(self.pod, "k8s.v1.cni.cncf.io/networks").unwrap_or_default();
            put(
                "k8s.v1.cni.cncf.io/networks",
                with_network(networks, "default/istio-cni"),
            );
        }
        put("sidecar.istio.io/interceptionMode", self.mode());
        for (name, path) in [
            ("includeOutboundIPRanges", "/global/proxy/includeIPRanges"),
            ("excludeOutboundIPRanges", "/global/proxy/excludeIPRanges"),
        ] {
            let value = self.traffic(name, path);
            if !value.is_empty() {
                put(&format!("traffic.sidecar.istio.io/{name}"), value);
            }
        }
        let name = |name: &str| format!("traffic.sidecar.istio.io/{name}");
        put(
            &name("includeInboundPorts"),
            self.traffic("includeInboundPorts", "/global/proxy/includeInboundPorts"),
        );
        put(&name("excludeInboundPorts"), self.excluded_inbound());
        for setting in ["includeOutboundPorts", "excludeOutboundPorts"] {
            if let Some(value) = self.outbound_ports(setting) {
                put(&name(setting), value);
            }
        }
        for setting in [
            &name("kubevirtInterfaces"),
            "istio.io/reroute-virtual-interfaces",
            &name("excludeInterfaces"),
        ] {
            if let Some(value) = annotation(self.pod, setting).filter(|value| !value.is_empty()) {
                put(setting, value.to_owned());
            }
        }
        annotations
    }

    /// Said only where somebody does.
    fn outbound_ports(&self, setting: &str) -> Option<String> {
        let own = annotation(self.pod, &format!("traffic.sidecar.istio.io/{setting}")).map(str::to_owned);
        own.or_else(|| Some(text(self.value(&format!("/global/proxy/{setting}")))).filter(|value| !value.is_empty()))
    }

    /// Leads connections to the proxy, or sees to it that the plugin has done so.
    fn init(&self) -> Option<Value> {
        let mode = self.mode();
        if mode == "NONE" {
            return None;
        }
        let with_cni = self.with_cni();
        let tproxy = mode == "TPROXY";
        let user = self
            .subject
            .proxy_user
            .map_or_else(|| "1337".to_owned(), |user| user.to_string());
        let port = |name: &str, default: u16| match &self.mesh[name] {
            Value::Null => default.to_string(),
            port => text(port),
        };
        let excluded = match self.excluded_inbound() {
            none if none.is_empty() => "15090,15021".to_owned(),
            some => format!("15090,15021,{some}"),
        };
        let mut args = vec!["istio-iptables".to_owned()];
        let mut flag = |flag: &str, value: String| args.extend([flag.to_owned(), value]);
        flag("-p", port("proxyListenPort", 15001));
        flag("-z", port("proxyInboundListenPort", 15006));
        flag("-u", if tproxy { "1337".to_owned() } else { user.clone() });
        flag("-m", mode);
        flag(
            "-i",
            self.traffic("includeOutboundIPRanges", "/global/proxy/includeIPRanges"),
        );
        flag(
            "-x",
            self.traffic("excludeOutboundIPRanges", "/global/proxy/excludeIPRanges"),
        );
        flag(
            "-b",
            self.traffic("includeInboundPorts", "/global/proxy/includeInboundPorts"),
        );
        flag("-d", excluded);
        if let Some(ports) = self.outbound_ports("includeOutboundPorts") {
            flag("-q", ports);
        }
        if let Some(ports) = self.outbound_ports("excludeOutboundPorts") {
            flag("-o", ports);
        }
        let interfaces = [
            "istio.io/reroute-virtual-interfaces",
            "traffic.sidecar.istio.io/kubevirtInterfaces",
        ];
        if let Some(interfaces) = interfaces.into_iter().find_map(|name| annotation(self.pod, name)) {
            flag("-k", interfaces.to_owned());
        }
        if let Some(interfaces) = annotation(self.pod, "traffic.sidecar.istio.io/excludeInterfaces") {
            flag("-c", interfaces.to_owned());
        }
        args.push(format!(
            "--log_output_level={}",
            self.setting("sidecar.istio.io/agentLogLevel", "/global/logging/level")
        ));
        let global = |name: &str| is_set(self.value(&format!("/global/{name}")));
        for (wanted, word) in [
            (global("logAsJson"), "--log_as_json"),
            (with_cni, "--run-validation"),
            (with_cni, "--skip-rule-apply"),
            (!with_cni && global("proxy_init/forceApplyIptables"), "--force-apply"),
            (global("nativeNftables"), "--native-nftables"),
        ] {
            if wanted {
                args.push(word.to_owned());
            }
        }
        let privileged = is_set(self.value("/global/proxy/privileged"));
        let mut security = if with_cni {
            let id = |own: Option<u64>| json!(if tproxy { 1337 } else { own.unwrap_or(1337) });
            json!({
                "allowPrivilegeEscalation": privileged, "privileged": privileged, "capabilities": {"drop": ["ALL"]},
                "readOnlyRootFilesystem": true, "runAsNonRoot": true,
                "runAsGroup": id(self.subject.proxy_group), "runAsUser": id(self.subject.proxy_user),
            })
        } else {
            json!({
                "allowPrivilegeEscalation": privileged, "privileged": privileged,
                "capabilities": {"add": ["NET_ADMIN", "NET_RAW"], "drop": ["ALL"]},
                "readOnlyRootFilesystem": false, "runAsNonRoot": false, "runAsGroup": 0, "runAsUser": 0,
            })
        };
        self.seccomp(&mut security);
        let name = if with_cni { VALIDATION } else { INIT };
        let image = image(&self.config.values, self.pod, "/global/proxy_init/image", "");
        let mut container = json!({
            "name": name, "image": image, "args": args, "securityContext": security,
            "resources": resources(self.pod, self.value("/global/proxy/resources")),
        });
        self.pull_policy(&mut container);
        let variables = self.metadata_variables();
        if !variables.is_empty() {
            container["env"] = Value::Array(variables);
        }
        Some(container)
    }

    fn seccomp(&self, security: &mut Value) {
        let profile = self.value("/global/proxy/seccompProfile");
        if is_set(profile) {
            security["seccompProfile"] = profile.clone();
        }
    }

    fn pull_policy(&self, container: &mut Value) {
        let policy = self.value("/global/imagePullPolicy");
        if is_set(policy) {
            container["imagePullPolicy"] = policy.clone();
        }
    }

    /// What the configuration of the proxy says as variables.
    fn metadata_variables(&self) -> Vec<Value> {
        let metadata = self.subject.proxy_config["proxyMetadata"].as_object();
        let variables = metadata.into_iter().flatten();
        variables
            .map(|(name, value)| json!({"name": name, "value": text(value)}))
            .collect()
    }

    fn proxy(&self) -> Value {
        let kind = self.subject.proxy_config["image"]["imageType"]
            .as_str()
            .unwrap_or_default();
        let mut container = json!({
            "name": PROXY,
            "image": image(&self.config.values, self.pod, "/global/proxy/image", kind),
            "ports": [{"containerPort": 15090, "protocol": "TCP", "name": "http-envoy-prom"}],
            "args": self.arguments("sidecar"),
            "env": self.environment(),
            "securityContext": self.security(),
            "resources": resources(self.pod, self.value("/global/proxy/resources")),
            "volumeMounts": self.mounts(),
        });
        if self.native() {
            container["restartPolicy"] = json!("Always");
        }
        self.pull_policy(&mut container);
        let lifecycle = self.value("/global/proxy/lifecycle");
        let holds = is_set(&self.subject.proxy_config["holdApplicationUntilProxyStarts"])
            || is_set(self.value("/global/proxy/holdApplicationUntilProxyStarts"));
        let hook = |words: &[&str]| json!({"exec": {"command": words}});
        if is_set(lifecycle) {
            container["lifecycle"] = lifecycle.clone();
        } else if self.native() {
            let port = format!("--debug-port={}", self.status_port());
            container["lifecycle"] = json!({"preStop": hook(&["pilot-agent", "request", &port, "POST", "drain"])});
        } else if holds {
            container["lifecycle"] = json!({"postStart": hook(&["pilot-agent", "wait"])});
        }
        self.probes(&mut container);
        container
    }

    pub(crate) fn arguments(&self, kind: &str) -> Vec<String> {
        let mut args = vec![
            "proxy".to_owned(),
            kind.to_owned(),
            "--domain".to_owned(),
            format!(
                "$(POD_NAMESPACE).svc.{}",
                text(self.value("/global/proxy/clusterDomain"))
            ),
        ];
        for (flag, name, path) in [
            ("proxyLogLevel", "logLevel", "/global/proxy/logLevel"),
            (
                "proxyComponentLogLevel",
                "componentLogLevel",
                "/global/proxy/componentLogLevel",
            ),
            ("log_output_level", "agentLogLevel", "/global/logging/level"),
        ] {
            args.push(format!(
                "--{flag}={}",
                self.setting(&format!("sidecar.istio.io/{name}"), path)
            ));
        }
        let sts = self.value("/global/sts/servicePort");
        if is_set(sts) {
            args.push(format!("--stsPort={}", text(sts)));
        }
        if is_set(self.value("/global/logAsJson")) {
            args.push("--log_as_json".to_owned());
        }
        let outliers = self.value("/global/proxy/outlierLogPath");
        if kind == "sidecar" && is_set(outliers) {
            args.push(format!("--outlierLogPath={}", text(outliers)));
        }
        args
    }

    fn probes(&self, container: &mut Value) {
        if self.status_port() == "0" {
            return;
        }
        let ready = json!({"path": "/healthz/ready", "port": 15021});
        let startup = self.value("/global/proxy/startupProbe");
        if is_set(&startup["enabled"]) {
            container["startupProbe"] = json!({
                "httpGet": ready, "initialDelaySeconds": 0, "periodSeconds": 1, "timeoutSeconds": 3,
                "failureThreshold": startup["failureThreshold"],
            });
        }
        let number = |name: &str, path: &str| {
            let value = self.setting(&format!("readiness.status.sidecar.istio.io/{name}"), path);
            value.parse::<u32>().map_or(Value::Null, |number| json!(number))
        };
        container["readinessProbe"] = json!({
            "httpGet": ready,
            "initialDelaySeconds": number("initialDelaySeconds", "/global/proxy/readinessInitialDelaySeconds"),
            "periodSeconds": number("periodSeconds", "/global/proxy/readinessPeriodSeconds"),
            "timeoutSeconds": 3,
            "failureThreshold": number("failureThreshold", "/global/proxy/readinessFailureThreshold"),
        });
    }

    fn security(&self) -> Value {
        let (user, group) = (
            self.subject.proxy_user.unwrap_or(1337),
            self.subject.proxy_group.unwrap_or(1337),
        );
        let privileged = is_set(self.value("/global/proxy/privileged"));
        let tproxy = self.mode() == "TPROXY";
        let low_ports = self.setting("sidecar.istio.io/capNetBindService", "/global/proxy/capNetBindService") == "true";
        let mut security = if self.metadata("IPTABLES_TRACE_LOGGING") == "true" {
            json!({
                "allowPrivilegeEscalation": true, "privileged": true, "readOnlyRootFilesystem": true,
                "capabilities": {"add": ["NET_ADMIN"], "drop": ["ALL"]},
                "runAsGroup": group, "runAsNonRoot": false, "runAsUser": 0,
            })
        } else {
            json!({
                "allowPrivilegeEscalation": privileged, "privileged": privileged, "readOnlyRootFilesystem": true,
                "capabilities": {"drop": ["ALL"]},
                "runAsNonRoot": true, "runAsUser": user, "runAsGroup": group,
            })
        };
        if (tproxy || low_ports) && self.metadata("IPTABLES_TRACE_LOGGING") != "true" {
            let powers = [(tproxy, "NET_ADMIN"), (low_ports, "NET_BIND_SERVICE")];
            let powers: Vec<&str> = powers
                .iter()
                .filter(|(wanted, _)| *wanted)
                .map(|(_, power)| *power)
                .collect();
            security["capabilities"]["add"] = json!(powers);
            security["runAsNonRoot"] = json!(false);
            security["runAsUser"] = json!(0);
            security["runAsGroup"] = json!(1337);
        }
        self.seccomp(&mut security);
        security
    }

    pub(crate) fn environment(&self) -> Vec<Value> {
        let mut env = Vec::new();
        let mut put = |name: &str, value: &str| env.push(json!({"name": name, "value": value}));
        let field = |name: &str, path: &str| json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}});
        let limit = |name: &str, of: &str| json!({"name": name, "valueFrom": {"resourceFieldRef": {"resource": of, "divisor": "1"}}});
        if self.mesh["inboundTrafficPolicy"]["mode"] == "LOCALHOST" {
            put("REWRITE_PROBE_LEGACY_LOCALHOST_DESTINATION", "true");
        }
        put("PILOT_CERT_PROVIDER", &text(self.value("/global/pilotCertProvider")));
        put("CA_ADDR", &self.authority());
        env.extend([
            field("POD_NAME", "metadata.name"),
            field("POD_NAMESPACE", "metadata.namespace"),
            field("INSTANCE_IP", "status.podIP"),
            field("SERVICE_ACCOUNT", "spec.serviceAccountName"),
            field("HOST_IP", "status.hostIP"),
            limit("ISTIO_CPU_LIMIT", "limits.cpu"),
        ]);
        let mut put = |name: &str, value: &str| env.push(json!({"name": name, "value": value}));
        put("PROXY_CONFIG", &format!("{}\n", brief(&self.subject.proxy_config)));
        put("ISTIO_META_POD_PORTS", &self.ports());
        put("ISTIO_META_APP_CONTAINERS", &self.applications().join(","));
        env.push(limit("GOMEMLIMIT", "limits.memory"));
        let mut put = |name: &str, value: &str| env.push(json!({"name": name, "value": value}));
        if let Some(policy) = self.compliance_policy {
            put("COMPLIANCE_POLICY", policy);
            if policy == "fips-140-3" {
                put("GODEBUG", "fips140=only");
            }
        }
        let cluster = self.value("/global/multiCluster/clusterName");
        put(
            "ISTIO_META_CLUSTER_ID",
            &if is_set(cluster) {
                text(cluster)
            } else {
                "Kubernetes".to_owned()
            },
        );
        env.push(field("ISTIO_META_NODE_NAME", "spec.nodeName"));
        let mut put = |name: &str, value: &str| env.push(json!({"name": name, "value": value}));
        put("ISTIO_META_INTERCEPTION_MODE", &self.mode());
        let network = self.value("/global/network");
        if is_set(network) {
            put("ISTIO_META_NETWORK", &text(network));
        }
        let workload = label(self.pod, "service.istio.io/workload-name").filter(|name| !name.is_empty());
        let workload = workload.unwrap_or(&self.subject.owner_name);
        if !workload.is_empty() {
            put("ISTIO_META_WORKLOAD_NAME", workload);
        }
        let subject = self.subject;
        if !subject.owner_api_version.is_empty() && !subject.owner_name.is_empty() {
            let namespace = Some(subject.owner_namespace.as_str()).filter(|name| !name.is_empty());
            let owner = format!(
                "kubernetes://apis/{}/namespaces/{}/{}s/{}",
                subject.owner_api_version,
                namespace.unwrap_or("default"),
                subject.owner_kind.to_lowercase(),
                subject.owner_name
            );
            put("ISTIO_META_OWNER", &owner);
        }
        if annotation(self.pod, "sidecar.istio.io/bootstrapOverride").is_some() {
            put(
                "ISTIO_BOOTSTRAP_OVERRIDE",
                "/etc/istio/custom-bootstrap/custom_bootstrap.json",
            );
        }
        let domain = match self.mesh["trustDomain"].as_str().unwrap_or("cluster.local") {
            "" => text(self.value("/global/trustDomain")),
            domain => domain.to_owned(),
        };
        let mesh = self.value("/global/meshID");
        if is_set(mesh) {
            put("ISTIO_META_MESH_ID", &text(mesh));
        } else if !domain.is_empty() {
            put("ISTIO_META_MESH_ID", &domain);
        }
        if !domain.is_empty() {
            put("TRUST_DOMAIN", &domain);
        }
        if self.value("/global/proxy/tracer") == "datadog"
            && let Some(own) = annotation(self.pod, "apm.datadoghq.com/env")
            && let Ok(Value::Object(own)) = serde_json::from_str(own)
        {
            for (name, value) in own {
                put(&name, &text(&value));
            }
        }
        if let Some(attributes) = self.telemetry_attributes() {
            put("OTEL_RESOURCE_ATTRIBUTES", &attributes);
        }
        env.extend(self.metadata_variables());
        env
    }

    fn authority(&self) -> String {
        let given = self.value("/global/caAddress");
        if is_set(given) {
            return text(given);
        }
        let revision = match text(self.value("/revision")) {
            none if none.is_empty() => String::new(),
            revision => format!("-{revision}"),
        };
        format!(
            "istiod{revision}.{}.svc:15012",
            text(self.value("/global/istioNamespace"))
        )
    }

    /// The ports of all containers, a line each.
    fn ports(&self) -> String {
        let all = containers(self.pod, "containers").iter();
        let ports = all.flat_map(|container| container["ports"].as_array().into_iter().flatten());
        let lines: Vec<String> = ports.map(|port| format!("    {port}\n")).collect();
        let joined = lines.join("    ,");
        format!("[\n{joined}]")
    }

    /// Attributes of the workload, where a provider of tracing wants them from the environment.
    fn telemetry_attributes(&self) -> Option<String> {
        let providers = self.mesh["extensionProviders"].as_array().into_iter().flatten();
        let mut wanting = providers
            .filter(|provider| provider["opentelemetry"]["serviceAttributeEnrichment"] == "OTEL_SEMANTIC_CONVENTIONS");
        wanting.next()?;
        let said = |name: &str| {
            let said = annotation(self.pod, &format!("resource.opentelemetry.io/{name}"));
            said.filter(|value| !value.is_empty()).map(str::to_owned)
        };
        let namespace = &self.subject.owner_namespace;
        let all = containers(self.pod, "containers");
        let version = || {
            let label = label(self.pod, "app.kubernetes.io/version").filter(|value| !value.is_empty());
            let [only] = all else { return label.map(str::to_owned) };
            label.map(str::to_owned).or_else(|| version_of(only["image"].as_str()?))
        };
        let instance = || {
            let first = all.first()?["name"].as_str()?;
            Some(format!("{namespace}.$(POD_NAME).{first}"))
        };
        let attributes = [
            (
                "service.namespace",
                said("service.namespace").or_else(|| Some(namespace.clone()).filter(|name| !name.is_empty())),
            ),
            ("service.version", said("service.version").or_else(version)),
            ("service.instance.id", said("service.instance.id").or_else(instance)),
        ];
        let listed: Vec<String> = attributes
            .into_iter()
            .filter_map(|(name, value)| Some(format!("{name}={}", value?)))
            .collect();
        (!listed.is_empty()).then(|| listed.join(","))
    }

    pub(crate) fn mounts(&self) -> Vec<Value> {
        let mount = |name: &str, path: &str| json!({"name": name, "mountPath": path});
        let read_only = |name: &str, path: &str| json!({"name": name, "mountPath": path, "readOnly": true});
        let mut mounts = vec![
            mount("workload-socket", "/var/run/secrets/workload-spiffe-uds"),
            mount("credential-socket", "/var/run/secrets/credential-uds"),
        ];
        let certificates = "/var/run/secrets/workload-spiffe-credentials";
        mounts.push(if self.of_gke() {
            read_only("gke-workload-certificate", certificates)
        } else {
            mount("workload-certs", certificates)
        });
        if self.of_istiod() {
            mounts.push(mount("istiod-ca-cert", "/var/run/secrets/istio"));
            mounts.push(mount("istio-ca-crl", "/var/run/secrets/istio/crl"));
        }
        mounts.push(mount("istio-data", "/var/lib/istio/data"));
        if annotation(self.pod, "sidecar.istio.io/bootstrapOverride").is_some() {
            mounts.push(mount("custom-bootstrap-volume", "/etc/istio/custom-bootstrap"));
        }
        mounts.push(mount("istio-envoy", "/etc/istio/proxy"));
        mounts.push(mount("istio-token", "/var/run/secrets/tokens"));
        if is_set(self.value("/global/mountMtlsCerts")) {
            mounts.push(read_only("istio-certs", "/etc/certs/"));
        }
        mounts.push(mount("istio-podinfo", "/etc/istio/pod"));
        mounts.extend(user_volumes(self.pod, "sidecar.istio.io/userVolumeMount"));
        mounts
    }

    fn of_gke(&self) -> bool {
        self.value("/global/caName") == "GkeWorkloadCertificate"
    }

    fn of_istiod(&self) -> bool {
        self.value("/global/pilotCertProvider") == "istiod"
    }

    pub(crate) fn volumes(&self) -> Value {
        let mut volumes = vec![json!({"name": "workload-socket"}), json!({"name": "credential-socket"})];
        volumes.push(if self.of_gke() {
            json!({"name": "gke-workload-certificate", "csi": {"driver": "workloadcertificates.security.cloud.google.com"}})
        } else {
            json!({"name": "workload-certs"})
        });
        if let Some(name) = annotation(self.pod, "sidecar.istio.io/bootstrapOverride") {
            volumes.push(json!({"name": "custom-bootstrap-volume", "configMap": {"name": name}}));
        }
        let downward = |path: &str, field: &str| json!({"path": path, "fieldRef": {"fieldPath": field}});
        volumes.extend([
            json!({"name": "istio-envoy", "emptyDir": {"medium": "Memory"}}),
            json!({"name": "istio-data", "emptyDir": {}}),
            json!({"name": "istio-podinfo", "downwardAPI": {"items": [
                downward("labels", "metadata.labels"), downward("annotations", "metadata.annotations"),
            ]}}),
            json!({"name": "istio-token", "projected": {"sources": [{"serviceAccountToken": {
                "path": "istio-token", "expirationSeconds": 43200, "audience": self.value("/global/sds/token/aud"),
            }}]}}),
        ]);
        let bundle = text(self.value("/global/trustBundleName"));
        if self.of_istiod() {
            volumes.push(if is_set(self.value("/pilot/env/ENABLE_CLUSTER_TRUST_BUNDLE_API")) {
                let name = if bundle.is_empty() { "root-cert" } else { &bundle };
                json!({"name": "istiod-ca-cert", "projected": {"sources": [{"clusterTrustBundle": {
                    "name": format!("istio.io:istiod-ca:{name}"), "path": "root-cert.pem",
                }}]}})
            } else {
                let name = if bundle.is_empty() {
                    "istio-ca-root-cert"
                } else {
                    &bundle
                };
                json!({"name": "istiod-ca-cert", "configMap": {"name": name}})
            });
        }
        let lists = match text(self.value("/pilot/crlConfigMapName")) {
            none if none.is_empty() => "istio-ca-crl".to_owned(),
            name => name,
        };
        volumes.push(json!({"name": "istio-ca-crl", "configMap": {"name": lists, "optional": true}}));
        if is_set(self.value("/global/mountMtlsCerts")) {
            let account = self.pod["spec"]["serviceAccountName"]
                .as_str()
                .filter(|name| !name.is_empty());
            let name = format!("istio.{}", account.unwrap_or("default"));
            volumes.push(json!({"name": "istio-certs", "secret": {"optional": true, "secretName": name}}));
        }
        volumes.extend(user_volumes(self.pod, "sidecar.istio.io/userVolume"));
        Value::Array(volumes)
    }
}

/// Whether a pod's proxy is one of its init containers that goes on running.
pub(crate) fn native(pod: &Value, otherwise: bool) -> bool {
    match annotation(pod, NATIVE) {
        Some(own) => own != "false",
        None => otherwise,
    }
}

/// What the workload is called, and which version of it this is.
pub(crate) fn canonical(pod: &Value, owner: &str) -> Value {
    let first = |names: &[&str]| {
        names
            .iter()
            .filter_map(|name| label(pod, name))
            .find(|value| !value.is_empty())
    };
    let name = first(&["service.istio.io/canonical-name", "app.kubernetes.io/name", "app"]).unwrap_or(owner);
    let cut: String = name.chars().take(LABEL_MAX).collect();
    let revision = first(&[
        "service.istio.io/canonical-revision",
        "app.kubernetes.io/version",
        "version",
    ]);
    json!({
        "service.istio.io/canonical-name": cut.trim_matches(['-', '_', '.']),
        "service.istio.io/canonical-revision": revision.unwrap_or("latest"),
    })
}

/// The revision, and which container people mean.
pub(crate) fn common_annotations(pod: &Value, revision: &str, applications: &[&str]) -> Value {
    let mut annotations = json!({"istio.io/rev": if revision.is_empty() { "default" } else { revision }});
    for name in [
        "kubectl.kubernetes.io/default-logs-container",
        "kubectl.kubernetes.io/default-container",
    ] {
        if let (Some(first), None) = (applications.first(), annotation(pod, name)) {
            annotations[name] = json!(first);
        }
    }
    annotations
}

/// Secrets to pull images with, as pods have them.
pub(crate) fn pull_secrets(names: &Value) -> Option<Value> {
    let names = names.as_array().filter(|names| !names.is_empty())?;
    Some(names.iter().map(|name| json!({"name": name})).collect())
}

/// Volumes, or their mounts, of an annotation: JSON, by name.
fn user_volumes(pod: &Value, name: &str) -> Vec<Value> {
    let own = annotation(pod, name).and_then(|text| serde_json::from_str::<Value>(text).ok());
    let Some(Value::Object(own)) = own else {
        return Vec::new();
    };
    let named = own.into_iter().map(|(name, mut volume)| {
        if volume.is_object() {
            volume["name"] = json!(name);
        }
        volume
    });
    named.filter(Value::is_object).collect()
}

/// A list of networks, as Multus reads it from a pod's annotation, with one more: `NAME` or `NAMESPACE/NAME`. What is in it already, or in
/// no form that could be added to, stays as it is.
pub fn with_network(networks: &str, network: &str) -> String {
    if networks.is_empty() {
        return network.to_owned();
    }
    let Some(end) = networks.rfind(']') else {
        let has = networks.split(',').any(|one| one.trim() == network);
        return if has {
            networks.to_owned()
        } else {
            format!("{networks}, {network}")
        };
    };
    let Ok(Value::Array(listed)) = serde_json::from_str(networks) else {
        return networks.to_owned();
    };
    let (namespace, name) = network
        .split_once('/')
        .map_or((None, network), |(namespace, name)| (Some(namespace), name));
    let is_it = |one: &Value| one["name"] == name && one["namespace"].as_str() == namespace;
    if listed.iter().any(is_it) {
        return networks.to_owned();
    }
    let one = match namespace {
        Some(namespace) => format!(r#", {{"name": "{name}", "namespace": "{namespace}"}}"#),
        None => format!(r#", {{"name": "{name}"}}"#),
    };
    format!("{}{one}{}", &networks[..end], &networks[end..])
}

/// Tag and digest of an image.
fn version_of(image: &str) -> Option<String> {
    let (name, digest) = match image.split_once('@') {
        Some((name, digest)) => (name, Some(digest)),
        None => (image, None),
    };
    let tag = name
        .rsplit_once(':')
        .map(|(_, tag)| tag)
        .filter(|tag| !tag.contains('/'));
    match (tag, digest) {
        (Some(tag), Some(digest)) => Some(format!("{tag}@{digest}")),
        (only, other) => only.or(other).map(str::to_owned),
    }
}
