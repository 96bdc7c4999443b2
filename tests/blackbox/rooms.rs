//! The order of the source: a room imports only rooms below it, and no file imports, by whatever
//! way round, a file that imports it.
//!
//! The graph is read from the text: every `use`, and every path that begins with `crate`, `self`,
//! `super` or a module of the file's own, leads to the file of the innermost module that it names.
//! A re-export is an import by the file that it stands in. Tests are left out.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;

/// A module, from the root of the crate.
type Module = Vec<String>;

/// Source files by their modules.
type Files = BTreeMap<Module, String>;

/// Which files import which, by their modules.
type Graph = BTreeMap<Module, BTreeSet<Module>>;

#[test]
fn a_room_imports_only_rooms_below_it() {
    let files = source();
    let lib = &files[&Module::new()];
    let listed = lib.lines().filter_map(|line| line.strip_prefix("//! - [`"));
    let rooms: Vec<&str> = listed.filter_map(|line| line.split('`').next()).collect();
    let declared = lib.lines().filter_map(|line| line.strip_prefix("pub mod "));
    let mut declared: Vec<&str> = declared.map(|line| line.trim_end_matches(';')).collect();
    let mut sorted = rooms.clone();
    declared.sort_unstable();
    sorted.sort_unstable();
    assert_eq!(sorted, declared, "lib.rs lists other rooms than it has");
    let floor = |module: &Module| {
        let room = module.first()?;
        rooms.iter().position(|listed| listed == room)
    };
    let mut upward = Vec::new();
    let graph = graph(&files);
    for (from, imported) in &graph {
        for to in imported {
            if floor(to) < floor(from) && !to.is_empty() {
                upward.push(format!(
                    "{} imports {}",
                    file(&graph, from),
                    file(&graph, to)
                ));
            }
        }
    }
    assert!(upward.is_empty(), "{upward:#?}");
}

#[test]
fn no_files_import_each_other() {
    let circles = circles(&graph(&source()));
    assert!(circles.is_empty(), "files import each other: {circles:#?}");
}

#[test]
fn circles_are_found_by_whatever_way_they_go() {
    let round = |parent: &str, child: &str, sibling: &str| {
        let files = [
            ("", "pub mod a;"),
            ("a", parent),
            ("a::b", child),
            ("a::c", sibling),
        ];
        let files = files.map(|(module, text)| (parts(module), text.to_owned()));
        circles(&graph(&files.into()))
    };
    let none = Vec::<String>::new();
    let mods = "mod b; mod c;";
    let reexport = "mod b; mod c; pub use b::B; pub use c::C;";
    assert_eq!(round(mods, "use super::c::C;", "pub struct C;"), none);
    assert_eq!(round(mods, "use super::A;", "use super::b::B;"), none);
    assert_eq!(round(reexport, "use super::c::C;", ""), none);
    // Between siblings, by `super`, by `crate`, in a group, without `use`.
    let pair = vec!["src/a/b.rs -> src/a/c.rs -> src/a/b.rs".to_owned()];
    assert_eq!(round(mods, "use super::c::C;", "use crate::a::b::B;"), pair);
    let group = "use crate::{a::{b::{self, B}}};";
    assert_eq!(round(mods, "fn f() { super::c::f() }", group), pair);
    // Through what the parent hands on, or does itself.
    let parent = vec!["src/a/mod.rs -> src/a/b.rs -> src/a/mod.rs".to_owned()];
    assert_eq!(round(reexport, "use super::C;", ""), parent);
    assert_eq!(round(reexport, "use super::*;", ""), parent);
    let calls = "mod b; mod c; fn f() { b::f() }";
    assert_eq!(round(calls, "use crate::a::A;", ""), parent);
    // What is no code, and what is a test.
    let quoted = "/* super::c */ // super::c\nfn f<'a>() { (\"super::c\", 'x', r#\"super::c\"#) }";
    assert_eq!(round(mods, quoted, "use super::b;"), none);
    let visible = "pub(in super::c) fn f() {}";
    assert_eq!(round(mods, visible, "use super::b;"), none);
    let tested = "#[cfg(test)]\nmod tests { use super::super::c; fn f() {} } fn g() {}";
    assert_eq!(round(mods, tested, "use super::b;"), none);
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Reads the source files of the gateway. The dialect is a crate of its own.
fn source() -> Files {
    let root = root().join("src");
    let mut files = Files::new();
    let mut folders = vec![(root.clone(), Module::new())];
    while let Some((folder, module)) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("is a folder") {
            let path = entry.expect("is readable").path();
            let name = path.file_stem().expect("has a name").to_string_lossy();
            let inner = [&module[..], &[name.to_string()]].concat();
            if path.is_dir() {
                if path != root.join("dialect") {
                    folders.push((path, inner));
                }
            } else if path.extension().is_some_and(|kind| kind == "rs") && name != "main" {
                let is_head = name == "mod" || name == "lib";
                let text = std::fs::read_to_string(&path).expect("is text");
                files.insert(if is_head { module.clone() } else { inner }, text);
            }
        }
    }
    assert!(files.len() > 100, "these are not the sources");
    files
}

