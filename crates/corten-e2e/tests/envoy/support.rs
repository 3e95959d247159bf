//! Pods with and without a sidecar, what they are answered, and whether anything was rejected.

use std::collections::BTreeMap;
use std::time::Duration;

use corten_e2e::{Namespace, eventually};

/// How long a change may take to be seen everywhere on a busy machine.
pub(crate) const SETTLING: Duration = Duration::from_secs(30);

/// The mesh's configuration of these scenarios, whichever of them needs it first: who is asked for permission, and who is told what happens.
/// `asks-first` leads to an echo server that is asked with the path and the query of the request, and so says what the query wants it to.
pub(crate) const PROVIDERS: &str = "
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data:
  mesh: |
    extensionProviders:
    - name: asks-first
      envoyExtAuthzHttp:
        service: judge.who-may-ask-what.svc.cluster.local
        port: 80
        includeRequestHeadersInCheck: [x-reason]
        headersToUpstreamOnAllow: [x-corten-pod]
        headersToDownstreamOnDeny: [x-corten-pod]
    - name: asks-by-grpc
      envoyExtAuthzGrpc: {service: judge.patches-logs-and-traces.svc.cluster.local, port: 9000}
    - name: short-log
      envoyFileAccessLog:
        path: /dev/stdout
        logFormat: {text: \"short %RESPONSE_CODE% %REQ(:METHOD)% %REQ(:PATH)%\\n\"}
    - name: spans-by-zipkin
      zipkin: {service: collector.patches-logs-and-traces.svc.cluster.local, port: 80}
    - name: spans-by-otel
      opentelemetry: {service: collector.patches-logs-and-traces.svc.cluster.local, port: 80, http: {path: /v1/traces, timeout: 5s}}
";

/// A pod in the making.
pub(crate) struct Pod<'a> {
    name: &'a str,
    labels: String,
    account: &'a str,
    app: String,
    sidecar: bool,
    security: &'a str,
    interception: &'a str,
}

impl<'a> Pod<'a> {
    /// One that only calls, with the programs of this machine.
    pub(crate) fn client(name: &'a str) -> Self {
        Self::new(name, "{name: app, image: host, command: [sleep, infinity]}".to_owned())
    }

    /// An echo server on port 8080.
    pub(crate) fn echo(name: &'a str) -> Self {
        Self::new(name, "{name: app, image: corten.dev/echo}".to_owned())
    }

    /// An echo server that answers with this status, unless a request says otherwise.
    pub(crate) fn failing(name: &'a str, code: u16) -> Self {
        let app = format!("{{name: app, image: corten.dev/echo, args: [--codes, \"{code}\"]}}");
        Self::new(name, app)
    }

    /// A pod whose container is written so.
    pub(crate) fn new(name: &'a str, app: String) -> Self {
        Self {
            name,
            labels: format!("app: {name}"),
            account: "default",
            app,
            sidecar: false,
            security: "{}",
            interception: "REDIRECT",
        }
    }

    /// With these labels instead of `app: NAME`.
    pub(crate) fn labels(mut self, labels: &str) -> Self {
        self.labels = labels.to_owned();
        self
    }

    /// As this service account, which is made.
    pub(crate) fn account(mut self, account: &'a str) -> Self {
        self.account = account;
        self
    }

    /// With this security context of the application's container.
    pub(crate) fn security(mut self, security: &'a str) -> Self {
        self.security = security;
        self
    }

    /// With connections led to the proxy in this way.
    pub(crate) fn interception(mut self, mode: &'a str) -> Self {
        self.interception = mode;
        self
    }

    /// With a sidecar that all its connections pass.
    pub(crate) fn sidecar(mut self) -> Self {
        self.sidecar = true;
        self
    }

    /// As a manifest. One thread a proxy is enough here, and so a change takes effect for all of its connections at once; all that Envoy
    /// counts is kept, not only what everybody needs.
    pub(crate) fn yaml(&self) -> String {
        let Self {
            name,
            labels,
            account,
            sidecar,
            security,
            interception,
            ..
        } = self;
        let app = self.app.strip_suffix('}').expect("a container in braces");
        let own = if *account == "default" {
            String::new()
        } else {
            format!("apiVersion: v1\nkind: ServiceAccount\nmetadata: {{name: {account}}}\n---\n")
        };
        format!(
            "{own}apiVersion: v1\nkind: Pod\n\
             metadata: {{name: {name}, labels: {{{labels}, sidecar.istio.io/inject: '{sidecar}'}},\n\
             \x20 annotations: {{proxy.istio.io/config: '{{concurrency: 1, proxyStatsMatcher: {{inclusionRegexps: [\".*\"]}}}}', sidecar.istio.io/interceptionMode: {interception}}}}}\n\
             spec:\n  serviceAccountName: {account}\n  terminationGracePeriodSeconds: 5\n  securityContext: {{fsGroup: 999}}\n\
             \x20 containers:\n  - {app}, securityContext: {security}}}\n  volumes: [{{name: data, emptyDir: {{}}}}]\n---\n"
        )
    }
}

/// A service of these pods: port 80 leads to `target`.
pub(crate) fn service(name: &str, selector: &str, target: u16) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\n\
         spec: {{selector: {{{selector}}}, ports: [{{name: http, port: 80, targetPort: {target}}}]}}\n---\n"
    )
}

/// An answer, as far as there was one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Answer {
    /// The status; 0: none.
    pub(crate) status: u16,
    /// Head and body.
    pub(crate) text: String,
}

impl Answer {
    fn of(text: &str) -> Self {
        let status = text.split_whitespace().nth(1).and_then(|status| status.parse().ok());
        Self {
            status: status.unwrap_or_default(),
            text: text.to_owned(),
        }
    }

