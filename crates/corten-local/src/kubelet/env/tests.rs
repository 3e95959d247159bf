use serde_json::json;

use super::*;

fn sources() -> HashMap<(SourceKind, String), Arc<Value>> {
    let config = json!({ "data": { "a": "1", "b.c": "2" }, "binaryData": { "d": "Mw==" } });
    let secret = json!({ "data": { "user": "YW5uYQ==" } });
    HashMap::from([
        ((SourceKind::ConfigMap, "conf".to_owned()), Arc::new(config)),
        ((SourceKind::Secret, "sec".to_owned()), Arc::new(secret)),
    ])
}

fn check(container: Value) -> Result<String, String> {
    let pod: Pod = serde_json::from_value(json!({
        "metadata": { "name": "p", "namespace": "n", "uid": "u", "labels": { "app": "x" }, "annotations": { "note": "a \"b\"" } },
        "spec": { "serviceAccountName": "sa", "containers": [] },
    }))
    .expect("a pod");
    let container: Container = serde_json::from_value(container).expect("a container");
    let pod_ips = [
        "10.0.0.1".parse().expect("an address"),
        "fd00::1".parse().expect("an address"),
    ];
    let context = Context {
        pod: &pod,
        node: "node1",
        pod_ips: &pod_ips,
        host_ips: &["192.168.77.11".parse().expect("an address")],
        services: BTreeMap::from([("KUBERNETES_SERVICE_HOST".to_owned(), "10.96.0.1".to_owned())]),
    };
    let env = environment(&container, &context, &sources()).map_err(|error| error.to_string())?;
    let env: Vec<String> = env.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    Ok(env.join(" "))
}

fn vars(env: Value) -> Result<String, String> {
    check(json!({ "name": "c", "env": env })).map(|env| env.replace("KUBERNETES_SERVICE_HOST=10.96.0.1 ", ""))
}

#[test]
fn values_refer_to_those_before_them_and_to_services() {
    let env = json!([
        { "name": "A", "value": "1" },
        { "name": "B", "value": "$(A)-$(C)-$$(A)-$(KUBERNETES_SERVICE_HOST)" },
        { "name": "C", "value": "3" },
        { "name": "A", "value": "2" },
    ]);
    assert_eq!(vars(env).as_deref(), Ok("A=2 B=1-$(C)-$(A)-10.96.0.1 C=3"));
    let own = json!([{ "name": "KUBERNETES_SERVICE_HOST", "value": "mine" }]);
    assert_eq!(vars(own).as_deref(), Ok("KUBERNETES_SERVICE_HOST=mine"));
}

#[test]
fn fields_of_the_pod() {
    let field = |path: &str| vars(json!([{ "name": "V", "valueFrom": { "fieldRef": { "fieldPath": path } } }]));
    assert_eq!(field("metadata.labels['app']").as_deref(), Ok("V=x"));
    assert_eq!(field("metadata.annotations").as_deref(), Ok("V=note=\"a \\\"b\\\"\""));
    assert_eq!(field("status.podIP").as_deref(), Ok("V=10.0.0.1"));
    assert_eq!(field("status.podIPs").as_deref(), Ok("V=10.0.0.1,fd00::1"));
    assert_eq!(field("status.hostIP").as_deref(), Ok("V=192.168.77.11"));
    assert_eq!(field("spec.nodeName").as_deref(), Ok("V=node1"));
    assert_eq!(field("spec.serviceAccountName").as_deref(), Ok("V=sa"));
    assert_eq!(field("spec.magic"), Err("unsupported fieldPath: spec.magic".into()));
    assert_eq!(
        field("metadata.name['x']"),
        Err("fieldPath \"metadata.name['x']\" does not support subscript".into())
    );
}

