//! Steps about calls: what is sent, and what must come of it.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use corten_explain::{Call, Protocol, Request};
use serde_json::{Value, json};

use super::backend::Port;
use super::cluster::Cluster;
use super::traffic::{Reply, Trust, tls};
use super::{kind, list, text};

/// Where calls are said to go before it is known where they go.
const NOWHERE: &str = "0.0.0.0:0";
/// What a share may differ by from what is measured in the suite.
const TOLERANCE: f64 = 0.05;

/// The last call and what became of it.
pub(super) struct Last {
    replies: Vec<Reply>,
}

/// What is wrong with a step.
pub(super) fn check(
    cluster: &Cluster,
    steps: &[Value],
    at: usize,
    of: &str,
    last: &mut Option<Last>,
) -> Result<Vec<String>> {
    let step = &steps[at][of];
    let expect = &step["expect"];
    let mut problems = Vec::new();
    match of {
        "http" | "https" | "grpc" | "websocket" | "mesh" | "tcp" | "udp" | "tlsConnect" => {
            let sent = send(cluster, of, step)?;
            for reply in &sent.replies {
                match of {
                    "tcp" | "udp" => bytes(reply, expect, of, &mut problems),
                    _ => judge(cluster, &sent, reply, expect, of, &mut problems)?,
                }
            }
            if sent.replies.is_empty() {
                problems.push("the call ends nowhere".to_owned());
            }
            mirrored(&sent.replies, list(&expect["mirroredTo"]), &mut problems);
            *last = Some(Last { replies: sent.replies });
        }
        "mirrored" => {
            // The request is that of the step beside it.
            let path = &step["path"];
            let is_it = |other: &&Value| other[kind(other)]["request"]["path"] == *path;
            let found = steps[at..].iter().chain(steps[..at].iter().rev()).find(is_it);
            let found = found.with_context(|| format!("no step has a request to {path}"))?;
            let sent = send(cluster, kind(found), &found[kind(found)])?;
            mirrored(&sent.replies, list(&step["to"]), &mut problems);
        }
        "weights" => weights(
            &last.as_ref().context("there is no earlier request")?.replies,
            step,
            &mut problems,
        ),
        "sample" => sample(
            &last.as_ref().context("there is no earlier request")?.replies,
            step,
            &mut problems,
        )?,
        other => bail!("the step {other} is not known"),
    }
    Ok(problems)
}

/// A call that was sent.
struct Sent {
    request: Option<Request>,
    /// Whether the request names a host.
    has_host: bool,
    scheme: &'static str,
    replies: Vec<Reply>,
}

fn send(cluster: &Cluster, of: &str, step: &Value) -> Result<Sent> {
    let asked = &step["request"];
    let mut call = Call::new(NOWHERE.parse()?);
    let is_grpc = of == "grpc" || asked["protocol"] == "grpc";
    let mut trust = None;
    let has_host = asked["host"].is_string() || asked["authority"].is_string();
    if !matches!(of, "tcp" | "udp" | "tlsConnect") {
        let mut request = request(asked, is_grpc);
        if !has_host && of == "mesh" {
            "echo".clone_into(&mut request.host);
        } else if !has_host {
            let gateway = cluster.object("Gateway", text(&step["via"]["gateway"]))?;
            text(&gateway["status"]["addresses"][0]["value"]).clone_into(&mut request.host);
        }
        if of == "websocket" {
            request = request.header("connection", "Upgrade").header("upgrade", "websocket");
        }
        call = call.http(request);
        if is_grpc || matches!(text(&asked["protocol"]), "H2" | "H2C" | "H2C_PRIOR_KNOWLEDGE") {
            call.protocol = Protocol::Http2;
        }
    }
    let asked_tls = &step["tls"];
    if of == "https" || of == "tlsConnect" || asked_tls.is_object() {
        let shown = asked_tls["clientCertificate"]["secret"].as_str();
        let shown = shown.map(|name| cluster.entry("Secret", name, "tls.crt")).transpose()?;
        let trusted = &asked_tls["trust"];
        let named = [("secret", "Secret"), ("configMap", "ConfigMap")]
            .into_iter()
            .find_map(|(key, kind)| Some((kind, trusted[key].as_str()?)));
        call = call
            .clone()
            .tls(tls(text(&asked_tls["sni"]), call.protocol, shown.is_some()));
        trust = match named {
            Some((kind, name)) => {
                let entry = trusted["key"].as_str().unwrap_or("tls.crt");
                let trusted = cluster.entry(kind, name, entry)?;
                Some(Trust { trusted, shown })
            }
            None => None,
        };
    }
    let request = call.request.clone();
    let replies = if of == "mesh" {
        mesh(cluster, step, call)?
    } else {
        let gateway = text(&step["via"]["gateway"]);
        let port = port(cluster, of, &step["via"])?;
        cluster.through(gateway, port, call, trust.as_ref())?
    };
    let scheme = if of == "https" { "https" } else { "http" };
    Ok(Sent {
        request,
        has_host,
        scheme,
        replies,
    })
}

