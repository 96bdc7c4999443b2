//! Every statement of this store: none is made of parts while the gateway runs, and none stands
//! anywhere else in this folder, so that all of them are made once for each connection, and a test
//! reads how SQLite carries each of them out.
//!
//! To add one: write it here, in the words of the index that it goes by (a partial index is used
//! only by a statement that repeats its `WHERE`). One for each shape of a question: `?1 IS NULL OR
//! …` goes by no index.

use rusqlite::{CachedStatement, Connection};

/// One of the statements below.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sql(&'static str);

impl Sql {
    /// Returns it, made for a connection.
    pub(super) fn on(self, connection: &Connection) -> rusqlite::Result<CachedStatement<'_>> {
        connection.prepare_cached(self.0)
    }
}

macro_rules! statements {
    ($($(#[$doc:meta])* $name:ident = $text:expr;)*) => {
        $($(#[$doc])* pub(super) const $name: Sql = Sql($text);)*

        /// How many there are.
        pub(super) const COUNT: usize = [$($name),*].len();

        #[cfg(test)]
        const ALL: [(&str, Sql); COUNT] = [$((stringify!($name), $name)),*];
    };
}

macro_rules! columns {
    () => {
        "id, cluster, route, lookup_key, sent_name, owner, name, adopted, created_ms, created_up_ms, name_hold_ms,
                idempotency_hash, above, idempotency_key, idempotency_until_ms, idempotency_until_up_ms,
                phase, upstream_id, state, app_id, app_info, log, complete, seen_ms, ended_ms, ended_up_ms, resolved_ms, resolved_up_ms,
                proxy_user, told, echoed, presumed, kill_asked, may_arrive, let_go, quiet_ms, waited_ms, looked_ms, arrived, absent,
                version"
    };
}

/// The columns of a row, in the order in which `rows::read_row` reads them.
pub(in crate::registry) const COLUMNS: &str = columns!();

/// Reads whole rows.
macro_rules! rows {
    ($($rest:expr),*) => {
        concat!("SELECT ", columns!(), " FROM batches ", $($rest),*)
    };
}

/// What clients may know of.
macro_rules! shown {
    () => {
        "phase IN ('sending', 'bound', 'detached')"
    };
}

/// What runs, or may run.
macro_rules! alive {
    () => {
        "phase IN ('sending', 'bound')"
    };
}

/// An end stands, but for what is bound again: it had not ended.
macro_rules! open_end {
    () => {
        "ended_ms IS NULL OR (phase = 'detached' AND :phase IN ('sending', 'bound'))"
    };
}

/// The first rows of a window, from an id on, but for those that are hidden.
macro_rules! window {
    () => {
        concat!(
            shown!(),
            " AND id >= ?1 AND id NOT IN (SELECT value FROM json_each(?2)) ORDER BY id LIMIT ?3 OFFSET ?4"
        )
    };
}

statements! {
    BY_ID = rows!("WHERE id = ?1");
    BY_KEY = rows!("WHERE owner = ?1 AND idempotency_key = ?2");
    HOLDER = rows!("WHERE cluster = ?1 AND upstream_id = ?2 AND phase = 'bound'");
    OTHER_HOLDER = rows!("WHERE cluster = ?1 AND upstream_id = ?2 AND phase = 'bound' AND id <> ?3");

    /// Who holds a name: whoever lives.
    NAME_OF_THE_LIVING = rows!("WHERE name = ?1 AND id <> ?2 AND ended_ms IS NULL AND ", alive!(), " LIMIT 1");
    /// Or else whoever ended last.
    NAME_OF_THE_LAST = rows!("WHERE name = ?1 AND id <> ?2 AND ended_ms IS NOT NULL AND ", alive!(), " ORDER BY ended_ms DESC LIMIT 1");
    NEWEST_OF_NAME = rows!("WHERE name = ?1 AND ", shown!(), " ORDER BY id DESC LIMIT 1");
    NEWEST_OF_NAME_OF_OWNER = rows!("WHERE name = ?1 AND owner = ?2 AND ", shown!(), " ORDER BY id DESC LIMIT 1");
    LIVES_ELSEWHERE = concat!(
        "SELECT EXISTS (SELECT 1 FROM batches WHERE name = ?2 AND cluster <> ?1 AND adopted = 0 AND ended_ms IS NULL AND ", alive!(), ")"
    );

    INSERT = "INSERT INTO batches (cluster, route, lookup_key, sent_name, owner, name, phase, state, created_ms, created_up_ms, name_hold_ms,
             app_info, idempotency_key, idempotency_hash, idempotency_until_ms, idempotency_until_up_ms, told, looked_ms, above, proxy_user,
             version)
         VALUES (:cluster, :route, :key, :sent_name, :owner, :name, 'sending', 'starting', :now, :up, :hold,
             '{\"driverLogUrl\":null,\"sparkUiUrl\":null}', :ikey, :ihash, :iuntil, :iuntil_up, 0, :now, :above, :proxy_user, 1)";
    INSERT_ADOPTED = "INSERT INTO batches (cluster, route, lookup_key, sent_name, owner, name, proxy_user, app_id, adopted, phase, upstream_id,
             state, created_ms, created_up_ms, echoed, version)
         VALUES (?1, '_none', '', ?2, ?3, ?4, ?5, ?6, 1, 'bound', ?7, ?8, ?9, ?10, ?11, 1)";
    LET_GO_OF_KEY = "UPDATE batches SET idempotency_key = NULL WHERE id = ?1";
    GIVE_WAY = "UPDATE batches SET phase = 'refused', idempotency_key = NULL, may_arrive = max(may_arrive, ?2), resolved_ms = ?3,
             resolved_up_ms = ?4, version = version + 1
         WHERE id = ?1 AND phase IN ('sending', 'refused')";
    KEY_OF = "SELECT idempotency_key, idempotency_until_ms, idempotency_until_up_ms FROM batches WHERE id = ?1";
    CLOSE_AGAIN = "UPDATE batches SET phase = 'refused', idempotency_key = NULL, version = version + 1
         WHERE id = ?1 AND id <> ?2 AND phase IN ('sending', 'refused')";
    OPEN_AGAIN = "UPDATE batches SET phase = 'sending', idempotency_key = ?2, idempotency_until_ms = ?3, idempotency_until_up_ms = ?4,
             resolved_ms = NULL, resolved_up_ms = NULL, version = version + 1
         WHERE id = ?1 AND phase IN ('sending', 'refused')";
    /// Phases go forward only; what was given up without the cluster's word, and came late, or lost
    /// its id on another's, may be bound after all.
    SAVE = concat!(
        "UPDATE batches SET phase = :phase, upstream_id = :upstream_id, proxy_user = :proxy_user, app_id = :app_id, app_info = :app_info,
             log = :log, complete = :complete, seen_ms = :seen_ms, told = :told, quiet_ms = :quiet_ms, looked_ms = :looked_ms,
             let_go = :let_go, resolved_ms = :resolved_ms, resolved_up_ms = :resolved_up_ms, waited_ms = :waited_ms, arrived = :arrived,
             absent = :absent, may_arrive = :may_arrive, kill_asked = :kill_asked, echoed = :echoed, presumed = :presumed,
             state = CASE WHEN ", open_end!(), " THEN :state ELSE state END,
             ended_up_ms = CASE WHEN ", open_end!(), " THEN :ended_up_ms ELSE ended_up_ms END,
             ended_ms = CASE WHEN ", open_end!(), " THEN :ended_ms ELSE ended_ms END,
             idempotency_key = CASE WHEN :lets_go THEN NULL ELSE idempotency_key END, version = version + 1
         WHERE id = :id AND version = :version AND (CASE phase WHEN 'sending' THEN 0 WHEN 'bound' THEN 1 WHEN 'refused' THEN 2
                 WHEN 'detached' THEN 3 ELSE 4 END <= :rank
             OR (:phase IN ('sending', 'bound') AND (may_arrive = 1 AND phase = 'refused' OR phase = 'detached')))"
    );

    /// Whether a submission that no name would tell is under way.
    UNNAMED_ON_ITS_WAY =
        "SELECT EXISTS (SELECT 1 FROM batches WHERE phase = 'sending' AND cluster = ?1 AND sent_name IS NULL AND adopted = 0)";
    /// The rows that a batch of a list may have to do with, newest first: the first ones of each kind.
    /// What was bound under a name that a client chose is known by its upstream id only. Of a key of
    /// ours it does not matter which cluster it went to: two of them may be one server.
    RELATED = rows!(
        "WHERE id IN (
             SELECT id FROM (SELECT id FROM batches WHERE lookup_key = ?2 AND adopted = 0 AND id < ?4 ORDER BY id DESC LIMIT 20)
             UNION ALL SELECT id FROM (SELECT id FROM batches WHERE cluster = ?1 AND sent_name = ?3 AND id < ?4
                 AND (phase IN ('sending', 'refused') OR may_arrive = 1 OR sent_name = 'livy-gateway-' || lookup_key) ORDER BY id DESC LIMIT 20)
             UNION ALL SELECT id FROM (SELECT id FROM batches WHERE cluster = ?1 AND upstream_id = ?2 AND phase IN ('deleted', 'detached')
                 AND id < ?4 ORDER BY id DESC LIMIT 20))
         ORDER BY id DESC LIMIT 20"
    );

    SHOWS_NAMES = "SELECT coalesce(max(echoed), 0)
         FROM (SELECT echoed FROM batches WHERE cluster = ?1 AND phase <> 'sending' ORDER BY id DESC LIMIT 50)";
    OPEN = rows!("WHERE phase = 'sending' ORDER BY id");
    LIVE = "SELECT coalesce((SELECT batches FROM live WHERE cluster = ?1), 0)";
    LIVE_IDS = concat!("SELECT id FROM batches WHERE cluster = ?1 AND ended_ms IS NULL AND ", alive!(), "
             AND phase = 'bound' AND adopted = 0 ORDER BY id");
    TO_KILL = rows!("WHERE cluster = ?1 AND kill_asked = 1 AND ", alive!(), " ORDER BY id");
    /// What has ended well, or badly, in its cluster's words is nothing to look for.
    MAY_ARRIVE = rows!(
        "WHERE cluster = ?1 AND may_arrive = 1 AND phase IN ('refused', 'detached', 'deleted')
             AND (upstream_id IS NULL OR phase = 'deleted' OR state = 'error')
             AND (created_ms >= ?2 OR created_up_ms >= ?3 OR ended_ms >= ?2 OR ended_up_ms >= ?3 OR resolved_ms >= ?2 OR resolved_up_ms >= ?3)
             AND id > ?4 ORDER BY id LIMIT ?5"
    );
    GIVE_UP_ARRIVALS = "UPDATE batches SET may_arrive = 0, version = version + 1 WHERE cluster = ?1 AND may_arrive = 1";
    HAD_ID = rows!(
        "WHERE id <> ?3 AND id IN (SELECT id FROM batches WHERE cluster = ?1 AND upstream_id = ?2 AND phase = 'bound'
             UNION ALL SELECT id FROM batches WHERE cluster = ?1 AND upstream_id = ?2 AND phase IN ('deleted', 'detached'))"
    );
    SUBMITTED_AGAIN = "SELECT EXISTS (SELECT 1 FROM batches WHERE owner = ?1 AND idempotency_hash = ?2 AND id > ?3 AND phase <> 'refused')";
    WAS_ALONE = "SELECT NOT EXISTS (SELECT 1 FROM batches WHERE cluster = ?1 AND id <> ?2 AND phase = 'sending' AND sent_name IS NULL
             AND adopted = 0)
         AND NOT EXISTS (SELECT 1 FROM batches WHERE cluster = ?1 AND id <> ?2 AND phase IN ('detached', 'deleted') AND upstream_id IS NULL
             AND absent = 0 AND sent_name IS NULL AND adopted = 0 AND ended_up_ms >= ?3)";

    /// The blocks of a level, from one to before another, that anything is shown of.
    BLOCKS = "SELECT block, shown FROM counts WHERE owner = ?1 AND cluster = ?2 AND level = ?3 AND block >= ?4 AND block < ?5 ORDER BY block";
    /// Those among some ids that are shown at all.
    HIDDEN = concat!("SELECT id, owner, cluster FROM batches WHERE id IN (SELECT value FROM json_each(?1)) AND ", shown!(), " ORDER BY id");
    PAGE = rows!("INDEXED BY batches_shown WHERE ", window!());
    PAGE_OF_CLUSTER = rows!("INDEXED BY batches_shown_of_cluster WHERE cluster = ?5 AND ", window!());
    PAGE_OF_OWNER = rows!("INDEXED BY batches_shown_of_owner WHERE owner = ?5 AND ", window!());
    PAGE_OF_BOTH = rows!("INDEXED BY batches_shown_of_both WHERE owner = ?5 AND cluster = ?6 AND ", window!());

    /// The next rows that ended before a moment, by both clocks.
    ENDED = rows!(
        "INDEXED BY batches_ended WHERE ended_ms IS NOT NULL AND (ended_ms, id) > (?1, ?2) AND ended_ms < ?3
             AND coalesce(ended_up_ms, 0) < ?4 ORDER BY ended_ms, id LIMIT ?5"
    );
    /// The next rows that came to nothing and were recorded before a moment, by both clocks.
    GONE = rows!(
        "INDEXED BY batches_gone WHERE phase IN ('refused', 'deleted') AND ended_ms IS NULL AND (created_ms, id) > (?1, ?2)
             AND created_ms < ?3 AND created_up_ms < ?4 ORDER BY created_ms, id LIMIT ?5"
    );
    DELETE = "DELETE FROM batches WHERE id = ?1";

    ORDERS = "SELECT cluster, wish, since_ms, given_by FROM orders ORDER BY cluster, wish";
    ORDER = "SELECT cluster, wish, since_ms, given_by FROM orders WHERE cluster = ?1 AND wish = ?2";
    GIVE_ORDER = "INSERT INTO orders (cluster, wish, since_ms, given_by) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING";
    LIFT_ORDER = "DELETE FROM orders WHERE cluster = ?1 AND wish = ?2";
    UPTIME = "SELECT value FROM meta WHERE key = 'uptime_ms'";
    BEAT = "UPDATE meta SET value = max(value, ?1) WHERE key = 'uptime_ms' RETURNING value";
    /// Where ids begin, for a table that never had one.
    BEGIN_ABOVE = "INSERT INTO sqlite_sequence (name, seq) VALUES ('batches', ?1)";
    HIGHEST_ID = "SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'batches'), 0)";
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::*;
    use crate::registry::sqlite::schema::prepare;

    /// Tables that are read as a whole: as many rows as there are clusters, or as batches.
    const SMALL: [&str; 2] = ["orders", "sqlite_sequence"];

    /// What a step of a plan is to blame for.
    fn fault(step: &str) -> Option<&'static str> {
        let read = step.strip_prefix("SCAN ");
        let small = |table: &str| {
            SMALL
                .iter()
                .any(|small| table.split(' ').next() == Some(small))
        };
        // What a subquery has found, and what the statement was given.
        let given = |table: &str| {
            table.starts_with('(') || table.starts_with("json_each ") || table == "CONSTANT ROW"
        };
        if read.is_some_and(|table| !small(table) && !given(table)) {
            return Some("it reads a table from end to end");
        }
        if step.contains("USE TEMP B-TREE") {
            return Some("it sorts what it has found");
        }
        // Of the rows from an id on, most are none of those that are looked for.
        if step.contains("INTEGER PRIMARY KEY (rowid>")
            || step.contains("INTEGER PRIMARY KEY (rowid<")
        {
            return Some("it goes through the table by ids");
        }
        step.contains("AUTOMATIC")
            .then_some("it makes an index for itself")
    }

    fn plan(connection: &Connection, sql: &str) -> Vec<String> {
        let mut statement = connection
            .prepare(&format!("EXPLAIN QUERY PLAN {sql}"))
            .expect("is a statement");
        let steps = statement
            .raw_query()
            .mapped(|row| row.get("detail"))
            .collect::<Result<_, _>>();
        steps.expect("is explained")
    }

    #[test]
    fn no_statement_reads_more_than_it_returns() {
        let connection = Connection::open_in_memory().expect("memory");
        prepare(&connection).expect("is prepared");
        let mut faults = Vec::new();
        for (name, sql) in ALL {
            let steps = plan(&connection, sql.0);
            let found = steps.iter().filter_map(|step| fault(step));
            faults.extend(found.map(|fault| format!("{name}: {fault}: {steps:#?}")));
        }
        assert!(faults.is_empty(), "{}", faults.join("\n"));
        // The test itself sees them.
        for bad in [
            "SELECT id FROM batches WHERE route = 'r'",
            "SELECT id FROM batches WHERE cluster = 'c' AND phase <> 'sending' ORDER BY state",
            "SELECT id FROM batches WHERE id > 3 AND adopted = 1",
        ] {
            let steps = plan(&connection, bad);
            assert!(
                steps.iter().any(|step| fault(step).is_some()),
                "{bad}: {steps:#?}"
            );
        }
    }

    /// What stands elsewhere is looked at by nobody.
    #[test]
    fn all_statements_stand_here() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/registry/sqlite");
        for file in std::fs::read_dir(folder).expect("is a folder") {
            let path = file.expect("is readable").path();
            let is_here = path.ends_with("statements.rs") || path.ends_with("tests.rs");
            let text = std::fs::read_to_string(&path).expect("is text");
            let code = text
                .split("#[cfg(test)]\nmod tests {")
                .next()
                .unwrap_or_default();
            for word in [
                "\"SELECT ",
                "\"INSERT ",
                "\"UPDATE ",
                "\"DELETE ",
                "prepare_cached(",
                ".query_row(\"",
                ".execute(\"",
            ] {
                assert!(
                    is_here || !code.contains(word),
                    "{} has {word}",
                    path.display()
                );
            }
        }
    }
}
