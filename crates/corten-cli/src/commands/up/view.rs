//! What `corten up` shows: a few lines that stay in place on a terminal, and a line for each change elsewhere.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};

use corten_local::instance::Instance;
use corten_local::status::{Phase, RuntimeStatus};

use crate::output::{line, table};
use crate::place::shell_word;

/// An instance in a few lines. `kubeconfig` is what `KUBECONFIG` is set to where they are read.
pub(crate) fn render(status: &RuntimeStatus, kubeconfig: Option<&OsString>) -> Vec<String> {
    let mut lines = vec![headline(status)];
    if status.phase == Phase::Ready {
        lines.push(export(status));
        lines.extend(elsewhere(status, kubeconfig));
    }
    if !status.nodes.is_empty() {
        let header = ["NODE", "STATE", "PODS"].map(str::to_owned).to_vec();
        let rows = status.nodes.iter().map(|node| {
            let state = if node.ready { "ready" } else { "not ready" };
            vec![node.name.clone(), state.to_owned(), node.pods.to_string()]
        });
        lines.push(String::new());
        lines.extend(table(&[header].into_iter().chain(rows).collect::<Vec<_>>()));
    }
    if !status.namespaces.is_empty() {
        let header = ["NAMESPACE", "READY"].map(str::to_owned).to_vec();
        let rows = status
            .namespaces
            .iter()
            .map(|it| vec![it.name.clone(), format!("{}/{}", it.ready, it.pods)]);
        lines.push(String::new());
        lines.extend(table(&[header].into_iter().chain(rows).collect::<Vec<_>>()));
    }
    if !status.problems.is_empty() {
        lines.push(String::new());
        lines.extend(
            status
                .problems
                .iter()
                .map(|it| format!("! {}: {}", it.subject, it.message)),
        );
    }
    lines
}

fn headline(status: &RuntimeStatus) -> String {
    let name = &status.name;
    match (status.phase, status.ready_after_ms) {
        (Phase::Starting, _) => format!("corten {name}: starting"),
        (Phase::Stopping, _) => format!("corten {name}: stopping"),
        (Phase::Ready, None) => format!("corten {name}: ready, {}", status.server),
        (Phase::Ready, Some(ms)) => {
            format!(
                "corten {name}: ready after {}.{:02} s, {}",
                ms / 1000,
                ms % 1000 / 10,
                status.server
            )
        }
    }
}

fn export(status: &RuntimeStatus) -> String {
    format!("export KUBECONFIG={}", shell_word(&status.kubeconfig))
}

/// Says so when commands in this shell would speak to another cluster. Of several files the first one's context counts.
fn elsewhere(status: &RuntimeStatus, kubeconfig: Option<&OsString>) -> Option<String> {
    let first = std::env::split_paths(kubeconfig?).find(|path| !path.as_os_str().is_empty())?;
    (first != status.kubeconfig).then(|| format!("(until then KUBECONFIG points elsewhere: {})", first.display()))
}

/// The view of a foreground `up`.
#[derive(Debug)]
pub(super) struct Live {
    kubeconfig: Option<OsString>,
    terminal: bool,
    drawn: usize,
    last: Option<RuntimeStatus>,
}

impl Live {
    pub(super) fn new() -> Self {
        Self {
            kubeconfig: std::env::var_os("KUBECONFIG"),
            terminal: io::stdout().is_terminal(),
            drawn: 0,
            last: None,
        }
    }

    /// Shows a new state. A view that cannot be written to any more is given up; the runtime lives on.
    pub(super) fn show(&mut self, status: &RuntimeStatus) {
        let _ = if self.terminal {
            self.draw(status)
        } else {
            changes(self.last.as_ref(), status, self.kubeconfig.as_ref())
                .into_iter()
                .try_for_each(line)
        };
        self.last = Some(status.clone());
    }

    /// Draws over the last drawing.
    fn draw(&mut self, status: &RuntimeStatus) -> io::Result<()> {
        let size = rustix::termios::tcgetwinsize(io::stdout()).ok();
        let (rows, columns) = size.map_or((24, 80), |size| {
            (usize::from(size.ws_row.max(4)), usize::from(size.ws_col.max(20)))
        });
        let mut lines = render(status, self.kubeconfig.as_ref());
        if status.phase == Phase::Ready {
            lines.push(String::new());
            lines.push("Ctrl-C stops it; objects are kept.".to_owned());
        }
        // Lines that wrap or scroll away could not be drawn over.
        if lines.len() >= rows {
            lines.truncate(rows - 2);
            lines.push("... `corten status` shows all".to_owned());
        }
        let mut out = io::stdout().lock();
        if self.drawn > 0 {
            write!(out, "\x1b[{}A\r", self.drawn)?;
        }
        write!(out, "\x1b[J")?;
        self.drawn = 0;
        for text in &lines {
            // The line to copy is never cut; where it wraps it takes more rows.
            let whole = text.starts_with("export ");
            let text: String = text.chars().take(if whole { usize::MAX } else { columns }).collect();
            self.drawn += text.chars().count().div_ceil(columns).max(1);
            writeln!(out, "{text}")?;
        }
        out.flush()
    }

