//! From a request to its verb, and from the result to a response.

use std::sync::Arc;
use std::time::Duration;

use corten_rt::{Drain, TaskGroup};
use hyper::body::Incoming;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue, USER_AGENT};
use hyper::{HeaderMap, Method, Request, Response};
use serde_json::{Value, json};

use super::request::{self, Form, Path, Target};
use super::watch::{self, WatchRequest};
use super::{Body, Query, discovery, openapi, read_body, respond, table};
use crate::api::Api;
use crate::client::Patch;
use crate::context::{Context, FieldValidation, User};
use crate::object::{self, Object};
use crate::registry::Resource;
use crate::resources::ResourceId;
use crate::selector::{FieldSelector, LabelSelector, Selector};
use crate::status::{Cause, Status};
use crate::verbs::{self, DeleteOptions, Part, Propagation};

/// The version of Kubernetes that this API behaves like.
pub(crate) const VERSION: &str = "v1.34.0";

/// What a connection knows.
pub(crate) struct Front {
    pub(crate) api: Arc<Api>,
    pub(crate) certificate_user: Option<Arc<User>>,
    pub(crate) tasks: TaskGroup,
    pub(crate) drain: Drain,
}

/// A request that has been understood as far as its head.
pub(crate) struct Call<'f> {
    pub(crate) front: &'f Front,
    pub(crate) user: Arc<User>,
    pub(crate) method: Method,
    pub(crate) headers: HeaderMap,
    pub(crate) query: Query,
    pub(crate) request: Request<Incoming>,
}

/// Answers a request.
pub(crate) async fn handle(front: &Front, request: Request<Incoming>) -> Response<Body> {
    match answer(front, request).await {
        Ok(response) => response,
        Err(status) => respond::failure(&status),
    }
}

async fn answer(front: &Front, request: Request<Incoming>) -> Result<Response<Body>, Status> {
    let path = Path::parse(request.uri().path());
    if let Path::Other(segments) = &path
        && let Some(response) = public(front, segments)
    {
        return Ok(response);
    }
    let user = authenticate(front, request.headers())?;
    let call = Call {
        user,
        front,
        method: request.method().clone(),
        headers: request.headers().clone(),
        query: Query::parse(request.uri().query().unwrap_or("")),
        request,
    };
    match path {
        Path::Target(target) => Box::pin(call.target(target)).await,
        path => call.document(path),
    }
}

/// What everybody may see.
fn public(front: &Front, segments: &[String]) -> Option<Response<Body>> {
    match segments.first().map(String::as_str) {
        Some("healthz" | "livez" | "readyz") => Some(respond::text(200, "ok")),
        Some("version") => Some(respond::json(200, &version())),
        Some(".well-known" | "openid") => front.api.tokens().document(segments).map(|document| {
            let kind = if segments[0] == "openid" {
                "application/jwk-set+json"
            } else {
                "application/json"
            };
            respond::with_type(200, HeaderValue::from_static(kind), document.to_string())
        }),
        _ => None,
    }
}

fn version() -> Value {
    json!({
        "major": "1",
        "minor": "34",
        "gitVersion": format!("{VERSION}+corten"),
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "2025-01-01T00:00:00Z",
        "goVersion": "none",
        "compiler": "rustc",
        "platform": format!("linux/{}", match std::env::consts::ARCH { "x86_64" => "amd64", "aarch64" => "arm64", other => other }),
    })
}

/// Who asks. A token counts before a certificate; nobody is refused.
fn authenticate(front: &Front, headers: &HeaderMap) -> Result<Arc<User>, Status> {
    let unauthorized = || Status::new(401, "Unauthorized", "Unauthorized");
    let bearer = headers
        .get(AUTHORIZATION)
        .and_then(|v| v.to_str().ok())
        .and_then(|v| v.strip_prefix("Bearer "));
    let user = match bearer {
        Some(token) => Arc::new(
            front
                .api
                .tokens()
                .authenticate(&front.api, token.trim(), &[])
                .map_err(|_| unauthorized())?
                .user,
        ),
        None => front.certificate_user.clone().ok_or_else(unauthorized)?,
    };
    Ok(impersonated(headers).map_or(user, Arc::new))
}

