//! A server of HTTP/2 on the loopback, to try clients and h2spec against: `cargo run --example server [-- --tls]`.

#[path = "../tests/certificates/mod.rs"]
mod certificates;
#[path = "../tests/server/mod.rs"]
mod server;

fn main() -> std::io::Result<()> {
    let tls = std::env::args()
        .any(|argument| argument == "--tls")
        .then(|| certificates::pair(&[&rustls::version::TLS13]).server);
    println!("{}", server::start(tls)?);
    loop {
        std::thread::park();
    }
}