fn mesh(cluster: &Cluster, step: &Value, call: Call) -> Result<Vec<Reply>> {
    let (from, asked) = (&step["from"], &step["request"]);
    let wanted = text(&from["selector"])
        .split(',')
        .filter_map(|pair| pair.split_once('='));
    let client = cluster.pods().find(|pod| {
        let labels = &pod["metadata"]["labels"];
        pod["metadata"]["namespace"] == from["namespace"] && wanted.clone().all(|(key, value)| labels[key] == value)
    });
    let client = client.with_context(|| format!("no pod is {from}"))?;
    let host = asked["host"].as_str().unwrap_or("echo");
    let port = match host.rsplit_once(':') {
        Some((_, port)) => port.parse().with_context(|| format!("the port of {host}"))?,
        None => asked["port"]
            .as_u64()
            .and_then(|port| port.try_into().ok())
            .unwrap_or(80),
    };
    cluster.between(client, host, port, call)
}

fn request(asked: &Value, is_grpc: bool) -> Request {
    let mut request = Request {
        method: asked["method"].as_str().unwrap_or("GET").to_owned(),
        host: asked["host"]
            .as_str()
            .or_else(|| asked["authority"].as_str())
            .unwrap_or_default()
            .to_owned(),
        path: asked["path"].as_str().unwrap_or("/").to_owned(),
        headers: Vec::new(),
    };
    let pairs: Vec<String> = asked["query"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, value)| {
            format!(
                "{key}={}",
                value.as_str().map_or_else(|| value.to_string(), str::to_owned)
            )
        })
        .chain(asked["uniqueQueryParam"].as_str().map(|key| format!("{key}=1")))
        .collect();
    if !pairs.is_empty() {
        let joint = if request.path.contains('?') { "&" } else { "?" };
        request.path = format!("{}{joint}{}", request.path, pairs.join("&"));
    }
    if is_grpc {
        "POST".clone_into(&mut request.method);
        request.path = match (asked["service"].as_str(), asked["method"].as_str()) {
            (Some(service), Some(method)) => format!("/{service}/{method}"),
            _ => "/proto.EchoTestService/Echo".to_owned(),
        };
        request = request
            .header("content-type", "application/grpc")
            .header("te", "trailers");
    }
    for headers in [&asked["headers"], &asked["metadata"]] {
        for (name, value) in headers.as_object().into_iter().flatten() {
            request = request.header(name, text(value));
        }
    }
    // What the backend is to say in its answer, it is told by a header.
    let set: Vec<String> = asked["backendSetResponseHeaders"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, value)| format!("{name}:{}", text(value)))
        .collect();
    if !set.is_empty() {
        request = request.header("x-echo-set-header", &set.join(","));
    }
    request
}

