//! Revision tags: further names of a revision, by which namespaces and gateways choose it, so that they need no other label when the
//! next revision takes over. `default` is the revision that checks objects, and gives pods their proxies, which name none.
//!
//! A tag is a value of the revision's installation (`values.revisionTags`), and what is remembered of that is kept true.

use serde_json::{Value, json};

use crate::beside::{self, DEFAULT_VALIDATOR};
use crate::charts::Component;
use crate::cluster::{Cluster, ClusterError, title};
use crate::found;
use crate::operator::{self, Request, RequestError};
use crate::record::{self, Record, shown};
use crate::render::{self, RenderError, Rendered};
use crate::values::known;

/// The tag of the revision that checks objects which name none.
pub const DEFAULT: &str = "default";

/// A tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tag {
    /// Its name.
    pub tag: String,
    /// What it stands for.
    pub revision: String,
    /// Namespaces that choose it.
    pub namespaces: Vec<String>,
}

/// A tag cannot be set or removed.
#[derive(Debug, thiserror::Error)]
pub enum TagError {
    /// The cluster.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// No such control plane.
    #[error("there is no control plane of revision {revision:?} in namespace {namespace}{hint}; there {there}")]
    Revision {
        /// The name.
        revision: String,
        /// Where it was looked for.
        namespace: String,
        /// The nearest name.
        hint: String,
        /// Those that are there.
        there: String,
    },
    /// Both a tag and a revision.
    #[error("{0:?} is the name of a revision; a tag needs another one")]
    Taken(String),
    /// It stands for another revision.
    #[error("the tag {tag:?} stands for revision {revision}; --overwrite lets it stand for another")]
    Exists {
        /// Its name.
        tag: String,
        /// For what it stands.
        revision: String,
    },
    /// No such tag.
    #[error("there is no tag {tag:?}{hint}; `corten tag list` shows them")]
    Unknown {
        /// The name.
        tag: String,
        /// The nearest name.
        hint: String,
    },
    /// Somebody has to check what names no revision.
    #[error(
        "objects that name no revision have to be checked by some revision; `corten tag set default --revision NAME` chooses another"
    )]
    Default,
    /// What is remembered of the installation is not understood.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// Nor can it be rendered.
    #[error(transparent)]
    Render(#[from] RenderError),
}

/// The tags of a control plane's namespace, by revision and name.
pub async fn list(cluster: &Cluster, namespace: &str) -> Result<Vec<Tag>, ClusterError> {
    let spaces = cluster.list("Namespace", None, "istio.io/rev").await?;
    let services = cluster.list("Service", Some(namespace), "istio.io/tag").await?;
    let validator = cluster.live(&validator(DEFAULT_VALIDATOR)).await?;
    // A tag that somebody else's command made has no Service.
    let mut tagged = cluster.list(INJECTOR, None, "istio.io/tag").await?;
    tagged.retain(|webhook| webhook["webhooks"][0]["clientConfig"]["service"]["namespace"] == namespace);
    let label = |object: &Value, key: &str| object["metadata"]["labels"][key].as_str().map(str::to_owned);
    let mut pairs: Vec<(String, String)> = services
        .iter()
        .chain(&tagged)
        .filter_map(|service| Some((label(service, "istio.io/rev")?, label(service, "istio.io/tag")?)))
        .collect();
    pairs.extend(
        validator
            .and_then(|validator| label(&validator, "istio.io/rev"))
            .map(|revision| (revision, DEFAULT.to_owned())),
    );
    pairs.sort();
    pairs.dedup();
    let tag = |(revision, tag): (String, String)| {
        let chooses = |space: &&Value| label(space, "istio.io/rev").as_deref() == Some(tag.as_str());
        let names = spaces.iter().filter(chooses);
        let namespaces = names.filter_map(|space| space["metadata"]["name"].as_str().map(str::to_owned));
        Tag {
            namespaces: namespaces.collect(),
            tag,
            revision,
        }
    };
    Ok(pairs.into_iter().map(tag).collect())
}

/// By which pods get their proxies.
const INJECTOR: &str = "MutatingWebhookConfiguration";

fn validator(name: &str) -> Value {
    json!({"kind": "ValidatingWebhookConfiguration", "metadata": {"name": name}})
}

/// The names of our control planes' revisions in a namespace.
async fn revisions(cluster: &Cluster, namespace: &str) -> Result<Vec<String>, ClusterError> {
    let found = found::look(cluster).await?;
    let ours = found.into_iter().filter(|found| {
        found.is_ours && found.component == Component::Pilot && found.object["metadata"]["namespace"] == namespace
    });
    Ok(ours.map(|found| found.revision).collect())
}

