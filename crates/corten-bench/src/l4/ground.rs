//! Where it is measured: pods on a bridge, node proxies in namespaces of their own, everything inside namespaces that end with the benchmark.
//!
//! Both kinds of proxy are started as they ship, with the same settings: workloads from a file, certificates made locally, pods from a node agent
//! (the product's own code for that), redirection by the product's own rules.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use corten_enroll::zds::{Handle, Limits, Pods, Server, Workload, WorkloadInfo};
use corten_enroll::{Backend, PodNetwork, PodRules};
use corten_linux::NetNs;
use corten_linux::net::{LinkChange, LinkKind, NewLink, Rtnl};
use corten_rt::TaskGroup;

use super::authority::Authority;

/// How long a proxy may take to serve its pods.
const START: Duration = Duration::from_secs(30);

/// In what the kernel tells processor time; the same on every machine that Linux runs on today.
const TICKS_A_SECOND: f64 = 100.0;

/// The wire.
pub(crate) struct Wire {
    here: Rtnl,
    bridge: u32,
    next: u8,
    quiet: u32,
}

/// A pod on the wire.
pub(crate) struct Pod {
    pub(crate) name: String,
    pub(crate) ip: Ipv4Addr,
    pub(crate) netns: Arc<NetNs>,
    rules: Option<PodNetwork>,
}

impl Wire {
    /// A bridge in the present namespace.
    pub(crate) fn new() -> Result<Wire> {
        let mut here = Rtnl::open()?;
        up(&mut here, "lo")?;
        here.add_link(&NewLink {
            name: "br0",
            kind: LinkKind::Bridge,
            change: raised(),
        })?;
        let bridge = here.link("br0")?.context("the bridge was just made")?.index;
        Ok(Wire {
            here,
            bridge,
            next: 0,
            quiet: 0,
        })
    }

    /// A pod that nobody calls: a namespace, not on the wire.
    pub(crate) fn quiet_pod(&mut self, name: &str) -> Result<Pod> {
        self.quiet += 1;
        let netns = Arc::new(NetNs::create()?);
        up(&mut netns.run(Rtnl::open)??, "lo")?;
        Ok(Pod {
            name: name.to_owned(),
            ip: Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 2, 0, 0)) + self.quiet),
            netns,
            rules: None,
        })
    }

    /// A pod, not enrolled.
    pub(crate) fn pod(&mut self, name: &str) -> Result<Pod> {
        self.next += 1;
        let ip = Ipv4Addr::new(10, 1, 0, self.next);
        let netns = Arc::new(NetNs::create()?);
        self.here.add_link(&NewLink {
            name,
            kind: LinkKind::Veth {
                peer: "eth0",
                change: LinkChange {
                    netns: Some(netns.as_fd()),
                    ..LinkChange::default()
                },
            },
            change: LinkChange {
                master: Some(self.bridge),
                ..raised()
            },
        })?;
        let mut there = netns.run(Rtnl::open)??;
        up(&mut there, "lo")?;
        let eth0 = up(&mut there, "eth0")?;
        there.add_address(eth0, format!("{ip}/24").parse()?)?;
        // New connections by the thousand each hold a port for a minute after their end.
        netns.run(|| corten_linux::net::set_sysctl("net.ipv4.ip_local_port_range", "1024 65535"))??;
        Ok(Pod {
            name: name.to_owned(),
            ip,
            netns,
            rules: None,
        })
    }
}

fn raised() -> LinkChange<'static> {
    LinkChange {
        up: Some(true),
        ..LinkChange::default()
    }
}

fn up(there: &mut Rtnl, name: &str) -> Result<u32> {
    let index = there.link(name)?.with_context(|| format!("no interface {name}"))?.index;
    there.set_link(index, &raised())?;
    Ok(index)
}

impl Pod {
    /// Redirects its traffic to its node's proxy.
    pub(crate) fn enroll(&mut self) -> Result<()> {
        let mut rules = PodNetwork::open(self.netns.clone(), Backend::Nftables)?;
        rules.enroll(&PodRules {
            ipv6: false,
            dns_capture: false,
            ..PodRules::default()
        })?;
        self.rules = Some(rules);
        Ok(())
    }

    pub(crate) fn at(&self, port: u16) -> SocketAddr {
        SocketAddr::from((self.ip, port))
    }

    fn workload(&self) -> Workload {
        Workload {
            uid: self.name.clone(),
            info: WorkloadInfo {
                name: self.name.clone(),
                namespace: "bench".to_owned(),
                service_account: self.name.clone(),
            },
            netns: Some(self.netns.clone()),
        }
    }

    /// The workload as a control plane would tell of it, in the form that both proxies read from files.
    fn line(&self) -> String {
        format!(
            "- {{uid: 'bench//Pod/bench/{0}', name: {0}, namespace: bench, serviceAccount: {0}, workloadIps: ['{1}'], protocol: HBONE, node: node, network: '', services: {{}}}}\n",
            self.name, self.ip
        )
    }
}

