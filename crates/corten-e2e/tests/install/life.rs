//! An installation over time: checked, brought up to date, beside another revision, taken over from Istio, removed.

use serde_json::Value;

use crate::support::{Ground, has};

const AMBIENT: [&str; 4] = ["install", "--set", "profile=ambient", "-y"];
const CANARY: [&str; 6] = ["install", "--set", "profile=ambient", "-y", "-r", "canary"];

/// Names of the objects of a kind.
fn names(ground: &Ground, kind: &str) -> Vec<String> {
    let said = ground.corten(&["get", "-n", "istio-system", kind, "-o", "name"]).ok();
    said.lines()
        .filter_map(|line| Some(line.split_once('/')?.1.to_owned()))
        .collect()
}

/// Which control plane the node proxies ask.
fn asked(ground: &Ground) -> Value {
    let set = ground.get("istio-system", "daemonset/ztunnel");
    let env = set["spec"]["template"]["spec"]["containers"][0]["env"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let variable = env.iter().find(|variable| variable["name"] == "XDS_ADDRESS");
    variable.map(|variable| variable["value"].clone()).unwrap_or_default()
}

#[test]
fn installed_checked_upgraded_and_removed() {
    let ground = Ground::new();
    has(
        &ground.corten(&["upgrade", "-y"]).fails(1),
        &["no installation", "`corten install` makes one"],
    );
    let said = ground.corten(&[&AMBIENT[..], &["--verify", "--set", "values.pilot.env.KEPT=yes"]].concat());
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    has(
        &said.stderr,
        &[
            "✔ Istio core installed",
            "✔ Istiod installed",
            "✔ CNI installed",
            "✔ Ztunnel installed",
        ],
    );
    has(
        &said.stdout,
        &[
            "✔ objects:",
            "✔ webhook:",
            "✔ identity:",
            "✔ nodes:",
            "istio.io/dataplane-mode=ambient",
        ],
    );

    // An earlier version had something that this one has not.
    let record = ground.get("istio-system", "configmap/corten-install");
    let objects = record["data"]["objects"].as_str().expect("it remembers its objects");
    let more = format!(
        "[{{\"kind\":\"ConfigMap\",\"metadata\":{{\"name\":\"earlier\",\"namespace\":\"istio-system\"}}}},{}",
        &objects[1..]
    );
    let map = |name: &str, data: Value| {
        let labels = &record["metadata"]["labels"];
        let meta = serde_json::json!({"name": name, "namespace": "istio-system", "labels": labels});
        serde_json::json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data}).to_string()
    };
    ground.apply("earlier.json", &map("earlier", serde_json::json!({})));
    let data = serde_json::json!({"objects": more, "version": "0.0.0-earlier", "asked": record["data"]["asked"]});
    ground.apply("record.json", &map("corten-install", data));
    // Somebody changed something meanwhile.
    ground.corten(&["delete", "-n", "istio-system", "service/istiod"]).ok();
    let said = ground.corten(&["verify-install"]);
    assert_eq!(said.code, Some(1));
    has(&said.stdout, &["Service istio-system/istiod is missing"]);
    let said = ground.corten(&["upgrade", "-y"]);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    has(
        &said.stderr,
        &[
            "from version 0.0.0-earlier to",
            "- ConfigMap istio-system/earlier",
            "✔ Ztunnel upgraded",
        ],
    );
    // What was asked for then still holds.
    let control = ground.get("istio-system", "deployment/istiod").to_string();
    has(&control, &["\"KEPT\""]);
    ground.corten(&["verify-install"]).ok();

    ground.corten(&["uninstall", "-y"]).ok();
    assert_eq!(names(&ground, "deployments,daemonsets,services"), Vec::<String>::new());
    has(&ground.corten(&["uninstall", "-y"]).ok(), &["nothing is installed"]);
    ground.corten(&AMBIENT).ok();
    ground.corten(&["uninstall", "--purge", "-y"]).ok();
    assert!(ground.get("", "namespace/istio-system").is_null());
    assert!(
        ground
            .get("", "customresourcedefinition/gateways.networking.istio.io")
            .is_null()
    );
}

