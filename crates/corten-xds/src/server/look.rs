//! What a session reads: a store, and below it one that it shares with others.
//!
//! Where both have a resource of a name, the store's own counts. Both number their changes by one clock, so that a session remembers
//! one number for both.

use std::sync::Arc;

use super::store::{All, Change, Index, Table, TypeConfig};
use super::{Resource, Store};

/// A store as sessions see it, for as long as they look.
#[derive(Debug, Clone, Copy)]
pub struct Look<'a> {
    own: &'a Store,
    base: Option<&'a Store>,
}

impl<'a> From<&'a Store> for Look<'a> {
    fn from(own: &'a Store) -> Look<'a> {
        Look { own, base: None }
    }
}

/// A type's resources.
#[derive(Debug, Clone, Copy)]
pub(super) struct TableLook<'a> {
    own: &'a Table,
    base: Option<&'a Table>,
}

impl<'a> Look<'a> {
    /// A store above another.
    pub fn above(own: &'a Store, base: Option<&'a Store>) -> Look<'a> {
        Look { own, base }
    }

    /// The number of the latest change.
    pub fn version(&self) -> u64 {
        self.base.map_or(0, Store::version).max(self.own.version())
    }

    /// What responses call the current version.
    pub(super) fn version_info(&self) -> &'a Arc<str> {
        self.own.version_info()
    }

    /// A resource.
    pub fn get(&self, type_url: &str, name: &str) -> Option<&'a Arc<Resource>> {
        self.table(type_url)?.get(name)
    }

    /// The resources of a type, in no particular order.
    pub fn resources(&self, type_url: &str) -> impl Iterator<Item = &'a Arc<Resource>> + use<'a> {
        self.table(type_url).into_iter().flat_map(TableLook::resources)
    }

    /// How many resources a type has.
    pub fn count(&self, type_url: &str) -> usize {
        self.resources(type_url).count()
    }

    /// The types, in order.
    pub fn types(&self) -> impl Iterator<Item = &'static str> + use<'a> {
        self.own.types()
    }

    pub(super) fn table(&self, type_url: &str) -> Option<TableLook<'a>> {
        Some(TableLook {
            own: self.own.table(type_url)?,
            base: self.base.and_then(|base| base.table(type_url)),
        })
    }
}

impl<'a> TableLook<'a> {
    pub(super) fn config(&self) -> &'a TypeConfig {
        &self.own.config
    }

    pub(super) fn get(&self, name: &str) -> Option<&'a Arc<Resource>> {
        self.own.get(name).or_else(|| self.base?.get(name))
    }

    pub(super) fn resources(self) -> impl Iterator<Item = &'a Arc<Resource>> {
        let below = self.base.into_iter().flat_map(Table::resources);
        self.own
            .resources()
            .chain(below.filter(move |resource| self.own.get(resource.name()).is_none()))
    }

    pub(super) fn all(&self) -> All {
        match self.base {
            None => self.own.all().clone(),
            Some(_) => All::of(self.resources()),
        }
    }

    /// Number of the latest change of this type.
    pub(super) fn changed(&self) -> u64 {
        self.base.map_or(0, Table::changed).max(self.own.changed())
    }

    /// What has changed after `cursor`, each name once; none if that can no longer be told.
    pub(super) fn changes(&self, cursor: u64) -> Option<impl Iterator<Item = Change<'a>>> {
        let own = self.own;
        let below = match self.base {
            Some(base) => Some(base.changed_names(cursor)?),
            None => None,
        };
        let below = below.into_iter().flatten();
        let above = own.changed_names(cursor)?;
        let names = above.chain(below.filter(move |name| own.changed_at(name).is_none_or(|at| at <= cursor)));
        let look = *self;
        Some(names.map(move |name| match look.get(name) {
            Some(resource) => Change::Present(resource),
            None => Change::Removed(name),
        }))
    }

    /// The tables' indexes.
    fn indexes(&self) -> impl Iterator<Item = &'a Index> + use<'a> {
        std::iter::once(self.own).chain(self.base).map(Table::index)
    }

    pub(super) fn keys(&self, name: &str) -> Option<&'a super::Keys> {
        self.indexes().find_map(|index| index.keys(name))
    }

    pub(super) fn by_alias<'k>(&self, alias: &'k str) -> impl Iterator<Item = &'a Arc<str>> + use<'a, 'k> {
        self.indexes().flat_map(move |index| index.by_alias(alias))
    }

    pub(super) fn by_group<'k>(&self, group: &'k str) -> impl Iterator<Item = &'a Arc<str>> + use<'a, 'k> {
        self.indexes().flat_map(move |index| index.by_group(group))
    }

    pub(super) fn by_node<'k>(&self, node: &'k str) -> impl Iterator<Item = &'a Arc<str>> + use<'a, 'k> {
        self.indexes().flat_map(move |index| index.by_node(node))
    }
}
