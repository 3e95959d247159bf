//! Tunnel requests, and where they go.

use crate::{Settings, testing::mesh};

const MESH: &str = "
    workload server ip=10.0.0.2,fd00::2 hbone of=ns/web.ns+81:9000,other/web.other
    workload plain-wp ip=10.0.0.8 hbone of=ns/wp
    workload proxy-wp ip=10.0.0.9 hbone of=ns/pwp tunnel=proxy:15088
    workload none-wp ip=10.0.0.10 hbone tunnel=none:8443
    workload behind ip=10.0.0.20 waypoint=ns/wp:15008
    workload behind2 ip=10.0.0.21 waypoint=10.0.0.8:15008
    service ns/wp vip=10.1.0.8 ports=15008:15008
    service ns/pwp vip=10.1.0.9 ports=15008:15008
    service ns/web.ns vip=fd01::1,10.1.0.1,n2|10.2.0.1 ports=80:8080,81:0,82:0,83:15006 waypoint=10.1.0.8:15008
    service ns/canary vip=10.1.0.3 ports=80:8080 weighted=ns/other:15008@50,ns/wp:15008@50
    service ns/private vip=10.1.0.4 ports=80:8080 waypoint=ns/wp:15008 private
    service ns/headless ports=80:8080
    service other/web.other vip=10.1.0.2 ports=80:8081 private
    service other/unseen vip=10.1.0.5 ports=80:8081 private
";

#[track_caller]
fn check(local: &str, authority: &str, expected: &str) {
    let tables = mesh(MESH);
    let local = tables.local("ns", local, "default").unwrap();
    let at = std::net::SocketAddr::new(local.addresses[0], 15008);
    let got = match tables.inbound(&Settings::default(), local, at, authority) {
        Ok(target) => {
            let proxy = target.proxy_header.map(|to| format!(" PROXY {to}")).unwrap_or_default();
            let service = target
                .service
                .map(|service| format!(" of {}", service.hostname))
                .unwrap_or_default();
            format!("{} via {}{proxy}{service}", target.destination, target.connect)
        }
        Err(error) => format!("{}: {error}", error.status()),
    };
    assert_eq!(got, expected, "{authority}");
}

#[test]
fn addresses() {
    check("server", "10.0.0.2:80", "10.0.0.2:80 via 10.0.0.2:80");
    check("server", "[::ffff:10.0.0.2]:80", "10.0.0.2:80 via 10.0.0.2:80");
    let mismatch = |requested: &str| {
        format!("400: the tunnel asks for {requested}, but 10.0.0.2 is not its address and not its waypoint")
    };
    check("server", "10.0.0.3:80", &mismatch("10.0.0.3"));
    check("server", "127.0.0.1:80", &mismatch("127.0.0.1"));
    check("server", "10.1.0.1:80", &mismatch("10.1.0.1"));
    for port in [15001, 15006, 15008] {
        check(
            "server",
            &format!("10.0.0.2:{port}"),
            &format!("503: attempted recursive call to ourselves: 10.0.0.2:{port} is a port of this proxy"),
        );
    }
    check("server", "nonsense", "400: the authority has no port");
    check(
        "server",
        ":80",
        "400: the authority's host is neither an address nor a name",
    );
}

#[test]
fn names() {
    check("server", "web.ns:80", "10.0.0.2:8080 via 10.0.0.2:8080 of web.ns");
    check("server", "web.ns:81", "10.0.0.2:9000 via 10.0.0.2:9000 of web.ns");
    check(
        "server",
        "web.ns:82",
        "503: service web.ns has no port 82 that leads to a port of this workload",
    );
    check(
        "server",
        "web.ns:83",
        "503: attempted recursive call to ourselves: 10.0.0.2:15006 is a port of this proxy",
    );
    check("server", "unseen:80", "503: no service is named 'unseen'");
    check("server", "none:80", "503: no service is named 'none'");
}

#[test]
fn waypoints_take_what_is_theirs() {
    for address in ["10.0.0.20", "10.0.0.21", "10.1.0.1", "10.1.0.3", "10.1.0.4"] {
        check("plain-wp", &format!("{address}:80"), "10.0.0.8:80 via 10.0.0.8:80");
    }
    check(
        "plain-wp",
        "10.1.0.2:80",
        "400: the tunnel asks for 10.1.0.2, but 10.0.0.8 is not its address and not its waypoint",
    );
    check(
        "proxy-wp",
        "10.77.0.1:80",
        "10.0.0.9:15088 via 127.0.0.1:15088 PROXY 10.77.0.1:80",
    );
    check(
        "proxy-wp",
        "web.ns:80",
        "10.0.0.9:15088 via 127.0.0.1:15088 PROXY 10.1.0.1:80 of web.ns",
    );
    check("proxy-wp", "headless:80", "503: service headless has no address");
    check("none-wp", "10.77.0.1:80", "10.0.0.10:8443 via 10.0.0.10:8443");
}

#[test]
fn services_that_peers_mean() {
    let tables = mesh(MESH);
    let local = tables.local("ns", "server", "default").unwrap();
    let named = |host: &str| {
        tables
            .intended_service(local, host)
            .map(|service| service.namespace.to_string())
    };
    assert_eq!(named("web.ns").as_deref(), Some("ns"));
    assert_eq!(named("web.other").as_deref(), Some("other"));
    assert_eq!(named("headless"), None);
}
