//! Helm and this crate make the same objects of the charts, whatever the values.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use corten_api::crds::{Channel, definitions};
use corten_api::decode;
use corten_install::charts::{Component, DEFINITIONS, Release};
use corten_install::operator::{Plan, Request, plan};
use corten_install::render::{self, Options};
use corten_install::values::merge;
use serde_json::Value;

/// Values that reach every branch of the templates.
const CASES: &[&[&str]] = &[
    &["profile=ambient"],
    &["profile=demo"],
    &["profile=default"],
    &[
        "profile=default",
        "values.sidecarInjectorWebhook.enableNamespacesByDefault=true",
        "values.sidecarInjectorWebhook.reinvocationPolicy=IfNeeded",
        "values.sidecarInjectorWebhook.defaultTemplates=[sidecar, mine]",
        "values.sidecarInjectorWebhook.templates.mine=spec: {}",
        "values.sidecarInjectorWebhook.neverInjectSelector=[{matchLabels: {a: b}}]",
        "values.sidecarInjectorWebhook.injectedAnnotations.x=y",
        "values.sidecarInjectorWebhookAnnotations.x=y",
        "values.istiodRemote.injectionPath=/inject/cluster/c",
        "values.istiodRemote.injectionCABundle=dGVzdA==",
        "values.revisionTags=[default, prod]",
        "values.global.tag=1.2",
        "values.global.proxy.resources.limits=null",
        "values.jwksResolverExtraRootCA=PEM",
    ],
    &[
        "profile=minimal",
        "values.istiodRemote.injectionURL=https://x.example/inject",
        "values.defaultRevision=other",
        "values.global.omitSidecarInjectorConfigMap=true",
    ],
    &["profile=minimal", "values.global.operatorManageWebhooks=true"],
    &[
        "profile=demo",
        "components.ingressGateways[0].label.team=edge",
        "components.ingressGateways[0].namespace=edge",
        "components.ingressGateways[0].k8s.service.ports=[{name: tcp, port: 5432, targetPort: 15432}]",
        "components.ingressGateways[0].k8s.hpaSpec.minReplicas=2",
        "values.gateways.istio-ingressgateway.env.ISTIO_META_NETWORK=n1",
        "values.gateways.istio-ingressgateway.podAnnotations.a=b",
        "values.gateways.istio-ingressgateway.serviceAnnotations.a=true",
        "values.gateways.istio-ingressgateway.loadBalancerSourceRanges=[10.0.0.0/8]",
        "values.gateways.istio-ingressgateway.nodeSelector.zone=b",
        "values.gateways.istio-ingressgateway.podAntiAffinityLabelSelector=[{key: app, operator: In, values: 'a,b', topologyKey: host}]",
        "values.gateways.istio-ingressgateway.podAntiAffinityTermLabelSelector=[{key: app, operator: Exists, topologyKey: host, namespaces: 'x,y'}]",
        "values.gateways.istio-ingressgateway.configVolumes=[{name: c, mountPath: /c, configMapName: m}, {name: d, configMapName: n}]",
        "values.gateways.istio-ingressgateway.additionalContainers=[{name: x, image: y}]",
        "values.gateways.istio-ingressgateway.ingressPorts=[{name: more, port: 90}]",
        "values.gateways.istio-ingressgateway.memory.targetAverageUtilization=70",
        "values.gateways.istio-egressgateway.injectionTemplate=gateway",
        "values.gateways.istio-egressgateway.autoscaleEnabled=false",
        "values.gateways.istio-egressgateway.replicaCount=3",
        "values.gateways.istio-egressgateway.customService=true",
        "values.gateways.istio-egressgateway.runAsRoot=true",
        "values.gateways.istio-egressgateway.tolerations=[{operator: Exists}]",
        "values.gateways.istio-egressgateway.resources.limits.cpu=null",
        "values.global.arch={amd64: 2, s390x: 0}",
        "values.global.networkPolicy.enabled=true",
        "values.global.network=n2",
        "values.meshConfig.defaultConfig.proxyMetadata.A=b",
        "values.global.proxy.image=registry.example/envoy:1",
        "values.global.imagePullSecrets=[s1]",
        "revision=blue",
    ],
    &["profile=remote"],
    &["profile=preview"],
    &["profile=openshift-ambient"],
    &["profile=ambient", "revision=canary", "values.defaultRevision=canary"],
    &[
        "profile=ambient",
        "hub=registry.example/mesh",
        "tag=1.2",
        "values.global.variant=debug",
    ],
    &[
        "profile=ambient",
        "values.global.platform=gke",
        "values.global.networkPolicy.enabled=true",
    ],
    &[
        "profile=ambient",
        "values.global.platform=k3s",
        "values.global.imagePullPolicy=Never",
    ],
    &[
        "profile=ambient",
        "values.global.platform=microk8s",
        "values.cni.istioOwnedCNIConfig=true",
    ],
    &[
        "profile=ambient",
        "values.global.platform=minikube",
        "values.cni.ambient.shareHostNetworkNamespace=false",
    ],
    &[
        "profile=ambient",
        "values.global.platform=k3d",
        "values.cni.cniConfFileName=10-x.conflist",
    ],
    &[
        "profile=ambient",
        "values.pilot.autoscaleEnabled=false",
        "values.pilot.replicaCount=3",
        "values.pilot.pdb.minAvailable=2",
        "values.pilot.image=registry.example/own:1",
        "values.pilot.env.A=true",
        "values.pilot.env.B=12",
        "values.pilot.extraContainerArgs=[--x]",
        "values.pilot.serviceAccountAnnotations.a=b",
        "values.pilot.seccompProfile.type=RuntimeDefault",
    ],
    &[
        "profile=ambient",
        "values.pilot.autoscaleMin=2",
        "values.pilot.pdb.maxUnavailable=1",
        "values.pilot.pdb.unhealthyPodEvictionPolicy=AlwaysAllow",
        "values.pilot.memory.targetAverageUtilization=70",
        "values.pilot.autoscaleBehavior={scaleDown: {stabilizationWindowSeconds: 60}}",
        "values.pilot.tolerations=[{key: a, operator: Exists}]",
        "values.pilot.nodeSelector.zone=b",
        "values.pilot.podAnnotations.x=y",
        "values.pilot.podLabels.x=y",
        "values.revisionTags=[prod, test]",
        "values.pilot.ipFamilyPolicy=PreferDualStack",
        "values.pilot.ipFamilies=[IPv4, IPv6]",
        "values.global.imagePullSecrets=[s1, s2]",
        "values.global.priorityClassName=system-cluster-critical",
    ],
    &[
        "profile=ambient",
        "values.ztunnel.resourceName=zt",
        "values.ztunnel.logAsJson=true",
        "values.ztunnel.network=n1",
        "values.ztunnel.peerCaCrl.enabled=true",
        "values.ztunnel.dnsPolicy=None",
        "values.ztunnel.dnsConfig={nameservers: [10.0.0.1]}",
        "values.ztunnel.resources={limits: {cpu: 2}}",
        "values.ztunnel.env.X=1",
        "values.ztunnel.seLinuxOptions.type=spc_t",
        "values.ztunnel.terminationGracePeriodSeconds=30",
        "values.ztunnel.labels.team=mesh",
        "values.ztunnel.revision=r1",
        "values.ztunnel.affinity={nodeAffinity: {}}",
        "values.cni.useAppArmorAnnotation=false",
        "values.cni.chained=false",
        "values.cni.repair.deletePods=true",
        "values.cni.repair.labelPods=true",
        "values.cni.excludeNamespaces=[kube-system, other]",
        "values.cni.logging.level=debug",
        "values.cni.resourceQuotas.enabled=true",
    ],
    &[
        "profile=ambient",
        "values.global.istioNamespace=mesh",
        "values.meshConfig.trustDomain=example.org",
        "values.global.meshID=m1",
        "values.global.network=net-a",
        "values.global.multiCluster.clusterName=c1",
        "values.global.meshNetworks={net-a: {endpoints: [{fromRegistry: c1}], gateways: [{address: 1.1.1.1, port: 15008}]}}",
        "values.base.validationCABundle=dGVzdA==",
        "values.global.enableReaderRBAC=false",
        "values.telemetry.enabled=false",
    ],
    &[
        "profile=minimal",
        "values.base.validationURL=https://v.example/validate",
        "values.global.resourceScope=cluster",
    ],
    &[
        "profile=ambient",
        "values.global.resourceScope=namespace",
        "values.base.excludedCRDs=[sidecars.networking.istio.io]",
    ],
    &[
        "profile=minimal",
        "values.base.enableCRDTemplates=false",
        "values.defaultRevision=",
        "values.global.configValidation=false",
    ],
];

