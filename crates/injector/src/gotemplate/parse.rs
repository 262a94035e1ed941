//! Pieces into a tree.

use std::{collections::BTreeMap, iter::Peekable, sync::Arc, vec::IntoIter};

use serde_json::Value;

use super::{
    TemplateError,
    lex::{Piece, Word},
};

pub(super) type Nodes = Arc<[Node]>;

/// A part of a template.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Node {
    Text(String),
    /// Prints what comes of a pipeline, or sets a variable.
    Action(Pipeline),
    If(Pipeline, Nodes, Nodes),
    With(Pipeline, Nodes, Nodes),
    Range(Pipeline, Nodes, Nodes),
    /// Another template, with another dot.
    Template {
        line: usize,
        name: String,
        dot: Option<Pipeline>,
    },
    Break,
    Continue,
}

/// Commands, each of which gets what the one before it gave as its last argument.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Pipeline {
    pub(super) line: usize,
    /// Variables that are set, two at most.
    pub(super) variables: Vec<String>,
    /// Whether the variables are new.
    pub(super) declares: bool,
    pub(super) commands: Vec<Command>,
}

/// What is called or looked at, and its arguments.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Command {
    pub(super) line: usize,
    pub(super) operands: Vec<Operand>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Operand {
    Dot,
    Variable(String),
    Literal(Value),
    Function(String),
    Nested(Box<Pipeline>),
    /// A field of what is inside.
    Field(Box<Operand>, String),
}

type Named = BTreeMap<String, Nodes>;

/// Reads all pieces; `is_function` knows the names that may be called.
pub(super) fn parse(
    pieces: Vec<Piece>,
    is_function: &dyn Fn(&str) -> bool,
) -> Result<(Nodes, Named), TemplateError> {
    let mut parser = Parser {
        pieces: pieces.into_iter(),
        named: Named::new(),
        is_function,
        opened: Vec::new(),
        n_ranges: 0,
    };
    let (nodes, _) = parser.nodes()?;
    Ok((nodes, parser.named))
}

fn fail<T>(line: usize, reason: impl Into<String>) -> Result<T, TemplateError> {
    Err(TemplateError {
        line,
        reason: reason.into(),
    })
}

/// What ended a list of nodes.
enum End<'a> {
    Last,
    Close,
    /// `else`, with what stands after it.
    Else(usize, Words<'a>),
}

struct Parser<'a> {
    pieces: IntoIter<Piece>,
    named: Named,
    is_function: &'a dyn Fn(&str) -> bool,
    /// What waits for its `end`, with its line.
    opened: Vec<(usize, String)>,
    n_ranges: usize,
}

impl<'a> Parser<'a> {
    fn nodes(&mut self) -> Result<(Nodes, End<'a>), TemplateError> {
        let mut nodes = Vec::new();
        while let Some(piece) = self.pieces.next() {
            let (line, words) = match piece {
                Piece::Text(text) => {
                    nodes.push(Node::Text(text));
                    continue;
                }
                Piece::Action { line, words } => (line, words),
            };
            let mut words = Words {
                line,
                words: words.into_iter().peekable(),
                is_function: self.is_function,
            };
            let keyword = words.keyword();
            match keyword.as_deref() {
                Some(end @ ("end" | "else")) => {
                    if self.opened.is_empty() {
                        return fail(line, format!("{end} without what it belongs to"));
                    }
                    if end == "end" {
                        words.nothing_more("end")?;
                        return Ok((nodes.into(), End::Close));
                    }
                    return Ok((nodes.into(), End::Else(line, words)));
                }
                Some("define") => self.define(line, words)?,
                Some(keyword) => nodes.push(self.keyword(keyword, line, words)?),
                None => nodes.push(Node::Action(words.whole_pipeline("an action")?)),
            }
        }
        match self.opened.last() {
            Some((line, what)) => fail(*line, format!("{what} has no end")),
            None => Ok((nodes.into(), End::Last)),
        }
    }

