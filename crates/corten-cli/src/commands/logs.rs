//! `corten logs`.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use futures_util::AsyncReadExt as _;
use http::Request;
use tokio::io::AsyncWriteExt as _;

use crate::cluster::{Cluster, Connection, container_of, pod_of, query};

/// Print what a container has written
#[derive(Debug, clap::Args)]
pub(crate) struct Logs {
    #[command(flatten)]
    connection: Connection,
    /// POD, or TYPE/NAME for a pod of a workload
    #[arg(value_name = "POD | TYPE/NAME")]
    pod: String,
    /// The container; the first one when left out
    #[arg(short, long)]
    container: Option<String>,
    /// Every container, one after the other
    #[arg(long, conflicts_with = "container")]
    all_containers: bool,
    /// Go on printing
    #[arg(short, long)]
    follow: bool,
    /// Of the container's run before this one
    #[arg(short, long)]
    previous: bool,
    /// Only the last lines
    #[arg(long, value_name = "LINES")]
    tail: Option<i64>,
    /// Only what is younger than this
    #[arg(long, value_parser = corten_core::Duration::parse_argument)]
    since: Option<Duration>,
    /// With the time of each line
    #[arg(long)]
    timestamps: bool,
    /// At most so many bytes
    #[arg(long, value_name = "BYTES")]
    limit_bytes: Option<u64>,
}

impl Logs {
    pub(crate) fn run(self) -> Result<ExitCode> {
        self.connection.clone().run(async |cluster| {
            let pod = pod_of(&cluster, &self.pod).await?;
            let base = format!("/api/v1/namespaces/{}/pods/{pod}", cluster.namespace);
            if !self.all_containers {
                let container = container_of(&cluster, &pod, self.container.as_deref()).await?;
                self.print(&cluster, &base, Some(container)).await?;
                return Ok(ExitCode::SUCCESS);
            }
            let object = cluster.get(&base).await?;
            for list in ["initContainers", "containers"] {
                for container in object["spec"][list].as_array().into_iter().flatten() {
                    self.print(&cluster, &base, container["name"].as_str().map(str::to_owned))
                        .await?;
                }
            }
            Ok(ExitCode::SUCCESS)
        })
    }

    async fn print(&self, cluster: &Cluster, base: &str, container: Option<String>) -> Result<()> {
        let yes = |flag: bool| flag.then(|| "true".to_owned());
        let path = format!("{base}/log")
            + &query(&[
                ("container", container),
                ("follow", yes(self.follow)),
                ("previous", yes(self.previous)),
                (
                    "tailLines",
                    self.tail.filter(|tail| *tail >= 0).map(|tail| tail.to_string()),
                ),
                (
                    "sinceSeconds",
                    self.since.map(|since| since.as_secs().max(1).to_string()),
                ),
                ("timestamps", yes(self.timestamps)),
                ("limitBytes", self.limit_bytes.map(|limit| limit.to_string())),
            ]);
        let request = Request::get(path).body(Vec::new())?;
        let log = cluster
            .client()
            .request_stream(request)
            .await
            .map_err(|error| cluster.refusal(error))?;
        let mut log = std::pin::pin!(log);
        let mut out = tokio::io::stdout();
        let mut block = vec![0; 16 * 1024];
        loop {
            let read = log.read(&mut block).await?;
            if read == 0 {
                return Ok(());
            }
            out.write_all(&block[..read]).await?;
            out.flush().await?;
        }
    }
}
