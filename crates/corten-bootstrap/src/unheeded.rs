//! What of a configuration takes no effect, whichever pod it is for: control planes tell it to those who write it.

use std::path::Path;

use serde_json::{Map, Value, json};

use crate::{Build, Inputs, Problem, bootstrap, honoured_elsewhere};

/// The fields of a complete ProxyConfig that nobody heeds, and why: neither the bootstrap nor the agent, injection or the control plane.
pub fn unheeded(config: &Value) -> Vec<Problem> {
    let fields = config.as_object().into_iter().flatten();
    let mut found: Vec<Problem> = fields
        .filter_map(|(field, value)| match honoured_elsewhere(field, value)? {
            Ok(()) => None,
            Err(reason) => Some(Problem::new(field, reason)),
        })
        .collect();
    // The message leaves out its first name.
    if config["controlPlaneAuthPolicy"].is_null()
        && let Some(Err(reason)) = honoured_elsewhere("controlPlaneAuthPolicy", &json!("NONE"))
    {
        found.push(Problem::new("controlPlaneAuthPolicy", reason));
    }
    let metadata: Map<String, Value> = [("INSTANCE_IPS".to_owned(), json!("127.0.0.1"))].into_iter().collect();
    let (_, problems) = bootstrap(&Inputs {
        id: "",
        metadata: &metadata,
        config,
        discovery: ("istiod", 15012),
        discovery_name: "istiod",
        secrets: Path::new(""),
        host_ip: Some("127.0.0.1"),
        log_as_json: false,
        fips: false,
        dual_stack: false,
        proxy_protocol: false,
        priority: None,
        build: Build::Stock,
    });
    for problem in problems {
        if !found.contains(&problem) {
            found.push(problem);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_pod_can_have_is_told_and_what_is_usual_is_not() {
        let told = |config: Value| -> Vec<String> {
            let mut complete = crate::defaults();
            crate::merge(&mut complete, &config);
            unheeded(&complete).iter().map(ToString::to_string).collect()
        };
        assert_eq!(told(json!({})), [""; 0]);
        assert_eq!(
            told(json!({"tracing": {"zipkin": {"address": "$(HOST_IP):9411"}}})),
            [""; 0]
        );
        let service = json!({"address": "a:1", "tlsSettings": {"mode": "SIMPLE", "insecureSkipVerify": true}});
        assert_eq!(told(json!({"envoyMetricsService": service, "meshId": "a"})).len(), 2);
        let found = told(json!({"availabilityZone": "a", "statsdUdpAddress": "nowhere"}));
        assert_eq!(
            found,
            [
                "availabilityZone has no effect: Istio has given it up as well",
                "statsdUdpAddress is not HOST:PORT"
            ]
        );
    }
}
