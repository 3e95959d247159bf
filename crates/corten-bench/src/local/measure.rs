//! The measurements, through the Kubernetes API alone, so that both grounds are measured alike.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use futures_util::future::try_join_all;
use futures_util::{StreamExt, TryStreamExt};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use kube::{Api, Client};
use serde_json::json;

use super::ground::{Ground, IMAGE};

const NAMESPACE: &str = "bench";
const WRITERS: usize = 8;
const WATCHERS: usize = 100;
const ROUNDS: usize = 100;
const PODS: i32 = 200;
/// How long pods may take to become ready before the benchmark gives up.
const READY_MAX: Duration = Duration::from_secs(300);

/// Takes every figure of the benchmark, in the order of `FIGURES`.
pub(crate) async fn all(ground: &Ground) -> Result<Vec<f64>> {
    let client = ground.client().await?;
    let namespaces: Api<Namespace> = Api::all(client.clone());
    // Both grounds settle before their idle memory is read.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let idle = ground.memory_mb()?;
    let namespace = serde_json::from_value(json!({"metadata": {"name": NAMESPACE}}))?;
    namespaces
        .create(&PostParams::default(), &namespace)
        .await
        .context("creating the namespace")?;

    let ready = ready_one(&client).await?;
    let writes = writes(ground).await?;
    let (median, tail) = watchers(ground).await?;
    let before = ground.memory_mb()?;
    let many = ready_many(&client).await?;
    let each = (ground.memory_mb()? - before) / f64::from(PODS);
    namespaces.delete(NAMESPACE, &DeleteParams::default()).await?;
    Ok(vec![
        ground.start.as_secs_f64(),
        idle,
        ready,
        writes,
        median,
        tail,
        many,
        each,
    ])
}

fn deployment(name: &str, replicas: i32) -> Result<Deployment> {
    Ok(serde_json::from_value(json!({
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {
                    "terminationGracePeriodSeconds": 1,
                    "containers": [{
                        "name": "echo", "image": IMAGE, "imagePullPolicy": "IfNotPresent",
                        "readinessProbe": {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1},
                    }],
                },
            },
        },
    }))?)
}

/// The median time in seconds from the request that makes a Deployment to its pod being Ready.
async fn ready_one(client: &Client) -> Result<f64> {
    let mut times = Vec::new();
    for round in 0..10 {
        let name = format!("one-{round}");
        let begin = Instant::now();
        create_and_wait(client, &name, 1).await?;
        times.push(begin.elapsed().as_secs_f64());
        Api::<Deployment>::namespaced(client.clone(), NAMESPACE)
            .delete(&name, &DeleteParams::default())
            .await?;
    }
    Ok(percentile(&mut times, 0.5))
}

/// The time in seconds until all pods of a large Deployment are Ready.
async fn ready_many(client: &Client) -> Result<f64> {
    let begin = Instant::now();
    create_and_wait(client, "many", PODS).await?;
    Ok(begin.elapsed().as_secs_f64())
}

async fn create_and_wait(client: &Client, name: &str, replicas: i32) -> Result<()> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
    let begin = Instant::now();
    let parameters = WatchParams::default().labels(&format!("app={name}")).timeout(290);
    // From a real version: with an old etcd behind it, a server refuses to begin a watch at "0".
    let list = pods.list(&ListParams::default().labels(&format!("app={name}"))).await?;
    let version = list.metadata.resource_version.context("a list has a version")?;
    let mut events = pods.watch(&parameters, &version).await?.boxed();
    Api::namespaced(client.clone(), NAMESPACE)
        .create(&PostParams::default(), &deployment(name, replicas)?)
        .await?;
    let mut ready = std::collections::HashSet::new();
    while begin.elapsed() < READY_MAX {
        let Some(event) = events.try_next().await? else {
            // A server may end a watch whenever it likes; the next one tells the same events again.
            events = pods.watch(&parameters, &version).await?.boxed();
            continue;
        };
        match event {
            WatchEvent::Added(pod) | WatchEvent::Modified(pod) => {
                let conditions = pod.status.and_then(|status| status.conditions).unwrap_or_default();
                if conditions
                    .iter()
                    .any(|condition| condition.type_ == "Ready" && condition.status == "True")
                {
                    ready.insert(pod.metadata.name);
                }
            }
            WatchEvent::Error(status) => bail!("watching the pods of {name}: {}", status.message),
            WatchEvent::Deleted(_) | WatchEvent::Bookmark(_) => {}
        }
        if i32::try_from(ready.len())? >= replicas {
            return Ok(());
        }
    }
    bail!(
        "only {} of {replicas} pods of {name} became ready in {READY_MAX:?}",
        ready.len()
    )
}

/// Acknowledged writes a second, by writers that each wait for their answer before the next.
async fn writes(ground: &Ground) -> Result<f64> {
    let begin = Instant::now();
    let until = begin + Duration::from_secs(5);
    let writers = (0..WRITERS).map(|writer| async move {
        let api: Api<ConfigMap> = Api::namespaced(ground.client().await?, NAMESPACE);
        let name = format!("writer-{writer}");
        let object = serde_json::from_value(json!({"metadata": {"name": name}, "data": {"n": "0"}}))?;
        api.create(&PostParams::default(), &object).await?;
        let mut count = 1_u32;
        while Instant::now() < until {
            let patch = Patch::Merge(json!({"data": {"n": count.to_string()}}));
            api.patch(&name, &PatchParams::default(), &patch).await?;
            count += 1;
        }
        anyhow::Ok(count)
    });
    let total: u32 = try_join_all(writers).await?.into_iter().sum();
    Ok(f64::from(total) / begin.elapsed().as_secs_f64())
}

/// Milliseconds from the start of a write until every one of the watchers has its event: median and 99th percentile.
async fn watchers(ground: &Ground) -> Result<(f64, f64)> {
    let api: Api<ConfigMap> = Api::namespaced(ground.client().await?, NAMESPACE);
    let object = serde_json::from_value(json!({"metadata": {"name": "watched"}, "data": {"n": "0"}}))?;
    let version = api
        .create(&PostParams::default(), &object)
        .await?
        .metadata
        .resource_version
        .context("a version")?;
    let mut streams = Vec::new();
    for _ in 0..WATCHERS {
        let parameters = WatchParams::default().fields("metadata.name=watched");
        streams.push(api.watch(&parameters, &version).await?.boxed());
    }
    let mut times = Vec::new();
    for round in 1..=ROUNDS {
        let patch = Patch::Merge(json!({"data": {"n": round.to_string()}}));
        let begin = Instant::now();
        api.patch("watched", &PatchParams::default(), &patch).await?;
        for stream in &mut streams {
            loop {
                match stream.try_next().await?.context("a watch ended early")? {
                    WatchEvent::Modified(_) => break,
                    WatchEvent::Bookmark(_) => {}
                    other => bail!("a watcher saw {other:?}"),
                }
            }
        }
        times.push(begin.elapsed().as_secs_f64() * 1e3);
    }
    let median = percentile(&mut times, 0.5);
    Ok((median, percentile(&mut times, 0.99)))
}

fn percentile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "an index in range"
    )]
    let index = (share * (values.len() - 1) as f64).round() as usize;
    values[index]
}