fn asked(sets: &[&str]) -> Plan {
    let sets = sets.iter().map(|set| ((*set).to_owned(), false)).collect();
    plan(&Request {
        sets,
        ..Request::default()
    })
    .unwrap()
}

type Objects = BTreeMap<String, Value>;

fn by_name(objects: impl Iterator<Item = Value>) -> Objects {
    let mut all = Objects::new();
    for object in objects {
        let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (kind, meta) = (word(&object["kind"]), &object["metadata"]);
        let key = format!("{kind} {}/{}", word(&meta["namespace"]), word(&meta["name"]));
        assert!(all.insert(key.clone(), object).is_none(), "{key} is there twice");
    }
    all
}

fn charts() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/charts")
}

/// What Helm makes of a chart; `None`: there is no Helm.
fn helm(component: Component, release: &Release<'_>, values: &Path) -> Option<Objects> {
    let mut command = Command::new("helm");
    command
        .args(["template", release.name, "-n", release.namespace])
        .args(["--kube-version", "1.34.0", "-f"])
        .arg(values)
        .arg(charts().join(component.chart_name()));
    if release.is_upgrade {
        command.arg("--is-upgrade");
    }
    let output = match command.output() {
        Ok(output) => output,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
        Err(error) => panic!("{error}"),
    };
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{complaint}");
    let text = String::from_utf8(output.stdout).unwrap();
    let (documents, problems) = decode::documents("helm", &text);
    assert!(problems.is_empty(), "{problems:?}");
    Some(by_name(
        documents.iter().map(decode::Node::to_value).filter(Value::is_object),
    ))
}

