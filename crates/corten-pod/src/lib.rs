//! Process 1 of a pod: makes its containers out of processes, collects their logs and exits.
//!
//! The binary is started by the local runtime in new PID, mount, UTS, IPC and network namespaces, one per pod, and obeys the requests that arrive on its
//! control socket ([`protocol`]). It is synchronous, has one thread and keeps little in memory, because there is one of it for every pod. It does not know
//! Kubernetes' objects, images, or how the pod's network is made.
//!
//! What decides is pure and tested as values: [`plan`] (which mounts make a container's root file system), [`argv`] (which file a command is),
//! [`log`] (the format of log files), [`user`] (how a container gets its user), [`capabilities`]. [`pod`] is the loop around them.
//!
//! [`sandbox`] is the other side: what the runtime, which is asynchronous, starts and asks. The binary contains nothing of it.

pub mod argv;
pub mod capabilities;
mod container;
pub mod frame;
pub mod host;
pub mod log;
pub mod plan;
pub mod pod;
pub mod protocol;
mod rootfs;
pub mod sandbox;
pub mod user;
