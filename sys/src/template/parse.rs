//! From words to a tree.

use serde_json::Value;

use super::function::Function;
use super::lex::{Piece, Token};
use crate::{Error, Result};

/// How deep actions and parentheses may be nested.
const DEEPEST: usize = 64;

/// A part of the tree.
#[derive(Debug)]
pub(super) enum Node {
    Text(String),
    Print(Pipe),
    /// What is done where each holds, and where none does.
    If(Vec<(Pipe, Vec<Node>)>, Vec<Node>),
    With(Pipe, Vec<Node>, Vec<Node>),
    Range(Range),
    Break,
    Continue,
}

/// `range $key, $value := pipe`.
#[derive(Debug)]
pub(super) struct Range {
    pub(super) key: Option<String>,
    pub(super) value: Option<String>,
    pub(super) over: Pipe,
    pub(super) body: Vec<Node>,
    pub(super) otherwise: Vec<Node>,
}

/// `$x := a | b`: each command gets what came of the one before it as its last argument.
#[derive(Debug, Default)]
pub(super) struct Pipe {
    /// The variable, and whether it is a new one.
    pub(super) set: Option<(String, bool)>,
    pub(super) commands: Vec<Vec<Term>>,
}

/// One word of a command.
#[derive(Debug)]
pub(super) enum Term {
    Dot,
    Variable(String),
    Literal(Value),
    Function(Function),
    Pipe(Pipe),
    Field(Box<Term>, String),
}

/// The tree of a template.
pub(super) fn tree(pieces: Vec<Piece>) -> Result<Vec<Node>> {
    let mut parser = Parser { pieces: pieces.into_iter(), depth: 0, in_range: 0 };
    let (nodes, end) = parser.block()?;
    match end {
        None => Ok(nodes),
        Some((word, _)) => Err(Error::usage(format!("{{{{{word}}}}} closes nothing"))),
    }
}

struct Parser {
    pieces: std::vec::IntoIter<Piece>,
    depth: usize,
    in_range: usize,
}

/// `end`, or `else` and what follows it.
type Closing = Option<(String, Vec<Token>)>;

impl Parser {
    /// Up to an `end`, an `else` or the end of the template.
    fn block(&mut self) -> Result<(Vec<Node>, Closing)> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(Error::usage("it is nested too deeply"));
        }
        let mut out = Vec::new();
        let mut closing = None;
        while let Some(piece) = self.pieces.next() {
            let tokens = match piece {
                Piece::Text(text) => {
                    out.push(Node::Text(text));
                    continue;
                }
                Piece::Action(tokens) => tokens,
            };
            let keyword = match tokens.first() {
                Some(Token::Word(word)) => word.clone(),
                Some(_) => String::new(),
                None => return Err(Error::usage("an action is empty")),
            };
            let rest = || tokens[1..].to_vec();
            out.push(match keyword.as_str() {
                "end" | "else" => {
                    closing = Some((keyword, rest()));
                    break;
                }
                "if" => self.conditional(&rest())?,
                "with" => {
                    let pipe = pipe(&rest())?;
                    let (body, otherwise) = self.body("with")?;
                    Node::With(pipe, body, otherwise)
                }
                "range" => Node::Range(self.range(&rest())?),
                "break" | "continue" if self.in_range == 0 => {
                    return Err(Error::usage(format!("{{{{{keyword}}}}} stands in no range")));
                }
                "break" => Node::Break,
                "continue" => Node::Continue,
                "define" | "template" | "block" => {
                    return Err(Error::usage(format!("{{{{{keyword}}}}} is not known here")));
                }
                _ => Node::Print(pipe(&tokens)?),
            });
        }
        self.depth -= 1;
        Ok((out, closing))
    }

    fn conditional(&mut self, condition: &[Token]) -> Result<Node> {
        let mut branches = Vec::new();
        let mut condition = pipe(condition)?;
        loop {
            let (body, closing) = self.block()?;
            branches.push((condition, body));
            match closing {
                Some((word, rest)) if word == "else" => match rest.split_first() {
                    Some((Token::Word(word), next)) if word == "if" => condition = pipe(next)?,
                    None => return Ok(Node::If(branches, self.last("if")?)),
                    Some(_) => return Err(Error::usage("{{else}} is followed by nothing, or by if")),
                },
                Some((_, rest)) if rest.is_empty() => return Ok(Node::If(branches, Vec::new())),
                _ => return Err(open("if")),
            }
        }
    }

    fn range(&mut self, tokens: &[Token]) -> Result<Range> {
        let (names, over) = match tokens {
            [Token::Variable(value), Token::Mark(':'), over @ ..] => ([None, Some(value)], over),
            [Token::Variable(key), Token::Mark(','), Token::Variable(value), Token::Mark(':'), over @ ..] => {
                ([Some(key), Some(value)], over)
            }
            over => ([None, None], over),
        };
        let over = pipe(over)?;
        self.in_range += 1;
        let (body, otherwise) = self.body("range")?;
        self.in_range -= 1;
        let [key, value] = names.map(|n| n.cloned());
        Ok(Range { key, value, over, body, otherwise })
    }

    /// What is done, and what otherwise.
    fn body(&mut self, of: &str) -> Result<(Vec<Node>, Vec<Node>)> {
        let (body, closing) = self.block()?;
        match closing {
            Some((word, rest)) if rest.is_empty() => {
                Ok((body, if word == "else" { self.last(of)? } else { Vec::new() }))
            }
            _ => Err(open(of)),
        }
    }

    /// Behind an `else`: up to the `end`.
    fn last(&mut self, of: &str) -> Result<Vec<Node>> {
        match self.block()? {
            (nodes, Some((word, rest))) if word == "end" && rest.is_empty() => Ok(nodes),
            _ => Err(open(of)),
        }
    }
}

