//! `corten x authz check` and `corten authz explain`.

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use corten_inspect::envoy::Dump;
use corten_traffic::Policy;

use crate::commands::{Form, read_file};
use crate::mesh::explain::{Explanation, Side, Verdict, Way, Wire, action};
use crate::mesh::{Mesh, Source};
use crate::output;
use corten_api::yaml;

/// What to say about authorization.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Authz {
    /// Show the policies that a node proxy enforces for a pod, or an Envoy by its dump
    Check(Check),
    /// Say whether one pod may call another, by which policy, and who they are to each other
    Explain(Explain),
}

/// Arguments of `check`.
#[derive(Debug, clap::Args)]
pub(crate) struct Check {
    #[command(flatten)]
    source: Source,
    /// The pod, or TYPE/NAME for a pod of a workload
    #[arg(
        value_name = "[TYPE/]NAME[.NAMESPACE]",
        required_unless_present = "dump",
        conflicts_with = "dump"
    )]
    pod: Option<String>,
    /// The policies of an Envoy, by its dump; - for standard input
    #[arg(long, value_name = "FILE")]
    dump: Option<std::path::PathBuf>,
}

/// Arguments of `explain`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Nothing is called: the mesh's own code is asked, with the objects of the cluster or of files.
Exit codes: 0 allowed, 1 denied or failed, 3 decided elsewhere (by a waypoint, or in another network)."
)]
pub(crate) struct Explain {
    #[command(flatten)]
    source: Source,
    /// The caller: a pod, or TYPE/NAME for a pod of a workload
    #[arg(long, value_name = "[TYPE/]NAME[.NAMESPACE]")]
    from: String,
    /// What is called: a service, `pod/NAME`, a host name or an address, each with a port
    #[arg(long, value_name = "NAME[.NAMESPACE]:PORT")]
    to: String,
    /// The form of the output
    #[arg(short, long, value_enum, default_value = "short")]
    output: Form,
}

/// The exit code where something else decides.
const ELSEWHERE: u8 = 3;

impl Authz {
    pub(crate) fn run(self) -> Result<ExitCode> {
        match self {
            Self::Check(check) => check.run(),
            Self::Explain(explain) => explain.run(),
        }
    }
}

impl Check {
    fn run(&self) -> Result<ExitCode> {
        let Some(pod) = &self.pod else {
            let file = self.dump.as_deref().context("name a pod, or a dump with --dump")?;
            let dump = Dump::parse(&read_file(file)?).with_context(|| format!("reading {}", file.display()))?;
            output::text(corten_inspect::authz::policies(&dump))?;
            return Ok(ExitCode::SUCCESS);
        };
        let (mesh, namespace) = self.source.open()?;
        let (namespace, name) = mesh.pod_named(pod, &namespace)?;
        output::text(policies(&mesh, &namespace, &name)?)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// The policies of a pod, in the order in which they count.
fn policies(mesh: &Mesh, namespace: &str, name: &str) -> Result<String> {
    let workload = mesh.workload(namespace, name)?;
    let mut found: Vec<&Policy> = mesh
        .tables
        .applicable(workload)
        .flatten()
        .map(|policy| &**policy)
        .collect();
    found.sort_by_key(|it| (action(it) == "ALLOW", it.name.as_str(), it.namespace.as_str()));
    let mut rows = vec![["ACTION", "AuthorizationPolicy", "RULES"].map(str::to_owned).to_vec()];
    rows.extend(found.iter().map(|policy| {
        let dry_run = if policy.dry_run { " (dry run)" } else { "" };
        vec![
            format!("{}{dry_run}", action(policy)),
            format!("{}.{}", policy.name, policy.namespace),
            policy.rules.len().to_string(),
        ]
    }));
    let mut text = output::columns(&rows, 3);
    if !workload.is_hbone() {
        text.push_str(&format!("The pod is not in the mesh, so none of them is enforced; `corten x describe pod {name}.{namespace}` says why.\n"));
    }
    Ok(text)
}

impl Explain {
    fn run(&self) -> Result<ExitCode> {
        let (mesh, namespace) = self.source.open()?;
        let (source_namespace, source) = mesh.pod_named(&self.from, &namespace)?;
        let called = mesh.called(&self.to, &source_namespace)?;
        let explanation = mesh.explain(mesh.workload(&source_namespace, &source)?, &called)?;
        for problem in &mesh.problems {
            eprintln!("warning: {problem}");
        }
        output::text(match self.output {
            Form::Short => told(&explanation),
            Form::Json => output::json(&explanation)?,
            Form::Yaml => yaml::document(&serde_json::to_value(&explanation)?),
        })?;
        Ok(match explanation.verdict {
            Verdict::Allowed => ExitCode::SUCCESS,
            Verdict::Denied | Verdict::Mixed => ExitCode::FAILURE,
            Verdict::Elsewhere => ExitCode::from(ELSEWHERE),
        })
    }
}

/// An explanation for people.
fn told(explanation: &Explanation) -> String {
    let word = |verdict| match verdict {
        Verdict::Allowed => "ALLOWED",
        Verdict::Denied => "DENIED",
        Verdict::Mixed => "DEPENDS ON THE ENDPOINT",
        Verdict::Elsewhere => "DECIDED ELSEWHERE",
    };
    let from = &explanation.from;
    let mut text = format!(
        "{} -> {}: {}\n",
        from.names.join(", "),
        explanation.called,
        word(explanation.verdict)
    );
    for way in &explanation.ways {
        text.push('\n');
        let mut line = |label: &str, said: &str| text.push_str(&format!("  {label:<8}{said}\n"));
        if explanation.ways.len() > 1 {
            line("verdict", word(way.verdict));
        }
        line("from", &side(from, None));
        line("to", &side(&way.to, way.port));
        line("wire", wire(way));
        line("because", &way.reason);
        if let Some(advice) = &way.advice {
            line("note", advice);
        }
        if way.policies.is_empty() {
            continue;
        }
        let mut rows = vec![["POLICY", "ACTION", "MATCHES"].map(str::to_owned).to_vec()];
        rows.extend(way.policies.iter().map(|it| {
            let dry_run = if it.dry_run { " (dry run)" } else { "" };
            let matches = if it.matches { "yes" } else { "no" };
            vec![it.policy.clone(), format!("{}{dry_run}", it.action), matches.to_owned()]
        }));
        text.push('\n');
        for row in output::table(&rows) {
            text.push_str(&format!("  {row}\n"));
        }
    }
    text
}

fn side(side: &Side, port: Option<u16>) -> String {
    let port = port.map(|port| format!(" port {port}")).unwrap_or_default();
    let identity = match (&side.identity, side.in_mesh) {
        (Some(identity), true) => format!(", as {identity}"),
        (Some(_), false) => ", not in the mesh, so without an identity".to_owned(),
        (None, _) => String::new(),
    };
    format!("{}{port}{identity}", side.names.join(", "))
}

fn wire(way: &Way) -> &'static str {
    match way.wire {
        Wire::MutualTls => "mutual TLS",
        Wire::Plaintext => "plaintext",
        Wire::None => "nothing is sent",
    }
}

#[cfg(test)]
mod tests;
