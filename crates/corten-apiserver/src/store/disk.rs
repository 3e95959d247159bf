//! The database file: objects as JSON under `resource NUL key`, the revision counter, the newest revision of each resource.
//!
//! Knows redb; does not know what a conflict is. After a failed commit the database is closed and opened again for the next one, since redb
//! refuses to go on after an I/O error; so a full disk hurts only the writes that meet it.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

use redb::{Database, Durability, ReadableDatabase, ReadableTable, TableDefinition};
use serde_json::Value;

use crate::object::Object;

const OBJECTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("objects");
const REVISIONS: TableDefinition<'_, &str, u64> = TableDefinition::new("revisions");

/// redb's page cache. Reads are served from our own memory; only the inner pages of the tree are worth keeping.
const CACHE_BYTES: usize = 1 << 20;

/// Where the database is.
pub(crate) enum Medium {
    /// A file.
    File(PathBuf),
    /// Memory, gone with the store.
    Memory,
    /// A backend made anew whenever the database is opened; for tests that let the disk fail.
    #[cfg(test)]
    Made(Box<dyn Fn() -> Result<Database, redb::DatabaseError> + Send>),
}

/// The database failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DiskError {
    #[error("{0}")]
    Database(#[from] Box<redb::Error>),
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("the object stored under {key:?} is not JSON: {source}")]
    Json { key: String, source: serde_json::Error },
}

macro_rules! from_redb {
    ($($error:ty),*) => {
        $(impl From<$error> for DiskError {
            fn from(error: $error) -> Self {
                Self::Database(Box::new(error.into()))
            }
        })*
    };
}

from_redb!(
    redb::DatabaseError,
    redb::TransactionError,
    redb::TableError,
    redb::StorageError,
    redb::CommitError
);

/// What a database held when it was opened.
#[derive(Default)]
pub(crate) struct Loaded {
    pub(crate) revision: u64,
    pub(crate) resources: HashMap<String, Contents>,
}

/// One resource's part of [`Loaded`].
#[derive(Default)]
pub(crate) struct Contents {
    pub(crate) objects: BTreeMap<String, Object>,
    pub(crate) changed: u64,
}

/// One line of a transaction.
pub(crate) struct Line<'w> {
    pub(crate) resource: &'w str,
    pub(crate) key: &'w str,
    /// The new contents, or `None` for a deletion.
    pub(crate) json: Option<&'w [u8]>,
    pub(crate) revision: u64,
}

pub(crate) struct Disk {
    medium: Medium,
    database: Option<Database>,
}

impl Disk {
    pub(crate) fn open(medium: Medium) -> Result<Self, DiskError> {
        let database = Some(open(&medium)?);
        Ok(Self { medium, database })
    }

    /// Everything that is stored.
    pub(crate) fn load(&mut self) -> Result<Loaded, DiskError> {
        let mut loaded = Loaded::default();
        let transaction = self.database()?.begin_read()?;
        for row in transaction.open_table(REVISIONS)?.iter()? {
            let (resource, revision) = row?;
            let revision = revision.value();
            loaded.revision = loaded.revision.max(revision);
            if !resource.value().is_empty() {
                loaded.resources.entry(resource.value().to_owned()).or_default().changed = revision;
            }
        }
        for row in transaction.open_table(OBJECTS)?.iter()? {
            let (path, json) = row?;
            let (resource, key) = path.value().split_once('\0').unwrap_or_else(|| ("", path.value()));
            let value: Value = serde_json::from_slice(json.value()).map_err(|source| DiskError::Json {
                key: key.to_owned(),
                source,
            })?;
            let contents = loaded.resources.entry(resource.to_owned()).or_default();
            contents.objects.insert(key.to_owned(), Arc::new(value));
        }
        Ok(loaded)
    }

    /// Writes all lines in one transaction, durably.
    pub(crate) fn commit(&mut self, lines: &[Line<'_>]) -> Result<(), DiskError> {
        let result = self.try_commit(lines);
        if result.is_err() {
            self.database = None;
        }
        result
    }

    fn try_commit(&mut self, lines: &[Line<'_>]) -> Result<(), DiskError> {
        let mut transaction = self.database()?.begin_write()?;
        transaction
            .set_durability(Durability::Immediate)
            .map_err(|error| std::io::Error::other(error.to_string()))?;
        {
            let mut objects = transaction.open_table(OBJECTS)?;
            let mut newest: HashMap<&str, u64> = HashMap::new();
            let mut path = String::new();
            for line in lines {
                path.clear();
                path.push_str(line.resource);
                path.push('\0');
                path.push_str(line.key);
                match line.json {
                    Some(json) => objects.insert(path.as_str(), json)?,
                    None => objects.remove(path.as_str())?,
                };
                newest.insert(line.resource, line.revision);
                newest.insert("", line.revision);
            }
            let mut revisions = transaction.open_table(REVISIONS)?;
            for (resource, revision) in newest {
                revisions.insert(resource, revision)?;
            }
        }
        transaction.commit()?;
        Ok(())
    }

    fn database(&mut self) -> Result<&Database, DiskError> {
        if self.database.is_none() {
            self.database = Some(open(&self.medium)?);
        }
        Ok(self.database.as_ref().expect("it was just opened"))
    }
}

fn open(medium: &Medium) -> Result<Database, DiskError> {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES);
    let database = match medium {
        Medium::File(path) => {
            if let Some(dir) = path.parent() {
                std::fs::create_dir_all(dir)?;
            }
            builder.create(path)?
        }
        Medium::Memory => builder.create_with_backend(redb::backends::InMemoryBackend::new())?,
        #[cfg(test)]
        Medium::Made(make) => make()?,
    };
    // Both tables exist from the start, so that reading an empty database is not an error.
    let transaction = database.begin_write()?;
    transaction.open_table(OBJECTS)?;
    transaction.open_table(REVISIONS)?;
    transaction.commit()?;
    Ok(database)
}
