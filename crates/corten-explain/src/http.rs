//! The connection manager: what it makes of a request, its filters, and the route.

use std::net::IpAddr;

use corten_envoy::envoy::config::route::v3::{RouteConfiguration, VirtualHost, virtual_host::TlsRequirementType};
use corten_envoy::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager,
    http_connection_manager::{RouteSpecifier, StripPortMode},
};

use crate::facts::Facts;
use crate::filters::{self, Left, Scope};
use crate::network::Ended;
use crate::path::{Normalized, normalize};
use crate::route::{Taken, find, name_of};
use crate::trace::{Answer, HttpTrace, Outcome, Refusal, RouteTaken};
use crate::{Call, Config, action, host};

/// Handles the call's request.
///
/// # Errors
///
/// Something in the configuration cannot be followed; in words.
pub(crate) fn manage(
    config: &Config,
    manager: &HttpConnectionManager,
    call: &Call,
    facts: &mut Facts,
    hop: &mut Ended,
) -> Result<Outcome, String> {
    let protocol_error = |why: &str| {
        Ok(Outcome::Refused {
            error: Refusal::ProtocolError,
            status: None,
            why: why.to_owned(),
        })
    };
    if call.tls.is_some() && facts.tls.is_none() {
        return protocol_error("the filter chain reads HTTP in the clear, and TLS comes");
    }
    let Some(request) = call.request.clone().filter(|_| call.protocol.is_http()) else {
        return protocol_error("the filter chain reads HTTP, and something else comes");
    };
    facts.request = Some(request);
    arrive(manager, call, facts);
    match normalize(manager, facts.path_and_query()) {
        _ if facts.path_and_query().is_empty() => {}
        Normalized::Path(path) => facts
            .request
            .iter_mut()
            .for_each(|request| request.path.clone_from(&path)),
        Normalized::Rejected(why) => {
            return Ok(Outcome::Refused {
                error: Refusal::BadRequest,
                status: Some(400),
                why: why.to_owned(),
            });
        }
        Normalized::Redirected(path) => {
            let location = Some(path);
            return Ok(Outcome::Answered(Answer {
                status: 307,
                location,
                ..Answer::default()
            }));
        }
    }
    let empty = RouteConfiguration::default();
    let (name, by_name, routes) = match &manager.route_specifier {
        Some(RouteSpecifier::RouteConfig(routes)) => (routes.name.clone(), false, routes),
        Some(RouteSpecifier::Rds(rds)) => (
            rds.route_config_name.clone(),
            true,
            config.routes.get(&rds.route_config_name).unwrap_or(&empty),
        ),
        Some(RouteSpecifier::ScopedRoutes(scoped)) => {
            return Err(format!("the scoped routes {:?} are not followed here", scoped.name));
        }
        None => (String::new(), false, &empty),
    };
    let mut http = HttpTrace {
        route_config: name,
        by_name,
        ..HttpTrace::default()
    };
    let mut routing = Routing::new(routes, facts, &mut http);
    for filter in &manager.http_filters {
        let scope = Scope {
            route: routing.taken.first().map(|taken| taken.route),
            host: routing.host,
            config: Some(routes),
        };
        let (verdict, left) = match filters::run(filter, scope, call.now, facts) {
            Ok(ran) => ran,
            Err(why) => {
                hop.http = Some(http);
                return Err(why);
            }
        };
        let why = verdict.why.clone();
        hop.filters.push(verdict);
        let outcome = match left {
            Left::On => continue,
            Left::Again => {
                routing = Routing::new(routes, facts, &mut http);
                continue;
            }
            Left::Answered(answer) => Outcome::Answered(answer),
            Left::Ended(error, status) => Outcome::Refused {
                error,
                status,
                why: format!("{}: {why}", filter.name),
            },
        };
        hop.http = Some(http);
        return Ok(outcome);
    }
    hop.alpn_override = manager.http_filters.iter().any(|filter| filter.name == "istio.alpn");
    let outcome = routing.end(config, routes, facts, &mut http, hop);
    hop.http = Some(http);
    Ok(outcome)
}

