//! What operators and probes ask over HTTP: admin, metrics, readiness.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use corten_admin::http::{Handler, Request, Response, serve};
use corten_rt::TaskGroup;
use http::{Method, StatusCode};
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::data_plane::DataPlane;
use super::dump;

/// What has to happen before the proxy is ready.
#[derive(Debug, Default)]
pub struct Readiness(watch::Sender<BTreeSet<&'static str>>);

impl Readiness {
    /// Something is not done, or no longer.
    pub fn pending(&self, task: &'static str) {
        self.0.send_if_modified(|open| open.insert(task));
    }

    /// Something is done.
    pub fn done(&self, task: &'static str) {
        self.0.send_if_modified(|open| open.remove(task));
    }

    /// What is not done.
    pub fn open(&self) -> Vec<&'static str> {
        self.0.borrow().iter().copied().collect()
    }

    /// Resolves when nothing is left to be done.
    pub async fn nothing_open(&self) {
        // The sender is ours, so that this never fails.
        let _ = self.0.subscribe().wait_for(BTreeSet::is_empty).await;
    }
}

/// What the servers need.
#[derive(Clone)]
pub struct Servers {
    /// The shards.
    pub data_plane: Arc<DataPlane>,
    /// What is not done yet.
    pub readiness: Arc<Readiness>,
    /// Told to end the process.
    pub quit: Arc<watch::Sender<bool>>,
    /// The levels the log began with.
    pub levels: Arc<str>,
}

/// Version told by `istio_build` and `config_dump`.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

impl Servers {
    /// Binds all of them and serves until the group ends.
    pub async fn start(&self, tasks: &TaskGroup) -> io::Result<()> {
        let addresses = self.data_plane.common().config.servers.clone();
        let servers: [(&'static str, SocketAddr, Handler); 3] = [
            ("admin", addresses.admin, self.handler(Self::admin)),
            ("metrics", addresses.stats, self.handler(Self::metrics)),
            ("readiness", addresses.readiness, self.handler(Self::ready)),
        ];
        for (name, address, handler) in servers {
            let listener = bind(address).await.map_err(|error| {
                let text = format!("cannot serve {name} on {address}: {error}");
                io::Error::new(error.kind(), text)
            })?;
            let again = handler.clone();
            tasks.serve(name, |drain| serve(listener, handler, drain));
            // The admin server is on both loopback addresses, where there are two.
            if address.ip() == IpAddr::V4(Ipv4Addr::LOCALHOST)
                && self.data_plane.common().config.ipv6
                && let Ok(listener) = TcpListener::bind((Ipv6Addr::LOCALHOST, address.port())).await
            {
                tasks.serve(name, |drain| serve(listener, again, drain));
            }
        }
        Ok(())
    }

    fn handler<F>(&self, answer: fn(Servers, Request) -> F) -> Handler
    where
        F: Future<Output = Response> + Send + 'static,
    {
        let servers = self.clone();
        Handler::new(move |request| answer(servers.clone(), request))
    }

    async fn ready(self, request: Request) -> Response {
        if request.path != "/healthz/ready" {
            return Response::not_found();
        }
        corten_rt::probe::ready_or_late(self.readiness.nothing_open()).await;
        let open = self.readiness.open();
        if open.is_empty() {
            return Response::text(StatusCode::OK, "ready\n");
        }
        let text = format!("not ready, pending: {}\n", open.join(", "));
        Response::text(StatusCode::INTERNAL_SERVER_ERROR, text)
    }

    async fn metrics(self, request: Request) -> Response {
        if !matches!(request.path.as_str(), "/metrics" | "/stats/prometheus") {
            return Response::not_found();
        }
        let text = self.data_plane.common().metrics.text(VERSION);
        let content_type = if request.accept.contains("application/openmetrics-text") {
            "application/openmetrics-text;charset=utf-8;version=1.0.0"
        } else {
            "text/plain; charset=utf-8"
        };
        Response {
            content_type,
            ..Response::text(StatusCode::OK, text)
        }
    }

    async fn admin(self, request: Request) -> Response {
        match (request.path.as_str(), &request.method) {
            ("/config_dump", &Method::GET) => Response::json(&dump::config_dump(&self.data_plane).await),
            ("/quitquitquit", &Method::POST) => {
                self.quit.send_replace(true);
                Response::text(StatusCode::OK, "shutdown now\n")
            }
            ("/logging", &Method::POST) => self.logging(&request),
            ("/", &Method::GET) => Response::html(INDEX),
            (path, &Method::GET) if path.starts_with("/debug/pprof/") => {
                let text = format!(
                    "this program takes no profiles of itself: `perf record -g -p {pid}` shows where its time goes, \
                     /proc/{pid}/smaps_rollup what memory it has\n",
                    pid = std::process::id()
                );
                Response::text(StatusCode::NOT_IMPLEMENTED, text)
            }
            ("/config_dump" | "/quitquitquit" | "/logging" | "/", _) => Response::wrong_method(),
            _ => Response::not_found(),
        }
    }

    fn logging(&self, request: &Request) -> Response {
        let reset = request.parameter("reset").is_some();
        let wanted = if reset {
            Some(self.levels.to_string())
        } else {
            request.parameter("level")
        };
        if let Some(levels) = wanted.filter(|levels| !levels.is_empty()) {
            if let Err(error) = corten_rt::log::set_levels(&levels) {
                return Response::text(StatusCode::BAD_REQUEST, format!("{error}\n"));
            }
            self.data_plane.common().access.set_levels(&levels);
        }
        let current = corten_rt::log::levels();
        Response::text(StatusCode::OK, format!("current log level is {current}\n"))
    }
}

const INDEX: &str = "<!DOCTYPE html><title>corten-node</title><h1>corten-node</h1><ul>\
<li><a href=\"config_dump\">config_dump</a>: workloads, services, policies, certificates, connections</li>\
<li>logging (POST): log levels</li><li>quitquitquit (POST): drain and end</li></ul>\n";

/// Binds; where there is no IPv6, its wildcard becomes that of IPv4.
async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    match TcpListener::bind(address).await {
        Err(_) if address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) => {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, address.port())).await
        }
        outcome => outcome,
    }
}
