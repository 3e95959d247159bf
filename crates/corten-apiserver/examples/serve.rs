//! Serves the API alone, over a directory, for a look at it with kubectl: `cargo run -p corten-apiserver --example serve -- DIR [PORT]`.
//!
//! Nothing runs behind it: no node, no controller. A pod's log is two lines, a command in it echoes, its ports are those of this machine.

use std::path::PathBuf;

use bytes::Bytes;
use corten_apiserver::{
    Api, Client, Duplex, ExecExit, ExecOptions, ExecStreams, LogOptions, PodBackend, ServerConfig, Status, pki::Pki,
    resources, serve,
};
use corten_rt::TaskGroup;
use futures_util::future::BoxFuture;
use futures_util::stream::{BoxStream, StreamExt, iter};
use serde_json::Value;

/// Pods that are not there.
struct Pretended;

impl PodBackend for Pretended {
    fn logs(
        &self,
        _: &Value,
        options: LogOptions,
    ) -> BoxFuture<'_, Result<BoxStream<'static, std::io::Result<Bytes>>, Status>> {
        let lines = [
            format!("this is {}\n", options.container),
            "and nothing runs in it\n".to_owned(),
        ];
        Box::pin(async move { Ok(iter(lines.map(|line| Ok(Bytes::from(line)))).boxed()) })
    }

    fn exec(&self, _: &Value, options: ExecOptions, mut io: ExecStreams) -> BoxFuture<'_, Result<ExecExit, Status>> {
        Box::pin(async move {
            let _ = io.stdout.send(format!("{}\n", options.command.join(" ")).into()).await;
            while let Some(block) = io.stdin.recv().await {
                let _ = io.stdout.send(block).await;
            }
            let code = if options.command.first().is_some_and(|c| c == "fail") {
                3
            } else {
                0
            };
            Ok(ExecExit { code })
        })
    }

    fn port_forward(&self, _: &Value, port: u16) -> BoxFuture<'_, Result<Box<dyn Duplex>, Status>> {
        Box::pin(async move {
            match tokio::net::TcpStream::connect(("127.0.0.1", port)).await {
                Ok(stream) => Ok(Box::new(stream) as Box<dyn Duplex>),
                Err(error) => Err(Status::new(
                    500,
                    "InternalError",
                    format!("dial 127.0.0.1:{port}: {error}"),
                )),
            }
        })
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let dir = PathBuf::from(arguments.next().ok_or("usage: serve DIR [PORT]")?);
    let port: u16 = arguments.next().map_or(Ok(0), |port| port.parse())?;
    let api = Api::open(&dir)?;
    api.set_pods(std::sync::Arc::new(Pretended));
    let client = Client::new(api.clone(), "system:example");
    for name in ["default", "kube-system"] {
        let namespace = serde_json::json!({ "metadata": { "name": name } });
        match client.create(&resources::NAMESPACES, namespace).await {
            Err(status) if !status.is_already_exists() => return Err(status.into()),
            _ => {}
        }
    }
    let listener = std::net::TcpListener::bind(("127.0.0.1", port))?;
    let url = format!("https://{}", listener.local_addr()?);
    let pki = Pki::open(&dir)?;
    let kubeconfig = dir.join("kubeconfig");
    std::fs::write(&kubeconfig, pki.kubeconfig("corten", &url))?;
    let tasks = TaskGroup::new("example");
    let listeners = vec![listener];
    serve(ServerConfig { listeners, pki, api }, &tasks)?;
    // The example's output is its purpose.
    #[expect(clippy::print_stdout, reason = "an example for the command line")]
    {
        println!("export KUBECONFIG={}", kubeconfig.display());
    }
    tokio::signal::ctrl_c().await?;
    tasks.shutdown(std::time::Duration::from_secs(2)).await;
    Ok(())
}
