//! What `run` is told on the command line: a table, and no meaning. The struct, what help and man pages say of it,
//! how it is read and how it becomes words again are all made of the one list below.

use std::path::PathBuf;

use argh::{CommandInfoWithArgs, FlagInfo, Optionality, PositionalInfo};
use coracle_sys::{Error, Result};

use super::field::{Field, row};

macro_rules! flags {
    ($($($hidden:ident)? $long:literal $($short:literal)?: $field:ident $type:ty = $text:literal,)*) => {
        /// What was typed.
        #[derive(Clone, Debug, Default, PartialEq)]
        pub(crate) struct Flags {
            $(#[doc = $text] pub(crate) $field: $type,)*
            /// The image, or the id for a bundle.
            pub(crate) image: Option<String>,
        }

        const ROWS: &[FlagInfo<'static>] = &[
            $(row::<$type>($long, flags!(@short $($short)?), $text, flags!(@hidden $($hidden)?)),)*
        ];

        impl Flags {
            /// The members in the order of the rows.
            fn fields(&mut self) -> [&mut dyn Field; ROWS.len()] {
                [$(&mut self.$field),*]
            }
        }
    };
    (@short) => { None };
    (@short $short:literal) => { Some($short) };
    (@hidden) => { false };
    (@hidden hidden) => { true };
}

flags! {
    "--interactive" 'i': interactive bool = "keep standard input open",
    "--tty" 't': tty bool = "give the command a terminal of its own",
    "--attach" 'a': attach Vec<String> = "what is passed on and shown, each said once: stdin, stdout, stderr; all if none is said",
    "--sig-proxy": sig_proxy bool = "pass signals on, as is done if nothing is said; with =false one of them leaves the container, which goes on",
    hidden "--no-sig-proxy": no_sig_proxy bool = "the word of --sig-proxy=false",
    "--rm": rm bool = "remove the container when it has ended",
    "--name": name Option<String> = "name of the container",
    "--env" 'e': env Vec<String> = "set a variable, or pass this one on: NAME=VALUE or NAME",
    "--env-file": env_file Vec<String> = "read variables from a file, one a line",
    "--user" 'u': user Option<String> = "user and group, names or numbers: USER[:GROUP]",
    "--group-add": group_add Vec<String> = "further group, name or number",
    "--workdir" 'w': workdir Option<String> = "working directory inside",
    "--hostname" 'h': hostname Option<String> = "host name inside",
    "--no-hostname": no_hostname bool = "leave /etc/hostname as the image has it, and set no HOSTNAME",
    "--domainname": domainname Option<String> = "NIS domain name inside",
    "--entrypoint": entrypoint Option<String> = "program that gets the command as its arguments",
    "--label" 'l': label Vec<String> = "note on the container: NAME=VALUE",
    "--cidfile": cidfile Option<String> = "write the container's id to this new file",

    "--read-only": read_only bool = "make the root file system read only",
    "--tmpfs": tmpfs Vec<String> = "mount a tmpfs: PATH[:OPTIONS]",
    "--scratch": scratch Option<String> = "keep what the container writes in memory: tmpfs[:SIZE]",
    "--volume" 'v': volume Vec<String> = "mount a folder or volume: SOURCE:PATH[:ro,rro,rshared,...]",
    "--mount": mount Vec<String> = "mount, in words: type=bind|volume|tmpfs,src=...,dst=...[,readonly]",
    "--device": device Vec<String> = "pass a device of the host: PATH[:PATH][:rwm]",
    "--device-cgroup-rule": device_cgroup_rule Vec<String> = "allow further devices: 'c 189:* rwm'",
    "--shm-size": shm_size Option<String> = "size of /dev/shm, 64m if not said",

    "--cap-add": cap_add Vec<String> = "grant a capability, or ALL",
    "--cap-drop": cap_drop Vec<String> = "take a capability away, or ALL",
    "--security-opt": security_opt Vec<String> = "no-new-privileges, seccomp=FILE, seccomp=builtin or seccomp=unconfined",
    "--privileged": privileged bool = "all capabilities, nothing masked, no filter, all devices of the host (root; in a user namespace /dev has the usual ones)",

    "--memory" 'm': memory Option<String> = "memory limit, such as 512m",
    "--memory-swap": memory_swap Option<String> = "limit of memory and swap together; -1 is none; twice the memory's if not said",
    "--memory-reservation": memory_reservation Option<String> = "what is left to it when memory is short",
    "--memory-swappiness": memory_swappiness Option<i64> = "how readily it is swapped out, 0 to 100 (cgroup v1)",
    "--oom-kill-disable": oom_kill_disable bool = "wait at the memory limit instead of being killed (cgroup v1)",
    "--cpus": cpus Option<String> = "how many processors it may use, such as 1.5",
    "--cpu-shares" 'c': cpu_shares Option<u64> = "relative share of processor time, 1024 is the usual",
    "--cpu-quota": cpu_quota Option<i64> = "microseconds of processor time in one period",
    "--cpu-period": cpu_period Option<u64> = "the period's length in microseconds",
    "--cpuset-cpus": cpuset_cpus Option<String> = "processors it may run on, such as 0-2,4",
    "--cpuset-mems": cpuset_mems Option<String> = "memory nodes it may use",
    "--pids-limit": pids_limit Option<i64> = "how many tasks it may have; -1 is no limit",
    "--blkio-weight": blkio_weight Option<u16> = "relative weight of its disk traffic, 10 to 1000",
    "--device-read-bps": device_read_bps Vec<String> = "bytes a second that it may read from a disk: PATH:1mb",
    "--device-write-bps": device_write_bps Vec<String> = "bytes a second that it may write to a disk",
    "--device-read-iops": device_read_iops Vec<String> = "how often a second it may read from a disk: PATH:100",
    "--device-write-iops": device_write_iops Vec<String> = "how often a second it may write to a disk",
    "--cgroup-parent": cgroup_parent Option<String> = "group that its own is made in",
    "--best-effort": best_effort bool = "go on without the limits that this host cannot give",
    "--ulimit": ulimit Vec<String> = "resource limit: NAME=SOFT[:HARD]",
    "--sysctl": sysctl Vec<String> = "kernel parameter of the container's namespaces: NAME=VALUE",
    "--oom-score-adj": oom_score_adj Option<i32> = "how soon it is killed when memory is short, -1000 to 1000",

    "--network": network Option<String> = "network: bridge (the default for root), none, host, container:ID, ns:PATH or the name of one",
    hidden "--net": net Option<String> = "the same as --network",
    "--pid": pid Option<String> = "process namespace: own, host or container:ID",
    "--ipc": ipc Option<String> = "IPC namespace: own, host or container:ID",
    "--uts": uts Option<String> = "host name namespace: own, host or container:ID",

    "--cgroupns": cgroupns Option<String> = "cgroup namespace: private (what it is if not said) or host",

    "--publish" 'p': publish Vec<String> = "publish a port: [[IP:]HOST:]CONTAINER[/udp], also ranges; without HOST one that is free",
    "--publish-all" 'P': publish_all bool = "publish all ports that are exposed, each at one that is free",
    "--expose": expose Vec<String> = "port that the container listens on, for -P",
    "--ip": ip Option<String> = "address of IPv4 on its network",
    "--ip6": ip6 Option<String> = "address of IPv6 on its network",
    "--mac-address": mac_address Option<String> = "hardware address on its network",
    "--network-alias": network_alias Vec<String> = "further name on its network",
    "--link": link Vec<String> = "give a container that runs a further name inside: CONTAINER[:NAME]",
    "--dns": dns Vec<String> = "server that names are asked of, in place of the host's",
    "--dns-search": dns_search Vec<String> = "domain that names are looked for in",
    "--dns-option": dns_option Vec<String> = "option of the resolver",
    "--add-host": add_host Vec<String> = "further line of /etc/hosts: NAME:ADDRESS or NAME:host-gateway",

    "--volumes-from": volumes_from Vec<String> = "take the mounts of another container: CONTAINER[:ro|rw]",
    "--secret": secret Vec<String> = "a file as a secret at /run/secrets: id=NAME,src=FILE[,target=,uid=,gid=,mode=,type=mount|env]",
    "--label-file": label_file Vec<String> = "read labels from a file, one a line",
    "--annotation": annotation Vec<String> = "annotation of the config.json: NAME=VALUE",
    "--userns": userns Option<String> = "ids: host, auto[:size=N], and for an ordinary user keep-id[:uid=N,gid=N]",
    "--storage-opt": storage_opt Vec<String> = "size=SIZE: how much it may write to disk, where that keeps quotas",
    "--untrusted": untrusted bool = "confine it as far as goes: ids of its own, no capabilities, nothing written but in memory, limits (each can be said otherwise)",
    "--oom-group": oom_group bool = "at the memory limit all of its processes are killed, not one",
    hidden "--no-oom-group": no_oom_group bool = "the word of --oom-group=false",
    hidden "--no-read-only": no_read_only bool = "the word of --read-only=false",

    "--init": init bool = "run init as PID 1, also where the command is an init itself (or --init=auto|always|never)",
    "--no-init": no_init bool = "the same as --init=never: the command is process 1 itself",
    hidden "--init-mode": init_mode Option<String> = "the word of --init=",
    "--pull": pull Option<String> = "when the image is pulled: always, missing (the default) or never",
    "--platform": platform Option<String> = "machine that the image is for: OS/ARCHITECTURE[/VARIANT]",
    "--quiet" 'q': quiet bool = "say nothing while the image is pulled",
    "--init-opt": init_opt Vec<String> = "option of init, such as grace=5",
    "--stop-signal": stop_signal Option<String> = "signal that asks the container to stop",
    "--stop-timeout": stop_timeout Option<i64> = "seconds between that signal and the end by force, -1 for ever; 10 if not said",
    "--timeout": timeout Option<String> = "seconds after which the container is killed",
    "--restart": restart Option<String> = "when it begins again by itself: no, on-failure[:N], always or unless-stopped",
    "--log-driver": log_driver Option<String> = "where the log of a container in the background goes: local or none",
    "--log-opt": log_opt Vec<String> = "how much of the log is kept: max-size=10m, max-file=3",
    "--detach-keys": detach_keys Option<String> = "keys that leave the container, which goes on: ctrl-p,ctrl-q if not said",
    "--health-cmd": health_cmd Option<String> = "command that tells by its exit code whether the container is healthy",
    "--health-interval": health_interval Option<String> = "time between two health checks, 30s if not said",
    "--health-timeout": health_timeout Option<String> = "how long a health check may take, 30s if not said",
    "--health-retries": health_retries Option<u64> = "failures in a row until it is unhealthy, 3 if not said",
    "--health-start-period": health_start_period Option<String> = "how long after the start failures do not count",
    "--health-start-interval": health_start_interval Option<String> = "time between two health checks until then, 5s if not said",
    "--no-healthcheck": no_healthcheck bool = "have no health check, whatever the image says",

    "--rootfs": rootfs bool = "the first word is a folder to be the root, not an image",
    "--report": report Option<String> = "write how it ended, as one JSON object: FILE or fd:N",
    "--dry-run": dry_run bool = "print the config.json that the flags amount to (or --dry-run=plan), and run nothing",
    hidden "--dry-run-mode": dry_run_mode Option<String> = "the word of --dry-run=",

    "--bundle" 'b': bundle Option<String> = "run an OCI bundle: this folder's config.json",
    "--config": config Option<String> = "the config.json of an OCI bundle, where it lies elsewhere",
    "--detach" 'd': detach bool = "leave the container to its monitor, a bundle's to others, and print the id",
    "--keep": keep bool = "OCI: leave the state behind when the container has ended, for delete",
    "--no-pivot": no_pivot bool = "OCI: for clients on a ramdisk, where the root is left by pivot_root all the same",
    "--pid-file": pid_file Option<PathBuf> = "OCI: a file for the first process' pid",
    "--console-socket": console_socket Option<PathBuf> = "OCI: a socket that the other side of the terminal is sent to",
    "--pidfd-socket": pidfd_socket Option<PathBuf> = "OCI: a socket that a pidfd of the first process is sent to",
    "--no-new-keyring": no_new_keyring bool = "OCI: stay in the caller's session keyring",
    "--preserve-fds": preserve_fds u32 = "OCI: how many descriptors from 3 on the command inherits",
}

/// The table of `run`.
pub(crate) static TABLE: CommandInfoWithArgs = table("run");
/// That of `spec` with an image, which is about the same.
pub(crate) static OF_SPEC: CommandInfoWithArgs = table("spec");

const fn table(name: &'static str) -> CommandInfoWithArgs {
    CommandInfoWithArgs {
        name,
        short: &'\0',
        description: "Run a command in a new container and wait for it.",
        examples: &[
            "runner run --rm -it shell sh",
            "runner run --rm -v $PWD:/work:ro -w /work shell ls",
            "runner run --bundle DIR ID",
        ],
        flags: ROWS,
        notes: &[
            "The command stands behind the image; without one it is the image's own. Exit codes: 125 the runner's \
        own error, 126 the command cannot be executed, 127 it is not found, 128+n it was killed by signal n, else the \
        command's own.",
        ],
        commands: Vec::new(),
        positionals: &[PositionalInfo {
            name: "image",
            description: "the image, or the id for a bundle",
            optionality: Optionality::Optional,
            hidden: false,
        }],
        error_codes: &[],
    }
}

impl Flags {
    /// Of flags by their long names, each with its value, and of the image.
    pub(crate) fn of(given: &[(String, String)], image: Option<&String>) -> Result<Self> {
        let mut flags = Self { image: image.cloned(), ..Self::default() };
        let mut fields = flags.fields();
        for (name, value) in given {
            let row = ROWS.iter().position(|row| row.long == name);
            let field = row.and_then(|row| fields.get_mut(row));
            let field = field.ok_or_else(|| Error::usage(format!("unknown flag: {name}")))?;
            field.say(value.clone()).map_err(|why| Error::usage(format!("{name} {value:?}: {why}")))?;
        }
        Ok(flags)
    }

    /// The words that they can be read from again. The command may follow.
    pub(crate) fn words(&self) -> Vec<String> {
        let mut words = Vec::new();
        for (row, field) in ROWS.iter().zip(self.clone().fields()) {
            words.extend(field.said().into_iter().map(|value| match row.kind {
                argh::FlagInfoKind::Switch => row.long.to_owned(),
                argh::FlagInfoKind::Option { .. } => [row.long, "=", &value].concat(),
            }));
        }
        words.extend(self.image.iter().flat_map(|image| ["--".to_owned(), image.clone()]));
        words
    }

    /// What [`Flags::words`] gave.
    pub(crate) fn read(words: &[String]) -> Result<Self> {
        let (mut given, mut image) = (Vec::new(), None);
        let mut words = words.iter();
        while let Some(word) = words.next() {
            match word.split_once('=') {
                _ if word == "--" => image = words.next(),
                Some((name, value)) => given.push((name.to_owned(), value.to_owned())),
                None => given.push((word.clone(), String::new())),
            }
        }
        Self::of(&given, image)
    }

    /// The same; with `only`, nothing is run, and the config.json that they amount to is printed.
    pub(crate) fn shown_if(mut self, only: bool) -> Self {
        self.dry_run |= only;
        self
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use coracle_sys::argv::{Tail, normalise};

    use super::*;

    /// As the command line is read.
    fn read(words: &[String]) -> Result<Flags> {
        let argv: Vec<OsString> = words.iter().map(OsString::from).collect();
        let mut words = normalise(&TABLE, &argv, Tail::After(1))?.words.into_iter();
        let (mut given, mut image) = (Vec::new(), None);
        while let Some(word) = words.next() {
            let row = ROWS.iter().find(|row| row.long == word);
            match row.map(|row| &row.kind) {
                Some(argh::FlagInfoKind::Switch) => given.push((word, String::new())),
                Some(_) => given.push((word, words.next().unwrap())),
                None => image = words.next(),
            }
        }
        Flags::of(&given, image.as_ref())
    }

    /// Every flag said, lists twice.
    fn all() -> Flags {
        let mut flags = Flags { image: Some("-an image".to_owned()), ..Flags::default() };
        for (n, (row, field)) in ROWS.iter().zip(flags.fields()).enumerate() {
            field.say(n.to_string()).unwrap();
            if row.optionality == Optionality::Repeating {
                ["", "-x=1", "a b\n--\"'"].into_iter().for_each(|text| field.say(text.to_owned()).unwrap());
            }
        }
        flags
    }

    #[test]
    fn flags_become_words_that_are_read_as_the_same_flags() {
        let mut all = all();
        assert!(all.fields().iter().all(|field| !field.said().is_empty()));
        assert_eq!(read(&all.words()).unwrap(), all);
        assert_eq!(Flags::read(&all.words()).unwrap(), all);
        assert_eq!(Flags::default().words(), [""; 0]);
        for (n, row) in ROWS.iter().enumerate() {
            let mut one = Flags::default();
            one.fields()[n].say("7".to_owned()).unwrap();
            assert_ne!(one, Flags::default(), "{}", row.long);
            assert_eq!(read(&one.words()).unwrap(), one, "{}", row.long);
        }
        let one = Flags { memory_swappiness: Some(i64::MIN), name: Some(String::new()), ..Flags::default() };
        assert_eq!(one.words(), ["--name=", "--memory-swappiness=-9223372036854775808"]);
        assert_eq!(read(&one.words()).unwrap(), one);
    }

    #[test]
    fn a_number_that_is_none_is_named_with_what_may_stand_there() {
        for (word, says) in [
            ("--blkio-weight=65536", "--blkio-weight \"65536\": it is a whole number from 0 to 65535"),
            ("--preserve-fds=-1", "--preserve-fds \"-1\": it is a whole number from 0 to 4294967295"),
            ("--oom-score-adj=", "--oom-score-adj \"\": it is a whole number from -2147483648 to 2147483647"),
        ] {
            assert_eq!(read(&[word.to_owned()]).unwrap_err().to_string(), says);
        }
    }

    #[test]
    fn names_are_those_of_the_members_and_no_letter_stands_twice() {
        let members = format!("{:#?}", Flags::default());
        for (n, row) in ROWS.iter().enumerate() {
            assert!(members.contains(&format!("    {}: ", row.long[2..].replace('-', "_"))), "{}", row.long);
            let again = |other: &&FlagInfo<'_>| {
                other.long == row.long || (row.short.is_some() && other.short == row.short)
            };
            assert_eq!(ROWS[n + 1..].iter().find(again).map(|other| other.long), None);
        }
    }
}
