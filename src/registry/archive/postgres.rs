//! A PostgreSQL database as a whole: read beside gateways that run, or written in their place.

use tokio::task::JoinHandle;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Error, Row as PgRow};

use super::book::{Answer, Book, Cell, Head, OrderLine, Place, Question, Told};
use super::bring::There;
use super::line::FORMAT;
use super::record::{Record, columns};
use crate::config::checked::Postgres;
use crate::net::cause;
use crate::registry::postgres::pool::{Dialler, Failure};
use crate::registry::postgres::rows::{COLUMNS, read_order, read_row};
use crate::registry::postgres::{MIGRATIONS, PostgresStore};
use crate::registry::store::Store as _;

/// A PostgreSQL database.
#[derive(Debug)]
pub(super) struct PostgresBook {
    client: Client,
    connection: JoinHandle<()>,
}

impl Drop for PostgresBook {
    fn drop(&mut self) {
        // What was not committed is undone by the server.
        self.connection.abort();
    }
}

fn sentence(error: Error) -> String {
    match error.as_db_error() {
        Some(db) => db.message().to_owned(),
        None => cause::in_words(&error),
    }
}

async fn dial(config: &Postgres) -> Result<PostgresBook, String> {
    let dialler = Dialler {
        url: config.url.clone(),
        tls: config.tls.clone(),
    };
    let (client, connection) = dialler
        .dial(|_| {})
        .await
        .map_err(|failure| match failure {
            Failure::Away(why) | Failure::Refused(why) => why,
            Failure::OutOfIds => "it has no ids left".to_owned(),
        })?;
    Ok(PostgresBook { client, connection })
}

impl PostgresBook {
    /// Opens a database to be read as it is at this moment, whoever writes it meanwhile.
    pub(super) async fn open_to_read(config: &Postgres) -> Result<PostgresBook, String> {
        let book = dial(config).await?;
        let is_there =
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SELECT to_regclass('schema_version')";
        book.client
            .batch_execute(is_there)
            .await
            .map_err(sentence)?;
        let row = book
            .client
            .query_one("SELECT to_regclass('schema_version') IS NOT NULL", &[]);
        let is_there: bool = row.await.and_then(|row| row.try_get(0)).map_err(sentence)?;
        if !is_there {
            return Err("there is no registry in the database".to_owned());
        }
        let schema = book.schema().await.map_err(sentence)?;
        let known = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
        match schema < known {
            true => Err(format!(
                "the database is of schema {schema}, and this version knows {known}: start a gateway of this version on it once"
            )),
            // A newer one only adds.
            false => Ok(book),
        }
    }

    /// Opens a database to be written while no gateway uses it; brings its schema up to date.
    pub(super) async fn open_to_write(config: &Postgres) -> Result<PostgresBook, String> {
        let store = PostgresStore::open(config).await?;
        store.close().await;
        let book = dial(config).await?;
        // Whoever starts a gateway meanwhile waits for this lock, and gives up.
        let alone =
            "BEGIN; SELECT pg_advisory_xact_lock(hashtextextended('livy-gateway schema', 0))";
        book.client.batch_execute(alone).await.map_err(sentence)?;
        let schema = book.schema().await.map_err(sentence)?;
        let known = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
        if schema > known {
            return Err(format!(
                "the database is of schema {schema}, and this version knows {known}: use the newer version"
            ));
        }
        let alive =
            "SELECT count(*) FROM leases WHERE name LIKE 'process/%' AND until > clock_timestamp()";
        let alive = book.client.query_one(alive, &[]).await;
        let alive: i64 = alive.and_then(|row| row.try_get(0)).map_err(sentence)?;
        if alive > 0 {
            return Err(format!(
                "gateways are using the database ({alive}): stop them first, or they would not know of what is written"
            ));
        }
        // Counted once at the end: by the trigger, each batch takes longer than the one before it.
        let uncounted = "ALTER TABLE batches DISABLE TRIGGER batches_counted";
        book.client
            .batch_execute(uncounted)
            .await
            .map_err(sentence)?;
        Ok(book)
    }

    async fn schema(&self) -> Result<i64, Error> {
        let row = self
            .client
            .query_one("SELECT version::bigint FROM schema_version", &[])
            .await?;
        row.try_get(0)
    }

