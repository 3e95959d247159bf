//! `corten doctor`: whether this machine can run an instance, found out by trying, and what to do where it cannot.
//!
//! What needs namespaces is tried in a child with namespaces of its own ([`probe`]), in the very way `corten up` does it.

pub(crate) mod probe;

use std::io::{self, BufRead, BufReader};
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;

use corten_linux::{Namespaces, Spawn};
use serde::{Deserialize, Serialize};

use crate::instance::Instance;
use crate::refusal;

/// The oldest kernel known to be enough: overlays without root came with 5.11, and what else is needed before.
const KERNEL_MIN: (u32, u32) = (5, 11);

/// A pod needs some twenty open files; this is enough for two hundred of them.
const FILES_MIN: u64 = 4096;

/// Programs that lie beside this one.
const PROGRAMS: [&str; 9] = [
    "corten-pod",
    "corten-bridge",
    "corten-echo",
    "corten-load",
    "corten-capture",
    "corten-control",
    "corten-node",
    "corten-agent",
    "corten-cni",
];

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// Works, with something worth knowing.
    Note,
    /// `corten up` would not work, or not fully.
    Problem,
}

/// One thing looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// What was looked at.
    pub name: String,
    /// How it came out.
    pub verdict: Verdict,
    /// What was found.
    pub detail: String,
    /// What to do about it.
    pub remedy: Option<String>,
}

impl Check {
    fn ok(name: &str, detail: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            verdict: Verdict::Ok,
            detail: detail.into(),
            remedy: None,
        }
    }

    fn wrong(name: &str, verdict: Verdict, detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            verdict,
            detail: detail.into(),
            remedy: Some(remedy.into()),
        }
    }

    fn problem(name: &str, detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::wrong(name, Verdict::Problem, detail, remedy)
    }
}

/// Checks everything. Leaves nothing behind but the instance's directory.
pub fn examine(instance: &Instance, kubeconfig: Option<&Path>) -> Vec<Check> {
    let mut checks = vec![kernel(&rustix::system::uname().release().to_string_lossy())];
    checks.extend(namespaces());
    checks.extend([
        state(instance),
        port(),
        files(),
        programs(),
        clients(instance, kubeconfig),
    ]);
    checks
}

fn kernel(release: &str) -> Check {
    let mut numbers = release.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let (major, minor) = KERNEL_MIN;
    if version >= KERNEL_MIN {
        Check::ok("kernel", release)
    } else {
        Check::problem("kernel", release, format!("use Linux {major}.{minor} or newer"))
    }
}

/// Starts the probe in namespaces of its own and collects what it finds.
fn namespaces() -> Vec<Check> {
    let wanted = Namespaces::isolated();
    let name = if wanted.user { "user namespaces" } else { "namespaces" };
    let found = match try_inside(wanted) {
        Ok(found) => found,
        Err(error) => {
            let refusal = refusal::explain(&error);
            return vec![Check::problem(name, refusal.problem, refusal.remedy)];
        }
    };
    let how = if wanted.user {
        "this user's only id is 0 inside"
    } else {
        "made without a user namespace (root)"
    };
    let mut checks = vec![Check::ok(name, how)];
    for (number, probe) in probe::PROBES.iter().enumerate() {
        checks.push(match found.iter().find(|attempt| attempt.number == number) {
            Some(probe::Attempt { error: None, .. }) => Check::ok(probe.name, probe.what),
            Some(probe::Attempt { error: Some(error), .. }) => {
                Check::wrong(probe.name, probe.severity, error.clone(), probe.remedy)
            }
            None => Check::problem(probe.name, "the check died before it could answer", probe.remedy),
        });
    }
    checks
}

fn try_inside(namespaces: Namespaces) -> Result<Vec<probe::Attempt>, corten_linux::SpawnError> {
    let (reader, writer) = io::pipe()?;
    let mut child = Spawn::this_program()
        .name("corten")
        .arg(probe::ROLE)
        .arg("1")
        .inherit_env()
        .namespaces(namespaces)
        .dies_with_thread()
        .give(writer)
        .start()?;
    let lines = BufReader::new(reader).lines().map_while(Result::ok);
    let found = lines.filter_map(|line| serde_json::from_str(&line).ok()).collect();
    child.wait()?;
    Ok(found)
}

