//! A SQLite file as a whole: read beside a gateway that runs, or written in its place.

use std::path::{Path, PathBuf};

use rusqlite::types::Value as Sql;
use rusqlite::{Connection, OpenFlags, OptionalExtension as _, params};
use serde_json::Value;

use super::book::{Answer, Book, Cell, Head, OrderLine, Place, Question, Told};
use super::bring::There;
use super::line::FORMAT;
use super::record::{Record, columns};
use crate::registry::sqlite::guard::Guard;
use crate::registry::sqlite::rows::{highest_id, read_order, read_row};
use crate::registry::sqlite::schema::{MIGRATIONS, prepare, prepare_to_read, sentence};
use crate::registry::sqlite::statements::COLUMNS;

/// Memory for pages while much is written, in KiB: less makes a million batches take twice as long,
/// more does not help, and a container may have 256 MiB.
const CACHE_KIB: i64 = 64 * 1024;

/// A SQLite file.
#[derive(Debug)]
pub(super) struct SqliteBook {
    path: PathBuf,
    connection: Connection,
    /// What keeps gateways away, where it is written.
    guard: Option<Guard>,
}

impl SqliteBook {
    /// Opens a file to be read as it is at this moment, whoever writes it meanwhile.
    pub(super) fn open_to_read(path: &Path) -> Result<SqliteBook, String> {
        if !path.exists() {
            return Err(format!("there is no registry at {}", path.display()));
        }
        let flags = |how| OpenFlags::SQLITE_OPEN_NO_MUTEX | how;
        // Who reads a file in WAL mode takes part in its locks, which takes the right to write.
        let connection =
            Connection::open_with_flags(path, flags(OpenFlags::SQLITE_OPEN_READ_WRITE))
                .or_else(|_| {
                    Connection::open_with_flags(path, flags(OpenFlags::SQLITE_OPEN_READ_ONLY))
                })
                .map_err(sentence)?;
        prepare_to_read(&connection).map_err(sentence)?;
        connection.execute_batch("BEGIN").map_err(sentence)?;
        let schema = schema(&connection)?;
        let known = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
        if schema != known {
            let remedy = match schema > known {
                true => "use the newer version",
                false => {
                    "start a gateway of this version on it once: it brings the file up to date"
                }
            };
            return Err(format!(
                "{} is of schema {schema}, and this version knows {known}: {remedy}",
                path.display()
            ));
        }
        Ok(SqliteBook {
            path: path.to_owned(),
            connection,
            guard: None,
        })
    }

    /// Opens, or creates, a file to be written by nobody else.
    pub(super) fn open_to_write(path: &Path) -> Result<SqliteBook, String> {
        let mut guard = Guard::take(path)?;
        let connection = Connection::open(path).map_err(sentence)?;
        prepare(&connection)?;
        guard.opened(highest_id(&connection).map_err(sentence)?)?;
        let cache = format!("PRAGMA cache_size = -{CACHE_KIB}; BEGIN IMMEDIATE");
        connection.execute_batch(&cache).map_err(sentence)?;
        Ok(SqliteBook {
            path: path.to_owned(),
            connection,
            guard: Some(guard),
        })
    }

    fn read_head(&self) -> rusqlite::Result<Head> {
        let number = |sql: &str| {
            self.connection
                .query_row(sql, [], |row| row.get::<_, i64>(0))
        };
        let mut orders = self.connection.prepare(
            "SELECT cluster, wish, since_ms, given_by FROM orders ORDER BY cluster, wish",
        )?;
        let orders = orders.query_map([], read_order)?.map(|order| {
            order.map(|order| OrderLine {
                cluster: order.cluster,
                wish: order.wish.as_str().to_owned(),
                since_ms: order.since_ms,
                by: order.by,
            })
        });
        Ok(Head {
            livy_gateway_registry: FORMAT,
            batches: u64::try_from(number("SELECT count(*) FROM batches")?).unwrap_or(0),
            highest_id: highest_id(&self.connection)?,
            uptime_ms: number("SELECT value FROM meta WHERE key = 'uptime_ms'")?,
            orders: orders.collect::<Result<_, _>>()?,
        })
    }

    fn read_there(&self, lines: &[Record]) -> rusqlite::Result<There> {
        let mut there = There::default();
        let by_id = format!("SELECT {COLUMNS} FROM batches WHERE id = ?1");
        let mut by_id = self.connection.prepare_cached(&by_id)?;
        let holder =
            "SELECT id FROM batches WHERE cluster = ?1 AND upstream_id = ?2 AND phase = 'bound'";
        let mut holder = self.connection.prepare_cached(holder)?;
        let key = "SELECT id FROM batches WHERE owner = ?1 AND idempotency_key = ?2";
        let mut key = self.connection.prepare_cached(key)?;
        for record in lines {
            if let Some(stored) = by_id.query_row([record.id()], read_record).optional()? {
                there.by_id.insert(stored.id(), stored);
            }
            if let Some(place) = record.place() {
                let id = holder.query_row([&place.0, &place.1], |row| row.get(0));
                there.holders.extend(id.optional()?.map(|id| (place, id)));
            }
            if let Some(claim) = record.claim() {
                let id = key.query_row([&claim.0, &claim.1], |row| row.get(0));
                there.keys.extend(id.optional()?.map(|id| (claim, id)));
            }
        }
        Ok(there)
    }