#[test]
fn values_of_config_maps_and_secrets() {
    let key = |kind: &str, name: &str, key: &str, optional: bool| {
        vars(json!([{ "name": "V", "valueFrom": { kind: { "name": name, "key": key, "optional": optional } } }]))
    };
    assert_eq!(key("configMapKeyRef", "conf", "a", false).as_deref(), Ok("V=1"));
    assert_eq!(key("configMapKeyRef", "conf", "d", false).as_deref(), Ok("V=3"));
    assert_eq!(key("secretKeyRef", "sec", "user", false).as_deref(), Ok("V=anna"));
    assert_eq!(
        key("secretKeyRef", "sec", "pass", false),
        Err("couldn't find key pass in Secret n/sec".into())
    );
    assert_eq!(
        key("configMapKeyRef", "conf", "z", false),
        Err("couldn't find key z in ConfigMap n/conf".into())
    );
    assert_eq!(
        key("configMapKeyRef", "none", "a", false),
        Err("configmap \"none\" not found".into())
    );
    assert!(key("configMapKeyRef", "none", "a", true).is_ok_and(|env| !env.contains("V=")));
    assert!(key("secretKeyRef", "sec", "pass", true).is_ok_and(|env| !env.contains("V=")));
}

#[test]
fn whole_objects_with_a_prefix() {
    let from = |from: Value| {
        check(json!({ "name": "c", "envFrom": from, "env": [{ "name": "a", "value": "own" }] }))
            .map(|env| env.replace("KUBERNETES_SERVICE_HOST=10.96.0.1 ", ""))
    };
    assert_eq!(
        from(json!([{ "configMapRef": { "name": "conf" } }])).as_deref(),
        Ok("a=own b.c=2 d=3")
    );
    assert_eq!(
        from(json!([{ "prefix": "S_", "secretRef": { "name": "sec" } }])).as_deref(),
        Ok("S_user=anna a=own")
    );
    assert_eq!(
        from(json!([{ "secretRef": { "name": "none" } }])),
        Err("secret \"none\" not found".into())
    );
    assert_eq!(
        from(json!([{ "secretRef": { "name": "none", "optional": true } }])).as_deref(),
        Ok("a=own")
    );
}

#[test]
fn expansion_leaves_what_it_does_not_know() {
    let check =
        |text: &str, expect: &str| assert_eq!(expand(text, |name| (name == "A").then_some("1")), expect, "{text}");
    check("$(A)$(A)", "11");
    check("$(B) $(A", "$(B) $(A");
    check("$$(A) $$$(A) $", "$(A) $1 $");
    check("$A ${A} (A)", "$A ${A} (A)");
}

#[test]
fn services_are_found_by_variables() {
    let services = [
        json!({ "metadata": { "name": "my-db" }, "spec": { "clusterIP": "10.96.0.7", "ports": [
            { "name": "sql", "port": 5432 }, { "port": 53, "protocol": "UDP" } ] } }),
        json!({ "metadata": { "name": "headless" }, "spec": { "clusterIP": "None", "ports": [{ "port": 1 }] } }),
    ];
    let variables: Vec<String> = service_variables(&services)
        .into_iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    assert_eq!(
        variables,
        [
            "MY_DB_PORT=tcp://10.96.0.7:5432",
            "MY_DB_PORT_53_UDP=udp://10.96.0.7:53",
            "MY_DB_PORT_53_UDP_ADDR=10.96.0.7",
            "MY_DB_PORT_53_UDP_PORT=53",
            "MY_DB_PORT_53_UDP_PROTO=udp",
            "MY_DB_PORT_5432_TCP=tcp://10.96.0.7:5432",
            "MY_DB_PORT_5432_TCP_ADDR=10.96.0.7",
            "MY_DB_PORT_5432_TCP_PORT=5432",
            "MY_DB_PORT_5432_TCP_PROTO=tcp",
            "MY_DB_SERVICE_HOST=10.96.0.7",
            "MY_DB_SERVICE_PORT=5432",
            "MY_DB_SERVICE_PORT_SQL=5432",
        ]
    );
}
