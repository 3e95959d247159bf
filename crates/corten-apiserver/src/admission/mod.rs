//! What stands between a request and the store: fields, namespaces, service accounts, webhooks, schemas, ownership of fields.
//!
//! The order is the real API server's: decode, built-in and webhook mutation, validation, webhook validation.

mod accounts;
mod webhooks;

use corten_schema::{defaults, kubernetes, prune, strict_decoding_error, validate};
use serde_json::{Value, json};

pub use webhooks::Dialer;
pub(crate) use webhooks::{Operation, Webhooks};

use crate::api::Api;
use crate::context::{Context, FieldValidation};
use crate::object;
use crate::registry::Resource;
use crate::resources;
use crate::status::{Cause, Details, Status};
use crate::validation;
use crate::verbs::{self, Part};

impl Api {
    /// Reads a body: says what it has that is unknown or twice, drops that, and fills in the defaults.
    pub(crate) fn decode(&self, context: &Context, resource: &Resource, body: &mut Value) -> Result<(), Status> {
        self.check_fields(context, resource, body)?;
        if let Some(schema) = resource.schema() {
            prune::prune(schema, body);
            defaults::apply(schema, body);
        }
        if resource.custom.is_none() {
            kubernetes::set_defaults(resource.group(), &resource.id.version, &resource.kind, body);
        }
        Ok(())
    }

    /// Says which fields of a body are unknown or occur twice.
    pub(crate) fn check_fields(&self, context: &Context, resource: &Resource, body: &Value) -> Result<(), Status> {
        if context.validation == FieldValidation::Ignore {
            return Ok(());
        }
        let Some(schema) = resource.schema() else { return Ok(()) };
        let unknown = prune::unknown_fields(schema, body);
        if context.validation == FieldValidation::Strict {
            if let Some(error) = strict_decoding_error(&unknown, &context.duplicates) {
                let (kind, version) = (&resource.kind, &resource.id.version);
                return Err(Status::bad_request(format!(
                    "{kind} in version {version:?} cannot be handled as a {kind}: {error}"
                )));
            }
            return Ok(());
        }
        for path in &context.duplicates {
            context.warn(format!("duplicate field {path:?}"));
        }
        for path in unknown {
            context.warn(format!("unknown field {path:?}"));
        }
        Ok(())
    }

    /// Judges an object that is about to be created, after those who may change it did.
    pub(crate) async fn check_create(
        &self,
        context: &Context,
        resource: &Resource,
        new: &mut Value,
    ) -> Result<(), Status> {
        if resource.namespaced {
            self.check_namespace(resource, new)?;
        }
        if resource.id == resources::PODS {
            accounts::admit(self, new)?;
        }
        self.mutate(context, resource, "", Operation::Create, new, None).await?;
        self.check_schema(resource, new, None)?;
        judge(resource, Part::Main, new, None)?;
        self.validate(context, resource, "", Operation::Create, Some(&*new), None)
            .await?;
        warn_unenforced(context, resource);
        track(context, resource, "", new, None);
        Ok(())
    }

    /// Judges an object that is about to be changed, after those who may change it did.
    pub(crate) async fn check_update(
        &self,
        context: &Context,
        resource: &Resource,
        part: Part,
        new: &mut Value,
        old: &Value,
    ) -> Result<(), Status> {
        let subresource = part.subresource();
        self.mutate(context, resource, subresource, Operation::Update, new, Some(old))
            .await?;
        self.check_schema(resource, new, Some(old))?;
        judge(resource, part, new, Some(old))?;
        self.validate(
            context,
            resource,
            subresource,
            Operation::Update,
            Some(&*new),
            Some(old),
        )
        .await?;
        track(context, resource, subresource, new, Some(old));
        Ok(())
    }

    /// Judges a deletion.
    pub(crate) async fn check_delete(&self, context: &Context, resource: &Resource, old: &Value) -> Result<(), Status> {
        if resource.id == resources::NAMESPACES
            && ["default", "kube-system", "kube-public", "kube-node-lease"].contains(&object::name(old))
        {
            return Err(Status::forbidden(
                "",
                "namespaces",
                object::name(old),
                "this namespace may not be deleted",
            ));
        }
        self.validate(context, resource, "", Operation::Delete, None, Some(old))
            .await
    }

