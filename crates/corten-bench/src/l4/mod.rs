//! Benchmark `l4`: calls between two pods directly, through two of our node proxies, and through two stock ones, in turns.
//!
//! All are on one bridge and one machine: client, server and both proxies share its processors, so ratios within a run are what counts.

mod authority;
mod ground;
mod load;
mod server;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use corten_linux::{Namespaces, Spawn, mounts};

use crate::figure::Figure;
use authority::Authority;
use ground::{Kind, Node, Pod, Wire, workloads};

/// The word with which the benchmark starts itself once more, inside namespaces of its own.
pub(crate) const INSIDE: &str = "l4-inside";
const PAGES: u16 = 8080;
const BULK: u16 = 8081;
/// Connections of the main figure.
const MANY: usize = 64;
/// Connections at a time where each carries one request.
const OPENING: usize = 32;
const IDLE: usize = 1000;
/// Connections of a pod that takes what it can get, and for how long.
const FLOOD: usize = 256;
const FLOOD_LENGTH: Duration = Duration::from_secs(5);
/// Pods on the calling side's node while memory is measured.
const PODS: usize = 100;
const LENGTH: Duration = Duration::from_secs(3);
/// What a proxy gets to settle before its memory is read.
const SETTLE: Duration = Duration::from_secs(3);

/// Runs the benchmark in namespaces of its own: root's powers there, and nothing left behind.
pub(crate) fn isolated(arguments: impl Iterator<Item = String>) -> Result<ExitCode> {
    let mut child = Spawn::this_program()
        .arg(INSIDE)
        .args(arguments.skip(2))
        .inherit_env()
        .namespaces(Namespaces::isolated())
        .start()
        .context("the benchmark needs network namespaces of its own")?;
    let code = child.wait()?.shell_code();
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(1)))
}

/// What one of those compared gave, the median of all rounds.
#[derive(Clone, Debug, Default)]
struct Values {
    many_per_second: f64,
    many_p50: f64,
    many_p99: f64,
    cpu_us: f64,
    one_p50: f64,
    one_cpu_us: f64,
    bulk_gbit: f64,
    bulk_cpu_us: f64,
    opened_per_second: f64,
    beside_p50: f64,
    beside_bulk_gbit: f64,
    fair_p99: f64,
    fair_requests_p99: f64,
    fair_opening_p99: f64,
    fair_bulk_p99: f64,
}

/// What is measured.
#[derive(Clone, Copy, Debug)]
struct Only {
    many: bool,
    one: bool,
    bulk: bool,
    opening: bool,
    beside: bool,
    fair: bool,
    idle: bool,
}

impl Only {
    /// From names; without any, everything.
    fn parse(names: &[String]) -> Result<Only> {
        const NAMES: [&str; 7] = ["many", "one", "bulk", "opening", "beside", "fair", "idle"];
        if let Some(other) = names.iter().find(|name| !NAMES.contains(&name.as_str())) {
            bail!("there is no measurement {other:?}; there are {}", NAMES.join(", "));
        }
        let [many, one, bulk, opening, beside, fair, idle] =
            NAMES.map(|name| names.is_empty() || names.iter().any(|wanted| wanted == name));
        Ok(Only {
            many,
            one,
            bulk,
            opening,
            beside,
            fair,
            idle,
        })
    }
}

/// Megabytes of the larger proxy of a pair: resident, and what of it is not pages of files.
#[derive(Clone, Debug, Default)]
struct Memory {
    idle: [f64; 2],
    loaded: [f64; 2],
    with_idle_connections: [f64; 2],
    after: [f64; 2],
}

/// Two pods, a pair of neighbours of theirs, and the proxies of their nodes, if any.
struct Subject {
    name: &'static str,
    client: Pod,
    server: Pod,
    /// On the client's node, and without measure.
    greedy: Pod,
    /// On the server's node: whom the greedy one calls.
    flooded: Pod,
    nodes: Vec<Node>,
}

