//! What the commands show of a sidecar, by its own administration.

use corten_e2e::{Namespace, eventually};

use super::support::SETTLING;

/// What the proxy of pod `client` has, which calls services `reviews` with subsets, is shown; and what it logs can be changed.
pub(crate) fn of_the_client(ns: &Namespace<'_>) {
    eventually(SETTLING, || {
        let status = ns.corten("proxy-status", &[&format!("client.{}", ns.name())]).ok();
        let matches = |part: &&str| status.contains(&format!("\n{part} Match"));
        let all = ["Clusters", "Listeners", "Routes"].iter().all(matches);
        all.then_some(()).ok_or(status)
    });
    let shown = |what: &[&str], expected: &[&str]| {
        let shown = ns.corten(&format!("proxy-config {}", what[0]), &what[1..]).ok();
        for word in expected {
            assert!(shown.contains(word), "{word:?} is not in what {what:?} shows:\n{shown}");
        }
    };
    let service = format!("reviews.{}.svc.cluster.local", ns.name());
    let object = format!("reviews.{}", ns.name());
    shown(
        &["cluster", "client", "--subset", "v1"],
        &["SERVICE FQDN", &service, "EDS", &object],
    );
    shown(&["listener", "client", "--port", "80"], &["0.0.0.0", "80", "Route: 80"]);
    shown(&["route", "pod/client", "--name", "80"], &["/ratings*", &object]);
    let cluster = format!("outbound|80|v2|{service}");
    shown(
        &["endpoint", "client", "--cluster", &cluster],
        &["HEALTHY", "OK", &cluster],
    );
    shown(
        &["eds", "client", "--cluster", &cluster, "-o", "yaml"],
        &["clusterName: "],
    );
    shown(&["secret", "client"], &["Cert Chain", "ACTIVE", "true"]);
    shown(&["bootstrap", "client", "-o", "short"], &["Envoy Version: 1."]);
    shown(
        &["all", "client"],
        &["cluster/outbound", "listener/", "route/", "secret/", "endpoint/"],
    );
    shown(&["log", "client", "--level", "rbac:debug"], &["rbac: debug"]);

    // What newcomers do.
    let refused = |pod: &str, expected: &str| {
        let refused = ns.corten("proxy-config cluster", &[pod]);
        assert_eq!(refused.code, Some(1), "{}", refused.stdout);
        assert!(refused.stderr.contains(expected), "{}", refused.stderr);
    };
    refused("clien", "there is no pod clien in namespace");
    refused("v1", "no Envoy answers on port 15000");
}
