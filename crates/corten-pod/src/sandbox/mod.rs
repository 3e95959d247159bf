//! Pods as processes: the asynchronous side of `corten-pod`, one [`Sandbox`] per pod.
//!
//! Knows namespaces, containers, exits and streams. Does not know Kubernetes objects (the kubelet translates), images, or how a pod gets its addresses
//! (the CNI chain works on [`Sandbox::netns_path`]).

mod connection;
mod error;
mod exec;
mod files;
mod spec;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use corten_linux::{Child, Namespaces, NetNs, Spawn, SpawnError};
use corten_rt::TaskGroup;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use rustix::process::Signal;
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::{mpsc, oneshot};

use crate::protocol::{self, Request};
use connection::Connection;
pub use error::{SandboxError, StartError};
pub use exec::{Exec, ExecExit, Hold, Terminal};
pub use spec::{ContainerSpec, Exit, HostsEntry, Mount, NetworkNamespace, ResolvConf, SandboxSpec, Security, Started};

/// How long `corten-pod` may take to prepare itself; it needs milliseconds, but the machine may be busy.
const PREPARE_MAX: Duration = Duration::from_secs(30);

/// Exits that nobody has taken yet; beyond this the pod's events wait.
const EXITS_MAX: usize = 64;

/// The namespaces of one pod with the `corten-pod` process that holds them and is the parent of its containers.
///
/// All methods but [`exits`](Self::exits) take `&self`, so it is shared in an `Arc`. Dropping it ends the pod's processes too; [`stop`](Self::stop) also waits
/// until they are gone and removes what they wrote.
#[derive(Debug)]
pub struct Sandbox {
    name: String,
    dir: PathBuf,
    hostname: String,
    resolv_conf: String,
    hosts: Mutex<Vec<HostsEntry>>,
    netns: NetNs,
    netns_path: PathBuf,
    connection: Arc<Connection>,
    exits: Option<mpsc::Receiver<Exit>>,
    child: tokio::sync::Mutex<Option<Child>>,
    // The last, so that the connection's tasks end with everything else.
    tasks: TaskGroup,
}

impl Sandbox {
    /// Starts `corten-pod` in new PID, mount, UTS and IPC namespaces and in the network namespace the specification asks for. The network is not configured yet.
    pub async fn create(spec: SandboxSpec) -> Result<Self, SandboxError> {
        let name = format!("{}/{}", spec.namespace, spec.name);
        let refused = |what| {
            move |error: io::Error| SandboxError::Refused {
                what,
                message: error.to_string(),
            }
        };
        let program = program().map_err(|source| SandboxError::Program {
            path: "corten-pod".into(),
            source,
        })?;
        let (ours, theirs) = UnixStream::pair().map_err(refused("control socket"))?;
        let join = match &spec.netns {
            NetworkNamespace::New => None,
            NetworkNamespace::Path(path) => Some(NetNs::open(path).map_err(refused("network namespace"))?),
        };
        let own_network = join.is_none();
        let path = program.display().to_string();
        let uid = spec.uid.clone();
        let child = tokio::task::spawn_blocking(move || spawn(&program, &uid, own_network, theirs.into()))
            .await
            .map_err(|error| refused("process")(io::Error::other(error)))?
            .map_err(|error| match error {
                SpawnError::Exec { source, .. } => SandboxError::Program { path, source },
                other => SandboxError::Refused {
                    what: "namespaces",
                    message: other.to_string(),
                },
            })?;
        let (connection, messages, prepared) = Connection::new(ours.into()).map_err(refused("control socket"))?;
        let connection = Arc::new(connection);
        let (exits_sender, exits) = mpsc::channel(EXITS_MAX);
        let tasks = TaskGroup::new(format!("sandbox {name}"));
        let reader = connection.clone();
        tasks.spawn("read", async move { reader.read(exits_sender).await });
        let writer = connection.clone();
        tasks.spawn("write", async move { writer.write(messages).await });
        let (netns, netns_path) = match &spec.netns {
            NetworkNamespace::New => {
                let path = PathBuf::from(format!("/proc/{}/ns/net", child.pid()));
                (NetNs::open(&path).map_err(refused("network namespace"))?, path)
            }
            NetworkNamespace::Path(path) => (NetNs::open(path).map_err(refused("network namespace"))?, path.clone()),
        };
        let sandbox = Self {
            name,
            dir: spec.dir.clone(),
            hostname: spec.hostname.clone(),
            resolv_conf: files::resolv_conf(&spec.dns),
            hosts: Mutex::new(spec.hosts),
            netns,
            netns_path,
            connection,
            exits: Some(exits),
            child: tokio::sync::Mutex::new(Some(child)),
            tasks,
        };
        let mut masks = spec.masks;
        masks.push(spec.dir.clone());
        let pod = protocol::Pod {
            hostname: spec.hostname,
            dir: spec.dir,
            join_network: join.is_some(),
            share_processes: spec.share_process_namespace,
            masks,
        };
        let file = join.map(|namespace| rustix::io::dup(&namespace)).transpose();
        let files = file
            .map_err(|error| refused("network namespace")(error.into()))?
            .into_iter()
            .collect();
        let prepare = async {
            sandbox
                .connection
                .send(&Request::Prepare(pod), files)
                .await
                .map_err(|error| error.to_string())?;
            prepared
                .await
                .unwrap_or_else(|_| Err("corten-pod ended before it was ready".into()))
        };
        let outcome = tokio::time::timeout(PREPARE_MAX, prepare)
            .await
            .unwrap_or_else(|_| Err(format!("corten-pod was not ready after {PREPARE_MAX:?}")));
        if let Err(message) = outcome {
            sandbox.stop().await;
            return Err(SandboxError::Refused { what: "pod", message });
        }
        Ok(sandbox)
    }

