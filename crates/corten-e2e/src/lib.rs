//! The end-to-end harness: builds the shipped binaries once, starts `corten up` with a state directory of its own, and cleans up.
//! The same scenarios are played on a Kubernetes that is there ([`Runtime::kubernetes`]).
//!
//! Uses the cluster only as a user does: by its command line and its API. Its panics are test failures.

mod binaries;
mod cluster;
mod front;
mod host;
mod runtime;
mod snapshot;
mod stock;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub use cluster::Namespace;
pub use front::{Front, Says};
pub use host::{Processes, everything_gone, interfaces};
pub use runtime::{As, Output, Runtime, run};
pub use snapshot::Snapshot;
pub use stock::{Difference, Half};

/// Tries until `condition` holds; fails with its last complaint when the deadline has passed.
///
/// # Panics
/// If the condition does not come to hold in time.
#[track_caller]
pub fn eventually<T>(deadline: Duration, mut condition: impl FnMut() -> Result<T, String>) -> T {
    let begin = Instant::now();
    loop {
        match condition() {
            Ok(value) => return value,
            Err(complaint) if begin.elapsed() > deadline => panic!("after {deadline:?} still: {complaint}"),
            Err(_) => std::thread::sleep(Duration::from_millis(10)),
        }
    }
}

/// A part of a test, with the name it has in a failure.
pub type Scenario = (&'static str, fn(&Namespace<'_>));

/// Starts one instance without a mesh and plays all scenarios on it at once, each in a namespace of its own.
///
/// # Panics
/// If any fails; names those that did.
pub fn play(user: As, scenarios: &[Scenario]) {
    play_on(user, false, scenarios, &[]);
}

/// As [`play`], with the mesh if wanted.
///
/// # Panics
/// If any fails that is not expected to; names those that did.
pub fn play_on(user: As, mesh: bool, scenarios: &[Scenario], differences: &[Difference]) {
    let runtime = Runtime::new(user);
    if mesh {
        runtime.up_with_mesh("default");
    } else {
        runtime.up(&[]);
    }
    play_in(&runtime, scenarios, differences);
}

/// As [`play_on`] with the mesh, whose sidecars and gateways run this Envoy: a namespace with the label `istio-injection=enabled` is all that
/// pods need to have one.
///
/// # Panics
/// If any fails; names those that did.
pub fn play_with_envoy(user: As, envoy: &Path, scenarios: &[Scenario]) {
    let runtime = Runtime::new(user);
    let envoy = envoy.canonicalize().expect("the Envoy is there");
    runtime.up_with_mesh_and("default", &["--envoy", &envoy.to_string_lossy()]);
    play_in(&runtime, scenarios, &[]);
}

/// Plays all scenarios on a cluster that runs, at once, each in a namespace of its own.
///
/// `CORTEN_SCENARIO` plays only those whose names contain it.
/// One that fails because Istio's program for a half does less is reported as that, not as a failure.
///
/// # Panics
/// If any fails that is not expected to; names those that did.
pub fn play_in(runtime: &Runtime, scenarios: &[Scenario], differences: &[Difference]) {
    let only = std::env::var("CORTEN_SCENARIO").unwrap_or_default();
    let failed: Vec<&str> = std::thread::scope(|scope| {
        let playing: Vec<_> = scenarios
            .iter()
            .filter(|(name, _)| name.contains(&only))
            .map(|(name, scenario)| {
                let thread = std::thread::Builder::new().name((*name).to_owned());
                let playing = thread.spawn_scoped(scope, move || {
                    catch_unwind(AssertUnwindSafe(|| {
                        scenario(&Namespace::new(runtime, &name.replace('_', "-")))
                    }))
                    .is_ok()
                });
                (*name, playing.expect("a thread can be started"))
            })
            .collect();
        let ended = playing
            .into_iter()
            .map(|(name, playing)| (name, playing.join().unwrap_or(false)));
        ended.filter_map(|(name, well)| (!well).then_some(name)).collect()
    });
    let unexpected = |name: &&str| match Difference::find(differences, name) {
        Some(Difference { half, why, .. }) => {
            corten_rt::skip_reason(&format!("{name} does not hold with this {}: {why}", half.name()));
            false
        }
        None => true,
    };
    let failed: Vec<&str> = failed.into_iter().filter(unexpected).collect();
    assert!(failed.is_empty(), "these scenarios failed: {}", failed.join(", "));
}

/// Where a shipped binary lies, for tests that put it elsewhere.
///
/// # Panics
/// If the binaries do not build.
pub fn binary(name: &str) -> PathBuf {
    binaries::built().join(name)
}