fn open(of: &str) -> Error {
    Error::usage(format!("{{{{{of}}}}} has no {{{{end}}}}"))
}

fn pipe(tokens: &[Token]) -> Result<Pipe> {
    let (set, tokens) = match tokens {
        [Token::Variable(name), Token::Mark(how @ (':' | '=')), rest @ ..] => {
            (Some((name.clone(), *how == ':')), rest)
        }
        rest => (None, rest),
    };
    let mut tokens = tokens;
    let pipe = commands(&mut tokens, 0)?;
    match tokens {
        [] => Ok(Pipe { set, ..pipe }),
        _ => Err(Error::usage("a parenthesis closes nothing")),
    }
}

/// Up to a closing parenthesis, which is left, or the end.
fn commands(tokens: &mut &[Token], depth: usize) -> Result<Pipe> {
    if depth > DEEPEST {
        return Err(Error::usage("it is nested too deeply"));
    }
    let mut all = vec![Vec::new()];
    while let Some((token, rest)) = tokens.split_first() {
        if *token == Token::Mark(')') {
            break;
        }
        *tokens = rest;
        let command: &mut Vec<Term> = all.last_mut().expect("there is always one");
        match token {
            Token::Mark('|') => all.push(Vec::new()),
            Token::Dot => command.push(Term::Dot),
            Token::Variable(name) => command.push(Term::Variable(name.clone())),
            Token::Literal(value) => command.push(Term::Literal(value.clone())),
            Token::Word(word) => command.push(Term::Function(word.parse()?)),
            Token::Field(name, touching) => {
                let of = if *touching { command.pop() } else { None };
                command.push(Term::Field(Box::new(of.unwrap_or(Term::Dot)), name.clone()));
            }
            Token::Mark('(') => {
                let inner = commands(tokens, depth + 1)?;
                let Some((Token::Mark(')'), rest)) = tokens.split_first() else {
                    return Err(Error::usage("a parenthesis is not closed"));
                };
                *tokens = rest;
                command.push(Term::Pipe(inner));
            }
            Token::Mark(c) => return Err(Error::usage(format!("{c:?} has no meaning there"))),
        }
    }
    match all.iter().any(Vec::is_empty) {
        true => Err(Error::usage("a command is missing")),
        false => Ok(Pipe { set: None, commands: all }),
    }
}