    /// The last word.
    pub(super) fn end(&self, instance: &Instance) -> io::Result<()> {
        line(format!("corten {}: stopped", instance.name()))
    }
}

/// What is different, a line each.
fn changes(last: Option<&RuntimeStatus>, now: &RuntimeStatus, kubeconfig: Option<&OsString>) -> Vec<String> {
    let mut lines = Vec::new();
    if last.is_none_or(|last| last.phase != now.phase) {
        lines.push(headline(now));
        if now.phase == Phase::Ready {
            lines.push(export(now));
            lines.extend(elsewhere(now, kubeconfig));
        }
    }
    let was_ready = |name: &str| last.is_some_and(|last| last.nodes.iter().any(|node| node.name == name && node.ready));
    for node in &now.nodes {
        if node.ready != was_ready(&node.name) {
            lines.push(format!(
                "{} is {}",
                node.name,
                if node.ready { "ready" } else { "not ready" }
            ));
        }
    }
    let (before, after): (BTreeSet<_>, BTreeSet<_>) = (
        last.into_iter().flat_map(|last| &last.problems).collect(),
        now.problems.iter().collect(),
    );
    for gone in before.difference(&after) {
        if !after.iter().any(|problem| problem.subject == gone.subject) {
            lines.push(format!("resolved: {}: {}", gone.subject, gone.message));
        }
    }
    lines.extend(
        after
            .difference(&before)
            .map(|new| format!("problem: {}: {}", new.subject, new.message)),
    );
    lines
}

#[cfg(test)]
mod tests {
    use corten_local::status::{NamespaceStatus, NodeStatus, Problem};

    use super::*;

    fn ready() -> RuntimeStatus {
        RuntimeStatus {
            name: "default".into(),
            phase: Phase::Ready,
            server: "https://127.0.0.1:6443".into(),
            kubeconfig: "/state/kubeconfig".into(),
            ready_after_ms: Some(312),
            nodes: vec![NodeStatus {
                name: "node1".into(),
                ready: true,
                pods: 2,
            }],
            namespaces: vec![NamespaceStatus {
                name: "orders".into(),
                pods: 2,
                ready: 1,
            }],
            ..RuntimeStatus::default()
        }
    }

    fn bad() -> RuntimeStatus {
        let problems = vec![Problem {
            subject: "pod orders/b".into(),
            message: "failed".into(),
        }];
        RuntimeStatus { problems, ..ready() }
    }

    #[test]
    fn the_view_is_a_few_lines() {
        let expected = "corten default: ready after 0.31 s, https://127.0.0.1:6443\n\
            export KUBECONFIG=/state/kubeconfig\n\n\
            NODE   STATE  PODS\nnode1  ready  2\n\n\
            NAMESPACE  READY\norders     1/2\n\n\
            ! pod orders/b: failed";
        assert_eq!(render(&bad(), None).join("\n"), expected);
    }

    #[track_caller]
    fn check_changes(last: Option<RuntimeStatus>, now: &RuntimeStatus, expected: &[&str]) {
        assert_eq!(changes(last.as_ref(), now, None), expected);
    }

    #[track_caller]
    fn check_elsewhere(kubeconfig: Option<&str>, expected: Option<&str>) {
        let kubeconfig = kubeconfig.map(OsString::from);
        let (status, expected) = (ready(), expected.map(str::to_owned));
        assert_eq!(elsewhere(&status, kubeconfig.as_ref()), expected);
        let line = expected.unwrap_or_else(|| "export KUBECONFIG=/state/kubeconfig".to_owned());
        assert!(render(&status, kubeconfig.as_ref()).contains(&line));
        assert!(changes(None, &status, kubeconfig.as_ref()).contains(&line));
    }

    #[test]
    fn a_kubeconfig_that_points_elsewhere_is_told() {
        check_elsewhere(None, None);
        check_elsewhere(Some(""), None);
        check_elsewhere(Some("/state/kubeconfig"), None);
        check_elsewhere(Some("/state/kubeconfig:/home/me/.kube/config"), None);
        let told = "(until then KUBECONFIG points elsewhere: /home/me/.kube/config)";
        check_elsewhere(Some("/home/me/.kube/config:/state/kubeconfig"), Some(told));
    }

    #[test]
    fn without_a_terminal_only_changes_are_told() {
        let starting = RuntimeStatus {
            name: "default".into(),
            ..RuntimeStatus::default()
        };
        check_changes(None, &starting, &["corten default: starting"]);
        let lines = [
            "corten default: ready after 0.31 s, https://127.0.0.1:6443",
            "export KUBECONFIG=/state/kubeconfig",
            "node1 is ready",
        ];
        check_changes(Some(starting), &ready(), &lines);
        check_changes(Some(ready()), &ready(), &[]);
        check_changes(Some(ready()), &bad(), &["problem: pod orders/b: failed"]);
        check_changes(Some(bad()), &ready(), &["resolved: pod orders/b: failed"]);
    }
}
