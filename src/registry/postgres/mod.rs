//! The registry's store for several gateways: PostgreSQL.
//!
//! Each method is one transaction, within a deadline, over a connection of a pool. What the decisions
//! of one submission rest on is locked by name for as long as the transaction lasts (its key, its
//! name, the list of its cluster); everything else is left to versions. Other processes are told of
//! what changed by `NOTIFY`, soon after it is committed. Migrations are the numbered files in
//! `schema/`; they only add, so that two versions of the gateway work on one database while one
//! takes over from the other.

mod follow;
mod list;
pub(super) mod pool;
pub(super) mod rows;
#[cfg(test)]
pub(crate) mod tests;
mod write;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use livy_dialect::Observed;
use tokio_postgres::Error;

use self::follow::{Ears, Mouth};
use self::pool::{Dialler, Pool};
use self::rows::{Session as _, all, one, read_order, save};
use super::error::RegistryError;
use super::row::{GatewayId, Row};
use super::store::{
    Adoption, Change, LEASE, NewRow, Order, RangeOf, Recorded, Saved, Store, StoreFuture, Visible,
    Wish,
};
use crate::clock::Moment;
use crate::config::checked::Postgres;

pub(super) const MIGRATIONS: [&str; 2] = [
    include_str!("schema/001.sql"),
    include_str!("schema/002.sql"),
];

/// The oldest version of the schema whose gateways can work on the newest one.
const READABLE_FROM: i32 = 1;

/// How many batches of a list are read in within one transaction.
const LIST_STEP: usize = 200;

/// How far the uptime may go on between two notes of it, at most: the database's clock may jump.
const LONGEST_BEAT: Duration = Duration::from_secs(60);

/// A PostgreSQL database.
#[derive(Debug)]
pub struct PostgresStore {
    pool: Pool,
    /// This process, among all that write to the database.
    process: Arc<str>,
    ears: Ears,
    mouth: Mouth,
}

impl PostgresStore {
    /// Connects, and brings the schema up to date.
    ///
    /// # Errors
    /// Why it can't be used, in a sentence without its password.
    pub async fn open(config: &Postgres) -> Result<Self, String> {
        let dialler = Dialler {
            url: config.url.clone(),
            tls: config.tls.clone(),
        };
        let process: Arc<str> = uuid::Uuid::now_v7().to_string().into();
        let store = PostgresStore {
            pool: Pool::new(dialler, config.pool)?,
            ears: Ears::new(&process),
            mouth: Mouth::default(),
            process,
        };
        store.migrate().await?;
        Ok(store)
    }

    async fn migrate(&self) -> Result<(), String> {
        let known = i32::try_from(MIGRATIONS.len()).unwrap_or(i32::MAX);
        let migrated = self.pool.write(move |tx| Box::pin(migrate(tx, known)));
        let (version, readable_from) = migrated.await.map_err(|error| error.to_string())?;
        if readable_from > known {
            return Err(format!(
                "the database is of schema {version}, which gateways read from schema {readable_from} on; this one knows {known}: use a newer one"
            ));
        }
        if version > known {
            tracing::info!(
                version,
                known,
                "the database is of a newer version, and can be read"
            );
        }
        Ok(())
    }

    /// Does something that changes rows, and tells the others which.
    async fn told<T>(
        &self,
        work: impl Future<Output = Result<T, RegistryError>>,
        changed: impl FnOnce(&T) -> Vec<GatewayId>,
    ) -> Result<T, RegistryError> {
        let value = work.await?;
        self.mouth.say(changed(&value));
        Ok(value)
    }
}

async fn migrate(tx: &deadpool_postgres::Transaction<'_>, known: i32) -> Result<(i32, i32), Error> {
    // Gateways that start together wait for each other here.
    tx.batch_execute(
        "SELECT pg_advisory_xact_lock(hashtextextended('livy-gateway schema', 0));
         CREATE TABLE IF NOT EXISTS schema_version (only_one boolean PRIMARY KEY DEFAULT true CHECK (only_one),
             version integer NOT NULL, readable_from integer NOT NULL);
         INSERT INTO schema_version (version, readable_from) VALUES (0, 0) ON CONFLICT DO NOTHING",
    )
    .await?;
    let now = tx
        .query_one("SELECT version, readable_from FROM schema_version", &[])
        .await?;
    let (version, readable_from): (i32, i32) = (now.try_get(0)?, now.try_get(1)?);
    if version >= known {
        return Ok((version, readable_from));
    }
    let done = usize::try_from(version).unwrap_or(0);
    for migration in &MIGRATIONS[done..] {
        tx.batch_execute(migration).await?;
    }
    tx.execute(
        "UPDATE schema_version SET version = $1, readable_from = $2",
        &[&known, &READABLE_FROM],
    )
    .await?;
    Ok((known, READABLE_FROM))
}

