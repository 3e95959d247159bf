//! Who may ask what: mutual TLS between sidecars, policies over requests, tokens.

use corten_e2e::{Namespace, eventually};

use super::support::{PROVIDERS, Pod, SETTLING, ask, none_rejected, service, start, stat, until, until_status};

/// The public half of a key that was made for these tests, and thrown away after it had signed the tokens below.
const KEYS: &str = r#"{"keys":[{"kty":"EC","crv":"P-256","kid":"tests","alg":"ES256","use":"sig","x":"K86DpqH2C1R4kywYugcxa8r5ZSOTt1HwbPOYNqi6YtA","y":"ax3fVoAgfPnbiS2Q5g4gpxs6_W1boj3o0JlDVBSCmsA"}]}"#;
/// Alice's token; her groups are admins and staff.
const ADMIN: &str = "eyJhbGciOiJFUzI1NiIsImtpZCI6InRlc3RzIiwidHlwIjoiSldUIn0.eyJpc3MiOiJ0ZXN0c0Bjb3J0ZW4uZGV2Iiwic3ViIjoiYWxpY2UiLCJncm91cHMiOlsiYWRtaW5zIiwic3RhZmYiXSwiZXhwIjo0MTAyNDQ0ODAwfQ.G0jiFD7BweZ-MdLTyG-P0UnGoS9z5sQZs1A99YUeYc8rrZ9rwp3Zb8ZnkXIxFyXNhgDELEU2pGv8XonajziM2A";
/// Bob's, who is of the staff only.
const STAFF: &str = "eyJhbGciOiJFUzI1NiIsImtpZCI6InRlc3RzIiwidHlwIjoiSldUIn0.eyJpc3MiOiJ0ZXN0c0Bjb3J0ZW4uZGV2Iiwic3ViIjoiYm9iIiwiZ3JvdXBzIjpbInN0YWZmIl0sImV4cCI6NDEwMjQ0NDgwMH0.rvdh7BoIkzNM0F1cezQvbbKl68DpqmhwrI_BzCvQq_av3e91LorvNfZN1VG74UcUZ3IpAqa79-0i0m9EGtlEbQ";
/// Of one who was an admin until 2000.
const ENDED: &str = "eyJhbGciOiJFUzI1NiIsImtpZCI6InRlc3RzIiwidHlwIjoiSldUIn0.eyJpc3MiOiJ0ZXN0c0Bjb3J0ZW4uZGV2Iiwic3ViIjoiYm9iIiwiZ3JvdXBzIjpbImFkbWlucyJdLCJleHAiOjk0NjY4NDgwMH0.uoN_jlzX-cHoT3AlULSpALet4EBkmcHJNEJqhkmDe-MMuzgAx3nI4JzyNdMYvw7hILWhGfMJow3v690w0iQDzg";
/// As Alice's, of an issuer whom nobody has named.
const OTHER: &str = "eyJhbGciOiJFUzI1NiIsImtpZCI6InRlc3RzIiwidHlwIjoiSldUIn0.eyJpc3MiOiJzb21lYm9keUBlbHNlIiwic3ViIjoiYm9iIiwiZ3JvdXBzIjpbImFkbWlucyJdLCJleHAiOjQxMDI0NDQ4MDB9.rdzwadqX0xoW6HPDygBrVJywiB64jqFwOGM0zUZPGOUhdb-fx6afLkeP16cZ4H2psrMZ3ppnO59KViRGkgKGFg";

fn peers(mode: &str) -> String {
    format!(
        "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {{name: default}}\nspec: {{mtls: {{mode: {mode}}}}}\n"
    )
}

fn policy(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: {name}}}\n\
         spec: {{selector: {{matchLabels: {{app: payments}}}}, {spec}}}\n---\n"
    )
}

pub(crate) fn who_may_ask_what(ns: &Namespace<'_>) {
    let pods = [
        Pod::echo("payments").account("payments").sidecar(),
        Pod::client("friend").account("friend").sidecar(),
        Pod::client("foe").account("foe").sidecar(),
        Pod::client("stranger"),
        Pod::echo("judge"),
    ];
    let services = service("payments", "app: payments", 8080) + &service("judge", "app: judge", 8080);
    start(ns, &pods, &services);
    mutual_tls(ns);
    requests(ns);
    another_judge(ns);
    tokens(ns);
    none_rejected(ns, &["payments", "friend", "foe"]);
}

fn mutual_tls(ns: &Namespace<'_>) {
    let spiffe = |account: &str| format!("spiffe://cluster.local/ns/{}/sa/{account}", ns.name());
    // Both know each other, and the server is told.
    let answer = until_status(ns, "friend", "payments/", 200);
    let seen = answer.get("header x-forwarded-client-cert");
    assert!(
        seen.contains(&format!("By={}", spiffe("payments"))) && seen.ends_with(&format!("URI={}", spiffe("friend"))),
        "{seen}"
    );
    // What a caller says of itself is not passed on.
    let lie = ask(
        ns,
        "friend",
        "-H 'x-forwarded-client-cert: URI=spiffe://cluster.local/ns/x/sa/admin' payments/",
    );
    assert!(!lie.text.contains("sa/admin"), "{}", lie.text);
    assert!(stat(ns, "friend", &format!("payments.{}.*ssl.handshake$", ns.name())) >= 1);
    let plain = until_status(ns, "stranger", "payments/", 200);
    assert_eq!(plain.get("header x-forwarded-client-cert"), "");
    ns.apply(&peers("STRICT"));
    until_status(ns, "stranger", "payments/", 0);
    until_status(ns, "friend", "payments/", 200);
    ns.apply(&peers("PERMISSIVE"));
    until_status(ns, "stranger", "payments/", 200);
}

