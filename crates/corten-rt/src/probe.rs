//! Readiness probes that are answered when the answer is known.
//!
//! A probe that finds a program in its first half second and is told "not yet" comes again a whole period later; one that waits a moment
//! hears "yes" as soon as it is true. What starts after it starts that much earlier.

use std::future::Future;
use std::time::Duration;

/// How long an answer waits: less than the second that Kubernetes waits for it unless told otherwise (`timeoutSeconds`).
const PATIENCE: Duration = Duration::from_millis(900);

/// Resolves when `ready` does, or when a probe can be left waiting no longer. Whoever asked looks again then, and answers what is.
pub async fn ready_or_late(ready: impl Future<Output = ()>) {
    // Late is an answer too.
    let _ = tokio::time::timeout(PATIENCE, ready).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_answer_waits_for_readiness_and_no_longer_than_a_probe() {
        let begin = tokio::time::Instant::now();
        ready_or_late(tokio::time::sleep(Duration::from_millis(300))).await;
        assert_eq!(begin.elapsed(), Duration::from_millis(300));
        ready_or_late(std::future::pending()).await;
        assert!(
            begin.elapsed() < Duration::from_millis(1300),
            "within the second of a probe"
        );
    }
}