/// Measures; inside the namespaces.
pub(crate) async fn run(ztunnel: Option<PathBuf>, rounds: usize, only: &[String]) -> Result<Vec<Figure>> {
    let only = Only::parse(only)?;
    mounts::make_private()?;
    mounts::proc(Path::new("/proc"))?;
    mounts::fresh_sys()?;
    let folder = tempfile::tempdir()?;
    let authority = Authority::new(folder.path().join("ca"))?;
    let corten = std::env::current_exe()?.with_file_name("corten-node");

    let mut wire = Wire::new()?;
    let mut subjects = vec![Subject::new(&mut wire, "direct", None, folder.path(), &authority).await?];
    let mut memories = Vec::new();
    for (name, kind) in [
        ("corten", Some(Kind::Corten(corten))),
        ("ztunnel", ztunnel.map(Kind::Ztunnel)),
    ] {
        if let Some(kind) = kind {
            println!("starting {name} ...");
            let subject = Subject::new(&mut wire, name, Some(&kind), folder.path(), &authority).await?;
            subjects.push(subject);
        }
    }
    tokio::time::sleep(SETTLE).await;
    for subject in &subjects {
        memories.push(Memory {
            idle: subject.resident()?,
            ..Memory::default()
        });
    }
    let mut rows: Vec<Vec<Values>> = vec![Vec::new(); subjects.len()];
    for round in 1..=rounds {
        println!("round {round} of {rounds} ...");
        for (subject, values) in subjects.iter().zip(&mut rows) {
            values.push(subject.measure(only).with_context(|| subject.name)?);
        }
    }
    for (subject, memory) in subjects.iter().zip(&mut memories).skip(1) {
        memory.loaded = subject.resident()?;
        if !only.idle {
            continue;
        }
        let open = subject.idle()?;
        tokio::time::sleep(SETTLE).await;
        memory.with_idle_connections = subject.resident()?;
        drop(open);
        tokio::time::sleep(SETTLE).await;
        memory.after = subject.resident()?;
    }
    let medians: Vec<Values> = rows.iter().map(|rows| median(rows)).collect();
    Ok(figures(&medians, &memories))
}

impl Subject {
    async fn new(
        wire: &mut Wire,
        name: &'static str,
        kind: Option<&Kind>,
        folder: &Path,
        authority: &Arc<Authority>,
    ) -> Result<Subject> {
        let mut client = wire.pod(&format!("{name}-c"))?;
        let mut server = wire.pod(&format!("{name}-s"))?;
        let (mut greedy, mut flooded) = (wire.pod(&format!("{name}-g"))?, wire.pod(&format!("{name}-f"))?);
        for (pod, port) in [(&server, PAGES), (&server, BULK), (&flooded, PAGES), (&flooded, BULK)] {
            let listener = pod.netns.run(|| server::listen(port))??;
            // Each has a thread, so that small answers do not wait behind large ones. They end with the process.
            std::thread::Builder::new()
                .name("server".into())
                .spawn(move || server::serve(&listener))?;
        }
        let mut nodes = Vec::new();
        if let Some(kind) = kind {
            let mut others = Vec::new();
            for at in 3..PODS {
                others.push(wire.quiet_pod(&format!("{name}-{at}"))?);
            }
            let text = workloads([&client, &server, &greedy, &flooded].into_iter().chain(&others));
            let near = Node::start(kind, &format!("{name}-near"), folder, &text, authority).await?;
            let far = Node::start(kind, &format!("{name}-far"), folder, &text, authority).await?;
            near.serve(&client).await?;
            near.serve(&greedy).await?;
            for other in &others {
                near.serve(other).await?;
            }
            far.serve(&server).await?;
            far.serve(&flooded).await?;
            for pod in [&mut client, &mut server, &mut greedy, &mut flooded] {
                pod.enroll()?;
            }
            nodes = vec![near, far];
        }
        Ok(Subject {
            name,
            client,
            server,
            greedy,
            flooded,
            nodes,
        })
    }

