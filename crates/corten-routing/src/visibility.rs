//! Who sees an object: `exportTo`.

use std::collections::BTreeSet;

use corten_model::Name;

/// The namespaces that see an object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Visibility {
    /// All.
    Public,
    /// These; none: nobody.
    Namespaces(BTreeSet<Name>),
}

impl Visibility {
    /// From `exportTo` of an object in a namespace: `*` all, `.` its own, `~` nobody, else names. Where it is empty,
    /// the mesh's `defaults` count, and where those are empty, all see it.
    pub fn of<'a>(
        export_to: impl IntoIterator<Item = &'a str>,
        defaults: impl IntoIterator<Item = &'a str>,
        namespace: &Name,
    ) -> Visibility {
        let mut listed: Vec<&str> = export_to.into_iter().collect();
        if listed.is_empty() {
            listed.extend(defaults);
        }
        if listed.is_empty() || listed.contains(&"*") {
            return Visibility::Public;
        }
        if listed.contains(&"~") {
            return Visibility::Namespaces(BTreeSet::new());
        }
        let names = listed.into_iter().map(|name| match name {
            "." => Name::clone(namespace),
            name => Name::from(name),
        });
        Visibility::Namespaces(names.collect())
    }

    /// Whether a namespace sees it.
    pub fn includes(&self, namespace: &str) -> bool {
        match self {
            Visibility::Public => true,
            Visibility::Namespaces(names) => names.contains(namespace),
        }
    }

    /// Whether it is for one namespace only.
    pub fn is_private_to(&self, namespace: &str) -> bool {
        matches!(self, Visibility::Namespaces(names) if names.len() == 1 && names.contains(namespace))
    }

    /// Whether nobody sees it.
    pub fn is_none(&self) -> bool {
        matches!(self, Visibility::Namespaces(names) if names.is_empty())
    }
}
