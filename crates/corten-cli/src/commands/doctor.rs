//! `corten doctor`.

use std::path::PathBuf;
use std::process::ExitCode;

use corten_local::doctor::{Check, Verdict, examine};

use crate::output;
use crate::place::Name;

/// Check whether this machine can run `corten up`, by trying everything it needs, and say what to do where it cannot.
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit codes: 0 all is well, 1 something is in the way.")]
pub(crate) struct Doctor {
    #[command(flatten)]
    name: Name,
    /// The same as JSON
    #[arg(long)]
    json: bool,
}

impl Doctor {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let kubeconfig = std::env::var_os("KUBECONFIG").map(PathBuf::from);
        let checks = examine(&self.name.instance()?, kubeconfig.as_deref());
        if self.json {
            output::line(serde_json::to_string_pretty(&checks)?)?;
        } else {
            for line in render(&checks) {
                output::line(line)?;
            }
        }
        let well = checks.iter().all(|check| check.verdict != Verdict::Problem);
        Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

/// A table, a last word.
fn render(checks: &[Check]) -> Vec<String> {
    let mut rows = vec![["CHECK", "", "FOUND"].map(str::to_owned).to_vec()];
    for check in checks {
        let mark = match check.verdict {
            Verdict::Ok => "ok",
            Verdict::Note => "note",
            Verdict::Problem => "PROBLEM",
        };
        rows.push(vec![check.name.clone(), mark.to_owned(), check.detail.clone()]);
        if let Some(remedy) = &check.remedy {
            rows.push(vec![String::new(), String::new(), format!("→ {remedy}")]);
        }
    }
    let mut lines = output::table(&rows);
    let problems = checks.iter().filter(|check| check.verdict == Verdict::Problem).count();
    lines.push(String::new());
    lines.push(match problems {
        0 => "all is well: `corten up` will work".to_owned(),
        1 => "1 problem is in the way of `corten up`".to_owned(),
        more => format!("{more} problems are in the way of `corten up`"),
    });
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_followed_by_what_to_do() {
        let check = |name: &str, verdict, remedy: Option<&str>| Check {
            name: name.into(),
            verdict,
            detail: "found".into(),
            remedy: remedy.map(str::to_owned),
        };
        let checks = [
            check("kernel", Verdict::Ok, None),
            check("veth", Verdict::Problem, Some("modprobe veth")),
        ];
        let expected = "CHECK            FOUND\n\
            kernel  ok       found\n\
            veth    PROBLEM  found\n                 → modprobe veth\n\n\
            1 problem is in the way of `corten up`";
        assert_eq!(render(&checks).join("\n"), expected);
    }
}