#[test]
fn a_revision_beside_the_first() {
    let ground = Ground::new();
    ground.corten(&AMBIENT).ok();
    let said = ground.corten(&CANARY);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    has(
        &said.stderr,
        &[
            "CNI stays revision default's",
            "Ztunnel stays revision default's, because a node has one; --set components.ztunnel.enabled=true moves it",
            "objects that name no revision stay revision default's",
        ],
    );
    assert_eq!(names(&ground, "deployments"), ["istiod", "istiod-canary"]);
    assert_eq!(asked(&ground), "istiod.istio-system.svc:15012");
    ground.corten(&["verify-install"]).ok();
    ground.corten(&["verify-install", "-r", "canary"]).ok();

    // Neither takes away what the other needs.
    has(
        &ground.corten(&["uninstall", "-y"]).fails(1),
        &[
            "the node proxies and agents are revision default's",
            "install -r canary",
        ],
    );
    has(
        &ground.corten(&["uninstall", "-y", "-r", "blue"]).fails(1),
        &["no installation of revision blue", "default, canary"],
    );
    has(
        &ground.corten(&["uninstall", "--purge", "-y", "-r", "canary"]).fails(1),
        &["--purge takes everything"],
    );
    ground.corten(&["uninstall", "-y", "-r", "canary"]).ok();
    assert_eq!(names(&ground, "deployments"), ["istiod"]);
    ground.corten(&["verify-install"]).ok();

    // A tag stands for one of them, whichever.
    ground.corten(&CANARY).ok();
    let tag = |args: &[&str]| ground.corten(&[&["tag"], args].concat());
    has(
        &tag(&["set", "prod", "-r", "canari"]).fails(1),
        &["\"canari\"", "did you mean \"canary\"?", "default"],
    );
    has(
        &tag(&["set", "canary", "-r", "default"]).fails(1),
        &["is the name of a revision"],
    );
    tag(&["set", "prod", "-r", "default"]).ok();
    tag(&["set", "prod", "-r", "default"]).ok();
    has(
        &tag(&["set", "prod", "-r", "canary"]).fails(1),
        &["stands for revision default", "--overwrite"],
    );
    let generated = tag(&["generate", "prod", "-r", "canary"]).ok();
    has(
        &generated,
        &[
            "name: istiod-revision-tag-prod",
            "istio.io/rev: canary",
            "istio-validator-canary-istio-system",
        ],
    );
    tag(&["set", "prod", "-r", "canary", "--overwrite"]).ok();
    ground.apply(
        "shop.yaml",
        "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop, labels: {istio.io/rev: prod}}\n",
    );
    let rows = tag(&["list"]).ok();
    let words: Vec<Vec<&str>> = rows.lines().map(|row| row.split_whitespace().collect()).collect();
    assert_eq!(
        words,
        [
            &["TAG", "REVISION", "NAMESPACES"][..],
            &["prod", "canary", "shop"],
            &["default", "default"]
        ]
    );
    let json: Value = serde_json::from_str(&tag(&["list", "-o", "json"]).ok()).expect("it is JSON");
    assert_eq!(
        json[0],
        serde_json::json!({"tag": "prod", "revision": "canary", "namespaces": ["shop"]})
    );
    // The Service of the tag leads to the revision, whose webhook judges what carries the tag.
    let service = ground.get("istio-system", "service/istiod-revision-tag-prod");
    assert_eq!(service["spec"]["selector"]["istio.io/rev"], "canary");
    let validators = ["istio-validator-canary-istio-system", "istio-validator-istio-system"];
    let judged = validators.map(|name| {
        let validator = ground.get("", &format!("validatingwebhookconfiguration/{name}"));
        validator["webhooks"][0]["objectSelector"]["matchExpressions"][0]["values"].clone()
    });
    assert_eq!(
        judged,
        [serde_json::json!(["canary", "prod"]), serde_json::json!(["default"])]
    );
    ground.corten(&["verify-install"]).ok();
    ground.corten(&["verify-install", "-r", "canary"]).ok();
    has(&tag(&["remove", "prod"]).fails(1), &["shop", "-y"]);
    has(&tag(&["remove", "prot", "-y"]).fails(1), &["did you mean \"prod\"?"]);
    tag(&["remove", "prod", "-y"]).ok();
    assert!(ground.get("istio-system", "service/istiod-revision-tag-prod").is_null());
    tag(&["set", "default", "-r", "canary"]).ok();
    let checks = || {
        ground.get("", "validatingwebhookconfiguration/istiod-default-validator")["metadata"]["labels"]["istio.io/rev"]
            .clone()
    };
    assert_eq!(checks(), "canary");
    ground.corten(&["verify-install"]).ok();
    tag(&["remove", "default", "-y"]).ok();
    assert_eq!(checks(), "default");
    ground.corten(&["verify-install"]).ok();
    ground.corten(&["verify-install", "-r", "canary"]).ok();

    // The nodes move, then what names no revision, and the first one goes.
    let nodes = [
        "--set",
        "components.cni.enabled=true",
        "--set",
        "components.ztunnel.enabled=true",
    ];
    let said = ground.corten(&[&CANARY[..], &nodes].concat());
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert_eq!(asked(&ground), "istiod-canary.istio-system.svc:15012");
    ground.corten(&["verify-install"]).ok();
    ground.corten(&["verify-install", "-r", "canary"]).ok();
    ground.corten(&["uninstall", "-y"]).ok();
    assert_eq!(names(&ground, "deployments"), ["istiod-canary"]);
    assert_eq!(names(&ground, "daemonsets"), ["istio-cni-node", "ztunnel"]);
    assert_eq!(
        checks(),
        "canary",
        "objects that name no revision are checked by whoever is left"
    );
    ground.corten(&["upgrade", "-y", "-r", "canary"]).ok();
    ground.corten(&["verify-install", "-r", "canary"]).ok();
    has(
        &ground.corten(&["uninstall", "-y"]).fails(1),
        &["no installation of revision default; there is canary"],
    );
    ground.corten(&["uninstall", "--purge", "-y"]).ok();
    assert!(ground.get("", "namespace/istio-system").is_null());
}

