//! Who answers: the pod that the server runs in, as far as it can tell.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use serde_json::Value;

/// Where a pod finds its service account's token.
const TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

/// The pod's names; empty where unknown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Identity {
    pub(crate) pod: String,
    pub(crate) namespace: String,
    pub(crate) node: String,
    pub(crate) service_account: String,
    pub(crate) version: String,
}

impl Identity {
    /// From the environment's `POD_NAME`, `POD_NAMESPACE`, `NODE_NAME`, `SERVICE_ACCOUNT`; what is not there, from the pod's token; the pod's name
    /// from the host name as a last resort.
    pub(crate) fn of_this_process(version: &str) -> Self {
        let claims = std::fs::read_to_string(TOKEN)
            .ok()
            .and_then(|token| claims(&token))
            .unwrap_or_default();
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        Self::from(|name| std::env::var(name).ok(), &claims, host.trim(), version)
    }

    fn from(variable: impl Fn(&str) -> Option<String>, claims: &Value, host: &str, version: &str) -> Self {
        let bound = &claims["kubernetes.io"];
        let claim = |path: &str| bound.pointer(path).and_then(Value::as_str).map(str::to_owned);
        let either = |name: &str, path: &str| variable(name).or_else(|| claim(path)).unwrap_or_default();
        let pod = either("POD_NAME", "/pod/name");
        Self {
            pod: if pod.is_empty() { host.to_owned() } else { pod },
            namespace: either("POD_NAMESPACE", "/namespace"),
            node: either("NODE_NAME", "/node/name"),
            service_account: either("SERVICE_ACCOUNT", "/serviceaccount/name"),
            version: version.to_owned(),
        }
    }
}

/// The claims of a token, unverified: the server only reads its own.
fn claims(token: &str) -> Option<Value> {
    let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    serde_json::from_slice(&payload).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_environment_goes_before_the_token() {
        let claims = json!({"kubernetes.io": {"namespace": "n", "pod": {"name": "p"}, "node": {"name": "w"}, "serviceaccount": {"name": "s"}}});
        let identity = Identity::from(
            |name| (name == "POD_NAME").then(|| "other".to_owned()),
            &claims,
            "host",
            "v1",
        );
        let expect = Identity {
            pod: "other".into(),
            namespace: "n".into(),
            node: "w".into(),
            service_account: "s".into(),
            version: "v1".into(),
        };
        assert_eq!(identity, expect);
        assert_eq!(Identity::from(|_| None, &Value::Null, "host", "").pod, "host");
    }

    #[test]
    fn a_token_that_is_none_has_no_claims() {
        assert_eq!(claims("nonsense"), None);
        assert_eq!(claims("a.!!!.c"), None);
    }
}
