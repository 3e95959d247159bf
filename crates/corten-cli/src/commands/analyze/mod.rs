//! `corten analyze`: what is wrong with the mesh's configuration, in a cluster, in files, or in a cluster once files were applied.

pub(crate) mod read;

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::SystemTime;

use anyhow::{Context as _, Result};
use corten_analysis::analyzers::{self, Analyzer};
use corten_analysis::objects::DEFAULT_CLUSTER;
use corten_analysis::suppress::{Suppression, is_of_namespace};
use corten_analysis::{Message, Sources, catalogue};
use corten_api::diagnostic::{Diagnostic, Severity};
use corten_api::{decode, yaml};
use serde::Serialize as _;
use serde_json::Value;

use crate::cluster::{Cluster, Connection};
use crate::output;

/// Something as bad as the threshold was found.
const FOUND: u8 = 79;
/// Something could not be read.
const UNREADABLE: u8 = 65;

/// Look for what is wrong with the mesh's configuration
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Codes are explained at https://istio.io/latest/docs/reference/config/analysis/. An object with the annotation
galley.istio.io/analyze-suppress=CODE,... is not spoken of by these codes.
Exit codes with -o log: 0 nothing as bad as --failure-threshold, 65 a file could not be read, 79 something as bad was found.
With -o json and -o yaml it is 0, unless --failure-threshold is given. Examples:
  corten analyze                               the namespace of the kubeconfig's cluster
  corten analyze -A shop/                      the whole cluster, as if the files were applied
  corten analyze -f shop/                      the files alone
  corten analyze -S \"IST0103=Pod *.testing\"    without a message about some pods
  corten analyze -L                            what can be looked for"
)]
pub(crate) struct Analyze {
    #[command(flatten)]
    connection: Connection,
    /// Files and directories that are analyzed as if they were applied to the cluster; - is standard input
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Files and directories that are analyzed instead of a cluster; can be given several times
    #[arg(short, long, value_name = "FILE")]
    filename: Vec<PathBuf>,
    /// Whether a cluster is looked at [default: true, without -f]
    #[arg(short = 'k', long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    use_kube: Option<bool>,
    /// What is in all namespaces
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// The form
    #[arg(short, long, value_enum, default_value = "log", ignore_case = true)]
    output: Form,
    /// From which level on the exit code says that something was found [default: Error]
    #[arg(long, value_name = "LEVEL", value_enum, ignore_case = true)]
    failure_threshold: Option<Level>,
    /// From which level on messages are shown
    #[arg(long, value_name = "LEVEL", value_enum, default_value = "info", ignore_case = true)]
    output_threshold: Level,
    /// CODE=KIND NAME.NAMESPACE: a message that is not to be said of an object; * stands for anything; can be given several times
    #[arg(short = 'S', long, value_name = "CODE=OBJECT")]
    suppress: Vec<Suppression>,
    /// Only this analyzer; can be given several times
    #[arg(long, value_name = "NAME")]
    analyzer: Vec<String>,
    /// Print what can be looked for
    #[arg(short = 'L', long)]
    list_analyzers: bool,
    /// Accepted for older scripts: directories are always read with what is below them
    #[arg(short = 'R', long, hide = true)]
    recursive: bool,
    /// A file with settings of the mesh, instead of the cluster's
    #[arg(long = "meshConfigFile", alias = "mesh-config-file", value_name = "FILE")]
    mesh_config_file: Option<PathBuf>,
    /// The control plane's namespace
    #[arg(
        short = 'i',
        long = "istioNamespace",
        alias = "istio-namespace",
        value_name = "NAMESPACE",
        default_value = "istio-system"
    )]
    istio_namespace: String,
    /// The revision whose configuration is looked at
    #[arg(short, long, default_value = "default")]
    revision: String,
    /// Contexts of the kubeconfig for more clusters of the mesh; can be given several times
    #[arg(long, value_name = "CONTEXT", value_delimiter = ',')]
    remote_contexts: Vec<String>,
    /// Do not fail because something could not be read
    #[arg(long)]
    ignore_unknown: bool,
    /// Levels in colour [default: on a terminal]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    color: Option<bool>,
    /// Also say which analyzers were asked
    #[arg(short, long)]
    verbose: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Form {
    Log,
    Json,
    Yaml,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Level {
    Info,
    Warning,
    Error,
}

impl From<Level> for Severity {
    fn from(level: Level) -> Severity {
        match level {
            Level::Info => Severity::Info,
            Level::Warning => Severity::Warning,
            Level::Error => Severity::Error,
        }
    }
}

/// What was found, before it is shown.
struct Outcome {
    messages: Vec<Message>,
    problems: Vec<Diagnostic>,
    /// The namespace that it is about; `None` for all.
    namespace: Option<String>,
    files: Vec<String>,
    several_clusters: bool,
}

impl Analyze {
    pub(crate) fn run(self) -> Result<ExitCode> {
        if self.list_analyzers {
            output::text(listed())?;
            return Ok(ExitCode::SUCCESS);
        }
        for suppression in &self.suppress {
            if !catalogue::ALL.iter().any(|kind| kind.code.0 == suppression.code)
                && !suppression.code.starts_with("CRT")
            {
                let code = &suppression.code;
                eprintln!(
                    "Warning: Supplied message code '{code}' is an unknown message code and will not have any effect."
                );
            }
        }
        let outcome = if self.use_kube.unwrap_or(self.filename.is_empty()) {
            self.connection.run(async |cluster| self.with_cluster(&cluster).await)?
        } else {
            Some(self.of_files()?)
        };
        match outcome {
            Some(outcome) => self.show(&outcome),
            None => Ok(ExitCode::SUCCESS),
        }
    }

    fn chosen(&self) -> Vec<&'static Analyzer> {
        if self.analyzer.is_empty() {
            analyzers::default_set().collect()
        } else {
            analyzers::named(&self.analyzer)
        }
    }

    fn sources(&self, namespace: &str) -> Result<Sources> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
        let mut sources = Sources::new(&self.istio_namespace, i64::try_from(now)?).default_namespace(namespace);
        if let Some(path) = &self.mesh_config_file {
            let name = path.display().to_string();
            let text = std::fs::read_to_string(path).with_context(|| format!("reading {name}"))?;
            let (root, problems) = decode::document(&name, &text);
            for problem in problems {
                eprintln!("{problem}");
            }
            if let Some(root) = root {
                sources.set_mesh_config(&root);
            }
        }
        Ok(sources)
    }

    /// All files, wherever they were named.
    fn texts(&self) -> Result<Vec<(String, String)>> {
        let paths: Vec<PathBuf> = self.filename.iter().chain(&self.files).cloned().collect();
        read::texts(&paths)
    }

    fn of_files(&self) -> Result<Outcome> {
        let texts = self.texts()?;
        anyhow::ensure!(
            !texts.is_empty(),
            "there is no YAML or JSON file in what was named, and no cluster is to be looked at"
        );
        let (objects, problems) = read::objects(&texts);
        let namespace = self.connection.named_namespace().unwrap_or("default");
        let default = if self.all_namespaces { "" } else { namespace };
        // Only what the files bring decides which questions can be answered.
        let mut of_files = self.sources(default)?;
        of_files.add_files(objects.clone());
        let of_files = of_files.world();
        let (asked, skipped): (Vec<_>, Vec<_>) = self
            .chosen()
            .into_iter()
            .partition(|analyzer| analyzer.can_judge_files(&of_files));
        let mut sources = self.sources(default)?;
        sources.add_files(objects);
        sources.add_default_gateway();
        let messages = corten_analysis::analyze(&sources.world(), asked.iter().copied());
        self.explain(&asked, &skipped);
        Ok(Outcome {
            messages,
            problems,
            // Whoever names files means all that is in them.
            namespace: self
                .connection
                .named_namespace()
                .filter(|_| !self.all_namespaces)
                .map(str::to_owned),
            files: texts.into_iter().map(|(name, _)| name).collect(),
            several_clusters: false,
        })
    }

    async fn with_cluster(&self, cluster: &Cluster) -> Result<Option<Outcome>> {
        let namespace = (!self.all_namespaces).then(|| cluster.namespace.clone());
        if let Some(namespace) = &namespace {
            let path = format!("/api/v1/namespaces/{namespace}");
            match cluster
                .request(http::Method::GET, &path, "application/json", None)
                .await
            {
                Err(refusal) if refusal.is_not_found() => {
                    eprintln!("namespace {namespace:?} not found");
                    return Ok(None);
                }
                // Whoever may not look at namespaces is not kept from what may be looked at.
                Err(crate::cluster::Refusal::Status { code: 403, .. }) | Ok(_) => {}
                Err(refusal) => return Err(refusal.into()),
            }
        }
        let texts = self.texts()?;
        let (objects, problems) = read::objects(&texts);
        let chosen = self.chosen();
        let mut sources = self.sources(namespace.as_deref().unwrap_or_default())?;
        let live = read::cluster(cluster, &chosen, &self.istio_namespace, &self.revision).await?;
        sources.add_cluster(DEFAULT_CLUSTER, live.objects);
        for context in &self.remote_contexts {
            let remote = cluster_of(&self.connection, context).await?;
            let live = read::cluster(&remote, &chosen, &self.istio_namespace, &self.revision).await?;
            sources.add_cluster(context, live.objects);
        }
        sources.add_files(objects);
        let hidden = |analyzer: &&Analyzer| analyzer.inputs.iter().any(|input| live.hidden.contains(input));
        let (skipped, asked): (Vec<_>, Vec<_>) = chosen.into_iter().partition(hidden);
        for input in &live.hidden {
            eprintln!(
                "you may not list objects of kind {}, so the questions about them are left out",
                input.kind
            );
        }
        let messages = corten_analysis::analyze(&sources.world(), asked.iter().copied());
        self.explain(&asked, &skipped);
        Ok(Some(Outcome {
            messages,
            problems,
            namespace,
            files: texts.into_iter().map(|(name, _)| name).collect(),
            several_clusters: !self.remote_contexts.is_empty(),
        }))
    }

    fn explain(&self, asked: &[&Analyzer], skipped: &[&Analyzer]) {
        if !self.verbose {
            return;
        }
        for (title, analyzers) in [("Skipped analyzers:", skipped), ("Executed analyzers:", asked)] {
            if !analyzers.is_empty() {
                eprintln!("{title}");
            }
            for analyzer in analyzers {
                eprintln!("\t {}", analyzer.name);
            }
        }
    }

    fn show(&self, outcome: &Outcome) -> Result<ExitCode> {
        for problem in &outcome.problems {
            eprintln!("{problem}");
        }
        let wanted = |message: &&Message| {
            let here = outcome
                .namespace
                .as_ref()
                .is_none_or(|namespace| is_of_namespace(message, namespace));
            here && !self.suppress.iter().any(|suppression| suppression.covers(message))
        };
        let messages: Vec<&Message> = outcome.messages.iter().filter(wanted).collect();
        let threshold = Severity::from(self.output_threshold);
        let shown: Vec<&Message> = messages
            .iter()
            .copied()
            .filter(|message| message.level >= threshold)
            .collect();
        self.print(&shown, outcome.several_clusters)?;
        let unreadable = outcome.problems.iter().any(Diagnostic::is_error);
        if shown.is_empty() {
            eprintln!("{}", nothing(outcome, unreadable));
        }
        let as_bad = Severity::from(self.failure_threshold.unwrap_or(Level::Error));
        let judges = self.output == Form::Log || self.failure_threshold.is_some();
        if judges && messages.iter().any(|message| message.level >= as_bad) {
            let target = target(outcome);
            eprintln!(
                "error: something is wrong in {target}; https://istio.io/latest/docs/reference/config/analysis explains the codes"
            );
            return Ok(ExitCode::from(FOUND));
        }
        if self.output == Form::Log && unreadable && !self.ignore_unknown {
            eprintln!("error: something could not be read");
            return Ok(ExitCode::from(UNREADABLE));
        }
        Ok(ExitCode::SUCCESS)
    }

    fn print(&self, messages: &[&Message], names_cluster: bool) -> Result<()> {
        let values = || Value::from_iter(messages.iter().map(|message| message.to_value(names_cluster)));
        match self.output {
            Form::Log => {
                let dumb = std::env::var_os("TERM").is_some_and(|term| term.eq_ignore_ascii_case("dumb"));
                let color = self.color.unwrap_or_else(|| std::io::stdout().is_terminal() && !dumb);
                for message in messages {
                    output::line(message.line(color, names_cluster))?;
                }
            }
            Form::Json => {
                let mut bytes = Vec::new();
                let tabs = serde_json::ser::PrettyFormatter::with_indent(b"\t");
                values().serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, tabs))?;
                output::line(String::from_utf8(bytes)?)?;
            }
            Form::Yaml => output::text(yaml::document(&values()))?,
        }
        Ok(())
    }
}

