//! Admission: what is wrong with an object of the mesh is said when it is written, by the API server, with the field.
//!
//! Three parts: the verdict about one object ([`review`], pure), the HTTPS port that API servers call (here), and the care for the
//! registration by which they know of it ([`registration`]).

mod registration;
mod review;

use std::sync::Arc;

use corten_model::Settings as MeshSettings;
use http::StatusCode;
use serde_json::Value;

pub use registration::Policy;
pub(crate) use registration::{Registration, Task};
pub(crate) use review::ReviewError;
use review::Verdict;

use crate::http::{Answer, Request};
use crate::metrics::Metrics;

/// Twice the largest object that API servers take (an update holds two), and what is around it.
pub(crate) const BODY_BYTES_MAX: usize = 8 << 20;
/// Where reviews are sent to.
const PATH: &str = "/validate";

/// Answers what API servers ask.
pub(crate) struct Admission {
    pub(crate) settings: MeshSettings,
    pub(crate) metrics: Arc<Metrics>,
}

impl Admission {
    /// Answers one request.
    pub(crate) fn answer(&self, request: &Request) -> Answer {
        // Before 1.0, Istio's configurations of webhooks named the path with a suffix.
        if request.uri.path() != PATH {
            return Answer::error(StatusCode::NOT_FOUND, "reviews are posted to /validate\n");
        }
        match review::answer(&request.body, &self.settings) {
            Ok((answer, verdict)) => {
                self.count(&request.body, verdict);
                Answer::json(&answer, false)
            }
            Err(error) => {
                self.metrics.validation_http_errors.add(1);
                tracing::warn!(remote = %request.remote, %error, "a review cannot be answered");
                Answer::error(StatusCode::BAD_REQUEST, format!("{error}\n"))
            }
        }
    }

    fn count(&self, body: &[u8], verdict: Verdict) {
        let review: Value = serde_json::from_slice(body).unwrap_or_default();
        let request = &review["request"];
        let text = |field: &str| request["resource"][field].as_str().unwrap_or_default();
        // The groups of our rules are few, but anybody can post here.
        let known = corten_api::kind(text("group"), request["kind"]["kind"].as_str().unwrap_or_default());
        let resource = known.map_or("other", |known| known.kind.plural);
        let family = match verdict {
            Verdict::Passed => &self.metrics.validation_passed,
            Verdict::Refused => {
                let (namespace, name) = (&request["namespace"], &request["name"]);
                tracing::info!(resource, %namespace, %name, "an object was refused");
                &self.metrics.validation_failed
            }
        };
        family.add(resource, 1);
    }
}
