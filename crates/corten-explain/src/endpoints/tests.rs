use serde_json::{Value, json};

use super::*;

/// An endpoint: its health and weight.
fn endpoint(health: &str, weight: u32) -> Value {
    json!({
        "healthStatus": health, "loadBalancingWeight": weight,
        "endpoint": { "address": { "socketAddress": { "address": "10.0.0.1", "portValue": 80 } } },
    })
}

#[track_caller]
fn check(cluster: &Value, localities: &Value, expected: &[f64]) {
    let cluster: Cluster = corten_envoy::message_from_json(cluster).unwrap();
    let assignment: ClusterLoadAssignment =
        corten_envoy::message_from_json(&json!({ "clusterName": "c", "endpoints": localities })).unwrap();
    let (found, note) = shares(&cluster, &assignment, &|_| Choice::default());
    let found: Vec<f64> = found
        .iter()
        .map(|endpoint| (endpoint.share * 1000.0).round() / 1000.0)
        .collect();
    assert_eq!(found, expected, "{note}");
}

fn all(endpoints: &[Value]) -> Value {
    json!([{ "lbEndpoints": endpoints }])
}

#[test]
fn weights_and_health() {
    let plain = json!({ "name": "c" });
    check(
        &plain,
        &all(&[endpoint("HEALTHY", 1), endpoint("UNKNOWN", 3)]),
        &[0.25, 0.75],
    );
    let most = [
        endpoint("HEALTHY", 1),
        endpoint("HEALTHY", 1),
        endpoint("HEALTHY", 2),
        endpoint("UNHEALTHY", 9),
    ];
    check(&plain, &all(&most), &[0.25, 0.25, 0.5, 0.0]);
    check(
        &plain,
        &all(&[endpoint("HEALTHY", 1), endpoint("DEGRADED", 1)]),
        &[1.0, 0.0],
    );
    check(&plain, &json!([]), &[]);
}

#[test]
fn with_too_few_healthy_ones_health_is_ignored_unless_it_is_told_not_to_be() {
    let few = all(&[
        endpoint("HEALTHY", 1),
        endpoint("UNHEALTHY", 1),
        endpoint("DRAINING", 1),
    ]);
    let none = all(&[endpoint("UNHEALTHY", 1), endpoint("TIMEOUT", 1)]);
    let plain = json!({ "name": "c" });
    check(&plain, &few, &[0.333, 0.333, 0.333]);
    check(&plain, &none, &[0.5, 0.5]);
    let never = json!({ "name": "c", "commonLbConfig": { "healthyPanicThreshold": { "value": 0.0 } } });
    check(&never, &few, &[1.0, 0.0, 0.0]);
    check(&never, &none, &[0.0, 0.0]);
}

#[test]
fn what_one_priority_cannot_take_the_next_one_gets() {
    let never = json!({ "name": "c", "commonLbConfig": { "healthyPanicThreshold": { "value": 0.0 } } });
    let two =
        |first: &[Value], second: &[Value]| json!([{ "lbEndpoints": first }, { "priority": 1, "lbEndpoints": second }]);
    let healthy = || endpoint("HEALTHY", 1);
    let sick = || endpoint("UNHEALTHY", 1);
    check(&never, &two(&[healthy()], &[healthy()]), &[1.0, 0.0]);
    check(&never, &two(&[healthy(), sick()], &[healthy()]), &[0.7, 0.0, 0.3]);
    check(&never, &two(&[sick()], &[healthy()]), &[0.0, 1.0]);
    check(
        &never,
        &two(
            &[healthy(), sick(), sick(), sick()],
            &[healthy(), sick(), sick(), sick()],
        ),
        &[0.5, 0.0, 0.0, 0.0, 0.5, 0.0, 0.0, 0.0],
    );
}

#[test]
fn localities_share_by_their_weights_only_if_the_cluster_says_so() {
    let localities = json!([
        { "loadBalancingWeight": 80, "lbEndpoints": [endpoint("HEALTHY", 1)] },
        { "loadBalancingWeight": 20, "lbEndpoints": [endpoint("HEALTHY", 1), endpoint("HEALTHY", 3)] },
    ]);
    check(&json!({ "name": "c" }), &localities, &[0.2, 0.2, 0.6]);
    let weighted = json!({ "name": "c", "commonLbConfig": { "localityWeightedLbConfig": {} } });
    check(&weighted, &localities, &[0.8, 0.05, 0.15]);
}