    fn keyword(
        &mut self,
        keyword: &str,
        line: usize,
        mut words: Words<'a>,
    ) -> Result<Node, TemplateError> {
        match keyword {
            "if" | "with" | "range" => self.branch(keyword, line, words),
            "template" => {
                let name = words.text("template")?;
                let dot = words.rest_as_pipeline("template")?;
                Ok(Node::Template { line, name, dot })
            }
            "block" => {
                let name = words.text("block")?;
                let dot = words.rest_as_pipeline("block")?;
                let body = self.body("block", line)?;
                self.named.insert(name.clone(), body);
                Ok(Node::Template { line, name, dot })
            }
            _ if self.n_ranges == 0 => fail(line, format!("{keyword} outside of a range")),
            _ => {
                words.nothing_more(keyword)?;
                Ok(if keyword == "break" {
                    Node::Break
                } else {
                    Node::Continue
                })
            }
        }
    }

    fn define(&mut self, line: usize, mut words: Words<'a>) -> Result<(), TemplateError> {
        if !self.opened.is_empty() {
            return fail(line, "define stands inside of something else");
        }
        let name = words.text("define")?;
        words.nothing_more("define")?;
        let body = self.body("define", line)?;
        self.named.insert(name, body);
        Ok(())
    }

    /// Up to `end`, without `else`.
    fn body(&mut self, what: &str, line: usize) -> Result<Nodes, TemplateError> {
        self.opened.push((line, what.to_owned()));
        let (nodes, end) = self.nodes()?;
        self.opened.pop();
        match end {
            End::Else(line, _) => fail(line, format!("{what} has no else")),
            End::Close | End::Last => Ok(nodes),
        }
    }

    fn branch(
        &mut self,
        keyword: &str,
        line: usize,
        mut words: Words<'a>,
    ) -> Result<Node, TemplateError> {
        let pipeline = words.whole_pipeline(keyword)?;
        if pipeline.variables.len() > 1 && keyword != "range" {
            return fail(line, format!("{keyword} sets one variable at most"));
        }
        let is_range = usize::from(keyword == "range");
        self.n_ranges += is_range;
        self.opened.push((line, keyword.to_owned()));
        let (body, end) = self.nodes()?;
        self.n_ranges -= is_range;
        let otherwise = match end {
            End::Else(line, rest) => self.otherwise(keyword, line, rest)?,
            End::Close | End::Last => Arc::from([]),
        };
        self.opened.pop();
        Ok(match keyword {
            "if" => Node::If(pipeline, body, otherwise),
            "with" => Node::With(pipeline, body, otherwise),
            _ => Node::Range(pipeline, body, otherwise),
        })
    }

    /// After `else`: another branch (`else if`), or nodes up to `end`.
    fn otherwise(
        &mut self,
        keyword: &str,
        line: usize,
        mut words: Words<'a>,
    ) -> Result<Nodes, TemplateError> {
        if let Some(next) = words.keyword() {
            if next != keyword || keyword == "range" {
                return fail(line, format!("else {next} does not go with {keyword}"));
            }
            // Its `end` is ours as well.
            let node = self.branch(&next, line, words)?;
            return Ok(Arc::from([node]));
        }
        words.nothing_more("else")?;
        match self.nodes()? {
            (_, End::Else(line, _)) => fail(line, "a second else"),
            (nodes, _) => Ok(nodes),
        }
    }
}

/// Words of one action.
struct Words<'a> {
    line: usize,
    words: Peekable<IntoIter<(usize, Word)>>,
    is_function: &'a dyn Fn(&str) -> bool,
}