/// The port of a gateway that a step is about: the one it names, that of the listener it names, or of the first that speaks so.
fn port(cluster: &Cluster, of: &str, via: &Value) -> Result<u16> {
    let number = |value: &Value| value.as_u64().and_then(|port| u16::try_from(port).ok());
    if let Some(port) = number(&via["port"]) {
        return Ok(port);
    }
    let gateway = cluster.object("Gateway", text(&via["gateway"]))?;
    let listeners = list(&gateway["spec"]["listeners"]);
    let named = list(&via["listeners"]);
    let speaks: &[&str] = match of {
        "https" | "tlsConnect" => &["HTTPS", "TLS"],
        "tcp" => &["TCP", "TLS"],
        "udp" => &["UDP"],
        _ => &["HTTP"],
    };
    let by_name = listeners
        .iter()
        .find(|listener| named.first() == Some(&listener["name"]));
    let by_protocol = || {
        listeners
            .iter()
            .find(|listener| speaks.contains(&text(&listener["protocol"])))
    };
    let found = by_name.or_else(by_protocol).or_else(|| listeners.first());
    Ok(found.and_then(|listener| number(&listener["port"])).unwrap_or(80))
}

/// What is wrong with what became of bytes.
fn bytes(reply: &Reply, expect: &Value, of: &str, problems: &mut Vec<String>) {
    let arrived = matches!(
        (&reply.port, of),
        (Some(Port::Udp), "udp") | (Some(Port::Tcp | Port::Tls { http: false, .. }), "tcp")
    );
    let rejected = expect["connectionRejected"] == true || expect["connectionError"] == true;
    if rejected == arrived {
        problems.push(format!("it arrives at {:?}: {}", reply.port, reply.why));
        return;
    }
    backend(reply, expect, problems);
    if let Some(wanted) = expect["backendIsTLS"].as_bool()
        && wanted != matches!(reply.port, Some(Port::Tls { .. }))
    {
        problems.push(format!("it arrives at {:?}", reply.port));
    }
}

/// Whether a reply is of the backend that was expected.
fn backend(reply: &Reply, expect: &Value, problems: &mut Vec<String>) {
    let (namespace, name) = reply.backend.clone().unwrap_or_default();
    let wanted = expect["backend"]
        .as_str()
        .or_else(|| expect["service"].as_str())
        .unwrap_or_default();
    if !name.starts_with(wanted) || expect["namespace"].as_str().is_some_and(|wanted| wanted != namespace) {
        problems.push(format!(
            "{namespace}/{name} answers, expected {}/{wanted}: {}",
            text(&expect["namespace"]),
            reply.why
        ));
    }
}

fn judge(
    cluster: &Cluster,
    sent: &Sent,
    reply: &Reply,
    expect: &Value,
    of: &str,
    problems: &mut Vec<String>,
) -> Result<()> {
    if ["connectionError", "connectionRejected"]
        .iter()
        .any(|key| expect[key] == true)
    {
        if let Some(status) = reply.status {
            problems.push(format!("the answer is {status}, and not that the connection is closed"));
        }
        return Ok(());
    }
    if of == "grpc" {
        let code = reply.grpc.as_deref().unwrap_or("none");
        if expect["code"].as_str().is_some_and(|wanted| wanted != code)
            || list(&expect["codeNot"]).contains(&json!(code))
        {
            problems.push(format!("the code is {code}, expected {expect}: {}", reply.why));
            return Ok(());
        }
        if code != "OK" {
            return Ok(());
        }
    } else {
        let Some(status) = reply.status else {
            if expect["statusNot"].is_null() {
                problems.push(format!("the connection is closed: {}", reply.why));
            }
            return Ok(());
        };
        let usual = json!([200]);
        let wanted = if expect["status"].is_null() && expect["statusNot"].is_null() {
            &usual
        } else {
            &expect["status"]
        };
        let is_wrong = wanted.is_array() && !list(wanted).contains(&json!(status));
        if is_wrong || list(&expect["statusNot"]).contains(&json!(status)) {
            problems.push(format!("the status is {status}, expected {expect}: {}", reply.why));
            return Ok(());
        }
        if status != 200 && reply.backend.is_none() {
            redirect(sent, reply, &expect["redirect"], problems);
            headers(&reply.headers, &expect["responseHeaders"], problems);
            return Ok(());
        }
    }
    backend(reply, expect, problems);
    if reply.backend.is_some() {
        upstream(cluster, sent, reply, expect, of, problems)?;
    }
    headers(&reply.headers, &expect["responseHeaders"], problems);
    Ok(())
}

