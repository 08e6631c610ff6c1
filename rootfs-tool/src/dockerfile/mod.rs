//! Dockerfiles, in the language as BuildKit has it. Each module says which part of it is there.

pub(crate) mod build;
pub(crate) mod cache;
mod chmod;
mod config;
pub(crate) mod context;
mod copy;
pub(crate) mod exec;
mod flags;
mod git;
mod glob;
mod health;
mod ignore;
pub(crate) mod instruction;
pub(crate) mod lines;
mod mounts;
mod network;
pub(crate) mod output;
mod owner;
mod pattern;
pub(crate) mod report;
pub(crate) mod secrets;
pub(crate) mod stages;
mod suggest;
pub(crate) mod words;

/// What hostile input is thrown at.
pub mod fuzzed {
    use super::ignore::Ignore;
    use super::stages;
    use super::words::Lexer;

    /// How many stages a Dockerfile has, or the line of its error.
    pub fn dockerfile(text: &str) -> Result<usize, usize> {
        stages::read(text).map(|file| file.stages.len()).map_err(|(line, _)| line)
    }

    /// Is a path ignored? Nothing where the list cannot be read.
    pub fn ignores(list: &str, path: &str) -> Option<bool> {
        Ignore::read(list).ok().map(|list| list.matches(path))
    }

    /// A word, expanded with a few variables.
    pub fn word(text: &str) -> Option<String> {
        let value =
            |name: &str| ["A", "B", "C", "D", "E"].contains(&name).then(|| format!("/usr/{name}.b.c"));
        Lexer::new('\\').word(text, &value).ok()
    }
}
