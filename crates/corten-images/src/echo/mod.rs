//! The echo server: answers who it is and what it saw.
//!
//! One port speaks HTTP/1.1, HTTP/2 without TLS, gRPC and WebSocket, and echoes the bytes of whatever begins like none of these.

mod answer;
mod forward;
mod grpc;
mod identity;
mod options;
mod server;
mod tally;
mod websocket;

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use corten_rt::TaskGroup;
use tokio::signal::unix::{SignalKind, signal};

pub(crate) use forward::chain as error_chain;
use identity::Identity;

/// Answer who this is and what it saw, over HTTP/1.1, HTTP/2, gRPC, WebSocket and TCP.
#[derive(Clone, Debug, Parser)]
pub struct Arguments {
    /// A port for HTTP/1.1, HTTP/2 without TLS, gRPC and WebSocket; other bytes are echoed as they come. Can be given several times
    #[arg(
        long = "port",
        value_name = "PORT",
        env = "PORT",
        value_delimiter = ',',
        default_value = "8080"
    )]
    ports: Vec<u16>,
    /// A port for TCP alone: every byte is echoed. Can be given several times
    #[arg(long = "tcp", value_name = "PORT", value_delimiter = ',')]
    tcp: Vec<u16>,
    /// The version to answer with
    #[arg(long, env = "VERSION", default_value = "")]
    version: String,
    /// Status codes with their weights, for requests that do not ask for others: `503` always fails
    #[arg(long, value_name = "CODE[:WEIGHT],...", value_parser = options::codes)]
    codes: Option<options::Codes>,
    /// Print every request as a line of JSON
    #[arg(long)]
    print: bool,
    /// How long open connections may take to finish after SIGTERM
    #[arg(long, value_parser = corten_core::Duration::parse_argument, default_value = "5s")]
    grace: std::time::Duration,
}

/// Serves until SIGTERM or SIGINT, then lets open requests finish.
pub fn main(arguments: &Arguments) -> ExitCode {
    // One thread: an echo pod should cost next to nothing.
    let outcome = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the runtime")
        .and_then(|runtime| runtime.block_on(run(arguments)));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: &Arguments) -> Result<()> {
    let identity = Identity::of_this_process(&arguments.version);
    let server = server::Server::new(identity, arguments.codes.clone().unwrap_or_default(), arguments.print);
    let tasks = TaskGroup::new("echo");
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    for (ports, raw) in [(&arguments.ports, false), (&arguments.tcp, true)] {
        for port in ports {
            let listener = server::listen(*port).with_context(|| format!("listening on port {port}"))?;
            println!(
                "listening on port {} ({})",
                listener.local_addr()?.port(),
                if raw { "tcp" } else { "http, grpc, websocket, tcp" }
            );
            server::serve(&tasks, listener, raw, server.clone());
        }
    }
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tasks.shutdown(arguments.grace).await;
    Ok(())
}
