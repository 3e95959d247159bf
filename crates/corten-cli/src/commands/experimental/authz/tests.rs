use expect_test::expect;

use super::*;
use crate::mesh::explain::tests::{explanation, with_policies};

#[test]
fn policies_of_a_pod_are_listed_denials_first() {
    let mesh = with_policies(&[]);
    expect![[r#"
        ACTION   AuthorizationPolicy                          RULES
        DENY     istio_converted_static_strict.istio-system   1
        ALLOW    deny-all.payments                            0
        ALLOW    ledger-callers.payments                      1
    "#]]
    .assert_eq(&policies(&mesh, "payments", "ledger-1").expect("policies"));
    expect![[r#"
        ACTION   AuthorizationPolicy   RULES
        The pod is not in the mesh, so none of them is enforced; `corten x describe pod mainframe-1.legacy` says why.
    "#]]
    .assert_eq(&policies(&mesh, "legacy", "mainframe-1").expect("policies"));
}

#[test]
fn answers_are_told() {
    let mesh = with_policies(&[]);
    let told = |from: &str, to: &str| told(&explanation(&mesh, from, to));
    expect![[r#"
        orders/orders-api-1 -> ledger.payments:80: ALLOWED

          from    orders/orders-api-1, as cluster.local/ns/orders/sa/orders-api
          to      payments/ledger-1, payments/ledger-2 port 8080, as cluster.local/ns/payments/sa/ledger
          wire    mutual TLS
          because AuthorizationPolicy payments/ledger-callers allows it

          POLICY                                       ACTION  MATCHES
          PeerAuthentication payments/strict           DENY    no
          AuthorizationPolicy payments/deny-all        ALLOW   no
          AuthorizationPolicy payments/ledger-callers  ALLOW   yes
    "#]]
    .assert_eq(&told("orders-api-1.orders", "ledger.payments:80"));
    expect![[r#"
        orders/orders-api-1 -> ledger.payments:9090: DENIED

          from    orders/orders-api-1, as cluster.local/ns/orders/sa/orders-api
          to      payments/ledger-1, payments/ledger-2 port 9090, as cluster.local/ns/payments/sa/ledger
          wire    mutual TLS
          because ALLOW policies apply to the called pod, and none of them allows this
          note    an ALLOW policy with a rule for principal cluster.local/ns/orders/sa/orders-api would allow it

          POLICY                                       ACTION  MATCHES
          PeerAuthentication payments/strict           DENY    no
          AuthorizationPolicy payments/deny-all        ALLOW   no
          AuthorizationPolicy payments/ledger-callers  ALLOW   no
    "#]]
    .assert_eq(&told("orders-api-1.orders", "ledger.payments:9090"));
    expect![[r#"
        legacy/mainframe-1 -> ledger.payments:80: DENIED

          from    legacy/mainframe-1, not in the mesh, so without an identity
          to      payments/ledger-1, payments/ledger-2 port 8080, as cluster.local/ns/payments/sa/ledger
          wire    plaintext
          because PeerAuthentication payments/strict demands mutual TLS on port 8080, and the caller is not in the mesh
          note    take the caller into the mesh (`corten x describe pod` says what keeps it out), or make the port PERMISSIVE

          POLICY                                       ACTION  MATCHES
          PeerAuthentication payments/strict           DENY    yes
          AuthorizationPolicy payments/deny-all        ALLOW   no
          AuthorizationPolicy payments/ledger-callers  ALLOW   no
    "#]].assert_eq(&told("mainframe-1.legacy", "ledger.payments:80"));
    expect![[r#"
        orders/orders-api-1 -> mainframe.legacy:80: ALLOWED

          from    orders/orders-api-1, as cluster.local/ns/orders/sa/orders-api
          to      legacy/mainframe-1 port 80, not in the mesh, so without an identity
          wire    plaintext
          because the called pod is not in the mesh, so no policy is enforced for it
          note    it leaves the mesh unencrypted, unless the application encrypts it
    "#]]
    .assert_eq(&told("orders-api-1.orders", "mainframe.legacy:80"));
}

#[test]
fn answers_are_json_too() {
    let mesh = with_policies(&[]);
    let answer = explanation(&mesh, "orders-api-1.orders", "ledger.payments:80");
    expect![[r#"
        {
            "verdict": "allowed",
            "from": {
                "names": [
                    "orders/orders-api-1"
                ],
                "identity": "cluster.local/ns/orders/sa/orders-api",
                "inMesh": true
            },
            "called": "ledger.payments:80",
            "ways": [
                {
                    "to": {
                        "names": [
                            "payments/ledger-1",
                            "payments/ledger-2"
                        ],
                        "identity": "cluster.local/ns/payments/sa/ledger",
                        "inMesh": true
                    },
                    "port": 8080,
                    "wire": "mTLS",
                    "verdict": "allowed",
                    "policy": "AuthorizationPolicy payments/ledger-callers",
                    "reason": "AuthorizationPolicy payments/ledger-callers allows it",
                    "advice": null,
                    "policies": [
                        {
                            "policy": "PeerAuthentication payments/strict",
                            "action": "DENY",
                            "matches": false,
                            "dryRun": false
                        },
                        {
                            "policy": "AuthorizationPolicy payments/deny-all",
                            "action": "ALLOW",
                            "matches": false,
                            "dryRun": false
                        },
                        {
                            "policy": "AuthorizationPolicy payments/ledger-callers",
                            "action": "ALLOW",
                            "matches": true,
                            "dryRun": false
                        }
                    ]
                }
            ]
        }
    "#]]
    .assert_eq(&output::json(&answer).expect("JSON"));
}
