//! Text into pieces: what stands as it is, and the words of actions.

use serde_json::{Number, Value};

use super::TemplateError;

/// A piece of a template.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Piece {
    /// What stands as it is.
    Text(String),
    /// The words between `{{` and `}}`, with the line of each.
    Action {
        line: usize,
        words: Vec<(usize, Word)>,
    },
}

/// A word of an action.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Word {
    /// `.` alone.
    Dot,
    /// `.name`; whether a value stands right before it, whose field it is then.
    Field(String, bool),
    /// `$name`, with its `$`.
    Variable(String),
    /// A keyword or a function.
    Name(String),
    /// A text, a number, a truth value or `nil`.
    Literal(Value),
    /// `:=`
    Declare,
    /// `=`
    Assign,
    /// `|`
    Pipe,
    /// `,`
    Comma,
    /// `(`
    Open,
    /// `)`
    Close,
}

/// Takes a template apart.
pub(super) fn lex(text: &str) -> Result<Vec<Piece>, TemplateError> {
    let mut pieces = Vec::new();
    let mut rest = text;
    let mut line = 1;
    let mut trims = false;
    while let Some(at) = rest.find("{{") {
        let (before, action) = rest.split_at(at);
        let action_line = line + newlines(before);
        let mut inside = &action[2..];
        let trims_left = inside.starts_with('-') && starts_blank(&inside[1..]);
        if trims_left {
            inside = &inside[1..];
        }
        push_text(&mut pieces, before, trims, trims_left);
        let mut lexer = Lexer {
            rest: inside,
            line: action_line,
        };
        let (words, trims_right) = lexer.action(action_line)?;
        trims = trims_right;
        line = lexer.line;
        rest = lexer.rest;
        if !words.is_empty() {
            pieces.push(Piece::Action {
                line: action_line,
                words,
            });
        }
    }
    push_text(&mut pieces, rest, trims, false);
    Ok(pieces)
}

fn newlines(text: &str) -> usize {
    text.bytes().filter(|byte| *byte == b'\n').count()
}

fn starts_blank(text: &str) -> bool {
    text.starts_with([' ', '\t', '\r', '\n'])
}

fn push_text(pieces: &mut Vec<Piece>, text: &str, trims_left: bool, trims_right: bool) {
    let blank = [' ', '\t', '\r', '\n'];
    let text = if trims_left {
        text.trim_start_matches(blank)
    } else {
        text
    };
    let text = if trims_right {
        text.trim_end_matches(blank)
    } else {
        text
    };
    if !text.is_empty() {
        pieces.push(Piece::Text(text.to_owned()));
    }
}

struct Lexer<'a> {
    rest: &'a str,
    line: usize,
}

impl<'a> Lexer<'a> {
    fn fail<T>(&self, reason: impl Into<String>) -> Result<T, TemplateError> {
        Err(TemplateError {
            line: self.line,
            reason: reason.into(),
        })
    }

