//! Injection: a pod in, the pod with its proxy out.
//!
//! [`Injector`] holds what an installation says (values and the mesh's configuration); [`Subject`] is what is known of one pod. Which
//! pods get a proxy is decided in [`decide`], what is added is made by [`sidecar`] and [`gateway`] and merged as `kubectl` merges
//! patches, as is what [`template`]s of an installation's own make, and what cannot be said by a patch is done afterwards: probes, metrics, the order of containers. Pure: no clock, no API.

mod annotations;
mod config;
mod decide;
mod finish;
mod gateway;
mod injector;
mod object;
mod overrides;
mod probes;
mod prometheus;
mod proxy_config;
mod resources;
mod sidecar;
mod template;
mod workload;

pub use config::Config;
pub use decide::Decision;
pub use injector::{InjectError, Injector, Subject, openshift_ids, runs_native_sidecars, variables_of_path};
pub use proxy_config::{ProxyConfigOf, defaults as default_proxy_config, merge as merge_proxy_config, proxy_config_of};
pub use sidecar::with_network;
pub use workload::{Outcome, objects};
