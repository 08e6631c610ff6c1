//! The one error type. A leaf is a system call with its arguments, as strace prints it; what wraps
//! it are bare verb phrases (`mount the overlay`). An error is printed once, at the program's edge.

use std::borrow::Cow;
use std::fmt::{self, Write};

use nix::errno::Errno;

/// What sort of error it is: it decides the exit code, and lets a caller act on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The command line is wrong: a missing argument, flags that do not go together.
    Usage,
    /// A flag of it is: unknown, without its value, or with one that it does not take.
    Flag,
    /// Input that is not what it should be: a broken config.json, a hostile archive.
    Invalid,
    /// A thing that was named does not exist: an image, a container, a file.
    NotFound,
    /// A thing that was to be made exists already.
    Exists,
    /// It is in use, or another process holds it.
    Busy,
    /// The kernel or the host's policy refuses.
    Denied,
    /// This host, kernel or build cannot do it.
    Unsupported,
    /// The container's command exists and cannot be executed (exit code 126).
    CannotExecute,
    /// The container's command does not exist (exit code 127).
    CommandNotFound,
    /// A system call failed for any other reason.
    System,
}

/// An error: what was being done, of which kind, and why.
pub struct Error {
    what: Cow<'static, str>,
    kind: Kind,
    errno: Option<Errno>,
    cause: Option<Box<Error>>,
}

/// `Result` with the one error type.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error that has no cause below it.
    pub fn new(kind: Kind, what: impl Into<Cow<'static, str>>) -> Self {
        Self { what: what.into(), kind, errno: None, cause: None }
    }

    /// The command line is wrong.
    pub fn usage(what: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Kind::Usage, what)
    }

    /// A flag is wrong.
    pub fn flag(what: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Kind::Flag, what)
    }

    /// The input is wrong.
    pub fn invalid(what: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Kind::Invalid, what)
    }

    /// A named thing does not exist.
    pub fn not_found(what: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Kind::NotFound, what)
    }

    /// This host cannot do it.
    pub fn unsupported(what: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Kind::Unsupported, what)
    }

    /// A system call failed: `call` is the call with its arguments, as strace prints it.
    pub fn syscall(call: impl Into<Cow<'static, str>>, errno: Errno) -> Self {
        let kind = match errno {
            Errno::ENOENT => Kind::NotFound,
            Errno::EEXIST => Kind::Exists,
            Errno::EBUSY => Kind::Busy,
            Errno::EPERM | Errno::EACCES => Kind::Denied,
            Errno::ENOSYS | Errno::EOPNOTSUPP => Kind::Unsupported,
            _ => Kind::System,
        };
        Self { what: call.into(), kind, errno: Some(errno), cause: None }
    }

    /// Put what was being done around this error. The kind stays that of the cause.
    pub fn wrap(self, what: impl Into<Cow<'static, str>>) -> Self {
        Self { what: what.into(), kind: self.kind, errno: None, cause: Some(Box::new(self)) }
    }

    /// The same error under another kind.
    pub fn with_kind(mut self, kind: Kind) -> Self {
        self.kind = kind;
        self
    }

    /// Is it the command line that is wrong?
    pub fn is_usage(&self) -> bool {
        matches!(self.kind, Kind::Usage | Kind::Flag)
    }

    /// Its kind.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The errno at the bottom of the chain, where a system call is the cause.
    pub fn errno(&self) -> Option<Errno> {
        self.errno.or_else(|| self.cause.as_ref().and_then(|c| c.errno()))
    }
}

/// A part of an error that quotes more than this is cut, in characters.
const LONGEST: usize = 5000;

/// One line: `what: cause: ...: Operation not permitted`. What an image or an archive named is in it as
/// well, so control characters are escaped.
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut chars = self.what.chars();
        for c in chars.by_ref().take(LONGEST) {
            match c {
                '\n' | '\t' => f.write_char(c)?,
                c if c.is_control() => write!(f, "{}", c.escape_default())?,
                c => f.write_char(c)?,
            }
        }
        if chars.next().is_some() {
            f.write_str("...")?;
        }
        if let Some(errno) = self.errno {
            write!(f, ": {}", errno.desc())?;
        }
        match &self.cause {
            Some(cause) => write!(f, ": {cause}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {self}", self.kind)
    }
}

impl std::error::Error for Error {}

/// Say what was being done when an error came up.
pub trait Context<T> {
    /// Wrap the error, if there is one, in what was being done. Called only on errors.
    fn context<S: Into<Cow<'static, str>>>(self, what: impl FnOnce() -> S) -> Result<T>;
}

impl<T> Context<T> for Result<T> {
    fn context<S: Into<Cow<'static, str>>>(self, what: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|e| e.wrap(what()))
    }
}

impl<T> Context<T> for Result<T, Errno> {
    /// For a bare system call: `what` is the call with its arguments.
    fn context<S: Into<Cow<'static, str>>>(self, what: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|e| Error::syscall(what(), e))
    }
}

impl<T> Context<T> for std::io::Result<T> {
    /// For a bare I/O call: `what` is the call with its arguments.
    fn context<S: Into<Cow<'static, str>>>(self, what: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|e| match e.raw_os_error() {
            Some(n) => Error::syscall(what(), Errno::from_raw(n)),
            None => Error::new(Kind::Invalid, e.to_string()).wrap(what()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_reads_as_one_chain_with_the_system_call_last() {
        let e: Result<()> = Err(Errno::EPERM).context(|| "mount(\"proc\", \"/proc\")");
        let e = e.context(|| "mount the container's /proc").unwrap_err();
        assert_eq!(
            e.to_string(),
            "mount the container's /proc: mount(\"proc\", \"/proc\"): Operation not permitted"
        );
        assert_eq!((e.kind(), e.errno()), (Kind::Denied, Some(Errno::EPERM)));
    }

    #[test]
    fn a_name_in_an_error_does_nothing_to_a_terminal() {
        let e = Error::usage("invalid signal: \u{1b}]0;x\u{7}\u{9b}1mé").wrap("read the image");
        assert_eq!(e.to_string(), "read the image: invalid signal: \\u{1b}]0;x\\u{7}\\u{9b}1mé");
    }

    #[test]
    fn a_kind_that_was_set_is_kept_by_what_wraps_it() {
        let e = Error::syscall("execve(\"/x\")", Errno::ENOENT).with_kind(Kind::CommandNotFound);
        assert_eq!(e.wrap("start the command").kind(), Kind::CommandNotFound);
    }

    #[test]
    fn what_is_quoted_at_length_is_cut() {
        let long = Error::invalid("x".repeat(100_000)).wrap("read it");
        let text = long.to_string();
        assert!(
            text.len() < 5100 && text.starts_with("read it: xxx") && text.ends_with("..."),
            "{}",
            text.len()
        );
    }
}
