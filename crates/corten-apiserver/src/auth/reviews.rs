//! Reviews: objects that are answered at once and never stored.
//!
//! Roles are stored and not enforced, so every access review says yes and why.

use serde_json::{Value, json};

use crate::api::Api;
use crate::context::User;
use crate::object;
use crate::registry::Resource;
use crate::status::Status;

const NOT_ENFORCED: &str =
    "roles are stored but not enforced by this API: everybody who is authenticated may do everything";

/// Answers a review.
pub(crate) fn review(api: &Api, user: &User, resource: &Resource, mut body: Value) -> Result<Value, Status> {
    if !body.is_object() {
        return Err(Status::bad_request("the request body is not a JSON object"));
    }
    body["kind"] = json!(resource.kind);
    body["apiVersion"] = json!(resource.api_version());
    object::metadata(&mut body);
    body["status"] = match resource.kind.as_str() {
        "TokenReview" => token(api, &body),
        "SelfSubjectReview" => json!({ "userInfo": user_info(user) }),
        "SelfSubjectRulesReview" => json!({
            "resourceRules": [{ "verbs": ["*"], "apiGroups": ["*"], "resources": ["*"] }],
            "nonResourceRules": [{ "verbs": ["*"], "nonResourceURLs": ["*"] }],
            "incomplete": false,
        }),
        _ => json!({ "allowed": true, "reason": NOT_ENFORCED }),
    };
    Ok(body)
}

fn token(api: &Api, body: &Value) -> Value {
    let spec = &body["spec"];
    let audiences: Vec<String> = object::strings(&spec["audiences"])
        .into_iter()
        .map(str::to_owned)
        .collect();
    match api
        .tokens()
        .authenticate(api, spec["token"].as_str().unwrap_or(""), &audiences)
    {
        Ok(verified) => json!({
            "authenticated": true,
            "user": user_info(&verified.user),
            "audiences": verified.audiences,
        }),
        Err(error) => json!({ "user": {}, "error": error.to_string() }),
    }
}

/// A user as reviews show it.
pub(crate) fn user_info(user: &User) -> Value {
    let mut info = json!({ "username": user.name, "groups": user.groups });
    if !user.uid.is_empty() {
        info["uid"] = json!(user.uid);
    }
    if !user.extra.is_empty() {
        info["extra"] = json!(user.extra);
    }
    info
}
