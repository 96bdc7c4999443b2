//! Compares the tree with the JSON Schema: unknown keys, missing keys and wrong types, all of them
//! at once.
//!
//! What does not fit is reported and left out of the value that goes on, so that one mistake never
//! hides another. The schema is made from the types in `raw`, so a key is written down once.

use serde_json::{Map, Value};

use super::hidden;
use super::path::{Step, show};
use super::problem::{Place, Problem};
use super::tree::{Entry, Kind, Node};

/// Keys that are documented and not built yet; `*` is one step.
const NOT_YET: [&str; 18] = [
    "server.tls.client_ca_file",
    "server.tls.sni",
    "server.trusted_proxies",
    "authenticators.*.ldap",
    "authenticators.*.tokens",
    "authenticators.*.mtls",
    "authenticators.*.token_review",
    "clusters.*.credentials.managed_identity",
    "clusters.*.defaults",
    "clusters.*.force",
    "clusters.*.deny",
    "telemetry",
    "clusters.*.credentials.spnego",
    "clusters.*.credentials.sigv4",
    "clusters.*.flavor.lighter",
    "clusters.*.flavor.synapse",
    "clusters.*.flavor.fabric",
    "clusters.*.flavor.emr_serverless",
];

/// How a problem names a value that it does not quote.
const UNSHOWN: &str = "something that is not shown (it may be a secret)";

/// Returns the JSON Schema of `routes.yaml`.
pub fn schema() -> Value {
    let mut schema =
        serde_json::to_value(schemars::schema_for!(super::raw::RawConfig)).unwrap_or_default();
    schema["title"] = Value::from("livy-gateway routes.yaml");
    schema
}

/// Checks the tree and returns what is left of it.
pub(crate) fn check(root: &Node, problems: &mut Vec<Problem>) -> Value {
    let schema = schema();
    let mut checker = Checker {
        root: &schema,
        problems,
        path: Vec::new(),
    };
    checker
        .node(root, &schema, root.place)
        .unwrap_or_else(|| Value::Object(Map::new()))
}

struct Checker<'a> {
    root: &'a Value,
    problems: &'a mut Vec<Problem>,
    path: Vec<Step>,
}

impl<'a> Checker<'a> {
    fn node(&mut self, node: &Node, schema: &'a Value, place: Place) -> Option<Value> {
        let schema = self.choose(node, schema);
        if !accepts(schema, node) {
            self.wrong_type(node, schema, place);
            return None;
        }
        match &node.kind {
            Kind::Scalar(value) => self.scalar(value, schema, place),
            Kind::Seq(items) => {
                let item_schema = schema.get("items").unwrap_or(&Value::Null);
                let mut out = Vec::new();
                for (at, item) in items.iter().enumerate() {
                    self.path.push(Step::Index(at));
                    out.extend(self.node(item, item_schema, item.place));
                    self.path.pop();
                }
                Some(Value::Array(out))
            }
            Kind::Map(entries) => Some(self.map(entries, schema, place)),
        }
    }

    /// Follows references, and of several alternatives takes the one that fits the node's kind.
    fn choose(&self, node: &Node, schema: &'a Value) -> &'a Value {
        if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
            let target = reference.trim_start_matches('#');
            return self
                .root
                .pointer(target)
                .map_or(schema, |found| self.choose(node, found));
        }
        let alternatives = schema
            .get("anyOf")
            .or_else(|| schema.get("oneOf"))
            .and_then(Value::as_array);
        match alternatives {
            Some(list) if list.iter().all(|one| one.get("const").is_some()) => schema,
            Some(list) => {
                let mut resolved = list.iter().map(|one| self.choose(node, one));
                resolved
                    .clone()
                    .find(|one| accepts(one, node))
                    .or_else(|| resolved.next())
                    .unwrap_or(schema)
            }
            None => schema,
        }
    }

