//! A YAML document as a tree whose every key and value knows its line.

use super::environment::{Environment, expand};
use super::problem::{Position, Problems};
use saphyr_parser::{Event, Marker, Parser, ScalarStyle};
use std::collections::HashMap;

/// Nesting beyond this is an error, so that reading the tree cannot exhaust the stack.
const DEPTH_MAX: usize = 32;

/// One value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Node {
    pub(crate) at: Position,
    pub(crate) value: Value,
}

/// What a node holds; scalars stay text until a setting says what they should be.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    /// Nothing written, `~` or `null`.
    Null,
    Scalar(String),
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
}

/// A mapping's key.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Key {
    pub(crate) at: Position,
    pub(crate) name: String,
}

impl Node {
    /// The empty document.
    pub(crate) fn empty() -> Self {
        Self { at: Position { line: 1, column: 1 }, value: Value::Null }
    }

    /// What this is, for an error text; never its content, which may be a secret.
    pub(crate) fn kind(&self) -> &'static str {
        match self.value {
            Value::Null => "nothing",
            Value::Scalar(_) => "a single value",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
        }
    }
}

/// Reads one document. What cannot be understood is added to `problems` and left out of the tree, except that
/// broken YAML gives `None`.
pub(crate) fn parse(text: &str, environment: Environment<'_>, problems: &mut Problems) -> Option<Node> {
    let mut builder = Builder { environment, problems, open: Vec::new(), root: None, documents: 0 };
    let mut parser = Parser::new_from_str(text);
    loop {
        match parser.next_event() {
            None | Some(Ok((Event::StreamEnd, _))) => return Some(builder.root.unwrap_or_else(Node::empty)),
            Some(Ok((event, span))) => {
                if !builder.event(event, position(span.start)) {
                    return None;
                }
            }
            Some(Err(error)) => {
                builder.problems.add(position(*error.marker()), format!("not valid YAML: {}", error.info()));
                return None;
            }
        }
    }
}

fn position(marker: Marker) -> Position {
    Position { line: marker.line(), column: marker.col() + 1 }
}

/// Collections that are not closed yet, innermost last.
enum Open {
    List(Position, Vec<Node>),
    Map { at: Position, entries: Vec<(Key, Node)>, seen: HashMap<String, Position>, key: Option<Pending> },
}

/// The key of the value that comes next; a bad or repeated one drops its value.
enum Pending {
    Good(Key),
    Dropped,
    /// The key itself is a collection that is still being read.
    Collection,
}

struct Builder<'a> {
    environment: Environment<'a>,
    problems: &'a mut Problems,
    open: Vec<Open>,
    root: Option<Node>,
    documents: usize,
}

