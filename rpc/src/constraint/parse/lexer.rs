//! Text to tokens with columns.

use std::fmt;
use std::iter::Peekable;
use std::str::Chars;

use super::Op;
use crate::constraint::show::is_plain;

/// One token, and the column that it begins in, counted from 1 in characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) column: usize,
    pub(super) what: What,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum What {
    /// Such as `arch`, `in` or `label.region`.
    Word(String),
    /// Quotes and escapes are off.
    Text(String),
    /// What begins with a digit: `4`, `1.5`, `2g`, `6.1.0`.
    Number(String),
    Op(Op),
    Not,
    And,
    Or,
    Open,
    Close,
    OpenList,
    CloseList,
    Comma,
    End,
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Word(text) | Self::Number(text) => write!(f, "\"{text}\""),
            Self::Text(text) => write!(f, "the text \"{text}\""),
            Self::Op(op) => write!(f, "\"{}\"", op.as_str()),
            Self::Not => f.write_str("\"!\""),
            Self::And => f.write_str("\"&&\""),
            Self::Or => f.write_str("\"||\""),
            Self::Open => f.write_str("\"(\""),
            Self::Close => f.write_str("\")\""),
            Self::OpenList => f.write_str("\"[\""),
            Self::CloseList => f.write_str("\"]\""),
            Self::Comma => f.write_str("\",\""),
            Self::End => f.write_str("the end"),
        }
    }
}

pub(super) struct Lexer<'a> {
    chars: Peekable<Chars<'a>>,
    column: usize,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { chars: text.chars().peekable(), column: 1 }
    }

    /// Every token, `End` last.
    pub(super) fn all(mut self) -> Result<Vec<Token>, String> {
        let mut tokens = Vec::new();
        loop {
            while self.take_if(char::is_whitespace).is_some() {}
            let column = self.column;
            let Some(first) = self.take_if(|_| true) else {
                tokens.push(Token { column, what: What::End });
                return Ok(tokens);
            };
            let what = self.token(first, column)?;
            tokens.push(Token { column, what });
        }
    }

    fn token(&mut self, first: char, column: usize) -> Result<What, String> {
        let twice = |lexer: &mut Self, what: What| {
            if lexer.take_if(|c| c == first).is_some() {
                Ok(what)
            } else {
                Err(format!("column {column}: write \"{first}{first}\", not \"{first}\""))
            }
        };
        match first {
            '(' => Ok(What::Open),
            ')' => Ok(What::Close),
            '[' => Ok(What::OpenList),
            ']' => Ok(What::CloseList),
            ',' => Ok(What::Comma),
            '&' => twice(self, What::And),
            '|' => twice(self, What::Or),
            '=' => twice(self, What::Op(Op::Equal)),
            '!' if self.take_if(|c| c == '=').is_some() => Ok(What::Op(Op::Unequal)),
            '!' => Ok(What::Not),
            '<' if self.take_if(|c| c == '=').is_some() => Ok(What::Op(Op::LessOrEqual)),
            '<' => Ok(What::Op(Op::Less)),
            '>' if self.take_if(|c| c == '=').is_some() => Ok(What::Op(Op::GreaterOrEqual)),
            '>' => Ok(What::Op(Op::Greater)),
            '"' | '\'' => self.text(first, column),
            c if c.is_ascii_digit() => Ok(What::Number(self.word(c))),
            c if c.is_ascii_alphabetic() => Ok(What::Word(self.word(c))),
            other => Err(format!("column {column}: {other:?} means nothing here")),
        }
    }

    fn word(&mut self, first: char) -> String {
        let mut word = String::from(first);
        while let Some(c) = self.take_if(is_plain) {
            word.push(c);
        }
        word
    }

    fn text(&mut self, quote: char, column: usize) -> Result<What, String> {
        let mut text = String::new();
        loop {
            match self.take_if(|_| true) {
                None => return Err(format!("column {column}: this text has no closing {quote}")),
                Some(c) if c == quote => return Ok(What::Text(text)),
                Some('\\') => {
                    let escaped =
                        self.take_if(|c| matches!(c, '\\' | '"' | '\'')).ok_or_else(|| {
                            let at = self.column - 1;
                            format!(
                                "column {at}: after \"\\\" only a quote or another \"\\\" may stand"
                            )
                        })?;
                    text.push(escaped);
                }
                Some(c) => text.push(c),
            }
        }
    }

    fn take_if(&mut self, fits: impl Fn(char) -> bool) -> Option<char> {
        let c = self.chars.next_if(|c| fits(*c))?;
        self.column += 1;
        Some(c)
    }
}