    fn write(&self, records: &[Record]) -> rusqlite::Result<()> {
        let Some(first) = records.first() else {
            return Ok(());
        };
        let names: Vec<&str> = columns(first).iter().map(|(name, _)| *name).collect();
        let places = vec!["?"; names.len()].join(", ");
        let insert = format!(
            "INSERT INTO batches ({}) VALUES ({places})",
            names.join(", ")
        );
        let mut insert = self.connection.prepare_cached(&insert)?;
        let delete = "DELETE FROM batches WHERE id = ?1";
        let mut delete = self.connection.prepare_cached(delete)?;
        // All of them first: an upstream id may go from one to another.
        for record in records {
            delete.execute([record.id()])?;
        }
        for record in records {
            let values = columns(record).map(|(_, value)| sql(value));
            insert.execute(rusqlite::params_from_iter(values))?;
        }
        Ok(())
    }

    fn write_head(&self, head: &Head) -> rusqlite::Result<()> {
        let tx = &self.connection;
        for order in &head.orders {
            let give = "INSERT INTO orders (cluster, wish, since_ms, given_by) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING";
            tx.execute(
                give,
                params![order.cluster, order.wish, order.since_ms, order.by],
            )?;
        }
        let uptime = "UPDATE meta SET value = max(value, ?1) WHERE key = 'uptime_ms'";
        tx.execute(uptime, [head.uptime_ms])?;
        if head.highest_id > highest_id(tx)? {
            // The table that SQLite counts ids in has no key.
            let given = "UPDATE sqlite_sequence SET seq = ?1 WHERE name = 'batches'";
            if tx.execute(given, [head.highest_id])? == 0 {
                let first = "INSERT INTO sqlite_sequence (name, seq) VALUES ('batches', ?1)";
                tx.execute(first, [head.highest_id])?;
            }
        }
        Ok(())
    }

    fn close(mut self, head: &Head) -> Result<(), String> {
        self.write_head(head).map_err(sentence)?;
        let highest = highest_id(&self.connection).map_err(sentence)?;
        self.connection.execute_batch("COMMIT").map_err(sentence)?;
        if let Some(guard) = &mut self.guard {
            guard.mark(highest);
        }
        // What stays in the log is as safe there.
        let _ = self
            .connection
            .execute_batch("PRAGMA wal_checkpoint(TRUNCATE)");
        Ok(())
    }

    fn ask_now(&self, text: &str) -> rusqlite::Result<Vec<Answer>> {
        let mut statement = self.connection.prepare(text)?;
        let names = statement.column_names().map(str::to_owned);
        let names: Vec<String> = names.collect();
        let cell = |row: &rusqlite::Row<'_>, at| {
            Ok(match row.get::<_, Sql>(at)? {
                Sql::Integer(number) => Cell::Number(number),
                Sql::Text(text) => Cell::Text(text),
                Sql::Null | Sql::Real(_) | Sql::Blob(_) => Cell::Nothing,
            })
        };
        let named = |row: &rusqlite::Row<'_>| {
            let names = names.iter().cloned().enumerate();
            names
                .map(|(at, name)| cell(row, at).map(|cell| (name, cell)))
                .collect()
        };
        statement.query_map([], named)?.collect()
    }

    fn beside(&self, what: &str) -> PathBuf {
        let mut name = self.path.as_os_str().to_owned();
        name.push(what);
        name.into()
    }
}

fn schema(connection: &Connection) -> Result<i64, String> {
    connection
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .map_err(sentence)
}

fn read_record(row: &rusqlite::Row<'_>) -> rusqlite::Result<Record> {
    Ok(Record {
        key: row.get("idempotency_key")?,
        row: read_row(row)?,
    })
}

fn sql(value: Value) -> Sql {
    match value {
        Value::Null => Sql::Null,
        Value::Bool(yes) => Sql::Integer(yes.into()),
        Value::Number(number) => Sql::Integer(number.as_i64().unwrap_or(0)),
        Value::String(text) => Sql::Text(text),
        // No column is one.
        Value::Array(_) | Value::Object(_) => Sql::Null,
    }
}

