//! What VirtualServices and DestinationRules say of requests that work.

use std::collections::BTreeMap;

use corten_e2e::{Namespace, eventually};

use super::inspection;
use super::support::{Answer, Pod, SETTLING, ask, asks, counts, none_rejected, service, start, until};

const ROUTES: &str = "
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: reviews}
spec: {host: reviews, subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews}
spec:
  hosts: [reviews]
  http:
  - match: [{headers: {x-user: {exact: bob}}}]
    route: [{destination: {host: reviews, subset: v2}}]
  - match: [{uri: {prefix: /ratings}, headers: {x-old: {exact: 'yes'}}}]
    redirect: {uri: /new, redirectCode: 302}
  - match: [{method: {exact: POST}, queryParams: {kind: {exact: beta}}}]
    redirect: {uri: /beta, authority: beta.example, redirectCode: 308}
  - match: [{headers: {x-fault: {exact: 'yes'}}}]
    fault: {abort: {httpStatus: 418, percentage: {value: 100}}}
    route: [{destination: {host: reviews}}]
  - match: [{uri: {prefix: /sometimes}}]
    fault: {abort: {httpStatus: 500, percentage: {value: 50}}}
    route: [{destination: {host: reviews}}]
  - match: [{uri: {prefix: /later}}]
    fault: {delay: {fixedDelay: 1s, percentage: {value: 100}}}
    route: [{destination: {host: reviews}}]
  - match: [{uri: {prefix: /mirrored}}]
    mirrors: [{destination: {host: shadow}, percentage: {value: 100}}]
    route: [{destination: {host: reviews, subset: v1}}]
  - match: [{uri: {prefix: /partly}}]
    mirror: {host: shadow}
    mirrorPercentage: {value: 30}
    route: [{destination: {host: reviews, subset: v1}}]
  - match: [{uri: {regex: '/v[0-9]+/books/.*'}}]
    rewrite: {uriRegexRewrite: {match: '/v([0-9]+)/(.*)', rewrite: '/\\2/version/\\1'}, authority: books.example}
    route: [{destination: {host: reviews}}]
  - match: [{uri: {prefix: /old/}}]
    rewrite: {uri: /new/}
    route:
    - destination: {host: reviews}
      headers: {request: {set: {x-added: by-route}, remove: [x-secret]}, response: {add: {x-answered: 'yes'}}}
  - match: [{uri: {exact: /teapot}}]
    directResponse: {status: 418, body: {string: short and stout}}
  - match: [{uri: {prefix: /known}, withoutHeaders: {x-known: {}}}]
    directResponse: {status: 403}
  - match: [{uri: {prefix: /cors}}]
    corsPolicy: {allowOrigins: [{exact: 'https://shop.example'}], allowMethods: [GET, POST], allowHeaders: [x-token], maxAge: 1h}
    route: [{destination: {host: reviews}}]
  - route: [{destination: {host: reviews, subset: v1}, weight: 90}, {destination: {host: reviews, subset: v2}, weight: 10}]
";

/// How often each version answered, or each status that is not 200 came back.
fn versions(answers: &[Answer]) -> BTreeMap<String, usize> {
    counts(answers.iter().map(|answer| match answer.status {
        200 => answer.get("pod").to_owned(),
        status => status.to_string(),
    }))
}

pub(crate) fn of_a_sidecar(ns: &Namespace<'_>) {
    let pods = [
        Pod::client("client").sidecar(),
        Pod::echo("v1").labels("app: reviews, version: v1"),
        Pod::echo("v2").labels("app: reviews, version: v2"),
        Pod::echo("shadow"),
    ];
    let services = service("reviews", "app: reviews", 8080) + &service("shadow", "app: shadow", 8080);
    start(ns, &pods, &services);
    eventually(SETTLING, || {
        let both = versions(&asks(ns, "client", 20, "reviews/"));
        (both.len() == 2 && both.contains_key("v1") && both.contains_key("v2"))
            .then_some(())
            .ok_or_else(|| format!("{both:?}"))
    });

    ns.apply(ROUTES);
    until(ns, "client", "reviews/teapot", |answer| {
        answer.status == 418 && answer.text.contains("short and stout")
    });
    matching(ns);
    shares(ns);
    changes(ns);
    cross_origin(ns);
    mirrors(ns);
    none_rejected(ns, &["client"]);
    inspection::of_the_client(ns);
}

