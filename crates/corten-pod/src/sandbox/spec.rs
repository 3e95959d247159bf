//! What a pod and its containers are asked to be, as plain values.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::SystemTime;

/// What a pod has before its containers: names, directories, name resolution, namespaces.
#[derive(Clone, Debug)]
pub struct SandboxSpec {
    /// The pod's namespace, for messages.
    pub namespace: String,
    /// The pod's name, for messages.
    pub name: String,
    /// The pod's uid, for messages.
    pub uid: String,
    /// What `hostname` prints; also the pod's `/etc/hostname`.
    pub hostname: String,
    /// A directory private to this pod, made when missing and emptied by `stop`: the containers' written layers. Not where logs and volumes are.
    pub dir: PathBuf,
    /// The pod's `/etc/resolv.conf`.
    pub dns: ResolvConf,
    /// The pod's own lines of `/etc/hosts`, after those of `localhost`; see also [`Sandbox::set_hosts`](super::Sandbox::set_hosts).
    pub hosts: Vec<HostsEntry>,
    /// Which network the pod is in.
    pub netns: NetworkNamespace,
    /// Whether the containers see each other's processes.
    pub share_process_namespace: bool,
    /// Directories of the host that containers see as empty: the state of the runtime itself.
    pub masks: Vec<PathBuf>,
}

/// Which network namespace a pod lives in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum NetworkNamespace {
    /// A new one, with only a loopback interface (which is up).
    #[default]
    New,
    /// An existing one, such as the node's for a pod with `hostNetwork`.
    Path(PathBuf),
}

/// The content of `/etc/resolv.conf`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResolvConf {
    /// Name servers, in order.
    pub nameservers: Vec<IpAddr>,
    /// Search domains, in order.
    pub searches: Vec<String>,
    /// Options such as `ndots:5`.
    pub options: Vec<String>,
}

/// One line of `/etc/hosts`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostsEntry {
    /// The address.
    pub address: IpAddr,
    /// Its names, the canonical one first.
    pub names: Vec<String>,
}

/// One container: a program with its surroundings.
#[derive(Clone, Debug, Default)]
pub struct ContainerSpec {
    /// Its name, unique in the pod.
    pub name: String,
    /// The program and its arguments; the first word is looked up in the container's `PATH`.
    pub argv: Vec<String>,
    /// The whole environment but for the defaults of `PATH`, `HOME` and `HOSTNAME`.
    pub env: Vec<(String, String)>,
    /// Where it starts; made when missing. `/` by default.
    pub cwd: Option<PathBuf>,
    /// Volumes, mounted in this order on top of the root file system.
    pub mounts: Vec<Mount>,
    /// The user it runs as; 0 by default.
    pub run_as_user: Option<u32>,
    /// The group it runs as; 0 by default.
    pub run_as_group: Option<u32>,
    /// Supplementary groups (`fsGroup`, `supplementalGroups`), where ids are available.
    pub groups: Vec<u32>,
    /// What it may do beyond an ordinary container.
    pub security: Security,
    /// The log file (CRI format), made with its directory when missing, appended to. At 10 MiB it is renamed to `….1` (replacing an older one) and begun again.
    pub log_path: PathBuf,
    /// Whether its standard input is kept open; otherwise it is `/dev/null`.
    pub stdin: bool,
    /// Whether it gets a terminal.
    pub tty: bool,
    /// The file in the container whose content becomes [`Exit::message`].
    pub termination_message_path: Option<PathBuf>,
}

/// What a container may do beyond an ordinary one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Security {
    /// All capabilities, and a writable `/sys` and `/proc/sys`.
    pub privileged: bool,
    /// Capabilities beyond the usual set, such as `NET_ADMIN`, or `ALL`.
    pub capabilities_add: Vec<String>,
    /// Capabilities of the usual set that it does without, or `ALL`.
    pub capabilities_drop: Vec<String>,
    /// A root file system nothing can be written to (volumes and `/dev/shm` aside).
    pub read_only_root: bool,
}

/// A volume in a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mount {
    /// A directory or file of the host.
    pub source: PathBuf,
    /// Where the container sees it; made when missing.
    pub target: PathBuf,
    /// Whether the container may only read it.
    pub read_only: bool,
    /// A path inside the source that is mounted instead of it; made as a directory when missing; may not leave the source, not even through symbolic links.
    pub sub_path: Option<PathBuf>,
}

/// A container that was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Started {
    /// The process id of its first process, in the pod's process namespace.
    pub pid: u32,
}

/// The end of a container: its first process exited, and all others in it are gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    /// The container's name.
    pub container: String,
    /// The exit code; `128 + signal` when a signal ended it.
    pub code: i32,
    /// The signal that ended it, if one did.
    pub signal: Option<i32>,
    /// When.
    pub finished_at: SystemTime,
    /// The first 4096 bytes of its termination message, when it has one.
    pub message: Option<String>,
}
