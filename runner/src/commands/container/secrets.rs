//! The secrets of a start: read now, and put where the container finds them.

use std::path::Path;

use coracle_sys::{Context, Error, Result};

use crate::from_image::flags::Flags;
use crate::from_image::secrets::{Kind, parse};
use crate::from_image::set_variable;
use crate::mounts::{Mount, Secret};
use crate::plan::Plan;

/// Where they are unless it is said.
const HOME: &str = "/run/secrets";

/// Add those of the flags, as they are meant in the folder `here`.
pub(super) fn add(flags: &Flags, here: &Path, plan: &mut Plan) -> Result<()> {
    let mut files = Vec::new();
    for text in &flags.secret {
        let secret = parse(text, here)?;
        let bytes = secret.read().context(|| format!("--secret {text}"))?;
        match secret.kind {
            Kind::Variable(name) => {
                let value = String::from_utf8(bytes).ok().filter(|value| !value.contains('\0'));
                let value = value.ok_or_else(|| {
                    Error::invalid(format!("--secret {text}: what is no text cannot be a variable"))
                })?;
                set_variable(&mut plan.process.env, &format!("{name}={value}"));
            }
            Kind::File { at, uid, gid, mode } => {
                files.retain(|m: &Mount| m.at != at);
                files.push(Mount::secret(at, Secret { bytes, uid, gid, mode }));
            }
        }
    }
    let covered = plan.mounts.iter().any(|m| m.at == Path::new(HOME));
    if files.iter().any(|m| m.at.starts_with(HOME)) && !covered {
        plan.mounts.push(Mount::sealed_memory(HOME.into())?);
    }
    plan.mounts.extend(files);
    Ok(())
}