/// `kubectl --as`. Everybody may do everything here, so everybody may also be somebody else.
fn impersonated(headers: &HeaderMap) -> Option<User> {
    let name = headers.get("impersonate-user")?.to_str().ok()?.to_owned();
    let mut groups: Vec<String> = headers
        .get_all("impersonate-group")
        .iter()
        .filter_map(|v| v.to_str().ok())
        .map(str::to_owned)
        .collect();
    groups.push("system:authenticated".to_owned());
    Some(User {
        name,
        groups,
        ..User::default()
    })
}

impl Call<'_> {
    /// What is served.
    pub(crate) fn api(&self) -> &Arc<Api> {
        &self.front.api
    }

    /// Discovery, OpenAPI and the rest of what is not a resource.
    fn document(&self, path: Path) -> Result<Response<Body>, Status> {
        if self.method != Method::GET {
            return Err(Status::method_not_allowed());
        }
        if self
            .headers
            .get(ACCEPT)
            .is_some_and(|accept| accept.as_bytes().ends_with(b"+protobuf"))
            && matches!(&path, Path::Other(segments) if segments.first().is_some_and(|s| s == "openapi"))
        {
            // kubectl asks so for kinds that it did not find in version 3. The document without any kinds, which is no
            // bytes at all in protobuf, tells it that there is no such kind.
            let kind = HeaderValue::from_static("application/com.github.proto-openapi.spec.v2.v1.0+protobuf");
            return Ok(respond::with_type(200, kind, Vec::new()));
        }
        let form = request::accepted(&self.headers);
        let registry = self.api().registry.load();
        let aggregated = |core: bool, version: &'static str| {
            let kind = format!("application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList");
            let mut response = respond::json(200, &discovery::aggregated(&registry, core, version));
            if let Ok(kind) = HeaderValue::from_str(&kind) {
                response.headers_mut().insert(CONTENT_TYPE, kind);
            }
            response
        };
        let found = match path {
            Path::CoreVersions => match form? {
                Form::Discovery(version) => return Ok(aggregated(true, version)),
                _ => Some(discovery::core_versions()),
            },
            Path::Groups => match form? {
                Form::Discovery(version) => return Ok(aggregated(false, version)),
                _ => Some(discovery::groups(&registry)),
            },
            Path::Group(group) => discovery::group(&registry, &group),
            Path::Resources(group, version) => discovery::resources(&registry, &group, &version),
            Path::Target(_) => None,
            Path::Other(segments) => {
                let parts: Vec<&str> = segments.iter().map(String::as_str).collect();
                match parts.as_slice() {
                    [] => Some(self.paths()),
                    ["openapi", "v3"] => Some(openapi::index(&registry, self.api().definitions_revision())),
                    ["openapi", "v3", "api", version] => openapi::v3(&registry, "", version),
                    ["openapi", "v3", "apis", group, version] => openapi::v3(&registry, group, version),
                    ["openapi", "v2"] => Some(openapi::v2(&registry)),
                    _ => None,
                }
            }
        };
        found
            .map(|value| respond::json(200, &value))
            .ok_or_else(|| Status::not_served(self.request.uri().path()))
    }

    /// `/`: the paths there are.
    fn paths(&self) -> Value {
        let registry = self.api().registry.load();
        let mut paths = vec![
            "/.well-known/openid-configuration".to_owned(),
            "/api".to_owned(),
            "/api/v1".to_owned(),
        ];
        paths.push("/apis".to_owned());
        for group in registry.groups().iter().filter(|g| !g.is_empty()) {
            paths.push(format!("/apis/{group}"));
            for version in registry.versions(group) {
                paths.push(format!("/apis/{group}/{version}"));
            }
        }
        for path in [
            "/healthz",
            "/livez",
            "/openapi/v2",
            "/openapi/v3",
            "/openid/v1/jwks",
            "/readyz",
            "/version",
        ] {
            paths.push(path.to_owned());
        }
        json!({ "paths": paths })
    }

    async fn target(self, target: Target) -> Result<Response<Body>, Status> {
        let id = ResourceId::new(target.group.clone(), target.version.clone(), target.plural.clone());
        let resource = self.api().resource(&id).map_err(|mut status| {
            // What clients of the real server read there is their own rendering of its bare answer.
            let verb = self.method.as_str().to_lowercase();
            status.message = [&status.message, " (", &verb, " ", &target.qualified(), ")"].concat();
            status
        })?;
        // A path in a namespace is a resource in a namespace.
        if !resource.namespaced && !target.namespace.is_empty() {
            return Err(Status::not_served(self.request.uri().path()));
        }
        if resource.namespaced && target.namespace.is_empty() && !target.name.is_empty() {
            return Err(Status::not_served(self.request.uri().path()));
        }
        if !target.subresource.is_empty() {
            return self.subresource(&resource, target).await;
        }
        if resource.review {
            return self.review(&resource, target).await;
        }
        match (self.method.clone(), target.name.is_empty()) {
            (Method::GET, true) => self.list(&resource, target),
            (Method::GET, false) if self.query.flag("watch") => self.list(&resource, target),
            (Method::GET, false) => self.get(&resource, &target),
            (Method::POST, true) => self.create(&resource, target).await,
            (Method::DELETE, true) => self.delete_collection(&resource, target).await,
            (Method::PUT, false) => self.update(&resource, target, Part::Main).await,
            (Method::PATCH, false) => self.patch(&resource, target, Part::Main).await,
            (Method::DELETE, false) => self.delete(&resource, target).await,
            _ => Err(Status::method_not_allowed()),
        }
    }

    async fn subresource(self, resource: &Arc<Resource>, target: Target) -> Result<Response<Body>, Status> {
        if resource.subresource(&target.subresource).is_none() {
            return Err(Status::not_served(self.request.uri().path()));
        }
        let part = match target.subresource.as_str() {
            "status" => Some(Part::Status),
            "finalize" => Some(Part::Finalize),
            _ => None,
        };
        match (part, &self.method, target.subresource.as_str()) {
            (Some(_), &Method::GET, "status") => self.get(resource, &target),
            (Some(part), &Method::PUT, _) => self.update(resource, target, part).await,
            (Some(part @ Part::Status), &Method::PATCH, _) => self.patch(resource, target, part).await,
            (None, _, "scale") => self.scale(resource, target).await,
            (None, &Method::POST, "token") => self.token(target).await,
            (None, &Method::POST, "eviction") => self.evict(resource, target).await,
            (None, &Method::GET, "log") => crate::pods::log(self, target).await,
            (None, &Method::GET | &Method::POST, "exec" | "attach" | "portforward") => {
                crate::pods::connect(self, target).await
            }
            _ => Err(Status::method_not_allowed()),
        }
    }

    fn get(&self, resource: &Resource, target: &Target) -> Result<Response<Body>, Status> {
        let form = request::accepted(&self.headers)?;
        let object = verbs::get(self.api(), resource, &target.namespace, &target.name)?;
        if let Some(asked) = self.query.number::<u64>("resourceVersion")?
            && asked > self.api().store.revision()
        {
            return Err(watch::too_large(asked, self.api().store.revision()));
        }
        Ok(self.object(200, resource, form, &object))
    }

    /// One object in the form that is wanted.
    fn object(&self, code: u16, resource: &Resource, form: Form, object: &Value) -> Response<Body> {
        match form {
            Form::Table => {
                let metadata = json!({ "resourceVersion": object::resource_version(object) });
                let include = self.query.text("includeObject").unwrap_or("Metadata");
                let printer = table::Printer::new(resource);
                let one: Object = Arc::new(object.clone());
                respond::json(code, &printer.list(metadata, &[one], include))
            }
            Form::Metadata => respond::json(code, &table::partial(object)),
            _ => respond::json(code, object),
        }
    }

    fn selector(&self, resource: &Resource) -> Result<Selector, Status> {
        let labels =
            LabelSelector::parse(self.query.get("labelSelector").unwrap_or("")).map_err(Status::bad_request)?;
        let text = self.query.get("fieldSelector").unwrap_or("");
        let fields = FieldSelector::parse(text).map_err(Status::bad_request)?;
        let supported = |field: &str| {
            field == "metadata.name"
                || (field == "metadata.namespace" && resource.namespaced)
                || resource.strategy.selectable(field)
                || resource.custom.as_ref().is_some_and(|custom| custom.selectable(field))
        };
        if let Some(field) = fields.unsupported(&supported) {
            return Err(Status::bad_request(format!("field label not supported: {field}")));
        }
        Ok(Selector { labels, fields })
    }

    fn list(&self, resource: &Arc<Resource>, target: Target) -> Result<Response<Body>, Status> {
        let form = request::accepted(&self.headers)?;
        let mut selector = self.selector(resource)?;
        if !target.name.is_empty() {
            let name = format!("metadata.name={}", target.name);
            selector.fields = FieldSelector::parse(&name).map_err(Status::bad_request)?;
        }
        let namespace = Some(target.namespace).filter(|n| !n.is_empty());
        let version = self.query.get("resourceVersion").unwrap_or("").to_owned();
        if self.query.flag("watch") {
            // As the real server does it: clients without a timeout are spread over half an hour to an hour.
            let seconds = self.query.number::<u64>("timeoutSeconds")?.unwrap_or(3000);
            let request = WatchRequest {
                namespace,
                selector,
                resource_version: version,
                bookmarks: self.query.flag("allowWatchBookmarks"),
                initial_events: self.query.text("sendInitialEvents").map(|v| v != "false"),
                timeout: Duration::from_secs(seconds),
                form,
            };
            let body = watch::start(self.api(), resource, request, self.front.drain.clone())?;
            let kind = match form {
                Form::Table => HeaderValue::from_static("application/json;as=Table;g=meta.k8s.io;v=v1;stream=watch"),
                _ => HeaderValue::from_static("application/json"),
            };
            return Ok(respond::with_type(200, kind, body));
        }
        let page = super::page::page(self.api(), resource, namespace.as_deref(), &selector, &self.query)?;
        let mut metadata = json!({ "resourceVersion": page.revision.to_string() });
        if let Some(token) = page.next {
            metadata["continue"] = json!(token);
            if let Some(remaining) = page.remaining {
                metadata["remainingItemCount"] = json!(remaining);
            }
        }
        Ok(match form {
            Form::Table => {
                let include = self.query.text("includeObject").unwrap_or("Metadata");
                respond::json(
                    200,
                    &table::Printer::new(resource).list(metadata, &page.objects, include),
                )
            }
            Form::Metadata => {
                let objects: Vec<Object> = page.objects.iter().map(|o| Arc::new(table::partial(o))).collect();
                respond::list("PartialObjectMetadataList", "meta.k8s.io/v1", &metadata, &objects)
            }
            _ => respond::list(&resource.list_kind, &resource.api_version(), &metadata, &page.objects),
        })
    }

    /// The circumstances of a write, from query and headers.
    pub(crate) fn context(&self) -> Result<Context, Status> {
        let manager = match self.query.text("fieldManager") {
            Some(manager) => manager.to_owned(),
            None => self
                .headers
                .get(USER_AGENT)
                .and_then(|v| v.to_str().ok())
                .and_then(|agent| agent.split('/').next())
                .unwrap_or("unknown")
                .to_owned(),
        };
        let mut context = Context::new(self.user.clone(), manager);
        context.dry_run = match self.query.all("dryRun").as_slice() {
            [] => false,
            values if values.iter().all(|v| v == "All") => true,
            values => {
                return Err(bad_option(
                    "dryRun",
                    &format!("Unsupported value: {values:?}: supported values: \"All\""),
                ));
            }
        };
        context.validation = match self.query.text("fieldValidation") {
            None | Some("Warn") => FieldValidation::Warn,
            Some("Ignore") => FieldValidation::Ignore,
            Some("Strict") => FieldValidation::Strict,
            Some(other) => {
                return Err(bad_option(
                    "fieldValidation",
                    &format!("Unsupported value: {other:?}: supported values: \"\", \"Ignore\", \"Strict\", \"Warn\""),
                ));
            }
        };
        Ok(context)
    }

    fn content_type(&self) -> String {
        let header = self.headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok());
        header.unwrap_or("").to_owned()
    }

    pub(crate) async fn body(self) -> Result<read_body::Decoded, Status> {
        let content_type = self.content_type();
        let bytes = read_body::read(self.request).await?;
        read_body::decode(&content_type, &bytes)
    }

    async fn create(self, resource: &Resource, target: Target) -> Result<Response<Body>, Status> {
        if resource.namespaced && target.namespace.is_empty() {
            return Err(Status::method_not_allowed());
        }
        let form = request::accepted(&self.headers)?;
        let mut context = self.context()?;
        let (api, include) = (self.api().clone(), self.shape());
        let decoded = self.body().await?;
        context.duplicates = decoded.duplicates;
        let made = verbs::create(&api, &context, resource, &target.namespace, decoded.value).await;
        finish(include.object(201, resource, form, made), &context)
    }

    async fn update(self, resource: &Resource, target: Target, part: Part) -> Result<Response<Body>, Status> {
        let form = request::accepted(&self.headers)?;
        let mut context = self.context()?;
        let (api, include) = (self.api().clone(), self.shape());
        let decoded = self.body().await?;
        context.duplicates = decoded.duplicates;
        let changed = verbs::update(
            &api,
            &context,
            resource,
            part,
            &target.namespace,
            &target.name,
            decoded.value,
        )
        .await;
        finish(include.object(200, resource, form, changed), &context)
    }

    async fn patch(self, resource: &Resource, target: Target, part: Part) -> Result<Response<Body>, Status> {
        let form = request::accepted(&self.headers)?;
        let mut context = self.context()?;
        let (api, include) = (self.api().clone(), self.shape());
        let (patch, duplicates) = self.read_patch(resource.custom.is_some()).await?;
        context.duplicates = duplicates;
        let before = api.store.get(&resource.storage, &target.namespace, &target.name);
        let changed = verbs::patch(&api, &context, resource, part, &target.namespace, &target.name, &patch).await;
        let code = if before.is_none() { 201 } else { 200 };
        finish(include.object(code, resource, form, changed), &context)
    }

    /// Reads a patch of the form that the content type names.
    async fn read_patch(self, custom: bool) -> Result<(Patch, Vec<String>), Status> {
        let content_type = self.content_type();
        let media = content_type.split(';').next().unwrap_or("").trim().to_owned();
        let force = self.query.flag("force");
        let named = self.query.text("fieldManager").is_some();
        let bytes = read_body::read(self.request).await?;
        if media == "application/apply-patch+yaml" {
            if !named {
                return Err(Status::invalid(
                    "meta.k8s.io",
                    "PatchOptions",
                    "",
                    vec![Cause {
                        reason: "FieldValueRequired".to_owned(),
                        message: "Required value: is required for apply patch".to_owned(),
                        field: "fieldManager".to_owned(),
                    }],
                ));
            }
            let decoded = read_body::from_yaml(&bytes)?;
            let patch = Patch::Apply {
                object: decoded.value,
                force,
            };
            return Ok((patch, decoded.duplicates));
        }
        let decoded = |bytes: &[u8]| read_body::from_json(bytes);
        match media.as_str() {
            "application/merge-patch+json" => decoded(&bytes).map(|d| (Patch::Merge(d.value), d.duplicates)),
            "application/json-patch+json" => decoded(&bytes).map(|d| (Patch::Json(d.value), Vec::new())),
            "application/strategic-merge-patch+json" if !custom => {
                decoded(&bytes).map(|d| (Patch::Strategic(d.value), d.duplicates))
            }
            other => {
                let strategic = if custom {
                    ""
                } else {
                    ", application/strategic-merge-patch+json"
                };
                Err(Status::new(
                    415,
                    "UnsupportedMediaType",
                    format!(
                        "the body of the request was in an unknown format - accepted media types include: application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml{strategic} (not {other})"
                    ),
                ))
            }
        }
    }

    /// The options of a deletion: from the body, else from the query.
    async fn delete_options(self) -> Result<DeleteOptions, Status> {
        let query = self.query.clone();
        let content_type = self.content_type();
        let bytes = read_body::read(self.request).await?;
        let mut options = if bytes.is_empty() {
            DeleteOptions::default()
        } else {
            DeleteOptions::from_object(&read_body::decode(&content_type, &bytes)?.value)?
        };
        if let Some(seconds) = query.number("gracePeriodSeconds")? {
            options.grace_seconds = Some(seconds);
        }
        if let Some(word) = query.text("propagationPolicy") {
            options.propagation = Some(Propagation::parse(word)?);
        }
        Ok(options)
    }

    async fn delete(self, resource: &Resource, target: Target) -> Result<Response<Body>, Status> {
        let context = self.context()?;
        let api = self.api().clone();
        let options = self.delete_options().await?;
        let deleted = verbs::delete(&api, &context, resource, &target.namespace, &target.name, &options).await?;
        // These kinds answer with the object, the others with a Status when the object is gone.
        let with_object = ["pods", "services", "serviceaccounts"].contains(&resource.plural());
        let response = match deleted {
            verbs::Deleted::Gone(object) if !(with_object && resource.group().is_empty()) => {
                respond::json(200, &success(resource, &object))
            }
            verbs::Deleted::Gone(object) => respond::json(200, &object),
            verbs::Deleted::Ending(object) => respond::json(200, &verbs::in_version(resource, object)),
        };
        finish(Ok(response), &context)
    }

    async fn delete_collection(self, resource: &Resource, target: Target) -> Result<Response<Body>, Status> {
        let context = self.context()?;
        let selector = self.selector(resource)?;
        let api = self.api().clone();
        let options = self.delete_options().await?;
        let namespace = Some(target.namespace.as_str()).filter(|n| !n.is_empty());
        let (objects, revision) =
            verbs::delete_collection(&api, &context, resource, namespace, &selector, &options).await?;
        let metadata = json!({ "resourceVersion": revision.to_string() });
        let response = respond::list(&resource.list_kind, &resource.api_version(), &metadata, &objects);
        finish(Ok(response), &context)
    }

    async fn scale(self, resource: &Arc<Resource>, target: Target) -> Result<Response<Body>, Status> {
        let api = self.api().clone();
        match self.method.clone() {
            Method::GET => {
                let object = verbs::get(&api, resource, &target.namespace, &target.name)?;
                Ok(respond::json(200, &verbs::scale_of(resource, &object)))
            }
            Method::PUT => {
                let context = self.context()?;
                let wanted = self.body().await?.value;
                let scale = verbs::set_scale(&api, &context, resource, &target.namespace, &target.name, |_| {
                    Ok(wanted.clone())
                })
                .await?;
                finish(Ok(respond::json(200, &scale)), &context)
            }
            Method::PATCH => {
                let context = self.context()?;
                let (patch, _) = self.read_patch(true).await?;
                let scale = verbs::set_scale(&api, &context, resource, &target.namespace, &target.name, |scale| {
                    verbs::patched_plain(scale, &patch)
                })
                .await?;
                finish(Ok(respond::json(200, &scale)), &context)
            }
            _ => Err(Status::method_not_allowed()),
        }
    }

    async fn review(self, resource: &Resource, target: Target) -> Result<Response<Body>, Status> {
        if self.method != Method::POST || !target.name.is_empty() {
            return Err(Status::method_not_allowed());
        }
        let (api, user) = (self.api().clone(), self.user.clone());
        let body = self.body().await?.value;
        Ok(respond::json(201, &crate::auth::review(&api, &user, resource, body)?))
    }

    async fn token(self, target: Target) -> Result<Response<Body>, Status> {
        let api = self.api().clone();
        let body = self.body().await?.value;
        let answer = api.tokens().request(&api, &target.namespace, &target.name, &body)?;
        Ok(respond::json(201, &answer))
    }

    async fn evict(self, resource: &Resource, target: Target) -> Result<Response<Body>, Status> {
        let context = self.context()?;
        let api = self.api().clone();
        let body = self.body().await?.value;
        let options = DeleteOptions::from_object(&body["deleteOptions"])?;
        verbs::delete(&api, &context, resource, &target.namespace, &target.name, &options).await?;
        let done = json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201 });
        finish(Ok(respond::json(201, &done)), &context)
    }

    /// What of the request the response to a write depends on.
    fn shape(&self) -> Shape {
        Shape {
            include: self.query.text("includeObject").unwrap_or("Metadata").to_owned(),
        }
    }
}