    fn measure(&self, only: Only) -> Result<Values> {
        let (pages, bulk) = (self.server.at(PAGES), self.server.at(BULK));
        let mut values = Values::default();
        if only.many {
            let (many, cpu_us) = self.requests(pages, MANY)?;
            values.many_per_second = many.per_second;
            values.many_p50 = many.p50;
            values.many_p99 = many.p99;
            values.cpu_us = cpu_us;
        }
        if only.one {
            let (one, cpu_us) = self.requests(pages, 1)?;
            values.one_p50 = one.p50;
            values.one_cpu_us = cpu_us;
        }
        if only.bulk {
            let before = self.cpu()?;
            let (gbit, bytes) = self.in_client(|| load::bulk(bulk, LENGTH))?;
            values.bulk_gbit = gbit;
            values.bulk_cpu_us = (self.cpu()? - before) / bytes * f64::from(1 << 20);
        }
        if only.opening {
            values.opened_per_second = self.in_client(|| load::connections(pages, OPENING, LENGTH))?;
        }
        if only.beside {
            let (beside, beside_bulk) = std::thread::scope(|scope| {
                let large = scope.spawn(|| self.in_client(|| load::bulk(bulk, LENGTH + Duration::from_secs(1))));
                let small = self.requests(pages, 1);
                (small, large.join())
            });
            values.beside_p50 = beside?.0.p50;
            values.beside_bulk_gbit = beside_bulk.map_err(|_| anyhow::anyhow!("the bulk client panicked"))??.0;
        }
        if only.fair {
            values.fair_p99 = self.requests(pages, 1)?.0.p99;
            let (pages, bulk) = (self.flooded.at(PAGES), self.flooded.at(BULK));
            values.fair_requests_p99 =
                self.beside_flood(|| load::keep_alive(pages, FLOOD, FLOOD_LENGTH, || (), || ()).map(drop))?;
            values.fair_opening_p99 = self.beside_flood(|| load::connections(pages, FLOOD, FLOOD_LENGTH).map(drop))?;
            values.fair_bulk_p99 = self.beside_flood(|| load::bulk(bulk, FLOOD_LENGTH).map(drop))?;
        }
        Ok(values)
    }

    /// What one connection feels of a neighbour on its node that takes what it can get, in microseconds.
    fn beside_flood(&self, flood: impl FnOnce() -> Result<()> + Send) -> Result<f64> {
        std::thread::scope(|scope| {
            let flood = scope.spawn(|| self.greedy.netns.run(flood)?);
            // Not before the flood has come.
            std::thread::sleep((FLOOD_LENGTH - LENGTH) / 2);
            let small = self.requests(self.server.at(PAGES), 1);
            flood.join().map_err(|_| anyhow::anyhow!("the flood panicked"))??;
            Ok(small?.0.p99)
        })
    }

    /// Requests, and the processor time of both proxies for each, in microseconds.
    fn requests(&self, to: SocketAddr, connections: usize) -> Result<(load::Requests, f64)> {
        let (mut before, mut after) = (Ok(0.0), Ok(0.0));
        let requests = self
            .in_client(|| load::keep_alive(to, connections, LENGTH, || before = self.cpu(), || after = self.cpu()))?;
        #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
        let each = (after? - before?) / requests.count as f64;
        Ok((requests, each))
    }

    fn idle(&self) -> Result<Vec<std::net::TcpStream>> {
        self.in_client(|| load::idle(self.server.at(PAGES), IDLE))
    }

    fn in_client<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        self.client.netns.run(work)?
    }

    /// Processor time of both proxies, in microseconds.
    fn cpu(&self) -> Result<f64> {
        self.nodes.iter().map(Node::cpu_us).sum()
    }

    fn resident(&self) -> Result<[f64; 2]> {
        let mut largest = [0.0; 2];
        for node in &self.nodes {
            let now = node.resident_mb()?;
            largest = [now[0].max(largest[0]), now[1].max(largest[1])];
        }
        Ok(largest)
    }
}

