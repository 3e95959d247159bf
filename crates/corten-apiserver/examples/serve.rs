//! Serves the API alone, over a directory, for a look at it with kubectl: `cargo run -p corten-apiserver --example serve -- DIR [PORT]`.
//!
//! Nothing runs behind it: no node, no controller.

use std::path::PathBuf;

use corten_apiserver::{Api, Client, ServerConfig, pki::Pki, resources, serve};
use corten_rt::TaskGroup;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let dir = PathBuf::from(arguments.next().ok_or("usage: serve DIR [PORT]")?);
    let port: u16 = arguments.next().map_or(Ok(0), |port| port.parse())?;
    let api = Api::open(&dir)?;
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
