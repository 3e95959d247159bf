//! What became of all calls.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

use super::call::Answer;
use super::histogram::Histogram;

/// How many different errors and pods are told apart.
const DISTINCT_MAX: usize = 100;

/// Counts and latencies.
#[derive(Clone, Debug, Default)]
pub(crate) struct Report {
    codes: BTreeMap<u16, u64>,
    errors: BTreeMap<String, u64>,
    pods: BTreeMap<String, u64>,
    /// Kept connections that were found ended.
    lost: u64,
    latency: Histogram,
}

impl Report {
    /// Counts one call with its latency, which is that of answered calls only.
    pub(crate) fn add(&mut self, answer: Result<Answer, String>, latency: Duration) {
        match answer {
            Ok(answer) => {
                *self.codes.entry(answer.code).or_default() += 1;
                if let Some(pod) = answer.pod {
                    count(&mut self.pods, pod);
                }
                self.latency.add(latency);
            }
            Err(error) => count(&mut self.errors, error),
        }
    }

    /// Counts a kept connection that had ended between two calls; the call itself goes over a new one.
    pub(crate) fn lose(&mut self, lost: bool) {
        self.lost += u64::from(lost);
    }

    /// How many calls were not answered.
    pub(crate) fn errors(&self) -> u64 {
        self.errors.values().sum()
    }

    fn total(&self) -> u64 {
        self.latency.count() + self.errors()
    }

    /// For people.
    pub(crate) fn text(&self, elapsed: Duration) -> String {
        let mut text = String::new();
        let _ = writeln!(
            text,
            "{} calls in {elapsed:.1?}, {:.1} a second",
            self.total(),
            self.rate(elapsed)
        );
        for (code, count) in &self.codes {
            let _ = writeln!(text, "  {code}  {count}");
        }
        for (error, count) in &self.errors {
            let _ = writeln!(text, "  no answer  {count}  {error}");
        }
        if self.lost > 0 {
            let _ = writeln!(text, "  connections lost between calls  {}", self.lost);
        }
        for (pod, count) in &self.pods {
            let _ = writeln!(text, "  answered by {pod}  {count}");
        }
        if self.latency.count() > 0 {
            let at = |share| self.latency.percentile(share);
            let (p50, p90, p99, max) = (at(0.5), at(0.9), at(0.99), self.latency.max());
            let _ = writeln!(
                text,
                "latency  p50 {p50:.1?}  p90 {p90:.1?}  p99 {p99:.1?}  max {max:.1?}"
            );
        }
        text
    }

    /// For programs; latencies in microseconds.
    pub(crate) fn json(&self, elapsed: Duration) -> Value {
        let micros = |duration: Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let at = |share| micros(self.latency.percentile(share));
        json!({
            "calls": self.total(),
            "seconds": elapsed.as_secs_f64(),
            "rate": self.rate(elapsed),
            "codes": self.codes.iter().map(|(code, count)| (code.to_string(), *count)).collect::<BTreeMap<_, _>>(),
            "errors": self.errors,
            "pods": self.pods,
            "connectionsLost": self.lost,
            "latencyMicros": {"p50": at(0.5), "p90": at(0.9), "p99": at(0.99), "max": micros(self.latency.max())},
        })
    }

    fn rate(&self, elapsed: Duration) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
        let total = self.total() as f64;
        total / elapsed.as_secs_f64().max(1e-9)
    }
}

/// Counts a word, unless there are too many different ones already: those are counted together.
fn count(words: &mut BTreeMap<String, u64>, word: String) {
    let room = words.len() < DISTINCT_MAX || words.contains_key(&word);
    *words.entry(if room { word } else { "others".to_owned() }).or_default() += 1;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_and_errors_are_told_apart() {
        let mut report = Report::default();
        report.add(
            Ok(Answer {
                code: 200,
                pod: Some("a".to_owned()),
            }),
            Duration::from_millis(2),
        );
        report.add(Ok(Answer { code: 503, pod: None }), Duration::from_millis(4));
        report.add(Err("refused".to_owned()), Duration::from_millis(1));
        assert_eq!(report.errors(), 1);
        let text = report.text(Duration::from_secs(1));
        let expect = "3 calls in 1.0s, 3.0 a second\n  200  1\n  503  1\n  no answer  1  refused\n  answered by a  1\n";
        assert!(text.starts_with(expect), "{text}");
        let json = report.json(Duration::from_secs(1));
        assert_eq!(
            (&json["calls"], &json["codes"]["503"], &json["latencyMicros"]["max"]),
            (&json!(3), &json!(1), &json!(4000))
        );
    }
}
