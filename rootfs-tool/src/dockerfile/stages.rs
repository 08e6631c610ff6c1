//! A Dockerfile as stages: global arguments, and each FROM with the instructions behind it.

use coracle_sys::{Error, Kind, Result};

use super::instruction::{self, Arguments, COMMENT, From, Instruction, has_comment};
use super::lines::{self, Line, Located};

/// A step of a stage.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    /// Where it stands.
    pub(crate) line: Line,
    /// What it says.
    pub(crate) instruction: Instruction,
    /// It comes from the base image.
    pub(crate) triggered: bool,
}

/// A stage.
#[derive(Clone, Debug)]
pub(crate) struct Stage {
    pub(crate) line: Line,
    pub(crate) from: From,
    pub(crate) steps: Vec<Step>,
}

/// A Dockerfile.
#[derive(Debug)]
pub(crate) struct File {
    /// ARG before the first FROM.
    pub(crate) globals: Vec<(usize, Arguments)>,
    pub(crate) stages: Vec<Stage>,
    pub(crate) escape: char,
    /// What is worth a word: line, rule and text.
    pub(crate) warnings: Vec<(usize, String)>,
}

/// Read a Dockerfile. The error has its line.
pub(crate) fn read(text: &str) -> Result<File, Located> {
    let lines = lines::read(text)?;
    let check = Check::parse(lines.check.as_deref().unwrap_or_default()).map_err(|e| (1, e))?;
    let mut out =
        File { globals: Vec::new(), stages: Vec::new(), escape: lines.escape, warnings: lines.warnings };
    for line in lines.lines {
        let at = line.number;
        let parsed = instruction::parse(&line, lines.escape);
        let instruction = parsed.map_err(|e| (at, e.wrap(format!("dockerfile parse error on line {at}"))))?;
        warn(&line, &instruction, &mut out.warnings);
        match (instruction, out.stages.last_mut()) {
            (Instruction::From(from), _) => out.stages.push(Stage { line, from, steps: Vec::new() }),
            (Instruction::Arg(args), None) => out.globals.push((at, args)),
            (_, None) => {
                return Err((at, Error::invalid("no build stage in current context: FROM comes first")));
            }
            (instruction, Some(stage)) => stage.steps.push(Step { line, instruction, triggered: false }),
        }
    }
    if out.stages.is_empty() {
        return Err((1, Error::invalid("dockerfile contains no stages to build: there is no FROM")));
    }
    used_once(&out.stages, &mut out.warnings);
    out.warnings.retain(|(_, text)| !check.skips(text));
    match (check.error, out.warnings.first()) {
        (true, Some((at, text))) => Err((*at, Error::invalid(format!("lint violation found: {text}")))),
        _ => Ok(out),
    }
}

/// The steps that a base image asks for.
pub(crate) fn triggers(texts: &[String], at: usize) -> Result<Vec<Step>> {
    let mut out = Vec::new();
    for text in texts {
        let wrap = |e: Error| e.wrap(format!("ONBUILD {text:?}"));
        let lines = lines::read(text).map_err(|(_, e)| wrap(e))?;
        if lines.lines.len() != 1 {
            return Err(wrap(Error::invalid("onbuild trigger should be a single expression")));
        }
        for mut line in lines.lines {
            let instruction = instruction::parse(&line, '\\').map_err(wrap)?;
            if matches!(
                instruction,
                Instruction::From(_) | Instruction::OnBuild(_) | Instruction::Maintainer(_)
            ) {
                return Err(wrap(Error::new(Kind::Invalid, "it isn't allowed as an ONBUILD trigger")));
            }
            (line.number, line.last) = (at, at);
            out.push(Step { line, instruction, triggered: true });
        }
    }
    Ok(out)
}

/// `# check=skip=RULE,RULE;error=true`.
struct Check {
    skip: Vec<String>,
    error: bool,
}