fn requests(ns: &Namespace<'_>) {
    let allow = format!(
        "action: ALLOW, rules: [\
         {{from: [{{source: {{principals: [cluster.local/ns/{}/sa/friend]}}}}], to: [{{operation: {{methods: [POST], paths: [/payments/*]}}}}]}},\
         {{to: [{{operation: {{methods: [GET], paths: [/public]}}}}]}}]",
        ns.name()
    );
    let deny = "action: DENY, rules: [{to: [{operation: {paths: [/payments/closed]}}]}]";
    ns.apply(&(policy("allow", &allow) + &policy("deny", deny)));
    until_status(ns, "foe", "-X POST payments/payments/1", 403);
    until_status(ns, "friend", "-X POST payments/payments/closed", 403);
    for (from, what, status) in [
        ("friend", "-X POST payments/payments/1", 200),
        ("friend", "-X POST payments/payments/1?a=b", 200),
        ("friend", "payments/payments/1", 403),
        ("friend", "-X POST payments/payments", 403),
        (
            "friend",
            "-X POST --path-as-is payments/payments/../payments/closed",
            403,
        ),
        ("friend", "-X POST --path-as-is payments/payments/../private", 403),
        ("friend", "payments/public", 200),
        ("foe", "payments/public", 200),
        ("foe", "payments/", 403),
        ("stranger", "payments/public", 200),
        ("stranger", "-X POST payments/payments/1", 403),
    ] {
        until_status(ns, from, what, status);
    }
    assert!(ask(ns, "foe", "payments/").text.contains("RBAC: access denied"));
    ns.corten("delete", &["authorizationpolicy", "allow", "deny"]).ok();
    until_status(ns, "foe", "payments/", 200);
}

/// Somebody else decides.
fn another_judge(ns: &Namespace<'_>) {
    ns.apply(PROVIDERS);
    ns.apply(&policy(
        "custom",
        "action: CUSTOM, provider: {name: asks-first}, rules: [{to: [{operation: {paths: [/judged]}}]}]",
    ));
    let refused = until(ns, "friend", "'payments/judged?codes=401'", |answer| {
        answer.status == 401 && answer.get("x-corten-pod") == "judge"
    });
    assert!(refused.get("path").starts_with("/judged"), "{}", refused.text);
    // The answer to what is already on its way over a connection may still be of the policy before.
    until(ns, "friend", "'payments/judged?codes=200'", |answer| {
        let told = (answer.status, answer.get("pod"), answer.get("header x-corten-pod"));
        told == (200, "payments", "judge")
    });
    until(ns, "friend", "'payments/other?codes=401'", |answer| {
        answer.get("pod") == "payments"
    });
    ns.corten("delete", &["authorizationpolicy", "custom"]).ok();
    until(ns, "friend", "'payments/judged?codes=401'", |answer| {
        answer.get("pod") == "payments"
    });
}

/// Whose tokens are taken.
fn rules(more: &str) -> String {
    format!(
        "apiVersion: security.istio.io/v1\nkind: RequestAuthentication\nmetadata: {{name: tokens}}\n\
         spec:\n  selector: {{matchLabels: {{app: payments}}}}\n  jwtRules:\n  - issuer: tests@corten.dev\n    jwks: '{KEYS}'\n\
         \x20   outputClaimToHeaders: [{{header: x-subject, claim: sub}}]\n{more}"
    )
}

fn tokens(ns: &Namespace<'_>) {
    ns.apply(&rules(""));
    let with = |token: &str| format!("-H 'authorization: Bearer {token}' payments/");
    until_status(ns, "friend", &with(OTHER), 401);
    let status = |arguments: &str| ask(ns, "friend", arguments).status;
    // A bad token is refused, and none is none.
    eventually(SETTLING, || {
        let found = [ADMIN, STAFF, ENDED, "a.b.c"].map(|token| status(&with(token)));
        let none = status("payments/");
        let complaint = || format!("{found:?}, without a token {none}");
        (found == [200, 200, 401, 401] && none == 200)
            .then_some(())
            .ok_or_else(complaint)
    });
    let admin = ask(ns, "friend", &with(ADMIN));
    assert_eq!(admin.get("header x-subject"), "alice", "{}", admin.text);
    assert_eq!(admin.get("header authorization"), "", "it is for the proxy");
    // Keys of another issuer, which the control plane fetches from an echo server that is told what to answer.
    let keys: String = KEYS.bytes().map(|byte| format!("%{byte:02x}")).collect();
    let url = format!("http://judge.{}.svc.cluster.local/keys?body={keys}", ns.name());
    ns.apply(&rules(&format!("  - {{issuer: somebody@else, jwksUri: '{url}'}}\n")));
    until_status(ns, "friend", &with(OTHER), 200);
    until_status(ns, "friend", &with(ADMIN), 200);
    until_status(ns, "friend", &with(ENDED), 401);
    ns.apply(&policy(
        "admins",
        "rules: [{from: [{source: {requestPrincipals: [tests@corten.dev/*]}}], \
         when: [{key: 'request.auth.claims[groups]', values: [admins]}]}]",
    ));
    eventually(SETTLING, || {
        let found = [ADMIN, STAFF, OTHER].map(|token| status(&with(token)));
        (found == [200, 403, 403] && status("payments/") == 403)
            .then_some(())
            .ok_or_else(|| format!("{found:?}"))
    });
}
