//! One namespace of a cluster, as a user at a shell sees it.

use std::fs;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::Value;

use crate::eventually;
use crate::runtime::{Output, Runtime, run};

/// How long things may take on a machine that is busy with much else.
const LOADED: Duration = Duration::from_secs(60);

/// A namespace of its own for each scenario, so that many can run at once on one instance.
#[derive(Debug)]
pub struct Namespace<'a> {
    runtime: &'a Runtime,
    name: String,
    files: AtomicUsize,
}

impl<'a> Namespace<'a> {
    /// Makes the namespace, whose name begins so; the instance `default` must run, or the Kubernetes be there.
    ///
    /// # Panics
    /// If it cannot be made.
    #[track_caller]
    pub fn new(runtime: &'a Runtime, name: &str) -> Self {
        let name = runtime.namespace(name);
        let this = Self {
            runtime,
            name: name.clone(),
            files: AtomicUsize::new(0),
        };
        this.apply(&format!(
            "apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}}}\n"
        ));
        this
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The cluster it is on.
    pub fn runtime(&self) -> &'a Runtime {
        self.runtime
    }

    /// Any program with `KUBECONFIG` set, not yet started.
    pub fn program(&self, program: &str, args: &[&str]) -> Command {
        let mut command = self.runtime.program(program, args);
        command.env("KUBECONFIG", self.runtime.kubeconfig());
        command
    }

    /// A verb in this namespace, not yet started. The words end where `-n` goes: the verb, and what it is about.
    pub fn command(&self, verb: &[&str], args: &[&str]) -> Command {
        self.program("corten", &[verb, &["-n", &self.name], args].concat())
    }

    /// Runs `corten VERB -n NAMESPACE ARGS` to its end.
    ///
    /// # Panics
    /// If it cannot be run.
    #[track_caller]
    pub fn corten(&self, verb: &str, args: &[&str]) -> Output {
        run(self.command(&verb.split(' ').collect::<Vec<_>>(), args))
    }

    /// Runs `corten VERB -n NAMESPACE ARGS` in another namespace.
    ///
    /// # Panics
    /// If it cannot be run.
    #[track_caller]
    pub fn corten_in(&self, namespace: &str, verb: &str, args: &[&str]) -> Output {
        run(self.program("corten", &[&[verb, "-n", namespace], args].concat()))
    }

    /// Applies objects, which must succeed.
    ///
    /// # Panics
    /// If it does not.
    #[track_caller]
    pub fn apply(&self, objects: &str) -> String {
        self.try_apply(objects).ok()
    }

    /// Applies objects.
    ///
    /// # Panics
    /// If the command cannot be run.
    #[track_caller]
    pub fn try_apply(&self, objects: &str) -> Output {
        self.corten("apply", &["-f", &self.file(objects)])
    }

    /// Writes a file where commands run; its name.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn file(&self, content: &str) -> String {
        let number = self.files.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}-{number}.yaml", self.name);
        fs::write(self.runtime.dir().join(&name), content).expect("the test's own directory");
        name
    }

    /// An object as the API has it.
    ///
    /// # Panics
    /// If it is not there.
    #[track_caller]
    pub fn get(&self, what: &str) -> Value {
        let json = self.corten("get", &[what, "-o", "json"]).ok();
        serde_json::from_str(&json).expect("-o json is JSON")
    }

    /// Waits for a condition by `corten wait`.
    ///
    /// # Panics
    /// If it does not come to hold.
    #[track_caller]
    pub fn wait(&self, what: &str, condition: &str) {
        let output = self.corten("wait", &[what, &format!("--for={condition}"), "--timeout=180s"]);
        if output.code != Some(0) {
            let now = self.corten("get", &[what, "-o", "yaml"]).stdout;
            panic!("{what} {condition}: {}{}\n{now}", output.stdout, output.stderr);
        }
    }

    /// Waits until a field of an object satisfies `holds`.
    ///
    /// # Panics
    /// If it does not come to.
    #[track_caller]
    pub fn until(&self, what: &str, pointer: &str, holds: impl Fn(&Value) -> bool) -> Value {
        eventually(LOADED, || {
            let object = self.get(what);
            let value = object.pointer(pointer).cloned().unwrap_or_default();
            if holds(&value) {
                Ok(value)
            } else {
                Err(format!("{what} {pointer} of {object:#}"))
            }
        })
    }

    /// Runs a shell script in a pod; what it printed.
    ///
    /// # Panics
    /// If it fails.
    #[track_caller]
    pub fn sh(&self, pod: &str, script: &str) -> String {
        self.corten("exec", &[pod, "--", "sh", "-ec", script]).ok()
    }

    /// What a container has written.
    ///
    /// # Panics
    /// If there is no such log.
    #[track_caller]
    pub fn logs(&self, args: &[&str]) -> String {
        self.corten("logs", args).ok()
    }

    /// Waits until a pod's log has all these parts, in this order.
    ///
    /// # Panics
    /// If it does not come to.
    #[track_caller]
    pub fn logged(&self, args: &[&str], parts: &[&str]) {
        eventually(LOADED, || {
            let output = self.corten("logs", args);
            let mut rest = output.stdout.as_str();
            for part in parts {
                match rest.split_once(part) {
                    Some((_, after)) => rest = after,
                    None => {
                        return Err(format!(
                            "no {part:?} in its place in {}{}",
                            output.stdout, output.stderr
                        ));
                    }
                }
            }
            Ok(())
        });
    }
}

impl Drop for Namespace<'_> {
    /// Nothing stays on a Kubernetes that others use; of a scenario that failed, its pods are told first.
    fn drop(&mut self) {
        if !self.runtime.is_kubernetes() {
            return;
        }
        if std::thread::panicking() {
            let pods = self.corten("get", &["pods", "-o", "wide"]);
            let events = self.corten("get", &["events"]);
            eprintln!("--- pods of {}:\n{}{}", self.name, pods.stdout, events.stdout);
        }
        let mut delete = self.program("corten", &["delete", "namespace", &self.name, "--wait=false"]);
        drop(delete.output());
    }
}