/// A revision with other tags: what is remembered of it then, and the objects that say so.
struct Retagged {
    record: Option<Record>,
    objects: Vec<Rendered>,
}

/// `tags`: all of them but the default one; `is_default`: it becomes, or stops to be, who checks what names no revision.
async fn retag(
    cluster: &Cluster,
    namespace: &str,
    revision: &str,
    tags: &[String],
    is_default: Option<bool>,
) -> Result<Retagged, TagError> {
    let mut settings = vec![format!("values.revisionTags=[{}]", tags.join(", "))];
    if let Some(is_default) = is_default {
        let name = if is_default { revision } else { "" };
        settings.push(format!("values.defaultRevision={name}"));
    }
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    let own = if revision == DEFAULT { "" } else { revision };
    let mut record = record::read(cluster, namespace, own).await?;
    let mut request = match &record {
        Some(record) => record.request.clone(),
        // Installed by other means.
        None => Request {
            sets: vec![("profile=minimal".to_owned(), false)],
            revision: (!own.is_empty()).then(|| own.to_owned()),
            namespace: Some(namespace.to_owned()),
            ..Request::default()
        },
    };
    if let Some(record) = &mut record {
        record.ask(&settings);
        request = record.request.clone();
    } else {
        request
            .sets
            .extend(settings.iter().map(|set| ((*set).to_owned(), false)));
    }
    let all = render::objects(&operator::plan(&request)?, render::Options::default())?;
    if let Some(record) = &mut record {
        record.objects = all.iter().map(|rendered| record::short(&rendered.object)).collect();
    }
    let objects = all.into_iter().filter(|rendered| {
        let object = &rendered.object;
        let is_validator = object["kind"] == "ValidatingWebhookConfiguration"
            && (object["metadata"]["name"] != DEFAULT_VALIDATOR || is_default == Some(true));
        is_validator || object["kind"] == INJECTOR || object["metadata"]["labels"]["istio.io/tag"].is_string()
    });
    Ok(Retagged {
        record,
        objects: objects.collect(),
    })
}

fn of<'a>(tags: &'a [Tag], revision: &'a str) -> impl Iterator<Item = String> + 'a {
    tags.iter()
        .filter(move |tag| tag.revision == revision && tag.tag != DEFAULT)
        .map(|tag| tag.tag.clone())
}

/// The objects that let a tag stand for a revision, for `kubectl apply`.
pub async fn generate(cluster: &Cluster, namespace: &str, tag: &str, revision: &str) -> Result<Vec<Value>, TagError> {
    let there = list(cluster, namespace).await?;
    let mut tags: Vec<String> = of(&there, revision).collect();
    if tag != DEFAULT && !tags.iter().any(|known| known == tag) {
        tags.push(tag.to_owned());
    }
    let is_default = (tag == DEFAULT).then_some(true);
    let retagged = retag(cluster, namespace, revision, &tags, is_default).await?;
    let wanted = |object: &Value| {
        let label = object["metadata"]["labels"]["istio.io/tag"].as_str();
        // The revision's own webhook is as it was.
        label.map_or(object["kind"] != INJECTOR || tag == DEFAULT, |label| label == tag)
    };
    let objects = retagged.objects.into_iter().map(|rendered| rendered.object);
    Ok(objects.filter(wanted).collect())
}

