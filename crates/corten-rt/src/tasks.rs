//! Task groups: every task has a name and ends when its group ends.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{AbortHandle, Id, JoinSet};

/// The word to finish: cloned into every task that has something to bring to an end.
#[derive(Clone, Debug)]
pub struct Drain(watch::Receiver<bool>);

impl Drain {
    /// Resolves when the group is told to shut down (at once if it already was). Cancel safe.
    pub async fn wait(&mut self) {
        // An error means that the group is gone, which is the same message.
        let _ = self.0.wait_for(|draining| *draining).await;
    }

    /// Whether the group has been told to shut down.
    pub fn is_draining(&self) -> bool {
        *self.0.borrow()
    }
}

/// A named set of tasks that starts, drains and ends together.
///
/// Cheap to clone; the tasks are aborted when [`shutdown`](Self::shutdown) has waited long enough, or when the last clone is dropped.
#[derive(Clone, Debug)]
pub struct TaskGroup {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    name: String,
    drain: watch::Sender<bool>,
    /// The first vital task that ended too early.
    failed: watch::Sender<Option<String>>,
    tasks: Mutex<Tasks>,
}

#[derive(Debug, Default)]
struct Tasks {
    set: JoinSet<()>,
    names: HashMap<Id, String>,
}

impl TaskGroup {
    /// An empty group. The name appears in log lines about its tasks.
    pub fn new(name: impl Into<String>) -> Self {
        let (drain, _) = watch::channel(false);
        Self {
            inner: Arc::new(Inner {
                name: name.into(),
                drain,
                failed: watch::channel(None).0,
                tasks: Mutex::default(),
            }),
        }
    }

    /// The group's drain signal.
    pub fn drain(&self) -> Drain {
        Drain(self.inner.drain.subscribe())
    }

    /// Runs a task until it ends by itself or the group ends. A panic ends that task alone and is logged with its name.
    ///
    /// Must be called within a tokio runtime.
    pub fn spawn(&self, name: impl Into<String>, task: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
        let mut tasks = self
            .inner
            .tasks
            .lock()
            .expect("no panic while the task table is locked");
        // Finished tasks are taken out here, so that a group of short tasks does not grow.
        while let Some(ended) = tasks.set.try_join_next_with_id() {
            report(&self.inner.name, &mut tasks.names, ended);
        }
        let handle = tasks.set.spawn(task);
        tasks.names.insert(handle.id(), name.into());
        handle
    }

    /// Like [`spawn`](Self::spawn) for a task that listens to the drain signal.
    pub fn serve<F: Future<Output = ()> + Send + 'static>(
        &self,
        name: impl Into<String>,
        task: impl FnOnce(Drain) -> F,
    ) -> AbortHandle {
        self.spawn(name, task(self.drain()))
    }

    /// Like [`serve`](Self::serve) for a task without which the process is of no use: where it ends before the group is told to
    /// finish, by a panic or otherwise, the group has [failed](Self::failed).
    pub fn vital<F: Future<Output = ()> + Send + 'static>(
        &self,
        name: impl Into<String>,
        task: impl FnOnce(Drain) -> F,
    ) -> AbortHandle {
        let name = name.into();
        let guard = Vital {
            name: name.clone(),
            drain: self.drain(),
            failed: self.inner.failed.clone(),
        };
        let task = task(self.drain());
        self.spawn(name, async move {
            // Dropped with the task, however it ends.
            let _guard = guard;
            task.await;
        })
    }

    /// Resolves with the name of a vital task that ended too early, at once if one has. Cancel safe.
    pub async fn failed(&self) -> String {
        let mut failed = self.inner.failed.subscribe();
        match failed.wait_for(Option::is_some).await.map(|name| name.clone()) {
            Ok(name) => name.unwrap_or_default(),
            // The sender is in the group that this is called on.
            Err(_) => std::future::pending().await,
        }
    }

    /// Tells every task to finish, waits up to `grace`, aborts the rest and returns the names of those.
    pub async fn shutdown(&self, grace: Duration) -> Vec<String> {
        self.inner.drain.send_replace(true);
        let (mut set, mut names) = {
            let mut tasks = self
                .inner
                .tasks
                .lock()
                .expect("no panic while the task table is locked");
            (std::mem::take(&mut tasks.set), std::mem::take(&mut tasks.names))
        };
        let all = async {
            while let Some(ended) = set.join_next_with_id().await {
                report(&self.inner.name, &mut names, ended);
            }
        };
        if tokio::time::timeout(grace, all).await.is_ok() {
            return Vec::new();
        }
        set.abort_all();
        let mut late: Vec<String> = names.into_values().collect();
        late.sort();
        while set.join_next().await.is_some() {}
        late
    }
}

/// Tells of the end of a task when it is dropped.
struct Vital {
    name: String,
    drain: Drain,
    failed: watch::Sender<Option<String>>,
}

impl Drop for Vital {
    fn drop(&mut self) {
        if !self.drain.is_draining() {
            // What ends because of it is not what failed.
            self.failed.send_if_modified(|failed| {
                let first = failed.is_none();
                failed.get_or_insert_with(|| std::mem::take(&mut self.name));
                first
            });
        }
    }
}

/// Forgets an ended task and says when it ended by a panic.
fn report(group: &str, names: &mut HashMap<Id, String>, ended: Result<(Id, ()), tokio::task::JoinError>) {
    match ended {
        Ok((id, ())) => {
            names.remove(&id);
        }
        Err(error) => {
            let task = names.remove(&error.id()).unwrap_or_default();
            if error.is_panic() {
                tracing::error!(group, task, %error, "task panicked");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn shutdown_waits_for_those_who_listen_and_names_those_who_do_not() {
        let group = TaskGroup::new("test");
        group.serve("polite", |mut drain| async move { drain.wait().await });
        group.spawn("deaf", std::future::pending());
        assert_eq!(group.shutdown(Duration::from_secs(1)).await, ["deaf"]);
    }

    #[tokio::test]
    async fn a_group_fails_with_a_vital_task_that_ends_too_early() {
        let group = TaskGroup::new("test");
        group.vital("polite", |mut drain| async move { drain.wait().await });
        group.vital("bad", |_| async { panic!("on purpose") });
        assert_eq!(group.failed().await, "bad");
        group.vital("later", |_| async {});
        assert_eq!(group.failed().await, "bad", "the first is told");
        group.shutdown(Duration::from_secs(5)).await;

        let group = TaskGroup::new("another");
        group.vital("polite", |mut drain| async move { drain.wait().await });
        group.shutdown(Duration::from_secs(5)).await;
        let failed = tokio::time::timeout(Duration::ZERO, group.failed()).await;
        assert!(failed.is_err(), "{failed:?} was told to end");

        let group = TaskGroup::new("third");
        group.vital("done", |_| async {});
        assert_eq!(group.failed().await, "done");
    }

    #[tokio::test]
    async fn a_panic_ends_only_its_own_task() {
        let group = TaskGroup::new("test");
        group.spawn("bad", async { panic!("on purpose") });
        let (done, ended) = tokio::sync::oneshot::channel();
        group.spawn("good", async move { done.send(()).expect("the test waits") });
        ended.await.expect("the good task ran");
        assert!(group.shutdown(Duration::from_secs(5)).await.is_empty());
    }
}
