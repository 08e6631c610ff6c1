//! The differences that are expected, by their reasons. About runc 1.1.5 and crun 1.8.1, on a host with
//! cgroup v1 and v2 side by side.
//!
//! The first entry that fits a difference is the one that speaks of it. An entry that no difference fits is
//! an error: whoever mends something takes its line away.

use self::Peers::{Any, Both, Crun, Runc};

/// The peers that ours differs from.
#[derive(Clone, Copy)]
pub(crate) enum Peers {
    /// runc alone; crun is as ours, or did not run.
    Runc,
    /// crun alone.
    Crun,
    /// Both, or the one of them that ran.
    Both,
    /// It varies.
    Any,
}

/// A reason, and the differences that it explains: from whom, in which variations, in which fact.
pub(crate) struct Reason {
    pub(crate) why: &'static str,
    pub(crate) of: &'static [(Peers, &'static str, &'static str)],
}

/// One line of the table.
pub(crate) struct Expected {
    pub(crate) from: Peers,
    pub(crate) case: &'static str,
    pub(crate) field: &'static str,
    pub(crate) why: &'static str,
    /// It has to be seen when its variations run.
    pub(crate) always: bool,
}

/// The whole table.
pub(crate) fn table() -> Vec<Expected> {
    let lines = |reasons: &'static [Reason], always: bool| {
        reasons.iter().flat_map(move |reason| {
            let why = reason.why;
            reason.of.iter().map(move |&(from, case, field)| Expected { from, case, field, why, always })
        })
    };
    lines(APART, false).chain(lines(NOT_YET, true)).chain(lines(INTENDED, true)).collect()
}

// ---------------------------------------------------------------------------------------------------------
// Not yet: what the runner has to mend. What is done is taken out of here.
// ---------------------------------------------------------------------------------------------------------

/// Seen whenever their variations run.
const NOT_YET: &[Reason] = &[Reason {
    why: "A group that systemd is to make is refused where the runner makes groups itself.",
    of: &[(Both, "resources: a path as systemd writes it", "exit")],
}];

// ---------------------------------------------------------------------------------------------------------
// Intended: by the specification or by the rules of the house, and what the peers do besides.
// ---------------------------------------------------------------------------------------------------------

/// Seen where create, start and delete are typed apart, or by which of two processes comes first.
const APART: &[Reason] = &[
    Reason {
        why: "kernelTCP is out of date: memory.limit counts it, and a warning says so.",
        of: &[(Crun, "resources: kernel memory for TCP", "limit.memory: memory.kmem.tcp.limit_in_bytes")],
    },
    Reason {
        why: "crun's state has members of its own, and the root as the config has it.",
        of: &[
            (Crun, "*", "verb: *: state.rootfs"),
            (Crun, "*", "verb: *: state.owner"),
            (Crun, "*", "verb: *: state.systemd-scope"),
        ],
    },
    Reason {
        why: "A state has its annotations though there are none, and names its owner.",
        of: &[(Both, "*", "verb: *: state.annotations"), (Runc, "*", "verb: *: state.owner")],
    },
    Reason {
        why: "A start fails when a hook of it fails or the command cannot be executed.",
        of: &[
            (Both, "hooks: startContainer fails", "verb: start"),
            (Both, "broken: a command of no format", "verb: start"),
        ],
    },
    Reason {
        why: "What can be refused by create is refused by it.",
        of: &[
            (Both, "broken: an argument with a NUL", "exit"),
            (Crun, "seccomp: the flag SECCOMP_FILTER_FLAG_NONE", "exit"),
        ],
    },
    Reason {
        why: "A path that is not absolute, and a group that nobody named, is below the runtime's own group, as under runc.",
        of: &[(Crun, "*", "cgroup.memory")],
    },
    Reason {
        why: "The hooks of poststart come after those of startContainer and the command's start.",
        of: &[(Any, "hooks: one of each kind*", "hooks")],
    },
    Reason {
        why: "When a poststart hook fails the container is stopped, if it has not ended, and that is an error.",
        of: &[(Any, "hooks: poststart fails", "exit")],
    },
    Reason {
        why: "runc deletes from its root folder and lends its hooks its own descriptors.",
        of: &[(Runc, "hooks: *", "hook.poststop: cwd"), (Runc, "hooks: *", "hook.poststop: fd.*")],
    },
    Reason {
        why: "A group of its own on cgroup v1 has no time for real-time tasks unless it is given some.",
        of: &[(Both, "process: scheduler SCHED_FIFO with priority 3", "exit")],
    },
    Reason {
        why: "A hook's timeout is above 0; crun takes 0 for none, and under runc the hook may end before it is stopped.",
        of: &[
            (Any, "hooks: one with a timeout of 0", "exit"),
            (Any, "hooks: one with a timeout of 0", "hook*"),
            (Runc, "hooks: one with a negative timeout", "exit"),
            (Runc, "hooks: one with a negative timeout", "hook*"),
        ],
    },
];

