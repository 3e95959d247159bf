//! What is done about servers that fail, are slow, or are not there.

use corten_e2e::{Namespace, eventually};

use super::support::{Pod, SETTLING, ask, asks, counts, none_rejected, service, start, stat, until, until_status};

const RULES: &str = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: payments}
spec:
  hosts: [payments]
  http:
  - match: [{uri: {prefix: /known}}]
    directResponse: {status: 299}
  - match: [{uri: {prefix: /nobody}}]
    retries: &three {attempts: 3, perTryTimeout: 3s, retryOn: '5xx,connect-failure,reset'}
    route: [{destination: {host: nobody}}]
  - match: [{uri: {prefix: /patient}}]
    timeout: 10s
    retries: {attempts: 0}
    route: [{destination: {host: payments}}]
  - match: [{uri: {prefix: /usual}}]
    route: [{destination: {host: payments}}]
  - retries: *three
    timeout: 30s
    route: [{destination: {host: payments}}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: small}
spec: {host: small, trafficPolicy: {connectionPool: {tcp: {maxConnections: 1}, http: {http1MaxPendingRequests: 1}}}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: halves}
spec:
  host: halves
  trafficPolicy:
    outlierDetection: {consecutiveGatewayErrors: 5, interval: 10s, baseEjectionTime: 300s, maxEjectionPercent: 50}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: returning}
spec:
  host: returning
  trafficPolicy:
    outlierDetection: {consecutiveGatewayErrors: 5, interval: 500ms, baseEjectionTime: 500ms, maxEjectionPercent: 50}
";

pub(crate) fn failing_servers(ns: &Namespace<'_>) {
    let pods = [
        Pod::client("client").sidecar(),
        Pod::echo("payments"),
        Pod::echo("good").labels("half: good, all: halves"),
        Pod::failing("bad", 503).labels("half: bad, all: halves"),
    ];
    let services: String = [
        ("payments", "app: payments", 8080),
        ("nobody", "app: payments", 7),
        ("small", "app: payments", 8080),
        ("halves", "all: halves", 8080),
        ("returning", "all: halves", 8080),
    ]
    .map(|(name, selector, target)| service(name, selector, target))
    .concat();
    start(ns, &pods, &(services + RULES));
    until_status(ns, "client", "payments/known", 299);
    retries(ns);
    timeouts(ns);
    limits(ns);
    outliers(ns);
    none_rejected(ns, &["client"]);
}

fn retries(ns: &Namespace<'_>) {
    // One try, and three more; the last answer is the one that comes back.
    let failed = ask(ns, "client", "'payments/?tally=fails&codes=503'");
    assert_eq!((failed.status, failed.tally()), (503, 4));
    let third = ask(ns, "client", "'payments/?tally=heals&codes=502&first=2'");
    assert_eq!((third.status, third.tally()), (200, 3));
    let client_error = ask(ns, "client", "'payments/?tally=wrong&codes=404'");
    assert_eq!((client_error.status, client_error.tally()), (404, 1));
    // A connection that ends before the answer.
    let reset = ask(ns, "client", "'payments/?tally=resets&hangup&first=2'");
    assert_eq!((reset.status, reset.tally()), (200, 3));
    assert_eq!(ask(ns, "client", "'payments/?tally=hangs-up&hangup'").status, 503);
    assert_eq!(ask(ns, "client", "'payments/?tally=hangs-up'").tally(), 5);
    // A port where nobody listens.
    assert_eq!(ask(ns, "client", "payments/nobody").status, 503);
    let cluster = format!("nobody.{}.svc", ns.name());
    assert_eq!(
        [
            stat(ns, "client", &format!("{cluster}.*upstream_cx_connect_fail$")),
            stat(ns, "client", &format!("{cluster}.*upstream_rq_retry$"))
        ],
        [4, 3]
    );
    // Without a word of retries, answers of the server are left as they are.
    let usual = ask(ns, "client", "'payments/usual?tally=usual&codes=500'");
    assert_eq!((usual.status, usual.tally()), (500, 1));
}

fn timeouts(ns: &Namespace<'_>) {
    let late = ask(ns, "client", "'payments/patient?tally=late&delay=1h'");
    assert_eq!(late.status, 504, "{}", late.text);
    assert_eq!(
        ask(ns, "client", "'payments/patient?tally=late'").tally(),
        2,
        "it was called once"
    );
    // A try that takes too long is given up, and the next one is quick enough.
    let second = ask(ns, "client", "'payments/?tally=second&delay=1h&first=1'");
    assert_eq!((second.status, second.tally()), (200, 2));
}

/// One connection and one request that waits for it: of eight at once two are served, and the others told so at once.
fn limits(ns: &Namespace<'_>) {
    let limit = format!(
        "small.{}.svc.cluster.local::default_priority::max_connections::1\n",
        ns.name()
    );
    until(ns, "client", "localhost:15000/clusters", |answer| {
        answer.text.contains(&limit)
    });
    let script = "curl -s -Z --parallel-immediate -m 60 -o /dev/null -w '%{http_code} %header{x-envoy-overloaded}\\n' \
                  'small/?delay=2s&number=[1-8]'";
    let output = ns
        .corten("exec", &["client", "-c", "app", "--", "sh", "-c", script])
        .ok();
    let answers = counts(output.lines().map(str::trim_end));
    let (served, refused) = (
        answers.get("200").copied().unwrap_or_default(),
        answers.get("503 true").copied().unwrap_or_default(),
    );
    assert!(served >= 2 && refused >= 1 && served + refused == 8, "{answers:?}");
    let overflow = stat(
        ns,
        "client",
        &format!("small.{}.svc.*upstream_rq_pending_overflow$", ns.name()),
    );
    assert_eq!(overflow, u64::try_from(refused).unwrap_or_default(), "{answers:?}");
}

fn outliers(ns: &Namespace<'_>) {
    let counter = |service: &str, what: &str| {
        stat(
            ns,
            "client",
            &format!("{service}.{}.svc.*outlier_detection.{what}$", ns.name()),
        )
    };
    // After five errors in a row the bad half is left out, and the good one answers everything.
    eventually(SETTLING, || {
        asks(ns, "client", 10, "halves/");
        let active = counter("halves", "ejections_active");
        (active == 1)
            .then_some(())
            .ok_or_else(|| format!("{active} are ejected"))
    });
    let all = counts(
        asks(ns, "client", 30, "halves/")
            .iter()
            .map(|answer| answer.get("x-corten-pod").to_owned()),
    );
    assert_eq!(all.into_iter().collect::<Vec<_>>(), [("good".to_owned(), 30)]);
    // With half of them out already, the other half is not, whatever it does.
    let statuses = counts(
        asks(ns, "client", 10, "'halves/?codes=503'")
            .iter()
            .map(|answer| answer.status),
    );
    assert_eq!(statuses.into_iter().collect::<Vec<_>>(), [(503, 10)]);
    assert_eq!(counter("halves", "ejections_active"), 1);
    assert!(counter("halves", "ejections_overflow") >= 1, "it was about to be");
    // It is tried again when its time is over, and left out again.
    eventually(SETTLING, || {
        asks(ns, "client", 12, "returning/");
        let ejected = counter("returning", "ejections_enforced_total");
        (ejected >= 2)
            .then_some(())
            .ok_or_else(|| format!("ejected {ejected} times"))
    });
}