#[test]
fn helm_makes_the_same_objects() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("values.json");
    for (sets, is_upgrade) in CASES.iter().flat_map(|sets| [(sets, false), (sets, true)]) {
        // An upgrade differs in one place only.
        if is_upgrade && sets.len() > 2 {
            continue;
        }
        let mut plan = asked(sets);
        // The definitions are the same for all values, and large.
        if sets.len() > 1 && !sets.iter().any(|set| set.contains("CRD")) {
            plan.values["base"]["enableCRDTemplates"] = Value::Bool(false);
        }
        for part in &plan.parts {
            let mut values = plan.values.clone();
            if part.own.is_object() {
                merge(&mut values, &part.own);
            }
            std::fs::write(&file, values.to_string()).unwrap();
            let release = Release {
                name: part.component.release(),
                namespace: &part.namespace,
                is_upgrade,
            };
            let Some(theirs) = helm(part.component, &release, &file) else {
                corten_rt::skip!("helm is not installed: go install helm.sh/helm/v3/cmd/helm@v3.19.0");
            };
            let ours = render::component(&plan, part, Options { is_upgrade }).unwrap();
            let ours = by_name(ours.into_iter().map(|rendered| rendered.object));
            let (our_names, their_names): (Vec<_>, Vec<_>) = (ours.keys().collect(), theirs.keys().collect());
            assert_eq!(our_names, their_names, "{sets:?}");
            for (name, object) in &ours {
                assert_eq!(object, &theirs[name], "{name} with {sets:?}");
            }
        }
    }
}

