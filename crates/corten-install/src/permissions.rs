//! What a command has to be allowed in a cluster, asked before anything is changed.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::StreamExt as _;
use serde_json::Value;

use crate::cluster::{Cluster, ClusterError, qualified, title};
use crate::precheck::{Level, Message};

/// So many questions at a time.
const AT_ONCE: usize = 12;

/// What every command lists to see what is there.
const LISTED: [&str; 6] = [
    "Node",
    "Namespace",
    "Pod",
    "Deployment",
    "DaemonSet",
    "CustomResourceDefinition",
];

/// Kinds whose objects give rights: the API server takes them only from those who hold these rights.
const GIVES_RIGHTS: [&str; 2] = ["ClusterRole", "Role"];

/// Something that has to be allowed: kind, namespace (none: in all, or of the cluster) and verb.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Need {
    kind: String,
    namespace: Option<String>,
    verb: &'static str,
}

fn of(object: &Value, verb: &'static str) -> Need {
    Need {
        kind: object["kind"].as_str().unwrap_or_default().to_owned(),
        namespace: object["metadata"]["namespace"].as_str().map(str::to_owned),
        verb,
    }
}

fn looking() -> impl Iterator<Item = Need> {
    LISTED.into_iter().map(|kind| Need {
        kind: kind.to_owned(),
        namespace: None,
        verb: "list",
    })
}

/// What it takes to install these objects.
pub fn to_install<'a>(objects: impl IntoIterator<Item = &'a Value>) -> BTreeSet<Need> {
    let mut needs: BTreeSet<Need> = looking().collect();
    for object in objects {
        needs.extend(["get", "create", "patch"].map(|verb| of(object, verb)));
    }
    needs
}

/// What it takes to remove these objects.
pub fn to_remove<'a>(objects: impl IntoIterator<Item = &'a Value>) -> BTreeSet<Need> {
    let mut needs: BTreeSet<Need> = looking().collect();
    for object in objects {
        needs.extend(["get", "delete"].map(|verb| of(object, verb)));
        // Its pods are told to end one by one.
        if object["kind"] == "DaemonSet" {
            needs.insert(Need {
                kind: "Pod".to_owned(),
                ..of(object, "delete")
            });
        }
    }
    needs
}

/// What of it whoever asks may not do: a message for each kind, and one that says how it can be granted.
///
/// `rights` are the objects that are to be written; those that give rights to others are tried, with nothing of it kept.
pub async fn lacking<'a>(
    cluster: &Cluster,
    needs: &BTreeSet<Need>,
    rights: impl IntoIterator<Item = &'a Value>,
) -> Result<Vec<Message>, ClusterError> {
    // Whoever may do everything, which is usual here, is asked about once.
    if cluster.may_everything().await? {
        return Ok(Vec::new());
    }
    let answers = futures_util::stream::iter(needs).map(async |need| {
        let allowed = cluster.may(need.verb, &need.kind, need.namespace.as_deref()).await?;
        Ok::<_, ClusterError>((need, allowed))
    });
    let mut answers = answers.buffer_unordered(AT_ONCE);
    let mut verbs: BTreeMap<(&str, Option<&str>), BTreeSet<&str>> = BTreeMap::new();
    while let Some(answer) = answers.next().await {
        let (need, allowed) = answer?;
        if !allowed {
            let kind = (need.kind.as_str(), need.namespace.as_deref());
            verbs.entry(kind).or_default().insert(need.verb);
        }
    }
    let mut lacking = Vec::new();
    for ((kind, namespace), verbs) in verbs {
        let place = namespace.map_or_else(String::new, |namespace| format!(" in namespace {namespace}"));
        let verbs = verbs.into_iter().collect::<Vec<_>>().join(", ");
        lacking.push(format!("{verbs} {}{place}", qualified(kind)?));
    }
    if lacking.is_empty() {
        for object in rights {
            let gives = object["kind"].as_str().is_some_and(|kind| GIVES_RIGHTS.contains(&kind));
            if !gives {
                continue;
            }
            if let Err(ClusterError::Forbidden { message, .. }) = cluster.trial().apply(object).await {
                lacking.push(format!(
                    "write {}, because it gives rights that you do not have (`escalate` on {} allows it): {}",
                    title(object),
                    qualified(object["kind"].as_str().unwrap_or_default())?,
                    message.lines().next().unwrap_or_default()
                ));
            }
        }
    }
    if lacking.is_empty() {
        return Ok(Vec::new());
    }
    let user = cluster.user().await?;
    let who = user.as_deref().unwrap_or("whoever the kubeconfig names");
    let message = |text: String| Message {
        level: Level::Error,
        code: "IST0141",
        origin: String::new(),
        text,
    };
    let mut messages: Vec<Message> = lacking
        .into_iter()
        .map(|what| message(format!("{who} may not {what}")))
        .collect();
    messages.push(message(format!(
        "use the kubeconfig of somebody who administers the cluster, or have them grant it: {}",
        grant(who)
    )));
    Ok(messages)
}

/// The command by which an administrator grants a user what an installation takes.
pub fn grant(user: &str) -> String {
    let subject = match user.strip_prefix("system:serviceaccount:") {
        Some(account) => format!("--serviceaccount={account}"),
        None => format!("--user={user}"),
    };
    format!("kubectl create clusterrolebinding corten-installs --clusterrole=cluster-admin {subject}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_needed_follows_the_objects() {
        let objects = [
            json!({"kind": "Service", "metadata": {"name": "a", "namespace": "n"}}),
            json!({"kind": "Service", "metadata": {"name": "b", "namespace": "n"}}),
            json!({"kind": "ClusterRole", "metadata": {"name": "r"}}),
        ];
        let shown = |needs: BTreeSet<Need>| {
            let needs = needs.into_iter().filter(|need| need.verb != "list");
            let show = |need: Need| format!("{} {} {}", need.verb, need.kind, need.namespace.unwrap_or_default());
            needs.map(show).collect::<Vec<_>>()
        };
        assert_eq!(
            shown(to_install(&objects)),
            [
                "create ClusterRole ",
                "get ClusterRole ",
                "patch ClusterRole ",
                "create Service n",
                "get Service n",
                "patch Service n"
            ]
        );
        assert_eq!(
            shown(to_remove(&objects[2..])),
            ["delete ClusterRole ", "get ClusterRole "]
        );
    }

    #[test]
    fn rights_are_granted_to_accounts_and_users() {
        assert!(grant("system:serviceaccount:ci:deployer").ends_with("--serviceaccount=ci:deployer"));
        assert!(grant("jane").ends_with("--user=jane"));
    }
}
