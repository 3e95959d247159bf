//! Names: the DNS proxies of the pods, and the names of workloads without addresses, resolved for connections that lead to them.

use std::collections::HashMap;
use std::sync::Arc;

use corten_linux::NetNs;
use corten_proto::zds::WorkloadInfo;
use corten_rt::{Drain, TaskGroup};
use tokio::sync::mpsc;

use crate::config::Config;
use crate::dns::{Client, Dns, DnsMetrics, Lookup, SocketThread, name_servers, serve};
use crate::shard::{Common, Resolve};

/// The DNS proxies of all pods.
pub struct Names {
    dns: Arc<Dns>,
    port: u16,
    reuse: bool,
    ipv6: bool,
    pods: HashMap<String, TaskGroup>,
}

impl Names {
    /// Starts what they share; nothing if pods' questions are not captured.
    pub fn start(common: &Common, metrics: Arc<DnsMetrics>) -> std::io::Result<Option<Names>> {
        let config = &common.config;
        if !config.dns {
            return Ok(None);
        }
        let dns = Dns {
            tables: common.tables.clone(),
            settings: common.traffic.clone(),
            name_servers: servers(config),
            sockets: SocketThread::start(config.packet_mark)?,
            metrics,
        };
        Ok(Some(Names {
            dns: Arc::new(dns),
            port: config.dns_port,
            reuse: config.port_reuse,
            ipv6: config.ipv6,
            pods: HashMap::new(),
        }))
    }

    /// Begins to answer a pod.
    pub async fn add(&mut self, uid: &str, info: &WorkloadInfo, namespace: NetNs) -> Result<(), String> {
        let sockets = &self.dns.sockets;
        let listeners = sockets
            .listen(Arc::new(namespace), self.port, self.reuse, self.ipv6)
            .await;
        let listeners = listeners.map_err(|error| format!("cannot listen for DNS on port {}: {error}", self.port))?;
        let client = Client {
            namespace: info.namespace.clone(),
            name: info.name.clone(),
            service_account: info.service_account.clone(),
        };
        let tasks = TaskGroup::new(format!("dns of {}", info.name));
        let dns = self.dns.clone();
        tasks.spawn("dns", async move {
            serve(dns, client, listeners).await;
        });
        self.pods.insert(uid.to_owned(), tasks);
        Ok(())
    }

    /// Ends it.
    pub fn remove(&mut self, uid: &str) {
        self.pods.remove(uid);
    }
}

fn servers(config: &Config) -> Vec<std::net::SocketAddr> {
    match std::fs::read_to_string(&config.resolv_conf) {
        Ok(text) => name_servers(&text),
        Err(error) => {
            tracing::warn!(path = %config.resolv_conf.display(), %error, "no name servers: only names of the mesh are answered");
            Vec::new()
        }
    }
}

/// Answers questions of the shards until told to stop.
pub async fn resolve(
    config: Arc<Config>,
    common: std::sync::Weak<Common>,
    mut questions: mpsc::Receiver<Resolve>,
    tasks: TaskGroup,
    mut drain: Drain,
) {
    let lookup = Arc::new(Lookup::new(servers(&config)));
    loop {
        let question = tokio::select! {
            () = drain.wait() => return,
            question = questions.recv() => question,
        };
        let Some(question) = question else { return };
        if let Some(common) = common.upgrade() {
            common.metrics.on_demand_dns.add(&question.labels(), 1);
        }
        let lookup = lookup.clone();
        tasks.spawn("resolve", async move {
            let address = lookup.resolve(&question.hostname, question.prefer_ipv6).await;
            question.answer(address.map_err(|error| error.to_string()));
        });
    }
}