fn median(rows: &[Values]) -> Values {
    let of = |field: fn(&Values) -> f64| {
        let mut values: Vec<f64> = rows.iter().map(field).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or_default()
    };
    Values {
        many_per_second: of(|v| v.many_per_second),
        many_p50: of(|v| v.many_p50),
        many_p99: of(|v| v.many_p99),
        cpu_us: of(|v| v.cpu_us),
        one_p50: of(|v| v.one_p50),
        one_cpu_us: of(|v| v.one_cpu_us),
        bulk_gbit: of(|v| v.bulk_gbit),
        bulk_cpu_us: of(|v| v.bulk_cpu_us),
        opened_per_second: of(|v| v.opened_per_second),
        beside_p50: of(|v| v.beside_p50),
        beside_bulk_gbit: of(|v| v.beside_bulk_gbit),
        fair_p99: of(|v| v.fair_p99),
        fair_requests_p99: of(|v| v.fair_requests_p99),
        fair_opening_p99: of(|v| v.fair_opening_p99),
        fair_bulk_p99: of(|v| v.fair_bulk_p99),
    }
}

/// Each figure of ours beside direct traffic, and again beside the stock pair when there is one. What direct traffic has none of stands alone.
fn figures(values: &[Values], memories: &[Memory]) -> Vec<Figure> {
    let [direct, ours, rest @ ..] = values else {
        return Vec::new();
    };
    let mut figures = Vec::new();
    let theirs = rest.first();
    let mut compared = |name: &str, unit: &'static str, field: fn(&Values) -> f64| {
        figures.push(figure(
            format!("{name}, beside direct"),
            unit,
            field(ours),
            Some(field(direct)),
        ));
        if let Some(theirs) = theirs {
            figures.push(figure(
                format!("{name}, beside ztunnel"),
                unit,
                field(ours),
                Some(field(theirs)),
            ));
        }
    };
    compared("requests, 64 connections", "1/s", |v| v.many_per_second);
    compared("p50, 64 connections", "us", |v| v.many_p50);
    compared("p99, 64 connections", "us", |v| v.many_p99);
    compared("p50, 1 connection", "us", |v| v.one_p50);
    compared("p99, 1 connection", "us", |v| v.fair_p99);
    compared("p99 beside another pod's 256 connections", "us", |v| {
        v.fair_requests_p99
    });
    compared("p99 beside another pod's new connections", "us", |v| v.fair_opening_p99);
    compared("p99 beside another pod's bulk transfer", "us", |v| v.fair_bulk_p99);
    compared("one stream", "Gbit/s", |v| v.bulk_gbit);
    compared("new connections", "1/s", |v| v.opened_per_second);
    compared("p50 beside a bulk transfer", "us", |v| v.beside_p50);
    compared("that bulk transfer", "Gbit/s", |v| v.beside_bulk_gbit);
    let added = |values: &Values| values.one_p50 - direct.one_p50;
    figures.push(figure(
        "latency added, 1 connection".into(),
        "us",
        added(ours),
        theirs.map(added),
    ));
    let mut cost = |name: &str, field: fn(&Values) -> f64| {
        figures.push(figure(name.into(), "us", field(ours), theirs.map(field)));
    };
    cost("CPU a request, both proxies", |v| v.cpu_us);
    cost("CPU a request at 1 connection, both", |v| v.one_cpu_us);
    cost("CPU a MiB of one stream, both", |v| v.bulk_cpu_us);
    let (ours, theirs) = (&memories[1], memories.get(2));
    let mut memory = |name: &str, field: fn(&Memory) -> f64| {
        figures.push(figure(format!("memory {name}"), "MB", field(ours), theirs.map(field)));
    };
    memory("idle with 100 pods", |m| m.idle[0]);
    memory("idle with 100 pods, without files", |m| m.idle[1]);
    memory("after load", |m| m.loaded[0]);
    memory("after load, without files", |m| m.loaded[1]);
    if ours.with_idle_connections[0] > 0.0 {
        memory("more with 1,000 idle connections", |m| {
            m.with_idle_connections[0] - m.loaded[0]
        });
    }
    memory("after those have gone", |m| m.after[0]);
    memory("after those have gone, without files", |m| m.after[1]);
    // What was not asked for was not measured.
    figures.retain(|figure| figure.value != 0.0);
    figures
}

fn figure(figure: String, unit: &'static str, value: f64, baseline: Option<f64>) -> Figure {
    Figure {
        figure,
        value,
        unit,
        baseline,
    }
}