fn matching(ns: &Namespace<'_>) {
    let all = |arguments: &str| versions(&asks(ns, "client", 5, arguments));
    let only = |what: &str| BTreeMap::from([(what.to_owned(), 5)]);
    assert_eq!(all("-H 'x-user: bob' reviews/"), only("v2"));
    assert_eq!(all("-H 'x-old: yes' reviews/ratings"), only("302"));
    assert_eq!(all("-H 'x-fault: yes' reviews/"), only("418"));
    assert_eq!(all("reviews/known"), only("403"));
    assert!(!all("-H 'x-known: 1' reviews/known").contains_key("403"));
    let moved = ask(ns, "client", "-X POST 'reviews/x?kind=beta'");
    assert_eq!(
        (moved.status, moved.get("location")),
        (308, "http://beta.example/beta?kind=beta")
    );
    assert_eq!(
        ask(ns, "client", "'reviews/x?kind=beta'").status,
        200,
        "the method counts too"
    );
    let later = ask(ns, "client", "-w 'took: %{time_total}\\n' reviews/later");
    let took: f64 = later.get("took").parse().expect("curl tells the time");
    assert!(later.status == 200 && took >= 1.0, "{later:?}");
}

fn shares(ns: &Namespace<'_>) {
    let shares = versions(&asks(ns, "client", 400, "reviews/"));
    let v2 = shares.get("v2").copied().unwrap_or_default();
    // 40 are expected, with a deviation of 6: further away than five of those is no chance.
    assert!(
        (10..=70).contains(&v2) && shares.get("v1") == Some(&(400 - v2)),
        "{shares:?}"
    );
    let faults = versions(&asks(ns, "client", 100, "reviews/sometimes"));
    // 50 are expected, with a deviation of 5.
    let failed = faults.get("500").copied().unwrap_or_default();
    assert!((24..=76).contains(&failed), "{faults:?}");
}

/// What is changed on the way there and back.
fn changes(ns: &Namespace<'_>) {
    let books = ask(ns, "client", "'reviews/v2/books/moby?x=1'");
    assert_eq!(
        (books.get("path"), books.get("host")),
        ("/books/moby/version/2?x=1", "books.example")
    );
    let new = ask(ns, "client", "-H 'x-secret: s' reviews/old/a");
    assert_eq!(
        [
            new.get("path"),
            new.get("header x-added"),
            new.get("header x-secret"),
            new.get("x-answered")
        ],
        ["/new/a", "by-route", "", "yes"]
    );
}

fn cross_origin(ns: &Namespace<'_>) {
    let asked = "-X OPTIONS -H 'access-control-request-method: POST' reviews/cors";
    let allowed = ask(ns, "client", &format!("-H 'origin: https://shop.example' {asked}"));
    assert_eq!(
        [
            "access-control-allow-origin",
            "access-control-allow-methods",
            "access-control-allow-headers",
            "access-control-max-age"
        ]
        .map(|name| allowed.get(name)),
        ["https://shop.example", "GET,POST", "x-token", "3600"]
    );
    assert_eq!(allowed.get("pod"), "", "the proxy answers by itself");
    let foreign = ask(ns, "client", "-H 'origin: https://evil.example' reviews/cors");
    assert_eq!((foreign.status, foreign.get("access-control-allow-origin")), (200, ""));
}

fn mirrors(ns: &Namespace<'_>) {
    for (path, sent, seen) in [("mirrored?tally=all", 20, 20..=20), ("partly?tally=some", 200, 28..=92)] {
        let answers = asks(ns, "client", sent, &format!("'reviews/{path}'"));
        assert_eq!(versions(&answers), BTreeMap::from([("v1".to_owned(), sent)]));
        // Of 200 at 30 % there are 60 expected, with a deviation of 6.5. Mirrored requests may still be on their way.
        let mut looks = 0;
        eventually(SETTLING, || {
            let tally = ask(ns, "client", &format!("'shadow/{path}'")).tally();
            // A look that was not answered was not counted either.
            if tally == 0 {
                return Err(format!("{path}: no answer"));
            }
            looks += 1;
            let count = tally - looks;
            let complaint = || format!("{path}: {count} of {sent} were mirrored");
            seen.contains(&count).then_some(()).ok_or_else(complaint)
        });
    }
}
