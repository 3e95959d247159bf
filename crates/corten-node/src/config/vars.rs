//! Reading variables: each of a type, with a default, every problem noted.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// Where variables come from.
pub trait Vars {
    /// The value of one.
    fn get(&self, name: &str) -> Option<String>;
    /// All of them.
    fn all(&self) -> Vec<(String, String)>;
}

impl Vars for BTreeMap<String, String> {
    fn get(&self, name: &str) -> Option<String> {
        self.get(name).cloned()
    }

    fn all(&self) -> Vec<(String, String)> {
        self.iter().map(|(name, value)| (name.clone(), value.clone())).collect()
    }
}

/// What is wrong with one variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The variable.
    pub name: String,
    /// What is wrong, and what to write instead.
    pub reason: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.reason)
    }
}

/// Reads variables and collects what is wrong with them.
pub(super) struct Reader<'a> {
    vars: &'a dyn Vars,
    problems: Vec<Problem>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(vars: &'a dyn Vars) -> Self {
        let problems = Vec::new();
        Self { vars, problems }
    }

    pub(super) fn problem(&mut self, name: &str, reason: &str) {
        self.problems.push(Problem {
            name: name.to_owned(),
            reason: reason.to_owned(),
        });
    }

    /// The value, or all the problems there were.
    pub(super) fn finish<T>(self, value: T) -> Result<T, Vec<Problem>> {
        if self.problems.is_empty() {
            Ok(value)
        } else {
            Err(self.problems)
        }
    }

    /// A variable that is set; an empty one is not.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        self.vars.get(name).filter(|value| !value.is_empty())
    }

    pub(super) fn string(&self, name: &str, default: &str) -> String {
        self.vars.get(name).unwrap_or_else(|| default.to_owned())
    }

    pub(super) fn path(&self, name: &str) -> Option<PathBuf> {
        self.text(name).map(PathBuf::from)
    }

    pub(super) fn prefixed(&self, prefix: &str) -> impl Iterator<Item = (String, String)> + use<> {
        let prefix = prefix.to_owned();
        let all = self.vars.all().into_iter();
        all.filter_map(move |(name, value)| Some((name.strip_prefix(&prefix)?.to_owned(), value)))
    }

    pub(super) fn parsed<T: FromStr>(&mut self, name: &str) -> Option<T> {
        let value = self.text(name)?;
        let parsed = value.parse().ok();
        if parsed.is_none() {
            let kind = std::any::type_name::<T>().rsplit("::").next().unwrap_or_default();
            self.problem(name, &format!("'{value}' is not a {kind}"));
        }
        parsed
    }

    pub(super) fn optional_boolean(&mut self, name: &str) -> Option<bool> {
        self.parsed(name)
    }

    pub(super) fn boolean(&mut self, name: &str, default: bool) -> bool {
        self.parsed(name).unwrap_or(default)
    }

    pub(super) fn duration(&mut self, name: &str, default: Duration) -> Duration {
        let Some(value) = self.text(name) else { return default };
        parse_duration(&value).unwrap_or_else(|| {
            self.problem(
                name,
                &format!("'{value}' is not a duration: write a number and a unit, for example 10s, 5m or 1h30m"),
            );
            default
        })
    }

    /// How many shards the data path has.
    ///
    /// Two is what the upstream proxy takes at least; one thread does the work of two here as long as there are no more cores than that, and batches better.
    pub(super) fn threads(&mut self, cores: usize) -> usize {
        let automatic = |r: &mut Self| {
            let request = r.parsed::<usize>("ZTUNNEL_RESOURCE_CPU_REQUEST").unwrap_or(1);
            let limit = r.parsed::<usize>("ZTUNNEL_RESOURCE_CPU_LIMIT");
            match limit {
                Some(limit) => limit.max(request).min(cores),
                None if cores <= 2 => 1,
                None => cores.div_ceil(4).max(2).max(request.min(cores)),
            }
        };
        let threads = match self.text("ZTUNNEL_WORKER_THREADS") {
            None => automatic(self),
            Some(text) => match (text.strip_suffix('%').map(str::parse::<usize>), text.parse::<usize>()) {
                (Some(Ok(percent)), _) => (cores * percent).div_ceil(100),
                (None, Ok(0)) => cores,
                (None, Ok(count)) => count,
                _ => {
                    self.problem(
                        "ZTUNNEL_WORKER_THREADS",
                        &format!("'{text}' is neither a number nor a percentage"),
                    );
                    1
                }
            },
        };
        threads.clamp(1, 64)
    }
}

/// A duration as Go writes it: numbers with units, added up.
fn parse_duration(text: &str) -> Option<Duration> {
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(digits);
        let unit_length = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_length);
        let seconds = match unit {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        total += Duration::try_from_secs_f64(number.parse::<f64>().ok()? * seconds).ok()?;
        rest = tail;
    }
    (!text.is_empty()).then_some(total)
}
