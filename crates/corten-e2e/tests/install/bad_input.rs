//! What is wrong with a request or a cluster is said with what to do, before anything is changed.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use corten_e2e::{Front, Says};

use crate::support::{Ground, has};

const AMBIENT: [&str; 4] = ["install", "--set", "profile=ambient", "-y"];

#[test]
fn nearest_names_are_offered() {
    let ground = Ground::new();
    for (setting, parts) in [
        (
            "profile=ambiant",
            &["unknown profile \"ambiant\"", "did you mean \"ambient\"?"][..],
        ),
        (
            "values.pilot.replicaCont=2",
            &["values.pilot.replicaCont", "did you mean \"replicaCount\"?"],
        ),
        (
            "componets.cni.enabled=true",
            &["componets", "did you mean \"components\"?"],
        ),
        (
            "values.global.platform=minicube",
            &["\"minicube\"", "did you mean \"minikube\"?"],
        ),
        (
            "values.pilot.replicaCount=many",
            &["values.pilot.replicaCount is \"many\"", "a number"],
        ),
        ("profile", &["not of the form path=value"]),
        ("pilot.replicaCount=2", &["--set values.pilot.replicaCount=2"]),
    ] {
        has(&ground.corten(&["install", "--set", setting, "-y"]).fails(1), parts);
    }
    let file = ground.file("wrong.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n");
    let said = ground.corten(&["install", "-f", &file, "-y"]).fails(1);
    has(&said, &["a ConfigMap of v1, not an IstioOperator"]);
    assert!(
        ground.get("istio-system", "namespace/istio-system").is_null(),
        "something was changed"
    );
}

/// What a pipeline is often given: its own objects, and a look at the rest.
const FEW: &[&str] = &[
    "* deployments.apps",
    "* daemonsets.apps",
    "* services",
    "* serviceaccounts",
    "* configmaps",
    "* namespaces",
    "list nodes",
    "list pods",
    "get customresourcedefinitions.apiextensions.k8s.io",
];

#[test]
fn lacking_rights_are_named_before_anything_is_changed() {
    let ground = Ground::new();
    let user = Some(("system:serviceaccount:ci:deployer", FEW));
    let front = Front::new(&ground.runtime, Says { user, minor: None });
    let kubeconfig = ground.runtime.dir().join("few");
    front.kubeconfig(&kubeconfig, "ci");
    for command in [&AMBIENT[..], &["x", "precheck"]] {
        let output = ground.corten_with(kubeconfig.clone(), command);
        assert_eq!(output.code, Some(1));
        has(
            &(output.stdout + &output.stderr),
            &[
                "system:serviceaccount:ci:deployer may not create, get, patch clusterroles.rbac.authorization.k8s.io",
                "may not create, list, patch customresourcedefinitions.apiextensions.k8s.io",
                "may not create, get, patch roles.rbac.authorization.k8s.io in namespace istio-system",
                "kubectl create clusterrolebinding corten-installs --clusterrole=cluster-admin --serviceaccount=ci:deployer",
            ],
        );
    }
    assert_eq!(front.written(), Vec::<String>::new());
    assert!(ground.get("istio-system", "namespace/istio-system").is_null());
    // Somebody who may do nothing at all is told so by the server, in the commands that look first.
    let front = Front::new(
        &ground.runtime,
        Says {
            user: Some(("jane", &[])),
            minor: None,
        },
    );
    front.kubeconfig(&kubeconfig, "ci");
    for command in [&["upgrade", "-y"][..], &["uninstall", "-y"], &["verify-install"]] {
        let said = ground.corten_with(kubeconfig.clone(), command).fails(1);
        has(&said, &["you may not", "cluster-admin --user=jane"]);
    }
    assert_eq!(front.written(), Vec::<String>::new());

    // What is installed is not half removed by somebody who may not remove all of it.
    ground.corten(&AMBIENT).ok();
    let user = Some((
        "jane",
        &["get *", "list *", "* deployments.apps", "* daemonsets.apps"][..],
    ));
    let front = Front::new(&ground.runtime, Says { user, minor: None });
    front.kubeconfig(&kubeconfig, "ci");
    let said = ground.corten_with(kubeconfig, &["uninstall", "-y"]).fails(1);
    has(
        &said,
        &[
            "jane may not delete clusterroles.rbac.authorization.k8s.io",
            "--user=jane",
        ],
    );
    assert_eq!(front.written(), Vec::<String>::new());
    ground.corten(&["verify-install"]).ok();
}

