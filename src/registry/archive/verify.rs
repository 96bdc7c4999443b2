//! `registry verify`: is what is stored what a gateway would have stored?

use super::book::{Answer, Book, Cell, Question};

/// How many of the rows that are wrong are told one by one.
const TOLD: usize = 20;

/// One thing that was looked at.
#[derive(Clone, Debug)]
pub struct Check {
    /// What holds where nothing is wrong.
    pub well: String,
    /// What is wrong instead, a line each.
    pub wrong: Vec<String>,
    /// How many more there are.
    pub more: usize,
}

/// Rows that no gateway writes; in the words of both stores.
const IMPOSSIBLE: [(&str, &str); 9] = [
    (
        "ids are positive and have 32 bits",
        "id < 1 OR id > 2147483647",
    ),
    (
        "what exists has an upstream id",
        "phase = 'bound' AND upstream_id IS NULL",
    ),
    (
        "what does not exist, or may not, has no upstream id",
        "phase IN ('sending', 'refused') AND upstream_id IS NOT NULL",
    ),
    (
        "every phase and every state is one that this version knows",
        "phase NOT IN ('sending', 'bound', 'refused', 'detached', 'deleted')
            OR state NOT IN ('starting', 'running', 'success', 'dead', 'killed', 'error')",
    ),
    (
        "what is being sent has not ended, and does not run",
        "phase = 'sending' AND (ended_ms IS NOT NULL OR state <> 'starting')",
    ),
    // What a list showed ended for the first time gets its end a moment later.
    (
        "what has ended has the moment of its end",
        "phase IN ('bound', 'detached') AND state IN ('success', 'dead', 'killed', 'error') AND ended_ms IS NULL AND seen_ms <> 0",
    ),
    (
        "what has an end has ended",
        "phase IN ('bound', 'detached') AND state NOT IN ('success', 'dead', 'killed', 'error') AND ended_ms IS NOT NULL",
    ),
    (
        "what its cluster no longer has is over",
        "phase = 'detached' AND state NOT IN ('success', 'dead', 'killed', 'error')",
    ),
    (
        "every key has an owner and an end",
        "idempotency_key IS NOT NULL AND (owner IS NULL OR idempotency_until_ms IS NULL)",
    ),
];

/// Two live batches at one place would show one job under two ids.
const TWICE: &str = "SELECT cluster, upstream_id, min(id) AS one, max(id) AS other FROM batches WHERE phase = 'bound'
    GROUP BY cluster, upstream_id HAVING count(*) > 1";

/// Looks at everything.
pub(super) async fn verify(book: &mut dyn Book) -> Result<Vec<Check>, String> {
    let damage = book.damage().await?;
    let mut checks = vec![check("the database is whole", damage)];
    let mut questions = book.questions();
    questions.push(Question {
        well: "no upstream id of a cluster is that of two live batches",
        sql: TWICE.to_owned(),
    });
    let impossible = IMPOSSIBLE.map(|(well, filter)| Question {
        well,
        sql: format!(
            "SELECT id, cluster, phase, state, upstream_id FROM batches WHERE {filter} ORDER BY id"
        ),
    });
    questions.extend(impossible);
    for question in questions {
        let rows = book.ask(question.sql).await?;
        checks.push(check(question.well, rows.iter().map(in_words).collect()));
    }
    Ok(checks)
}

fn check(well: &str, mut wrong: Vec<String>) -> Check {
    let more = wrong.len().saturating_sub(TOLD);
    wrong.truncate(TOLD);
    Check {
        well: well.to_owned(),
        wrong,
        more,
    }
}

fn in_words(row: &Answer) -> String {
    let cell = |(name, cell): &(String, Cell)| format!("{name} {}", cell.text());
    row.iter().map(cell).collect::<Vec<_>>().join(", ")
}