    async fn read_head(&self) -> Result<Head, Error> {
        let counted = "SELECT (SELECT count(*) FROM batches), (SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM batches_id_seq),
            (SELECT uptime_ms FROM uptime)";
        let row = self.client.query_one(counted, &[]).await?;
        let batches: i64 = row.try_get(0)?;
        let orders = "SELECT cluster, wish, since_ms, given_by FROM orders ORDER BY cluster COLLATE \"C\", wish";
        let orders = self.client.query(orders, &[]).await?;
        let line = |row: &PgRow| {
            read_order(row).map(|order| OrderLine {
                cluster: order.cluster,
                wish: order.wish.as_str().to_owned(),
                since_ms: order.since_ms,
                by: order.by,
            })
        };
        Ok(Head {
            livy_gateway_registry: FORMAT,
            batches: u64::try_from(batches).unwrap_or(0),
            highest_id: row.try_get(1)?,
            uptime_ms: row.try_get(2)?,
            orders: orders.iter().map(line).collect::<Result<_, _>>()?,
        })
    }

    async fn select(
        &self,
        filter: &str,
        values: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Record>, Error> {
        let text = format!("SELECT {COLUMNS} FROM batches WHERE {filter}");
        let rows = self.client.query(&text, values).await?;
        rows.iter().map(read_record).collect()
    }

    async fn read_there(&self, lines: &[Record]) -> Result<There, Error> {
        let mut there = There::default();
        let ids: Vec<i32> = lines.iter().map(Record::id).collect();
        for record in self.select("id = ANY($1)", &[&ids]).await? {
            there.by_id.insert(record.id(), record);
        }
        let holders = "SELECT cluster, upstream_id, id FROM batches WHERE phase = 'bound'
            AND (cluster, upstream_id) IN (SELECT * FROM unnest($1::text[], $2::text[]))";
        there.holders = self
            .held(holders, lines.iter().filter_map(Record::place))
            .await?;
        let keys =
            "SELECT owner, idempotency_key, id FROM batches WHERE idempotency_key IS NOT NULL
            AND (owner, idempotency_key) IN (SELECT * FROM unnest($1::text[], $2::text[]))";
        there.keys = self
            .held(keys, lines.iter().filter_map(Record::claim))
            .await?;
        Ok(there)
    }

    /// Asks who has some pairs of texts.
    async fn held<T: FromIterator<((String, String), i32)>>(
        &self,
        statement: &str,
        pairs: impl Iterator<Item = (String, String)>,
    ) -> Result<T, Error> {
        let (firsts, seconds): (Vec<String>, Vec<String>) = pairs.unzip();
        let rows = self.client.query(statement, &[&firsts, &seconds]).await?;
        let read = |row: &PgRow| Ok(((row.try_get(0)?, row.try_get(1)?), row.try_get(2)?));
        rows.iter().map(read).collect()
    }

    async fn write(&self, records: &[Record]) -> Result<(), Error> {
        let Some(first) = records.first() else {
            return Ok(());
        };
        let names: Vec<&str> = columns(first).iter().map(|(name, _)| *name).collect();
        let names = names.join(", ");
        let ids: Vec<i32> = records.iter().map(Record::id).collect();
        let rows = records.iter().map(|record| {
            let cells = columns(record)
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value));
            serde_json::Value::Object(cells.collect())
        });
        let rows = serde_json::Value::Array(rows.collect()).to_string();
        // All of them first: an upstream id may go from one to another.
        self.client
            .execute("DELETE FROM batches WHERE id = ANY($1)", &[&ids])
            .await?;
        let insert = format!(
            "INSERT INTO batches ({names}) SELECT {names} FROM json_populate_recordset(NULL::batches, $1::text::json)"
        );
        let insert = self.client.prepare_typed(&insert, &[Type::TEXT]).await?;
        self.client.execute(&insert, &[&rows]).await.map(drop)
    }

    async fn write_head(&self, head: &Head) -> Result<(), Error> {
        for order in &head.orders {
            let give = "INSERT INTO orders (cluster, wish, since_ms, given_by) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING";
            let values: [&(dyn ToSql + Sync); 4] =
                [&order.cluster, &order.wish, &order.since_ms, &order.by];
            self.client.execute(give, &values).await?;
        }
        let uptime =
            "UPDATE uptime SET uptime_ms = greatest(uptime_ms, $1), noted = clock_timestamp()";
        self.client.execute(uptime, &[&head.uptime_ms]).await?;
        let counted = format!(
            "DELETE FROM counts; INSERT INTO counts {COUNTED}; ALTER TABLE batches ENABLE TRIGGER batches_counted"
        );
        self.client.batch_execute(&counted).await?;
        let given = "SELECT setval('batches_id_seq', highest) FROM (SELECT greatest((SELECT max(id) FROM batches), nullif($1, 0),
            (SELECT last_value FROM batches_id_seq WHERE is_called))) AS given (highest) WHERE highest IS NOT NULL";
        self.client.query(given, &[&head.highest_id]).await?;
        // What it is planned by was true of an empty table.
        self.client.batch_execute("ANALYZE batches; COMMIT").await
    }
}

