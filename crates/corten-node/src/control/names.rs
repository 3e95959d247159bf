//! Names: the DNS proxies of the pods, and the names of workloads without addresses, resolved for connections that lead to them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use corten_linux::NetNs;
use corten_proto::zds::WorkloadInfo;
use corten_rt::{Drain, TaskGroup};
use tokio::sync::{mpsc, watch};

use crate::config::Config;
use crate::dns::{Client, Dns, DnsMetrics, Lookup, SocketThread, name_servers, serve};
use crate::shard::{Common, Resolve};

/// How long questions that have been passed on may take once their pod's proxy has been told to stop: as long as clients wait.
const LAST_ANSWERS: Duration = Duration::from_secs(5);

/// The DNS proxies of all pods. Copies are the same.
#[derive(Clone)]
pub struct Names(Arc<Inner>);

struct Inner {
    dns: Arc<Dns>,
    port: u16,
    reuse: bool,
    ipv6: bool,
    hand_over: watch::Sender<bool>,
    pods: Mutex<HashMap<String, TaskGroup>>,
    /// Of pods that have left, with questions open.
    leaving: TaskGroup,
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
        Ok(Some(Names(Arc::new(Inner {
            dns: Arc::new(dns),
            port: config.dns_port,
            reuse: config.port_reuse,
            ipv6: config.ipv6,
            hand_over: watch::Sender::new(false),
            pods: Mutex::default(),
            leaving: TaskGroup::new("dns of pods that left"),
        }))))
    }

    /// Begins to answer a pod.
    pub async fn add(&self, uid: &str, info: &WorkloadInfo, namespace: NetNs) -> Result<(), String> {
        let Inner {
            dns, port, reuse, ipv6, ..
        } = &*self.0;
        let listeners = dns.sockets.listen(Arc::new(namespace), *port, *reuse, *ipv6).await;
        let listeners = listeners.map_err(|error| format!("cannot listen for DNS on port {port}: {error}"))?;
        let client = Client {
            namespace: info.namespace.clone(),
            name: info.name.clone(),
            service_account: info.service_account.clone(),
        };
        let tasks = TaskGroup::new(format!("dns of {}", info.name));
        let (dns, hand_over) = (dns.clone(), self.0.hand_over.subscribe());
        tasks.serve("dns", |drain| serve(dns, client, listeners, hand_over, drain));
        self.pods().insert(uid.to_owned(), tasks);
        Ok(())
    }

    /// Ends it, once what has been asked is answered.
    pub fn remove(&self, uid: &str) {
        if let Some(tasks) = self.pods().remove(uid) {
            self.0.leaving.spawn("dns", async move {
                tasks.shutdown(LAST_ANSWERS).await;
            });
        }
    }

    /// From now on a successor that listens gets the questions; where there is none, they are answered on.
    pub fn hand_over(&self) {
        self.0.hand_over.send_replace(true);
    }

    /// Ends all of them, once what has been asked is answered.
    pub async fn finish(&self) {
        let pods: Vec<String> = self.pods().keys().cloned().collect();
        pods.iter().for_each(|uid| self.remove(uid));
        self.0.leaving.shutdown(LAST_ANSWERS).await;
    }

    fn pods(&self) -> std::sync::MutexGuard<'_, HashMap<String, TaskGroup>> {
        self.0.pods.lock().unwrap_or_else(PoisonError::into_inner)
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