    /// What follows `NAME: ` on a line: a header of the answer, or what an echo server says; headers that it saw are `header NAME`.
    pub(crate) fn get(&self, name: &str) -> &str {
        let mut lines = self.text.lines().filter_map(|line| line.split_once(": "));
        lines
            .find(|(key, _)| *key == name)
            .map_or("", |(_, value)| value.trim_end())
    }

    /// How many requests of its tally the server has seen.
    pub(crate) fn tally(&self) -> u64 {
        self.get("x-corten-tally").parse().unwrap_or_default()
    }
}

/// Calls so often from a pod, by curl with these arguments; the answers.
#[track_caller]
pub(crate) fn asks(ns: &Namespace<'_>, pod: &str, count: usize, arguments: &str) -> Vec<Answer> {
    let mark = "=== end of an answer";
    let script = format!("for i in $(seq {count}); do curl -s -i -m 30 {arguments}; echo; echo '{mark}'; done");
    let output = ns.corten("exec", &[pod, "-c", "app", "--", "sh", "-c", &script]).ok();
    let answers: Vec<Answer> = output
        .split(mark)
        .map(|part| Answer::of(part.trim_start()))
        .take(count)
        .collect();
    assert_eq!(answers.len(), count, "{output}");
    answers
}

/// Calls once.
#[track_caller]
pub(crate) fn ask(ns: &Namespace<'_>, pod: &str, arguments: &str) -> Answer {
    asks(ns, pod, 1, arguments).remove(0)
}

/// Calls until the answer is as it should be, for a change takes its time.
#[track_caller]
pub(crate) fn until(ns: &Namespace<'_>, pod: &str, arguments: &str, good: impl Fn(&Answer) -> bool) -> Answer {
    eventually(SETTLING, || {
        let answer = ask(ns, pod, arguments);
        if good(&answer) {
            Ok(answer)
        } else {
            Err(format!("{pod}: curl {arguments}: {}", answer.text))
        }
    })
}

/// Calls until the answer has this status; 0: there is none.
#[track_caller]
pub(crate) fn until_status(ns: &Namespace<'_>, pod: &str, arguments: &str, status: u16) -> Answer {
    until(ns, pod, arguments, |answer| answer.status == status)
}

/// How often each value comes.
pub(crate) fn counts<K: Ord>(values: impl IntoIterator<Item = K>) -> BTreeMap<K, usize> {
    values.into_iter().fold(BTreeMap::new(), |mut counts, value| {
        *counts.entry(value).or_default() += 1;
        counts
    })
}

/// The counters of a pod's Envoy whose names match.
#[track_caller]
pub(crate) fn stats(ns: &Namespace<'_>, pod: &str, pattern: &str) -> BTreeMap<String, u64> {
    let url = format!("curl -s -m 30 'localhost:15000/stats?filter={pattern}'");
    let output = ns.corten("exec", &[pod, "-c", "app", "--", "sh", "-c", &url]).ok();
    let lines = output.lines().filter_map(|line| line.rsplit_once(": "));
    lines
        .filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?)))
        .collect()
}

/// The sum of the counters of a pod's Envoy whose names match.
#[track_caller]
pub(crate) fn stat(ns: &Namespace<'_>, pod: &str, pattern: &str) -> u64 {
    stats(ns, pod, pattern).values().sum()
}

/// Starts pods in a namespace that gives them sidecars, and waits until they are ready.
#[track_caller]
pub(crate) fn start(ns: &Namespace<'_>, pods: &[Pod<'_>], more: &str) {
    ns.corten("label", &["namespace", ns.name(), "istio-injection=enabled"])
        .ok();
    let all: String = pods.iter().map(Pod::yaml).collect();
    // From the moment that the control plane answers for it, no pod is made without its proxy.
    eventually(SETTLING, || {
        let applied = ns.try_apply(&format!("{all}{more}"));
        (applied.code == Some(0)).then_some(()).ok_or(applied.stderr)
    });
    for pod in pods {
        ns.wait(&format!("pod/{}", pod.name), "condition=Ready");
    }
}

/// Fails if an Envoy of these pods has rejected something or waits for it, or the control plane has been told of a rejection by anybody.
#[track_caller]
pub(crate) fn none_rejected(ns: &Namespace<'_>, pods: &[&str]) {
    for pod in pods {
        let mut rejected = stats(ns, pod, "update_rejected");
        // Those of clusters and listeners are kept in any case.
        assert!(rejected.len() > 1, "the counters are there: {rejected:?}");
        rejected.retain(|_, count| *count > 0);
        assert_eq!(rejected, BTreeMap::new(), "{pod}");
        // What waits for the rest of what it needs has no effect yet.
        eventually(SETTLING, || {
            let waiting = stat(ns, pod, "(warming_clusters|listeners_warming)$");
            let complaint = || format!("{waiting} clusters and listeners of {pod} wait");
            (waiting == 0).then_some(()).ok_or_else(complaint)
        });
        let status = ns.corten("proxy-status", &[&format!("{pod}.{}", ns.name())]);
        assert!(status.ok().contains("LDS"), "the control plane knows {pod}");
    }
    let metrics = ask(ns, pods[0], "istiod.istio-system:15014/metrics");
    assert!(metrics.text.contains("pilot_xds_pushes{"), "{}", metrics.text);
    let told: Vec<&str> = metrics
        .text
        .lines()
        .filter(|line| line.starts_with("pilot_total_xds_rejects{") && !line.ends_with(" 0"))
        .collect();
    assert_eq!(told, [""; 0], "rejected by some proxy");
}
