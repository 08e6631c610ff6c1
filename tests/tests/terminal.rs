//! `run -it` in a real terminal, tmux's: keys, window size, and that it is sane afterwards.

use coracle_tests::rootfs::Image;
use coracle_tests::{Cmd, Privilege, Store, eventually, need};

/// A tmux server of its own with one window in which a shell runs.
struct Tmux {
    socket: String,
}

impl Tmux {
    fn new(name: &str, shell: &str) -> Self {
        let tmux = Self { socket: format!("coracle-{name}-{}", std::process::id()) };
        let start = ["-f", "/dev/null", "new-session", "-d", "-x", "80", "-y", "24", shell];
        tmux.command().args(start).ok();
        tmux
    }

    fn command(&self) -> Cmd {
        Cmd::new("tmux")
            .args(["-L", &self.socket])
            .env("PS1", "$ ")
            .env("LC_ALL", "C.UTF-8")
            .env_remove("TMUX")
    }

    /// Type a line.
    fn line(&self, text: &str) {
        self.command().args(["send-keys", "-l", text]).ok();
        self.key("Enter");
    }

    fn key(&self, name: &str) {
        self.command().args(["send-keys", name]).ok();
    }

    /// The modes of the terminal, as they are outside of the container.
    fn modes(&self) -> String {
        let tty = self.command().args(["display-message", "-p", "#{pane_tty}"]).ok().stdout;
        Cmd::new("stty").args(["-a", "-F", tty.trim()]).ok().stdout
    }

    fn screen(&self) -> String {
        self.command().args(["capture-pane", "-p"]).ok().stdout
    }

    /// Wait until a whole line of the screen is this.
    #[track_caller]
    fn shows(&self, line: &str) {
        eventually(&format!("the line {line:?}"), || self.screen().lines().any(|l| l.trim_end() == line));
    }
}

impl Drop for Tmux {
    fn drop(&mut self) {
        self.command().arg("kill-server").run();
    }
}

fn store(name: &str) -> Option<Store> {
    if !need(Privilege::Peer("busybox")) || !need(Privilege::Peer("tmux")) {
        return None;
    }
    let store = Store::new(name);
    Image::busybox()?.compose(&store, "box");
    Some(store)
}

/// The command line that runs a shell in a container, as it is typed into the terminal.
fn shell_in(store: &Store, name: &str) -> String {
    let runner = coracle_tests::binaries::runner();
    format!("{} --store {} run --rm --name {name} -it box sh", runner.display(), store.path().display())
}

#[test]
fn a_shell_in_a_container_feels_like_a_shell() {
    let Some(store) = store("terminal-feel") else { return };
    for shell in ["bash --norc", "dash"] {
        let tmux = Tmux::new(&format!("feel-{}", &shell[..4]), shell);
        tmux.line(&format!("{}; echo left with $?", shell_in(&store, "feel")));
        tmux.line("echo in$((1+1))side");
        tmux.shows("in2side");
        tmux.line("stty size");
        tmux.shows("24 80");
        tmux.command().args(["resize-window", "-x", "70", "-y", "20"]).ok();
        eventually("the new window size", || {
            tmux.line("stty size");
            tmux.screen().lines().any(|l| l.trim_end() == "20 70")
        });
        tmux.line("sleep 600; echo inter$((1+1))rupted $?");
        eventually("the sleep", || {
            tmux.key("C-c");
            tmux.line("echo still$((1+1))here");
            tmux.screen().lines().any(|l| l.trim_end() == "still2here")
        });
        tmux.line("exit 5");
        tmux.shows("left with 5");
        sane(&tmux);
    }
}

/// The terminal echoes and reads lines again.
#[track_caller]
fn sane(tmux: &Tmux) {
    eventually("a sane terminal", || {
        tmux.line("stty -a | grep -q ' echo .*' && stty -a | grep -q ' icanon' && echo sa$((1+1))ne");
        tmux.screen().lines().any(|l| l.trim_end() == "sa2ne")
    });
}

#[test]
fn the_terminal_is_sane_after_the_runner_is_killed() {
    let Some(store) = store("terminal-kill") else { return };
    for shell in ["bash --norc", "dash"] {
        let tmux = Tmux::new(&format!("kill-{}", &shell[..4]), shell);
        tmux.line(&shell_in(&store, "killed"));
        tmux.line("echo in$((1+1))side");
        tmux.shows("in2side");
        // Its guardian has the same line, and is younger.
        let line = format!("--store {} run --rm --name killed", store.path().display());
        let found = Cmd::new("pgrep").args(["-o", "-f", "--", &line]).ok();
        let pid = found.stdout.trim().to_owned();
        Cmd::new("kill").args(["-9", &pid]).ok();
        sane(&tmux);
        eventually("the container is gone", || store.runner().words("ps -q").ok().stdout.is_empty());
    }
}

