use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use redb::StorageBackend;
use serde_json::json;

use super::*;

fn create(name: &str) -> Write {
    Write {
        resource: "/configmaps".into(),
        namespace: "n".to_owned(),
        name: name.to_owned(),
        change: Change::Create(json!({"metadata": {"namespace": "n", "name": name}})),
    }
}

fn delete(name: &str, revision: u64) -> Write {
    Write {
        change: Change::Delete(revision),
        ..create(name)
    }
}

fn names(store: &Store) -> Vec<String> {
    let objects = store.list("/configmaps", None).objects;
    objects.iter().map(|o| crate::object::name(o).to_owned()).collect()
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_opening_again() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let store = Store::open(dir.path()).expect("opens");
    let a = store.write(create("a")).await.expect("written");
    store.write(create("b")).await.expect("written");
    let gone = store
        .write(delete("a", crate::object::revision(&a)))
        .await
        .expect("deleted");
    let revision = store.revision();
    assert_eq!(crate::object::revision(&gone), revision);
    drop(store);
    let store = Store::open(dir.path()).expect("opens again");
    assert_eq!(names(&store), ["b"]);
    assert_eq!(store.revision(), revision);
    // A watcher that had seen everything goes on without listing; one from before must list.
    assert!(store.shard("/configmaps").cursor(revision).is_ok());
    assert!(store.shard("/configmaps").cursor(revision - 1).is_err());
}

#[tokio::test]
async fn writes_are_checked_against_the_present_object() {
    let store = Store::in_memory().expect("opens");
    let a = store.write(create("a")).await.expect("written");
    assert_eq!(store.write(create("a")).await, Err(WriteError::Exists));
    assert_eq!(store.write(delete("b", 1)).await, Err(WriteError::Absent));
    let stale = crate::object::revision(&a) - 1;
    assert_eq!(store.write(delete("a", stale)).await, Err(WriteError::Stale));
}

#[tokio::test]
async fn a_list_of_the_past_is_undone_from_the_history() {
    let store = Store::in_memory().expect("opens");
    let a = store.write(create("a")).await.expect("written");
    store.write(create("b")).await.expect("written");
    let then = store.revision();
    store
        .write(delete("a", crate::object::revision(&a)))
        .await
        .expect("deleted");
    store.write(create("c")).await.expect("written");
    let shard = store.shard("/configmaps");
    let past = shard.list_at(Some("n"), then).expect("still in the history");
    let found: Vec<&str> = past.objects.iter().map(|o| crate::object::name(o)).collect();
    assert_eq!(found, ["a", "b"]);
    shard.compact(0);
    assert!(shard.list_at(Some("n"), then).is_err());
}

/// Memory that a switch fills up.
#[derive(Debug)]
struct Fallible {
    memory: Arc<redb::backends::InMemoryBackend>,
    full: Arc<AtomicBool>,
}

impl StorageBackend for Fallible {
    fn len(&self) -> Result<u64, std::io::Error> {
        self.memory.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), std::io::Error> {
        self.memory.read(offset, out)
    }
    fn set_len(&self, len: u64) -> Result<(), std::io::Error> {
        self.check()?;
        self.memory.set_len(len)
    }
    fn sync_data(&self) -> Result<(), std::io::Error> {
        self.check()
    }
    fn write(&self, offset: u64, data: &[u8]) -> Result<(), std::io::Error> {
        self.check()?;
        self.memory.write(offset, data)
    }
}

impl Fallible {
    fn check(&self) -> Result<(), std::io::Error> {
        if self.full.load(Ordering::SeqCst) {
            return Err(std::io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }
}

#[tokio::test]
async fn a_full_disk_refuses_writes_and_nothing_else() {
    let (memory, full) = (
        Arc::new(redb::backends::InMemoryBackend::new()),
        Arc::new(AtomicBool::new(false)),
    );
    let made = {
        let (memory, full) = (memory.clone(), full.clone());
        Medium::Made(Box::new(move || {
            let backend = Fallible {
                memory: memory.clone(),
                full: full.clone(),
            };
            redb::Database::builder().create_with_backend(backend)
        }))
    };
    let store = Store::on(made).expect("opens");
    store.write(create("a")).await.expect("written");
    full.store(true, Ordering::SeqCst);
    for _ in 0..2 {
        assert!(matches!(store.write(create("b")).await, Err(WriteError::Disk(_))));
    }
    assert_eq!(names(&store), ["a"]);
    full.store(false, Ordering::SeqCst);
    store.write(create("b")).await.expect("there is room again");
    assert_eq!(names(&store), ["a", "b"]);
}
