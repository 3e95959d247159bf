//! The process's log: lines on standard error, which whoever starts the process points where it belongs.

use tracing_subscriber::EnvFilter;

/// Starts logging. `levels` is a list like `info,corten_local=debug`; what it does not understand is returned to be shown.
///
/// To be called once, by `main`; a second call changes nothing.
pub fn start(levels: Option<&str>) -> Result<(), String> {
    let (filter, problem) = match EnvFilter::try_new(levels.unwrap_or("info")) {
        Ok(filter) => (filter, Ok(())),
        Err(error) => (
            EnvFilter::new("info"),
            Err(format!("log levels {:?}: {error}", levels.unwrap_or_default())),
        ),
    };
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .try_init();
    problem
}