    fn scalar(&mut self, value: &Value, schema: &'a Value, place: Place) -> Option<Value> {
        let allowed = words(schema);
        let is_hidden = self.is_hidden(value);
        match value.as_str() {
            Some(word) if !allowed.is_empty() && !allowed.contains(&word) && is_hidden => {
                let what = format!("{UNSHOWN} is none of {}", allowed.join(", "));
                self.problems
                    .push(Problem::new(place, &show(&self.path), what));
                None
            }
            Some(word) if !allowed.is_empty() && !allowed.contains(&word) => {
                let what = format!("{word:?} is none of {}", allowed.join(", "));
                self.path.push(Step::Key(word.to_owned()));
                let later = self.not_yet();
                self.path.pop();
                let problem = Problem::new(
                    place,
                    &show(&self.path),
                    if later {
                        format!("{word:?} is not supported yet")
                    } else {
                        what
                    },
                );
                self.problems.push(match nearest(word, &allowed) {
                    Some(near) if !later => problem.remedy(format!("did you mean `{near}`?")),
                    _ => problem,
                });
                None
            }
            _ => Some(value.clone()),
        }
    }

    fn map(&mut self, entries: &[Entry], schema: &'a Value, place: Place) -> Value {
        let properties = schema.get("properties").and_then(Value::as_object);
        let others = schema
            .get("additionalProperties")
            .filter(|others| others.is_object());
        let mut out = Map::new();
        for entry in entries {
            self.path.push(Step::Key(entry.key.clone()));
            let known = properties.and_then(|all| all.get(&entry.key)).or(others);
            match known {
                Some(inner) => {
                    let at = if matches!(entry.value.kind, Kind::Scalar(_)) {
                        entry.value.place
                    } else {
                        entry.place
                    };
                    if let Some(value) = self.node(&entry.value, inner, at) {
                        out.insert(entry.key.clone(), value);
                    }
                }
                None => self.unknown_key(entry, properties),
            }
            self.path.pop();
        }
        for key in schema
            .get("required")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
        {
            if !entries.iter().any(|entry| entry.key == key) {
                let what = format!("the key `{key}` is missing");
                self.problems
                    .push(Problem::new(place, &show(&self.path), what).remedy(self.example(key)));
            }
        }
        Value::Object(out)
    }

    /// Tells whether a value may be a secret, and so must not be quoted.
    fn is_hidden(&self, value: &Value) -> bool {
        hidden::may_be_secret(&self.path) || value.as_str().is_some_and(hidden::has_login)
    }

    fn unknown_key(&mut self, entry: &Entry, properties: Option<&Map<String, Value>>) {
        let (_, above) = self.path.split_last().unwrap_or((&Step::Index(0), &[]));
        if matches!(entry.value.kind, Kind::Scalar(Value::Null))
            && hidden::may_be_secret_key(above, &entry.key)
        {
            let what = format!("{UNSHOWN} is no key of these");
            self.problems
                .push(Problem::new(entry.place, &show(above), what));
            return;
        }
        let path = show(&self.path);
        if self.not_yet() {
            let what = "documented, but not supported yet by this version".to_owned();
            self.problems
                .push(Problem::new(entry.place, &path, what).remedy("remove the key"));
            return;
        }
        let names: Vec<&str> = properties
            .into_iter()
            .flatten()
            .map(|(name, _)| name.as_str())
            .collect();
        let problem = Problem::new(entry.place, &path, format!("unknown key `{}`", entry.key));
        self.problems.push(match nearest(&entry.key, &names) {
            Some(near) => problem.remedy(format!("did you mean `{near}`?")),
            None => problem.remedy(format!("known here: {}", names.join(", "))),
        });
    }

    fn not_yet(&self) -> bool {
        NOT_YET.iter().any(|pattern| {
            let steps: Vec<&str> = pattern.split('.').collect();
            steps.len() == self.path.len()
                && steps.iter().zip(&self.path).all(|(want, step)| match step {
                    Step::Key(key) => *want == "*" || want == key,
                    Step::Index(_) => *want == "*",
                })
        })
    }