/// Values of the chart `gateway`.
const GATEWAYS: &[&str] = &[
    "{}",
    "{revision: blue, name: edge, kind: DaemonSet, strategy: {rollingUpdate: {maxSurge: 1}}, minReadySeconds: 5}",
    "{autoscaling: {enabled: false}, replicaCount: 2, podDisruptionBudget: {minAvailable: 1}, labels: {istio: own, team: edge}, annotations: {a: b}}",
    "{networkGateway: n1, networkGatewayPorts: {tls: {port: 443}}, global: {networkPolicy: {enabled: true}}}",
    "{service: {type: None}, rbac: {enabled: false}, serviceAccount: {create: false}, env: {A: 1}, envVarFrom: [{name: B, valueFrom: {secretKeyRef: {name: s, key: k}}}]}",
    "{service: {type: LoadBalancer, loadBalancerClass: c, allocateLoadBalancerNodePorts: false, externalIPs: [1.1.1.1], healthCheckNodePort: 30000, annotations: {a: c}, selectorLabels: {x: z}, clusterIP: 10.0.0.9, externalTrafficPolicy: Local, ipFamilies: [IPv4]}}",
    "{securityContext: {runAsUser: 1}, containerSecurityContext: {privileged: true}, volumes: [{name: v, emptyDir: {}}], volumeMounts: [{name: v, mountPath: /v}], initContainers: [{name: i, image: x}], additionalContainers: [{name: j, image: y}], lifecycle: {preStop: {sleep: {seconds: 3}}}, readinessProbe: {tcpSocket: {port: 1}}}",
    "{dnsPolicy: None, dnsConfig: {nameservers: [1.1.1.1]}, affinity: {nodeAffinity: {}}, nodeSelector: {a: b}, tolerations: [{operator: Exists}], topologySpreadConstraints: [{maxSkew: 1}], priorityClassName: p, imagePullPolicy: Never, imagePullSecrets: [{name: s}], autoscaling: {targetMemoryUtilizationPercentage: 70, autoscaleBehavior: {scaleDown: {stabilizationWindowSeconds: 1}}}, resources: {limits: {cpu: null}}}",
];

#[test]
fn helm_makes_the_same_gateways() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("values.yaml");
    let release = Release {
        name: "istio-ingress",
        namespace: "edge",
        is_upgrade: false,
    };
    for text in GATEWAYS {
        std::fs::write(&file, text).unwrap();
        let Some(theirs) = helm(Component::Gateway, &release, &file) else {
            corten_rt::skip!("helm is not installed: go install helm.sh/helm/v3/cmd/helm@v3.19.0");
        };
        let (values, problems) = decode::document("values", text);
        assert!(problems.is_empty(), "{problems:?}");
        let rendered = Component::Gateway
            .render(&values.unwrap().to_value(), &release)
            .unwrap();
        let documents = rendered.iter().flat_map(|(name, text)| decode::documents(name, text).0);
        let ours = by_name(documents.map(|document| document.to_value()).filter(Value::is_object));
        assert_eq!(ours, theirs, "{text}");
    }
}

#[test]
fn the_charts_definitions_are_this_programs() {
    let (documents, problems) = decode::documents("crds.yaml", DEFINITIONS);
    assert!(problems.is_empty(), "{problems:?}");
    let there: Vec<Value> = documents.iter().map(decode::Node::to_value).collect();
    let ours: Vec<Value> = definitions(Channel::Experimental)
        .into_iter()
        .filter(|definition| {
            definition["spec"]["group"]
                .as_str()
                .is_some_and(|group| group.ends_with(".istio.io"))
        })
        .collect();
    let equal = there == ours;
    assert!(
        equal,
        "deploy/charts/base/files/crds.yaml is out of date: write it anew with `corten crds --istio > deploy/charts/base/files/crds.yaml`"
    );
}

#[test]
fn every_file_of_the_charts_is_embedded() {
    for component in Component::ALL.into_iter().chain([Component::Gateway]) {
        let release = Release {
            name: "x",
            namespace: "istio-system",
            is_upgrade: false,
        };
        let values = serde_json::json!({"profile": "ambient", "global": {"networkPolicy": {"enabled": true}}});
        let rendered = component.render(&values, &release).unwrap();
        let rendered: Vec<String> = rendered.into_iter().map(|(name, _)| name).collect();
        let dir = charts().join(component.chart_name()).join("templates");
        for file in std::fs::read_dir(dir).unwrap() {
            let name = file.unwrap().file_name().into_string().unwrap();
            let there = format!("{}/templates/{name}", component.chart_name());
            assert!(
                name.starts_with('_') || rendered.contains(&there),
                "{there} is not embedded"
            );
        }
    }
}
