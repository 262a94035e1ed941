use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;

use super::*;

fn key(name: &str) -> Key {
    Key {
        resource: "pods".into(),
        namespace: "default".into(),
        name: name.into(),
    }
}

fn object(name: &str, data: u32) -> Value {
    json!({"metadata": {"name": name, "namespace": "default"}, "data": data})
}

#[tokio::test]
async fn survives_a_restart() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("state.redb");
    let store = Store::open(&path).expect("opens");
    let made = store
        .put(key("a"), object("a", 1), Expect::Absent)
        .await
        .expect("written");
    let revision = made.revision;
    assert_eq!(
        made.value["metadata"]["resourceVersion"],
        revision.to_string()
    );
    drop(store);
    // The writer thread closes the file on its own time.
    let store = loop {
        match Store::open(&path) {
            Ok(store) => break store,
            Err(_) => tokio::task::yield_now().await,
        }
    };
    assert_eq!(store.revision(), revision);
    assert_eq!(store.get(&key("a")).expect("still there").value["data"], 1);
    assert!(matches!(
        store.events_after("pods", revision - 1),
        Err(StoreError::Gone { .. })
    ));
    assert!(
        store
            .events_after("pods", revision)
            .expect("reachable")
            .0
            .is_empty()
    );
}

#[tokio::test]
async fn checks_expectations() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let store = Store::open(&dir.path().join("s")).expect("opens");
    let one = store
        .put(key("a"), object("a", 1), Expect::Absent)
        .await
        .expect("written");
    assert!(matches!(
        store.put(key("a"), object("a", 2), Expect::Absent).await,
        Err(StoreError::Exists)
    ));
    let two = store
        .put(key("a"), object("a", 2), Expect::Revision(one.revision))
        .await
        .expect("written");
    let stale = store
        .put(key("a"), object("a", 3), Expect::Revision(one.revision))
        .await;
    assert!(matches!(stale, Err(StoreError::Conflict)));
    assert!(matches!(
        store.delete(key("a"), Some(one.revision)).await,
        Err(StoreError::Conflict)
    ));
    let gone = store
        .delete(key("a"), Some(two.revision))
        .await
        .expect("deleted");
    assert!(gone.revision > two.revision);
    assert!(matches!(
        store.delete(key("a"), None).await,
        Err(StoreError::NotFound)
    ));
}

#[tokio::test]
async fn log_is_bounded_and_wakes() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let store = Store::open_with(disk::file_opener(dir.path().join("s")), 4).expect("opens");
    let mut changes = store.changes("pods");
    let start = store.revision();
    for n in 0..6 {
        store
            .put(key(&format!("p{n}")), object("p", n), Expect::Absent)
            .await
            .expect("written");
    }
    assert!(changes.has_changed().expect("store lives"));
    changes.borrow_and_update();
    assert!(matches!(
        store.events_after("pods", start),
        Err(StoreError::Gone { .. })
    ));
    let (events, upto) = store.events_after("pods", start + 2).expect("kept");
    assert_eq!(events.len(), 4);
    assert_eq!(upto, start + 6);
}

/// A file that answers "no space" on demand.
#[derive(Debug)]
struct Flaky {
    inner: redb::backends::FileBackend,
    full: Arc<AtomicBool>,
}

impl Flaky {
    fn check(&self) -> std::io::Result<()> {
        if self.full.load(Ordering::SeqCst) {
            return Err(std::io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }
}

impl redb::StorageBackend for Flaky {
    fn len(&self) -> std::io::Result<u64> {
        self.inner.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> std::io::Result<()> {
        self.inner.read(offset, out)
    }
    fn set_len(&self, len: u64) -> std::io::Result<()> {
        self.check()?;
        self.inner.set_len(len)
    }
    fn sync_data(&self) -> std::io::Result<()> {
        self.inner.sync_data()
    }
    fn write(&self, offset: u64, data: &[u8]) -> std::io::Result<()> {
        self.check()?;
        self.inner.write(offset, data)
    }
}

#[tokio::test]
async fn a_full_disk_applies_nothing_and_recovers() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let full = Arc::new(AtomicBool::new(false));
    let switch = Arc::clone(&full);
    let path = dir.path().join("s");
    let opener: Opener = Box::new(move || {
        let file = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .expect("the directory is there");
        let inner = redb::backends::FileBackend::new(file).expect("a lockable file");
        redb::Builder::new().create_with_backend(Flaky {
            inner,
            full: Arc::clone(&switch),
        })
    });
    let store = Store::open_with(opener, 16).expect("opens");
    store
        .put(key("a"), object("a", 1), Expect::Absent)
        .await
        .expect("written");
    let before = store.revision();

    full.store(true, Ordering::SeqCst);
    for _ in 0..3 {
        let refused = store.put(key("b"), object("b", 1), Expect::Absent).await;
        assert!(matches!(refused, Err(StoreError::Full(_))), "{refused:?}");
    }
    assert_eq!(store.revision(), before);
    assert!(store.get(&key("b")).is_none());

    full.store(false, Ordering::SeqCst);
    store
        .put(key("b"), object("b", 2), Expect::Absent)
        .await
        .expect("recovers once there is space");
    assert_eq!(store.get(&key("a")).expect("kept").value["data"], 1);
    assert_eq!(store.get(&key("b")).expect("written").value["data"], 2);
}