async fn cluster_of(connection: &Connection, context: &str) -> Result<Cluster> {
    connection
        .in_context(context)
        .open()
        .await
        .with_context(|| format!("context {context}"))
}

fn target(outcome: &Outcome) -> String {
    match &outcome.namespace {
        Some(namespace) => format!("namespace: {namespace}"),
        None => "all namespaces".to_owned(),
    }
}

/// The words when there is nothing to show.
fn nothing(outcome: &Outcome, unreadable: bool) -> String {
    let target = target(outcome);
    match &outcome.files[..] {
        _ if unreadable => {
            format!("No validation issues found when analyzing {target} (but something could not be read).")
        }
        [] => format!("✔ No validation issues found when analyzing {target}."),
        [file] => format!("✔ No validation issues found when analyzing {file}."),
        files => format!(
            "✔ No validation issues found when analyzing:\n  - {}",
            files.join("\n  - ")
        ),
    }
}

/// All analyzers, by name.
fn listed() -> String {
    let mut all: Vec<&Analyzer> = analyzers::ALL.iter().collect();
    all.sort_by_key(|analyzer| analyzer.name);
    let lines = all
        .iter()
        .map(|analyzer| format!("* {}:\n    {}\n", analyzer.name, analyzer.description));
    lines.collect()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Arguments {
        #[command(flatten)]
        analyze: Analyze,
    }

    const ROUTE: &str = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: v, namespace: shop}