    fn skip(&mut self, n: usize) -> &'a str {
        let (skipped, rest) = self.rest.split_at(n);
        self.line += newlines(skipped);
        self.rest = rest;
        skipped
    }

    fn skip_blank(&mut self) -> bool {
        let blank = self.rest.len() - self.rest.trim_start().len();
        self.skip(blank);
        blank > 0
    }

    /// Everything up to `}}`, and whether that takes the blanks after it away.
    fn action(&mut self, begun: usize) -> Result<(Vec<(usize, Word)>, bool), TemplateError> {
        let mut words = Vec::new();
        loop {
            let is_apart = self.skip_blank();
            if self.rest.starts_with("/*") {
                let Some(end) = self.rest.find("*/") else {
                    return self.fail("a comment does not end: there is no */");
                };
                self.skip(end + 2);
                continue;
            }
            if is_apart && self.rest.starts_with("-}}") {
                self.skip(3);
                return Ok((words, true));
            }
            if self.rest.starts_with("}}") {
                self.skip(2);
                return Ok((words, false));
            }
            if self.rest.is_empty() {
                let line = begun;
                let reason = "an action does not end: there is no }}".to_owned();
                return Err(TemplateError { line, reason });
            }
            let line = self.line;
            let word = self.word(is_apart || words.is_empty())?;
            words.push((line, word));
        }
    }

    fn word(&mut self, is_apart: bool) -> Result<Word, TemplateError> {
        let fixed = [
            (":=", Word::Declare),
            ("=", Word::Assign),
            ("|", Word::Pipe),
            (",", Word::Comma),
            ("(", Word::Open),
            (")", Word::Close),
        ];
        for (text, word) in fixed {
            if self.rest.starts_with(text) {
                self.skip(text.len());
                return Ok(word);
            }
        }
        let Some(first) = self.rest.chars().next() else {
            return self.fail("an action ends too early");
        };
        match first {
            '"' => self.quoted(),
            '`' => self.raw(),
            '\'' => self.character(),
            '$' => {
                let name = 1 + name_length(&self.rest[1..]);
                Ok(Word::Variable(self.skip(name).to_owned()))
            }
            '.' => match name_length(&self.rest[1..]) {
                0 => {
                    self.skip(1);
                    Ok(Word::Dot)
                }
                length => {
                    let name = self.skip(1 + length)[1..].to_owned();
                    Ok(Word::Field(name, !is_apart))
                }
            },
            '0'..='9' | '+' | '-' => self.number(),
            _ => match name_length(self.rest) {
                0 => self.fail(format!("{first:?} has no meaning here")),
                length => Ok(named(self.skip(length))),
            },
        }
    }

    fn quoted(&mut self) -> Result<Word, TemplateError> {
        let mut escaped = false;
        let end = self.rest.char_indices().skip(1).find(|(_, c)| {
            let ends = !escaped && (*c == '"' || *c == '\n');
            escaped = !escaped && *c == '\\';
            ends
        });
        match end {
            Some((end, '"')) => {
                let text = unescape(&self.rest[1..end]);
                match text {
                    Some(text) => {
                        self.skip(end + 1);
                        Ok(Word::Literal(Value::String(text)))
                    }
                    None => self.fail(format!("{} is not a text", &self.rest[..=end])),
                }
            }
            _ => self.fail("a text does not end: there is no \""),
        }
    }

    fn raw(&mut self) -> Result<Word, TemplateError> {
        let Some(end) = self.rest[1..].find('`') else {
            return self.fail("a text does not end: there is no `");
        };
        let text = self.skip(end + 2);
        Ok(Word::Literal(Value::String(text[1..=end].to_owned())))
    }

    fn character(&mut self) -> Result<Word, TemplateError> {
        let found = self.rest[1..].find('\'').and_then(|end| {
            let text = unescape(&self.rest[1..=end])?;
            let mut all = text.chars();
            let one = all.next().filter(|_| all.next().is_none())?;
            Some((end + 2, u32::from(one)))
        });
        match found {
            Some((length, code)) => {
                self.skip(length);
                Ok(Word::Literal(code.into()))
            }
            None => self.fail("a character is one character between two '"),
        }
    }

    fn number(&mut self) -> Result<Word, TemplateError> {
        let is_part = |c: char| c.is_ascii_alphanumeric() || ['.', '_', '+', '-'].contains(&c);
        let length = self.rest.find(|c| !is_part(c)).unwrap_or(self.rest.len());
        let text = self.rest[..length].replace('_', "");
        let number = match text.strip_prefix("0x") {
            Some(hex) => i64::from_str_radix(hex, 16).ok().map(Number::from),
            None => text
                .parse::<i64>()
                .map(Number::from)
                .ok()
                .or_else(|| text.parse().ok().and_then(Number::from_f64)),
        };
        match number {
            Some(number) => {
                self.skip(length);
                Ok(Word::Literal(Value::Number(number)))
            }
            None => self.fail(format!("{text:?} is not a number")),
        }
    }
}

fn name_length(text: &str) -> usize {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    let length = text.find(|c| !is_part(c)).unwrap_or(text.len());
    match text.chars().next() {
        Some(first) if first.is_numeric() => 0,
        _ => length,
    }
}

fn named(name: &str) -> Word {
    match name {
        "true" => Word::Literal(Value::Bool(true)),
        "false" => Word::Literal(Value::Bool(false)),
        "nil" => Word::Literal(Value::Null),
        name => Word::Name(name.to_owned()),
    }
}

/// Go's escapes, of which JSON has the most.
fn unescape(text: &str) -> Option<String> {
    let mut out = String::new();
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match rest.next()? {
            'n' => out.push('\n'),
            't' => out.push('\t'),
            'r' => out.push('\r'),
            plain @ ('"' | '\'' | '\\' | '/') => out.push(plain),
            'x' => out.push(code(&mut rest, 2)?),
            'u' => out.push(code(&mut rest, 4)?),
            _ => return None,
        }
    }
    Some(out)
}

fn code(rest: &mut std::str::Chars<'_>, digits: usize) -> Option<char> {
    let hex: String = rest.take(digits).collect();
    char::from_u32(u32::from_str_radix(&hex, 16).ok()?)
}
