//! Writes the man pages and shell completions of the three programs: `coracle-docs INIT FOLDER`. Flags, verbs and
//! examples are those of the tables that the programs themselves read their command lines with; of `init`, which
//! has no such table, its `--help`. Runs while the programs are built, and is not shipped.

mod bash;
mod fish;
mod init;
mod man;
mod program;
mod zsh;

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use program::Program;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [init, folder] = &args[..] else { return Err("usage: coracle-docs INIT FOLDER".into()) };
    write(&folder.join("man/man1/coracle-init.1"), &init::page(init)?)?;
    for program in [Program::runner(), Program::rootfs_tool()] {
        for (name, page) in man::pages(&program) {
            write(&folder.join(format!("man/man1/{name}.1")), &page)?;
        }
        let name = program.name;
        write(&folder.join(format!("bash-completion/completions/{name}")), &bash::script(&program))?;
        write(&folder.join(format!("zsh/site-functions/_{name}")), &zsh::script(&program))?;
        write(&folder.join(format!("fish/vendor_completions.d/{name}.fish")), &fish::script(&program))?;
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<(), Box<dyn Error>> {
    let put = || {
        path.parent().map_or(Ok(()), fs::create_dir_all)?;
        fs::write(path, text)
    };
    put().map_err(|e| format!("write {}: {e}", path.display()).into())
}
