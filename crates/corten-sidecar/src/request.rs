//! `wait` and `request`: what hooks of containers ask of the proxy beside them.

use std::time::Duration;

use tokio::time::Instant;

use crate::health;

/// Waits until the proxy is ready.
#[derive(Debug, Clone, clap::Parser)]
#[command(name = "wait", about = "Waits until the proxy beside is ready")]
pub struct Wait {
    /// How long, in seconds
    #[arg(long = "timeoutSeconds", value_name = "N", default_value_t = 60)]
    timeout: u64,
    /// How long between two looks, in milliseconds
    #[arg(long = "periodMillis", value_name = "N", default_value_t = 500)]
    period: u64,
    /// The port that says whether it is ready
    #[arg(long, value_name = "PORT", default_value_t = 15021)]
    port: u16,
}

/// Asks the proxy for something.
#[derive(Debug, Clone, clap::Parser)]
#[command(
    name = "request",
    about = "Asks the proxy beside for something, and prints the answer"
)]
pub struct Request {
    /// The port that is asked
    #[arg(long, value_name = "PORT", default_value_t = 15000)]
    debug_port: u16,
    /// GET or POST
    method: String,
    /// The path
    path: String,
}

impl Wait {
    /// Resolves when the proxy is ready; `Err`: it is not, and why.
    pub async fn run(&self) -> Result<(), String> {
        let end = Instant::now() + Duration::from_secs(self.timeout);
        loop {
            let why = match health::ask(self.port, "GET", "/healthz/ready").await {
                Ok((200, _)) => return Ok(()),
                Ok((_, text)) => text.trim().to_owned(),
                Err(error) => error.to_string(),
            };
            if Instant::now() >= end {
                return Err(format!("the proxy is not ready after {} s: {why}", self.timeout));
            }
            tokio::time::sleep(Duration::from_millis(self.period)).await;
        }
    }
}

impl Request {
    /// The answer's text; `Err`: there is none, or it is not a success.
    pub async fn run(&self) -> Result<String, String> {
        let path = format!("/{}", self.path.trim_start_matches('/'));
        match health::ask_for_all(self.debug_port, &self.method, &path).await {
            Ok((200, text)) => Ok(text),
            Ok((status, text)) => Err(format!("{} {path}: {status}: {}", self.method, text.trim())),
            Err(error) => Err(format!("{} {path}: {error}", self.method)),
        }
    }
}
