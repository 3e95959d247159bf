//! `?url=`: the server calls somebody else and reports, so that one can see who can call whom.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Uri};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde::Serialize;

/// How long one call may take, and how much of its answer is repeated.
const TIMEOUT: Duration = Duration::from_secs(10);
const BODY_MAX: usize = 64 << 10;

/// What became of one call.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// The answer's status code; absent when there was no answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    /// The pod that answered, if it says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pod: Option<String>,
    /// Why there was no answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// The answer, or its beginning.
    #[serde(skip_serializing_if = "String::is_empty")]
    body: String,
}

/// Calls so many times, each over a connection of its own, one after the other.
pub(crate) async fn call(url: &str, count: u32) -> Result<Vec<Report>, String> {
    let uri: Uri = url.parse().map_err(|error| format!("url {url:?}: {error}"))?;
    if uri.scheme_str() != Some("http") || uri.host().is_none() {
        return Err(format!("url {url:?} does not begin with http://HOST"));
    }
    let mut reports = Vec::new();
    for _ in 0..count {
        reports.push(match tokio::time::timeout(TIMEOUT, once(&uri)).await {
            Ok(Ok(report)) => report,
            Ok(Err(error)) => Report {
                status: None,
                pod: None,
                error: Some(error),
                body: String::new(),
            },
            Err(_) => Report {
                status: None,
                pod: None,
                error: Some(format!("no answer within {TIMEOUT:?}")),
                body: String::new(),
            },
        });
    }
    Ok(reports)
}

async fn once(uri: &Uri) -> Result<Report, String> {
    let client = Client::builder(TokioExecutor::new())
        .pool_max_idle_per_host(0)
        .build_http::<Empty<Bytes>>();
    let request = Request::get(uri.clone())
        .body(Empty::new())
        .map_err(|error| error.to_string())?;
    let response = client.request(request).await.map_err(|error| chain(&error))?;
    let pod = response
        .headers()
        .get(super::server::POD)
        .and_then(|value| value.to_str().ok())
        .map(str::to_owned);
    let status = Some(response.status().as_u16());
    let body = Limited::new(response.into_body(), BODY_MAX)
        .collect()
        .await
        .map(http_body_util::Collected::to_bytes);
    let body = body.map_or_else(
        |error| format!("({error})"),
        |body| String::from_utf8_lossy(&body).into_owned(),
    );
    Ok(Report {
        status,
        pod,
        error: None,
        body,
    })
}

/// An error with its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text = format!("{text}: {next}");
        cause = next.source();
    }
    text
}
