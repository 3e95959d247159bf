//! `corten apply`.

mod owned;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use corten_api::decode;
use corten_api::diagnostic::{Diagnostic, ObjectRef, Severity};
use serde_json::Value;

use crate::cluster::{Cluster, Connection, Refusal, Resource, Resources, query};
use crate::output;

/// How long a kind that was just defined may take to be served.
const DEFINED_WITHIN: Duration = Duration::from_secs(10);

/// Make objects as files say they should be
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Objects are applied by the server: fields that a file names belong to it, those it no longer names are removed.
An object that is wrong is reported with its place in the file; the others are applied all the same."
)]
pub(crate) struct Apply {
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    files: Files,
    /// Take over fields that somebody else manages
    #[arg(long)]
    force_conflicts: bool,
    /// The name under which the fields are managed
    #[arg(long, value_name = "NAME", default_value = "corten")]
    field_manager: String,
    /// Say what would happen, and let nothing happen: `server` asks the server
    #[arg(long, value_enum, default_value = "none", num_args = 0..=1, default_missing_value = "server")]
    dry_run: DryRun,
    /// Accepted for kubectl's sake: objects are always applied by the server
    #[arg(long, hide = true)]
    server_side: bool,
}

/// Where objects are read from.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Files {
    /// A file, a directory, or - for standard input; can be given several times
    #[arg(short, long, required = true, value_name = "FILE")]
    filename: Vec<PathBuf>,
    /// Directories with everything below them
    #[arg(short = 'R', long)]
    recursive: bool,
    /// With `false`, objects of the mesh are not judged here, where line and column are known, but by the server alone
    #[arg(long, value_name = "BOOL", default_value_t = true, num_args = 0..=1, default_missing_value = "true", action = clap::ArgAction::Set)]
    validate: bool,
}

/// Whether anything is to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum DryRun {
    None,
    Client,
    Server,
}

/// What could be read, and whether anything could not.
pub(crate) struct Read {
    pub(crate) objects: Vec<Value>,
    pub(crate) failed: bool,
}

impl Files {
    /// These files, without what lies below directories.
    pub(crate) fn of(filename: Vec<PathBuf>) -> Self {
        Self {
            filename,
            recursive: false,
            validate: true,
        }
    }

    /// These files, and what lies below directories if asked for. The mesh's objects are not judged beyond what decoding them says.
    pub(crate) fn of_all(filename: Vec<PathBuf>, recursive: bool) -> Self {
        Self {
            filename,
            recursive,
            validate: true,
        }
    }

    /// Reads all objects; problems are printed with their place.
    pub(crate) fn read(&self) -> Result<Read> {
        let mut read = Read {
            objects: Vec::new(),
            failed: false,
        };
        let mut any = false;
        for path in &self.filename {
            if path.as_os_str() == "-" {
                let text = std::io::read_to_string(std::io::stdin()).context("reading standard input")?;
                read.add("standard input", &text, self.validate);
                any = true;
                continue;
            }
            for file in self.files(path)? {
                let text = std::fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
                read.add(&file.display().to_string(), &text, self.validate);
                any = true;
            }
        }
        if !any {
            bail!("there is no YAML or JSON file in what -f names");
        }
        Ok(read)
    }

    fn files(&self, path: &Path) -> Result<Vec<PathBuf>> {
        let metadata = std::fs::metadata(path).with_context(|| format!("reading {}", path.display()))?;
        if !metadata.is_dir() {
            return Ok(vec![path.to_owned()]);
        }
        let mut found = Vec::new();
        let mut entries: Vec<PathBuf> = std::fs::read_dir(path)?
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<std::io::Result<_>>()?;
        entries.sort();
        for entry in entries {
            if entry.is_dir() {
                if self.recursive {
                    found.extend(self.files(&entry)?);
                }
            } else if entry
                .extension()
                .is_some_and(|extension| ["yaml", "yml", "json"].iter().any(|known| extension == *known))
            {
                found.push(entry);
            }
        }
        Ok(found)
    }
}

