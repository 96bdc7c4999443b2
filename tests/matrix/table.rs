//! The table, and the page of the documentation that shows a real report.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

const OPERATIONS: [&str; 10] = [
    "submit", "poll", "log", "list", "kill", "failing", "auth", "retry", "pyspark", "jvm",
];

/// What became of one operation of one client at one server.
#[derive(Clone, Debug)]
pub(crate) struct Cell {
    server: String,
    client: String,
    operation: String,
    /// `ok`, or why not.
    pub(crate) verdict: String,
}

impl Cell {
    pub(crate) fn new(server: &str, client: &str, operation: &str, verdict: &str) -> Cell {
        Cell {
            server: server.into(),
            client: client.into(),
            operation: operation.into(),
            verdict: verdict.into(),
        }
    }

    /// Reads a line of a client's script: `cell`, client, operation, verdict and reason, with tabs
    /// between.
    pub(crate) fn read(server: &str, line: &str) -> Option<Cell> {
        let parts: Vec<&str> = line.split('\t').collect();
        match parts.as_slice() {
            ["cell", client, operation, "ok", ..] => {
                Some(Cell::new(server, client, operation, "ok"))
            }
            ["cell", client, operation, verdict, why @ ..] => Some(Cell::new(
                server,
                client,
                operation,
                &format!("{verdict} {}", why.join(" ")),
            )),
            _ => None,
        }
    }
}

pub(crate) struct Table(Vec<Cell>);

impl Table {
    pub(crate) fn new(cells: Vec<Cell>) -> Table {
        Table(cells)
    }

    /// Tells whether there are cells, and all of them are good and have a column.
    pub(crate) fn passed(&self) -> bool {
        !self.0.is_empty()
            && self
                .0
                .iter()
                .all(|cell| cell.verdict == "ok" && OPERATIONS.contains(&cell.operation.as_str()))
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rows: Vec<(&str, &str)> = Vec::new();
        let mut marks: BTreeMap<(&str, &str, &str), bool> = BTreeMap::new();
        for cell in &self.0 {
            let row = (cell.server.as_str(), cell.client.as_str());
            if !rows.contains(&row) {
                rows.push(row);
            }
            *marks.entry((row.0, row.1, &cell.operation)).or_insert(true) &= cell.verdict == "ok";
        }
        writeln!(
            f,
            "\n{:<23}{:<19}{}",
            "server",
            "client",
            OPERATIONS.map(|name| format!("{name:<9}")).concat()
        )?;
        for (server, client) in rows {
            let mark = |operation: &&str| match marks.get(&(server, client, *operation)) {
                None => "-",
                Some(true) => "ok",
                Some(false) => "FAILED",
            };
            writeln!(
                f,
                "{server:<23}{client:<19}{}",
                OPERATIONS
                    .iter()
                    .map(|name| format!("{:<9}", mark(name)))
                    .collect::<String>()
            )?;
        }
        for cell in self.0.iter().filter(|cell| cell.verdict != "ok") {
            writeln!(
                f,
                "\n{}, {}, {}: {}",
                cell.server, cell.client, cell.operation, cell.verdict
            )?;
        }
        let failed = self.0.iter().filter(|cell| cell.verdict != "ok").count();
        write!(
            f,
            "\nmatrix result: {}. {} passed; {failed} failed",
            if self.passed() { "ok" } else { "FAILED" },
            self.0.len() - failed
        )
    }
}

/// Compares the report that `docs/certify.md` shows with a real one; `LIVY_GATEWAY_WRITE_DOCS=1`
/// writes it instead.
pub(crate) fn assert_page_is_true(url: &str, report: &str) {
    const BEGIN: &str = "<!-- a real Apache Livy 0.7.1, written by the matrix -->\n```text\n";
    const END: &str = "```\n<!-- end -->\n";
    let report = report.replace(url.trim_end_matches('/'), "http://127.0.0.1:8998");
    let report = report
        .split_inclusive('\n')
        .map(without_seconds)
        .collect::<String>();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/certify.md");
    let page = std::fs::read_to_string(&path).expect("docs/certify.md is there");
    let (head, rest) = page.split_once(BEGIN).expect("the page shows a report");
    let (shown, tail) = rest.split_once(END).expect("and the report ends");
    if std::env::var_os("LIVY_GATEWAY_WRITE_DOCS").is_some() {
        std::fs::write(path, format!("{head}{BEGIN}{report}{END}{tail}")).expect("is writable");
        return;
    }
    assert!(
        shown == report,
        "docs/certify.md shows another report than {url} gives: LIVY_GATEWAY_WRITE_DOCS=1 cargo test --test matrix\n{report}"
    );
}

/// Takes the time out of the last line: `…, in 23.1 s`.
fn without_seconds(line: &str) -> String {
    match line.split_once(" skipped, in ") {
        Some((counts, _)) => format!("{counts} skipped, in 23.1 s\n"),
        None => line.to_owned(),
    }
}