fn told<T: Send + 'static>(outcome: rusqlite::Result<T>) -> Told<'static, T> {
    Box::pin(std::future::ready(outcome.map_err(sentence)))
}

impl Book for SqliteBook {
    fn head(&mut self) -> Told<'_, Head> {
        told(self.read_head())
    }

    fn after(&mut self, id: i32, limit: usize) -> Told<'_, Vec<Record>> {
        let next = || {
            let text = format!("SELECT {COLUMNS} FROM batches WHERE id > ?1 ORDER BY id LIMIT ?2");
            let mut statement = self.connection.prepare_cached(&text)?;
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            statement
                .query_map(params![id, limit], read_record)?
                .collect()
        };
        told(next())
    }

    fn ask(&mut self, sql: String) -> Told<'_, Vec<Answer>> {
        told(self.ask_now(&sql))
    }

    fn place(&mut self) -> Told<'_, Place> {
        let size = |path: PathBuf| std::fs::metadata(path).map_or(0, |file| file.len());
        let place = schema(&self.connection).map(|schema| Place {
            kind: "sqlite",
            at: self.path.display().to_string(),
            schema,
            bytes: size(self.path.clone()) + size(self.beside("-wal")),
        });
        Box::pin(std::future::ready(place))
    }

    fn damage(&mut self) -> Told<'_, Vec<String>> {
        let mut found: Vec<String> = match self.ask_now("PRAGMA integrity_check(20)") {
            Ok(rows) => rows
                .iter()
                .flatten()
                .map(|(_, cell)| cell.text())
                .filter(|line| line != "ok")
                .collect(),
            Err(error) => return told(Err(error)),
        };
        if let Ok(text) = std::fs::read_to_string(self.beside(".ids")) {
            let highest = highest_id(&self.connection).unwrap_or(0);
            match text.trim().parse::<i64>() {
                Ok(given) if given > highest => found.push(format!(
                    "ids up to {given} were given to clients, by {}; the database knows only {highest}: it is an old copy",
                    self.beside(".ids").display()
                )),
                Ok(_) => {}
                Err(_) if text.trim().is_empty() => {}
                Err(_) => found.push(format!("{} holds no number", self.beside(".ids").display())),
            }
        }
        Box::pin(std::future::ready(Ok(found)))
    }

    fn questions(&self) -> Vec<Question> {
        let level = |level: usize, shift: u32| {
            let counted = |owner: &str, cluster: &str, filter: &str| {
                format!(
                    "SELECT {owner} AS owner, {cluster} AS cluster, id >> {shift} AS block, count(*) AS shown FROM batches
                     WHERE phase IN ('sending', 'bound', 'detached') AND {filter} GROUP BY 1, 2, 3"
                )
            };
            let all = [
                counted("''", "''", "true"),
                counted("''", "cluster", "true"),
                counted("owner", "''", "owner <> ''"),
                counted("owner", "cluster", "owner <> ''"),
            ];
            let counted = all.join(" UNION ALL ");
            let kept =
                format!("SELECT owner, cluster, block, shown FROM counts WHERE level = {level}");
            format!(
                "SELECT * FROM (SELECT 'counted' AS here, * FROM ({counted} EXCEPT {kept}) UNION ALL SELECT 'kept' AS here, * FROM ({kept} EXCEPT SELECT * FROM ({counted})))"
            )
        };
        let counts = [(0, 10), (1, 17), (2, 24)].map(|(at, shift)| level(at, shift));
        let live = "SELECT cluster, count(*) FROM batches WHERE phase IN ('sending', 'bound') AND ended_ms IS NULL GROUP BY cluster";
        let kept_live = "SELECT cluster, batches FROM live WHERE batches <> 0";
        vec![
            Question {
                well: "totals and pages are counted right",
                sql: counts.join(" UNION ALL "),
            },
            Question {
                well: "live batches are counted right",
                sql: format!(
                    "SELECT 'counted' AS here, * FROM ({live} EXCEPT {kept_live}) UNION ALL SELECT 'kept' AS here, * FROM ({kept_live} EXCEPT {live})"
                ),
            },
            Question {
                well: "no id is above the highest that was given",
                sql: "SELECT max(id) AS id, seq AS given FROM batches, sqlite_sequence AS given WHERE given.name = 'batches' GROUP BY seq HAVING max(id) > seq".to_owned(),
            },
        ]
    }

    fn there<'a>(&'a mut self, lines: &'a [Record]) -> Told<'a, There> {
        told(self.read_there(lines))
    }

    fn objection(&self, _: &Record) -> Option<&'static str> {
        None
    }

    fn put(&mut self, records: Vec<Record>) -> Told<'_, ()> {
        told(self.write(&records))
    }

    fn finish(self: Box<Self>, head: Head) -> Told<'static, ()> {
        Box::pin(std::future::ready((*self).close(&head)))
    }
}
