//! What single kinds do beyond the generic machinery: one [`Strategy`] per kind that needs one.
//!
//! A strategy changes or judges one object; it does not store, answer or wait.

mod definitions;
mod namespaces;
mod plain;
mod pods;
mod secrets;
pub(crate) mod services;
mod workloads;

use corten_schema::FieldError;
use serde_json::Value;

use crate::api::Api;
use crate::context::Context;
use crate::registry::Resource;
use crate::resources::{self, ResourceId};
use crate::status::Status;
use crate::validation;
use crate::verbs::Part;

/// The hooks of a kind, called in the order in which they stand here. Every hook may be left out.
pub(crate) trait Strategy: Send + Sync + std::fmt::Debug {
    /// Before an object is created: reset the status, fill in what the API server fills in.
    fn prepare_create(&self, _: &Api, _: &Context, _: &Resource, _: &mut Value) -> Result<(), Status> {
        Ok(())
    }

    /// Before an object is updated: carry over what may not change.
    fn prepare_update(
        &self,
        _: &Api,
        _: &Context,
        _: &Resource,
        _: Part,
        _: &mut Value,
        _: &Value,
    ) -> Result<(), Status> {
        Ok(())
    }

    /// What is wrong with an object beyond its schema; `old` is the object before an update.
    fn validate(&self, _new: &Value, _old: Option<&Value>) -> Vec<FieldError> {
        Vec::new()
    }

    /// Takes what must be unique in the cluster, such as a service address; given back unless the write succeeds.
    fn reserve<'a>(
        &self,
        _: &'a Api,
        _: &Resource,
        _new: &mut Value,
        _old: Option<&Value>,
    ) -> Result<services::Reserved<'a>, Status> {
        Ok(services::Reserved::default())
    }

    /// After a write is durable; `new` is absent after a deletion.
    fn after_write(&self, _: &Api, _: &Resource, _new: Option<&Value>, _old: Option<&Value>) {}

    /// The seconds that the object has to end, given what the request says.
    fn grace(&self, _object: &Value, _asked: Option<i64>) -> i64 {
        0
    }

    /// Changes an object whose deletion begins.
    fn prepare_delete(&self, _: &mut Value) {}

    /// Whether something other than `metadata.finalizers` holds a terminating object.
    fn holds(&self, _: &Value) -> bool {
        false
    }

    /// The metadata that a write of the status may change.
    fn status_metadata(&self) -> &'static [&'static str] {
        &[]
    }

    /// Whether objects can be selected by a field, beyond `metadata.name` and `metadata.namespace`.
    fn selectable(&self, _field: &str) -> bool {
        false
    }
}

/// The strategy of a built-in resource.
pub(crate) fn strategy(id: &ResourceId) -> &'static dyn Strategy {
    if *id == resources::NAMESPACES {
        &namespaces::Namespaces
    } else if *id == resources::PODS {
        &pods::Pods
    } else if *id == resources::SERVICES {
        &services::Services
    } else if *id == resources::SECRETS {
        &secrets::Secrets
    } else if *id == resources::CUSTOM_RESOURCE_DEFINITIONS {
        &definitions::Definitions
    } else if *id == resources::EVENTS {
        &plain::Events
    } else if *id == resources::NODES {
        &plain::Nodes
    } else if [
        resources::DEPLOYMENTS,
        resources::REPLICA_SETS,
        resources::STATEFUL_SETS,
        resources::DAEMON_SETS,
    ]
    .contains(id)
    {
        &workloads::Workloads
    } else if *id == resources::CONFIG_MAPS {
        &plain::Judged(validation::config_map)
    } else if *id == resources::ENDPOINTS {
        &plain::Judged(validation::endpoints)
    } else if *id == resources::ENDPOINT_SLICES {
        &plain::Judged(validation::endpoint_slice)
    } else if *id == resources::LEASES {
        &plain::Judged(validation::lease)
    } else if *id == resources::NETWORK_POLICIES {
        &plain::Judged(validation::network_policy)
    } else if [resources::ROLES, resources::CLUSTER_ROLES].contains(id) {
        &plain::Judged(validation::role)
    } else if [resources::ROLE_BINDINGS, resources::CLUSTER_ROLE_BINDINGS].contains(id) {
        &plain::Judged(validation::binding)
    } else if [
        resources::MUTATING_WEBHOOK_CONFIGURATIONS,
        resources::VALIDATING_WEBHOOK_CONFIGURATIONS,
    ]
    .contains(id)
    {
        &plain::Judged(validation::webhooks)
    } else {
        &plain::Plain
    }
}