#[test]
fn a_runner_that_is_stopped_gives_the_terminal_back_and_takes_it_again() {
    let Some(store) = store("terminal-stop") else { return };
    for shell in ["bash --norc", "dash"] {
        let tmux = Tmux::new(&format!("stop-{}", &shell[..4]), shell);
        tmux.line(&shell_in(&store, "stopped"));
        tmux.line("echo in$((1+1))side");
        tmux.shows("in2side");
        let line = format!("--store {} run --rm --name stopped", store.path().display());
        let found = Cmd::new("pgrep").args(["-o", "-f", "--", &line]).ok();
        Cmd::new("kill").args(["-TSTP", found.stdout.trim()]).ok();
        sane(&tmux);
        tmux.line("fg");
        eventually("a raw terminal", || tmux.modes().contains("-icanon") && tmux.modes().contains("-isig"));
        tmux.line("echo ba$((1+1))ck");
        tmux.shows("ba2ck");
        tmux.line("exit");
        sane(&tmux);
    }
}

#[test]
fn a_container_in_the_background_outlives_the_terminal_that_is_attached_to_it() {
    let Some(store) = store("terminal-closed") else { return };
    let reads = "while read line; do echo got $line; done";
    store.runner().words("run -dit --name stays box sh -c").arg(reads).ok();
    store.runner().words("create -it --name started box sh -c").arg(reads).ok();
    let runner =
        format!("{} --store {}", coracle_tests::binaries::runner().display(), store.path().display());
    for (name, verb) in [("stays", "attach"), ("started", "start -ai")] {
        let tmux = Tmux::new(&format!("closed-{name}"), &format!("exec {runner} {verb} {name}"));
        let pid = tmux.command().args(["display-message", "-p", "#{pane_pid}"]).ok().stdout;
        eventually("the container's answer", || {
            tmux.line("typed");
            tmux.screen().contains("got typed")
        });
        drop(tmux);
        let attached = std::path::Path::new("/proc").join(pid.trim());
        eventually("nobody is attached", || !attached.exists());
        store.runner().args(["exec", name, "true"]).ok();
        store.runner().args(["rm", "-f", name]).ok();
    }
}

#[test]
fn without_a_terminal_t_and_i_are_refused_as_docker_does() {
    let Some(store) = store("terminal-none") else { return };
    let output = store.run("-it box sh").fails(125);
    assert!(output.stderr.contains("the input device is not a TTY"), "{output}");
}

#[test]
fn the_command_has_a_terminal_of_its_own() {
    let Some(store) = store("terminal-own") else { return };
    let output = store.run("-t box sh -c tty").ok();
    assert!(output.stdout.starts_with("/dev/"), "{output}");
}

#[test]
fn the_key_for_stopping_does_not_take_the_terminal_away() {
    let Some(store) = store("terminal-stop") else { return };
    let tmux = Tmux::new("stop", "bash --norc");
    let runner = coracle_tests::binaries::runner();
    let run = format!("{} --store {} run --rm -it box", runner.display(), store.path().display());
    tmux.line(&format!("{run} sh -c 'echo be$((1+1))gun; exec sleep 1000'; echo left with $?"));
    tmux.shows("be2gun");
    tmux.key("C-z");
    tmux.key("C-c");
    eventually("the end", || tmux.screen().contains("left with 130"));
    sane(&tmux);
}

#[test]
fn without_t_a_container_cannot_read_what_is_typed() {
    let Some(store) = store("terminal-typed") else { return };
    let tmux = Tmux::new("typed", "bash --norc");
    let runner = coracle_tests::binaries::runner();
    let inside = "test -t 1 || test -t 2 || echo no ter$((1+1))minal; cat <&2 2>/dev/null || echo unre$((1+1))adable; \
                  cat <&1 2>/dev/null || echo to$((1+1))o; echo err$((1+1))or >&2";
    tmux.line(&format!(
        "{} --store {} run --rm box sh -c '{inside}' && echo do$((1+1))ne",
        runner.display(),
        store.path().display()
    ));
    for line in ["no ter2minal", "unre2adable", "to2o", "err2or", "do2ne"] {
        tmux.shows(line);
    }
    sane(&tmux);
}
