//! Where a rule sends traffic: backends of every kind, with their weights.

use corten_api::{
    gateway_api::{
        grpc_route::GRPCBackendRef,
        http_route::HTTPBackendRef,
        shared::{BackendObjectReference, BackendRef},
        x_backend::BackendType,
    },
    istio::virtual_service::{Destination, PortSelector, RouteDestination},
};
use corten_core::{Host, Port};
use sha2::{Digest, Sha256};

use super::EndpointPicker;
use crate::{condition::Problem, index::Index, reference::Kind};

const NOT_PERMITTED: &str = "RefNotPermitted";
const NOT_FOUND: &str = "BackendNotFound";
const INVALID_KIND: &str = "InvalidKind";
const INVALID: &str = "InvalidDestination";

/// A backend as any kind of rule names it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Backend<'a> {
    group: Option<&'a str>,
    kind: Option<&'a str>,
    pub(crate) name: &'a str,
    namespace: Option<&'a str>,
    port: Option<Port>,
    pub(crate) weight: i32,
}

impl<'a> From<&'a BackendRef> for Backend<'a> {
    fn from(backend: &'a BackendRef) -> Backend<'a> {
        Backend {
            group: backend.group.as_deref(),
            kind: backend.kind.as_deref(),
            name: &backend.name,
            namespace: backend.namespace.as_deref(),
            port: backend.port,
            weight: backend.weight.unwrap_or(1),
        }
    }
}

impl<'a> From<&'a HTTPBackendRef> for Backend<'a> {
    fn from(backend: &'a HTTPBackendRef) -> Backend<'a> {
        Backend {
            group: backend.group.as_deref(),
            kind: backend.kind.as_deref(),
            name: &backend.name,
            namespace: backend.namespace.as_deref(),
            port: backend.port,
            weight: backend.weight.unwrap_or(1),
        }
    }
}

impl<'a> From<&'a GRPCBackendRef> for Backend<'a> {
    fn from(backend: &'a GRPCBackendRef) -> Backend<'a> {
        Backend {
            group: backend.group.as_deref(),
            kind: backend.kind.as_deref(),
            name: &backend.name,
            namespace: backend.namespace.as_deref(),
            port: backend.port,
            weight: backend.weight.unwrap_or(1),
        }
    }
}

impl<'a> From<&'a BackendObjectReference> for Backend<'a> {
    fn from(backend: &'a BackendObjectReference) -> Backend<'a> {
        Backend {
            group: backend.group.as_deref(),
            kind: backend.kind.as_deref(),
            name: &backend.name,
            namespace: backend.namespace.as_deref(),
            port: backend.port,
            weight: 1,
        }
    }
}

impl<'a> Backend<'a> {
    /// The kind and place of what is named.
    pub(crate) fn target(&self, namespace: &'a str) -> (Kind<'a>, &'a str, &'a str) {
        let kind = Kind::of(self.group, self.kind, Kind::SERVICE);
        (kind, self.namespace.unwrap_or(namespace), self.name)
    }
}

/// Whether backends have no weight together, so that nothing can be sent anywhere.
pub(crate) fn weightless<'a>(backends: impl Iterator<Item = Backend<'a>>) -> bool {
    backends.map(|backend| i64::from(backend.weight)).sum::<i64>() == 0
}

/// The weight as a VirtualService has it: one backend alone needs none.
pub(crate) fn weight(backend: Backend<'_>, backends: usize) -> i32 {
    if backends == 1 { 0 } else { backend.weight }
}

/// Whose rule it is that sends.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sender<'a> {
    pub(crate) index: &'a Index<'a>,
    pub(crate) kind: Kind<'static>,
    pub(crate) namespace: &'a str,
    /// References across namespaces need consent.
    pub(crate) guarded: bool,
}

/// A destination that was found, or stands for one that was not.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) destination: Destination,
    pub(crate) picker: Option<EndpointPicker>,
    pub(crate) problem: Option<Problem>,
}

impl Found {
    /// Nothing that could be sent to: the share of traffic gets 500.
    fn nowhere(reason: &str, message: String) -> Result<Found, Problem> {
        Ok(Found {
            problem: Some(Problem::new(reason, message)),
            ..Found::default()
        })
    }

    fn at(host: String, port: Port) -> Found {
        Found {
            destination: Destination {
                host: Host::from(host),
                subset: String::new(),
                port: Some(PortSelector { number: port }),
            },
            ..Found::default()
        }
    }

    fn unless(mut self, exists: bool, missing: &str) -> Found {
        self.problem = (!exists).then(|| Problem::new(NOT_FOUND, format!("backend({missing}) not found")));
        self
    }
}

/// A backend that is named in a way that leaves the whole rule without meaning.
fn hard<T>(message: &str) -> Result<T, Problem> {
    Err(Problem::new(INVALID, message))
}

