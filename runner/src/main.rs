//! `runner [--root DIR] run --bundle DIR ID`

use std::path::Path;

use coracle_runner::commands::run_bundle::{self, Flags};
use coracle_sys::process::Status;
use coracle_sys::{Error, Kind, Result};

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let code = run(&args).unwrap_or_else(|e| {
        eprintln!("runner: {e}");
        match e.kind() {
            Kind::CannotExecute => 126,
            Kind::CommandNotFound => 127,
            _ => 125,
        }
    });
    std::process::exit(code);
}

fn run(args: &[String]) -> Result<i32> {
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let (root, bundle, id) = match words[..] {
        ["run", "--bundle", bundle, id] => (None, bundle, id),
        ["--root", root, "run", "--bundle", bundle, id] => (Some(root.into()), bundle, id),
        _ => return Err(Error::usage("[--root DIR] run --bundle DIR ID")),
    };
    let flags = Flags { root, ..Flags::default() };
    Ok(match run_bundle::run(Path::new(bundle), id, &flags, |c| c.wait())?.status {
        Status::Exited(code) => code,
        Status::Signaled(signal) => 128 + signal,
    })
}
