//! `runner run --bundle DIR ID`

use std::path::Path;

use coracle_runner::commands::run_bundle::{self, Flags};
use coracle_sys::process::Status;
use coracle_sys::{Error, Result};

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let code = run(&args).unwrap_or_else(|e| {
        eprintln!("runner: {e}");
        125
    });
    std::process::exit(code);
}

fn run(args: &[String]) -> Result<i32> {
    let [verb, flag, bundle, id] = args else { return Err(Error::usage("run --bundle DIR ID")) };
    if (verb.as_str(), flag.as_str()) != ("run", "--bundle") {
        return Err(Error::usage("run --bundle DIR ID"));
    }
    Ok(match run_bundle::run(Path::new(bundle), id, &Flags::default())?.status {
        Status::Exited(code) => code,
        Status::Signaled(signal) => 128 + signal,
    })
}
