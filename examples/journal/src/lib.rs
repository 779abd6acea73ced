//! A journal in a SQLite file: entries are appended, and read in the order in which they came.
//!
//! An entry that was acknowledged is in the file, whatever becomes of this version of the plugin:
//! the plugin is exclusive, so no two SQLites are ever at work on the file, each entry is a
//! transaction, and the reply goes out after its commit.

use std::{
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use ksi_plugin_api::prelude::*;
use rusqlite::{Connection, named_params};

/// What the file's tables are like. A version that changes them raises it, and brings the older
/// ones up to it in [`open`].
const TABLES: i64 = 1;

/// At most so many entries are read at once.
const MOST_READ: u32 = 1_000;

/// `[plugin.journal]` in the host's configuration.
#[payload]
#[serde(deny_unknown_fields)]
struct Config {
    /// The file. It is made if it is not there; a relative path begins in the host's folder.
    path: PathBuf,
    /// So many entries are kept, the newest.
    #[serde(default = "a_million")]
    keep: u32,
}

fn a_million() -> u32 {
    1_000_000
}

/// Writes an entry; it is in the file when this replies.
#[event("journal:append")]
struct Append {
    topic: String,
    #[serde(default)]
    data: Value,
}

/// The reply to [`Append`]. Numbers rise, and none comes twice.
#[payload]
struct Appended {
    id: i64,
}

/// Asks for the entries behind one, of one topic or of all.
#[event("journal:read")]
struct Read {
    #[serde(default)]
    after: i64,
    #[serde(default)]
    topic: Option<String>,
    /// At most 1,000.
    #[serde(default = "hundred")]
    limit: u32,
}

fn hundred() -> u32 {
    100
}

/// The reply to [`Read`]. What follows is read with the last number as `after`.
#[payload]
struct Entries {
    entries: Vec<Entry>,
}

#[payload]
struct Entry {
    id: i64,
    /// In milliseconds since the Unix epoch.
    at: i64,
    topic: String,
    data: Value,
}

struct Journal {
    connection: Mutex<Connection>,
    keep: u32,
}

#[plugin(exclusive)]
impl Journal {
    #[initialize]
    async fn initialize(_: &Context, config: Config) -> Result<Self> {
        let connection = Mutex::new(open(&config.path)?);
        Ok(Journal { connection, keep: config.keep.max(1) })
    }

    /// Writes an entry; it is in the file when this replies.
    #[event_handler(blocking)]
    async fn append(&self, _: &Context, append: Append) -> Result<Appended> {
        let at = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() as i64;
        let mut connection = self.connection();
        let transaction = connection.transaction()?;
        transaction.execute(
            "INSERT INTO entry (at, topic, data) VALUES (:at, :topic, :data)",
            named_params! { ":at": at, ":topic": append.topic, ":data": append.data.to_string() },
        )?;
        let id = transaction.last_insert_rowid();
        transaction.execute("DELETE FROM entry WHERE id <= ?1", (id - i64::from(self.keep),))?;
        transaction.commit()?;
        Ok(Appended { id })
    }

    /// Reads entries in their order.
    #[event_handler(blocking)]
    async fn read(&self, _: &Context, read: Read) -> Result<Entries> {
        let connection = self.connection();
        let mut query = connection.prepare(
            "SELECT id, at, topic, data FROM entry
             WHERE id > :after AND (:topic IS NULL OR topic = :topic) ORDER BY id LIMIT :limit",
        )?;
        let limit = read.limit.min(MOST_READ);
        let asked = named_params! { ":after": read.after, ":topic": read.topic, ":limit": limit };
        let mut rows = query.query(asked)?;
        let mut entries = Vec::new();
        while let Some(row) = rows.next()? {
            let data = row.get_ref(3)?.as_str()?.parse()?;
            entries.push(Entry { id: row.get(0)?, at: row.get(1)?, topic: row.get(2)?, data });
        }
        Ok(Entries { entries })
    }
}

impl Journal {
    /// No `await` while it is locked. After a panic in another call it is as good as before: what
    /// that had begun is rolled back.
    fn connection(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn open(path: &PathBuf) -> Result<Connection> {
    let connection = Connection::open(path).map_err(|error| {
        Error::new("cannot_open", format!("{} cannot be opened: {error}", path.display()))
    })?;
    // Readers of other processes do not hold up a writer; what is committed is on the disk.
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    let found: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if found > TABLES {
        // The host goes back to the version before, which knows them.
        let text = format!(
            "{} was written by a later version of this plugin: its tables are of version {found}, \
             and this one knows {TABLES}",
            path.display()
        );
        return Err(Error::new("too_new", text));
    }
    if found < 1 {
        // One transaction, so that no half of it is ever found.
        connection.execute_batch(
            "BEGIN;
             CREATE TABLE entry (
                 id INTEGER PRIMARY KEY AUTOINCREMENT,
                 at INTEGER NOT NULL,
                 topic TEXT NOT NULL,
                 data TEXT NOT NULL
             );
             CREATE INDEX entry_by_topic ON entry (topic, id);
             PRAGMA user_version = 1;
             COMMIT;",
        )?;
    }
    Ok(connection)
}

#[cfg(test)]
mod tests {
    use ksi_harness::Harness;
    use tempfile::TempDir;

    use super::*;

    fn in_folder(folder: &TempDir, keep: u32) -> Result<Harness> {
        let path = folder.path().join("journal.db");
        Harness::with_config::<Journal>(json!({"path": path, "keep": keep}))
    }

    fn append(plugin: &Harness, topic: &str, data: Value) -> i64 {
        plugin.request::<Appended>(Append { topic: topic.to_owned(), data }).unwrap().id
    }

    fn read(plugin: &Harness, asked: Value) -> Vec<Entry> {
        let report = plugin.emit("journal:read", asked);
        report.results_as::<Entries>().unwrap().remove(0).entries
    }

    #[test]
    fn entries_are_read_in_their_order_from_where_one_was() {
        let folder = TempDir::new().unwrap();
        let plugin = in_folder(&folder, 100).unwrap();
        let first = append(&plugin, "order", json!({"item": "pen"}));
        append(&plugin, "visit", Value::Null);
        let third = append(&plugin, "order", json!([1.5]));
        let all = read(&plugin, json!({}));
        assert_eq!(all.len(), 3);
        assert_eq!((&*all[0].topic, &all[0].data), ("order", &json!({"item": "pen"})));
        assert!(all[0].at > 1_700_000_000_000, "{}", all[0].at);
        let after = read(&plugin, json!({"after": first, "topic": "order"}));
        assert_eq!(after.iter().map(|entry| entry.id).collect::<Vec<_>>(), [third]);
        assert_eq!(read(&plugin, json!({"limit": 2})).len(), 2);
    }

    #[test]
    fn the_next_instance_goes_on_in_the_same_file() {
        let folder = TempDir::new().unwrap();
        let first = append(&in_folder(&folder, 100).unwrap(), "a", json!(1));
        let plugin = in_folder(&folder, 100).unwrap();
        assert!(append(&plugin, "a", json!(2)) > first);
        assert_eq!(read(&plugin, json!({})).len(), 2);
    }

    #[test]
    fn the_newest_are_kept() {
        let folder = TempDir::new().unwrap();
        let plugin = in_folder(&folder, 3).unwrap();
        let last = (0..10).map(|number| append(&plugin, "a", json!(number))).last();
        let kept = read(&plugin, json!({}));
        assert_eq!(kept.iter().map(|entry| &entry.data).collect::<Vec<_>>(), [7, 8, 9]);
        assert_eq!(kept.last().map(|entry| entry.id), last);
    }

    #[test]
    fn a_file_of_a_later_version_is_left_alone() {
        let folder = TempDir::new().unwrap();
        drop(in_folder(&folder, 3).unwrap());
        let file = Connection::open(folder.path().join("journal.db")).unwrap();
        file.pragma_update(None, "user_version", 2).unwrap();
        drop(file);
        let Err(error) = in_folder(&folder, 3) else { panic!("it is refused") };
        assert_eq!(error.code(), "too_new");
        assert!(error.message().contains("its tables are of version 2"), "{error}");
    }
}
