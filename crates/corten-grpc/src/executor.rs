//! Where `hyper` puts the tasks it needs: into a group, so that they end with the connection's owner.

use std::future::Future;

use corten_rt::TaskGroup;

/// Runs `hyper`'s background futures in a task group.
#[derive(Clone, Debug)]
pub(crate) struct Executor(pub(crate) TaskGroup);

impl<F> hyper::rt::Executor<F> for Executor
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, future: F) {
        self.0.spawn("http2", future);
    }
}
