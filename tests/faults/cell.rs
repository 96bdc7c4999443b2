//! The cells of the matrix: an operation, a fault, and whether the cluster got the request.

use testkit::fault_proxy::{Action, MadeUp};

/// An operation whose request to the cluster meets a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Create,
    Get,
    State,
    Log,
    List,
    Delete,
}

impl Operation {
    pub(crate) const ALL: [Operation; 6] = [
        Operation::Create,
        Operation::Get,
        Operation::State,
        Operation::Log,
        Operation::List,
        Operation::Delete,
    ];

    pub(crate) fn word(self) -> &'static str {
        match self {
            Operation::Create => "create_batch",
            Operation::Get => "get_batch",
            Operation::State => "get_state",
            Operation::Log => "get_log",
            Operation::List => "list_batches",
            Operation::Delete => "delete_batch",
        }
    }

    /// Tells whether it makes a difference that the cluster got the request.
    pub(crate) fn changes(self) -> bool {
        matches!(self, Operation::Create | Operation::Delete)
    }
}

/// A fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nobody listens.
    Refused,
    /// The proxy does this.
    Done(Action),
}

/// One cell.
#[derive(Clone, Debug)]
pub(crate) struct Cell {
    pub(crate) flavor: &'static str,
    pub(crate) file: &'static str,
    pub(crate) operation: Operation,
    pub(crate) fault: Fault,
    /// What the fault is called.
    pub(crate) name: String,
    /// The last argument of its job.
    pub(crate) tag: String,
}

/// Statuses that a front says, whatever the cluster did.
const STATUSES: [u16; 11] = [301, 302, 401, 403, 404, 408, 429, 500, 502, 503, 504];

/// Bodies that no cluster's own software writes.
const BODIES: [(&str, &str, &str); 3] = [
    (
        "HTML",
        "text/html",
        "<html><head><title>A front has something to say</title></head><body></body></html>",
    ),
    ("empty", "", ""),
    ("JSON", "application/json", r#"{"error":"x"}"#),
];

/// Longer than the gateway waits for a create, but not so long that it has looked in vain.
const HELD_FOR_A_WHILE: u64 = 4_500;
/// Longer than that as well: it arrives when it is not expected any more.
const HELD_FOR_LONG: u64 = 9_000;

impl Cell {
    /// Tells whether the cluster gets the request.
    pub(crate) fn passes_on(&self) -> bool {
        match &self.fault {
            Fault::Refused => false,
            Fault::Done(action) => action.passes_on(),
        }
    }

    pub(crate) fn is_held(&self) -> bool {
        matches!(self.fault, Fault::Done(Action::Hold { .. }))
    }

    /// Tells whether nobody else may use its cluster meanwhile: nobody listens, or it is about a
    /// list, which is everybody's.
    pub(crate) fn is_alone(&self) -> bool {
        self.fault == Fault::Refused || self.operation == Operation::List
    }
}

/// Returns all cells of a flavor.
pub(crate) fn of(flavor: &'static str, file: &'static str) -> Vec<Cell> {
    let mut cells = Vec::new();
    for operation in Operation::ALL {
        for (name, fault) in faults(operation) {
            let tag = format!("{flavor}-{}-{}", operation.word(), cells.len());
            cells.push(Cell {
                flavor,
                file,
                operation,
                fault,
                name,
                tag,
            });
        }
    }
    cells
}

fn faults(operation: Operation) -> Vec<(String, Fault)> {
    let mut actions = vec![
        ("cut".to_owned(), Action::CutBefore),
        ("cut".to_owned(), Action::CutAfter),
    ];
    for passed_on in [false, true] {
        actions.push(("stalled".to_owned(), Action::Stall { passed_on }));
        actions.push((
            "half an answer".to_owned(),
            Action::HalfAnswer { passed_on },
        ));
        for status in std::iter::once(200).chain(STATUSES) {
            for (what, content_type, body) in BODIES {
                let location = matches!(status, 301 | 302).then(|| "/login".to_owned());
                let made_up = MadeUp {
                    status,
                    content_type: content_type.into(),
                    body: body.into(),
                    location,
                    passed_on,
                };
                actions.push((format!("{status} {what}"), Action::Answer(made_up)));
            }
        }
    }
    let mut faults = vec![("refused".to_owned(), Fault::Refused)];
    for (name, action) in actions {
        let moment = if action.passes_on() {
            "after"
        } else {
            "before"
        };
        // What is only looked at is the same before and after.
        if operation.changes() || !action.passes_on() {
            let name = if operation.changes() {
                format!("{name}, {moment}")
            } else {
                name
            };
            faults.push((name, Fault::Done(action)));
        }
    }
    if operation == Operation::Create {
        for ms in [HELD_FOR_A_WHILE, HELD_FOR_LONG] {
            faults.push((
                format!("held for {ms} ms"),
                Fault::Done(Action::Hold { ms }),
            ));
        }
    }
    faults
}
