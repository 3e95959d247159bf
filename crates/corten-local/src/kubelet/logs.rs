//! Containers' logs on disk: where they are, what their lines mean, and reading them as `kubectl logs` asks.
//!
//! The format is the container runtime interface's: `<time> <stream> <P|F> <text>`, P for a part of a line. The sandbox writes them.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use corten_apiserver::LogOptions;
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use tokio::io::AsyncReadExt as _;

/// The directory of a pod's logs.
pub(crate) fn pod_dir(log_dir: &Path, pod: &Pod) -> PathBuf {
    let meta = &pod.metadata;
    let part = |field: &Option<String>| field.clone().unwrap_or_default();
    log_dir.join(format!(
        "{}_{}_{}",
        part(&meta.namespace),
        part(&meta.name),
        part(&meta.uid)
    ))
}

/// One entry of a log file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Line<'a> {
    pub(crate) time: &'a str,
    pub(crate) stream: &'a str,
    /// The line goes on in the next entry of the stream.
    pub(crate) partial: bool,
    pub(crate) text: &'a [u8],
}

/// Takes an entry apart; `None` for what is not one.
pub(crate) fn parse(entry: &[u8]) -> Option<Line<'_>> {
    let mut parts = entry.splitn(4, |byte| *byte == b' ');
    let mut word = || std::str::from_utf8(parts.next()?).ok();
    let (time, stream, tag) = (word()?, word()?, word()?);
    let text = parts.next()?;
    matches!(stream, "stdout" | "stderr").then_some(())?;
    Some(Line {
        time,
        stream,
        partial: tag.starts_with('P'),
        text,
    })
}

/// The end of a log as a termination message: at most 80 lines and 2048 bytes.
pub(crate) fn tail_for_message(path: &Path) -> String {
    const LINES_MAX: usize = 80;
    const BYTES_MAX: usize = 2048;
    let log = std::fs::read(path).unwrap_or_default();
    let lines: Vec<&[u8]> = log
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .collect();
    let mut text = Vec::new();
    for entry in lines[lines.len().saturating_sub(LINES_MAX)..]
        .iter()
        .filter_map(|line| parse(line))
    {
        text.extend_from_slice(entry.text);
        if !entry.partial {
            text.push(b'\n');
        }
    }
    let from = text.len().saturating_sub(BYTES_MAX);
    String::from_utf8_lossy(&text[from..]).into_owned()
}

/// Tells, while a log is followed, whether its container still writes to it.
pub(crate) trait Alive: Send + Sync {
    /// False once nothing more will be written.
    fn is_alive(&self) -> bool;
    /// Resolves when that may have changed.
    fn changed(&mut self) -> BoxFuture<'_, ()>;
}

/// How often a followed log is looked at while it is silent.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
const BLOCK: usize = 64 * 1024;
/// A line longer than this is passed on in parts.
const LINE_BYTES_MAX: usize = 1024 * 1024;

/// The lines of a log file (and of what was rotated out of it) as the options ask for them.
pub(crate) fn read(
    path: PathBuf,
    options: &LogOptions,
    follow: Option<Box<dyn Alive>>,
) -> BoxStream<'static, io::Result<Bytes>> {
    let since = match (&options.since_time, options.since_seconds) {
        (Some(time), _) => time.parse().ok(),
        (None, Some(seconds)) => Timestamp::now().checked_sub(SignedDuration::from_secs(seconds)).ok(),
        (None, None) => None,
    };
    let selection = Selection {
        since,
        timestamps: options.timestamps,
        stream: None,
        line_open: false,
    };
    let reader = Reader {
        path,
        file: None,
        buffer: BytesMut::new(),
        selection,
        tail: options.tail_lines,
        left: options.limit_bytes,
        follow,
        begun: false,
        ended: false,
    };
    stream::try_unfold(reader, |mut reader| async move {
        let block = reader.next().await?;
        Ok(block.map(|block| (block, reader)))
    })
    .boxed()
}

/// Which entries are wanted, and how they look.
struct Selection {
    since: Option<Timestamp>,
    timestamps: bool,
    stream: Option<&'static str>,
    /// The last entry was a part: the next one goes on in its line.
    line_open: bool,
}

impl Selection {
    fn wants(&self, line: &Line<'_>) -> bool {
        let late_enough = self
            .since
            .is_none_or(|since| line.time.parse::<Timestamp>().map_or(true, |time| time >= since));
        late_enough && self.stream.is_none_or(|stream| stream == line.stream)
    }