/// Names the file of a module, for people.
fn file(graph: &Graph, module: &Module) -> String {
    let next = graph.keys().find(|other| *other > module);
    let has_folder = next.is_some_and(|next| next.starts_with(module));
    match (module.join("/"), has_folder) {
        (path, _) if path.is_empty() => "src/lib.rs".to_owned(),
        (path, true) => format!("src/{path}/mod.rs"),
        (path, false) => format!("src/{path}.rs"),
    }
}

fn parts(path: &str) -> Module {
    let parts = path.split("::").filter(|part| !part.is_empty());
    parts.map(str::to_owned).collect()
}

fn graph(files: &Files) -> Graph {
    let imported = |(module, text): (&Module, &String)| {
        let tokens = tokens(text);
        let own = own_modules(&tokens);
        let paths = paths(&tokens).into_iter();
        let absolute = paths.filter_map(|path| absolute(module, &own, path));
        let mut imported: BTreeSet<Module> = absolute.map(|path| innermost(files, path)).collect();
        imported.remove(module);
        (module.clone(), imported)
    };
    files.iter().map(imported).collect()
}

/// Cuts the code of a file into words and signs, without comments, literals and tests.
fn tokens(text: &str) -> Vec<String> {
    let mut tokens: Vec<String> = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => rest.find("*/").expect("is closed") + 2,
            '"' => quoted(rest),
            'r' if rest.starts_with("r\"") || rest.starts_with("r#") => {
                let hashes = "#".repeat(rest[1..].chars().take_while(|sign| *sign == '#').count());
                let open = 2 + hashes.len();
                let close = format!("\"{hashes}");
                open + rest[open..].find(&close).expect("is closed") + close.len()
            }
            '\'' if rest[1..].starts_with('\\') => 3 + rest[3..].find('\'').expect("is closed") + 1,
            '\'' => match rest.char_indices().nth(2) {
                Some((at, '\'')) => at + 1,
                // A lifetime.
                _ => 1,
            },
            _ if is_word(first) => {
                let word = rest.find(|sign| !is_word(sign)).unwrap_or(rest.len());
                tokens.push(rest[..word].to_owned());
                word
            }
            _ if rest.starts_with("::") => {
                tokens.push("::".to_owned());
                2
            }
            _ => {
                if !first.is_whitespace() {
                    tokens.push(first.to_string());
                }
                first.len_utf8()
            }
        };
        rest = &rest[length..];
    }
    without_tests(tokens)
}

fn is_word(sign: char) -> bool {
    sign.is_alphanumeric() || sign == '_'
}

/// Returns the length of the literal that a text begins with.
fn quoted(text: &str) -> usize {
    let mut escaped = false;
    let end = text.char_indices().skip(1).find(|(_, sign)| {
        let ends = *sign == '"' && !escaped;
        escaped = *sign == '\\' && !escaped;
        ends
    });
    end.expect("is closed").0 + 1
}

/// Leaves out the items that only tests are built with.
fn without_tests(tokens: Vec<String>) -> Vec<String> {
    const MARK: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let mut kept = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if tokens[at..].len() >= MARK.len() && tokens[at..at + MARK.len()] == MARK {
            at = end_of_item(&tokens, at + MARK.len());
        } else {
            kept.push(tokens[at].clone());
            at += 1;
        }
    }
    kept
}

/// Returns the position behind the item that begins at one.
fn end_of_item(tokens: &[String], from: usize) -> usize {
    let mut depth = 0;
    for (at, token) in tokens.iter().enumerate().skip(from) {
        match token.as_str() {
            "{" => depth += 1,
            "}" if depth == 1 => return at + 1,
            "}" => depth -= 1,
            ";" if depth == 0 => return at + 1,
            _ => {}
        }
    }
    tokens.len()
}

