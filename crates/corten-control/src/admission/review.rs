//! The verdict about one object: an AdmissionReview in, an AdmissionReview out. Pure.
//!
//! The judge is the validator of `corten-api`, which the command line uses as well; what it calls an error refuses the object, all else is
//! told as a warning, together with what the mesh would not honour.

use corten_api::decode::SpannedObject;
use corten_api::diagnostic::{Code, Diagnostic, Severity};
use corten_model::Settings as MeshSettings;
use serde_json::{Value, json};

/// Warnings that fit: API servers cut what is longer than 4096 bytes in all.
const WARNING_BYTES_MAX: usize = 4000;
/// Problems that are listed when an object is refused; there may be one for each line of it.
const PROBLEMS_MAX: usize = 20;

/// What became of a review, for those who count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The object may be as it is.
    Passed,
    /// The object is refused.
    Refused,
}

/// A request that is no AdmissionReview.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReviewError {
    /// Not JSON.
    #[error("the body is not JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// JSON of another shape.
    #[error("the body is not an AdmissionReview of admission.k8s.io/v1 with a request that has a uid")]
    Shape,
}

/// Answers a review.
pub(crate) fn answer(body: &[u8], settings: &MeshSettings) -> Result<(Value, Verdict), ReviewError> {
    let review: Value = serde_json::from_slice(body)?;
    let request = &review["request"];
    let Some(uid) = request["uid"].as_str().filter(|uid| !uid.is_empty()) else {
        return Err(ReviewError::Shape);
    };
    // v1beta1 differs in nothing that matters here; old API servers send it.
    if review["kind"] != "AdmissionReview" || !review["apiVersion"].as_str().is_some_and(|v| v.starts_with(GROUP)) {
        return Err(ReviewError::Shape);
    }
    let (response, verdict) = judge(request, settings);
    let mut response = response;
    response["uid"] = json!(uid);
    let answer = json!({ "apiVersion": review["apiVersion"], "kind": "AdmissionReview", "response": response });
    Ok((answer, verdict))
}

const GROUP: &str = "admission.k8s.io/";

fn judge(request: &Value, settings: &MeshSettings) -> (Value, Verdict) {
    let allowed = (json!({ "allowed": true }), Verdict::Passed);
    let object = &request["object"];
    let is_written = matches!(request["operation"].as_str(), Some("CREATE" | "UPDATE"));
    // An object on its way out must be able to lose its finalizers, however wrong it is.
    if !is_written || !object.is_object() || !object["metadata"]["deletionTimestamp"].is_null() {
        return allowed;
    }
    // The status is the controllers' to write.
    if request["subResource"].as_str().is_some_and(|sub| !sub.is_empty()) {
        return allowed;
    }
    let spanned = SpannedObject::from_value(object);
    let mut found = diagnostics(&spanned);
    found.extend(corten_model::rules::unhonoured(object, settings));
    let errors: Vec<&Diagnostic> = found.iter().filter(|diagnostic| diagnostic.is_error()).collect();
    let mut response = if errors.is_empty() {
        allowed.0
    } else {
        refusal(&spanned, &errors)
    };
    let warnings = warnings(&found);
    if !warnings.is_empty() {
        response["warnings"] = json!(warnings);
    }
    let verdict = if errors.is_empty() {
        Verdict::Passed
    } else {
        Verdict::Refused
    };
    (response, verdict)
}

/// What is wrong with an object.
fn diagnostics(object: &SpannedObject) -> Vec<Diagnostic> {
    let group = object.reference.group();
    let is_istios = group.ends_with(".istio.io");
    if is_istios && corten_api::kind(group, &object.reference.kind).is_none() {
        let message = format!("no kind of Istio is called {}", object.reference.kind);
        return vec![object.diagnostic(Code::UNKNOWN_KIND, Severity::Error, "kind", message)];
    }
    let mut found = corten_api::validate::object(object);
    if !is_istios {
        // Definitions of the Gateway API may be newer than we are, and their objects meant for other controllers: what only is unknown
        // to us refuses nothing. What breaks the definitions themselves never comes here.
        let newer = [Code::UNKNOWN_KIND, Code::OUT_OF_RANGE, Code::CONFLICT];
        for diagnostic in found.iter_mut().filter(|d| newer.contains(&d.code)) {
            diagnostic.severity = Severity::Warning;
        }
    }
    found
}

fn refusal(object: &SpannedObject, errors: &[&Diagnostic]) -> Value {
    let mut lines: Vec<String> = errors.iter().take(PROBLEMS_MAX).map(|error| line(error)).collect();
    if let Some(more) = errors.len().checked_sub(PROBLEMS_MAX).filter(|more| *more > 0) {
        lines.push(format!("and {more} more problems"));
    }
    let causes = errors
        .iter()
        .take(PROBLEMS_MAX)
        .map(|error| json!({ "reason": "FieldValueInvalid", "field": error.path, "message": error.message }));
    json!({
        "allowed": false,
        "status": {
            "status": "Failure",
            "code": 400,
            "reason": "BadRequest",
            "message": format!("configuration is invalid: {}", lines.join("; ")),
            "details": {
                "group": object.reference.group(),
                "kind": object.reference.kind,
                "name": object.reference.name,
                "causes": causes.collect::<Vec<_>>(),
            },
        },
    })
}

fn line(diagnostic: &Diagnostic) -> String {
    match diagnostic.path.as_str() {
        "" => diagnostic.message.clone(),
        path => format!("{path}: {}", diagnostic.message),
    }
}