    fn write(&mut self, entry: &[u8], out: &mut BytesMut) {
        let Some(line) = parse(entry) else { return };
        if !self.wants(&line) {
            return;
        }
        if self.timestamps && !self.line_open {
            out.extend_from_slice(line.time.as_bytes());
            out.extend_from_slice(b" ");
        }
        out.extend_from_slice(line.text);
        self.line_open = line.partial;
        if !line.partial {
            out.extend_from_slice(b"\n");
        }
    }
}

struct Reader {
    path: PathBuf,
    file: Option<tokio::fs::File>,
    /// What was read and is not a whole entry yet.
    buffer: BytesMut,
    selection: Selection,
    tail: Option<u64>,
    left: Option<u64>,
    follow: Option<Box<dyn Alive>>,
    begun: bool,
    ended: bool,
}

impl Reader {
    /// The next block of output; `None` at the end.
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            if self.ended || self.left == Some(0) {
                return Ok(None);
            }
            let mut out = if self.begun {
                self.go_on().await?
            } else {
                self.begin().await?
            };
            if out.is_empty() {
                continue;
            }
            if let Some(left) = &mut self.left {
                out.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= out.len() as u64;
            }
            return Ok(Some(out.freeze()));
        }
    }

    /// What was rotated out comes first; with a tail, both files are looked through for their last lines.
    async fn begin(&mut self) -> io::Result<BytesMut> {
        self.begun = true;
        let old = tokio::fs::read(rotated(&self.path)).await.unwrap_or_default();
        self.open().await?;
        let mut out = BytesMut::new();
        let Some(tail) = self.tail else {
            self.write_entries(&old, &mut out);
            return Ok(out);
        };
        let mut present = Vec::new();
        if let Some(file) = &mut self.file {
            file.read_to_end(&mut present).await?;
        }
        let whole = present.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        self.buffer.extend_from_slice(&present[whole..]);
        let mut last: VecDeque<&[u8]> = VecDeque::new();
        let mut lines = 0;
        for entry in old
            .split(|byte| *byte == b'\n')
            .chain(present[..whole].split(|byte| *byte == b'\n'))
        {
            let Some(line) = parse(entry).filter(|line| self.selection.wants(line)) else {
                continue;
            };
            last.push_back(entry);
            lines += u64::from(!line.partial);
            while lines > tail {
                let Some(first) = last.pop_front() else { break };
                lines -= u64::from(parse(first).is_some_and(|line| !line.partial));
            }
        }
        for entry in last {
            self.selection.write(entry, &mut out);
        }
        Ok(out)
    }

    /// Reads on in the present file; at its end waits, or ends.
    async fn go_on(&mut self) -> io::Result<BytesMut> {
        let mut out = BytesMut::new();
        // Asked before reading: what was written before the container ended is then read for certain.
        let alive = self.follow.as_ref().is_some_and(|follow| follow.is_alive());
        if self.file.is_none() {
            self.open().await?;
        }
        if let Some(file) = &mut self.file {
            let mut block = vec![0; BLOCK];
            let read = file.read(&mut block).await?;
            if read > 0 {
                self.buffer.extend_from_slice(&block[..read]);
                let whole = self
                    .buffer
                    .iter()
                    .rposition(|byte| *byte == b'\n')
                    .map_or(0, |at| at + 1);
                let whole = if whole == 0 && self.buffer.len() > LINE_BYTES_MAX {
                    self.buffer.len()
                } else {
                    whole
                };
                let entries = self.buffer.split_to(whole);
                self.write_entries(&entries, &mut out);
                return Ok(out);
            }
        }
        if self.was_rotated().await {
            self.file = None;
            return Ok(out);
        }
        match (&mut self.follow, alive) {
            (Some(follow), true) => {
                // Cut short by the container's end; nothing is lost when the pause is.
                let _ = tokio::time::timeout(LOOK_AGAIN, follow.changed()).await;
            }
            _ => self.ended = true,
        }
        Ok(out)
    }

    async fn open(&mut self) -> io::Result<()> {
        match tokio::fs::File::open(&self.path).await {
            Ok(file) => self.file = Some(file),
            // A container that has not written anything has no log yet.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    async fn was_rotated(&self) -> bool {
        let Some(file) = &self.file else { return false };
        match (file.metadata().await, tokio::fs::metadata(&self.path).await) {
            (Ok(open), Ok(named)) => open.ino() != named.ino(),
            _ => false,
        }
    }

    fn write_entries(&mut self, entries: &[u8], out: &mut BytesMut) {
        for entry in entries.split(|byte| *byte == b'\n').filter(|entry| !entry.is_empty()) {
            self.selection.write(entry, out);
        }
    }
}

/// Where the sandbox puts a log that has grown too long.
pub(crate) fn rotated(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".1");
    PathBuf::from(name)
}