impl Sender<'_> {
    /// Finds a backend.
    pub(crate) fn find(&self, backend: Backend<'_>) -> Result<Found, Problem> {
        let index = self.index;
        let (kind, namespace, name) = backend.target(self.namespace);
        if self.guarded && namespace != self.namespace {
            let allowed = index.grants.allow(self.kind, self.namespace, kind, namespace, name);
            if !allowed {
                let message = format!(
                    "backendRef {name}/{namespace} not accessible to a {} in namespace \"{}\" (missing a ReferenceGrant?)",
                    self.kind.kind, self.namespace
                );
                return Found::nowhere(NOT_PERMITTED, message);
            }
        }
        let (host, exists) = match kind {
            Kind::X_BACKEND => return self.external(backend, namespace),
            Kind::INFERENCE_POOL => return self.pool(name, namespace),
            Kind::SERVICE => {
                if name.contains('.') {
                    return hard("service name invalid; the name of the Service must be used, not the hostname.");
                }
                (
                    index.service_host(name, namespace),
                    index.service(namespace, name).is_some(),
                )
            }
            Kind::HOSTNAME => {
                if backend.namespace.is_some() {
                    return hard("namespace may not be set with Hostname type");
                }
                (name.to_owned(), index.registered(name, namespace).is_some())
            }
            Kind::SERVICE_IMPORT => {
                let host = if index.settings.cluster_set_host {
                    format!("{name}.{namespace}.svc.clusterset.local")
                } else {
                    index.service_host(name, namespace)
                };
                (host, index.service(namespace, name).is_some())
            }
            _ => {
                let message = format!(
                    "referencing unsupported backendRef: group \"{}\" kind \"{}\"",
                    backend.group.unwrap_or_default(),
                    backend.kind.unwrap_or_default()
                );
                return Found::nowhere(INVALID_KIND, message);
            }
        };
        match backend.port {
            Some(port) => Ok(Found::at(host.clone(), port).unless(exists, &host)),
            None => hard("port is required in backendRef"),
        }
    }

    /// A backend outside; its port is its own.
    fn external(&self, named: Backend<'_>, namespace: &str) -> Result<Found, Problem> {
        let name = named.name;
        if !self.index.settings.experimental {
            let message = "The Alpha Gateway API is not enabled, XBackend is invalid. To enable, set PILOT_ENABLE_ALPHA_GATEWAY_API to true in istiod.";
            return Found::nowhere(INVALID_KIND, message.to_owned());
        }
        let Some(backend) = self.index.backend(namespace, name) else {
            return Found::nowhere(NOT_FOUND, format!("backend({name}) not found"));
        };
        let external = backend.spec.external_hostname.as_ref();
        let Some(external) = external.filter(|_| backend.spec.type_ == BackendType::ExternalHostname) else {
            let message =
                format!("backend({name}) type: expected ExternalHostname, got ExternalHostname without a name");
            return Found::nowhere(INVALID_KIND, message);
        };
        let port = backend.spec.port.port;
        if let Some(asked) = named.port.filter(|asked| *asked != port) {
            let message = format!("backend({name}) does not expose port {asked}, expected {port}");
            return Found::nowhere(NOT_FOUND, message);
        }
        let host = external.hostname.to_string();
        let exists = self.index.registered(&host, namespace).is_some();
        Ok(Found::at(host.clone(), port).unless(exists, &host))
    }

    /// The service that stands for an InferencePool.
    fn pool(&self, name: &str, namespace: &str) -> Result<Found, Problem> {
        let index = self.index;
        if !index.settings.inference {
            let message =
                "InferencePool is not enabled. To enable, set ENABLE_GATEWAY_API_INFERENCE_EXTENSION to true in istiod";
            return Found::nowhere(INVALID_KIND, message.to_owned());
        }
        if name.contains('.') {
            return hard("InferencePool.Name invalid; the name of the InferencePool must be used, not the hostname.");
        }
        if index.inference_pool(namespace, name).is_none() {
            return Found::nowhere(NOT_FOUND, format!("backend({name}) not found"));
        }
        let host = index.service_host(&pool_service(name), namespace);
        let Some(service) = index.registered(&host, namespace) else {
            return Found::nowhere(NOT_FOUND, format!("backend({host}) not found"));
        };
        let label = |key: &str| service.labels.get(key).filter(|value| !value.is_empty());
        let (Some(picker), Some(picker_port), Some(mode)) =
            (label(PICKER_SERVICE), label(PICKER_PORT), label(PICKER_FAILURE_MODE))
        else {
            return hard("InferencePool service invalid, extensionRef labels not found");
        };
        // Endpoints of all ports of the pool are behind the first: the picker chooses among them.
        let port = service.ports.first().copied().unwrap_or_default();
        let mut found = Found::at(host, Port(port));
        found.picker = Some(EndpointPicker {
            host: index.service_host(picker, namespace),
            port: picker_port.clone(),
            fail_open: mode == "FailOpen",
        });
        Ok(found)
    }

    /// Destinations of connections.
    pub(crate) fn destinations(
        &self,
        backends: &[BackendRef],
    ) -> Result<(Vec<RouteDestination>, Option<Problem>), Problem> {
        let backends: Vec<Backend<'_>> = backends.iter().map(Backend::from).filter(|b| b.weight != 0).collect();
        let (mut destinations, mut problem) = (Vec::new(), None);
        for backend in &backends {
            let found = self.find(*backend)?;
            problem = found.problem.or(problem);
            destinations.push(RouteDestination {
                destination: Some(found.destination),
                weight: weight(*backend, backends.len()),
            });
        }
        Ok((destinations, problem))
    }
}

/// Label of a pool's service: who picks endpoints.
pub(crate) const PICKER_SERVICE: &str = "istio.io/inferencepool-extension-service";
/// Label of a pool's service: the picker's port.
pub(crate) const PICKER_PORT: &str = "istio.io/inferencepool-extension-port";
/// Label of a pool's service: what happens when the picker cannot be asked.
pub(crate) const PICKER_FAILURE_MODE: &str = "istio.io/inferencepool-extension-failure-mode";

/// The name of the service that stands for an InferencePool: with a digest, so that it is nobody else's, and within the
/// 63 letters of a label.
pub fn pool_service(pool: &str) -> String {
    let digest = Sha256::digest(pool.as_bytes());
    let hash: String = digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    let kept: String = pool.chars().take(63 - "-ip-".len() - hash.len()).collect();
    format!("{kept}-ip-{hash}")
}
