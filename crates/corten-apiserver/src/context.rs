//! Who asks and how: the caller's identity and the options that every writing verb shares.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// An authenticated user.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct User {
    /// The user's name.
    pub name: String,
    /// The user's uid, where the authenticator knows one.
    pub uid: String,
    /// The groups the user is in.
    pub groups: Vec<String>,
    /// What else the authenticator says.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl User {
    /// A component of the runtime itself.
    pub fn system(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            groups: vec!["system:masters".to_owned(), "system:authenticated".to_owned()],
            ..Self::default()
        }
    }
}

/// What happens to fields that the schema does not know, or that occur twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FieldValidation {
    /// Dropped in silence.
    Ignore,
    /// Dropped with a warning.
    #[default]
    Warn,
    /// The request is refused.
    Strict,
}

/// The circumstances of a request.
#[derive(Clone, Debug)]
pub struct Context {
    /// Who asks.
    pub user: Arc<User>,
    /// Who owns the fields that are written.
    pub manager: String,
    /// Go through everything, but store nothing.
    pub dry_run: bool,
    /// What happens to unknown fields.
    pub validation: FieldValidation,
    /// Whether the object comes out of server-side apply, which has tracked the ownership of fields already.
    pub(crate) applied: bool,
    /// Keys that stood in the body twice.
    pub(crate) duplicates: Vec<String>,
    warnings: Arc<Mutex<Vec<String>>>,
}

impl Context {
    /// A request of a user, with the defaults of the protocol.
    pub fn new(user: Arc<User>, manager: impl Into<String>) -> Self {
        Self {
            user,
            manager: manager.into(),
            dry_run: false,
            validation: FieldValidation::default(),
            applied: false,
            duplicates: Vec::new(),
            warnings: Arc::default(),
        }
    }

    /// Adds a warning for the caller, once.
    pub fn warn(&self, message: impl Into<String>) {
        let message = message.into();
        let mut warnings = self.warnings.lock().expect("no panic under this lock");
        if !warnings.contains(&message) {
            warnings.push(message);
        }
    }

    /// The warnings so far, taken out.
    pub fn take_warnings(&self) -> Vec<String> {
        std::mem::take(&mut self.warnings.lock().expect("no panic under this lock"))
    }
}