#[test]
fn old_servers_are_not_installed_into() {
    let ground = Ground::new();
    let front = Front::new(
        &ground.runtime,
        Says {
            minor: Some("27"),
            user: None,
        },
    );
    let kubeconfig = ground.runtime.dir().join("old");
    front.kubeconfig(&kubeconfig, "old");
    let said = ground.corten_with(kubeconfig.clone(), &AMBIENT).fails(1);
    has(
        &said,
        &[
            "runs Kubernetes 1.27",
            "1.29 is the oldest",
            "upgrade the cluster first",
            "nothing was changed",
        ],
    );
    let said = ground.corten_with(kubeconfig, &["x", "precheck"]);
    assert_eq!(said.code, Some(1));
    has(&said.stdout, &["Error [IST0142]", "1.27"]);
    assert_eq!(front.written(), Vec::<String>::new());
}

#[test]
fn the_wrong_cluster_is_noticed() {
    let ground = Ground::new();
    let front = Front::new(&ground.runtime, Says::default());
    let kubeconfig = ground.runtime.dir().join("elsewhere");
    front.kubeconfig(&kubeconfig, "staging");
    let with = |args: &[&str]| ground.corten_with(kubeconfig.clone(), &[&AMBIENT[..], args].concat());
    has(
        &with(&["--context", "stagin"]).fails(1),
        &[
            "no context \"stagin\"",
            "did you mean \"staging\"?",
            "there are staging",
        ],
    );
    drop(front);
    // Nobody listens there any more.
    for command in [
        &AMBIENT[..],
        &["verify-install"],
        &["uninstall", "-y"],
        &["x", "precheck"],
        &["upgrade", "-y"],
    ] {
        let said = ground.corten_with(kubeconfig.clone(), command).fails(1);
        has(
            &said,
            &[
                "http://127.0.0.1:",
                "does not answer",
                "refused",
                "--context names another",
            ],
        );
    }
    // Something else listens.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let page = "<html>welcome</html>";
    let server = std::thread::spawn(move || {
        let (mut connection, _) = listener.accept().expect("somebody calls");
        let _ = std::io::Read::read(&mut connection, &mut [0; 4096]);
        let answer = format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{page}",
            page.len()
        );
        let _ = std::io::Write::write_all(&mut connection, answer.as_bytes());
    });
    let text = std::fs::read_to_string(&kubeconfig).expect("it was written");
    let (before, after) = text.split_once("http://").expect("it has a server");
    let (_, after) = after.split_once('"').expect("it is quoted");
    let other = ground.file("page", &format!("{before}http://{address}\"{after}"));
    let said = ground.corten_with(other.into(), &AMBIENT).fails(1);
    has(&said, &["is no Kubernetes API server", &address.to_string()]);
    server.join().expect("it is well");
    // Credentials of another cluster.
    let own = std::fs::read_to_string(ground.runtime.kubeconfig()).expect("root reads everything");
    let lines = own
        .lines()
        .filter(|line| !line.contains("client-certificate-data") && !line.contains("client-key-data"));
    let stale = ground.file("stale", &lines.map(|line| format!("{line}\n")).collect::<String>());
    let said = ground.corten_with(stale.into(), &AMBIENT).fails(1);
    has(&said, &["does not know who you are", "expired"]);
}

#[test]
fn kinds_that_nobody_defines_are_missed() {
    let ground = Ground::new();
    let without = ["--set", "values.base.enableCRDTemplates=false"];
    let said = ground.corten(&[&AMBIENT[..], &without].concat());
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    has(
        &said.stderr,
        &[
            "authorizationpolicies.security.istio.io",
            "corten crds --istio | kubectl apply --server-side -f -",
        ],
    );
    let said = ground.corten(&["verify-install"]);
    assert_eq!(said.code, Some(1));
    has(
        &said.stdout,
        &["✘ webhook: the cluster does not know", "corten crds --istio"],
    );
    // As it says.
    let definitions = ground.corten(&["crds", "--istio"]).ok();
    ground.apply("definitions.yaml", &definitions);
    ground.corten(&["verify-install"]).ok();
    // One that somebody takes away is missed, and comes back with the installation.
    ground.corten(&AMBIENT).ok();
    let name = "customresourcedefinition/serviceentries.networking.istio.io";
    ground.corten(&["delete", name]).ok();
    let said = ground.corten(&["verify-install"]);
    assert_eq!(said.code, Some(1));
    has(
        &said.stdout,
        &[
            "CustomResourceDefinition serviceentries.networking.istio.io is missing",
            "corten install",
        ],
    );
    ground.corten(&AMBIENT).ok();
    ground.corten(&["verify-install"]).ok();
}

