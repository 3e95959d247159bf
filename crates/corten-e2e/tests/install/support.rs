//! An instance without a mesh, and the commands of an installation on it.

use std::path::PathBuf;

use corten_e2e::{As, Output, Runtime, run};
use serde_json::Value;

/// An instance to install into.
pub(crate) struct Ground {
    pub(crate) runtime: Runtime,
}

impl Ground {
    /// A fresh one.
    pub(crate) fn new() -> Self {
        let user = match As::Root.possible() {
            Ok(()) => As::Root,
            Err(_) => As::User,
        };
        let runtime = Runtime::new(user);
        runtime.up(&[]);
        Self { runtime }
    }

    /// `corten` on this instance.
    pub(crate) fn corten(&self, args: &[&str]) -> Output {
        self.corten_with(self.runtime.kubeconfig(), args)
    }

    /// `corten` with another kubeconfig.
    pub(crate) fn corten_with(&self, kubeconfig: PathBuf, args: &[&str]) -> Output {
        let mut command = self.runtime.command(args);
        command.env("KUBECONFIG", kubeconfig);
        run(command)
    }

    /// Writes a file where commands run; its path.
    pub(crate) fn file(&self, name: &str, content: &str) -> String {
        let path = self.runtime.dir().join(name);
        std::fs::write(&path, content).expect("the test's own directory");
        path.display().to_string()
    }

    /// Applies objects.
    pub(crate) fn apply(&self, name: &str, objects: &str) {
        let file = self.file(name, objects);
        self.corten(&["apply", "--server-side", "--force-conflicts", "-f", &file])
            .ok();
    }

    /// An object as the API has it; null if it is not there.
    pub(crate) fn get(&self, namespace: &str, what: &str) -> Value {
        let output = self.corten(&["get", "-n", namespace, what, "-o", "json"]);
        match output.code {
            Some(0) => serde_json::from_str(&output.stdout).expect("-o json is JSON"),
            _ => Value::Null,
        }
    }
}

/// Fails unless a text has all these parts.
#[track_caller]
pub(crate) fn has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "no {part:?} in:\n{text}");
    }
}
