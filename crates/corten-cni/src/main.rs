//! The plugin's process: environment and standard input in, one JSON document and an exit code out, within a limited time.

use std::io::{Read, Write};
use std::process::ExitCode;
use std::sync::mpsc;
use std::time::Duration;

use serde_json::Value;

/// The longest a call takes, whatever the agent, the standard input or a file system does: less than container runtimes and kubelets wait,
/// so that the reason reaches the pod's Events.
const TIME_MAX: Duration = Duration::from_secs(58);

fn main() -> ExitCode {
    let (sender, receiver) = mpsc::sync_channel(1);
    // A call that hangs ends with the process.
    std::thread::spawn(move || sender.send(call()));
    let result = receiver.recv_timeout(TIME_MAX).unwrap_or_else(|_| {
        let reason = format!("it took longer than {} s", TIME_MAX.as_secs());
        Err(corten_cni::Error::Io(reason).document("1.1.0"))
    });
    let (document, code) = match result {
        Ok(None) => return ExitCode::SUCCESS,
        Ok(Some(document)) => (document, ExitCode::SUCCESS),
        Err(document) => (document, ExitCode::FAILURE),
    };
    match writeln!(std::io::stdout().lock(), "{document}") {
        Ok(()) => code,
        Err(_) => ExitCode::FAILURE,
    }
}

fn call() -> Result<Option<Value>, Value> {
    let mut input = Vec::new();
    match std::io::stdin().lock().read_to_end(&mut input) {
        Ok(_) => {
            let mut agent = corten_cni::agent::Socket::default();
            corten_cni::run(&|name| std::env::var(name).ok(), &input, &mut agent)
        }
        Err(error) => Err(corten_cni::Error::Io(error.to_string()).document("1.1.0")),
    }
}