impl Check {
    fn parse(text: &str) -> Result<Self> {
        let mut out = Self { skip: Vec::new(), error: false };
        for part in text.split(';').map(str::trim).filter(|p| !p.is_empty()) {
            match part.split_once('=') {
                Some(("skip", rules)) => out.skip.extend(rules.split(',').map(|r| r.trim().to_lowercase())),
                Some(("error", "true")) => out.error = true,
                Some(("error", "false")) => {}
                Some(("experimental", _)) => {}
                _ => return Err(Error::invalid(format!("# check={text}: {part:?} is not known"))),
            }
        }
        Ok(out)
    }

    fn skips(&self, warning: &str) -> bool {
        let rule = warning.split(':').next().unwrap_or_default().to_lowercase();
        self.skip.iter().any(|s| *s == "all" || *s == rule)
    }
}

/// What docker's linter says of one line, and comments that are none.
fn warn(line: &Line, instruction: &Instruction, out: &mut Vec<(usize, String)>) {
    let mut say = |text: String| out.push((line.number, text));
    let word = &line.word;
    let lower = line.typed.chars().any(char::is_lowercase);
    if lower && line.typed.chars().any(char::is_uppercase) {
        say(format!("ConsistentInstructionCasing: Command '{}' should be consistently cased", line.typed));
    }
    let comment = match instruction {
        Instruction::Workdir(_)
        | Instruction::User(_)
        | Instruction::Maintainer(_)
        | Instruction::StopSignal(_) => has_comment(&line.rest),
        Instruction::Volume(_) => has_comment(&line.rest),
        Instruction::Cmd(c) | Instruction::Entrypoint(c) => {
            c.shell && line.rest.starts_with('[') && line.rest.contains("] #")
        }
        _ => false,
    };
    if comment {
        say(format!("{word}: what stands behind # is part of it: {COMMENT}"));
    }
    match instruction {
        Instruction::Maintainer(_) => {
            say("MaintainerDeprecated: Maintainer instruction is deprecated in favor of using label"
                .to_owned())
        }
        Instruction::Cmd(c) | Instruction::Entrypoint(c) if c.shell => say(format!(
            "JSONArgsRecommended: JSON arguments recommended for {word} to prevent unintended behavior related to OS signals"
        )),
        Instruction::Env(all) | Instruction::Label(all)
            if all.len() == 1 && !line.rest.starts_with(&format!("{}=", all[0].0)) =>
        {
            say(format!(
                "LegacyKeyValueFormat: \"{word} key=value\" should be used instead of legacy \"{word} key value\" format"
            ));
        }
        Instruction::From(f) if f.name.is_some() => {
            let typed = line.rest.split_whitespace().nth(1).unwrap_or_default();
            if typed.chars().any(char::is_lowercase) != lower {
                say(format!("FromAsCasing: '{typed}' and '{}' keywords' casing do not match", line.typed));
            }
        }
        _ => {}
    }
}

/// Of these the last one counts.
fn used_once(stages: &[Stage], out: &mut Vec<(usize, String)>) {
    for stage in stages {
        for word in ["CMD", "ENTRYPOINT", "HEALTHCHECK"] {
            let all: Vec<usize> =
                stage.steps.iter().filter(|s| s.line.word == word).map(|s| s.line.number).collect();
            for at in all.iter().rev().skip(1) {
                out.push((*at, format!("MultipleInstructionsDisallowed: Multiple {word} instructions should not be used in the same stage because only the last one will be used")));
            }
        }
    }
    for (n, stage) in stages.iter().enumerate() {
        if let Some(name) = &stage.from.name
            && stages[..n].iter().any(|s| s.from.name.as_ref() == Some(name))
        {
            out.push((
                stage.line.number,
                format!("DuplicateStageName: Duplicate stage name {name:?}, stage names should be unique"),
            ));
        }
    }
}

#[cfg(test)]
mod tests;
