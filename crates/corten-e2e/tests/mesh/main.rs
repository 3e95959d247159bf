//! The mesh as a user has it: namespaces join by a label, policies decide, nothing breaks meanwhile.
//!
//! One instance as root, one as an ordinary user, and any Kubernetes (`cargo xtask test --kubernetes`); every scenario has namespaces of its own and runs beside the others. What concerns the
//! whole mesh, or takes a part of it down, has an instance to itself, or the Kubernetes for a while.

mod admission;
mod attacks;
mod commands;
mod dns;
mod enrolment;
mod faults;
mod lifecycle;
mod policies;
mod proxies;
mod support;

use corten_e2e::{As, Difference, Half, Runtime, Scenario, play_in, play_on, play_with_envoy};

const SCENARIOS: &[Scenario] = &[
    ("running_pods_join_and_leave", enrolment::running_pods_join_and_leave),
    ("open_connections_stay", enrolment::open_connections_stay),
    ("opt_outs", enrolment::opt_outs),
    ("new_pods_join", enrolment::new_pods_join),
    ("strict", policies::strict),
    ("strict_by_port", policies::strict_by_port),
    ("who_may_call", policies::who_may_call),
    ("empty_policy", policies::empty_policy),
    ("forbidden_connections_end", policies::forbidden_connections_end),
    ("policies_are_judged", policies::are_judged),
    ("invalid_objects_are_refused", admission::invalid_objects_are_refused),
    ("names", dns::names),
    ("service_entries", dns::service_entries),
    ("plaintext_is_refused", attacks::plaintext_is_refused),
    ("garbage", attacks::garbage),
    ("node_proxies_are_asked", commands::node_proxies),
    ("control_plane_is_asked", commands::control_plane),
    ("explanations_are_true", commands::explanations),
];

/// These need an Envoy.
const PROXIES: &[Scenario] = &[
    ("pods_get_proxies", proxies::pods_get_proxies),
    ("gateway_is_deployed", proxies::gateway_is_deployed),
];

/// These take parts of the mesh down, one after the other.
const FAULTS: &[Scenario] = &[
    (
        "namespaces_come_and_go_under_load",
        enrolment::namespaces_come_and_go_under_load,
    ),
    ("rollouts_lose_nothing", faults::rollouts),
    ("control_plane_rollout", faults::control_plane_rollout),
    ("agent_restart", faults::agent_restart),
    ("control_plane_away", faults::control_plane_away),
    ("nobody_validates", admission::nobody_validates),
    ("agent_away", faults::agent_away),
    ("node_proxy_upgrade", faults::node_proxy_upgrade),
    ("node_proxy_deleted", faults::node_proxy_deleted),
    ("node_proxy_killed", faults::node_proxy_killed),
    ("api_server_away", faults::api_server_away),
    ("node_cut_off", faults::node_cut_off),
    ("root_rotated", faults::root_rotated),
];

/// What Istio's own programs do not promise; everything else holds with them too.
const DIFFERENCES: &[Difference] = &[
    Difference {
        scenario: "root_rotated",
        half: Half::Istiod,
        why: "it changes a self-made root only when that is about to end, and only with a restart",
    },
    Difference {
        scenario: "invalid_objects_are_refused",
        half: Half::Istiod,
        why: "it closes the webhook of its own namespace too, and words its refusals otherwise",
    },
    Difference {
        scenario: "nobody_validates",
        half: Half::Istiod,
        why: "it closes the webhook of its own namespace too",
    },
    Difference {
        scenario: "node_proxy_upgrade",
        half: Half::Ztunnel,
        why: "one that is replaced cuts its connections when its grace period is over",
    },
    Difference {
        scenario: "node_proxy_deleted",
        half: Half::Ztunnel,
        why: "one that is replaced cuts its connections when its grace period is over",
    },
];

#[test]
fn as_root() {
    as_whom(As::Root);
}

#[test]
fn as_user() {
    as_whom(As::User);
}

#[test]
fn proxies() {
    match corten_stock_envoy::program() {
        Ok(envoy) => play_with_envoy(whoever_can(), &envoy, PROXIES),
        Err(missing) => corten_rt::skip!("{missing}"),
    }
}

fn whoever_can() -> As {
    if As::Root.possible().is_ok() {
        As::Root
    } else {
        As::User
    }
}

#[test]
fn faults() {
    let user = whoever_can();
    for fault in FAULTS {
        play_on(user, true, std::slice::from_ref(fault), DIFFERENCES);
    }
}

/// The Kubernetes of `KUBECONFIG`, without a mesh.
#[test]
#[ignore = "played by `cargo xtask test --kubernetes`, which prepares the cluster"]
fn from_nothing_to_nothing() {
    let kubeconfig = std::env::var_os("KUBECONFIG").expect("KUBECONFIG names a cluster");
    let runtime = Runtime::kubernetes(kubeconfig.as_ref());
    let scenario: Scenario = ("installed_and_removed", lifecycle::installed_and_removed);
    play_in(&runtime, &[scenario], &[]);
}

/// The Kubernetes of `KUBECONFIG`, with the mesh installed and the images of the test programs on its nodes.
#[test]
#[ignore = "played by `cargo xtask test --kubernetes`, which prepares the cluster"]
fn on_kubernetes() {
    let kubeconfig = std::env::var_os("KUBECONFIG").expect("KUBECONFIG names a cluster");
    let runtime = Runtime::kubernetes(kubeconfig.as_ref());
    play_in(&runtime, SCENARIOS, &[]);
    play_in(&runtime, PROXIES, &[]);
    for fault in FAULTS {
        play_in(&runtime, std::slice::from_ref(fault), &[]);
    }
}

fn as_whom(user: As) {
    if let Err(reason) = user.possible() {
        corten_rt::skip!("{reason}");
    }
    play_on(user, true, SCENARIOS, DIFFERENCES);
}