/// The warnings, as many as fit.
fn warnings(found: &[Diagnostic]) -> Vec<String> {
    let mut left = WARNING_BYTES_MAX;
    let lines = found.iter().filter(|diagnostic| !diagnostic.is_error());
    let lines = lines.map(|diagnostic| format!("{} [{}]", line(diagnostic), diagnostic.code));
    let fits = |line: &String| {
        let fits = line.len() <= left;
        left = left.saturating_sub(line.len());
        fits
    };
    lines.take_while(fits).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn review(operation: &str, object: Value) -> Value {
        json!({ "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
            "request": { "uid": "u1", "operation": operation, "object": object } })
    }

    fn object(api_version: &str, kind: &str, spec: Value) -> Value {
        let metadata = json!({ "name": "a", "namespace": "shop" });
        json!({ "apiVersion": api_version, "kind": kind, "metadata": metadata, "spec": spec })
    }

    fn ask(review: &Value) -> Value {
        let (answer, verdict) = answer(review.to_string().as_bytes(), &MeshSettings::default()).expect("an answer");
        assert_eq!(answer["kind"], "AdmissionReview");
        let response = answer["response"].clone();
        assert_eq!(response["uid"], "u1");
        assert_eq!(response["allowed"] == true, verdict == Verdict::Passed);
        response
    }

    /// What is said about a created object: refused with these fields, or warned of these.
    #[track_caller]
    fn check(api_version: &str, kind: &str, spec: Value, refused: &[&str], warned: &[&str]) {
        let response = ask(&review("CREATE", object(api_version, kind, spec)));
        let causes = response["status"]["details"]["causes"].as_array().cloned();
        let fields: Vec<Value> = causes
            .unwrap_or_default()
            .iter()
            .map(|cause| cause["field"].clone())
            .collect();
        assert_eq!(fields, refused, "{response:#}");
        assert_eq!(response["allowed"], refused.is_empty());
        let warnings = response["warnings"].as_array().cloned().unwrap_or_default();
        assert_eq!(warnings.len(), warned.len(), "{response:#}");
        for (warning, part) in warnings.iter().zip(warned) {
            assert!(
                warning.as_str().is_some_and(|warning| warning.contains(part)),
                "{warning}"
            );
        }
    }

    #[test]
    fn the_validator_decides() {
        let peer = "PeerAuthentication";
        check(
            "security.istio.io/v1",
            peer,
            json!({"mtls": {"mode": "STRICT"}}),
            &[],
            &[],
        );
        check(
            "security.istio.io/v1beta1",
            peer,
            json!({"mtls": {"mode": "STRICT"}}),
            &[],
            &[],
        );
        let odd = json!({"mtls": {"mode": "SOMETIMES"}});
        check("security.istio.io/v1", peer, odd, &["spec.mtls.mode"], &[]);
        let odd = json!({"portLevelMtls": {"8080": {"mode": "STRICT"}}});
        check("security.istio.io/v1", peer, odd, &["spec.portLevelMtls"], &[]);
        let methods = json!({"rules": [{"to": [{"operation": {"methods": ["GET"]}}]}]});
        check(
            "security.istio.io/v1",
            "AuthorizationPolicy",
            methods,
            &[],
            &["operation.methods"],
        );
        check("security.istio.io/v1", "Nonsense", json!({}), &["kind"], &[]);
        check("example.org/v1", "Other", json!({}), &[], &[]);
    }

    #[test]
    fn gateway_api_may_be_newer_than_we_are() {
        let newer = json!({"rules": [{"filters": [{"type": "FromTheFuture"}]}]});
        let api = "gateway.networking.k8s.io";
        check(&format!("{api}/v1"), "HTTPRoute", newer, &[], &["filters[0].type"]);
        check(&format!("{api}/v9"), "HTTPRoute", json!({}), &[], &[]);
        check(&format!("{api}/v1"), "FutureRoute", json!({}), &[], &[]);
    }

    #[test]
    fn only_what_is_written_is_judged() {
        let mut wrong = object(
            "security.istio.io/v1",
            "PeerAuthentication",
            json!({"mtls": {"mode": "X"}}),
        );
        assert_eq!(ask(&review("UPDATE", wrong.clone()))["allowed"], false);
        assert_eq!(ask(&review("CONNECT", wrong.clone()))["allowed"], true);
        assert_eq!(ask(&review("DELETE", Value::Null))["allowed"], true);
        let mut of_status = review("UPDATE", wrong.clone());
        of_status["request"]["subResource"] = json!("status");
        assert_eq!(ask(&of_status)["allowed"], true);
        wrong["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        assert_eq!(ask(&review("UPDATE", wrong))["allowed"], true, "it must be able to go");
    }

    #[test]
    fn many_problems_stay_readable() {
        let rules: Vec<Value> = (0..100)
            .map(|_| json!({"from": [{"source": {"ipBlocks": ["x"]}}]}))
            .collect();
        let response = ask(&review(
            "CREATE",
            object("security.istio.io/v1", "AuthorizationPolicy", json!({"rules": rules})),
        ));
        let message = response["status"]["message"].as_str().unwrap_or_default();
        assert!(message.contains("spec.rules[0].from[0].source.ipBlocks"), "{message}");
        assert!(message.ends_with("and 80 more problems"), "{message}");
        let rules: Vec<Value> = (0..500)
            .map(|_| json!({"to": [{"operation": {"methods": ["GET"]}}]}))
            .collect();
        let response = ask(&review(
            "CREATE",
            object("security.istio.io/v1", "AuthorizationPolicy", json!({"rules": rules})),
        ));
        assert!(response["warnings"].to_string().len() < 4500);
    }

    #[test]
    fn what_is_no_review_is_no_review() {
        for body in [
            "",
            "[]",
            "{}",
            r#"{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{}}"#,
        ] {
            assert!(answer(body.as_bytes(), &MeshSettings::default()).is_err(), "{body}");
        }
    }
}
