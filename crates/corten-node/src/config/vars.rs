//! Reading variables: each of a type, with a default, every problem noted.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// Where variables come from.
pub trait Vars {
    /// The value of one.
    fn get(&self, name: &str) -> Option<String>;
    /// All of them.
    fn all(&self) -> Vec<(String, String)>;
    /// The text of a file of settings; `None` where there is none.
    fn file(&self, path: &str) -> io::Result<Option<String>> {
        let _ = path;
        Ok(None)
    }
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

    pub(super) fn file(&self, path: &str) -> io::Result<Option<String>> {
        self.vars.file(path)
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

    /// A number within bounds.
    pub(super) fn within(&mut self, name: &str, bounds: std::ops::RangeInclusive<u32>, default: u32) -> u32 {
        let value = self.parsed(name).unwrap_or(default);
        if bounds.contains(&value) {
            return value;
        }
        let reason = format!("'{value}' is not between {} and {}", bounds.start(), bounds.end());
        self.problem(name, &reason);
        default
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

    /// How many shards the data path has: as many as the variable says, or the ProxyConfig, or by what Kubernetes allows.
    ///
    /// Two is what the upstream proxy takes at least; one thread does the work of two here as long as there are no more cores than that, and batches better.
    pub(super) fn threads(&mut self, cores: usize, concurrency: Option<usize>) -> usize {
        let request = self.cpus("ZTUNNEL_RESOURCE_CPU_REQUEST").unwrap_or(1);
        let limit = self.cpus("ZTUNNEL_RESOURCE_CPU_LIMIT");
        // What the downward API says where there is a limit or not.
        let told = self.cpus("ZTUNNEL_CPU_LIMIT");
        let cores = limit.or(told).unwrap_or(cores).max(1);
        let automatic = match (limit, concurrency) {
            (_, Some(0)) => cores,
            (_, Some(threads)) => threads,
            (Some(limit), None) => limit.max(request).min(cores),
            (None, None) if cores <= 2 => 1,
            (None, None) => cores.div_ceil(4).max(2).max(request.min(cores)),
        };
        let name = "ZTUNNEL_WORKER_THREADS";
        let Some(text) = self.text(name) else {
            return automatic.clamp(1, THREADS_MAX);
        };
        let threads = match text.strip_suffix('%') {
            Some(percent) => percent
                .parse::<usize>()
                .ok()
                .filter(|percent| (1..=100).contains(percent))
                .map(|percent| (cores * percent).div_ceil(100)),
            None => text.parse().ok().map(|count| if count == 0 { cores } else { count }),
        };
        let threads = threads.unwrap_or_else(|| {
            let reason = format!("'{text}' is neither a number nor a percentage between 1% and 100%");
            self.problem(name, &reason);
            1
        });
        threads.clamp(1, THREADS_MAX)
    }

    /// A quantity of processors as Kubernetes writes it (`2`, `1.5`, `500m`), rounded up.
    fn cpus(&mut self, name: &str) -> Option<usize> {
        let text = self.text(name)?;
        let quantity = match text.strip_suffix('m') {
            Some(thousandths) => thousandths.parse::<f64>().map(|m| m / 1000.0),
            None => text.parse(),
        };
        match quantity {
            // Any machine has fewer, and the cast is exact below.
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "between 0 and 65536"
            )]
            Ok(cpus) if cpus > 0.0 && cpus <= 65_536.0 => Some(cpus.ceil() as usize),
            _ => {
                let reason = format!("'{text}' is not a quantity of processors, for example 2 or 500m");
                self.problem(name, &reason);
                None
            }
        }
    }
}

/// More shards than this only share less.
const THREADS_MAX: usize = 64;

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
