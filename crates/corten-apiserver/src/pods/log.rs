//! `log`: the query read, the container chosen, the backend's stream passed on.

use hyper::Response;
use hyper::header::HeaderValue;
use serde_json::Value;

use super::LogOptions;
use crate::http::{Body, Call, Query, Target, respond};
use crate::object;
use crate::status::Status;

/// Answers a `log` request.
pub(crate) async fn log(call: Call<'_>, target: Target) -> Result<Response<Body>, Status> {
    let (pod, backend) = super::running(call.api(), &target)?;
    let options = options(&call.query, &pod)?;
    let lines = backend.logs(&pod, options).await?;
    Ok(respond::with_type(
        200,
        HeaderValue::from_static("text/plain"),
        Body::Stream(lines),
    ))
}

fn options(query: &Query, pod: &Value) -> Result<LogOptions, Status> {
    let options = LogOptions {
        container: super::container(pod, query.text("container"), "logs")?,
        follow: query.flag("follow"),
        previous: query.flag("previous"),
        timestamps: query.flag("timestamps"),
        since_seconds: query.number("sinceSeconds")?,
        since_time: query.text("sinceTime").map(str::to_owned),
        tail_lines: query.number("tailLines")?,
        limit_bytes: query.number("limitBytes")?,
    };
    if options.since_seconds.is_some() && options.since_time.is_some() {
        return Err(Status::bad_request(
            "at most one of `sinceTime` or `sinceSeconds` may be specified",
        ));
    }
    let node = object::text(pod, &["spec", "nodeName"]);
    if node.is_empty() {
        return Err(Status::bad_request(format!(
            "pod {} does not have a host assigned",
            object::name(pod)
        )));
    }
    Ok(options)
}