fn state(instance: &Instance) -> Check {
    let name = "state directory";
    match instance.prepare() {
        Ok(()) => Check::ok(name, instance.dir().display().to_string()),
        Err(error) => Check::problem(
            name,
            error.to_string(),
            "set XDG_STATE_HOME to a directory you can write to, with room",
        ),
    }
}

fn port() -> Check {
    let name = "ports on 127.0.0.1";
    match TcpListener::bind((Ipv4Addr::LOCALHOST, 0)) {
        Ok(_) => Check::ok(name, "can be opened"),
        Err(error) => Check::problem(
            name,
            error.to_string(),
            "bring the loopback interface up: ip link set lo up",
        ),
    }
}

fn files() -> Check {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    match limit.maximum {
        Some(maximum) if maximum < FILES_MIN => Check::wrong(
            "open files",
            Verdict::Note,
            format!("at most {maximum} a process: enough for few pods"),
            format!("raise the hard limit to {FILES_MIN} or more: ulimit -Hn, /etc/security/limits.conf"),
        ),
        Some(maximum) => Check::ok("open files", format!("at most {maximum} a process")),
        None => Check::ok("open files", "no limit"),
    }
}

fn programs() -> Check {
    let name = "helper programs";
    let remedy = "install them beside corten; in a source tree: cargo build --workspace --bins";
    let dir = match std::env::current_exe() {
        Ok(program) => program.parent().map(Path::to_owned).unwrap_or_default(),
        Err(error) => return Check::problem(name, format!("cannot find this program: {error}"), remedy),
    };
    let missing: Vec<&str> = PROGRAMS
        .into_iter()
        .filter(|program| !dir.join(program).is_file())
        .collect();
    if missing.is_empty() {
        Check::ok(name, dir.display().to_string())
    } else {
        Check::problem(
            name,
            format!("not in {}: {}", dir.display(), missing.join(", ")),
            remedy,
        )
    }
}

/// Whether `kubectl` in this shell would speak to the instance.
fn clients(instance: &Instance, kubeconfig: Option<&Path>) -> Check {
    let name = "KUBECONFIG";
    let own = instance.kubeconfig();
    match kubeconfig {
        Some(path) if path == own => Check::ok(name, "points at this instance"),
        Some(path) => {
            let detail = format!("points elsewhere: {}", path.display());
            Check::wrong(
                name,
                Verdict::Note,
                detail,
                format!("to use the instance: export KUBECONFIG={}", own.display()),
            )
        }
        None => Check::ok(name, "not set; `corten up` prints the line to set it"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_kernel(release: &str, verdict: Verdict) {
        assert_eq!(kernel(release).verdict, verdict, "{release}");
    }

    #[test]
    fn kernels_are_told_by_their_numbers() {
        check_kernel("6.18.44-fc-v657", Verdict::Ok);
        check_kernel("5.11.0", Verdict::Ok);
        check_kernel("5.10.0-28-amd64", Verdict::Problem);
        check_kernel("4.18.0-553.el8", Verdict::Problem);
        check_kernel("10.0", Verdict::Ok);
    }

    #[test]
    fn a_kubeconfig_that_points_elsewhere_is_noted() {
        let instance = Instance::new(Path::new("/state"), "default").unwrap();
        let own = clients(&instance, Some(Path::new("/state/default/kubeconfig")));
        assert_eq!(own.verdict, Verdict::Ok);
        let other = clients(&instance, Some(Path::new("/home/me/.kube/config")));
        assert_eq!(other.verdict, Verdict::Note);
        assert_eq!(
            other.remedy.as_deref(),
            Some("to use the instance: export KUBECONFIG=/state/default/kubeconfig")
        );
    }
}
