//! What services say of themselves that the mesh's model does not keep.

use serde_json::Value;

/// A service's addresses outside of the cluster, and whether it asks for one.
pub fn outside(service: &Value) -> (Vec<String>, bool) {
    let list = |path: &str| service.pointer(path).and_then(Value::as_array).into_iter().flatten();
    let load_balancer = service["spec"]["type"] == "LoadBalancer";
    let given = list("/status/loadBalancer/ingress").filter(|_| load_balancer);
    let given = given.filter_map(|one| one["ip"].as_str().or_else(|| one["hostname"].as_str()));
    let addresses = given.chain(list("/spec/externalIPs").filter_map(Value::as_str));
    (addresses.map(str::to_owned).collect(), load_balancer)
}