/// Lets a tag stand for a revision; `overwrite` takes it from another.
pub async fn set(
    cluster: &Cluster,
    namespace: &str,
    tag: &str,
    revision: &str,
    overwrite: bool,
) -> Result<(), TagError> {
    let revisions = revisions(cluster, namespace).await?;
    if !revisions.iter().any(|known| known == revision) {
        let there = match &revisions[..] {
            [] => "is none of Corten's".to_owned(),
            names => format!("are {}", names.join(", ")),
        };
        return Err(TagError::Revision {
            revision: revision.to_owned(),
            namespace: namespace.to_owned(),
            hint: known::hint(revision, revisions.iter().map(String::as_str)),
            there,
        });
    }
    if tag != DEFAULT && revisions.iter().any(|known| known == tag) {
        return Err(TagError::Taken(tag.to_owned()));
    }
    let there = list(cluster, namespace).await?;
    let before = there
        .iter()
        .find(|known| known.tag == tag && known.revision != revision);
    // That the default revision checks what names none is no tag that somebody set.
    if let Some(before) = before.filter(|before| !overwrite && (tag, before.revision.as_str()) != (DEFAULT, DEFAULT)) {
        return Err(TagError::Exists {
            tag: tag.to_owned(),
            revision: before.revision.clone(),
        });
    }
    let mut tags: Vec<String> = of(&there, revision).collect();
    if tag != DEFAULT && !tags.iter().any(|known| known == tag) {
        tags.push(tag.to_owned());
    }
    let is_default = (tag == DEFAULT).then_some(true);
    let retagged = retag(cluster, namespace, revision, &tags, is_default).await?;
    write(cluster, namespace, &retagged).await?;
    if tag == DEFAULT {
        let own = if revision == DEFAULT { "" } else { revision };
        let mut stepped_back = beside::take_over(cluster, namespace, own, &retagged.objects).await?;
        // One that was installed by other means remembers nothing.
        let known = before.filter(|before| revisions.contains(&before.revision));
        stepped_back.extend(known.map(|before| before.revision.clone()));
        stepped_back.dedup();
        settle(cluster, namespace, &stepped_back, revision).await?;
    } else if let Some(before) = before.filter(|before| revisions.contains(&before.revision)) {
        let left: Vec<String> = of(&there, &before.revision).filter(|known| known != tag).collect();
        let without = retag(cluster, namespace, &before.revision, &left, None).await?;
        write(cluster, namespace, &without).await?;
    }
    Ok(())
}

/// Makes revisions step back that were the default one until `revision` became it: pods that name none are no longer theirs.
///
/// For a moment both give such pods proxies, and the later one's counts; the other way round pods would start without.
pub async fn settle(
    cluster: &Cluster,
    namespace: &str,
    stepped_back: &[String],
    revision: &str,
) -> Result<(), TagError> {
    if stepped_back.is_empty() {
        return Ok(());
    }
    let there = list(cluster, namespace).await?;
    for other in stepped_back {
        let tags: Vec<String> = of(&there, other).collect();
        let without = retag(cluster, namespace, other, &tags, Some(false)).await?;
        write(cluster, namespace, &without).await?;
    }
    for webhook in cluster.list(INJECTOR, None, &format!("istio.io/tag={DEFAULT}")).await? {
        let of = &webhook["metadata"]["labels"]["istio.io/rev"];
        if stepped_back.iter().any(|other| of == other.as_str()) && of != revision {
            cluster.delete(&webhook, None).await?;
        }
    }
    Ok(())
}

/// Takes a tag away.
pub async fn remove(cluster: &Cluster, namespace: &str, tag: &str) -> Result<(), TagError> {
    let there = list(cluster, namespace).await?;
    let Some(known) = there.iter().find(|known| known.tag == tag) else {
        return Err(TagError::Unknown {
            tag: tag.to_owned(),
            hint: known::hint(tag, there.iter().map(|known| known.tag.as_str())),
        });
    };
    let revisions = revisions(cluster, namespace).await?;
    if tag == DEFAULT {
        // The revision of that name has it without anybody's saying so.
        if known.revision == DEFAULT || !revisions.iter().any(|revision| revision == DEFAULT) {
            return Err(TagError::Default);
        }
        return set(cluster, namespace, tag, DEFAULT, true).await;
    }
    let left: Vec<String> = of(&there, &known.revision).filter(|other| other != tag).collect();
    if revisions.contains(&known.revision) {
        let without = retag(cluster, namespace, &known.revision, &left, None).await?;
        write(cluster, namespace, &without).await?;
    }
    let labels = format!("istio.io/tag={tag}");
    let mut objects = cluster.list("Service", Some(namespace), &labels).await?;
    objects.extend(cluster.list(INJECTOR, None, &labels).await?);
    for object in objects {
        cluster.delete(&object, None).await?;
    }
    Ok(())
}

async fn write(cluster: &Cluster, namespace: &str, retagged: &Retagged) -> Result<(), ClusterError> {
    if let Some(record) = &retagged.record {
        cluster.apply(&record.map(namespace)).await?;
    }
    for rendered in &retagged.objects {
        cluster.apply(&rendered.object).await?;
    }
    Ok(())
}

/// Gives what names no revision to one of those that stay, when the one that checks it goes; its name.
pub async fn inherit(
    cluster: &Cluster,
    namespace: &str,
    going: &[Value],
    others: &[Record],
) -> Result<Option<String>, TagError> {
    let wanted = title(&validator(DEFAULT_VALIDATOR));
    let (true, Some(heir)) = (going.iter().any(|object| title(object) == wanted), others.first()) else {
        return Ok(None);
    };
    let name = shown(&heir.revision).to_owned();
    set(cluster, namespace, DEFAULT, &name, true).await?;
    Ok(Some(name))
}
