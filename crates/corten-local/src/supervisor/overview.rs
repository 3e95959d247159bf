//! Follows nodes and pods, and keeps the board's summary of them current.

use std::sync::Arc;
use std::time::Duration;

use corten_apiserver::{Client, Event, Status, resources};
use corten_rt::Drain;
use tokio::sync::watch;

use super::board::Board;
use super::cluster::Cluster;

/// Changes closer together than this are summed up once.
const PACE: Duration = Duration::from_millis(100);

/// Runs until drained. Sends the number of ready nodes whenever it changes.
pub(super) async fn run(
    client: Client,
    board: Arc<Board>,
    nodes_ready: watch::Sender<usize>,
    mut drain: Drain,
) -> Result<(), Status> {
    let mut nodes = client.watch(&resources::NODES, None).await?;
    let mut pods = client.watch(&resources::PODS, None).await?;
    let mut cluster = Cluster::default();
    let pace = tokio::time::sleep(PACE);
    tokio::pin!(pace);
    let mut stale = false;
    loop {
        tokio::select! {
            event = nodes.next() => match event {
                Some(Event::Added(node) | Event::Modified { new: node, .. }) => cluster.node(&node),
                Some(Event::Deleted(node)) => cluster.node_gone(&node),
                Some(Event::Synced) => {}
                None => return Ok(()),
            },
            event = pods.next() => match event {
                Some(Event::Added(pod) | Event::Modified { new: pod, .. }) => cluster.pod(&pod),
                Some(Event::Deleted(pod)) => cluster.pod_gone(&pod),
                Some(Event::Synced) => {}
                None => return Ok(()),
            },
            () = &mut pace, if stale => {
                stale = false;
                publish(&board, &cluster);
                continue;
            }
            () = drain.wait() => return Ok(()),
        }
        let ready = cluster.nodes_ready();
        // Readiness is told at once, and with it the summary, so that a ready runtime never shows no nodes.
        if *nodes_ready.borrow() != ready {
            publish(&board, &cluster);
            nodes_ready.send_replace(ready);
        } else if !stale {
            stale = true;
            pace.as_mut().reset(tokio::time::Instant::now() + PACE);
        }
    }
}

fn publish(board: &Board, cluster: &Cluster) {
    let (nodes, namespaces, problems) = cluster.summary();
    board.cluster(nodes, namespaces, problems);
}