struct Shape {
    include: String,
}

impl Shape {
    fn object(
        &self,
        code: u16,
        resource: &Resource,
        form: Form,
        result: Result<Object, Status>,
    ) -> Result<Response<Body>, Status> {
        let object = result?;
        Ok(match form {
            Form::Table => {
                let metadata = json!({ "resourceVersion": object::resource_version(&object) });
                let printer = table::Printer::new(resource);
                respond::json(code, &printer.list(metadata, &[object], &self.include))
            }
            Form::Metadata => respond::json(code, &table::partial(&object)),
            _ => respond::json(code, &object),
        })
    }
}

/// Adds the warnings of a request to its response, a failure too.
fn finish(result: Result<Response<Body>, Status>, context: &Context) -> Result<Response<Body>, Status> {
    let mut response = result.unwrap_or_else(|status| respond::failure(&status));
    respond::warn(&mut response, &context.take_warnings());
    Ok(response)
}

fn bad_option(field: &str, message: &str) -> Status {
    Status::invalid(
        "meta.k8s.io",
        "CreateOptions",
        "",
        vec![Cause {
            reason: "FieldValueNotSupported".to_owned(),
            message: message.to_owned(),
            field: field.to_owned(),
        }],
    )
}

/// The answer to a deletion that is done.
fn success(resource: &Resource, object: &Value) -> Value {
    let mut details = json!({ "name": object::name(object), "kind": resource.plural(), "uid": object::uid(object) });
    if !resource.group().is_empty() {
        details["group"] = json!(resource.group());
    }
    json!({
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Success",
        "details": details,
    })
}