    /// The pod's network namespace as a path, for the CNI chain. Valid until [`stop`](Self::stop).
    pub fn netns_path(&self) -> &Path {
        &self.netns_path
    }

    /// Replaces the pod's own lines of `/etc/hosts`, for containers started from now on (the pod's addresses are only known after the network was attached).
    pub fn set_hosts(&self, hosts: Vec<HostsEntry>) {
        *self.hosts.lock().unwrap_or_else(PoisonError::into_inner) = hosts;
    }

    /// Starts a container; returns when its program was executed, or why it could not be.
    ///
    /// A container that exited may be started again under the same name; it then begins with a fresh root file system.
    pub async fn start(&self, container: ContainerSpec) -> Result<Started, StartError> {
        let name = container.name.clone();
        let container = Box::new(self.container(container));
        let (pid, _) = self
            .connection
            .start(name, |id| Request::Start { id, container })
            .await?;
        Ok(Started { pid })
    }

    /// The exits of containers, in order; the channel ends when the sandbox is gone. The second call gives a channel that has already ended.
    pub fn exits(&mut self) -> mpsc::Receiver<Exit> {
        self.exits.take().unwrap_or_else(|| mpsc::channel(1).1)
    }

    /// Sends a signal to the first process of a container; `SIGKILL` ends all of its processes.
    ///
    /// The first process is number 1 of its PID namespace (unless processes are shared): as in any container runtime, it gets only signals that it handles.
    pub async fn signal(&self, container: &str, signal: i32) -> Result<(), StartError> {
        let container = container.to_owned();
        self.connection
            .signal(|id| Request::Signal { id, container, signal })
            .await
    }

    /// Runs a further program inside a running container, as its user, with its environment and working directory.
    ///
    /// With `tty` the program has a terminal: what it prints arrives on `stdout`, `stderr` is empty, and [`Exec::terminal`] resizes it.
    /// The program is killed when [`Exec::hold`] is dropped, and when nobody waits for the start any more.
    pub async fn exec(&self, container: &str, argv: Vec<String>, tty: bool, stdin: bool) -> Result<Exec, StartError> {
        let setup = |error: io::Error| StartError::Setup(format!("cannot connect to the program: {error}"));
        let container = container.to_owned();
        let request = move |id| Request::Exec {
            id,
            container,
            argv,
            tty,
        };
        if tty {
            let (mut files, exit, hold) = self.further(request, Vec::new()).await?;
            let master = files
                .pop()
                .ok_or_else(|| StartError::Setup("the program's terminal did not arrive".into()))?;
            return Exec::on_terminal(master, stdin, exit, hold).map_err(setup);
        }
        let (theirs, ours) = exec::pipes(stdin).map_err(setup)?;
        let (_, exit, hold) = self.further(request, theirs).await?;
        Ok(ours.into_exec(exit, hold))
    }

    /// Starts a further program in a task that outlives whoever asked, so that nothing runs on for nobody.
    async fn further(
        &self,
        request: impl FnOnce(u64) -> Request + Send + 'static,
        files: Vec<OwnedFd>,
    ) -> Result<(Vec<OwnedFd>, oneshot::Receiver<ExecExit>, Hold), StartError> {
        let connection = self.connection.clone();
        let (answer, answered) = oneshot::channel();
        let (hold, released) = oneshot::channel();
        self.tasks.spawn("exec", async move {
            let started = connection.exec(request, files).await;
            let id = started.as_ref().ok().map(|(id, ..)| *id);
            let wanted = answer.send(started.map(|(_, files, exit)| (files, exit))).is_ok();
            let Some(id) = id else { return };
            if wanted {
                let _ = released.await;
            }
            connection.abandon(id).await;
        });
        let (files, exit) = answered.await.unwrap_or(Err(StartError::Gone))?;
        Ok((files, exit, hold))
    }