/// Seen whenever their variations run.
const INTENDED: &[Reason] = &[
    Reason {
        why: "A class of cache needs a resctrl, as the specification has it; the peers' versions ignore a closID alone.",
        of: &[(Both, "resources: a closID on a host without resctrl", "exit")],
    },
    Reason {
        why: "A label that would label nothing is refused; crun drops it.",
        of: &[(Crun, "mounts: a label for mounts on a host without SELinux", "exit")],
    },
    Reason {
        why: "A start in the foreground makes the groups alone that a limit asks for.",
        of: &[
            (Both, "*", "cgroup.*"),
            (Runc, "devices: everything is allowed*", "cgroup.v2"),
            (Both, "mounts: the tree of groups*", "mount./sys/fs/cgroup*"),
            (Both, "mounts: the tree of groups*", "path./sys/fs/cgroup*"),
            (Runc, "mounts: the tree of groups*", "mount./sys/fs/cgroup: source"),
            (Both, "resources: a group of its own, seen through a namespace", "mount./groups/*"),
        ],
    },
    Reason {
        why: "crun takes the id that means none as its own, and the command runs as root.",
        of: &[(Crun, "identity: the id that means none", "exit")],
    },
    Reason {
        why: "crun runs no poststop hooks when create fails.",
        of: &[
            (Crun, "hooks: prestart fails", "hook*"),
            (Crun, "hooks: createRuntime fails", "hook*"),
            (Crun, "hooks: createContainer fails", "hook*"),
            (Crun, "hooks: the command is not found", "hook*"),
        ],
    },
    Reason {
        why: "runc mounts the whole tree over itself to make it read only, which nobody enters.",
        of: &[(Runc, "paths: the root is read only", "mount./*")],
    },
    Reason {
        why: "Groups on the way to the container's are left, as its client may hold them; only where it had one.",
        of: &[
            (Both, "resources: a path of several names", "left"),
            (Both, "resources: a path that is not absolute", "left"),
        ],
    },
    Reason {
        why: "A link to nowhere is no place for a mount.",
        of: &[(Runc, "mounts: a destination that is a link to nowhere", "exit")],
    },
    Reason {
        why: "The queues' root belongs to the container's root; under runc to nobody.",
        of: &[(Runc, "namespaces: *", "dev.mqueue"), (Runc, "hooks: in a user namespace", "dev.mqueue")],
    },
    Reason {
        why: "Two devices of one path are an error, as the specification has it.",
        of: &[(Both, "devices: one path for two devices", "exit")],
    },
    Reason {
        why: "crun leaves the root as it is when it is among the read-only paths.",
        of: &[
            (Crun, "paths: the root is read only", "mount./: options"),
            (Crun, "paths: the root is read only", "path./*"),
        ],
    },
    Reason {
        why: "crun cuts a root that is to be a slave off from the peers of its mount.",
        of: &[(Crun, "mounts: a slave root of a shared mount", "mount./: propagation")],
    },
    Reason {
        why: "crun does not know the file of weights of the bfq scheduler.",
        of: &[(Crun, "resources: a weight", "exit"), (Crun, "resources: a weight of 1", "exit")],
    },
    Reason {
        why: "runc ignores words that hold for all mounts below where nothing is bound.",
        of: &[
            (Runc, "options: a tmpfs with rnoatime", "mount./data: options"),
            (Runc, "options: a tmpfs with rnodev", "mount./data: options"),
            (Runc, "options: a tmpfs with rnodiratime", "mount./data: options"),
            (Runc, "options: a tmpfs with rnoexec", "mount./data: options"),
            (Runc, "options: a tmpfs with rnosuid", "mount./data: options"),
            (Runc, "options: a tmpfs with rnosymfollow", "mount./data: options"),
            (Runc, "options: a tmpfs with rro", "mount./data: options"),
            (Runc, "options: a tmpfs with rstrictatime", "mount./data: options"),
            (Runc, "options: a tmpfs with rro", "path./data"),
        ],
    },
    Reason { why: "In the foreground a container dies with its runner.", of: &[(Both, "*", "pdeathsig")] },
    Reason { why: "A keyring's name is the runtime's own.", of: &[(Both, "*", "keyring")] },
    Reason {
        why: "What hides a folder holds no inode and allows nothing.",
        of: &[
            (Both, "*", "mount./proc/acpi: *"),
            (Both, "*", "mount./sys/firmware: *"),
            (Both, "paths: *", "path./proc/acpi"),
            (Both, "paths: *", "path./sys/firmware"),
            (Both, "paths: *", "path./folder"),
            (Both, "paths: *", "root.folder"),
            (Both, "paths: *", "mount./folder*"),
            (Both, "paths: a mount is masked", "*data*"),
            (Both, "paths: a link that leads out is masked", "*/etc*"),
            (Both, "paths: a link that leads out is masked", "root.etc"),
            (Runc, "paths: the root is masked", "mount./#2*"),
        ],
    },
    Reason {
        why: "A read-only path is so with all that is mounted inside, and keeps the words of its mount.",
        of: &[
            (Crun, "paths: a path with what is mounted inside is read only", "mount./data#2: options"),
            (Both, "paths: a path with what is mounted inside is read only", "*/data/in*"),
        ],
    },
    Reason {
        why: "/dev/core is for those who look for it; what it leads to is masked.",
        of: &[(Runc, "*", "dev.core")],
    },
    Reason {
        why: "runc makes the whole file system read only, not this mount of it alone.",
        of: &[(Runc, "*", "mount./sys: super"), (Runc, "mounts: proc *", "*: super")],
    },
    Reason {
        why: "runc gives a tmpfs without a mode the one of the folder beneath.",
        of: &[
            (Runc, "options: *", "path./data"),
            (Runc, "*", "root.data"),
            (Runc, "options: none for /dev", "root.dev"),
        ],
    },
    Reason {
        why: "HOME is what passwd says, else the root; what is given is left alone.",
        of: &[
            (Both, "mounts: a file over a file of the root", "env.HOME"),
            (Crun, "identity: *", "env.HOME"),
            (Runc, "process: HOME is given as nothing", "env.HOME"),
        ],
    },
    Reason {
        why: "runc 1.1 does not know domainname, and so it refuses nothing about it.",
        of: &[
            (Runc, "process: a domainname", "domainname"),
            (Runc, "process: a domainname without a uts namespace", "exit"),
        ],
    },
    Reason {
        why: "runc refuses an empty element of PATH; execvp takes it for the working directory.",
        of: &[(Runc, "process: PATH has an empty element and cwd is the root", "exit")],
    },
    Reason {
        why: "crun hands on what is no variable; as runc we refuse it.",
        of: &[
            (Crun, "process: a variable without an equals sign", "exit"),
            (Crun, "process: a variable without a name", "exit"),
        ],
    },
    Reason {
        why: "Without PATH the usual places are searched, as execvp does.",
        of: &[(Both, "process: a name without a slash and no PATH in the environment", "exit")],
    },
    Reason {
        why: "The root may be a link of the host's.",
        of: &[(Runc, "process: the root by a link", "exit")],
    },
    Reason {
        why: "An id is any number of 32 bits but the last.",
        of: &[(Runc, "identity: the largest ids", "exit")],
    },
    Reason {
        why: "A label or profile of nothing is none.",
        of: &[
            (Crun, "process: an AppArmor profile of nothing", "exit"),
            (Crun, "process: a SELinux label of nothing", "exit"),
        ],
    },
    Reason {
        why: "crun 1.8 refuses versions after 1.1.",
        of: &[
            (Crun, "process: ociVersion 1.2.0", "exit"),
            (Crun, "process: ociVersion 1.3.0", "exit"),
            (Crun, "process: ociVersion 1.99.0", "exit"),
        ],
    },
    Reason {
        why: "crun does not know these words.",
        of: &[
            (Crun, "options: a tmpfs with acl", "exit"),
            (Crun, "options: a tmpfs with iversion", "exit"),
            (Crun, "options: a tmpfs with loud", "exit"),
            (Crun, "options: a tmpfs with noacl", "exit"),
            (Crun, "options: a tmpfs with noiversion", "exit"),
            (Crun, "options: a tmpfs with nosymfollow", "exit"),
            (Crun, "options: a tmpfs with ratime", "exit"),
            (Crun, "options: a tmpfs with rdiratime", "exit"),
            (Crun, "options: a tmpfs with rnoatime", "exit"),
            (Crun, "options: a tmpfs with rnodiratime", "exit"),
            (Crun, "options: a tmpfs with rnostrictatime", "exit"),
            (Crun, "options: a tmpfs with rnosymfollow", "exit"),
            (Crun, "options: a tmpfs with rstrictatime", "exit"),
            (Crun, "options: a tmpfs with rsymfollow", "exit"),
            (Crun, "options: a tmpfs with silent", "exit"),
            (Crun, "options: a tmpfs with symfollow", "exit"),
            (Crun, "options: a bind with rdiratime", "exit"),
            (Crun, "options: a bind with rnoatime", "exit"),
            (Crun, "options: a bind with rnodiratime", "exit"),
            (Crun, "options: a bind with rstrictatime", "exit"),
            (Both, "options: a bind with ratime", "exit"),
            (Both, "options: a bind with rnostrictatime", "exit"),
        ],
    },
    Reason {
        why: "runc refuses the word defaults on a tmpfs.",
        of: &[(Runc, "options: a tmpfs with defaults", "exit")],
    },
    Reason {
        why: "crun takes these words wrongly, or not at all.",
        of: &[
            (Crun, "options: *", "mount./data: options"),
            (Crun, "options: *", "mount./data/sub: options"),
            (Crun, "options: *", "*: propagation"),
            (Crun, "options: opposites, the last of which holds", "path./data"),
            (Crun, "mounts: the source is mounted *", "mount./data: options"),
            (Crun, "mounts: a source whose mount is shared, as rslave", "mount./data: propagation"),
        ],
    },
    Reason {
        why: "A word that nobody knows has no effect on a bind, and is refused.",
        of: &[(Both, "options: a bind with nonesuch", "exit")],
    },
    Reason {
        why: "What is asked for by name holds, though the source is mounted otherwise.",
        of: &[
            (Runc, "mounts: the source is mounted noexec, and exec is asked for", "mount./data: options"),
            (Runc, "mounts: the source is mounted read only, and rw is asked for", "mount./data: options"),
        ],
    },
    Reason {
        why: "Nothing comes from the host's mounts unless it is asked for.",
        of: &[
            (Runc, "mounts: a source whose mount is shared", "mount./data: propagation"),
            (Both, "mounts: a source whose mount is shared, as rshared", "mount./data: propagation"),
        ],
    },
    Reason {
        why: "runc shares the root among the mounts before it is the root, and then no more.",
        of: &[(Runc, "mounts: a root that is *shared", "*: propagation")],
    },
    Reason {
        why: "An unbindable root can be started from.",
        of: &[(Runc, "mounts: a root that is unbindable", "exit")],
    },
    Reason {
        why: "crun makes folders that lead to a mount with the mode of a tmpfs.",
        of: &[
            (Crun, "mounts: *", "path./a"),
            (Crun, "mounts: *", "root.a"),
            (Crun, "mounts: *", "path./data/in"),
            (Crun, "mounts: *", "root.data"),
        ],
    },
    Reason {
        why: "What has no source is said to be of none.",
        of: &[(Both, "broken: a mount without a source", "mount./data: source")],
    },
    Reason {
        why: "A mount of type bind is one.",
        of: &[(Both, "mounts: of type bind without an option", "exit")],
    },
    Reason { why: "A bind has a source.", of: &[(Runc, "broken: a bind without a source", "exit")] },
    Reason {
        why: "/proc and the list of mounts are optional.",
        of: &[
            (Runc, "mounts: without /proc", "exit"),
            (Runc, "mounts: without any", "exit"),
            (Both, "mounts: without a list", "exit"),
        ],
    },
    Reason {
        why: "A word or type that nobody knows is refused; crun goes on.",
        of: &[
            (Crun, "mounts: no type and no option that says bind", "exit"),
            (Crun, "mounts: a root whose propagation is no word", "exit"),
            (Crun, "devices: a device of an unknown type", "exit"),
        ],
    },
    Reason {
        why: "A mount namespace of its own is what a container is.",
        of: &[
            (Crun, "namespaces: without a mount namespace", "exit"),
            (Crun, "namespaces: none at all", "exit"),
            (Crun, "namespaces: the list is missing", "exit"),
            (Crun, "paths: a path is * without a mount namespace", "exit"),
        ],
    },
    Reason {
        why: "A namespace is named once, and by an absolute path.",
        of: &[
            (Crun, "namespaces: one twice", "exit"),
            (Crun, "namespaces: a path that is not absolute", "exit"),
            (Crun, "namespaces: a path of nothing", "exit"),
        ],
    },
    Reason {
        why: "The host's sysfs and procfs are bound where a user namespace may mount none of its own.",
        of: &[
            (Both, "namespaces: a user namespace and the pids of the runtime", "exit"),
            (Runc, "namespaces: a user namespace and the network of the runtime", "exit"),
            (Crun, "namespaces: a user namespace and the network of the runtime", "mount./sys*"),
        ],
    },
    Reason {
        why: "The terminals' group is asked for only where it has an id.",
        of: &[(Both, "namespaces: maps of one id", "exit")],
    },
    Reason {
        why: "In a user namespace the host's node is bound, without more rights than it needs.",
        of: &[
            (Any, "namespaces: a user namespace and a device of the list", "*/dev/fuse*"),
            (Crun, "namespaces: a user namespace and a device of the list", "dev.fuse"),
            (Runc, "namespaces: *", "mount./dev/full: options"),
            (Runc, "namespaces: *", "mount./dev/null: options"),
            (Runc, "namespaces: *", "mount./dev/random: options"),
            (Runc, "namespaces: *", "mount./dev/tty: options"),
            (Runc, "namespaces: *", "mount./dev/urandom: options"),
            (Runc, "namespaces: *", "mount./dev/zero: options"),
            (Runc, "hooks: in a user namespace", "mount./dev/*: options"),
        ],
    },
    Reason {
        why: "crun cannot bind the tree of groups into a user namespace.",
        of: &[
            (Crun, "namespaces: a user namespace and limits", "*/groups/*"),
            (Crun, "namespaces: a user namespace and limits", "limit.*"),
        ],
    },
    Reason {
        why: "crun is shown no cgroup v2 here.",
        of: &[
            (Crun, "*", "mount.*/unified"),
            (Crun, "*", "cgroup.v2"),
            (Crun, "resources: a group of its own, seen through a namespace", "limit.v2: *"),
        ],
    },
    Reason {
        why: "A default device may be described anew.",
        of: &[(Runc, "devices: a default device with another mode", "exit")],
    },
    Reason {
        why: "A device has an absolute path and numbers, a rule letters that are known, or none.",
        of: &[
            (Runc, "devices: a device whose path is not absolute", "exit"),
            (Runc, "devices: a device without a path", "exit"),
            (Runc, "devices: a rule with an unknown access", "exit"),
            (Both, "devices: a device without numbers", "exit"),
            (Both, "devices: a rule without an access", "exit"),
            (Both, "devices: a rule with an access of nothing", "exit"),
            (Crun, "devices: a rule with -1 for any number", "exit"),
        ],
    },
    Reason {
        why: "Paths that are hidden are absolute.",
        of: &[
            (Both, "paths: a path that is not absolute is *", "exit"),
            (Both, "paths: a path of nothing is masked", "exit"),
        ],
    },
    Reason {
        why: "What is below a file is not there, and needs no mask.",
        of: &[(Both, "paths: what is below a file is masked", "exit")],
    },
    Reason {
        why: "crun hides a path first, and then it is hidden from being read only.",
        of: &[(Crun, "paths: a path is masked and read only", "mount./folder*")],
    },
    Reason {
        why: "The proc file system's own options hold for what is mounted from it.",
        of: &[(Crun, "mounts: proc read only", "mount./proc/*")],
    },
    Reason { why: "crun mounts nothing over its root.", of: &[(Crun, "paths: the root is *", "mount.*#2*")] },
    Reason { why: "crun leaves behind what it had made when it refuses.", of: &[(Crun, "*", "left")] },
    Reason {
        why: "A group that was there before stays.",
        of: &[(Both, "resources: a group that was there before", "left")],
    },
    Reason {
        why: "A flag that libseccomp 2.5 does not take from runc.",
        of: &[
            (Runc, "seccomp: the flag SECCOMP_FILTER_FLAG_TSYNC", "exit"),
            (Runc, "seccomp: the flag SECCOMP_FILTER_FLAG_LOG", "exit"),
            (Runc, "seccomp: the flag SECCOMP_FILTER_FLAG_SPEC_ALLOW", "exit"),
        ],
    },
    Reason {
        why: "A rule of seccomp has a name at least.",
        of: &[(Both, "seccomp: a rule without names", "exit")],
    },
    Reason {
        why: "A listener needs a path to be told to, and may have nothing to be told.",
        of: &[
            (Crun, "seccomp: a listener and nothing to tell it", "exit"),
            (Crun, "seccomp: a call with SCMP_ACT_NOTIFY", "exit"),
        ],
    },
    Reason {
        why: "A rule of seccomp has names, a profile a default; runc takes the old form and none.",
        of: &[
            (Runc, "seccomp: a rule whose names are missing", "exit"),
            (Runc, "seccomp: a rule with the old name", "exit"),
            (Runc, "seccomp: an empty profile", "exit"),
            (Runc, "seccomp: without a default", "exit"),
        ],
    },
    Reason {
        why: "Metadata of a listener need a listener.",
        of: &[(Both, "seccomp: metadata for a listener and no listener", "exit")],
    },
    Reason {
        why: "An errno is refused where the action takes none.",
        of: &[(Runc, "seccomp: a rule with an errno for an action without", "exit")],
    },
    Reason {
        why: "The peers' versions do not write burst, and runc's does not write idle.",
        of: &[
            (Both, "resources: a burst", "limit.cpu: cpu.cfs_burst_us"),
            (Both, "resources: a burst above the quota", "exit"),
            (Runc, "resources: idle", "limit.cpu: *"),
            (Runc, "resources: idle of 2", "exit"),
        ],
    },
    Reason {
        why: "Shares that the kernel rounds are no error.",
        of: &[(Runc, "resources: shares of 1", "exit"), (Runc, "resources: shares of a million", "exit")],
    },
    Reason {
        why: "crun refuses numbers that mean no limit, and objects without members.",
        of: &[
            (Crun, "resources: memory of 0", "exit"),
            (Crun, "resources: useHierarchy, said not", "exit"),
            (Crun, "resources: a quota of -1", "exit"),
            (Crun, "resources: processes of -1", "exit"),
            (Crun, "resources: an object of nothing for the network", "exit"),
        ],
    },
    Reason {
        why: "crun cannot make these paths.",
        of: &[
            (Crun, "resources: a path that climbs", "exit"),
            (Crun, "resources: a path of nothing", "exit"),
        ],
    },
    Reason {
        why: "A limit that cannot be set is an error; crun goes on.",
        of: &[(Crun, "resources: swappiness beyond 100", "exit"), (Crun, "resources: rdma", "exit")],
    },
    Reason {
        why: "A config is JSON to the letter: runc takes what follows it, and members in another case.",
        of: &[
            (Runc, "broken: something after the end", "exit"),
            (Runc, "broken: members in another case", "exit"),
        ],
    },
    Reason {
        why: "Of a member that is there twice the last one holds.",
        of: &[(Crun, "broken: a member twice", "hostname")],
    },
    Reason {
        why: "A version is there, and is 1.x.",
        of: &[
            (Runc, "broken: without /ociVersion", "exit"),
            (Runc, "broken: a version *", "exit"),
            (Runc, "broken: version 2", "exit"),
            (Runc, "broken: version 0.9", "exit"),
        ],
    },
    Reason { why: "runc falls over null.", of: &[(Runc, "broken: null", "exit")] },
    Reason {
        why: "A wrong type is refused; crun takes it as if it were not there.",
        of: &[
            (Crun, "broken: an argument that is a number", "exit"),
            (Crun, "broken: an argument with a NUL", "exit"),
            (Crun, "broken: an environment that is no list", "exit"),
            (Crun, "broken: a variable that is a number", "exit"),
            (Crun, "broken: a user that is a number", "exit"),
            (Crun, "broken: a uid that is a word", "exit"),
            (Crun, "broken: capabilities that are a list", "exit"),
            (Crun, "broken: a set of capabilities that is a word", "exit"),
            (Crun, "broken: terminal is a word", "exit"),
            (Crun, "broken: noNewPrivileges is a number", "exit"),
            (Crun, "broken: oomScoreAdj is a word", "exit"),
            (Crun, "broken: a hostname that is a number", "exit"),
            (Crun, "broken: options of a mount that are a word", "exit"),
            (Crun, "broken: readonly is a word", "exit"),
            (Crun, "broken: a device's number is a word", "exit"),
            (Crun, "broken: masked paths that are a word", "exit"),
            (Crun, "broken: a sysctl that is a list", "exit"),
            (Crun, "broken: a limit of memory that is a word", "exit"),
            (Crun, "broken: shares that are negative", "exit"),
            (Crun, "broken: a map that is an object", "exit"),
            (Crun, "broken: annotations that are a list", "exit"),
            (Crun, "broken: seccomp that is a word", "exit"),
            (Crun, "broken: resources that are a list", "exit"),
            (Crun, "broken: hooks that are a list", "exit"),
        ],
    },
    Reason {
        why: "crun makes a relative cwd absolute.",
        of: &[(Crun, "broken: cwd is not absolute", "exit")],
    },
    Reason {
        why: "/proc is a procfs, and what it decides cannot be covered.",
        of: &[
            (Crun, "broken: a tmpfs at /proc", "exit"),
            (Crun, "broken: a bind at /proc", "exit"),
            (Crun, "broken: a bind over /proc/self/attr", "exit"),
            (Both, "broken: a tmpfs below /proc", "exit"),
        ],
    },
    Reason {
        why: "crun takes a capability in lower case for the first of them.",
        of: &[(Crun, "identity: a capability in lower case", "caps.*")],
    },
    Reason {
        why: "runc makes the folder of a link to /dev anew.",
        of: &[(Runc, "broken: /dev of the root is a link", "root.tmp")],
    },
    Reason {
        why: "The peers' versions do not know process.scheduler and ioPriority, nor what is wrong in them.",
        of: &[
            (Both, "process: scheduler *", "scheduler"),
            (Both, "process: scheduler SCHED_FIFO with priority 3", "timerslack"),
            (Both, "process: scheduler SCHED_RR with priority 100", "exit"),
            (Both, "process: scheduler of an unknown policy", "exit"),
            (Both, "process: ioPriority *", "ioprio"),
            (Both, "process: ioPriority of an unknown class", "exit"),
        ],
    },
    Reason {
        why: "runc 1.1 does not know linux.personality.",
        of: &[
            (Runc, "process: a personality of 32 bits", "machine"),
            (Runc, "process: a personality of 32 bits", "personality"),
            (Runc, "process: a personality of none", "exit"),
        ],
    },
    Reason {
        why: "The peers' versions do not know time namespaces, nor that offsets need one.",
        of: &[
            (Both, "namespaces: a time namespace*", "exit"),
            (Both, "namespaces: time offsets without a time namespace", "exit"),
        ],
    },
    Reason {
        why: "The peers' versions do not know linux.memoryPolicy and netDevices.",
        of: &[
            (Both, "resources: a policy of memory", "mempolicy"),
            (Both, "broken: devices by network that are not there", "exit"),
        ],
    },
    Reason {
        why: "runc 1.1 does not know mappings of a mount's own.",
        of: &[
            (Runc, "mounts: an idmapped one", "mount./data: options"),
            (Runc, "mounts: an idmapped one", "path./data"),
        ],
    },
    Reason {
        why: "What is copied up has the folder's mode too.",
        of: &[
            (Crun, "options: a tmpfs with tmpcopyup", "path./data"),
            (Crun, "options: a tmpfs with tmpcopyup", "root.data"),
        ],
    },
    Reason {
        why: "tmpcopyup is for a tmpfs alone.",
        of: &[(Runc, "options: a bind with tmpcopyup", "exit")],
    },
    Reason {
        why: "A capability that cannot be granted is a warning, as the specification has it.",
        of: &[(Both, "identity: every one of the machine", "exit")],
    },
    Reason {
        why: "A file where a device is to be is an error, as the specification has it.",
        of: &[(Both, "devices: a device where a file is mounted", "exit")],
    },
    Reason {
        why: "/dev/console can be opened whatever the rules say, and /dev/net/tun cannot without one.",
        of: &[
            (Runc, "devices: *", "device.c:5:1"),
            (Runc, "devices: *", "device.c:10:200"),
            (Both, "devices: no rule*", "device.c:10:200"),
        ],
    },
    Reason { why: "Without a rule crun allows everything.", of: &[(Crun, "devices: no rule*", "device.*")] },
    Reason {
        why: "A hook has files in memory for its streams, and no other; runc lends createContainer its own.",
        of: &[
            (Both, "hooks: *", "hook.*: fd.0"),
            (Both, "hooks: *", "hook.*: fd.1"),
            (Both, "hooks: *", "hook.*: fd.2"),
            (Runc, "hooks: *", "hook.createContainer: fd.*"),
        ],
    },
    Reason {
        why: "A hook's environment is what the config says, and not the runtime's.",
        of: &[(Any, "hooks: one without an environment", "hook.prestart: env.*")],
    },
    Reason {
        why: "A hook is told the whole state document, which has more members and no member root.",
        of: &[
            (Both, "hooks: *", "hook.*: state.annotations"),
            (Both, "hooks: *", "hook.*: state.created"),
            (Both, "hooks: *", "hook.*: state.owner"),
            (Both, "hooks: *", "hook.*: state.rootfs"),
            (Crun, "hooks: *", "hook.*: state.root"),
            (Runc, "hooks: *", "hook.poststop: state.pid"),
        ],
    },
    Reason {
        why: "A container is being created until the hooks of create are done, and running after its start.",
        of: &[
            (Crun, "hooks: *", "hook.prestart*: state.status"),
            (Crun, "hooks: *", "hook.createRuntime*: state.status"),
            (Crun, "hooks: *", "hook.createContainer: state.status"),
            (Crun, "hooks: *", "hook.startContainer: state.status"),
            (Runc, "hooks: *", "hook.poststart: state.status"),
        ],
    },
    Reason {
        why: "crun tells hooks that are in the container neither its pid nor its bundle.",
        of: &[
            (Crun, "hooks: *", "hook.createContainer: state.pid"),
            (Crun, "hooks: *", "hook.startContainer: state.pid"),
            (Crun, "hooks: *", "hook.startContainer: state.bundle"),
        ],
    },
    Reason {
        why: "runc's first poststop hook that fails is the last one.",
        of: &[(Runc, "hooks: poststop fails", "hook*")],
    },
    Reason {
        why: "The container has its hostname before createContainer's hooks, and they stand in its root.",
        of: &[
            (Both, "hooks: *", "hook.createContainer: hostname"),
            (Crun, "hooks: *", "hook.createContainer: cwd"),
        ],
    },
    Reason {
        why: "crun hides a device by the host's own null, and a device that is made read only loses nosuid.",
        of: &[
            (Crun, "paths: a device is masked", "mount./dev/zero: *"),
            (Crun, "paths: a device is read only", "mount./dev/zero: options"),
        ],
    },
    Reason {
        why: "A flag that makes a listener's answers wait needs a listener.",
        of: &[(Crun, "seccomp: the flag SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", "exit")],
    },
];
