//! Routes: what they attach to, what they become, and their status.

pub(crate) mod destination;
pub(crate) mod filter;
pub(crate) mod grpc;
pub(crate) mod http;
pub(crate) mod l4;
pub(crate) mod matching;
pub(crate) mod merge;
pub mod order;
pub(crate) mod parent;
pub(crate) mod status;

use std::collections::BTreeMap;

use corten_api::{
    gateway_api::shared::{ParentReference, RouteParentStatus},
    istio::{VirtualService, virtual_service::VirtualServiceSpec},
    metadata::Metadata,
};
use corten_core::Host;

use crate::{
    annotation,
    condition::Problem,
    gateway::Parent,
    index::Index,
    reference::{Key, Kind, ParentKey},
};
pub use destination::pool_service;
use parent::{Attachment, Attempt};

/// The listeners that routes can attach to, by whose they are.
pub type Parents = BTreeMap<ParentKey, Vec<Parent>>;

/// Who picks the endpoints of an InferencePool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointPicker {
    /// Its host name.
    pub host: String,
    /// Its port.
    pub port: String,
    /// Requests go on when it cannot be asked.
    pub fail_open: bool,
}

/// A VirtualService with what its type has no field for.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Routes {
    /// The VirtualService.
    pub object: VirtualService,
    /// For routes by name, who picks the endpoints of their InferencePool.
    pub pickers: BTreeMap<String, EndpointPicker>,
}

/// What became of a route.
#[derive(Debug, Default)]
pub struct RouteResult {
    /// Its status.
    pub parents: Vec<RouteParentStatus>,
    /// VirtualServices, each with the key under which those of HTTP are merged.
    pub routes: Vec<(String, Routes)>,
    /// The listeners it is attached to.
    pub attachments: Vec<Attachment>,
    /// What is wrong with it where its parents are gateways, or the mesh.
    pub problems: Vec<Problem>,
}

/// What a route has in common with those of other kinds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Route<'a> {
    pub(crate) kind: Kind<'static>,
    pub(crate) meta: &'a Metadata,
    pub(crate) parents: &'a [ParentReference],
    pub(crate) hostnames: &'a [Host],
    pub(crate) status: &'a [RouteParentStatus],
}

/// The rules of a route, made for gateways or for the mesh.
#[derive(Debug)]
pub(crate) struct Rules<R> {
    pub(crate) routes: Vec<R>,
    pub(crate) problem: Option<Problem>,
}

impl<R> Default for Rules<R> {
    fn default() -> Rules<R> {
        Rules {
            routes: Vec::new(),
            problem: None,
        }
    }
}

/// Makes rules one by one: the last flaw is told; a hard one leaves nothing.
pub(crate) fn collect<R>(made: impl Iterator<Item = Result<(R, Option<Problem>), Problem>>) -> Rules<R> {
    let mut rules = Rules::default();
    for result in made {
        match result {
            Ok((route, problem)) => {
                rules.routes.push(route);
                rules.problem = problem.or(rules.problem);
            }
            Err(problem) => {
                return Rules {
                    routes: Vec::new(),
                    problem: Some(problem),
                };
            }
        }
    }
    rules
}

/// A route's attempts at its parents, with the rules made for them.
pub(crate) struct Bound<R> {
    /// Attempts, in the order of the references.
    pub(crate) attempts: Vec<Attempt>,
    /// Rules for gateways.
    pub(crate) gateway: Rules<R>,
    /// Rules for the mesh.
    pub(crate) mesh: Rules<R>,
}

/// Binds a route to its parents; rules are made only for the sort of parents that it names. References across
/// namespaces need consent on gateways only.
pub(crate) fn bind<R>(
    index: &Index<'_>,
    parents: &Parents,
    route: Route<'_>,
    make: impl Fn(bool) -> Rules<R>,
) -> Bound<R> {
    let attempts = parent::attempts(index, parents, route);
    let wants = |mesh: bool| attempts.iter().any(|attempt| attempt.is_mesh() == mesh);
    let rules = |mesh: bool| if wants(mesh) { make(!mesh) } else { Rules::default() };
    Bound {
        mesh: rules(true),
        gateway: rules(false),
        attempts,
    }
}

impl<R> Bound<R> {
    /// The rules for a parent.
    pub(crate) fn rules(&self, attempt: &Attempt) -> &[R] {
        if attempt.is_mesh() {
            &self.mesh.routes
        } else {
            &self.gateway.routes
        }
    }

    /// The attempts that succeeded, by the parent's name.
    pub(crate) fn succeeded(&self) -> Vec<&Attempt> {
        let mut succeeded: Vec<&Attempt> = self.attempts.iter().filter(|a| a.denied.is_none()).collect();
        succeeded.sort_by(|a, b| a.internal_name.cmp(&b.internal_name));
        succeeded
    }

    /// Status, attachments and problems of the route.
    pub(crate) fn result(&self, index: &Index<'_>, route: Route<'_>) -> RouteResult {
        let problem_of = |attempt: &Attempt| {
            let rules = if attempt.is_mesh() {
                self.mesh.problem.as_ref()
            } else {
                self.gateway.problem.as_ref()
            };
            rules.cloned()
        };
        RouteResult {
            parents: status::parents(index, route, &self.attempts, problem_of),
            routes: Vec::new(),
            attachments: self.succeeded().into_iter().filter_map(Attempt::attachment).collect(),
            problems: [&self.gateway.problem, &self.mesh.problem]
                .into_iter()
                .flatten()
                .cloned()
                .collect(),
        }
    }
}

/// The host names of the mesh that a parent stands for.
pub(crate) fn mesh_hosts(index: &Index<'_>, attempt: &Attempt) -> Vec<String> {
    let Key { namespace, name } = &attempt.owner.key;
    if attempt.owner.kind == Kind::SERVICE_ENTRY {
        let entry = index.service_entry(namespace, name);
        let hosts = entry.map(|entry| entry.spec.hosts.iter().map(|host| host.as_str().to_owned()).collect());
        return hosts.unwrap_or_default();
    }
    vec![index.service_host(name, namespace)]
}

/// A VirtualService of a route for one host of a parent.
pub(crate) fn virtual_service(
    route: Route<'_>,
    name: String,
    host: &str,
    attempt: &Attempt,
    spec: VirtualServiceSpec,
) -> VirtualService {
    let meta = route.meta;
    VirtualService {
        metadata: Metadata {
            name,
            namespace: meta.namespace.clone(),
            annotations: BTreeMap::from([
                (
                    annotation::PARENTS.to_owned(),
                    format!("{}/{}.{}", route.kind.kind, meta.name, meta.namespace),
                ),
                (annotation::ROUTE_SEMANTICS.to_owned(), "gateway".to_owned()),
            ]),
            creation_timestamp: meta.creation_timestamp,
            ..Metadata::default()
        },
        spec: VirtualServiceSpec {
            hosts: vec![Host::from(host)],
            gateways: vec![attempt.internal_name.clone()],
            ..spec
        },
        status: None,
    }
}