/// The workloads of a stock installation, as far as it matters here: their programs only wait.
const FOREIGN: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: istio-system}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data: {mesh: 'trustDomain: example.org'}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: istiod, namespace: istio-system, labels: {app: istiod, istio.io/rev: default}}
spec:
  selector: {matchLabels: {istio: pilot}}
  template:
    metadata: {labels: {app: istiod, istio: pilot}}
    spec:
      terminationGracePeriodSeconds: 0
      containers: [{name: discovery, image: 'registry.istio.io/release/pilot:1.30.0', command: [sleep, '3600']}]
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: ztunnel, namespace: istio-system, labels: {app: ztunnel}}
spec:
  selector: {matchLabels: {app: ztunnel}}
  template:
    metadata: {labels: {app: ztunnel}}
    spec:
      terminationGracePeriodSeconds: 0
      containers: [{name: istio-proxy, image: 'registry.istio.io/release/ztunnel:1.30.0', command: [sleep, '3600']}]
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: istio-cni-node, namespace: istio-system, labels: {k8s-app: istio-cni-node}}
spec:
  selector: {matchLabels: {k8s-app: istio-cni-node}}
  template:
    metadata: {labels: {k8s-app: istio-cni-node}}
    spec:
      terminationGracePeriodSeconds: 0
      containers: [{name: install-cni, image: 'registry.istio.io/release/install-cni:1.30.0', command: [sleep, '3600']}]
---
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingWebhookConfiguration
metadata: {name: istio-sidecar-injector, labels: {app: sidecar-injector, istio.io/rev: default}}
webhooks:
  - name: object.sidecar-injector.istio.io
    clientConfig: {service: {name: istiod, namespace: istio-system, path: /inject}}
    rules: [{operations: [CREATE], apiGroups: [''], apiVersions: [v1], resources: [pods]}]
    objectSelector: {matchLabels: {sidecar.istio.io/inject: 'true'}}
    failurePolicy: Fail
    sideEffects: None
    admissionReviewVersions: [v1]
";

#[test]
fn a_foreign_istio_is_taken_over_where_that_is_safe() {
    let ground = Ground::new();
    ground.apply("foreign.yaml", FOREIGN);
    let before = ground.get("istio-system", "daemonset/ztunnel");
    for command in [&AMBIENT[..], &["uninstall", "-y"], &["uninstall", "--purge", "-y"]] {
        has(
            &ground.corten(command).fails(1),
            &[
                "another Istio is installed",
                "Deployment istio-system/istiod",
                "pilot:1.30.0",
            ],
        );
    }
    let said = ground.corten(&["x", "precheck"]);
    has(&said.stdout, &["[IST0139]", "install-cni:1.30.0", "--adopt"]);
    // Beside it there is room for a control plane, and for nothing else.
    let said = ground.corten(&CANARY).fails(1);
    has(
        &said,
        &[
            "DaemonSet istio-system/ztunnel",
            "DaemonSet istio-system/istio-cni-node",
        ],
    );
    assert!(!said.contains("Deployment"), "{said}");
    assert_eq!(
        ground.get("istio-system", "daemonset/ztunnel")["metadata"]["generation"],
        before["metadata"]["generation"]
    );

    let sidecar = "apiVersion: v1
kind: Pod
metadata: {name: shop, namespace: default}
spec:
  terminationGracePeriodSeconds: 0
  containers: [{name: istio-proxy, image: i, command: [sleep, '3600']}]
";
    ground.apply("sidecar.yaml", sidecar);
    let adopt = [&AMBIENT[..], &["--adopt"]].concat();
    has(
        &ground.corten(&adopt).fails(1),
        &[
            "the control plane cannot be adopted",
            "default/shop",
            "components.pilot.enabled=false",
        ],
    );
    ground.corten(&["delete", "-n", "default", "pod/shop"]).ok();

    let said = ground.corten(&adopt);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    has(&said.stderr, &["trustDomain"]);
    // What made sidecars is of ours now, and asks for all that injection is asked for.
    let injector = ground.get("", "mutatingwebhookconfiguration/istio-sidecar-injector");
    assert_eq!(injector["webhooks"].as_array().map(Vec::len), Some(4), "{injector}");
    assert_eq!(
        ground.get("istio-system", "daemonset/ztunnel")["metadata"]["uid"],
        before["metadata"]["uid"]
    );
    has(
        &ground.get("istio-system", "configmap/istio").to_string(),
        &["trustDomain: example.org"],
    );
    ground.corten(&["verify-install"]).ok();
    // From here on it is like any other.
    ground.corten(&["upgrade", "-y"]).ok();
    has(
        &ground.get("istio-system", "configmap/istio").to_string(),
        &["trustDomain: example.org"],
    );
    ground.corten(&["uninstall", "--purge", "-y"]).ok();
}
