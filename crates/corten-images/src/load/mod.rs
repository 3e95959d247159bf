//! The load client: calls at a steady rate, and prints codes and latency percentiles.
//!
//! The rate is kept whatever the server does: a call that should have begun is measured from when it should have, so that a server that stalls
//! does not hide its stall by slowing its client down.

mod call;
mod histogram;
mod report;

use std::cell::{Cell, RefCell};
use std::process::ExitCode;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::{Parser, ValueEnum};
use http::Uri;
use tokio::signal::unix::{SignalKind, signal};

use call::Caller;
use report::Report;

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Json,
}

/// Call a server at a steady rate; print codes and latency percentiles.
#[derive(Clone, Debug, Parser)]
pub struct Arguments {
    /// Whom to call: http://HOST[:PORT]/PATH, or tcp://HOST:PORT for an echo server
    url: Uri,
    /// Calls a second over all connections; 0 calls as fast as answers come
    #[arg(long, default_value_t = 100.0)]
    rate: f64,
    /// How many connections share the calls
    #[arg(long, short, default_value_t = 1)]
    connections: usize,
    /// For how long
    #[arg(long, short, value_parser = corten_core::Duration::parse_argument, default_value = "10s")]
    duration: Duration,
    /// End after this many calls
    #[arg(long, short = 'n')]
    count: Option<u64>,
    /// A new connection for each call
    #[arg(long)]
    close: bool,
    /// Speak HTTP/2 without TLS
    #[arg(long)]
    http2: bool,
    /// A header NAME:VALUE of every request. Can be given several times
    #[arg(long = "header", short = 'H', value_name = "NAME:VALUE", value_parser = call::header)]
    headers: Vec<(http::HeaderName, http::HeaderValue)>,
    /// How long a call may take
    #[arg(long, value_parser = corten_core::Duration::parse_argument, default_value = "10s")]
    timeout: Duration,
    /// How to print the result
    #[arg(long, short, value_enum, default_value = "text")]
    output: Format,
}

/// Runs the load to its end or to SIGTERM; succeeds when every call was answered.
pub fn main(arguments: &Arguments) -> ExitCode {
    let outcome = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the runtime")
        .and_then(|runtime| tokio::task::LocalSet::new().block_on(&runtime, run(arguments)));
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

async fn run(arguments: &Arguments) -> Result<bool> {
    ensure!(arguments.connections > 0, "there must be a connection");
    ensure!(
        arguments.rate.is_finite() && arguments.rate >= 0.0,
        "the rate is a number of calls a second"
    );
    let caller = Caller::new(arguments)?;
    let report = Rc::new(RefCell::new(Report::default()));
    let plan = Rc::new(Plan {
        begin: Instant::now(),
        rate: arguments.rate,
        next: Cell::new(0),
        limit: arguments.count,
    });
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut connections = tokio::task::JoinSet::new();
    for _ in 0..arguments.connections {
        connections.spawn_local(connection(
            caller.clone(),
            Rc::clone(&plan),
            Rc::clone(&report),
            arguments.clone(),
        ));
    }
    tokio::select! {
        () = async { while connections.join_next().await.is_some() {} } => {}
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    drop(connections);
    let report = report.borrow();
    let elapsed = plan.begin.elapsed();
    match arguments.output {
        Format::Text => print!("{}", report.text(elapsed)),
        Format::Json => println!("{}", report.json(elapsed)),
    }
    Ok(report.errors() == 0)
}

/// When each call should begin.
#[derive(Debug)]
struct Plan {
    begin: Instant,
    rate: f64,
    next: Cell<u64>,
    limit: Option<u64>,
}

impl Plan {
    /// Takes the next call; the time from the beginning at which it is due, or none when there are no more.
    fn take(&self, end: Duration) -> Option<Duration> {
        let number = self.next.get();
        if self.limit.is_some_and(|limit| number >= limit) {
            return None;
        }
        #[expect(clippy::cast_precision_loss, reason = "exact for more calls than anybody makes")]
        let due = if self.rate > 0.0 {
            Duration::from_secs_f64(number as f64 / self.rate)
        } else {
            self.begin.elapsed()
        };
        if due >= end {
            return None;
        }
        self.next.set(number + 1);
        Some(due)
    }
}

/// One connection's calls, one after the other; those that are late begin at once.
async fn connection(mut caller: Caller, plan: Rc<Plan>, report: Rc<RefCell<Report>>, arguments: Arguments) {
    while let Some(due) = plan.take(arguments.duration) {
        let due = plan.begin + due;
        tokio::time::sleep_until(due.into()).await;
        let answer = tokio::time::timeout(arguments.timeout, caller.call()).await;
        let answer = answer.unwrap_or_else(|_| {
            caller.disconnect();
            Err(format!("no answer within {:?}", arguments.timeout))
        });
        let mut report = report.borrow_mut();
        report.lose(caller.take_lost());
        report.add(answer, due.elapsed());
    }
}
