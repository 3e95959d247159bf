//! Components: the long-running parts, which are restarted when they end though nobody asked them to.

use std::fmt::Display;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use corten_rt::{Drain, TaskGroup};
use futures_util::FutureExt;
use tokio::time::Instant;

use super::board::Board;

/// First wait before a restart; it doubles up to [`BACKOFF_MAX`].
const BACKOFF_MIN: Duration = Duration::from_millis(100);

/// Longest wait before a restart. A component that ran for longer than this begins anew.
const BACKOFF_MAX: Duration = Duration::from_secs(10);

/// A component that has run for this long is all right again.
const SETTLED: Duration = Duration::from_secs(2);

/// Runs a component until the group drains; `make` makes it anew for each start.
pub(crate) fn keep_running<M, F, E>(tasks: &TaskGroup, board: &Arc<Board>, name: &str, mut make: M)
where
    M: FnMut(Drain) -> F + Send + 'static,
    F: Future<Output = Result<(), E>> + Send + 'static,
    E: Display + Send,
{
    let board = board.clone();
    let mut drain = tasks.drain();
    let component = name.to_owned();
    tasks.spawn(name, async move {
        let mut backoff = BACKOFF_MIN;
        loop {
            let begin = Instant::now();
            // Each start makes its state anew, so none is seen half-changed after a panic.
            let run = AssertUnwindSafe(make(drain.clone())).catch_unwind();
            tokio::pin!(run);
            let ended = tokio::select! {
                ended = &mut run => ended,
                () = tokio::time::sleep(SETTLED) => {
                    board.component(&component, None);
                    run.await
                }
            };
            if drain.is_draining() {
                return;
            }
            let reason = match ended {
                Ok(Ok(())) => "ended without being asked to".to_owned(),
                Ok(Err(error)) => error.to_string(),
                Err(_) => "panicked (the log has the details)".to_owned(),
            };
            if begin.elapsed() > BACKOFF_MAX {
                backoff = BACKOFF_MIN;
            }
            tracing::error!(component, reason, "a component ended and will be restarted");
            board.component(&component, Some(format!("restarting: {reason}")));
            tokio::select! {
                () = tokio::time::sleep(backoff) => {}
                () = drain.wait() => return,
            }
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
    });
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::status::RuntimeStatus;

    #[tokio::test(start_paused = true)]
    async fn a_component_that_ends_or_panics_is_reported_and_restarted() {
        let tasks = TaskGroup::new("test");
        let board = Arc::new(Board::new(RuntimeStatus::default()));
        let mut status = board.subscribe();
        let starts = Arc::new(AtomicUsize::new(0));
        let counter = starts.clone();
        keep_running(&tasks, &board, "dns", move |mut drain| {
            let start = counter.fetch_add(1, Ordering::Relaxed);
            async move {
                match start {
                    0 => Err("no socket"),
                    1 => panic!("on purpose"),
                    _ => {
                        drain.wait().await;
                        Ok(())
                    }
                }
            }
        });
        let mut seen = Vec::new();
        while starts.load(Ordering::Relaxed) < 3 || !status.borrow().problems.is_empty() {
            status.changed().await.unwrap();
            seen.extend(
                status
                    .borrow_and_update()
                    .problems
                    .iter()
                    .map(|problem| problem.message.clone()),
            );
        }
        assert_eq!(
            seen,
            [
                "restarting: no socket",
                "restarting: panicked (the log has the details)"
            ]
        );
        assert!(tasks.shutdown(Duration::from_secs(1)).await.is_empty());
        assert_eq!(starts.load(Ordering::Relaxed), 3);
    }
}
