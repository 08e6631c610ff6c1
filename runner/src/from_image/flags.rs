//! What `run` is told on the command line: a table, and no meaning.

use std::path::PathBuf;

use argh::{ArgsInfo, FromArgs};

/// Run a command in a new container and wait for it.
#[derive(FromArgs, ArgsInfo, Clone, Debug, Default, PartialEq)]
#[argh(
    subcommand,
    name = "run",
    help_triggers("--help"),
    example = "runner run --rm -it shell sh\nrunner run --rm -v $PWD:/work:ro -w /work shell ls\nrunner run --bundle DIR ID",
    note = "The command stands behind the image; without one it is the image's own. Exit codes: 125 the runner's own error, 126 the command cannot be executed, 127 it is not found, 128+n it was killed by signal n, else the command's own."
)]
pub(crate) struct Flags {
    /// keep standard input open
    #[argh(switch, short = 'i')]
    pub(crate) interactive: bool,
    /// give the command a terminal of its own
    #[argh(switch, short = 't')]
    pub(crate) tty: bool,
    /// remove the container when it has ended
    #[argh(switch)]
    pub(crate) rm: bool,
    /// name of the container
    #[argh(option)]
    pub(crate) name: Option<String>,
    /// set a variable, or pass this one on: NAME=VALUE or NAME
    #[argh(option, short = 'e')]
    pub(crate) env: Vec<String>,
    /// read variables from a file, one a line
    #[argh(option)]
    pub(crate) env_file: Vec<String>,
    /// user and group, names or numbers: USER[:GROUP]
    #[argh(option, short = 'u')]
    pub(crate) user: Option<String>,
    /// further group, name or number
    #[argh(option)]
    pub(crate) group_add: Vec<String>,
    /// working directory inside
    #[argh(option, short = 'w')]
    pub(crate) workdir: Option<String>,
    /// host name inside
    #[argh(option, short = 'h')]
    pub(crate) hostname: Option<String>,
    /// NIS domain name inside
    #[argh(option)]
    pub(crate) domainname: Option<String>,
    /// program that gets the command as its arguments
    #[argh(option)]
    pub(crate) entrypoint: Option<String>,
    /// note on the container: NAME=VALUE
    #[argh(option, short = 'l')]
    pub(crate) label: Vec<String>,
    /// write the container's id to this new file
    #[argh(option)]
    pub(crate) cidfile: Option<String>,

    /// make the root file system read only
    #[argh(switch)]
    pub(crate) read_only: bool,
    /// mount a tmpfs: PATH[:OPTIONS]
    #[argh(option)]
    pub(crate) tmpfs: Vec<String>,
    /// keep what the container writes in memory: tmpfs[:SIZE]
    #[argh(option)]
    pub(crate) scratch: Option<String>,
    /// mount a folder or volume: SOURCE:PATH[:ro,rro,rshared,...]
    #[argh(option, short = 'v')]
    pub(crate) volume: Vec<String>,
    /// mount, in words: type=bind|volume|tmpfs,src=...,dst=...[,readonly]
    #[argh(option)]
    pub(crate) mount: Vec<String>,
    /// pass a device of the host: PATH[:PATH[:rwm]]
    #[argh(option)]
    pub(crate) device: Vec<String>,
    /// size of /dev/shm, 64m if not said
    #[argh(option)]
    pub(crate) shm_size: Option<String>,

    /// grant a capability, or ALL
    #[argh(option)]
    pub(crate) cap_add: Vec<String>,
    /// take a capability away, or ALL
    #[argh(option)]
    pub(crate) cap_drop: Vec<String>,
    /// no-new-privileges, seccomp=FILE, seccomp=builtin or seccomp=unconfined
    #[argh(option)]
    pub(crate) security_opt: Vec<String>,
    /// all capabilities, nothing masked, no filter, all devices of the host (root; in a user namespace /dev has the usual ones)
    #[argh(switch)]
    pub(crate) privileged: bool,