impl Words<'_> {
    fn peek(&mut self) -> Option<&Word> {
        self.words.peek().map(|(_, word)| word)
    }

    fn next(&mut self) -> Option<Word> {
        let (line, word) = self.words.next()?;
        self.line = line;
        Some(word)
    }

    fn keyword(&mut self) -> Option<String> {
        const KEYWORDS: [&str; 10] = [
            "if", "else", "end", "with", "range", "define", "template", "block", "break",
            "continue",
        ];
        let is_keyword = |word: &Word| match word {
            Word::Name(name) => KEYWORDS.contains(&name.as_str()),
            _ => false,
        };
        match self.peek().is_some_and(is_keyword).then(|| self.next())?? {
            Word::Name(name) => Some(name),
            _ => None,
        }
    }

    fn nothing_more(&mut self, after: &str) -> Result<(), TemplateError> {
        match self.peek() {
            Some(_) => fail(self.line, format!("nothing may stand after {after}")),
            None => Ok(()),
        }
    }

    fn text(&mut self, of: &str) -> Result<String, TemplateError> {
        match self.next() {
            Some(Word::Literal(Value::String(text))) => Ok(text),
            _ => fail(self.line, format!("{of} needs a name between quotes")),
        }
    }

    fn rest_as_pipeline(&mut self, of: &str) -> Result<Option<Pipeline>, TemplateError> {
        match self.peek() {
            None => Ok(None),
            Some(_) => self.whole_pipeline(of).map(Some),
        }
    }

    fn whole_pipeline(&mut self, of: &str) -> Result<Pipeline, TemplateError> {
        let pipeline = self.pipeline(of)?;
        match self.peek() {
            Some(_) => fail(self.line, "a closing parenthesis without its opening one"),
            None => Ok(pipeline),
        }
    }

    fn pipeline(&mut self, of: &str) -> Result<Pipeline, TemplateError> {
        let line = self.words.peek().map_or(self.line, |(line, _)| *line);
        let (variables, declares) = self.variables()?;
        let mut commands = Vec::new();
        loop {
            let line = self.words.peek().map_or(self.line, |(line, _)| *line);
            let operands = self.operands()?;
            if operands.is_empty() {
                return fail(line, format!("{of} lacks a value"));
            }
            commands.push(Command { line, operands });
            match self.peek() {
                Some(Word::Pipe) => self.next(),
                _ => break,
            };
        }
        Ok(Pipeline {
            line,
            variables,
            declares,
            commands,
        })
    }

    /// `$a :=`, `$a, $b :=` and `$a =`; anything else is left as it is.
    fn variables(&mut self) -> Result<(Vec<String>, bool), TemplateError> {
        let mut ahead = self.words.clone().map(|(_, word)| word);
        let mut names = Vec::new();
        loop {
            let Some(Word::Variable(name)) = ahead.next() else {
                return Ok((Vec::new(), false));
            };
            names.push(name);
            let declares = match ahead.next() {
                Some(Word::Comma) if names.len() == 1 => continue,
                Some(Word::Declare) => true,
                Some(Word::Assign) => false,
                _ => return Ok((Vec::new(), false)),
            };
            // As many commas as names, one of them the sign.
            for _ in 0..names.len() * 2 {
                self.next();
            }
            if names.iter().any(|name| name == "$") {
                return fail(self.line, "$ itself cannot be set");
            }
            return Ok((names, declares));
        }
    }

    fn operands(&mut self) -> Result<Vec<Operand>, TemplateError> {
        let mut operands: Vec<Operand> = Vec::new();
        while let Some(word) = self.peek() {
            if matches!(word, Word::Pipe | Word::Close) {
                break;
            }
            let Some(word) = self.next() else { break };
            let operand = match word {
                Word::Dot => Operand::Dot,
                Word::Variable(name) => Operand::Variable(name),
                Word::Literal(value) => Operand::Literal(value),
                Word::Name(name) if (self.is_function)(&name) => Operand::Function(name),
                Word::Name(name) => return fail(self.line, format!("there is no function {name}")),
                Word::Field(name, true) if !operands.is_empty() => {
                    let Some(of) = operands.pop() else { continue };
                    Operand::Field(Box::new(of), name)
                }
                Word::Field(name, _) => Operand::Field(Box::new(Operand::Dot), name),
                Word::Open => {
                    let nested = self.pipeline("a pair of parentheses")?;
                    match self.next() {
                        Some(Word::Close) => Operand::Nested(Box::new(nested)),
                        _ => {
                            return fail(
                                self.line,
                                "an opening parenthesis without its closing one",
                            );
                        }
                    }
                }
                Word::Declare | Word::Assign | Word::Comma => {
                    return fail(self.line, "a sign that has no meaning here");
                }
                Word::Pipe | Word::Close => break,
            };
            operands.push(operand);
        }
        Ok(operands)
    }
}