spec:
  hosts: [a.example]
  gateways: [gone]
  http: [{route: [{destination: {host: gone}}]}]
";
    const SERVICE: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: s, namespace: shop}\nspec: {ports: [{port: 80, name: http}]}\n";

    /// What is said of files in a folder: level, code and line.
    #[track_caller]
    fn check(arguments: &[&str], files: &[(&str, &str)], expect: &[&str]) {
        let unique = format!("corten-analyze-{}-{:p}", std::process::id(), expect);
        let folder = std::env::temp_dir().join(unique);
        for (name, text) in files {
            let path = folder.join(name);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            std::fs::write(path, text).expect("written");
        }
        let named = folder.display().to_string();
        let all = ["analyze", "-f", &named].into_iter().chain(arguments.iter().copied());
        let analyze = Arguments::try_parse_from(all).expect("good arguments").analyze;
        let outcome = analyze.of_files().expect("readable files");
        let said: Vec<String> = outcome
            .messages
            .iter()
            .map(|message| {
                let line = message.location.as_ref().map_or(0, |location| location.position.line);
                format!("{:?} {} {line}", message.level, message.code)
            })
            .collect();
        std::fs::remove_dir_all(&folder).expect("removed");
        assert_eq!(said, expect);
    }

    #[test]
    fn what_only_a_cluster_knows_is_not_missing_in_files() {
        let files = [("a/route.yaml", ROUTE)];
        check(&[], &files, &["Error IST0101 7", "Warning IST0132 7"]);
        // With services among the files, hosts can be judged.
        let files = [
            ("a/route.yaml", ROUTE),
            ("b/service.yml", SERVICE),
            ("notes.txt", "nothing"),
        ];
        check(
            &[],
            &files,
            &["Error IST0101 7", "Error IST0101 8", "Warning IST0132 7"],
        );
        check(
            &["--analyzer", "virtualservice.DestinationHostAnalyzer"],
            &files,
            &["Error IST0101 8"],
        );
    }

    #[test]
    fn arguments_are_istioctls() {
        let parse = |words: &str| Arguments::try_parse_from(std::iter::once("analyze").chain(words.split(' ')));
        let analyze =
            parse("-A --use-kube=false --failure-threshold WARNING -S IST0101=Pod* -o json --color=false a.yaml b/");
        let analyze = analyze.expect("good arguments").analyze;
        assert_eq!(
            (analyze.use_kube, analyze.color, analyze.files.len()),
            (Some(false), Some(false), 2)
        );
        assert_eq!(analyze.failure_threshold, Some(Level::Warning));
        assert_eq!(parse("-k a.yaml").expect("good arguments").analyze.use_kube, Some(true));
        for bad in ["-S IST0101", "-o xml", "--failure-threshold none"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn analyzers_are_listed_by_name() {
        let text = listed();
        assert!(text.starts_with("* annotations.AlphaAnalyzer:\n    Checks "), "{text}");
        assert_eq!(text.lines().count(), 2 * analyzers::ALL.len());
    }
}
