//! What each flavor does with each field and operation: the source of `docs/flavors.md`, and of
//! every refusal.

use std::fmt::Write as _;

use crate::flavor::{Dialect, Flavor, Operation, Unsupported};
use crate::model::{BatchSpec, Field};

/// What becomes of a field or an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Support {
    /// Passed on as it is.
    Native,
    /// Expressed by other means; the text says how.
    Emulated(&'static str),
    /// Refused, or dropped where `on_unsupported: drop` says so; the text says why.
    Refused(&'static str),
}

impl Support {
    fn cell(self) -> String {
        match self {
            Support::Native => "native".to_owned(),
            Support::Emulated(how) => format!("emulated: {how}"),
            Support::Refused(why) => format!("refused: {why}"),
        }
    }
}

/// Returns every field of the submission that the flavor refuses.
pub fn refused_fields(dialect: &dyn Dialect, spec: &BatchSpec) -> Vec<Unsupported> {
    Field::ALL
        .into_iter()
        .filter(|field| spec.has(*field))
        .filter_map(|field| match dialect.support(field) {
            Support::Refused(reason) => Some(Unsupported {
                field,
                conf_key: None,
                reason: reason.to_owned(),
                droppable: true,
            }),
            Support::Native | Support::Emulated(_) => None,
        })
        .collect()
}

/// Writes the two tables of `docs/flavors.md`.
pub fn markdown() -> String {
    let mut page = String::new();
    let flavors = Flavor::ALL.map(|flavor| flavor.dialect());
    let head = |page: &mut String, first: &str| {
        let names = flavors.map(|dialect| dialect.flavor().as_str()).join(" | ");
        let _ = writeln!(
            page,
            "| {first} | {names} |\n| --- | --- | --- | --- | --- | --- |"
        );
    };
    page.push_str("## Request fields\n\n");
    head(&mut page, "field");
    for field in Field::ALL {
        let cells = flavors
            .map(|dialect| dialect.support(field).cell())
            .join(" | ");
        let _ = writeln!(page, "| `{}` | {cells} |", field.name());
    }
    page.push_str("\n## Operations\n\n");
    head(&mut page, "operation");
    for operation in Operation::ALL
        .into_iter()
        .filter(|operation| *operation != Operation::Other)
    {
        let cells = flavors
            .map(|dialect| dialect.operation_support(operation).cell())
            .join(" | ");
        let _ = writeln!(page, "| `{}` | {cells} |", operation.as_str());
    }
    page
}
