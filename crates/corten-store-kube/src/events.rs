//! Warnings about objects as Kubernetes' Events: one for each object and reason, which is counted up when it is said again.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use kube::Client;
use serde_json::{Value, json};

/// How long the message of an Event may be.
const CHARS_MAX: usize = 1024;
/// So long API servers keep an Event after it was written last.
const KEPT: Duration = Duration::from_secs(3600);

/// The Events that were written.
#[derive(Debug, Default)]
pub(crate) struct Events {
    /// By the object's uid and the reason.
    told: Mutex<HashMap<(String, String), Told>>,
}

#[derive(Debug, Clone)]
struct Told {
    name: String,
    count: u64,
    at: Instant,
}

impl Events {
    /// Says something about an object: anew, or once more.
    pub(crate) async fn warn(
        &self,
        client: &Client,
        involved: &Value,
        reason: &str,
        message: &str,
    ) -> Result<(), kube::Error> {
        let key = (
            involved["uid"].as_str().unwrap_or_default().to_owned(),
            reason.to_owned(),
        );
        let known = {
            let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
            told.retain(|_, told| told.at.elapsed() < KEPT);
            told.get(&key).cloned()
        };
        let namespace = involved["namespace"].as_str().unwrap_or("default");
        let path = format!("/api/v1/namespaces/{namespace}/events");
        let now = Timestamp::now();
        let message: String = message.chars().take(CHARS_MAX).collect();
        if let Some(known) = known {
            let count = known.count + 1;
            let more = json!({"message": message, "count": count, "lastTimestamp": format!("{now:.0}")});
            let patch = http::Request::patch(format!("{path}/{}", known.name))
                .header(http::header::CONTENT_TYPE, "application/merge-patch+json")
                .body(more.to_string().into_bytes())
                .map_err(kube::Error::HttpError)?;
            match client.request::<Value>(patch).await {
                // Its time is over, or somebody removed it.
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                result => {
                    result?;
                    self.remember(key, known.name, count);
                    return Ok(());
                }
            }
        }
        let object = involved["name"].as_str().unwrap_or_default();
        let name = format!("{object}.{:x}", now.as_nanosecond());
        let body = json!({
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": namespace},
            "involvedObject": involved,
            "type": "Warning", "reason": reason, "message": message, "count": 1,
            "firstTimestamp": format!("{now:.0}"), "lastTimestamp": format!("{now:.0}"),
            "source": {"component": "istiod"}, "reportingComponent": "istiod", "reportingInstance": "",
        });
        let post = http::Request::post(&path)
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(body.to_string().into_bytes())
            .map_err(kube::Error::HttpError)?;
        client.request::<Value>(post).await?;
        self.remember(key, name, 1);
        Ok(())
    }

    fn remember(&self, key: (String, String), name: String, count: u64) {
        let at = Instant::now();
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.insert(key, Told { name, count, at });
    }
}
