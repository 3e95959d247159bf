//! An acknowledged write survives `kill -9`, and nothing of what was killed stays on the machine.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::time::Duration;

use corten_e2e::{As, Processes, Runtime, everything_gone, interfaces};
use futures_util::future::join_all;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{ListParams, PostParams};

const ROUNDS: usize = 20;
const WRITERS: usize = 8;
/// Each round means to write so many, and is killed somewhere amid them.
const WRITES: usize = 1000;

/// Creates objects until the API is gone, noting those that were acknowledged.
async fn write(api: &Api<ConfigMap>, round: usize, writer: usize, acknowledged: &RefCell<BTreeSet<String>>) {
    for number in 0..WRITES / WRITERS {
        let name = format!("r{round}-w{writer}-{number}");
        let mut object = ConfigMap::default();
        object.metadata.name = Some(name.clone());
        if api.create(&PostParams::default(), &object).await.is_err() {
            return;
        }
        acknowledged.borrow_mut().insert(name);
    }
}

/// Writes from all writers at once, and kills a process of the runtime when so many writes of this round are acknowledged; what was killed.
async fn killed_amid(runtime: &Runtime, round: usize, acknowledged: &RefCell<BTreeSet<String>>) -> Processes {
    let api: Api<ConfigMap> = Api::namespaced(runtime.client("default").await, "default");
    let processes = runtime.processes("default");
    let before = acknowledged.borrow().len();
    let enough = WRITES * (round + 1) / (ROUNDS + 1);
    let killer = async {
        while acknowledged.borrow().len() < before + enough {
            tokio::task::yield_now().await;
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
        Processes::kill(if round.is_multiple_of(2) {
            processes.outer
        } else {
            processes.inner
        });
    };
    let writers = join_all((0..WRITERS).map(|writer| write(&api, round, writer, acknowledged)));
    // A connection that is never answered again must not hold the test.
    let all = tokio::time::timeout(Duration::from_secs(60), async { tokio::join!(writers, killer) });
    all.await.expect("every round ends in a minute");
    processes
}

async fn stored(runtime: &Runtime) -> BTreeSet<String> {
    let api: Api<ConfigMap> = Api::namespaced(runtime.client("default").await, "default");
    let list = api.list(&ListParams::default()).await.expect("the API answers");
    list.items
        .into_iter()
        .filter_map(|object| object.metadata.name)
        .collect()
}

async fn check(user: As) {
    if let Err(reason) = user.possible() {
        corten_rt::skip!("{reason}");
    }
    let runtime = Runtime::new(user);
    let before = interfaces();
    let acknowledged = RefCell::default();
    for round in 0..ROUNDS {
        runtime.up(&[]);
        let killed = killed_amid(&runtime, round, &acknowledged).await;
        everything_gone(runtime.dir(), &killed, &before);
    }
    runtime.up(&[]);
    let stored = stored(&runtime).await;
    let lost: Vec<_> = acknowledged.borrow().difference(&stored).cloned().collect();
    assert!(
        lost.is_empty(),
        "{} of {} writes are lost: {lost:?}",
        lost.len(),
        acknowledged.borrow().len()
    );
    let least: usize = (0..ROUNDS).map(|round| WRITES * (round + 1) / (ROUNDS + 1)).sum();
    assert!(
        acknowledged.borrow().len() >= least,
        "every round wrote enough before it was killed"
    );
}

#[tokio::test]
async fn nothing_acknowledged_is_lost_when_killed_amid_writes_as_root() {
    Box::pin(check(As::Root)).await;
}

#[tokio::test]
async fn nothing_acknowledged_is_lost_when_killed_amid_writes_as_a_user() {
    Box::pin(check(As::User)).await;
}
