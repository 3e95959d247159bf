//! What something was made of, by identity: where all of it is the same, so is what comes of it.

use std::any::Any;
use std::sync::{Arc, LazyLock};

/// Values that something was made of. They are held, so that an address cannot come to mean another value.
#[derive(Clone, Default)]
pub(crate) struct Pins(Vec<Arc<dyn Any + Send + Sync>>);

impl Pins {
    /// Adds a value.
    pub(crate) fn pin<T: Any + Send + Sync>(&mut self, one: &Arc<T>) {
        self.0.push(Arc::clone(one) as Arc<dyn Any + Send + Sync>);
    }

    /// Adds values.
    pub(crate) fn pin_all<'a, T: Any + Send + Sync>(&mut self, all: impl IntoIterator<Item = &'a Arc<T>>) {
        all.into_iter().for_each(|one| self.pin(one));
        // So that one list does not pass for the beginning of the next.
        self.pin(&END);
    }
}

static END: LazyLock<Arc<u8>> = LazyLock::new(Arc::default);

impl PartialEq for Pins {
    fn eq(&self, other: &Pins) -> bool {
        let same = |(ours, theirs): (&Arc<dyn Any + Send + Sync>, &Arc<dyn Any + Send + Sync>)| {
            std::ptr::addr_eq(Arc::as_ptr(ours), Arc::as_ptr(theirs))
        };
        self.0.len() == other.0.len() && self.0.iter().zip(&other.0).all(same)
    }
}

impl std::fmt::Debug for Pins {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} pins", self.0.len())
    }
}
