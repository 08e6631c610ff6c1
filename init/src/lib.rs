//! PID 1 of a container, and of a machine: starts one command, forwards signals to it, reaps what it leaves behind,
//! and ends with its exit code. Command line and environment are those of tini, and more.
//!
//! It allocates nothing, has one thread and no signal handler: every signal is blocked before
//! anything else is done and read back from a signalfd, so that none is lost. In a container it does not mount,
//! configure or isolate anything: that is its caller's work. A machine has no such caller: there `boot` does it.
//!
//! Reading order: `args` (what was asked), `child` (the command's side of the fork), `supervise`
//! (the loop), `reap`, `tree` (what outlives the command), `terminal`; and `boot`, by itself.

#![cfg_attr(not(test), no_std)]

mod args;
mod boot;
mod bytes;
mod child;
mod directory;
mod log;
mod reap;
mod signals;
mod supervise;
mod sys;
mod terminal;
mod text;
mod tree;

pub use sys::abort;

use args::Action;
use log::Line;

/// What the kernel gave the program, decided upon and carried out. Returns the exit code.
fn run(argv: sys::Argv, env: sys::Env) -> u8 {
    // Who only executes makes no call that a filter of the command's might not know, and loses no signal that the
    // command would have had.
    let mask = match argv.from(1).first() == c"--exec" {
        true => None,
        false => Some(sys::block_all_signals()),
    };
    // Nobody gives the machine's PID 1 a command line with a `--` in it, and who does is spared the question.
    if mask.is_some()
        && !argv.bytes().any(|word| word == b"--")
        && sys::getpid() == 1
        && boot::is_the_machines()
    {
        boot::run(env);
    }
    // A script whose interpreter is init would run itself for ever.
    let name = argv.first().to_bytes();
    if name.starts_with(b"/proc/") && name.ends_with(b"/exe") {
        Line::new().text(name).text(b": init is no interpreter of scripts").complain();
        return 126;
    }
    match args::parse(argv.bytes(), |name| env.get(name)) {
        Ok(Action::Help) => print(&args::HELP),
        Ok(Action::Version) => print(args::VERSION.as_bytes()),
        Ok(Action::License) => print(&args::LICENSE),
        Ok(Action::Exec(options, at)) => child::exec_only(&options, argv.from(at), env, mask),
        Ok(Action::Run(options, at)) => supervise::run(&options, argv.from(at), env, mask),
        Err(refusal) => {
            Line::new().text(refusal.what).text(b": ").text(refusal.why).complain();
            1
        }
    }
}

fn print(text: &[u8]) -> u8 {
    sys::write(1, text);
    0
}
