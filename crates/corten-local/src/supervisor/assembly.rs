//! The parts of a running runtime: made in the order of their needs, ended in the reverse.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use corten_apiserver::{Api, Client};
use corten_rt::TaskGroup;
use tokio::sync::{mpsc, watch};

use super::board::Board;
use super::component::keep_running;
use super::overview;
use crate::instance::Instance;
use crate::network::{Network, NetworkConfig};
use crate::up::Assignment;

/// How long what serves may take to finish.
const SERVICES_GRACE: Duration = Duration::from_secs(2);

/// Everything that runs.
pub(super) struct Assembly {
    api: Arc<Api>,
    services: TaskGroup,
    broken: mpsc::Receiver<String>,
    _network: Arc<Network>,
}

impl Assembly {
    pub(super) async fn start(
        assignment: &Assignment,
        instance: &Instance,
        runtime_dir: PathBuf,
        _api: std::net::TcpListener,
        board: Arc<Board>,
    ) -> anyhow::Result<Self> {
        let (_break, broken) = mpsc::channel(1);
        let data = instance.data_dir();
        let open = tokio::task::spawn_blocking(move || Api::open(&data));
        let config = NetworkConfig::new(
            assignment.nodes,
            runtime_dir.join("network"),
            assignment.programs.clone(),
        );
        let network = Arc::new(Network::create(config).await?);
        let api = open
            .await?
            .with_context(|| format!("the objects in {}", instance.data_dir().display()))?;

        let services = TaskGroup::new("services");
        let (nodes_ready, _) = watch::channel(0);
        let client = Client::new(api.clone(), "system:corten");
        keep_running(&services, &board.clone(), "overview", move |drain| {
            overview::run(client.clone(), board.clone(), nodes_ready.clone(), drain)
        });
        Ok(Self {
            api,
            services,
            broken,
            _network: network,
        })
    }

    /// Resolves when the API answers and every node is ready.
    pub(super) fn ready(&self) -> impl Future<Output = ()> + use<> {
        std::future::ready(())
    }

    /// Resolves, with the reason, when a part without which nothing works is gone.
    pub(super) async fn broken(&mut self) -> String {
        match self.broken.recv().await {
            Some(reason) => reason,
            None => std::future::pending().await,
        }
    }

    /// Ends everything in order.
    pub(super) async fn stop(self) {
        for late in self.services.shutdown(SERVICES_GRACE).await {
            tracing::warn!(task = late, "had to be cut off");
        }
        self.api.close();
    }
}
