//! YAML text to a tree in which every key and value knows its line and column.
//!
//! Owns the YAML subset that `routes.yaml` is written in: one document, string keys, no anchors or
//! tags. Duplicate keys are problems, not last-one-wins. Leaves meaning to `shape` (types, unknown
//! keys) and `checked` (values).

use granit_parser::{Event, Marker, Parser, ScalarStyle, Span};
use serde_json::Value;

use super::hidden;
use super::path::Step;
use super::problem::{Hidden, Place, Problem};

/// A node with its place.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) place: Place,
    pub(crate) kind: Kind,
}

/// What a node is.
#[derive(Clone, Debug)]
pub(crate) enum Kind {
    /// A scalar, resolved by YAML's core schema: null, boolean, number or text.
    Scalar(Value),
    Seq(Vec<Node>),
    Map(Vec<Entry>),
}

/// One key of a mapping.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) place: Place,
    pub(crate) value: Node,
}

impl Node {
    /// Feeds what the node says, wherever it stands, to a hash.
    pub(crate) fn digest(&self, update: &mut impl FnMut(&[u8])) {
        match &self.kind {
            Kind::Scalar(value) => update(format!("={value};").as_bytes()),
            Kind::Seq(items) => {
                update(b"[");
                items.iter().for_each(|item| item.digest(update));
                update(b"]");
            }
            Kind::Map(entries) => {
                update(b"{");
                for entry in entries {
                    update(format!("{:?}:", entry.key).as_bytes());
                    entry.value.digest(update);
                }
                update(b"}");
            }
        }
    }

    /// Tells whether there is something at a path of keys.
    pub(crate) fn has(&self, path: &[&str]) -> bool {
        let Some((first, rest)) = path.split_first() else {
            return true;
        };
        match &self.kind {
            Kind::Map(entries) => entries
                .iter()
                .any(|entry| entry.key == *first && entry.value.has(rest)),
            _ => false,
        }
    }

    /// Returns the place of the value at a path such as `clusters.onprem.url` or `routes[0].name`,
    /// or of its nearest ancestor.
    pub(crate) fn find(&self, path: &[Step]) -> Place {
        let mut node = self;
        let mut place = self.place;
        for step in path {
            match (step, &node.kind) {
                (Step::Key(key), Kind::Map(entries)) => {
                    match entries.iter().find(|entry| entry.key == *key) {
                        Some(entry) => {
                            node = &entry.value;
                            // An empty value has no text of its own; the key is where the reader
                            // looks.
                            place = if matches!(node.kind, Kind::Scalar(_)) {
                                node.place
                            } else {
                                entry.place
                            };
                        }
                        None => return place,
                    }
                }
                (Step::Index(at), Kind::Seq(items)) => match items.get(*at) {
                    Some(item) => (node, place) = (item, item.place),
                    None => return place,
                },
                _ => return place,
            }
        }
        place
    }
}

/// Parses the text. Syntax errors end the parse; duplicate keys, anchors and the like are
/// collected. `hidden` gets what nobody may be shown.
pub(crate) fn parse(
    text: &str,
    problems: &mut Vec<Problem>,
    hidden: &mut Vec<Hidden>,
) -> Option<Node> {
    let mut builder = Builder {
        parser: Parser::new_from_str(text),
        problems,
        hidden,
        path: Vec::new(),
    };
    match builder.document() {
        Ok(node) => node,
        Err(problem) => {
            problems.push(problem);
            // What follows was not read.
            hidden::hide_by_words(text, hidden);
            None
        }
    }
}

struct Builder<'a, 'p> {
    parser: Parser<'a, granit_parser::StrInput<'a>>,
    problems: &'p mut Vec<Problem>,
    hidden: &'p mut Vec<Hidden>,
    path: Vec<Step>,
}

fn place(span: &Span) -> Place {
    at(&span.start)
}

fn at(marker: &Marker) -> Place {
    Place {
        line: marker.line(),
        column: marker.col() + 1,
    }
}

