//! The process's log: lines on standard error, which whoever starts the process points where it belongs.

mod format;

use std::sync::OnceLock;

pub use format::{Format, Quoted};

use tracing_subscriber::EnvFilter;

/// How the levels of the running log are changed.
static RELOAD: OnceLock<Reload> = OnceLock::new();

struct Reload {
    set: Box<dyn Fn(EnvFilter) -> Result<(), String> + Send + Sync>,
    get: Box<dyn Fn() -> String + Send + Sync>,
}

/// Starts logging. `levels` is a list like `info,corten_local=debug`; what it does not understand is returned to be shown.
///
/// To be called once, by `main`; a second call changes nothing.
pub fn start(levels: Option<&str>) -> Result<(), String> {
    start_as(levels, Format::Text)
}

/// Starts logging in a form; otherwise like [`start`].
pub fn start_as(levels: Option<&str>, format: Format) -> Result<(), String> {
    let (filter, problem) = match EnvFilter::try_new(levels.unwrap_or("info")) {
        Ok(filter) => (filter, Ok(())),
        Err(error) => (
            EnvFilter::new("info"),
            Err(format!("log levels {:?}: {error}", levels.unwrap_or_default())),
        ),
    };
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .event_format(format)
        .with_filter_reloading();
    let handle = subscriber.reload_handle();
    if subscriber.try_init().is_ok() {
        let current = handle.clone();
        let reload = Reload {
            set: Box::new(move |filter| handle.reload(filter).map_err(|error| error.to_string())),
            get: Box::new(move || current.with_current(ToString::to_string).unwrap_or_default()),
        };
        // Only the first log of a process is in force, and this is it.
        let _ = RELOAD.set(reload);
    }
    problem
}

/// Changes the levels of the running log. What is not understood changes nothing.
pub fn set_levels(levels: &str) -> Result<(), String> {
    let filter = EnvFilter::try_new(levels).map_err(|error| format!("log levels {levels:?}: {error}"))?;
    match RELOAD.get() {
        Some(reload) => (reload.set)(filter),
        None => Err("the log has not been started".to_owned()),
    }
}

/// The levels of the running log.
pub fn levels() -> String {
    RELOAD.get().map(|reload| (reload.get)()).unwrap_or_default()
}
