use expect_test::{Expect, expect};

use super::*;

fn dump() -> Dump {
    Dump::parse(include_bytes!("dump.json")).expect("a dump")
}

fn now() -> Timestamp {
    "2026-11-20T12:00:00Z".parse().expect("a time")
}

#[track_caller]
fn check(shown: &str, expected: Expect) {
    expected.assert_eq(shown);
}

#[test]
fn workloads_are_sorted_and_named_with_their_waypoint() {
    check(
        &workloads(&dump(), &Workloads::default()),
        expect![[r#"
        NAMESPACE POD NAME     ADDRESS            NODE   WAYPOINT PROTOCOL
        legacy    bank         bank.example.com          NA       TCP
        orders    orders-api-1 10.1.0.7           node-1 None     HBONE
        payments  ledger-1     10.1.1.4,fd00:1::4 node-2 waypoint HBONE
        payments  ledger-2     10.1.0.8           node-1 waypoint HBONE
    "#]],
    );
}

#[test]
fn workloads_are_filtered() {
    let names = |filter: Workloads<'_>| {
        let dump = dump();
        let names = select_workloads(&dump, &filter).into_iter().map(|it| it.name.clone());
        names.collect::<Vec<_>>().join(" ")
    };
    let none = Workloads::default;
    assert_eq!(names(none()), "ledger-1 orders-api-1 ledger-2 bank");
    assert_eq!(
        names(Workloads {
            namespace: Some("Payments"),
            ..none()
        }),
        "ledger-1 ledger-2"
    );
    assert_eq!(
        names(Workloads {
            address: Some("fd00:1::4"),
            ..none()
        }),
        "ledger-1"
    );
    assert_eq!(
        names(Workloads {
            node: Some("node-1"),
            ..none()
        }),
        "orders-api-1 ledger-2"
    );
    let one = Workloads {
        name: Some("ledger-2"),
        namespace: Some("payments"),
        ..none()
    };
    assert_eq!(names(one), "ledger-2");
    assert_eq!(
        names(Workloads {
            node: Some("node-3"),
            ..none()
        }),
        ""
    );
}

#[test]
fn services_count_the_endpoints_that_can_be_used() {
    check(
        &services(&dump(), None),
        expect![[r#"
        NAMESPACE SERVICE NAME SERVICE VIP            WAYPOINT ENDPOINTS
        orders    orders                              None     0/0
        payments  ledger       10.96.0.20,fd00:96::20 waypoint 1/3
        payments  waypoint     10.96.0.9              None     0/0
    "#]],
    );
    check(
        &services(&dump(), Some("orders")),
        expect![[r#"
        NAMESPACE SERVICE NAME SERVICE VIP WAYPOINT ENDPOINTS
        orders    orders                   None     0/0
    "#]],
    );
}

#[test]
fn policies_are_listed() {
    check(
        &policies(&dump(), None),
        expect![[r#"
        NAMESPACE    POLICY NAME                   ACTION SCOPE
        istio-system istio_converted_static_strict Deny   WorkloadSelector
        payments     deny-all                      Allow  Namespace
        payments     ledger-callers                Allow  WorkloadSelector
    "#]],
    );
    check(
        &policies(&dump(), Some("istio-system")),
        expect![[r#"
        NAMESPACE    POLICY NAME                   ACTION SCOPE
        istio-system istio_converted_static_strict Deny   WorkloadSelector
    "#]],
    );
}

#[test]
fn certificates_are_listed_with_their_chain() {
    assert_eq!(
        unavailable(&dump()),
        "spiffe://cluster.local/ns/orders/sa/lost: the CA is away\n"
    );
    check(
        &certificates(&dump(), now()),
        expect![[r#"
            CERTIFICATE NAME                                   TYPE             STATUS           VALID CERT     SERIAL NUMBER                         NOT AFTER                NOT BEFORE
            spiffe://cluster.local/ns/payments/sa/ledger       Leaf             Available        true           100                                   2026-11-21T00:00:00Z     2026-11-20T00:00:00Z
            spiffe://cluster.local/ns/payments/sa/ledger       Intermediate     Available        false          100000000000000000000000000000000     2026-11-01T00:00:00Z     2026-01-01T00:00:00Z
            spiffe://cluster.local/ns/payments/sa/ledger       Root             Available        true           7                                     2036-01-01T00:00:00Z     2026-01-01T00:00:00Z
            spiffe://cluster.local/ns/orders/sa/orders-api     Leaf             Available        false          a                                     2026-11-22T00:00:00Z     2026-11-21T00:00:00Z
            spiffe://cluster.local/ns/orders/sa/orders-api     Root             Available        true           b                                     2036-01-01T00:00:00Z     2026-01-01T00:00:00Z
            spiffe://cluster.local/ns/orders/sa/new            NA               Initializing     false          NA                                    NA                       NA
            spiffe://cluster.local/ns/orders/sa/lost           NA               Unavailable      false          NA                                    NA                       NA
        "#]],
    );
}

#[test]
fn connections_have_names_or_addresses() {
    check(
        &connections(&dump(), &Connections::default()),
        expect![[r#"
        WORKLOAD            DIRECTION LOCAL                     REMOTE                    REMOTE TARGET                        PROTOCOL
        orders-api-1.orders Outbound  orders-api-1.orders:40112 ledger-1.payments:15008   ledger.payments.svc.cluster.local:80 HBONE
        ledger-1.payments   Inbound   ledger-1.payments:8080    orders-api-1.orders:40112 ledger.payments.svc.cluster.local    HBONE
        ledger-1.payments   Inbound   ledger-1.payments:8080    10.1.9.9:5000                                                  TCP
    "#]],
    );
    let filter = Connections {
        raw: true,
        direction: Some(Direction::Outbound),
        ..Connections::default()
    };
    check(
        &connections(&dump(), &filter),
        expect![[r#"
        WORKLOAD            DIRECTION LOCAL          REMOTE         REMOTE TARGET PROTOCOL
        orders-api-1.orders Outbound  10.1.0.7:40112 10.1.1.4:15008 10.96.0.20:80 HBONE
    "#]],
    );
    let filter = Connections {
        name: Some("ledger-1"),
        namespace: Some("payments"),
        direction: Some(Direction::Outbound),
        ..Connections::default()
    };
    check(
        &connections(&dump(), &filter),
        expect![[r#"
        WORKLOAD DIRECTION LOCAL REMOTE REMOTE TARGET PROTOCOL
    "#]],
    );
}

#[test]
fn everything_comes_with_titles_if_asked() {
    let small = Dump::parse(br#"{"workloads": []}"#).expect("a dump");
    check(
        &all(&small, true, now()),
        expect![[r#"

        ------ WORKLOAD INFO ------

        NAMESPACE POD NAME ADDRESS NODE WAYPOINT PROTOCOL

        ------ SERVICE INFO ------

        NAMESPACE SERVICE NAME SERVICE VIP WAYPOINT ENDPOINTS

        ------ POLICY INFO ------

        NAMESPACE POLICY NAME ACTION SCOPE

        ------ SECRET INFO ------

        CERTIFICATE NAME     TYPE     STATUS     VALID CERT     SERIAL NUMBER     NOT AFTER     NOT BEFORE

        ------ CONNECTIONS INFO ------

        WORKLOAD DIRECTION LOCAL REMOTE REMOTE TARGET PROTOCOL
    "#]],
    );
    let dump = dump();
    let tables = [
        workloads(&dump, &Workloads::default()),
        services(&dump, None),
        policies(&dump, None),
        certificates(&dump, now()),
        connections(&dump, &Connections::default()),
    ];
    assert_eq!(all(&dump, false, now()), format!("\n{}", tables.join("\n")));
}

#[test]
fn objects_have_istioctls_keys_in_its_order() {
    let dump = dump();
    let filter = Workloads {
        name: Some("orders-api-1"),
        ..Workloads::default()
    };
    check(
        &crate::table::json(&select_workloads(&dump, &filter)).expect("JSON"),
        expect![[r#"
            [
                {
                    "uid": "Kubernetes//Pod/orders/orders-api-1",
                    "workloadIps": [
                        "10.1.0.7"
                    ],
                    "protocol": "HBONE",
                    "name": "orders-api-1",
                    "namespace": "orders",
                    "serviceAccount": "orders-api",
                    "workloadName": "orders-api",
                    "workloadType": "deployment",
                    "canonicalName": "orders-api",
                    "canonicalRevision": "latest",
                    "clusterId": "Kubernetes",
                    "locality": {},
                    "node": "node-1",
                    "status": "Healthy",
                    "hostname": "",
                    "capacity": 1,
                    "applicationTunnel": {
                        "protocol": ""
                    }
                }
            ]
        "#]],
    );
    check(
        &crate::table::json(&select_policies(&dump, Some("payments"))).expect("JSON"),
        expect![[r#"
            [
                {
                    "name": "deny-all",
                    "namespace": "payments",
                    "scope": "Namespace",
                    "action": "Allow",
                    "rules": []
                },
                {
                    "name": "ledger-callers",
                    "namespace": "payments",
                    "scope": "WorkloadSelector",
                    "action": "Allow",
                    "rules": [
                        [
                            [
                                {
                                    "principals": [
                                        {
                                            "Exact": "cluster.local/ns/orders/sa/orders-api"
                                        }
                                    ],
                                    "destinationPorts": [
                                        8080
                                    ]
                                }
                            ]
                        ]
                    ]
                }
            ]
        "#]],
    );
}

#[test]
fn serial_numbers_are_hexadecimal() {
    for (decimal, expected) in [
        ("", "NA"),
        ("0", "0"),
        ("255", "ff"),
        ("18446744073709551616", "10000000000000000"),
        ("x", "x"),
    ] {
        assert_eq!(hexadecimal(decimal), expected);
    }
}
