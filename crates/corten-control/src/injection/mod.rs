//! Injection: pods get their proxy when they are made, by the API server, who asks here.
//!
//! Three parts: what is known of the cluster for it ([`known`]), the answer to one review ([`review`], pure), and here the HTTPS port's side.
//! The registration by which API servers know of it is cared for beside that of validation.

mod known;
mod review;

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use http::StatusCode;

use crate::http::{Answer, Request};
use crate::metrics::Metrics;

pub(crate) use known::{Known, Watcher};

/// Where reviews are sent to; what follows are variables for the proxy.
pub(crate) const PATH: &str = "/inject";

/// Answers what API servers ask.
pub(crate) struct Injection {
    /// What is known; nothing before everything has been read.
    pub(crate) known: Arc<ArcSwapOption<Known>>,
    pub(crate) metrics: Arc<Metrics>,
}

impl Injection {
    /// Whether a request is one for injection.
    pub(crate) fn concerns(path: &str) -> bool {
        path == PATH || path.strip_prefix(PATH).is_some_and(|rest| rest.starts_with('/'))
    }

    /// Answers one request.
    pub(crate) fn answer(&self, request: &Request) -> Answer {
        let json = |value: &http::HeaderValue| value.to_str().is_ok_and(|text| text.starts_with("application/json"));
        if !request.headers.get(http::header::CONTENT_TYPE).is_some_and(json) {
            return Answer::error(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "reviews are sent as application/json\n",
            );
        }
        let Some(known) = self.known.load_full() else {
            return Answer::error(StatusCode::SERVICE_UNAVAILABLE, "the cluster has not been read yet\n");
        };
        self.metrics.injection_requests.add(1);
        match review::answer(&request.body, request.uri.path(), &known) {
            Ok((answer, outcome)) => {
                match outcome {
                    review::Outcome::Injected => self.metrics.injection_success.add(1),
                    review::Outcome::Skipped => self.metrics.injection_skipped.add(1),
                    review::Outcome::Failed => self.metrics.injection_failures.add(1),
                }
                Answer::json(&answer, false)
            }
            Err(error) => {
                self.metrics.injection_failures.add(1);
                tracing::warn!(remote = %request.remote, %error, "a review cannot be answered");
                Answer::error(StatusCode::BAD_REQUEST, format!("{error}\n"))
            }
        }
    }
}