    fn wrong_type(&mut self, node: &Node, schema: &Value, place: Place) {
        let expected = expected(schema);
        let is_hidden =
            matches!(&node.kind, Kind::Scalar(value) if !value.is_null() && self.is_hidden(value));
        let found = match &node.kind {
            Kind::Scalar(_) if is_hidden => UNSHOWN.to_owned(),
            Kind::Scalar(Value::Null) => "nothing".to_owned(),
            Kind::Scalar(Value::String(text)) => format!("the text {text:?}"),
            Kind::Scalar(value) if value.is_number() => format!("the bare number {value}"),
            Kind::Scalar(value) => format!("{value}"),
            Kind::Seq(_) => "a list".to_owned(),
            Kind::Map(_) => "a mapping".to_owned(),
        };
        let problem = Problem::new(
            place,
            &show(&self.path),
            format!("expected {expected}, found {found}"),
        );
        let format = schema.get("format").and_then(Value::as_str);
        self.problems.push(match (&node.kind, format) {
            (Kind::Scalar(Value::Number(_)), None)
                if is_hidden && type_names(schema).contains(&"string") =>
            {
                problem.remedy("put it in quotes")
            }
            _ if is_hidden => problem,
            (Kind::Scalar(Value::Number(n)), Some("duration")) => {
                problem.remedy(format!("write the unit: `{n}s`"))
            }
            (Kind::Scalar(Value::Number(n)), Some("size")) => {
                problem.remedy(format!("write the unit: `{n}B`"))
            }
            (Kind::Scalar(Value::Number(n)), None) if type_names(schema).contains(&"string") => {
                problem.remedy(format!("quote it: \"{n}\""))
            }
            _ => problem,
        });
    }

    fn example(&self, key: &str) -> String {
        match key {
            "server" => "add `server: {listen: \"0.0.0.0:8443\", tls: {cert_file: tls.crt, key_file: tls.key}}`".into(),
            "authenticators" => "add `authenticators: {staff: {basic: {htpasswd_file: users.htpasswd}}}`".into(),
            "clusters" => "add `clusters: {onprem: {flavor: livy, url: \"http://livy.example.com:8998\"}}`".into(),
            "routes" => "add `routes: [{name: default, targets: [{cluster: onprem}]}]`".into(),
            _ => format!("add `{key}: ...` here"),
        }
    }
}

fn type_names(schema: &Value) -> Vec<&str> {
    match schema.get("type") {
        Some(Value::String(one)) => vec![one.as_str()],
        Some(Value::Array(many)) => many.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

fn words(schema: &Value) -> Vec<&str> {
    let listed = schema
        .get("enum")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str);
    let consts = schema
        .get("oneOf")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    listed
        .chain(consts.filter_map(|one| one.get("const")?.as_str()))
        .collect()
}

fn accepts(schema: &Value, node: &Node) -> bool {
    let types = type_names(schema);
    let is_words = !words(schema).is_empty();
    let has = |name: &str| types.contains(&name) || (is_words && name == "string");
    if types.is_empty() && !is_words {
        return true;
    }
    match &node.kind {
        // A key with nothing behind it means the default.
        Kind::Scalar(Value::Null) => has("null"),
        Kind::Scalar(Value::Bool(_)) => has("boolean"),
        Kind::Scalar(Value::Number(n)) => {
            has("number") || (has("integer") && n.as_i64().is_some_and(|n| in_range(schema, n)))
        }
        Kind::Scalar(_) => has("string"),
        Kind::Seq(_) => has("array"),
        Kind::Map(_) => has("object"),
    }
}

fn in_range(schema: &Value, n: i64) -> bool {
    let bound = |key: &str| schema.get(key).and_then(Value::as_i64);
    bound("minimum").is_none_or(|least| n >= least)
        && n <= bound("maximum").unwrap_or(i64::from(u32::MAX))
}

fn expected(schema: &Value) -> String {
    match schema.get("format").and_then(Value::as_str) {
        Some("duration") => return "a duration such as `30s`".into(),
        Some("size") => return "a size such as `64KiB`".into(),
        _ => {}
    }
    let allowed = words(schema);
    if !allowed.is_empty() {
        return format!("one of {}", allowed.join(", "));
    }
    type_names(schema)
        .into_iter()
        .filter(|name| *name != "null")
        .map(|name| match name {
            "string" => "a text",
            "boolean" => "true or false",
            "integer" => "a whole number, 0 or more",
            "array" => "a list",
            "object" => "a mapping",
            other => other,
        })
        .collect::<Vec<_>>()
        .join(" or ")
}

/// Returns the candidate nearest to a mistyped word, if one is near.
pub(crate) fn nearest<'a>(word: &str, candidates: &[&'a str]) -> Option<&'a str> {
    candidates
        .iter()
        .map(|candidate| (strsim::damerau_levenshtein(word, candidate), *candidate))
        .min()
        .filter(|(distance, candidate)| *distance <= 1 + candidate.len() / 3)
        .map(|(_, candidate)| candidate)
}