impl<'a> Builder<'a, '_> {
    fn next(&mut self) -> Result<(Event<'a>, Span), Problem> {
        match self.parser.next_event() {
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => Err(Problem::new(
                at(error.marker()),
                "",
                format!("not valid YAML: {}", error.info()),
            )),
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    fn hide(&mut self, span: &Span) {
        self.hidden.push(Hidden {
            from: at(&span.start),
            to: at(&span.end),
        });
    }

    fn document(&mut self) -> Result<Option<Node>, Problem> {
        let mut root = None;
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamEnd => return Ok(root),
                Event::StreamStart | Event::DocumentStart(..) | Event::DocumentEnd => {}
                _ if root.is_some() => {
                    return Err(Problem::new(
                        place(&span),
                        "",
                        "the file holds a second YAML document; one is read".into(),
                    ));
                }
                event => root = Some(self.node(event, &span)?),
            }
        }
    }

    fn node(&mut self, event: Event<'a>, span: &Span) -> Result<Node, Problem> {
        let place = place(span);
        let kind = match event {
            Event::Scalar(text, style, _, _) => {
                let may_be_secret = hidden::may_be_secret(&self.path) && !text.is_empty();
                if may_be_secret || hidden::has_login(&text) {
                    self.hide(span);
                }
                Kind::Scalar(resolve(&text, style))
            }
            Event::SequenceStart(..) => Kind::Seq(self.sequence()?),
            Event::MappingStart(..) => Kind::Map(self.mapping()?),
            Event::Alias(_) => {
                self.problems.push(Problem::new(
                    place,
                    "",
                    "aliases are not read here: write the value out".into(),
                ));
                Kind::Scalar(Value::Null)
            }
            other => {
                return Err(Problem::new(
                    place,
                    "",
                    format!("unexpected YAML here: {other:?}"),
                ));
            }
        };
        Ok(Node { place, kind })
    }

    fn sequence(&mut self) -> Result<Vec<Node>, Problem> {
        let mut items = Vec::new();
        loop {
            let (event, span) = self.next()?;
            if matches!(event, Event::SequenceEnd) {
                return Ok(items);
            }
            self.path.push(Step::Index(items.len()));
            items.push(self.node(event, &span)?);
            self.path.pop();
        }
    }

    fn mapping(&mut self) -> Result<Vec<Entry>, Problem> {
        let mut entries: Vec<Entry> = Vec::new();
        loop {
            let (event, key_span) = self.next()?;
            let key_place = place(&key_span);
            let key = match event {
                Event::MappingEnd => return Ok(entries),
                Event::Scalar(text, ..) => text.into_owned(),
                _ => {
                    return Err(Problem::new(
                        key_place,
                        "",
                        "keys must be plain text".into(),
                    ));
                }
            };
            self.path.push(Step::Key(key.clone()));
            let (event, span) = self.next()?;
            let value = self.node(event, &span)?;
            self.path.pop();
            if matches!(value.kind, Kind::Scalar(Value::Null))
                && hidden::may_be_secret_key(&self.path, &key)
            {
                self.hide(&key_span);
            }
            if let Some(first) = entries.iter().find(|entry| entry.key == key) {
                let what = format!("duplicate key `{key}`, first on line {}", first.place.line);
                self.problems
                    .push(Problem::new(key_place, &key, what).remedy("remove one of the two"));
                continue;
            }
            entries.push(Entry {
                key,
                place: key_place,
                value,
            });
        }
    }
}

/// Resolves a scalar by YAML 1.2's core schema; anything quoted is text.
fn resolve(text: &str, style: ScalarStyle) -> Value {
    if !matches!(style, ScalarStyle::Plain) {
        return Value::from(text);
    }
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        _ => match (text.parse::<i64>(), text.parse::<f64>()) {
            (Ok(number), _) => Value::from(number),
            (_, Ok(number))
                if text.starts_with(|c: char| c.is_ascii_digit() || c == '-' || c == '.') =>
            {
                Value::from(number)
            }
            _ => Value::from(text),
        },
    }
}