    /// memory limit, such as 512m
    #[argh(option, short = 'm')]
    pub(crate) memory: Option<String>,
    /// limit of memory and swap together; -1 is none; twice the memory's if not said
    #[argh(option)]
    pub(crate) memory_swap: Option<String>,
    /// what is left to it when memory is short
    #[argh(option)]
    pub(crate) memory_reservation: Option<String>,
    /// how readily it is swapped out, 0 to 100 (cgroup v1)
    #[argh(option)]
    pub(crate) memory_swappiness: Option<i64>,
    /// wait at the memory limit instead of being killed (cgroup v1)
    #[argh(switch)]
    pub(crate) oom_kill_disable: bool,
    /// how many processors it may use, such as 1.5
    #[argh(option)]
    pub(crate) cpus: Option<String>,
    /// relative share of processor time, 1024 is the usual
    #[argh(option, short = 'c')]
    pub(crate) cpu_shares: Option<u64>,
    /// microseconds of processor time in one period
    #[argh(option)]
    pub(crate) cpu_quota: Option<i64>,
    /// the period's length in microseconds
    #[argh(option)]
    pub(crate) cpu_period: Option<u64>,
    /// processors it may run on, such as 0-2,4
    #[argh(option)]
    pub(crate) cpuset_cpus: Option<String>,
    /// memory nodes it may use
    #[argh(option)]
    pub(crate) cpuset_mems: Option<String>,
    /// how many tasks it may have; -1 is no limit
    #[argh(option)]
    pub(crate) pids_limit: Option<i64>,
    /// relative weight of its disk traffic, 10 to 1000
    #[argh(option)]
    pub(crate) blkio_weight: Option<u16>,
    /// go on without the limits that this host cannot give
    #[argh(switch)]
    pub(crate) best_effort: bool,
    /// resource limit: NAME=SOFT[:HARD]
    #[argh(option)]
    pub(crate) ulimit: Vec<String>,
    /// kernel parameter of the container's namespaces: NAME=VALUE
    #[argh(option)]
    pub(crate) sysctl: Vec<String>,
    /// how soon it is killed when memory is short, -1000 to 1000
    #[argh(option)]
    pub(crate) oom_score_adj: Option<i32>,

    /// network: none, host or container:ID
    #[argh(option)]
    pub(crate) network: Option<String>,
    /// the same as --network
    #[argh(option, hidden_help)]
    pub(crate) net: Option<String>,
    /// process namespace: own, host or container:ID
    #[argh(option)]
    pub(crate) pid: Option<String>,
    /// IPC namespace: own, host or container:ID
    #[argh(option)]
    pub(crate) ipc: Option<String>,
    /// host name namespace: own, host or container:ID
    #[argh(option)]
    pub(crate) uts: Option<String>,

    /// run init as PID 1, also where the command is an init itself (or --init=auto|always|never)
    #[argh(switch)]
    pub(crate) init: bool,
    /// the same as --init=never: the command is process 1 itself
    #[argh(switch)]
    pub(crate) no_init: bool,
    /// the word of --init=
    #[argh(option, hidden_help)]
    pub(crate) init_mode: Option<String>,
    /// when the image is pulled: always, missing (the default) or never
    #[argh(option)]
    pub(crate) pull: Option<String>,
    /// machine that the image is for: OS/ARCHITECTURE[/VARIANT]
    #[argh(option)]
    pub(crate) platform: Option<String>,
    /// say nothing while the image is pulled
    #[argh(switch, short = 'q')]
    pub(crate) quiet: bool,
    /// option of init, such as grace=5
    #[argh(option)]
    pub(crate) init_opt: Vec<String>,
    /// signal that asks the container to stop
    #[argh(option)]
    pub(crate) stop_signal: Option<String>,
    /// seconds between that signal and the end by force, -1 for ever; 10 if not said
    #[argh(option)]
    pub(crate) stop_timeout: Option<i64>,
    /// seconds after which the container is killed
    #[argh(option)]
    pub(crate) timeout: Option<String>,
    /// when it begins again by itself: no, on-failure[:N], always or unless-stopped
    #[argh(option)]
    pub(crate) restart: Option<String>,
    /// where the log of a container in the background goes: local or none
    #[argh(option)]
    pub(crate) log_driver: Option<String>,
    /// how much of the log is kept: max-size=10m, max-file=3
    #[argh(option)]
    pub(crate) log_opt: Vec<String>,
    /// command that tells by its exit code whether the container is healthy
    #[argh(option)]
    pub(crate) health_cmd: Option<String>,
    /// time between two health checks, 30s if not said
    #[argh(option)]
    pub(crate) health_interval: Option<String>,
    /// how long a health check may take, 30s if not said
    #[argh(option)]
    pub(crate) health_timeout: Option<String>,
    /// failures in a row until it is unhealthy, 3 if not said
    #[argh(option)]
    pub(crate) health_retries: Option<u32>,
    /// how long after the start failures do not count
    #[argh(option)]
    pub(crate) health_start_period: Option<String>,
    /// time between two health checks until then, 5s if not said
    #[argh(option)]
    pub(crate) health_start_interval: Option<String>,
    /// have no health check, whatever the image says
    #[argh(switch)]
    pub(crate) no_healthcheck: bool,

