//! Pods as a user has them: applied with `corten apply`, watched, called, looked into, stopped.
//!
//! One instance as root and one as an ordinary user; every scenario has a namespace of its own and runs beside the others.

mod containers;
mod failures;
mod services;
mod tools;
mod users;

use corten_e2e::{As, Scenario, play};

const SCENARIOS: &[Scenario] = &[
    ("services_call_each_other_by_name", services::call_each_other_by_name),
    ("endpoints_follow_readiness", services::endpoints_follow_readiness),
    ("service_types", services::types),
    ("stateful_sets", services::stateful_sets),
    ("init_order", containers::init_order),
    ("environment_and_volumes", containers::environment_and_volumes),
    ("liveness", containers::liveness),
    ("termination", containers::termination),
    ("back_off", failures::back_off),
    ("unmapped_image", failures::unmapped_image),
    ("missing_command", failures::missing_command),
    ("verbs", tools::verbs),
    ("rollouts", tools::rollouts),
    ("run", tools::run),
    ("port_forward", tools::port_forward),
    ("postgresql", users::postgresql),
    ("kernel_settings", users::kernel_settings),
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
