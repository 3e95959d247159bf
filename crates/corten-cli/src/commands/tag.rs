//! `corten tag`: further names of revisions.

use std::process::ExitCode;

use anyhow::Result;
use corten_api::yaml;
use corten_install::tags::{self, Tag as Named};
use serde_json::{Value, json};

use crate::installation::{Target, confirm};
use crate::output;
use crate::show::table;

/// What there is.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Tag {
    /// Let a tag stand for a revision; `default` is who checks objects that name no revision
    #[command(visible_alias = "create")]
    Set(Set),
    /// Print the objects of a tag, for `kubectl apply --server-side -f -`
    Generate(Set),
    /// Show the tags
    #[command(visible_alias = "show")]
    List(List),
    /// Take a tag away
    #[command(visible_alias = "delete")]
    Remove(Remove),
}

/// Which control planes are meant.
#[derive(Debug, clap::Args)]
pub(crate) struct Place {
    #[command(flatten)]
    target: Target,
    /// The control plane's namespace
    #[arg(
        short = 'i',
        long = "istioNamespace",
        value_name = "NAMESPACE",
        default_value = "istio-system"
    )]
    istio_namespace: String,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Set {
    #[command(flatten)]
    place: Place,
    /// The tag
    #[arg(value_name = "TAG")]
    tag: String,
    /// What it stands for
    #[arg(short, long, value_name = "NAME")]
    revision: String,
    /// Take it from another revision
    #[arg(long)]
    overwrite: bool,
    /// Do not ask; nothing is asked here
    #[arg(short = 'y', long, hide = true)]
    skip_confirmation: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct List {
    #[command(flatten)]
    place: Place,
    /// The form
    #[arg(short, long, value_enum, default_value = "table")]
    output: Form,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Remove {
    #[command(flatten)]
    place: Place,
    /// The tag
    #[arg(value_name = "TAG")]
    tag: String,
    /// Do not ask
    #[arg(short = 'y', long)]
    skip_confirmation: bool,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Form {
    Table,
    Json,
    Yaml,
}

impl Tag {
    pub(crate) fn run(self) -> Result<ExitCode> {
        match self {
            Self::Set(set) => set.run(),
            Self::Generate(set) => set.generate(),
            Self::List(list) => list.run(),
            Self::Remove(remove) => remove.run(),
        }
    }
}

impl Set {
    fn run(self) -> Result<ExitCode> {
        let Self { tag, revision, .. } = &self;
        self.place.target.run(async |cluster| {
            let place = cluster.place(false);
            tags::set(&place, &self.place.istio_namespace, tag, revision, self.overwrite).await?;
            output::line(match tag.as_str() {
                tags::DEFAULT => format!("objects that name no revision are revision {revision}'s"),
                tag => format!(
                    "the tag {tag} stands for revision {revision}; namespaces and gateways choose it by the label istio.io/rev={tag}"
                ),
            })?;
            Ok(ExitCode::SUCCESS)
        })
    }

    fn generate(self) -> Result<ExitCode> {
        self.place.target.run(async |cluster| {
            let place = cluster.place(false);
            let objects = tags::generate(&place, &self.place.istio_namespace, &self.tag, &self.revision).await?;
            let documents: Vec<String> = objects.iter().map(yaml::document).collect();
            output::text(documents.join("---\n"))?;
            Ok(ExitCode::SUCCESS)
        })
    }
}

impl List {
    fn run(self) -> Result<ExitCode> {
        self.place.target.run(async |cluster| {
            let tags = tags::list(&cluster.place(false), &self.place.istio_namespace).await?;
            let json = |tag: &Named| json!({"tag": tag.tag, "revision": tag.revision, "namespaces": tag.namespaces});
            let all = || Value::from(tags.iter().map(json).collect::<Vec<_>>());
            match self.output {
                Form::Json => output::line(serde_json::to_string_pretty(&all())?)?,
                Form::Yaml => output::text(yaml::document(&all()))?,
                Form::Table if tags.is_empty() => output::line("there are no tags")?,
                Form::Table => {
                    let mut rows = vec![["TAG", "REVISION", "NAMESPACES"].map(str::to_owned).to_vec()];
                    let row = |tag: Named| vec![tag.tag, tag.revision, tag.namespaces.join(",")];
                    rows.extend(tags.into_iter().map(row));
                    output::text(table::lines(&rows))?;
                }
            }
            Ok(ExitCode::SUCCESS)
        })
    }
}

impl Remove {
    fn run(self) -> Result<ExitCode> {
        self.place.target.run(async |cluster| {
            let (place, namespace) = (cluster.place(false), &self.place.istio_namespace);
            let tags = tags::list(&place, namespace).await?;
            let known = tags.iter().find(|known| known.tag == self.tag);
            if let Some(known) = known.filter(|known| !known.namespaces.is_empty()) {
                let chosen = known.namespaces.join(", ");
                let question = format!("Namespaces choose the tag {} still: {chosen}. Proceed?", self.tag);
                if !confirm(&question, self.skip_confirmation)? {
                    output::line("nothing was changed")?;
                    return Ok(ExitCode::FAILURE);
                }
            }
            tags::remove(&place, namespace, &self.tag).await?;
            output::line(format!("the tag {} was removed", self.tag))?;
            Ok(ExitCode::SUCCESS)
        })
    }
}
