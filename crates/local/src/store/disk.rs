//! The redb file: objects by key, and the revision of the last commit.

use std::path::PathBuf;

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use serde_json::Value;

use super::state::State;
use super::{Key, Object, StoreError};

const OBJECTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("objects");
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const REVISION: &str = "revision";

/// How to open the database; called again after the disk has failed.
pub type Opener = Box<dyn Fn() -> Result<Database, redb::DatabaseError> + Send>;

/// Opens a file in the ordinary way.
pub(super) fn file_opener(path: PathBuf) -> Opener {
    Box::new(move || Database::create(&path))
}

/// One change to write.
pub(super) struct Row<'a> {
    pub(super) key: &'a Key,
    /// `None` removes the row.
    pub(super) value: Option<&'a Value>,
}

/// The file, reopened after a failure since redb refuses to go on after one.
pub(super) struct Disk {
    /// Where the file is, for messages.
    place: String,
    opener: Opener,
    database: Option<Database>,
}

fn storage(error: impl std::fmt::Display) -> StoreError {
    StoreError::Storage(error.to_string())
}

/// A full disk is told apart, since its owner can do something about it.
fn failure(error: impl Into<redb::Error>, place: &str) -> StoreError {
    match error.into() {
        redb::Error::Io(io) if is_full(&io) => StoreError::Full(place.to_owned()),
        other => storage(other),
    }
}

fn is_full(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded)
}

fn row_name(key: &Key) -> String {
    format!("{}\0{}\0{}", key.resource, key.namespace, key.name)
}

fn parse_row_name(name: &str) -> Option<Key> {
    let mut parts = name.split('\0');
    let key = Key {
        resource: parts.next()?.into(),
        namespace: parts.next()?.to_owned(),
        name: parts.next()?.to_owned(),
    };
    parts.next().is_none().then_some(key)
}

impl Disk {
    pub(super) fn open(place: String, opener: Opener) -> Result<Self, StoreError> {
        let database = opener().map_err(|error| failure(error, &place))?;
        Ok(Self {
            place,
            opener,
            database: Some(database),
        })
    }

    /// Reads everything.
    pub(super) fn load(&mut self, window: usize) -> Result<State, StoreError> {
        let database = self.database()?;
        let setup = database.begin_write().map_err(storage)?;
        setup.open_table(OBJECTS).map_err(storage)?;
        setup.open_table(META).map_err(storage)?;
        setup.commit().map_err(storage)?;
        let transaction = database.begin_read().map_err(storage)?;
        let meta = transaction.open_table(META).map_err(storage)?;
        let revision = meta
            .get(REVISION)
            .map_err(storage)?
            .map_or(1, |value| value.value());
        let mut objects = Vec::new();
        let table = transaction.open_table(OBJECTS).map_err(storage)?;
        for row in table.iter().map_err(storage)? {
            let (name, bytes) = row.map_err(storage)?;
            objects.push(load_object(name.value(), bytes.value())?);
        }
        Ok(State::new(revision, window, objects))
    }

    fn database(&mut self) -> Result<&Database, StoreError> {
        if self.database.is_none() {
            let opened = (self.opener)().map_err(|error| failure(error, &self.place))?;
            self.database = Some(opened);
        }
        Ok(self.database.as_ref().expect("opened above"))
    }

    /// Writes all rows or none.
    pub(super) fn commit(&mut self, rows: &[Row<'_>], revision: u64) -> Result<(), StoreError> {
        let result = self.try_commit(rows, revision);
        if result.is_err() {
            self.database = None;
        }
        result
    }

    fn try_commit(&mut self, rows: &[Row<'_>], revision: u64) -> Result<(), StoreError> {
        let place = self.place.clone();
        write(self.database()?, rows, revision).map_err(|error| failure(error, &place))
    }
}

fn write(database: &Database, rows: &[Row<'_>], revision: u64) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    {
        let mut objects = transaction.open_table(OBJECTS)?;
        for row in rows {
            let name = row_name(row.key);
            match row.value {
                Some(value) => {
                    let bytes = serde_json::to_vec(value).map_err(std::io::Error::other)?;
                    objects.insert(name.as_str(), bytes.as_slice())?;
                }
                None => {
                    objects.remove(name.as_str())?;
                }
            }
        }
        let mut meta = transaction.open_table(META)?;
        meta.insert(REVISION, revision)?;
    }
    Ok(transaction.commit()?)
}

fn load_object(name: &str, bytes: &[u8]) -> Result<Object, StoreError> {
    let key = parse_row_name(name).ok_or_else(|| storage(format!("row {name:?} has no key")))?;
    let value: Value =
        serde_json::from_slice(bytes).map_err(|error| storage(format!("row {name:?}: {error}")))?;
    let revision = value
        .pointer("/metadata/resourceVersion")
        .and_then(Value::as_str)
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| storage(format!("row {name:?} has no resourceVersion")))?;
    Ok(Object {
        key,
        revision,
        value,
    })
}