/// What the file of workloads says about these pods.
pub(crate) fn workloads<'a>(pods: impl IntoIterator<Item = &'a Pod>) -> String {
    let mut text = String::from("workloads:\n");
    text.extend(pods.into_iter().map(Pod::line));
    text
}

/// A node proxy.
#[derive(Clone, Debug)]
pub(crate) enum Kind {
    Corten(PathBuf),
    Ztunnel(PathBuf),
}

/// A running node proxy and the agent before it.
pub(crate) struct Node {
    child: Child,
    handle: Handle,
    _tasks: TaskGroup,
    _netns: Arc<NetNs>,
}

struct All(Mutex<Vec<Workload>>);

impl Pods for All {
    fn snapshot(&self) -> Vec<Workload> {
        self.0.lock().map(|all| all.clone()).unwrap_or_default()
    }

    fn connected(&self, _proxies: usize) {}
}

impl Node {
    /// Starts one in a namespace of its own, and waits until it is connected to its agent.
    pub(crate) async fn start(
        kind: &Kind,
        name: &str,
        folder: &Path,
        workloads: &str,
        authority: &Arc<Authority>,
    ) -> Result<Node> {
        let folder = folder.join(name);
        std::fs::create_dir_all(&folder)?;
        let file = folder.join("workloads.yaml");
        std::fs::write(&file, workloads)?;
        let socket = folder.join("zds.sock");
        let server = Server::bind(&socket, Arc::new(All(Mutex::default())), Limits::default())?;
        let handle = server.handle();
        let tasks = TaskGroup::new("agent");
        tasks.serve("zds", |drain| server.run(drain));

        let netns = Arc::new(NetNs::create()?);
        up(&mut netns.run(Rtnl::open)??, "lo")?;
        let log = std::fs::File::create(folder.join("log"))?;
        let mut command = match kind {
            Kind::Corten(binary) => {
                let mut command = Command::new(binary);
                command.env("CORTEN_TEST_CA_DIR", &authority.folder);
                command
            }
            Kind::Ztunnel(binary) => {
                let mut command = Command::new(binary);
                let listener = netns.run(super::authority::listen)??;
                command
                    .args(["proxy", "ztunnel"])
                    .env("CA_ADDRESS", authority.serve(listener, &tasks)?)
                    .env("CA_ROOT_CA", authority.root());
                command
            }
        };
        command
            .env("LOCAL_XDS_PATH", &file)
            .env("XDS_ADDRESS", "")
            .env("INPOD_UDS", &socket)
            .env("NODE_NAME", "node")
            .env("CLUSTER_ID", "bench")
            .env("IPV6_ENABLED", "false")
            .env("ISTIO_META_DNS_CAPTURE", "false")
            .current_dir(&folder)
            .stdin(Stdio::null())
            // Access logs are on as they are by default; nobody reads them.
            .stdout(Stdio::null())
            .stderr(log);
        let child = netns.run(|| command.spawn())?.context("starting a node proxy")?;
        let mut node = Node {
            child,
            handle,
            _tasks: tasks,
            _netns: netns,
        };
        let begin = Instant::now();
        while !node.handle.is_connected() {
            if let Some(status) = node.child.try_wait()? {
                let said = std::fs::read_to_string(folder.join("log"))?;
                bail!("node proxy {name} ended ({status}): {said}");
            }
            if begin.elapsed() > START {
                bail!("node proxy {name} did not connect to its agent");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(node)
    }

    /// Hands a pod to it.
    pub(crate) async fn serve(&self, pod: &Pod) -> Result<()> {
        Ok(self.handle.add(pod.workload()).await?)
    }

    /// Processor time used so far, user and system, in microseconds.
    pub(crate) fn cpu_us(&self) -> Result<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // The name may hold anything, so fields are counted from its closing bracket; user and system time are the 12th and 13th after it.
        let fields: Vec<&str> = stat.rsplit_once(')').context("stat")?.1.split_whitespace().collect();
        let ticks: f64 = fields[11].parse::<f64>()? + fields[12].parse::<f64>()?;
        Ok(ticks * 1e6 / TICKS_A_SECOND)
    }

    /// Resident memory, and the part of it that is not pages of files, in megabytes (1,000,000 bytes).
    pub(crate) fn resident_mb(&self) -> Result<[f64; 2]> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let of = |name: &str| -> Result<f64> {
            let line = status
                .lines()
                .find(|line| line.starts_with(name))
                .context("memory of a process")?;
            let kilobytes: f64 = line.split_whitespace().nth(1).context("memory of a process")?.parse()?;
            Ok(kilobytes * 1024.0 / 1e6)
        };
        Ok([of("VmRSS:")?, of("RssAnon:")?])
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
