//! `state ID`: the state document.

use coracle_sys::Result;

use super::Global;
use super::oci::{Container, text};

/// Print it.
pub(crate) fn run(global: &Global, id: &str) -> Result<u8> {
    let container = Container::find(global, id)?;
    coracle_sys::print::json_text(text(&container.document(container.status()?), true));
    Ok(0)
}
