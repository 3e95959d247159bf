//! How a line of the log is written: Istio's forms, for the programs that stand in for Istio's.

use std::fmt::{self, Write as _};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// The form of lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Time, level, place, text and values, for people.
    #[default]
    Text,
    /// The same with tabs between, as ztunnel has it.
    Tabs,
    /// An object: `level`, `time`, `scope`, `message`, and the values by their names.
    Json,
}

impl<S, N> FormatEvent<S, N> for Format
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        match self {
            Format::Text => tracing_subscriber::fmt::format().format_event(context, writer, event),
            Format::Tabs => line(writer, event, false),
            Format::Json => line(writer, event, true),
        }
    }
}

fn line(mut writer: Writer<'_>, event: &Event<'_>, json: bool) -> fmt::Result {
    let level = match *event.metadata().level() {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    };
    let mut values = Values {
        json,
        message: String::new(),
        fields: String::new(),
    };
    event.record(&mut values);
    let Values { message, fields, .. } = values;
    let scope = event.metadata().target();
    if json {
        write!(writer, "{{\"level\":\"{level}\",\"time\":\"")?;
        SystemTime.format_time(&mut writer)?;
        let (scope, message) = (Quoted(scope), Quoted(&message));
        writeln!(writer, "\",\"scope\":{scope},\"message\":{message}{fields}}}")
    } else {
        SystemTime.format_time(&mut writer)?;
        let tab = if fields.is_empty() { "" } else { "\t" };
        // One event is one line, whatever somebody's error message holds.
        let message = message.replace('\n', "\\n");
        writeln!(writer, "\t{level}\t{scope}\t{message}{tab}{}", fields.trim_start())
    }
}

/// The message and the other values of an event.
struct Values {
    json: bool,
    message: String,
    fields: String,
}

impl Values {
    fn text(&mut self, field: &Field, text: &str) {
        if field.name() == "message" {
            self.message.push_str(text);
        } else {
            self.raw(field, Quoted(text));
        }
    }

    fn raw(&mut self, field: &Field, value: impl fmt::Display) {
        // Writing to a string does not fail.
        let _ = if self.json {
            write!(self.fields, ",{}:{value}", Quoted(field.name()))
        } else {
            write!(self.fields, " {}={value}", field.name())
        };
    }
}

impl Visit for Values {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.raw(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.raw(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.raw(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.text(field, &format!("{value:?}"));
    }
}

/// Text in quotes, as JSON has it.
#[derive(Clone, Copy, Debug)]
pub struct Quoted<'a>(pub &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        for character in self.0.chars() {
            match character {
                '"' => f.write_str("\\\"")?,
                '\\' => f.write_str("\\\\")?,
                '\n' => f.write_str("\\n")?,
                c if c.is_control() => write!(f, "\\u{:04x}", u32::from(c))?,
                c => f.write_char(c)?,
            }
        }
        f.write_char('"')
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex, PoisonError};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: Format) -> Vec<String> {
        let lines = Lines::default();
        let made = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .event_format(format)
            .with_writer(move || made.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(target: "dns", name = "a\"b", count = 3, ok = true, error = %"two\nlines", "it failed");
            tracing::info!("only\ntext");
        });
        let bytes = lines.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap().lines().map(str::to_owned).collect()
    }

    #[test]
    fn with_tabs_between() {
        let lines = logged(Format::Tabs);
        let rest = |line: &str| line.split_once('\t').unwrap().1.to_owned();
        assert_eq!(
            rest(&lines[0]),
            "warn\tdns\tit failed\tname=\"a\\\"b\" count=3 ok=true error=\"two\\nlines\""
        );
        assert!(rest(&lines[1]).ends_with("\tonly\\ntext"), "{lines:?}");
        assert_eq!(lines.len(), 2);
    }

    #[test]
    fn as_objects() {
        let lines = logged(Format::Json);
        let (_, rest) = lines[0].split_once("Z\",").unwrap();
        assert_eq!(
            rest,
            "\"scope\":\"dns\",\"message\":\"it failed\",\"name\":\"a\\\"b\",\"count\":3,\"ok\":true,\"error\":\"two\\nlines\"}"
        );
        assert!(lines[0].starts_with("{\"level\":\"warn\",\"time\":\"20"), "{lines:?}");
        assert_eq!(lines.len(), 2);
    }
}
