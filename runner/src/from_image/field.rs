//! How the words of one flag become a member of a struct, and words again: what a table of flags is made of. There is
//! one small piece of code for each type that a member may have, and none for a flag.

use std::path::PathBuf;

use argh::{FlagInfo, FlagInfoKind, Optionality};

/// A member that a flag fills.
pub(super) trait Field {
    /// Take what was said; nothing is said with a switch. What is wrong with it comes back.
    fn say(&mut self, text: String) -> Result<(), String>;

    /// All that was said.
    fn said(&self) -> Vec<String>;
}

/// How often a flag of this type may be said, and whether with a value.
pub(super) trait Kind {
    const SWITCH: bool = false;
    const REPEATS: bool = false;
}

/// A flag's row in the table that help, man pages and completions are made of.
pub(super) const fn row<T: Kind>(
    long: &'static str,
    short: Option<char>,
    description: &'static str,
    hidden: bool,
) -> FlagInfo<'static> {
    let kind = match T::SWITCH {
        true => FlagInfoKind::Switch,
        false => FlagInfoKind::Option { arg_name: long.split_at(2).1 },
    };
    let optionality = if T::REPEATS { Optionality::Repeating } else { Optionality::Optional };
    FlagInfo { kind, optionality, long, short, description, hidden }
}

impl Kind for bool {
    const SWITCH: bool = true;
}

impl Field for bool {
    fn say(&mut self, _: String) -> Result<(), String> {
        *self = true;
        Ok(())
    }

    fn said(&self) -> Vec<String> {
        self.then(String::new).into_iter().collect()
    }
}

impl Kind for Vec<String> {
    const REPEATS: bool = true;
}

impl Field for Vec<String> {
    fn say(&mut self, text: String) -> Result<(), String> {
        self.push(text);
        Ok(())
    }

    fn said(&self) -> Vec<String> {
        self.clone()
    }
}

impl Kind for Option<String> {}

impl Field for Option<String> {
    fn say(&mut self, text: String) -> Result<(), String> {
        *self = Some(text);
        Ok(())
    }

    fn said(&self) -> Vec<String> {
        self.iter().cloned().collect()
    }
}

impl Kind for Option<PathBuf> {}

impl Field for Option<PathBuf> {
    fn say(&mut self, text: String) -> Result<(), String> {
        *self = Some(text.into());
        Ok(())
    }

    fn said(&self) -> Vec<String> {
        // It was text before, so nothing is lost.
        self.iter().map(|path| path.to_string_lossy().into_owned()).collect()
    }
}

/// Of what was read, or of what may stand there.
fn number<T>(read: Option<T>, least: i64, most: u64) -> Result<T, String> {
    read.ok_or_else(|| format!("it is a whole number from {least} to {most}"))
}

macro_rules! numbers {
    ($($type:ty),*) => {$(
        impl Kind for Option<$type> {}

        impl Field for Option<$type> {
            fn say(&mut self, text: String) -> Result<(), String> {
                *self = Some(number(text.parse().ok(), <$type>::MIN as i64, <$type>::MAX as u64)?);
                Ok(())
            }

            fn said(&self) -> Vec<String> {
                self.iter().map(<$type>::to_string).collect()
            }
        }
    )*};
}
numbers!(u16, u64, i32, i64);

/// One that is 0 if nothing is said.
impl Kind for u32 {}

impl Field for u32 {
    fn say(&mut self, text: String) -> Result<(), String> {
        *self = number(text.parse().ok(), 0, u32::MAX.into())?;
        Ok(())
    }

    fn said(&self) -> Vec<String> {
        (*self > 0).then(|| self.to_string()).into_iter().collect()
    }
}
