//! The access log: one line for each connection, in ztunnel's format.
//!
//! A shard gathers the lines of a turn and hands them over at once; a thread of its own writes them, so that a slow terminal or disk never
//! holds up a connection. When it cannot keep up, lines are dropped and counted.

use std::fmt::Display;
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::SystemTime;

use corten_rt::log::Quoted;

/// Importance of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Level {
    /// Something failed.
    Error = 1,
    /// Something is wrong.
    Warn = 2,
    /// Something happened.
    Info = 3,
    /// Details.
    Debug = 4,
}

impl Level {
    fn as_str(self) -> &'static str {
        match self {
            Level::Error => "error",
            Level::Warn => "warn",
            Level::Info => "info",
            Level::Debug => "debug",
        }
    }
}

/// Where lines go.
#[derive(Debug)]
pub struct AccessLog {
    json: bool,
    level: AtomicU8,
    dropped: AtomicU64,
    lines: SyncSender<Vec<u8>>,
}

/// How many turns may wait to be written.
const WAITING_MAX: usize = 1024;

impl AccessLog {
    /// A log and what will be written.
    pub fn new(json: bool, levels: Option<&str>) -> (Arc<AccessLog>, Receiver<Vec<u8>>) {
        let (lines, written) = sync_channel(WAITING_MAX);
        let log = AccessLog {
            json,
            level: AtomicU8::new(level_of(levels.unwrap_or("info"))),
            dropped: AtomicU64::new(0),
            lines,
        };
        (Arc::new(log), written)
    }

    /// Says which lines are wanted, in the form of `RUST_LOG`.
    pub fn set_levels(&self, levels: &str) {
        self.level.store(level_of(levels), Relaxed);
    }

    /// Whether lines of a level are wanted.
    pub fn wants(&self, level: Level) -> bool {
        level as u8 <= self.level.load(Relaxed)
    }

    /// Begins a line.
    pub fn line<'a>(&self, out: &'a mut Vec<u8>, level: Level, message: &str) -> Line<'a> {
        let time = Timestamp(SystemTime::now());
        let mut line = Line {
            out,
            json: self.json,
            first: true,
        };
        if self.json {
            line.text(format_args!(
                "{{\"level\":\"{}\",\"time\":\"{time}\",\"scope\":\"access\",\"message\":\"{message}\"",
                level.as_str()
            ));
        } else {
            line.text(format_args!("{time}\t{}\taccess\t{message}\t", level.as_str()));
        }
        line
    }

    /// Hands over the lines of a turn.
    pub fn submit(&self, lines: &mut Vec<u8>) {
        if lines.is_empty() {
            return;
        }
        if let Err(error) = self.lines.try_send(std::mem::take(lines)) {
            drop(error);
            self.dropped.fetch_add(1, Relaxed);
        }
    }

    /// How many batches of lines were lost because nobody wrote fast enough.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Relaxed)
    }
}

/// Writes what comes until the last sender is gone.
pub fn write_lines(lines: &Receiver<Vec<u8>>) {
    let mut out = std::io::stdout().lock();
    while let Ok(first) = lines.recv() {
        // Nothing can be told to anybody where even the log cannot be written.
        let _ = out.write_all(&first);
        for more in lines.try_iter() {
            let _ = out.write_all(&more);
        }
        let _ = out.flush();
    }
}

/// The level for access lines in a list like `info,access=debug`.
fn level_of(levels: &str) -> u8 {
    let number = |name: &str| match name.to_ascii_lowercase().as_str() {
        "off" => Some(0),
        "error" => Some(1),
        "warn" => Some(2),
        "info" => Some(3),
        "debug" | "trace" => Some(4),
        _ => None,
    };
    let mut general = 3;
    let mut own = None;
    for part in levels.split(',') {
        match part.trim().split_once('=') {
            None => general = number(part.trim()).unwrap_or(general),
            Some(("access", level)) => own = number(level).or(own),
            Some(_) => {}
        }
    }
    own.unwrap_or(general)
}

