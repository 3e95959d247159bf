//! Bad input: each gives a clear message, and what is good beside it still happens.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;

use corten_e2e::{As, Namespace, Scenario, play, run};

const SCENARIOS: &[Scenario] = &[
    ("objects", objects),
    ("large", large),
    ("elsewhere", elsewhere),
    ("usage", usage),
];

#[test]
fn as_root() {
    as_whom(As::Root);
}

#[test]
fn as_user() {
    as_whom(As::User);
}

fn as_whom(user: As) {
    if let Err(reason) = user.possible() {
        corten_rt::skip!("{reason}");
    }
    play(user, SCENARIOS);
}

const GOOD: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: good}\n---\n";

/// Applies a bad document behind a good one: the message has all `parts`, and the good one is there.
#[track_caller]
fn refused(ns: &Namespace<'_>, bad: &str, parts: &[&str]) {
    let said = ns.try_apply(&format!("{GOOD}{bad}")).fails(1);
    for part in parts {
        assert!(said.contains(part), "no {part:?} in: {said}");
    }
    assert!(
        ns.corten("delete", &["configmap", "good"])
            .ok()
            .contains("\"good\" deleted"),
        "{bad}"
    );
}

fn objects(ns: &Namespace<'_>) {
    refused(
        ns,
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\n data: [\n",
        &[".yaml:9:2: ", "not YAML"],
    );
    refused(
        ns,
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: twice}\ndata: {a: b, a: c}\n",
        &[".yaml:8:14: ", "key 'a' is already given at line 8"],
    );
    ns.corten("get", &["configmap", "twice"]).fails(1);
    refused(
        ns,
        "apiVersion: example.org/v1\nkind: Gizmo\nmetadata: {name: a}\n",
        &["Gizmo \"a\"", "CustomResourceDefinition first"],
    );
    refused(
        ns,
        "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {prots: [], ports: [{port: 80}]}\n",
        &["Service \"a\"", "unknown field \"spec.prots\""],
    );
    refused(ns, "just words\n", &[".yaml:5:1: ", "is a mapping, this is a string"]);
    refused(
        ns,
        "apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: gizmos.example.org}
spec:
  group: example.com
  scope: Namespaced
  names: {kind: Gizmo, plural: gizmos}
  versions: [{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: objekt}}}]
",
        &["must be spec.names.plural", "Unsupported value: \"objekt\""],
    );
    let nothing = ns.try_apply("# nothing\n").fails(1);
    assert!(nothing.contains("there are no objects"), "{nothing}");
}

fn large(ns: &Namespace<'_>) {
    let text = "x".repeat(10_000_000);
    let bad = format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: large}}\ndata: {{a: {text}}}\n");
    let said = ns.try_apply(&format!("{GOOD}{bad}")).fails(1);
    assert!(said.len() < 1000, "{} bytes are said", said.len());
    assert!(said.contains("ConfigMap") && said.contains("large"), "{said}");
    assert_eq!(
        ns.corten("get", &["configmap", "good", "-o", "name"]).ok(),
        "configmap/good\n"
    );
}

fn elsewhere(ns: &Namespace<'_>) {
    let own = fs::read_to_string(ns.runtime().state("default").join("kubeconfig")).unwrap_or_default();
    if own.is_empty() {
        corten_rt::skip!("the kubeconfig of another user cannot be read");
    }
    let asking = |server: &str| {
        let lines = own.lines().map(|line| match line.split_once("server: ") {
            Some((indent, _)) => format!("{indent}server: {server}\n"),
            None => format!("{line}\n"),
        });
        let file = ns
            .runtime()
            .dir()
            .join(format!("kubeconfig-{}", server.replace(['/', ':'], "-")));
        fs::write(&file, lines.collect::<String>()).expect("the test's own directory");
        let file = file.display().to_string();
        run(ns.runtime().command(&["get", "pods", "--kubeconfig", &file])).fails(1)
    };
    // Nobody can have port 1 without being root.
    let closed = asking("https://127.0.0.1:1");
    assert!(closed.contains("nothing listens at https://127.0.0.1:1/"), "{closed}");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let server = std::thread::spawn(move || {
        let (mut connection, _) = listener.accept().expect("somebody calls");
        let _ = connection.read(&mut [0; 4096]);
        let _ = connection.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 4\r\nconnection: close\r\n\r\nnope");
    });
    let other = asking(&format!("http://{address}"));
    assert!(other.contains("code 404") && other.contains("no Kubernetes"), "{other}");
    server.join().expect("it is well");
    let absent = run(ns.runtime().command(&["get", "pods", "--kubeconfig", "absent"])).fails(1);
    assert!(absent.contains("reading absent"), "{absent}");
    ns.corten("get", &["pods"]).ok();
}

fn usage(ns: &Namespace<'_>) {
    for (verb, args, part) in [
        ("get", &["gizmo"][..], "doesn't have a resource type \"gizmo\""),
        ("logs", &["nobody"], "pods \"nobody\" not found"),
        ("exec", &["nobody", "--", "ls"], "pods \"nobody\" not found"),
        ("delete", &["pod", "nobody"], "pods \"nobody\" not found"),
        ("apply", &["-f", "/nowhere"], "reading /nowhere"),
    ] {
        let said = ns.corten(verb, args).fails(1);
        assert!(said.contains(part), "{verb}: {said}");
    }
    ns.corten("frobnicate", &[]).fails(2);
}