/// What is wrong with the request as the backend sees it.
fn upstream(
    cluster: &Cluster,
    sent: &Sent,
    reply: &Reply,
    expect: &Value,
    of: &str,
    problems: &mut Vec<String>,
) -> Result<()> {
    let wanted = &expect["upstreamRequest"];
    let seen = reply.seen.as_ref();
    let (Some(asked), Some(request)) = (&sent.request, seen.and_then(|call| call.request.as_ref())) else {
        return Ok(());
    };
    let mut compare = |what: &str, found: &str, wanted: &str| {
        if found != wanted {
            problems.push(format!("the backend sees the {what} {found:?}, expected {wanted:?}"));
        }
    };
    let host = wanted["host"]
        .as_str()
        .or_else(|| sent.has_host.then_some(&*asked.host));
    if let Some(host) = host.filter(|_| of != "mesh" || wanted["host"].is_string()) {
        compare("host", &request.host, host);
    }
    if of != "mesh" {
        compare("path", &request.path, wanted["path"].as_str().unwrap_or(&asked.path));
        compare(
            "method",
            &request.method,
            wanted["method"].as_str().unwrap_or(&asked.method),
        );
    }
    if let Some(sni) = wanted["sni"].as_str() {
        let found = seen.and_then(|call| call.tls.as_ref()).map_or("", |tls| &*tls.sni);
        compare("server name", found, sni);
    }
    if let Some(secret) = wanted["clientCert"]["secret"].as_str() {
        let wanted = cluster.entry(
            "Secret",
            secret,
            wanted["clientCert"]["key"].as_str().unwrap_or("tls.crt"),
        )?;
        compare("certificate", reply.certificate.as_deref().unwrap_or_default(), &wanted);
    }
    // Of requests of gRPC the suite compares nothing more than where they arrive: rules of one route have the same matches in it, and the
    // first takes them all.
    if of == "grpc" {
        return Ok(());
    }
    let given = [&wanted["headers"], &wanted["metadata"]];
    let named = given.into_iter().filter_map(Value::as_object).flatten();
    for (name, value) in named {
        compare(
            &format!("header {name}"),
            &request.get(name).unwrap_or_default(),
            text(value),
        );
    }
    let is_said = |name: &str| {
        let names = given.into_iter().filter_map(Value::as_object).flatten();
        names.into_iter().any(|(key, _)| key.eq_ignore_ascii_case(name))
    };
    let absent = list(&wanted["absentHeaders"]).iter().chain(list(&wanted["absent"]));
    let absent: Vec<String> = absent.map(|name| text(name).to_ascii_lowercase()).collect();
    for (name, value) in &asked.headers {
        let own = matches!(
            &**name,
            "connection" | "upgrade" | "te" | "content-type" | "x-echo-set-header"
        );
        if given.iter().all(|map| map.is_null()) && !own && !is_said(name) && !absent.contains(name) {
            compare(&format!("header {name}"), &request.get(name).unwrap_or_default(), value);
        }
    }
    for name in absent {
        if let Some(value) = request.get(&name) {
            problems.push(format!("the backend sees the header {name}: {value}"));
        }
    }
    Ok(())
}

