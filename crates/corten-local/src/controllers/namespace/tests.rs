//! The end of a namespace step by step.

use corten_apiserver::resources::{CONFIG_MAPS, PODS};

use super::*;

fn look(contents: &[(ResourceId, Value)]) -> Vec<Action> {
    let namespace = json!({"metadata": {"name": "n", "uid": "n", "deletionTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"finalizers": ["kubernetes"]}});
    let mut by_resource: BTreeMap<ResourceId, Vec<&Value>> = BTreeMap::from([(PODS, vec![]), (CONFIG_MAPS, vec![])]);
    for (resource, object) in contents {
        by_resource.entry(resource.clone()).or_default().push(object);
    }
    reconcile(
        &namespace,
        &by_resource,
        "2026-01-01T00:00:10Z".parse().expect("a time"),
    )
}

#[test]
fn what_is_in_it_is_deleted_first() {
    let actions = look(&[(
        CONFIG_MAPS,
        json!({"metadata": {"namespace": "n", "name": "a", "uid": "a"}}),
    )]);
    let [Action::All(deletions)] = actions.as_slice() else {
        panic!("{actions:?}");
    };
    assert!(matches!(&deletions[..], [Action::Delete { uid, .. }] if uid == "a"));
}

#[test]
fn what_stays_is_reported() {
    let pod = json!({"metadata": {"namespace": "n", "name": "a", "uid": "a", "deletionTimestamp": "2026-01-01T00:00:30Z",
        "finalizers": ["example.com/hold"]}});
    let actions = look(&[(PODS, pod)]);
    let [Action::UpdateStatus { object, .. }] = actions.as_slice() else {
        panic!("{actions:?}");
    };
    let said: Vec<String> = object::items(object, "/status/conditions")
        .iter()
        .map(|c| format!("{} {}", object::text(c, "/status"), object::text(c, "/message")))
        .collect();
    assert_eq!(
        said,
        [
            "False All resources successfully discovered",
            "False All legacy kube types successfully parsed",
            "False All content successfully deleted, may be waiting on finalization",
            "True Some resources are remaining: pods. has 1 resource instances",
            "True Some content in the namespace has finalizers remaining: example.com/hold in 1 resource instances",
        ]
    );
}

#[test]
fn an_empty_one_may_go() {
    assert_eq!(
        look(&[]),
        [Action::Finalize {
            namespace: "n".to_owned(),
            contents: vec![PODS, CONFIG_MAPS]
                .into_iter()
                .collect::<std::collections::BTreeSet<_>>()
                .into_iter()
                .collect(),
        }]
    );
}