/// A line being written.
pub struct Line<'a> {
    out: &'a mut Vec<u8>,
    json: bool,
    first: bool,
}

impl Line<'_> {
    fn text(&mut self, text: std::fmt::Arguments<'_>) {
        let _ = self.out.write_fmt(text);
    }

    fn key(&mut self, key: &str) {
        if self.json {
            self.text(format_args!(",\"{key}\":"));
        } else {
            let space = if self.first { "" } else { " " };
            self.text(format_args!("{space}{key}="));
        }
        self.first = false;
    }

    /// A field whose value has no characters that need care.
    pub fn plain(&mut self, key: &str, value: impl Display) -> &mut Self {
        self.key(key);
        if self.json {
            self.text(format_args!("\"{value}\""));
        } else {
            self.text(format_args!("{value}"));
        }
        self
    }

    /// A number.
    pub fn number(&mut self, key: &str, value: u64) -> &mut Self {
        self.key(key);
        self.text(format_args!("{value}"));
        self
    }

    /// A quoted field.
    pub fn quoted(&mut self, key: &str, value: &str) -> &mut Self {
        self.key(key);
        self.text(format_args!("{}", Quoted(value)));
        self
    }

    /// A quoted field, if there is a value.
    pub fn maybe(&mut self, key: &str, value: Option<&str>) -> &mut Self {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            self.quoted(key, value);
        }
        self
    }

    /// Ends the line.
    pub fn end(self) {
        self.out.extend_from_slice(if self.json { b"}\n" } else { b"\n" });
    }
}

/// A time of the clock, RFC 3339 with microseconds.
pub struct Timestamp(pub SystemTime);

impl Display for Timestamp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let since = self.0.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let (days, seconds) = (since.as_secs() / 86400, since.as_secs() % 86400);
        // Days since 1970 to a date of the Gregorian calendar: counted from March, so that the leap day is a year's last.
        let z = days + 719_468;
        let (era, day_of_era) = (z / 146_097, z % 146_097);
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * shifted + 2) / 5 + 1;
        let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
        let year = year_of_era + era * 400 + u64::from(month <= 2);
        let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        let micros = since.subsec_micros();
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z"
        )
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn times_are_dates() {
        let at = |seconds| Timestamp(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)).to_string();
        assert_eq!(at(0), "1970-01-01T00:00:00.000000Z");
        assert_eq!(at(951_827_696), "2000-02-29T12:34:56.000000Z");
        assert_eq!(at(1_798_761_599), "2026-12-31T23:59:59.000000Z");
    }

    #[test]
    fn levels_are_taken_for_the_access_log() {
        assert_eq!(
            ["info", "warn", "warn,access=debug", "access=off", "x=debug"].map(level_of),
            [3, 2, 4, 0, 3]
        );
    }

    #[test]
    fn lines_are_plain_or_json() {
        let write = |json| {
            let (log, _lines) = AccessLog::new(json, None);
            let mut out = Vec::new();
            let mut line = log.line(&mut out, Level::Info, "connection complete");
            line.plain("src.addr", "1.2.3.4:5")
                .quoted("src.workload", "a\"b")
                .number("bytes_sent", 7);
            line.maybe("error", None).plain("duration", "3ms");
            line.end();
            String::from_utf8(out).unwrap()
        };
        let plain = write(false);
        let (_, rest) = plain.split_once('\t').unwrap();
        assert_eq!(
            rest,
            "info\taccess\tconnection complete\tsrc.addr=1.2.3.4:5 src.workload=\"a\\\"b\" bytes_sent=7 duration=3ms\n"
        );
        let json: serde_json::Value = serde_json::from_str(&write(true)).unwrap();
        assert_eq!(json["src.workload"], "a\"b");
        assert_eq!(json["bytes_sent"], 7);
        assert_eq!(json["scope"], "access");
    }
}