impl Read {
    /// Adds the objects of a text. What is wrong with one is printed, and one with an error is left out.
    fn add(&mut self, name: &str, text: &str, validate: bool) {
        let (objects, mut problems) = decode::objects(name, text);
        // The mesh's own kinds are judged here, where line and column are known; all others are the server's business.
        let judged = |object: &&decode::SpannedObject| validate && is_of_the_mesh(object.reference.group());
        for object in objects.iter().filter(judged) {
            problems.extend(corten_api::validate::object(object));
        }
        let is_error = |problem: &&Diagnostic| problem.severity == Severity::Error;
        for problem in &problems {
            eprintln!("{problem}");
        }
        self.failed |= problems.iter().any(|problem| is_error(&problem));
        let wrong: Vec<&ObjectRef> = problems
            .iter()
            .filter(is_error)
            .filter_map(|problem| problem.object.as_ref())
            .collect();
        let right = objects.iter().filter(|object| !wrong.contains(&&object.reference));
        self.objects.extend(right.map(decode::SpannedObject::to_value));
    }
}

/// Whether a group's kinds are Istio's or the Gateway API's.
fn is_of_the_mesh(group: &str) -> bool {
    group.ends_with(".istio.io") || group == "gateway.networking.k8s.io"
}

impl Apply {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let read = self.files.read()?;
        let mut failed = read.failed;
        ensure!(
            failed || !read.objects.is_empty(),
            "there are no objects in what -f names"
        );
        self.connection.clone().run(async |cluster| {
            let mut resources = Resources::of(&cluster).await?;
            for object in &read.objects {
                match self.apply(&cluster, &mut resources, object).await {
                    Ok(line) => output::line(line)?,
                    Err(error) => {
                        let (kind, name) = (text(&object["kind"]), text(&object["metadata"]["name"]));
                        eprintln!("error: {kind} {name:?}: {error:#}");
                        failed = true;
                    }
                }
            }
            Ok(())
        })?;
        Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }

    /// Applies one object; says what became of it.
    async fn apply(&self, cluster: &Cluster, resources: &mut Resources, object: &Value) -> Result<String> {
        let resource = resource_of(cluster, resources, object).await?;
        let name = object["metadata"]["name"]
            .as_str()
            .context("metadata.name is missing")?;
        let namespace = object["metadata"]["namespace"].as_str().unwrap_or(&cluster.namespace);
        let path = resource.path(Some(namespace), Some(name));
        let title = format!("{}/{name}", resource.qualified());
        if self.dry_run == DryRun::Client {
            return Ok(format!("{title} configured (dry run)"));
        }
        let before = match cluster.get(&path).await {
            Ok(before) => Some(before),
            Err(refusal) if refusal.is_not_found() => None,
            Err(refusal) => return Err(refusal.into()),
        };
        let dry = self.dry_run == DryRun::Server;
        let flags = query(&[
            ("fieldManager", Some(self.field_manager.clone())),
            ("force", self.force_conflicts.then(|| "true".to_owned())),
            ("fieldValidation", Some("Strict".to_owned())),
            ("dryRun", dry.then(|| "All".to_owned())),
        ]);
        let after = cluster
            .patch(&(path + &flags), "application/apply-patch+yaml", object)
            .await
            .map_err(|refusal| match refusal {
                Refusal::Status { code: 409, message, .. } => {
                    anyhow::anyhow!("{message}\nleave these fields out, or take them over with --force-conflicts")
                }
                other => other.into(),
            })?;
        let version = |object: &Value| text(&object["metadata"]["resourceVersion"]);
        let is_same =
            |before: &Value| version(before) == version(&after) || owned::is_same(&self.field_manager, before, &after);
        let did = match before {
            None => "created",
            Some(before) if is_same(&before) => "unchanged",
            Some(_) => "configured",
        };
        Ok(if dry {
            format!("{title} {did} (server dry run)")
        } else {
            format!("{title} {did}")
        })
    }
}

/// The resource of an object's kind. A kind that is not served yet may just have been defined, so the server gets a moment.
pub(crate) async fn resource_of(cluster: &Cluster, resources: &mut Resources, object: &Value) -> Result<Resource> {
    let (api_version, kind) = (text(&object["apiVersion"]), text(&object["kind"]));
    let begin = Instant::now();
    loop {
        if let Some(resource) = resources.of_kind(&api_version, &kind) {
            return Ok(resource.clone());
        }
        let group = api_version.split_once('/').map_or("", |(group, _)| group);
        let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
        let definitions = cluster.get(path).await?;
        let defined = definitions["items"].as_array().into_iter().flatten().any(|definition| {
            definition["spec"]["group"] == group && definition["spec"]["names"]["kind"] == kind.as_str()
        });
        if !defined || begin.elapsed() > DEFINED_WITHIN {
            bail!(
                "the server does not serve the kind {kind:?} of {api_version:?}; apply its CustomResourceDefinition first (`corten crds` prints Istio's and the Gateway API's)"
            );
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        *resources = Resources::of(cluster).await?;
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or("").to_owned()
}