const MISSING: &str = "apiVersion: install.istio.io/v1alpha1
kind: IstioOperator
spec:
  profile: ambient
  hub: registry.example/none
  components:
    pilot:
      k8s:
        overlays:
          - {kind: Deployment, name: istiod, patches: [{path: 'spec.template.spec.containers.[name:discovery].command'}]}
";

#[test]
fn a_missing_image_is_named_while_it_is_waited_for() {
    let ground = Ground::new();
    // Here a container with a command runs on the machine's own files, whatever its image; so it gets none.
    let file = ground.file("missing.yaml", MISSING);
    let mut command = ground.runtime.command(&["install", "-y", "-f", &file]);
    command
        .env("KUBECONFIG", ground.runtime.kubeconfig())
        .stderr(Stdio::piped());
    let mut install = command.spawn().expect("corten can be started");
    let lines = BufReader::new(install.stderr.take().expect("it is piped")).lines();
    let said = lines
        .map_while(Result::ok)
        .find(|line| line.contains("has no image"))
        .unwrap_or_default();
    install.kill().expect("it waits");
    install.wait().expect("it is a child");
    has(
        &said,
        &["registry.example/none/corten:", "load it onto the nodes", "--set hub="],
    );
    // Cut off half-way: the same command with another image goes on, and knows what the first one made.
    ground.corten(&AMBIENT).ok();
    ground.corten(&["verify-install"]).ok();
}

#[test]
fn namespaces_that_ask_for_both_modes_are_named() {
    let ground = Ground::new();
    ground.apply(
        "both.yaml",
        "apiVersion: v1\nkind: Namespace\nmetadata: {name: both, labels: {istio-injection: enabled, istio.io/dataplane-mode: ambient}}\n",
    );
    let said = ground.corten(&["x", "precheck"]);
    assert_eq!(said.code, Some(1));
    has(&said.stdout, &["Namespace both", "istio-injection"]);
    let said = ground.corten(&AMBIENT);
    assert_eq!(said.code, Some(0));
    has(&said.stderr, &["warning: Namespace both", "istio-injection"]);
}

#[test]
fn what_is_between_the_plugin_and_its_chain_is_named() {
    let ground = Ground::new();
    let cilium = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: cilium-config, namespace: kube-system}\ndata: {cni-exclusive: 'true'}\n";
    ground.apply("cilium.yaml", cilium);
    let said = ground.corten(&["x", "precheck"]);
    assert_eq!(said.code, Some(1));
    has(
        &said.stdout,
        &["(ConfigMap kube-system/cilium-config)", "cni.exclusive=false"],
    );

    // Agents that look where there is no configuration say so on their pods, and the installation repeats it while it waits.
    let args = [&AMBIENT[..], &["--set", "values.cni.cniConfDir=/etc/cni/elsewhere"]].concat();
    let mut command = ground.runtime.command(&args);
    command
        .env("KUBECONFIG", ground.runtime.kubeconfig())
        .stderr(Stdio::piped());
    let mut install = command.spawn().expect("corten can be started");
    let lines = BufReader::new(install.stderr.take().expect("it is piped")).lines();
    let said = lines
        .map_while(Result::ok)
        .find(|line| line.contains("no CNI configuration"))
        .unwrap_or_default();
    install.kill().expect("it waits");
    install.wait().expect("it is a child");
    has(
        &said,
        &["container install-cni runs and is not ready", "values.cni.cniConfDir"],
    );
    ground.corten(&AMBIENT).ok();
    ground.corten(&["verify-install"]).ok();
}
