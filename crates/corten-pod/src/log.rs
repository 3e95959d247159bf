//! Log files as container runtimes write them (CRI): time, stream, whether the line is whole, the line.
//!
//! The format is pure ([`Lines`]); [`LogFile`] is the file with its bound.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

/// A line longer than this is written in several entries.
pub const LINE_MAX: usize = 16 * 1024;

/// A log file that would grow beyond this is renamed first. There are at most two of them.
pub const FILE_MAX: u64 = 10 << 20;

/// Which stream a line came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

impl Stream {
    fn name(self) -> &'static str {
        match self {
            Self::Out => "stdout",
            Self::Err => "stderr",
        }
    }
}

/// Makes log entries of what one stream gives, keeping the unfinished line.
#[derive(Debug)]
pub struct Lines {
    stream: Stream,
    rest: Vec<u8>,
}

impl Lines {
    /// For a stream that has given nothing yet.
    pub fn new(stream: Stream) -> Self {
        Self {
            stream,
            rest: Vec::new(),
        }
    }

    /// Appends the entries that `bytes` completes to `out`; `now` is the time since 1970.
    pub fn push(&mut self, mut bytes: &[u8], now: Duration, out: &mut Vec<u8>) {
        while !bytes.is_empty() {
            let room = LINE_MAX - self.rest.len();
            let window = &bytes[..bytes.len().min(room)];
            if let Some(end) = window.iter().position(|byte| *byte == b'\n') {
                let rest = std::mem::take(&mut self.rest);
                self.entry('F', [&rest, &bytes[..end]], now, out);
                bytes = &bytes[end + 1..];
            } else if window.len() == room {
                let rest = std::mem::take(&mut self.rest);
                self.entry('P', [&rest, window], now, out);
                bytes = &bytes[room..];
            } else {
                self.rest.extend_from_slice(window);
                bytes = &[];
            }
        }
    }

    /// The stream has ended: what is left is an entry too, and not a whole line.
    pub fn finish(&mut self, now: Duration, out: &mut Vec<u8>) {
        let rest = std::mem::take(&mut self.rest);
        if !rest.is_empty() {
            self.entry('P', [&rest, b""], now, out);
        }
    }

    fn entry(&self, tag: char, line: [&[u8]; 2], now: Duration, out: &mut Vec<u8>) {
        let head = format!("{} {} {tag} ", timestamp(now), self.stream.name());
        out.extend_from_slice(head.as_bytes());
        out.extend_from_slice(line[0]);
        out.extend_from_slice(line[1]);
        out.push(b'\n');
    }
}

/// `2026-01-01T00:00:00.000000000Z` for a time since 1970.
pub fn timestamp(since_epoch: Duration) -> String {
    let seconds = since_epoch.as_secs();
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = date(days);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:09}Z",
        second / 3600,
        second / 60 % 60,
        second % 60,
        since_epoch.subsec_nanos()
    )
}

/// Year, month and day of a number of days since 1970-01-01, in the Gregorian calendar.
fn date(days: u64) -> (u64, u64, u64) {
    // Counted from 0000-03-01, every 400 years (146,097 days) are alike and the leap day is the last of its year.
    let days = days + 719_468;
    let (era, in_era) = (days / 146_097, days % 146_097);
    let year = (in_era - in_era / 1_460 + in_era / 36_524 - in_era / 146_096) / 365;
    let in_year = in_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * in_year + 2) / 153;
    let day = in_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (era * 400 + year + u64::from(month <= 2), month, day)
}

/// A container's log file: appended to, renamed to `….1` when full.
#[derive(Debug)]
pub struct LogFile {
    path: PathBuf,
    file: File,
    size: u64,
    size_max: u64,
}

impl LogFile {
    /// Opens or makes the file and its directory.
    pub fn open(path: PathBuf) -> io::Result<Self> {
        Self::open_with(path, FILE_MAX)
    }

    fn open_with(path: PathBuf, size_max: u64) -> io::Result<Self> {
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir)?;
        }
        let file = OpenOptions::new().create(true).append(true).open(&path)?;
        let size = file.metadata()?.len();
        Ok(Self {
            path,
            file,
            size,
            size_max,
        })
    }

    /// Appends whole entries.
    pub fn write(&mut self, entries: &[u8]) -> io::Result<()> {
        let length = entries.len() as u64;
        if self.size > 0 && self.size + length > self.size_max {
            let mut old = self.path.clone().into_os_string();
            old.push(".1");
            fs::rename(&self.path, old)?;
            self.file = OpenOptions::new().create(true).append(true).open(&self.path)?;
            self.size = 0;
        }
        self.file.write_all(entries)?;
        self.size += length;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::new(1_767_225_600, 7);

    fn entries(pieces: &[&[u8]]) -> Vec<String> {
        let (mut lines, mut out) = (Lines::new(Stream::Out), Vec::new());
        for piece in pieces {
            lines.push(piece, NOW, &mut out);
        }
        lines.finish(NOW, &mut out);
        String::from_utf8(out).unwrap().lines().map(str::to_owned).collect()
    }

    #[test]
    fn a_line_is_one_entry_however_it_arrives() {
        let expected = "2026-01-01T00:00:00.000000007Z stdout F one line";
        assert_eq!(entries(&[b"one line\n"]), [expected]);
        assert_eq!(entries(&[b"one ", b"line", b"\n"]), [expected]);
    }

    #[test]
    fn the_end_without_a_newline_and_empty_lines_are_kept() {
        let found = entries(&[b"\n\nx"]);
        let tails: Vec<_> = found.iter().map(|entry| &entry[30..]).collect();
        assert_eq!(tails, [" stdout F ", " stdout F ", " stdout P x"]);
    }

    #[test]
    fn a_long_line_is_cut_and_marked() {
        let long = vec![b'a'; LINE_MAX + 5];
        let found = entries(&[&long, b"\n"]);
        assert_eq!(found.len(), 2);
        assert!(found[0].contains(" P aaa") && found[1].ends_with(" F aaaaa"));
        assert_eq!(
            found[0].len() - "2026-01-01T00:00:00.000000007Z stdout P ".len(),
            LINE_MAX
        );
    }

    #[test]
    fn timestamps_know_the_calendar() {
        let at = |seconds| timestamp(Duration::from_secs(seconds));
        assert_eq!(at(0), "1970-01-01T00:00:00.000000000Z");
        assert_eq!(at(951_782_400), "2000-02-29T00:00:00.000000000Z");
        assert_eq!(at(1_709_251_199), "2024-02-29T23:59:59.000000000Z");
        assert_eq!(at(4_107_542_400), "2100-03-01T00:00:00.000000000Z");
    }

    #[test]
    fn a_full_file_is_renamed_and_only_two_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pod/0.log");
        let mut log = LogFile::open_with(path.clone(), 10).unwrap();
        for entry in ["first\n", "second\n", "third\n"] {
            log.write(entry.as_bytes()).unwrap();
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), "third\n");
        assert_eq!(fs::read_to_string(dir.path().join("pod/0.log.1")).unwrap(), "second\n");
        let mut again = LogFile::open_with(path.clone(), 100).unwrap();
        again.write(b"more\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "third\nmore\n");
    }
}
