//! EnvoyFilters: what users change in what was generated.
//!
//! The patches of all filters that are for a proxy are applied in the order of the filters' priorities, those of the root namespace
//! before its own, older ones before younger ones. A patch that cannot be applied, or after which Envoy would refuse the whole
//! resource, is left out and [said](Patches::said); the rest takes effect.

mod clusters;
mod compile;
mod listeners;
mod lists;
mod routes;
#[cfg(test)]
mod tests;

use std::{cell::RefCell, cmp::Ordering};

use corten_api::{
    diagnostic::Diagnostic,
    istio::envoy_filter::{
        EnvoyConfigObjectMatchObjectTypes as Objects, EnvoyFilterApplyTo as ApplyTo,
        EnvoyFilterPatchOperation as Operation, EnvoyFilterSpec, ListenerMatch, PatchContext, RouteConfigurationMatch,
        WaypointMatch,
    },
};
use corten_envoy::{JsonError, Lists, Patch as Value};
use corten_routing::{About, Catalog, Config, ProxyKind};

use self::compile::{Patch, compile};
use crate::{Context, listener, security::attach::Place};

/// The patches for a proxy.
#[derive(Debug)]
pub struct Patches {
    patches: Vec<Patch>,
    kind: ProxyKind,
    /// Ports of the workload with the ports of services that lead there.
    ports: Vec<(u16, u16)>,
    said: RefCell<Vec<Diagnostic>>,
}

/// Where something is that may be patched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Inbound,
    Outbound,
}

impl Patches {
    /// Those of all EnvoyFilters that are for the proxy.
    pub fn of(cx: &Context<'_>) -> Patches {
        let catalog = &cx.snapshot.catalog;
        let root = catalog.settings.root_namespace.as_ref();
        let filters = &catalog.configs.envoy_filters;
        let mut chosen = if filters.is_empty() {
            Vec::new()
        } else {
            Place::of(cx.proxy, root).select(filters)
        };
        chosen.sort_by(|a, b| before(a, b, root));
        let compiled = chosen.into_iter().flat_map(|config| compile(config).0);
        let patches: Vec<Patch> = compiled.filter(|patch| patch.is_for(cx.proxy)).collect();
        let ports = if patches.is_empty() || cx.proxy.kind != ProxyKind::Router {
            Vec::new()
        } else {
            let targets = listener::all_targets(cx).into_iter();
            targets.map(|target| (target.number, target.port.number)).collect()
        };
        Patches {
            patches,
            kind: cx.proxy.kind,
            ports,
            said: RefCell::default(),
        }
    }

    /// There are none.
    pub fn is_empty(&self) -> bool {
        self.patches.is_empty()
    }

    /// What has been left out so far, and why.
    pub fn said(self) -> Vec<Diagnostic> {
        self.said.into_inner()
    }

    fn all(&self, to: ApplyTo) -> impl Iterator<Item = &Patch> {
        self.patches.iter().filter(move |patch| patch.to == to)
    }

    /// The patches of a kind for what is on a side of the proxy.
    fn at(&self, to: ApplyTo, side: Side) -> impl Iterator<Item = &Patch> {
        self.all(to).filter(move |patch| self.is_in_context(patch, side))
    }

    fn is_in_context(&self, patch: &Patch, side: Side) -> bool {
        match patch.context() {
            PatchContext::Any => true,
            PatchContext::Gateway => self.kind == ProxyKind::Router,
            PatchContext::SidecarInbound => self.kind != ProxyKind::Router && side == Side::Inbound,
            PatchContext::SidecarOutbound => self.kind != ProxyKind::Router && side == Side::Outbound,
            PatchContext::Waypoint => self.kind == ProxyKind::Waypoint,
        }
    }

    /// Something that a patch adds to the proxy itself is added once: for any context, on the outbound side.
    fn adds(&self, to: ApplyTo) -> impl Iterator<Item = &Patch> {
        self.all(to).filter(|patch| {
            patch.operation == Operation::Add
                && [Side::Outbound, Side::Inbound]
                    .into_iter()
                    .any(|side| self.is_in_context(patch, side))
        })
    }

    /// Applies one patch to something, unless it cannot be, or leaves it in a state that `sound` objects to.
    fn apply<T: Clone>(
        &self,
        patch: &Patch,
        thing: &mut T,
        sound: impl Fn(&T) -> Result<(), String>,
        change: impl FnOnce(&mut T) -> Result<(), JsonError>,
    ) {
        let before = thing.clone();
        let result = change(thing).map_err(|error| error.to_string());
        if let Err(why) = result.and_then(|()| sound(thing)) {
            *thing = before;
            self.refuse(patch, &why);
        }
    }

    fn refuse(&self, patch: &Patch, why: &str) {
        let about = About {
            api_version: "networking.istio.io/v1alpha3",
            ..About::networking("EnvoyFilter", &patch.namespace, &patch.name)
        };
        let found = about.no_effect(format!("{}.patch", patch.path), format!("is left out: {why}"));
        let mut said = self.said.borrow_mut();
        if !said.contains(&found) {
            said.push(found);
        }
    }
}

impl Patch {
    fn context(&self) -> PatchContext {
        self.wanted.as_ref().map(|wanted| wanted.context).unwrap_or_default()
    }

    fn objects(&self) -> Option<&Objects> {
        self.wanted.as_ref()?.object_types.as_ref()
    }

    fn listener(&self) -> Option<&ListenerMatch> {
        match self.objects() {
            Some(Objects::Listener(wanted)) => Some(wanted),
            _ => None,
        }
    }

    fn table(&self) -> Option<&RouteConfigurationMatch> {
        match self.objects() {
            Some(Objects::RouteConfiguration(wanted)) => Some(wanted),
            _ => None,
        }
    }

    fn waypoint(&self) -> Option<&WaypointMatch> {
        match self.objects() {
            Some(Objects::Waypoint(wanted)) => Some(wanted),
            _ => None,
        }
    }

    fn merges(&self) -> bool {
        matches!(self.operation, Operation::Merge | Operation::MergeAndReplaceList)
    }

    fn lists(&self) -> Lists {
        if self.operation == Operation::MergeAndReplaceList {
            Lists::Replace
        } else {
            Lists::Append
        }
    }

    /// Merges the value over a message.
    fn merge<M>(&self, into: &mut M) -> Result<(), JsonError>
    where
        M: corten_envoy::prost::Message + corten_envoy::prost::Name + Default,
    {
        self.value
            .as_ref()
            .map_or(Ok(()), |value| value.merge_over(into, self.lists()))
    }

    /// The value by itself.
    fn made<M>(&self) -> Option<M>
    where
        M: corten_envoy::prost::Message + corten_envoy::prost::Name + Default,
    {
        self.value.as_ref().and_then(|value: &Value| value.message().ok())
    }
}

/// The order in which filters are applied.
fn before(a: &Config<EnvoyFilterSpec>, b: &Config<EnvoyFilterSpec>, root: &str) -> Ordering {
    let key = |config: &Config<EnvoyFilterSpec>| (config.spec.priority, *config.namespace != *root, config.created);
    let name = |config: &Config<EnvoyFilterSpec>| format!("{}.{}", config.name, config.namespace);
    key(a).cmp(&key(b)).then_with(|| name(a).cmp(&name(b)))
}

/// What of EnvoyFilters takes no effect, whichever proxy they are for.
pub fn diagnostics(catalog: &Catalog) -> Vec<Diagnostic> {
    let filters = catalog.configs.envoy_filters.values();
    filters.flat_map(|config| compile(config).1).collect()
}