fn redirect(sent: &Sent, reply: &Reply, wanted: &Value, problems: &mut Vec<String>) {
    if !wanted.is_object() {
        return;
    }
    let Some(location) = &reply.location else {
        problems.push("the answer redirects nowhere".to_owned());
        return;
    };
    let (scheme, rest) = location.split_once("://").unwrap_or((sent.scheme, location));
    let (authority, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
    let (host, port) = authority.rsplit_once(':').unwrap_or((authority, ""));
    let path = path.split('?').next().unwrap_or_default();
    let asked = sent.request.as_ref().map_or("/", |request| &*request.path);
    let asked = asked.split('?').next().unwrap_or_default();
    let mut compare = |what: &str, found: &str, wanted: &str| {
        if found != wanted {
            problems.push(format!(
                "the redirect's {what} is {found:?}, expected {wanted:?}: {location}"
            ));
        }
    };
    compare("scheme", scheme, wanted["scheme"].as_str().unwrap_or(sent.scheme));
    if let Some(wanted) = wanted["host"].as_str() {
        compare("host", host, wanted);
    }
    compare("path", path, wanted["path"].as_str().unwrap_or(asked));
    let said = &wanted["port"];
    let said = said.as_str().map_or_else(
        || said.as_u64().map(|port| port.to_string()),
        |port| Some(port.to_owned()),
    );
    let usual = if scheme == "https" { "443" } else { "80" };
    match said.filter(|port| !port.is_empty()) {
        Some(wanted) => compare("port", if port.is_empty() { usual } else { port }, &wanted),
        None if port.is_empty() => {}
        None => compare("port", port, usual),
    }
}

fn headers(found: &[(String, String)], wanted: &Value, problems: &mut Vec<String>) {
    let get = |name: &str| {
        let values: Vec<&str> = found
            .iter()
            .filter(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
            .collect();
        (!values.is_empty()).then(|| values.join(","))
    };
    for (name, value) in wanted["equal"].as_object().into_iter().flatten() {
        let found = get(name).unwrap_or_default();
        if found != text(value) {
            problems.push(format!("the answer's header {name} is {found:?}, expected {value}"));
        }
    }
    for (name, permitted) in wanted["oneOf"].as_object().into_iter().flatten() {
        let found = get(name).unwrap_or_default();
        if !list(permitted).contains(&json!(found)) {
            problems.push(format!(
                "the answer's header {name} is {found:?}, expected one of {permitted}"
            ));
        }
    }
    for name in list(&wanted["absent"]) {
        if let Some(value) = get(text(name)) {
            problems.push(format!("the answer has the header {name}: {value}"));
        }
    }
}

fn mirrored(replies: &[Reply], wanted: &[Value], problems: &mut Vec<String>) {
    for wanted in wanted {
        let (name, namespace) = (text(&wanted["name"]), text(&wanted["namespace"]));
        let copies = replies.iter().flat_map(|reply| &reply.mirrored);
        let share: f64 = copies
            .filter(|((of, pod), _)| of == namespace && pod.starts_with(name))
            .map(|(_, share)| share)
            .sum();
        let expected = wanted["percent"].as_f64().unwrap_or(100.0) / 100.0;
        if (share - expected).abs() > 1e-6 {
            problems.push(format!(
                "{share} of the requests are mirrored to {name}, expected {expected}"
            ));
        }
    }
}

fn weights(replies: &[Reply], step: &Value, problems: &mut Vec<String>) {
    let tolerance = step["tolerance"].as_f64().unwrap_or(TOLERANCE);
    let wanted = step["distribution"].as_object();
    let mut shares: BTreeMap<&str, f64> = BTreeMap::new();
    for reply in replies {
        let name = reply.backend.as_ref().map_or("", |(_, name)| name);
        let known = wanted.into_iter().flatten().map(|(known, _)| known.as_str());
        let longest = known
            .filter(|known| name.starts_with(known))
            .max_by_key(|known| known.len());
        *shares.entry(longest.unwrap_or(name)).or_default() += reply.share;
    }
    for (name, share) in wanted.into_iter().flatten() {
        let found = shares.remove(name.as_str()).unwrap_or_default();
        let share = share.as_f64().unwrap_or_default();
        if (found - share).abs() > tolerance || (share == 0.0 && found > 0.0) {
            problems.push(format!("{name} gets {found} of the requests, expected {share}"));
        }
    }
    problems.extend(
        shares
            .iter()
            .map(|(name, share)| format!("{name:?} gets {share} of the requests")),
    );
}

/// `sample` says in words what to look at.
fn sample(replies: &[Reply], step: &Value, problems: &mut Vec<String>) -> Result<()> {
    let words = text(&step["expect"]);
    let header = words
        .strip_prefix("exactly one ")
        .and_then(|rest| {
            rest.strip_suffix(" request header arrives upstream and the answering pod name starts with its value")
        })
        .with_context(|| format!("{words:?} is not understood"))?;
    for reply in replies {
        let value = reply
            .seen
            .as_ref()
            .and_then(|call| call.request.as_ref()?.get(header))
            .unwrap_or_default();
        let name = reply.backend.as_ref().map_or("", |(_, name)| name);
        if value.is_empty() || !name.starts_with(&value) {
            problems.push(format!("{name} sees the header {header}: {value:?}"));
        }
    }
    Ok(())
}
