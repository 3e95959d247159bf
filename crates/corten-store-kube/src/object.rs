//! Objects as kube's watcher wants them: with Kubernetes' own metadata type, of which only what it needs is filled.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use corten_core::NamespacedName;
use kube::api::ApiResource;
use kube::core::DynamicResourceScope;
use kube::core::metadata::ObjectMeta;
use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error};
use serde_json::Value;

use crate::prune::Part;

/// Which part of an object is decoded, as a type: kube's watcher passes no values to its decoding.
pub(crate) trait Form: Send + Sync + 'static {
    const PART: Part;
}

macro_rules! forms {
    ($($name:ident)*) => {$(
        pub(crate) enum $name {}
        impl Form for $name {
            const PART: Part = Part::$name;
        }
    )*};
}
forms!(Whole Metadata Pod Node EndpointSlice Entries Definition);

/// An object.
pub(crate) struct Object<F> {
    meta: ObjectMeta,
    pub(crate) value: Value,
    form: PhantomData<fn() -> F>,
}

impl<F> Object<F> {
    pub(crate) fn key(&self) -> NamespacedName {
        NamespacedName {
            namespace: self.meta.namespace.clone().unwrap_or_default(),
            name: self.meta.name.clone().unwrap_or_default(),
        }
    }

    pub(crate) fn resource_version(&self) -> &str {
        self.meta.resource_version.as_deref().unwrap_or_default()
    }
}

impl<'de, F: Form> Deserialize<'de> for Object<F> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = F::PART.keep().deserialize(deserializer)?;
        let text = |name: &str| value["metadata"][name].as_str().map(str::to_owned);
        let meta = ObjectMeta {
            name: Some(text("name").ok_or_else(|| D::Error::custom("an object without a name"))?),
            namespace: text("namespace"),
            resource_version: text("resourceVersion"),
            ..ObjectMeta::default()
        };
        Ok(Object {
            meta,
            value,
            form: PhantomData,
        })
    }
}

impl<F> Clone for Object<F> {
    fn clone(&self) -> Self {
        Object {
            meta: self.meta.clone(),
            value: self.value.clone(),
            form: PhantomData,
        }
    }
}

impl<F> fmt::Debug for Object<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the value: it may be a secret.
        f.debug_tuple("Object").field(&self.key()).finish()
    }
}

impl<F: Form> kube::Resource for Object<F> {
    type DynamicType = ApiResource;
    type Scope = DynamicResourceScope;

    fn kind(resource: &ApiResource) -> Cow<'_, str> {
        resource.kind.as_str().into()
    }

    fn group(resource: &ApiResource) -> Cow<'_, str> {
        resource.group.as_str().into()
    }

    fn version(resource: &ApiResource) -> Cow<'_, str> {
        resource.version.as_str().into()
    }

    fn api_version(resource: &ApiResource) -> Cow<'_, str> {
        resource.api_version.as_str().into()
    }

    fn plural(resource: &ApiResource) -> Cow<'_, str> {
        resource.plural.as_str().into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.meta
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.meta
    }
}
