//! Kinds that may not be read: which right is missing, for whoever has to give it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use kube::runtime::watcher;
use tokio::sync::watch;

use crate::kinds::Kind;
use crate::source::Selection;

/// A right that is missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The kind.
    pub kind: Kind,
    /// What is not allowed: `list` or `watch`.
    pub verb: &'static str,
    /// The namespace where it is needed; `None`: everywhere.
    pub namespace: Option<String>,
    /// Whether whoever reads waits for it.
    pub needed: bool,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (verb, plural) = (self.verb, self.kind.plural);
        write!(f, "no right to {verb} {plural}")?;
        if !self.kind.group.is_empty() {
            write!(f, ".{}", self.kind.group)?;
        }
        match &self.namespace {
            Some(namespace) => write!(f, " in namespace {namespace}"),
            None => write!(f, " in all namespaces"),
        }
    }
}

/// By the name of the definition, and which objects are watched: of one kind there may be several watches.
type Table = BTreeMap<(String, Selection), Refusal>;

/// Each right once, however many watches miss it, and as needed if one of them needs it.
fn distinct<'a>(refusals: impl Iterator<Item = &'a Refusal>) -> Vec<Refusal> {
    let mut found: Vec<Refusal> = Vec::new();
    for refusal in refusals {
        let right = |one: &Refusal| (one.kind, one.verb, one.namespace.clone());
        match found.iter_mut().find(|one| right(one) == right(refusal)) {
            Some(same) => same.needed |= refusal.needed,
            None => found.push(refusal.clone()),
        }
    }
    found
}

/// The rights that are missing now.
#[derive(Debug, Clone)]
pub struct Refusals(watch::Receiver<Arc<Table>>);

impl Refusals {
    /// All of them, in the order of the kinds' names.
    pub fn all(&self) -> Vec<Refusal> {
        distinct(self.0.borrow().values())
    }

    /// Those that keep whoever reads from being ready.
    pub fn needed(&self) -> Vec<Refusal> {
        distinct(self.0.borrow().values().filter(|refusal| refusal.needed))
    }
}

/// Where the watches say what they may not.
#[derive(Debug, Clone)]
pub(crate) struct Teller(Arc<watch::Sender<Arc<Table>>>);

impl Teller {
    pub(crate) fn new() -> (Teller, Refusals) {
        let (sender, receiver) = watch::channel(Arc::default());
        (Teller(Arc::new(sender)), Refusals(receiver))
    }

    /// A right is missing. Returns whether that is news.
    pub(crate) fn tell(&self, selection: &Selection, refusal: &Refusal) -> bool {
        let key = (refusal.kind.definition(), selection.clone());
        self.0.send_if_modified(|table| {
            let news = table.get(&key) != Some(refusal);
            if news {
                Arc::make_mut(table).insert(key, refusal.clone());
            }
            news
        })
    }

    /// Objects of a kind are read. Returns whether they could not be before.
    pub(crate) fn clear(&self, kind: &Kind, selection: &Selection) -> bool {
        // Nearly always there is nothing to clear, and nothing is written then.
        if !self.has(kind, selection) {
            return false;
        }
        let key = (kind.definition(), selection.clone());
        self.0
            .send_if_modified(|table| Arc::make_mut(table).remove(&key).is_some())
    }

    /// Whether these objects may not be read.
    pub(crate) fn has(&self, kind: &Kind, selection: &Selection) -> bool {
        let table = self.0.borrow();
        !table.is_empty() && table.contains_key(&(kind.definition(), selection.clone()))
    }

    /// Whether all objects of a kind may not be read.
    pub(crate) fn is_refused(&self, kind: &Kind) -> bool {
        self.has(kind, &Selection::default())
    }
}

/// What was not allowed, if that is what went wrong.
pub(crate) fn forbidden(error: &watcher::Error) -> Option<&'static str> {
    let is_forbidden = |error: &kube::Error| matches!(error, kube::Error::Api(status) if status.code == 403);
    match error {
        watcher::Error::InitialListFailed(error) => is_forbidden(error).then_some("list"),
        watcher::Error::WatchStartFailed(error) | watcher::Error::WatchFailed(error) => {
            is_forbidden(error).then_some("watch")
        }
        watcher::Error::WatchError(status) => (status.code == 403).then_some("watch"),
        watcher::Error::NoResourceVersion => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds;

    #[test]
    fn of_two_watches_of_a_kind_neither_speaks_for_the_other() {
        let (teller, refusals) = Teller::new();
        let [mesh, defaults] = ["istio", "defaults"].map(|name| Selection {
            namespace: Some("istio-system".to_owned()),
            labels: Some(name.to_owned()),
            ..Selection::default()
        });
        let refusal = |needed: bool| Refusal {
            kind: kinds::CONFIG_MAPS,
            verb: "list",
            namespace: Some("istio-system".to_owned()),
            needed,
        };
        assert!(teller.tell(&mesh, &refusal(true)) && teller.tell(&defaults, &refusal(false)));
        assert!(!teller.tell(&mesh, &refusal(true)), "no news");
        assert_eq!(refusals.all(), [refusal(true)], "one right is missing");
        assert_eq!(refusals.needed(), [refusal(true)]);
        assert!(teller.clear(&kinds::CONFIG_MAPS, &mesh));
        assert_eq!((refusals.all(), refusals.needed()), (vec![refusal(false)], vec![]));
        assert!(teller.has(&kinds::CONFIG_MAPS, &defaults) && !teller.has(&kinds::CONFIG_MAPS, &mesh));
        assert!(teller.clear(&kinds::CONFIG_MAPS, &defaults));
        assert_eq!(refusals.all(), []);
    }
}
