//! `top`: the processes of a container, by ps(1) of the host.

use std::ffi::OsString;

use argh::CommandInfoWithArgs;
use coracle_sys::argv::Tail;
use coracle_sys::{Error, Result, table};

use super::kill::running;
use super::typed::{self, Typed};
use super::{Global, container, processes};
use crate::cgroups::Cgroup;

/// Its flags are those of ps(1), behind the container.
pub(crate) static TABLE: CommandInfoWithArgs = typed::table(
    "top",
    "List the processes of a container, by ps(1) of the host with its own flags behind the container.",
    typed::PROCESSES,
    &[],
    &["runner top my-container", "runner top my-container -o pid,args"],
);

/// Print them.
pub(crate) fn run(global: &Global, words: &[OsString]) -> Result<u8> {
    let Some((typed, tail)) = Typed::before(&TABLE, words, Tail::After(1))? else { return Ok(0) };
    let Some(named) = typed.words.first() else {
        return Err(Error::usage("top needs the name or id of a container"));
    };
    let store = container::store(global)?;
    let state = running(&store, named)?;
    let pids = processes::within(&Cgroup::open(state.cgroups.clone())?, state.init)?;
    let text = processes::of(&processes::said(&tail)?, &pids)?;
    let columns = text.lines().next().map_or(0, |head| head.split_whitespace().count());
    let rows: Vec<Vec<String>> = text.lines().map(|line| cells(line, columns)).collect();
    table::print(&rows, false);
    Ok(0)
}

/// The last column may hold blanks.
fn cells(line: &str, columns: usize) -> Vec<String> {
    let mut rest = line.trim();
    let mut cells = Vec::new();
    while cells.len() + 1 < columns {
        let (cell, tail) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        cells.push(cell.to_owned());
        rest = tail.trim_start();
    }
    cells.push(rest.to_owned());
    cells
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_stays_one_cell() {
        assert_eq!(cells("root  1  0 sleep  1000 x", 4), ["root", "1", "0", "sleep  1000 x"]);
        assert_eq!(cells("7", 1), ["7"]);
    }
}