/// What the connection manager makes of the request line and of what earlier proxies said.
fn arrive(manager: &HttpConnectionManager, call: &Call, facts: &mut Facts) {
    facts.remote = remote(manager, facts);
    let is_tls = facts.tls.is_some();
    let by_connection = if is_tls { "https" } else { "http" };
    let said = facts
        .header("x-forwarded-proto")
        .filter(|said| said == "http" || said == "https");
    // Who decides where the request comes from decides by what it came, too.
    let trusted =
        !manager.use_remote_address.as_ref().is_some_and(|value| value.value) || manager.xff_num_trusted_hops > 0;
    facts.scheme = said.filter(|_| trusted).unwrap_or_else(|| by_connection.to_owned());
    let Some(request) = &mut facts.request else { return };
    if matches!(manager.strip_port_mode, Some(StripPortMode::StripAnyHostPort(true))) {
        request.host = host::without_port(&request.host).to_owned();
    } else if manager.strip_matching_host_port {
        let stripped = host::without_port(&request.host);
        if request.host[stripped.len()..].strip_prefix(':') == Some(&call.destination.port().to_string()) {
            request.host = stripped.to_owned();
        }
    }
    if manager.strip_trailing_host_dot {
        let stripped = host::without_port(&request.host);
        if let Some(bare) = stripped.strip_suffix('.') {
            request.host = format!("{bare}{}", &request.host[stripped.len()..]);
        }
    }
}

/// Where the request comes from: the connection's address, or what trusted proxies wrote into `x-forwarded-for`.
fn remote(manager: &HttpConnectionManager, facts: &Facts) -> IpAddr {
    let direct = facts.source.ip();
    let own = manager.use_remote_address.as_ref().is_some_and(|value| value.value);
    let hops = usize::try_from(manager.xff_num_trusted_hops).unwrap_or(usize::MAX);
    let from_the_right = match (own, hops) {
        (true, 0) => return direct,
        (true, hops) => hops - 1,
        (false, hops) => hops,
    };
    let forwarded = facts.header("x-forwarded-for").unwrap_or_default();
    let found = forwarded
        .rsplit(',')
        .nth(from_the_right)
        .and_then(|address| address.trim().parse().ok());
    found.unwrap_or(direct)
}

struct Routing<'a> {
    host: Option<&'a VirtualHost>,
    taken: Vec<Taken<'a>>,
}

impl<'a> Routing<'a> {
    fn new(routes: &'a RouteConfiguration, facts: &Facts, http: &mut HttpTrace) -> Self {
        let authority = facts.request.as_ref().map_or("", |request| &*request.host);
        let found = host::find(routes, authority);
        http.virtual_host = found.as_ref().map(|(host, _)| host.name.clone());
        http.domain = found.as_ref().map_or(String::new(), |(_, domain)| domain.clone());
        let host = found.map(|(host, _)| host);
        let (taken, passed_over) = host.map_or((Vec::new(), Vec::new()), |host| find(host, facts));
        http.passed_over = passed_over;
        Self { host, taken }
    }

    /// Does what the routes say.
    fn end(
        &self,
        config: &Config,
        routes: &RouteConfiguration,
        facts: &Facts,
        http: &mut HttpTrace,
        hop: &mut Ended,
    ) -> Outcome {
        let not_found = |error: Refusal, why: String| Outcome::Refused {
            error,
            status: Some(404),
            why,
        };
        let authority = facts.request.as_ref().map_or("", |request| &*request.host);
        let Some(host) = self.host else {
            return not_found(
                Refusal::NoVirtualHost,
                format!(
                    "no virtual host of {:?} has the domain {authority:?}",
                    http.route_config
                ),
            );
        };
        let wants_tls = matches!(
            host.require_tls(),
            TlsRequirementType::All | TlsRequirementType::ExternalOnly
        );
        if wants_tls && facts.scheme != "https" {
            let to = format!("https://{authority}{}", facts.path_and_query());
            http.passed_over.clear();
            let why = format!("the virtual host {} wants TLS: the client is sent to {to}", host.name);
            return Outcome::Refused {
                error: Refusal::TlsRedirect,
                status: Some(301),
                why,
            };
        }
        if self.taken.is_empty() {
            return not_found(
                Refusal::NoRoute,
                format!("no route of the virtual host {} matches", host.name),
            );
        }
        let mut outcome = None;
        for taken in &self.taken {
            let mut shown = RouteTaken {
                name: name_of(taken.route, taken.index),
                index: taken.index,
                share: taken.share,
                because: taken.because.clone(),
                action: String::new(),
                settings: Vec::new(),
                answer: None,
                timeout_ms: None,
                retries: None,
                mirrors: Vec::new(),
            };
            let ends = action::run(
                config,
                Scope {
                    route: Some(taken.route),
                    host: Some(host),
                    config: Some(routes),
                },
                taken.share,
                facts,
                &mut shown,
                hop,
            );
            http.routes.push(shown);
            // Of several routes that split the calls, one that forwards says how the hop ends.
            if outcome.is_none() || matches!(ends, Outcome::Forwarded) {
                outcome = Some(ends);
            }
        }
        outcome.unwrap_or(Outcome::Forwarded)
    }
}