/// Finds the modules that a file declares.
fn own_modules(tokens: &[String]) -> BTreeSet<&str> {
    let declared = tokens.windows(3).filter(|three| three[0] == "mod");
    declared.map(|three| three[1].as_str()).collect()
}

/// Finds every path in a file.
fn paths(tokens: &[String]) -> Vec<Module> {
    let mut paths = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        at = match tokens[at].as_str() {
            // How far something is visible is no import.
            "in" if at > 0 && tokens[at - 1] == "(" => plain(tokens, at + 1).1,
            "use" => tree(tokens, at + 1, &[], &mut paths),
            word if word.starts_with(is_word) => {
                let (path, end) = plain(tokens, at);
                // One word alone is a name of something here.
                paths.extend((path.len() > 1).then_some(path));
                end
            }
            // What is behind a type's `>::` is its own.
            "::" => at + 2,
            _ => at + 1,
        };
    }
    paths
}

/// Reads one path; returns the position behind it.
fn plain(tokens: &[String], from: usize) -> (Module, usize) {
    let mut path = vec![tokens[from].clone()];
    let mut at = from + 1;
    while let [colons, word, ..] = &tokens[at..]
        && colons == "::"
        && word.starts_with(is_word)
    {
        path.push(word.clone());
        at += 2;
    }
    (path, at)
}

/// Reads what a `use` names, one branch of it; returns the position behind it.
fn tree(tokens: &[String], from: usize, stem: &[String], paths: &mut Vec<Module>) -> usize {
    let mut path = stem.to_vec();
    let mut at = from;
    while let Some(token) = tokens.get(at) {
        match token.as_str() {
            "{" => {
                at += 1;
                while tokens[at] != "}" {
                    at = tree(tokens, at, &path, paths);
                    at += usize::from(tokens[at] == ",");
                }
                return at + 1;
            }
            "," | "}" | ";" => break,
            // A new name for it.
            "as" => at += 1,
            "self" if !path.is_empty() => {}
            word if word.starts_with(is_word) => path.push(word.to_owned()),
            _ => {}
        }
        at += 1;
    }
    paths.push(path);
    at
}

/// Returns a path from the root of the crate, if it leads to something of it.
fn absolute(module: &Module, own: &BTreeSet<&str>, path: Module) -> Option<Module> {
    let (first, rest) = path.split_first()?;
    let ups = path.iter().take_while(|part| *part == "super").count();
    match first.as_str() {
        "crate" => Some(rest.to_vec()),
        "self" => Some([module, rest].concat()),
        "super" => {
            let outer = &module[..module.len().checked_sub(ups)?];
            Some([outer, &path[ups..]].concat())
        }
        word if own.contains(word) => Some([&module[..], &path[..]].concat()),
        _ => None,
    }
}

/// Returns the innermost module of a path that has a file.
fn innermost(files: &Files, mut path: Module) -> Module {
    while !files.contains_key(&path) {
        path.pop();
    }
    path
}

/// Finds circles: for every file that is in one, a shortest one, each told once.
fn circles(graph: &Graph) -> Vec<String> {
    let mut told = BTreeSet::new();
    let mut circles = Vec::new();
    for module in graph.keys() {
        if !told.contains(module)
            && let Some(circle) = way_back(graph, module)
        {
            let files: Vec<String> = circle.iter().map(|module| file(graph, module)).collect();
            circles.push(files.join(" -> "));
            told.extend(circle);
        }
    }
    circles
}

/// Finds a shortest way from a file back to itself.
fn way_back(graph: &Graph, from: &Module) -> Option<Vec<Module>> {
    let mut came_from = BTreeMap::new();
    let mut open = VecDeque::from([from]);
    while let Some(at) = open.pop_front() {
        for next in &graph[at] {
            if next == from {
                let mut way = vec![from.clone(), at.clone()];
                while way[way.len() - 1] != *from {
                    let last: &Module = came_from[&way[way.len() - 1]];
                    way.push(last.clone());
                }
                way.reverse();
                return Some(way);
            }
            if !came_from.contains_key(next) {
                came_from.insert(next.clone(), at);
                open.push_back(next);
            }
        }
    }
    None
}
