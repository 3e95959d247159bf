//! The Envoy process: started, waited for, and ended so that what is open may end first.

use std::ffi::OsString;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use crate::health;
use crate::settings::Settings;

/// How often Envoy is asked whether anything is still open.
const LOOK: Duration = Duration::from_millis(200);

/// The command line of Envoy, its name aside.
pub fn arguments(settings: &Settings, bootstrap: &Path) -> Vec<OsString> {
    let arguments = &settings.arguments;
    let family = if settings.addresses.first().is_some_and(std::net::IpAddr::is_ipv6) {
        "v6"
    } else {
        "v4"
    };
    let drain = settings.drain_listeners.as_secs().max(1).to_string();
    let flush = settings.flush.as_millis().max(1).to_string();
    let mut words = vec![OsString::from("-c"), bootstrap.as_os_str().to_owned()];
    let mut add = |more: &[&str]| words.extend(more.iter().map(OsString::from));
    add(&["--local-address-ip-version", family]);
    add(&["--drain-time-s", &drain, "--drain-strategy", "immediate"]);
    add(&["--file-flush-interval-msec", &flush]);
    // What an older Envoy does not know of the bootstrap, it does without.
    add(&["--disable-hot-restart", "--allow-unknown-static-fields"]);
    // A level for everything, and, behind commas, others for parts, as in warning,misc:error.
    let (parts, all): (Vec<&str>, Vec<&str>) = arguments.log_level.split(',').partition(|level| level.contains(':'));
    if let Some(level) = all.last() {
        add(&["--log-level", level]);
    }
    let parts = if parts.is_empty() {
        arguments.component_log_level.clone()
    } else {
        parts.join(",")
    };
    let bytes = settings.config["fileFlushMinSizeKb"].as_u64().unwrap_or_default();
    if bytes > 0 {
        add(&["--file-flush-min-size-kb", &bytes.to_string()]);
    }
    if settings.variable("ENVOY_SKIP_DEPRECATED_LOGS") != Some("false") {
        add(&["--skip-deprecated-logs"]);
    }
    if !parts.is_empty() {
        add(&["--component-log-level", &parts]);
    }
    if settings.concurrency > 0 {
        add(&["--concurrency", &settings.concurrency.to_string()]);
    }
    words
}

/// Starts Envoy.
pub(crate) fn start(settings: &Settings, bootstrap: &Path) -> std::io::Result<Child> {
    Command::new(&settings.envoy)
        .args(arguments(settings, bootstrap))
        .kill_on_drop(true)
        .spawn()
}

/// Lets Envoy refuse what is new, waits for what is open to end, at most as long as settled, and ends it.
pub(crate) async fn drain(child: &mut Child, settings: &Settings) {
    let admin = settings.admin_port;
    let end = Instant::now() + settings.drain;
    // Envoy answers health checks with "no" and closes idle connections; requests under way go on.
    if let Err(error) = health::ask(admin, "POST", "/drain_listeners?graceful&skip_exit").await {
        tracing::warn!(%error, "Envoy could not be told to drain");
    }
    loop {
        match open(admin).await {
            Some(0) | None => break,
            Some(open) if Instant::now() >= end => {
                tracing::warn!(open, after = ?settings.drain, "connections are still open and end now");
                break;
            }
            Some(_) => tokio::time::sleep(LOOK).await,
        }
    }
    if let Some(pid) = child.id().and_then(|pid| Pid::from_raw(pid.cast_signed())) {
        // It may have ended by itself.
        let _ = kill_process(pid, Signal::TERM);
    }
}

/// How many connections are open at Envoy's listeners; `None`: it does not say.
async fn open(admin: u16) -> Option<u64> {
    let (_, text) = health::ask(admin, "GET", "/stats?filter=^listener_manager|downstream_cx_active$")
        .await
        .ok()?;
    let counts = text
        .lines()
        .filter(|line| line.contains("downstream_cx_active") && !line.starts_with("listener.admin"));
    Some(
        counts
            .filter_map(|line| line.rsplit_once(": ")?.1.parse::<u64>().ok())
            .sum(),
    )
}