    fn check_schema(&self, resource: &Resource, new: &Value, old: Option<&Value>) -> Result<(), Status> {
        let Some(schema) = resource.schema() else { return Ok(()) };
        let mut problems = validate::validate(schema, new, old);
        if resource.custom.is_none() {
            // Null means absent where the real server decodes a built-in kind, and is how it writes times that are not set.
            // What is required and unique there is not the schema's: the kind's own rules say it, and list keys serve merging.
            let rules_only = resource.group() != "apiextensions.k8s.io";
            problems.retain(|p| match p.kind {
                corten_schema::ErrorKind::TypeInvalid => p.value.as_ref().is_none_or(|value| value != "null"),
                corten_schema::ErrorKind::Invalid => !rules_only || p.detail.contains("date-time"),
                _ => !rules_only,
            });
            if let Some(why) = validation::undecodable(&resource.kind, new) {
                let (kind, version) = (&resource.kind, &resource.id.version);
                return Err(Status::bad_request(format!(
                    "{kind} in version {version:?} cannot be handled as a {kind}: {why}"
                )));
            }
        }
        if problems.is_empty() {
            return Ok(());
        }
        // A wrong type in a built-in kind fails where the real server decodes.
        if resource.custom.is_none()
            && let Some(wrong) = problems
                .iter()
                .find(|p| p.kind == corten_schema::ErrorKind::TypeInvalid)
        {
            let (kind, version) = (&resource.kind, &resource.id.version);
            return Err(Status::bad_request(format!(
                "{kind} in version {version:?} cannot be handled as a {kind}: {wrong}"
            )));
        }
        Err(verbs::invalid(resource, object::name(new), &problems))
    }

    /// Objects are created only in namespaces that exist and are not ending.
    fn check_namespace(&self, resource: &Resource, new: &Value) -> Result<(), Status> {
        let (namespace, name) = (object::namespace(new), object::name(new));
        if namespace.is_empty() {
            return Err(Status::bad_request("an empty namespace may not be set during creation"));
        }
        let Some(found) = self.store.get("/namespaces", "", namespace) else {
            return Err(Status::not_found("", "namespaces", namespace));
        };
        if !object::is_terminating(&found) {
            return Ok(());
        }
        let why = format!("unable to create new content in namespace {namespace} because it is being terminated");
        let mut status = Status::forbidden(resource.group(), resource.plural(), name, &why);
        let details = status.details.get_or_insert_with(|| Box::new(Details::default()));
        details.causes.push(Cause {
            reason: "NamespaceTerminating".to_owned(),
            message: format!("namespace {namespace} is being terminated"),
            field: "metadata.namespace".to_owned(),
        });
        Err(status)
    }
}

/// What is wrong with an object beyond its schema.
fn judge(resource: &Resource, part: Part, new: &Value, old: Option<&Value>) -> Result<(), Status> {
    let mut problems = validation::metadata(resource, new, old);
    if part == Part::Main {
        problems.extend(resource.strategy.validate(new, old));
    }
    // The same said twice of one field is said once.
    let mut said = Vec::with_capacity(problems.len());
    problems.retain(|problem| {
        let line = problem.to_string();
        let first = !said.contains(&line);
        said.push(line);
        first
    });
    if problems.is_empty() {
        return Ok(());
    }
    Err(verbs::invalid(resource, object::name(new), &problems))
}

fn warn_unenforced(context: &Context, resource: &Resource) {
    let plural = resource.plural();
    match resource.group() {
        "rbac.authorization.k8s.io" => context.warn(format!("{plural} are stored but not enforced by this API")),
        "networking.k8s.io" => context.warn(format!("{plural} are stored but not enforced by this runtime")),
        _ => {}
    }
}

/// Records who wrote which field.
fn track(context: &Context, resource: &Resource, subresource: &str, new: &mut Value, old: Option<&Value>) {
    if context.applied {
        return;
    }
    let Some(schema) = resource.schema() else { return };
    let manager = if context.manager.is_empty() {
        "unknown"
    } else {
        &context.manager
    };
    corten_schema::apply::track(schema, old, new, manager, "Update", subresource, &object::now());
}

/// The object of an admission review.
fn kind_of(resource: &Resource) -> Value {
    json!({ "group": resource.group(), "version": resource.id.version, "kind": resource.kind })
}