    /// the first word is a folder to be the root, not an image
    #[argh(switch)]
    pub(crate) rootfs: bool,
    /// write how it ended, as one JSON object: FILE or fd:N
    #[argh(option)]
    pub(crate) report: Option<String>,
    /// print the config.json that the flags amount to (or --dry-run=plan), and run nothing
    #[argh(switch)]
    pub(crate) dry_run: bool,
    /// the word of --dry-run=
    #[argh(option, hidden_help)]
    pub(crate) dry_run_mode: Option<String>,

    /// run an OCI bundle: this folder's config.json
    #[argh(option, short = 'b')]
    pub(crate) bundle: Option<String>,
    /// the config.json of an OCI bundle, where it lies elsewhere
    #[argh(option)]
    pub(crate) config: Option<String>,
    /// leave the container to its monitor, a bundle's to others, and print the id
    #[argh(switch, short = 'd')]
    pub(crate) detach: bool,
    /// OCI: leave the state behind when the container has ended, for delete
    #[argh(switch)]
    pub(crate) keep: bool,
    /// OCI: for clients on a ramdisk, where the root is left by pivot_root all the same
    #[argh(switch)]
    pub(crate) no_pivot: bool,
    /// OCI: a file for the first process' pid
    #[argh(option)]
    pub(crate) pid_file: Option<PathBuf>,
    /// OCI: a socket that the other side of the terminal is sent to
    #[argh(option)]
    pub(crate) console_socket: Option<PathBuf>,
    /// OCI: a socket that a pidfd of the first process is sent to
    #[argh(option)]
    pub(crate) pidfd_socket: Option<PathBuf>,
    /// OCI: stay in the caller's session keyring
    #[argh(switch)]
    pub(crate) no_new_keyring: bool,
    /// OCI: how many descriptors from 3 on the command inherits
    #[argh(option, default = "0")]
    pub(crate) preserve_fds: u32,

    /// take the mounts of another container: CONTAINER[:ro|rw]
    #[argh(option)]
    pub(crate) volumes_from: Vec<String>,
    /// a file as a secret at /run/secrets: id=NAME,src=FILE[,target=,uid=,gid=,mode=,type=mount|env]
    #[argh(option)]
    pub(crate) secret: Vec<String>,
    /// read labels from a file, one a line
    #[argh(option)]
    pub(crate) label_file: Vec<String>,
    /// annotation of the config.json: NAME=VALUE
    #[argh(option)]
    pub(crate) annotation: Vec<String>,
    /// ids: host, auto[:size=N], and for an ordinary user keep-id[:uid=N,gid=N]
    #[argh(option)]
    pub(crate) userns: Option<String>,
    /// refused: there are no quotas on disk; see --scratch
    #[argh(option, hidden_help)]
    pub(crate) storage_opt: Vec<String>,
    /// confine it as far as goes: ids of its own, no capabilities, nothing written but in memory, limits (each can be said otherwise)
    #[argh(switch)]
    pub(crate) untrusted: bool,
    /// at the memory limit all of its processes are killed, not one
    #[argh(switch)]
    pub(crate) oom_group: bool,
    /// the word of --oom-group=false
    #[argh(switch, hidden_help)]
    pub(crate) no_oom_group: bool,
    /// the word of --read-only=false
    #[argh(switch, hidden_help)]
    pub(crate) no_read_only: bool,

    /// all of these words
    #[argh(option, hidden_help)]
    pub(crate) word: Vec<String>,

    /// the image, or the id for a bundle
    #[argh(positional)]
    pub(crate) image: Option<String>,
}

impl Flags {
    /// The same; with `only`, nothing is run, and the config.json that they amount to is printed.
    pub(crate) fn shown_if(mut self, only: bool) -> Self {
        self.dry_run |= only;
        self
    }
}

impl Flags {
    /// Word by word, as [`Flags::read`] takes them.
    pub(crate) fn words(&self) -> Vec<String> {
        self.word.clone()
    }

    /// Read them again.
    pub(crate) fn read(words: &[String]) -> Result<Self, coracle_sys::Error> {
        let plain: Vec<&str> = words.iter().map(String::as_str).collect();
        let read = Self::from_args(&["runner", "run"], &plain);
        let read =
            read.map_err(|e| coracle_sys::Error::invalid(format!("read the flags of run: {}", e.output)))?;
        Ok(Self { word: words.to_vec(), ..read })
    }
}