fn id_of(row: &Row) -> GatewayId {
    row.identity.id
}

impl Store for PostgresStore {
    fn is_shared(&self) -> bool {
        true
    }

    fn hears(&self) -> bool {
        self.ears.hear()
    }

    fn next_change(&self) -> Pin<Box<dyn Future<Output = Change> + Send + '_>> {
        Box::pin(self.ears.next(&self.pool.dialler))
    }

    fn tell_others(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(self.mouth.speak(&self.pool, &self.process))
    }

    fn record(&self, row: NewRow, now: Moment) -> StoreFuture<'_, Recorded> {
        let replaced = row.replaces.map(|replaced| replaced.id);
        let row = Arc::new(row);
        let recorded = self.pool.write(move |tx| {
            let row = row.clone();
            let process = self.process.clone();
            Box::pin(async move { write::record(tx, &row, &process, now).await })
        });
        Box::pin(self.told(recorded, move |_| replaced.into_iter().collect()))
    }

    fn reopen(&self, id: GatewayId, by: GatewayId) -> StoreFuture<'_, ()> {
        let reopened = self.pool.write(move |tx| {
            let process = self.process.clone();
            Box::pin(async move { write::reopen(tx, id, by, &process).await })
        });
        Box::pin(self.told(reopened, move |()| vec![id, by]))
    }

    fn by_key(&self, owner: String, key: String) -> StoreFuture<'_, Option<Row>> {
        Box::pin(self.pool.read(move |client| {
            let (owner, key) = (owner.clone(), key.clone());
            Box::pin(async move {
                one(
                    client,
                    "owner = $1 AND idempotency_key = $2",
                    &[&owner, &key],
                )
                .await
            })
        }))
    }

    fn bind(&self, row: Row, now: Moment) -> StoreFuture<'_, (Saved, Vec<Row>)> {
        let id = id_of(&row);
        let row = Arc::new(row);
        let bound = self.pool.write(move |tx| {
            let row = row.clone();
            let process = self.process.clone();
            Box::pin(async move { write::bind(tx, &row, &process, now).await })
        });
        Box::pin(self.told(bound, move |(_, lost)| {
            lost.iter().map(id_of).chain([id]).collect()
        }))
    }

    fn save(&self, rows: Vec<Row>) -> StoreFuture<'_, Vec<Saved>> {
        let ids: Vec<GatewayId> = rows.iter().map(id_of).collect();
        let rows = Arc::new(rows);
        let saved = self.pool.write(move |tx| {
            let rows = rows.clone();
            let process = self.process.clone();
            Box::pin(async move {
                let mut saved = Vec::with_capacity(rows.len());
                for row in rows.iter() {
                    saved.push(save(tx, row, &process).await?);
                }
                Ok(saved)
            })
        });
        Box::pin(self.told(saved, move |_| ids))
    }

    fn adopt(
        &self,
        cluster: String,
        seen: Vec<Observed>,
        asked: Moment,
        now: Moment,
    ) -> StoreFuture<'_, Adoption> {
        let cluster: Arc<str> = cluster.into();
        Box::pin(async move {
            let mut adoption = Adoption::default();
            for step in seen.chunks(LIST_STEP) {
                let (cluster, step) = (cluster.clone(), Arc::new(step.to_vec()));
                let read = self.pool.write(move |tx| {
                    let (cluster, step) = (cluster.clone(), step.clone());
                    let process = self.process.clone();
                    Box::pin(
                        async move { list::adopt(tx, &cluster, &step, &process, asked, now).await },
                    )
                });
                let lost = |part: &Adoption| part.lost.iter().map(id_of).collect();
                let part = self.told(read, lost).await?;
                adoption.known.extend(part.known);
                adoption.late.extend(part.late);
                adoption.again.extend(part.again);
                adoption.doubted.extend(part.doubted);
                adoption.lost.extend(part.lost);
            }
            Ok(adoption)
        })
    }

    fn get(&self, id: GatewayId) -> StoreFuture<'_, Option<Row>> {
        Box::pin(
            self.pool.read(move |client| {
                Box::pin(async move { one(client, "id = $1", &[&id.0]).await })
            }),
        )
    }

    fn holder(&self, cluster: String, upstream_id: String) -> StoreFuture<'_, Option<Row>> {
        Box::pin(self.pool.read(move |client| {
            let (cluster, upstream_id) = (cluster.clone(), upstream_id.clone());
            Box::pin(async move { one(client, write::HOLDER, &[&cluster, &upstream_id]).await })
        }))
    }

    fn shows_names(&self, cluster: String) -> StoreFuture<'_, bool> {
        Box::pin(self.pool.read(move |client| {
            let cluster = cluster.clone();
            Box::pin(async move {
                let newest = "SELECT echoed FROM batches WHERE cluster = $1 AND phase <> 'sending' ORDER BY id DESC LIMIT 50";
                let statement = format!("SELECT coalesce(bool_or(echoed), false) FROM ({newest}) AS newest");
                let rows = client.rows(&statement, &[&cluster]).await?;
                rows.first().map_or(Ok(false), |row| row.try_get(0))
            })
        }))
    }

    fn by_name(&self, name: String, visible: Visible) -> StoreFuture<'_, Option<Row>> {
        Box::pin(self.pool.read(move |client| {
            let (name, visible) = (name.clone(), visible.clone());
            Box::pin(async move { list::by_name(client, &name, &visible).await })
        }))
    }

    fn list(
        &self,
        visible: Visible,
        cluster: Option<String>,
        without: Vec<GatewayId>,
        range: RangeOf,
    ) -> StoreFuture<'_, (usize, Vec<Row>)> {
        Box::pin(async move {
            let (visible, cluster) = (Arc::new(visible), Arc::new(cluster));
            let without: Vec<i32> = without.into_iter().map(|id| id.0).collect();
            let counted = {
                let (visible, cluster) = (visible.clone(), cluster.clone());
                self.pool.read(move |client| {
                    let (visible, cluster) = (visible.clone(), cluster.clone());
                    let (without, process) = (without.clone(), self.process.clone());
                    Box::pin(async move {
                        let hidden = list::hidden(client, without, &process).await?;
                        let blocks =
                            list::blocks(client, &visible, cluster.as_deref(), &hidden).await?;
                        Ok((blocks, hidden))
                    })
                })
            };
            let (blocks, hidden) = counted.await?;
            let total = blocks.iter().map(|(_, shown)| shown).sum();
            let range = range(total);
            let page = self.pool.read(move |client| {
                let (visible, cluster) = (visible.clone(), cluster.clone());
                let hidden = hidden.clone();
                let (from, skip) = list::place(&blocks, range.start);
                let window = (from, skip, range.len());
                Box::pin(async move {
                    list::page(client, &visible, cluster.as_deref(), &hidden, window).await
                })
            });
            Ok((total, page.await?))
        })
    }

    fn pending(&self) -> StoreFuture<'_, Vec<Row>> {
        Box::pin(self.pool.read(|client| {
            Box::pin(async move { all(client, "phase = 'sending' ORDER BY id", &[]).await })
        }))
    }

    fn take_over(&self) -> StoreFuture<'_, Vec<Row>> {
        let taken = self.pool.write(move |tx| {
            let process = self.process.clone();
            Box::pin(async move { write::take_over(tx, &process).await })
        });
        Box::pin(taken)
    }

    fn live(&self, cluster: String) -> StoreFuture<'_, i64> {
        Box::pin(self.pool.read(move |client| {
            let cluster = cluster.clone();
            Box::pin(async move {
                let statement = "SELECT coalesce(sum(live), 0)::bigint FROM counts WHERE owner = '' AND cluster = $1";
                let rows = client.rows(statement, &[&cluster]).await?;
                rows.first().map_or(Ok(0), |row| row.try_get(0))
            })
        }))
    }

    fn live_ids(&self, cluster: String) -> StoreFuture<'_, Vec<GatewayId>> {
        Box::pin(self.pool.read(move |client| {
            let cluster = cluster.clone();
            Box::pin(async move {
                let statement = "SELECT id FROM batches WHERE cluster = $1 AND phase IN ('sending', 'bound') AND ended_ms IS NULL
                    AND phase = 'bound' AND NOT adopted ORDER BY id";
                let rows = client.rows(statement, &[&cluster]).await?;
                rows.iter().map(|row| row.try_get(0).map(GatewayId)).collect()
            })
        }))
    }

    fn to_kill(&self, cluster: String) -> StoreFuture<'_, Vec<Row>> {
        Box::pin(self.pool.read(move |client| {
            let cluster = cluster.clone();
            Box::pin(async move {
                let filter =
                    "cluster = $1 AND kill_asked AND phase IN ('sending', 'bound') ORDER BY id";
                all(client, filter, &[&cluster]).await
            })
        }))
    }

    fn may_arrive(
        &self,
        cluster: String,
        since: Moment,
        after: GatewayId,
        limit: usize,
    ) -> StoreFuture<'_, Vec<Row>> {
        Box::pin(self.pool.read(move |client| {
            let cluster = cluster.clone();
            Box::pin(async move {
                // What has ended well, or badly, in its cluster's words is nothing to look for.
                let filter = "cluster = $1 AND may_arrive AND phase IN ('refused', 'detached', 'deleted')
                    AND (upstream_id IS NULL OR phase = 'deleted' OR state = 'error')
                    AND (created_ms >= $2 OR created_up_ms >= $3 OR ended_ms >= $2 OR ended_up_ms >= $3 OR resolved_ms >= $2 OR resolved_up_ms >= $3)
                    AND id > $4 ORDER BY id LIMIT $5";
                let limit = i64::try_from(limit).unwrap_or(i64::MAX);
                all(client, filter, &[&cluster, &since.wall_ms, &since.up_ms, &after.0, &limit]).await
            })
        }))
    }

    fn give_up_arrivals(&self, cluster: String) -> StoreFuture<'_, ()> {
        Box::pin(self.pool.write(move |tx| {
            let cluster = cluster.clone();
            Box::pin(async move {
                let statement = "UPDATE batches SET may_arrive = false, version = version + 1 WHERE cluster = $1 AND may_arrive";
                tx.change(statement, &[&cluster]).await.map(drop)
            })
        }))
    }

    fn had_id(
        &self,
        cluster: String,
        upstream_id: String,
        but: GatewayId,
    ) -> StoreFuture<'_, Vec<Row>> {
        Box::pin(self.pool.read(move |client| {
            let (cluster, upstream_id) = (cluster.clone(), upstream_id.clone());
            Box::pin(async move {
                // In the words of the two indexes.
                let filter = "id <> $3 AND id IN (SELECT id FROM batches WHERE cluster = $1 AND upstream_id = $2 AND phase = 'bound'
                    UNION ALL SELECT id FROM batches WHERE cluster = $1 AND upstream_id = $2 AND phase IN ('deleted', 'detached'))";
                all(client, filter, &[&cluster, &upstream_id, &but.0]).await
            })
        }))
    }

    fn was_alone(&self, cluster: String, but: GatewayId, since: Moment) -> StoreFuture<'_, bool> {
        Box::pin(self.pool.read(move |client| {
            let cluster = cluster.clone();
            Box::pin(async move {
                let filter = "cluster = $1 AND id <> $2 AND sent_name IS NULL AND NOT adopted AND (phase = 'sending'
                    OR (upstream_id IS NULL AND NOT absent AND phase IN ('detached', 'deleted') AND ended_up_ms >= $3)) LIMIT 1";
                let others = all(client, filter, &[&cluster, &but.0, &since.up_ms]).await?;
                Ok(others.is_empty())
            })
        }))
    }

    fn was_submitted_again(
        &self,
        owner: Option<String>,
        body_hash: Option<String>,
        after: GatewayId,
    ) -> StoreFuture<'_, bool> {
        Box::pin(self.pool.read(move |client| {
            let (owner, body_hash) = (owner.clone(), body_hash.clone());
            Box::pin(async move {
                let statement = "SELECT 1 FROM batches WHERE owner = $1 AND id > $3 AND idempotency_hash = $2 AND phase <> 'refused' LIMIT 1";
                let rows = client.rows(statement, &[&owner, &body_hash, &after.0]).await?;
                Ok(!rows.is_empty())
            })
        }))
    }

    fn sweep(&self, retain: Duration, now: Moment) -> StoreFuture<'_, usize> {
        Box::pin(async move {
            let (mut swept, mut after) = (0, 0);
            loop {
                let part = self.pool.write(move |tx| {
                    Box::pin(async move { list::sweep(tx, after, retain, now).await })
                });
                let (part, last) = part.await?;
                swept += part;
                match last {
                    Some(last) => after = last,
                    None => return Ok(swept),
                }
            }
        })
    }

    fn orders(&self) -> StoreFuture<'_, Vec<Order>> {
        Box::pin(self.pool.read(|client| {
            Box::pin(async move {
                let statement =
                    "SELECT cluster, wish, since_ms, given_by FROM orders ORDER BY cluster, wish";
                let rows = client.rows(statement, &[]).await?;
                rows.iter().map(read_order).collect()
            })
        }))
    }

    fn give_order(&self, order: Order) -> StoreFuture<'_, Order> {
        let given = self.pool.write(move |tx| {
            let order = order.clone();
            Box::pin(async move {
                // Changes nothing, but returns the order that holds, also one that was given at the same moment.
                let statement = "INSERT INTO orders AS o (cluster, wish, since_ms, given_by) VALUES ($1, $2, $3, $4)
                     ON CONFLICT (cluster, wish) DO UPDATE SET wish = o.wish RETURNING cluster, wish, since_ms, given_by";
                let wish = order.wish.as_str();
                let rows = tx.rows(statement, &[&order.cluster, &wish, &order.since_ms, &order.by]).await?;
                rows.first().map_or(Ok(order), read_order)
            })
        });
        Box::pin(async move {
            let order = given.await?;
            self.mouth.say_orders();
            Ok(order)
        })
    }

    fn lift_order(&self, cluster: String, wish: Wish) -> StoreFuture<'_, bool> {
        let lifted = self.pool.write(move |tx| {
            let cluster = cluster.clone();
            Box::pin(async move {
                let statement = "DELETE FROM orders WHERE cluster = $1 AND wish = $2";
                Ok(tx.change(statement, &[&cluster, &wish.as_str()]).await? > 0)
            })
        });
        Box::pin(async move {
            let lifted = lifted.await?;
            self.mouth.say_orders();
            Ok(lifted)
        })
    }

    fn uptime_ms(&self) -> StoreFuture<'_, i64> {
        self.beat(0)
    }

    fn beat(&self, _: i64) -> StoreFuture<'_, i64> {
        Box::pin(self.pool.write(move |tx| {
            let process = self.process.clone();
            Box::pin(async move {
                hold(tx, &format!("process/{process}"), &process).await?;
                // The database's clock counts, but none of its jumps.
                let statement = "UPDATE uptime SET noted = clock_timestamp(), uptime_ms = uptime_ms
                    + least(greatest(extract(epoch FROM clock_timestamp() - noted) * 1000, 0), $1::bigint)::bigint RETURNING uptime_ms";
                let most = crate::clock::millis(LONGEST_BEAT);
                let rows = tx.rows(statement, &[&most]).await?;
                rows.first().map_or(Ok(0), |row| row.try_get(0))
            })
        }))
    }

    fn is_worked_on_elsewhere(&self, id: GatewayId) -> StoreFuture<'_, bool> {
        Box::pin(self.pool.read(move |client| {
            let process = self.process.clone();
            Box::pin(async move {
                let statement = "SELECT 1 FROM batches JOIN leases ON leases.name = 'process/' || batches.sender AND until > clock_timestamp()
                    WHERE id = $1 AND phase = 'sending' AND sender <> $2";
                let rows = client.rows(statement, &[&id.0, &&*process]).await?;
                Ok(!rows.is_empty())
            })
        }))
    }

    fn hold(&self, duty: String) -> StoreFuture<'_, bool> {
        Box::pin(self.pool.write(move |tx| {
            let (duty, process) = (duty.clone(), self.process.clone());
            Box::pin(async move { hold(tx, &duty, &process).await })
        }))
    }

    fn close(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async move {
            self.mouth.last_words(&self.pool, &self.process).await;
            let released = self.pool.write(move |tx| {
                let process = self.process.clone();
                Box::pin(async move {
                    tx.change("DELETE FROM leases WHERE holder = $1", &[&&*process])
                        .await
                })
            });
            if let Err(error) = released.await {
                tracing::warn!(%error, "the others learn only when the leases run out that this one has ended");
            }
            self.pool.close();
        })
    }
}

/// Takes, or goes on with, a lease; false if another process has it.
async fn hold(
    tx: &deadpool_postgres::Transaction<'_>,
    lease: &str,
    process: &str,
) -> Result<bool, Error> {
    let statement = "INSERT INTO leases AS l (name, holder, until) VALUES ($1, $2, clock_timestamp() + $3 * interval '1 millisecond')
        ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, until = excluded.until
            WHERE l.holder = excluded.holder OR l.until < clock_timestamp()
        RETURNING holder";
    #[expect(clippy::cast_precision_loss, reason = "a few thousand milliseconds")]
    let length = LEASE.as_millis() as f64;
    let rows = tx.rows(statement, &[&lease, &process, &length]).await?;
    Ok(!rows.is_empty())
}