    /// Connects to a port of the pod, from inside its network namespace: `127.0.0.1`, then `::1`.
    pub async fn dial(&self, port: u16) -> io::Result<TcpStream> {
        let first = self.dial_address((Ipv4Addr::LOCALHOST, port).into()).await;
        match first {
            Ok(stream) => Ok(stream),
            // The first error is the telling one: most programs listen on IPv4.
            Err(error) => self
                .dial_address((Ipv6Addr::LOCALHOST, port).into())
                .await
                .map_err(|_| error),
        }
    }

    /// Connects to an address from inside the pod's network namespace.
    pub async fn dial_address(&self, address: SocketAddr) -> io::Result<TcpStream> {
        let family = match address.ip() {
            IpAddr::V4(_) => AddressFamily::INET,
            IpAddr::V6(_) => AddressFamily::INET6,
        };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        // A socket belongs for ever to the namespace of the thread that made it; the thread is gone before anything waits.
        let socket: OwnedFd = self
            .netns
            .run(|| socket_with(family, SocketType::STREAM, flags, None))??;
        TcpSocket::from_std_stream(std::net::TcpStream::from(socket))
            .connect(address)
            .await
    }

    /// Ends what is left of the pod and removes its namespaces, mounts and written files. May be called twice.
    pub async fn stop(&self) {
        let mut child = self.child.lock().await;
        if let Some(child) = child.as_mut() {
            let _ = child.signal(Signal::KILL);
            // An error means that somebody else has already collected it (process 1 collects all orphans).
            let _ = child.exited().await;
        }
        *child = None;
        let dir = self.dir.clone();
        let removed = tokio::task::spawn_blocking(move || std::fs::remove_dir_all(dir)).await;
        if let Ok(Err(error)) = removed
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(pod = self.name, dir = %self.dir.display(), %error, "cannot remove a pod's written files");
        }
    }

    fn container(&self, spec: ContainerSpec) -> protocol::Container {
        let hosts = files::hosts(&self.hosts.lock().unwrap_or_else(PoisonError::into_inner));
        let etc = [
            ("/etc/hostname", format!("{}\n", self.hostname)),
            ("/etc/hosts", hosts),
            ("/etc/resolv.conf", self.resolv_conf.clone()),
        ];
        let volume = |mount: Mount| protocol::Volume {
            source: mount.source,
            target: mount.target,
            read_only: mount.read_only,
            sub_path: mount.sub_path,
        };
        protocol::Container {
            name: spec.name,
            argv: spec.argv,
            env: spec.env,
            cwd: spec.cwd,
            volumes: spec.mounts.into_iter().map(volume).collect(),
            etc: etc.map(|(path, content)| (path.to_owned(), content)).into(),
            user: spec.run_as_user,
            group: spec.run_as_group,
            groups: spec.groups,
            privileged: spec.security.privileged,
            capabilities_add: spec.security.capabilities_add,
            capabilities_drop: spec.security.capabilities_drop,
            read_only_root: spec.security.read_only_root,
            log_path: spec.log_path,
            stdin: spec.stdin,
            tty: spec.tty,
            termination_message_path: spec.termination_message_path,
        }
    }
}

/// The pod's uid is the argument: by it others on the node, who see only processes, find the pod's namespaces.
fn spawn(program: &Path, uid: &str, own_network: bool, control: OwnedFd) -> Result<Child, SpawnError> {
    let namespaces = Namespaces {
        network: own_network,
        ..Namespaces::ALL_BUT_USER
    };
    Spawn::new(program)
        .name("corten-pod")
        .arg(uid)
        .namespaces(namespaces)
        .own_session()
        .give(control)
        .start()
}

/// `corten-pod`, beside the running executable; of a test's executable, beside its directory.
fn program() -> io::Result<PathBuf> {
    let own = std::env::current_exe()?;
    let dir = own.parent().unwrap_or_else(|| Path::new("/"));
    let dir = if dir.ends_with("deps") {
        dir.parent().unwrap_or(dir)
    } else {
        dir
    };
    let path = dir.join("corten-pod");
    path.metadata().map_err(|error| {
        io::Error::new(
            error.kind(),
            format!("{} (it belongs beside {}): {error}", path.display(), own.display()),
        )
    })?;
    Ok(path)
}