/// What the trigger would have counted.
const COUNTED: &str = "SELECT owner, cluster, block, sum(shown), sum(live) FROM batches,
    LATERAL (SELECT (phase IN ('sending', 'bound', 'detached'))::int AS shown, (phase IN ('sending', 'bound') AND ended_ms IS NULL)::int AS live,
        id / 2048 AS block) AS counted,
    LATERAL (VALUES ('', ''), ('', batches.cluster), (nullif(batches.owner, ''), ''), (nullif(batches.owner, ''), batches.cluster)) AS whose (owner, cluster)
    WHERE shown + live > 0 AND whose.owner IS NOT NULL GROUP BY 1, 2, 3";

fn read_record(row: &PgRow) -> Result<Record, Error> {
    Ok(Record {
        key: row.try_get("idempotency_key")?,
        row: read_row(row)?,
    })
}

fn told<'a, T>(work: impl Future<Output = Result<T, Error>> + Send + 'a) -> Told<'a, T> {
    Box::pin(async { work.await.map_err(sentence) })
}

impl Book for PostgresBook {
    fn head(&mut self) -> Told<'_, Head> {
        told(self.read_head())
    }

    fn after(&mut self, id: i32, limit: usize) -> Told<'_, Vec<Record>> {
        told(async move {
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            self.select("id > $1 ORDER BY id LIMIT $2", &[&id, &limit])
                .await
        })
    }

    fn ask(&mut self, sql: String) -> Told<'_, Vec<Answer>> {
        told(async move {
            let rows = self.client.query(&sql, &[]).await?;
            rows.iter().map(cells).collect()
        })
    }

    fn place(&mut self) -> Told<'_, Place> {
        told(async move {
            let sizes = "SELECT current_database()::text, pg_total_relation_size('batches') + pg_total_relation_size('counts')";
            let row = self.client.query_one(sizes, &[]).await?;
            let bytes: i64 = row.try_get(1)?;
            Ok(Place {
                kind: "postgres",
                at: format!("database {:?}", row.try_get::<_, String>(0)?),
                schema: self.schema().await?,
                bytes: u64::try_from(bytes).unwrap_or(0),
            })
        })
    }

    fn damage(&mut self) -> Told<'_, Vec<String>> {
        // The server's own business (`pg_amcheck`).
        Box::pin(std::future::ready(Ok(Vec::new())))
    }

    fn questions(&self) -> Vec<Question> {
        let kept =
            "SELECT owner, cluster, block, shown, live FROM counts WHERE shown <> 0 OR live <> 0";
        vec![
            Question {
                well: "totals, pages and live batches are counted right",
                sql: format!(
                    "SELECT 'counted' AS here, missed.* FROM (({COUNTED}) EXCEPT ({kept})) AS missed
                     UNION ALL SELECT 'kept' AS here, extra.* FROM (({kept}) EXCEPT ({COUNTED})) AS extra"
                ),
            },
            Question {
                well: "no id is above the highest that was given",
                sql: "SELECT max(id) AS id, (SELECT last_value FROM batches_id_seq WHERE is_called) AS given FROM batches
                    HAVING max(id) > coalesce((SELECT last_value FROM batches_id_seq WHERE is_called), 0)"
                    .to_owned(),
            },
        ]
    }

    fn there<'a>(&'a mut self, lines: &'a [Record]) -> Told<'a, There> {
        told(self.read_there(lines))
    }

    fn objection(&self, record: &Record) -> Option<&'static str> {
        let has_nul = columns(record).iter().any(|(_, value)| {
            value
                .as_str()
                .is_some_and(|text| text.contains('\0') || text.contains("\\u0000"))
        });
        has_nul.then_some("it has a text with the character NUL, which PostgreSQL keeps none of")
    }

    fn put(&mut self, records: Vec<Record>) -> Told<'_, ()> {
        told(async move { self.write(&records).await })
    }

    fn finish(self: Box<Self>, head: Head) -> Told<'static, ()> {
        told(async move { self.write_head(&head).await })
    }
}

fn cells(row: &PgRow) -> Result<Answer, Error> {
    let cell = |at: usize| {
        let column = &row.columns()[at];
        let cell = match *column.type_() {
            Type::INT4 => {
                let number: Option<i32> = row.try_get(at)?;
                number.map_or(Cell::Nothing, |number| Cell::Number(number.into()))
            }
            Type::INT8 => row
                .try_get::<_, Option<i64>>(at)?
                .map_or(Cell::Nothing, Cell::Number),
            _ => row
                .try_get::<_, Option<String>>(at)?
                .map_or(Cell::Nothing, Cell::Text),
        };
        Ok((column.name().to_owned(), cell))
    };
    (0..row.len()).map(cell).collect()
}