impl Builder<'_> {
    /// Takes one event; false ends the reading.
    fn event(&mut self, event: Event<'_>, at: Position) -> bool {
        match event {
            Event::DocumentStart(_) => {
                self.documents += 1;
                if self.documents > 1 {
                    self.problems.add(at, "a second document; one file holds one configuration");
                    return false;
                }
            }
            Event::Alias(_) => {
                self.problems.add(at, "aliases (`*name`) are not supported; write the value again");
                if self.expects_key() {
                    self.set_key(Pending::Dropped);
                    return true;
                }
                self.place(Node { at, value: Value::Null });
            }
            Event::Scalar(text, style, _, _) => self.scalar(&text, style, at),
            Event::SequenceStart(..) => return self.start(Open::List(at, Vec::new()), at),
            Event::MappingStart(..) => {
                let map = Open::Map { at, entries: Vec::new(), seen: HashMap::new(), key: None };
                return self.start(map, at);
            }
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(Open::List(at, items)) => self.place(Node { at, value: Value::List(items) }),
                Some(Open::Map { at, entries, .. }) => self.place(Node { at, value: Value::Map(entries) }),
                None => {}
            },
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
        }
        true
    }

    fn start(&mut self, open: Open, at: Position) -> bool {
        if self.open.len() >= DEPTH_MAX {
            self.problems.add(at, format!("nested more than {DEPTH_MAX} deep"));
            return false;
        }
        if self.expects_key() {
            self.problems.add(at, "a key must be a single word");
            self.set_key(Pending::Collection);
        }
        self.open.push(open);
        true
    }

    fn scalar(&mut self, text: &str, style: ScalarStyle, at: Position) {
        if self.expects_key() {
            return self.key(text, at);
        }
        let value = if style == ScalarStyle::Plain && matches!(text, "" | "~" | "null") {
            Value::Null
        } else {
            match expand(text, self.environment) {
                Ok(text) => Value::Scalar(text),
                Err(problem) => {
                    self.problems.add(at, problem);
                    Value::Null
                }
            }
        };
        self.place(Node { at, value });
    }

    fn key(&mut self, name: &str, at: Position) {
        let Some(Open::Map { seen, .. }) = self.open.last_mut() else { return };
        let pending = match seen.get(name) {
            Some(first) => {
                let line = first.line;
                self.problems.add(at, format!("`{name}` is given twice, first on line {line}"));
                Pending::Dropped
            }
            None => {
                seen.insert(name.to_owned(), at);
                Pending::Good(Key { at, name: name.to_owned() })
            }
        };
        self.set_key(pending);
    }

    fn expects_key(&self) -> bool {
        matches!(self.open.last(), Some(Open::Map { key: None, .. }))
    }

    fn set_key(&mut self, pending: Pending) {
        if let Some(Open::Map { key, .. }) = self.open.last_mut() {
            *key = Some(pending);
        }
    }

    /// Puts a finished node where it belongs.
    fn place(&mut self, node: Node) {
        match self.open.last_mut() {
            None => self.root = Some(node),
            Some(Open::List(_, items)) => items.push(node),
            Some(Open::Map { entries, key, .. }) => match key.take() {
                Some(Pending::Good(key)) => entries.push((key, node)),
                Some(Pending::Collection) => *key = Some(Pending::Dropped),
                Some(Pending::Dropped) | None => {}
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Value, parse};
    use crate::config::problem::Problems;

    fn problems_of(text: &str) -> String {
        let mut problems = Problems::new("kovar.yaml");
        parse(text, &|_| None, &mut problems);
        problems.to_string()
    }

    #[test]
    fn every_key_and_value_knows_its_place() {
        let mut problems = Problems::new("kovar.yaml");
        let node = parse("a:\n  b: [x,\n    y]\n", &|_| None, &mut problems).expect("a document");
        let Value::Map(entries) = &node.value else { panic!("not a mapping") };
        let Value::Map(inner) = &entries[0].1.value else { panic!("not a mapping") };
        assert_eq!((inner[0].0.at.line, inner[0].0.at.column), (2, 3));
        let Value::List(items) = &inner[0].1.value else { panic!("not a list") };
        assert_eq!((items[1].at.line, items[1].at.column), (3, 5));
        assert!(problems.is_empty());
    }

    #[test]
    fn a_repeated_key_names_both_lines() {
        assert_eq!(problems_of("a: 1\nb: 2\na: 3\n"), "kovar.yaml:3:1: `a` is given twice, first on line 1");
    }

    #[test]
    fn broken_yaml_names_its_line() {
        let text = problems_of("a: 1\nb: [1, 2\nc: 3\n");
        assert!(text.starts_with("kovar.yaml:3:") && text.contains("not valid YAML"), "{text}");
    }

    #[test]
    fn aliases_second_documents_and_deep_nesting_are_refused() {
        assert!(problems_of("a: &x 1\nb: *x\n").starts_with("kovar.yaml:2:4: aliases"));
        assert!(problems_of("a: 1\n---\nb: 1\n").contains("a second document"));
        assert!(problems_of(&"[".repeat(100)).contains("nested more than 32 deep"));
        assert!(problems_of("? [a, b]\n: 1\nc: 2\n").contains("a key must be a single word"));
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in "[a-z:\\- \\[\\]{}&*?|>!'\"#\n$]{0,80}") {
            problems_of(&text);
        }
    }
}
