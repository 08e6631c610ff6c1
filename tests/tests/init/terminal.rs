//! The terminal: its foreground goes to the command and comes back, and job control works.

use super::*;
use nix::pty::openpty;
use std::fs::File;
use std::io::{Read, Write};
use std::sync::{Arc, Mutex};

/// A terminal on which a program leads a session. All that is printed is kept.
struct Terminal {
    keyboard: File,
    screen: Arc<Mutex<String>>,
    running: Running,
}

impl Terminal {
    /// Start a program of the actor's on a new terminal.
    fn new<S: AsRef<std::ffi::OsStr>>(words: impl IntoIterator<Item = S>) -> Self {
        let pair = openpty(None, None).expect("open a terminal");
        let name = nix::unistd::ttyname(&pair.slave).expect("its name");
        let keyboard = File::from(pair.master);
        let mut output = keyboard.try_clone().expect("a second descriptor");
        let running = Cmd::new(actor())
            .arg("session")
            .arg(name)
            .args(words)
            .env("PS1", "> ")
            .env("TERM", "dumb")
            .spawn();
        let screen = Arc::new(Mutex::new(String::new()));
        let sink = screen.clone();
        let slave = pair.slave;
        std::thread::spawn(move || {
            let mut bytes = [0; 1024];
            let mut slave = Some(slave);
            while let Ok(count @ 1..) = output.read(&mut bytes) {
                // Held until the session has opened its own, or there would be no terminal at first.
                slave = None;
                sink.lock().expect("the screen").push_str(&String::from_utf8_lossy(&bytes[..count]));
            }
            drop(slave);
        });
        Self { keyboard, screen, running }
    }

    fn screen(&self) -> String {
        self.screen.lock().expect("the screen").clone()
    }

    #[track_caller]
    fn shows(&self, text: &str) {
        let end = std::time::Instant::now() + Duration::from_secs(30);
        while !self.screen().contains(text) {
            assert!(std::time::Instant::now() < end, "{text:?} does not appear:\n{}", self.screen());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Forget what was shown, and type.
    fn types(&mut self, text: &str) {
        self.screen.lock().expect("the screen").clear();
        self.keyboard.write_all(text.as_bytes()).expect("type");
    }

    #[track_caller]
    fn ends(self) -> i32 {
        let screen = self.screen.clone();
        let output = self.running.wait(LIMIT);
        output
            .unwrap_or_else(|sofar| panic!("{sofar}\nscreen:\n{}", screen.lock().expect("the screen")))
            .code()
    }
}

/// Words of a command line as one word of a shell.
fn quoted() -> String {
    command_line().iter().map(|word| format!("'{}'", word.to_string_lossy())).collect::<Vec<_>>().join(" ")
}

#[test]
fn the_foreground_goes_to_the_command_and_comes_back() {
    // init leads the session itself, as in a container.
    let words = command_line().into_iter().chain(["--", actor(), "foreground"].map(Into::into));
    let terminal = Terminal::new(words);
    terminal.shows("foreground");
    // init is one of several programs that a script runs: after it the script has the terminal again.
    let script = format!("{} -- {1} foreground; {1} foreground; echo end", quoted(), actor());
    let terminal = Terminal::new(["sh", "-c", &script]);
    terminal.shows("end");
    assert_eq!(terminal.screen().matches("foreground").count(), 2, "{}", terminal.screen());
    assert!(!terminal.screen().contains("background"), "{}", terminal.screen());
}

#[test]
fn a_background_init_leaves_the_terminal_alone() {
    let script = format!("{0} background {1} -- {0} foreground; {0} foreground; echo end", actor(), quoted());
    let terminal = Terminal::new(["sh", "-c", &script]);
    terminal.shows("end");
    let lines: Vec<String> = terminal.screen().lines().map(|line| line.trim().to_owned()).collect();
    assert_eq!(lines, ["background", "foreground", "end"]);
}

#[test]
fn a_hand_over_makes_up_no_signal_and_eats_none() {
    let words = command_line().into_iter().chain(["--", actor(), "watch"].map(Into::into));
    let terminal = Terminal::new(words);
    terminal.shows("ready");
    let init = terminal.running.pid();
    for (signal, round) in [(1, 1), (18, 1), (1, 2), (18, 2)] {
        Cmd::new(actor()).args(["send", &init.to_string(), &signal.to_string()]).ok();
        eventually("each arrives once", || {
            terminal.screen().matches(&format!("signal {signal} ")).count() == round
        });
    }
    assert_eq!(terminal.screen().matches("signal ").count(), 4, "{}", terminal.screen());
}

#[test]
fn a_shell_under_init_has_job_control() {
    if !need(Privilege::Peer("bash")) {
        return;
    }
    for place in places() {
        let place: &[&str] = if *place == Place::Pid1 { &["pid1"] } else { &[] };
        let before = place.iter().map(Into::into).chain(command_line());
        let mut terminal = Terminal::new(before.chain(["--", "bash", "--norc", "-i"].map(Into::into)));
        exercise(&mut terminal, "sleep 1000");
        terminal.types("exit 6\n");
        assert_eq!(terminal.ends(), 6);
    }
}

#[test]
fn init_is_a_job_of_a_shell_like_any_other() {
    if !need(Privilege::Peer("bash")) {
        return;
    }
    let mut terminal = Terminal::new(["bash", "--norc", "-i"]);
    exercise(&mut terminal, &format!("{} -- sleep 1000", quoted()));
    terminal.types("exit 7\n");
    assert_eq!(terminal.ends(), 7);
}

/// Ctrl-C, Ctrl-Z, fg and bg of a job of a shell.
#[track_caller]
fn exercise(terminal: &mut Terminal, job: &str) {
    let running = "'%.s-' {1..3}; echo";
    terminal.shows("> ");
    assert!(!terminal.screen().contains("no job control"), "{}", terminal.screen());
    let start = |terminal: &mut Terminal, ampersand: &str| {
        terminal.types(&format!("printf {running} started; {job}{ampersand}\n"));
        terminal.shows("---started");
        // The shell has put the job where it belongs once it sleeps.
        std::thread::sleep(Duration::from_millis(300));
    };
    start(terminal, "");
    terminal.types("\x03");
    terminal.types("echo code-$?-\n");
    terminal.shows("code-130-");
    start(terminal, "");
    terminal.types("\x1a");
    terminal.shows("Stopped");
    terminal.types("fg\n");
    terminal.shows("sleep 1000");
    std::thread::sleep(Duration::from_millis(300));
    terminal.types("\x1a");
    terminal.shows("Stopped");
    terminal.types("bg\n");
    terminal.shows("sleep 1000 &");
    terminal.types("jobs\n");
    terminal.shows("Running");
    terminal.types("fg\n");
    std::thread::sleep(Duration::from_millis(300));
    terminal.types("\x03");
    terminal.types("echo code-$?-\n");
    terminal.shows("code-130-");
    start(terminal, " &");
    terminal.types("echo prompt-$((6*7))\n");
    terminal.shows("prompt-42");
    terminal.types("kill %%; wait; echo over-$((6*7))\n");
    terminal.shows("over-42");
}
