//! Pages that are made from the code, and pages that must agree with it.

use std::path::Path;

use testkit::*;

fn page(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap_or_default()
}

/// Compares the generated part of a page with the code; `LIVY_GATEWAY_WRITE_DOCS=1` writes it
/// instead.
fn assert_generated(name: &str, made: &str) {
    const BEGIN: &str = "<!-- made by the tests from the code; do not edit below -->\n";
    let text = page(name);
    let (head, kept) = text.split_once(BEGIN).unwrap_or((text.as_str(), ""));
    if std::env::var_os("LIVY_GATEWAY_WRITE_DOCS").is_some() {
        let whole = format!("{head}{BEGIN}{made}");
        std::fs::write(Path::new(env!("CARGO_MANIFEST_DIR")).join(name), whole)
            .expect("is writable");
        return;
    }
    assert!(
        kept == made,
        "{name} is out of date: LIVY_GATEWAY_WRITE_DOCS=1 cargo test --test blackbox docs"
    );
}

#[test]
fn flavors_page_is_true() {
    assert_generated("docs/flavors.md", &livy_dialect::support::markdown());
}

#[test]
fn certify_page_is_true() {
    assert_generated("docs/certify.md", &livy_gateway::certify::markdown());
}

#[test]
fn errors_page_is_true() {
    assert_generated("docs/errors.md", &livy_gateway::api::error::markdown());
}

/// Adds up the text of all source files below a folder.
fn sources(folder: &Path) -> String {
    let entries = std::fs::read_dir(folder)
        .expect("a folder")
        .filter_map(Result::ok)
        .map(|entry| entry.path());
    entries
        .map(|path| match path.is_dir() {
            true => sources(&path),
            false if path.extension().is_some_and(|end| end == "rs") => {
                std::fs::read_to_string(&path).expect("is text")
            }
            false => String::new(),
        })
        .collect()
}

#[test]
fn every_documented_code_can_be_met() {
    let text = sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    for code in livy_gateway::api::error::Code::ALL {
        let name = format!("Code::{code:?}");
        // The list and the table of `api/error.rs`; whatever answers with it is a third place.
        assert!(
            text.matches(&name).count() > 2,
            "nothing answers with {name}"
        );
    }
}

#[test]
fn metrics_page_names_exactly_what_is_served() {
    let clusters = Clusters::start();
    let gateway = Gateway::over(&clusters);
    let served: Vec<String> = gateway
        .admin("/metrics")
        .text()
        .lines()
        .filter_map(|line| line.strip_prefix("# HELP ")?.split_once(' '))
        .map(|(name, help)| format!("| `{name}` | {help} |\n"))
        .filter(|line| line.contains("livy_gateway_"))
        .collect();
    let text = page("docs/metrics.md");
    for line in &served {
        assert!(
            text.contains(line.as_str()),
            "docs/metrics.md lacks: {line}"
        );
    }
}

#[test]
fn readme_commands_exist() {
    let text = page("README.md");
    for needed in ["cargo run --release -- demo", "cargo test --workspace"] {
        assert!(text.contains(needed), "README.md lacks {needed:?}");
    }
}

#[test]
fn the_dialect_cannot_reach_anything() {
    let manifest = page("src/dialect/Cargo.toml");
    let allowed = [
        "serde",
        "serde_json",
        "strsim",
        "thiserror",
        "percent-encoding",
    ];
    let section = manifest
        .split("[dependencies]")
        .nth(1)
        .and_then(|rest| rest.split("[dev-dependencies]").next())
        .expect("a section");
    let names = section
        .lines()
        .filter_map(|line| line.split_once(" = "))
        .map(|(name, _)| name);
    assert!(
        names.clone().count() > 0 && names.clone().all(|name| allowed.contains(&name)),
        "{section}"
    );
    for file in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/dialect"))
        .expect("a folder")
        .filter_map(Result::ok)
    {
        let text = std::fs::read_to_string(file.path()).unwrap_or_default();
        for word in [
            "std::net",
            "std::fs",
            "std::env",
            "std::process",
            "std::time",
            "std::thread",
        ] {
            assert!(!text.contains(word), "{:?} names {word}", file.path());
        }
    }
}

#[test]
fn the_promises_stand_in_the_readme_word_for_word() {
    let page = page("docs/reliability.md");
    let (_, after) = page.split_once("## The promises\n\n").expect("has them");
    let (promises, _) = after.split_once("\n\n").expect("ends");
    assert_eq!(promises.matches("**Never ").count(), 4, "{promises}");
    assert!(
        self::page("README.md").contains(promises),
        "README.md and docs/reliability.md promise different things"
    );
}

#[test]
fn every_test_that_the_promises_name_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = sources(&root.join("src")) + &sources(&root.join("tests"));
    let page = page("docs/reliability.md");
    let named: Vec<&str> = page
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|word| word.contains("::") && !word.contains(' '))
        .collect();
    assert!(named.len() > 30, "{named:?}");
    for name in named.into_iter().filter(|name| !name.ends_with("::…")) {
        let (_, function) = name.split_once("::").expect("has two parts");
        assert!(
            text.contains(&format!("fn {function}(")),
            "docs/reliability.md names {name}, which is not there"
        );
    }
}
