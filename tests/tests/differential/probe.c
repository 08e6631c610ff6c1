/* What a process sees of the container that it is in, as one flat JSON object on standard output. It judges
 * nothing and knows no runtime. Every argument KIND=VALUE asks for one thing more; `hook=FILE KIND` as the
 * first ones make it a hook, which appends what it was given to a file. words.c comes before it. */

/* Can a device be opened for reading and for writing, through a node of our own? */
static void device(const char *word) {
	char type;
	unsigned ma, mi;
	if (sscanf(word, "%c:%u:%u", &type, &ma, &mi) != 3) return;
	const char *node = "/dev/probe-node";
	if (mknod(node, (type == 'b' ? S_IFBLK : S_IFCHR) | 0600, makedev(ma, mi))) {
		put(key("device.%s", word), "mknod %s", error());
		return;
	}
	static const int modes[] = {O_RDONLY, O_WRONLY, O_RDWR};
	char results[3][16];
	for (int i = 0; i < 3; i++) {
		int fd = open(node, modes[i] | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
		/* What opening does besides is the driver's affair: EPERM is what the filter says. */
		snprintf(results[i], sizeof results[i], fd < 0 && errno == EPERM ? "EPERM" : "allowed");
		if (fd >= 0) close(fd);
	}
	unlink(node);
	put(key("device.%s", word), "r %s, w %s, rw %s", results[0], results[1], results[2]);
}

static void usual_devices(void) {
	static const char *names[] = {"null", "zero", "full", "random", "urandom", "tty", "ptmx", "console"};
	for (unsigned i = 0; i < sizeof names / sizeof *names; i++) {
		char p[32];
		snprintf(p, sizeof p, "/dev/%s", names[i]);
		int fd = open(p, O_RDWR | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
		put(key("open.%s", p), "%s", fd < 0 ? error() : write(fd, "x", i < 3) < 0 ? error() : "ok");
		if (fd >= 0) close(fd);
	}
	static const char *nodes[] = {"c:1:1", "c:1:3", "c:1:11", "c:5:1", "c:10:200", "c:10:229", "c:136:0", "b:7:0"};
	for (unsigned i = 0; i < sizeof nodes / sizeof *nodes; i++) device(nodes[i]);
}

static void identity(void) {
	uid_t r, e, s;
	gid_t groups[1024];
	getresuid(&r, &e, &s);
	put("uid", "%u %u %u %u", r, e, s, setfsuid(-1));
	getresgid(&r, &e, &s);
	put("gid", "%u %u %u %u", r, e, s, setfsgid(-1));
	int n = getgroups(1024, groups);
	char text[8192] = "";
	for (int i = 0; i < n; i++) sprintf(text + strlen(text), "%s%u", i ? " " : "", groups[i]);
	put("groups", "%s", text);
	mode_t mask = umask(0);
	umask(mask);
	put("umask", "%04o", mask);
	struct { uint32_t version; int pid; } header = {0x20080522, 0};
	struct { uint32_t e, p, i; } data[2] = {{0}};
	if (syscall(SYS_capget, &header, data)) put("caps", "<%s>", error());
	unsigned long long bounding = 0, ambient = 0;
	for (int c = 0; c < 64; c++) {
		if (prctl(PR_CAPBSET_READ, c, 0, 0, 0) == 1) bounding |= 1ULL << c;
		if (prctl(47, 1, c, 0, 0) == 1) ambient |= 1ULL << c; /* PR_CAP_AMBIENT_IS_SET */
	}
	put("caps.effective", "%08x%08x", data[1].e, data[0].e);
	put("caps.permitted", "%08x%08x", data[1].p, data[0].p);
	put("caps.inheritable", "%08x%08x", data[1].i, data[0].i);
	put("caps.bounding", "%016llx", bounding);
	put("caps.ambient", "%016llx", ambient);
	put("securebits", "%d", prctl(27, 0, 0, 0, 0));
	put("no_new_privs", "%d", prctl(39, 0, 0, 0, 0));
	put("seccomp", "%d", prctl(21, 0, 0, 0, 0));
	put("keepcaps", "%d", prctl(7, 0, 0, 0, 0));
	put("dumpable", "%d", prctl(3, 0, 0, 0, 0));
	put("subreaper", "%d", (prctl(37, &n, 0, 0, 0), n));
	put("pdeathsig", "%d", (prctl(2, &n, 0, 0, 0), n));
	put("timerslack", "%d", prctl(30, 0, 0, 0, 0));
	put("thp_disable", "%d", prctl(42, 0, 0, 0, 0));
	put("mdwe", "%d", prctl(66, 0, 0, 0, 0));
	put("speculation", "%d", prctl(52, 0, 0, 0, 0));
	sigset_t blocked;
	sigprocmask(SIG_BLOCK, 0, &blocked);
	char ignored[512] = "", held[512] = "";
	for (int i = 1; i < 65; i++) {
		struct sigaction a;
		if (!sigaction(i, 0, &a) && a.sa_handler == SIG_IGN) sprintf(ignored + strlen(ignored), "%d ", i);
		if (sigismember(&blocked, i) == 1) sprintf(held + strlen(held), "%d ", i);
	}
	put("signals.ignored", "%s", ignored);
	put("signals.blocked", "%s", held);
	put("pid", "%d", getpid());
	put("ppid", "%d", getppid());
	put("session", "%s", getsid(0) == getpid() ? "leads" : "follows");
	put("group", "%s", getpgrp() == getpid() ? "leads" : "follows");
	int ring = syscall(SYS_keyctl, 0, -3, 0); /* the session's keyring */
	char about[512] = "";
	if (ring < 0) snprintf(about, sizeof about, "<%s>", error());
	else if (syscall(SYS_keyctl, 6, ring, about, sizeof about) < 0) snprintf(about, sizeof about, "<describe: %s>", error());
	put("keyring", "%s", about);
}

static void limits(void) {
	static const char *names[] = {"cpu", "fsize", "data", "stack", "core", "rss", "nproc", "nofile", "memlock", "as",
		"locks", "sigpending", "msgqueue", "nice", "rtprio", "rttime"};
	for (int i = 0; i < 16; i++) {
		struct rlimit l = {0};
		getrlimit(i, &l);
		put(key("rlimit.%s", names[i]), "%lld %lld", (long long)l.rlim_cur, (long long)l.rlim_max);
	}
	struct { uint32_t size, policy; uint64_t flags; int32_t nice; uint32_t priority; uint64_t runtime, deadline, period; } a = {0};
	syscall(SYS_sched_getattr, 0, &a, sizeof a, 0);
	put("scheduler", "policy %u flags %llu nice %d priority %u runtime %llu deadline %llu period %llu", a.policy,
		(long long)a.flags, a.nice, a.priority, (long long)a.runtime * (a.policy == 6), (long long)a.deadline, (long long)a.period);
	put("ioprio", "%ld", syscall(SYS_ioprio_get, 1, 0));
	uint64_t mask[16] = {0};
	syscall(SYS_sched_getaffinity, 0, sizeof mask, mask);
	put("affinity", "%llx", (long long)mask[0]);
	put("personality", "%x", personality(0xffffffff));
	int mode = -1;
	unsigned long nodes[16] = {0};
	if (syscall(SYS_get_mempolicy, &mode, nodes, 1024, 0, 0)) put("mempolicy", "<%s>", error());
	else put("mempolicy", "%d %lx", mode, nodes[0]);
}

static void surroundings(void) {
	struct utsname u;
	uname(&u);
	put("hostname", "%s", u.nodename);
	put("domainname", "%s", u.domainname);
	put("machine", "%s", u.machine);
	char cwd[PATH_MAX];
	put("cwd", "%s", getcwd(cwd, sizeof cwd) ? cwd : error());
	for (char **e = environ; *e; e++) {
		char *equals = strchr(*e, '=');
		int length = equals ? equals - *e : (int)strlen(*e), before = 0;
		for (char **b = environ; b < e; b++) before += !strncmp(*b, *e, length) && (*b)[length] == '=';
		put(key(before ? "env.%.*s#%d" : "env.%.*s", length, *e, before + 1), "%s", equals ? equals + 1 : "<no =>");
	}
	static const char *spaces[] = {"cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"};
	for (unsigned i = 0; i < 8; i++) {
		char p[64];
		snprintf(p, sizeof p, "/proc/self/ns/%s", spaces[i]);
		put(key("ns.%s", spaces[i]), "%s", link_of(p));
	}
	static const char *own[] = {"oom_score_adj", "uid_map", "gid_map", "setgroups", "timens_offsets", "comm", "loginuid",
		"coredump_filter", "attr/current", "attr/exec", "mountinfo", "cgroup"};
	for (unsigned i = 0; i < sizeof own / sizeof *own; i++) {
		char p[64];
		snprintf(p, sizeof p, "/proc/self/%s", own[i]);
		put(key("self.%s", own[i]), "%s", content(p));
	}
	put("exe", "%s", link_of("/proc/self/exe"));
	for (int fd = 0; fd < 256; fd++) {
		if (open_at_start[fd] < 0) continue;
		char p[64];
		struct stat s;
		snprintf(p, sizeof p, "/proc/self/fd/%d", fd);
		int flags = fcntl(fd, F_GETFL);
		fstat(fd, &s);
		put(key("fd.%d", fd), "%s %s %s%s", kind(s.st_mode), link_of(p), (flags & O_ACCMODE) == O_RDONLY ? "r"
			: (flags & O_ACCMODE) == O_WRONLY ? "w" : "rw", isatty(fd) ? " tty" : "");
	}
	int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq q = {.ifr_name = "lo"};
	if (s < 0 || ioctl(s, SIOCGIFFLAGS, &q)) put("net.lo", "<%s>", error());
	else put("net.lo", "%s", q.ifr_flags & IFF_UP ? "up" : "down");
	if (s >= 0) close(s);
	for (int i = 1; i < 9; i++) {
		char name[IF_NAMESIZE];
		if (if_indextoname(i, name)) put(key("net.%s.index", name), "%d", i);
	}
}

/* Calls that seccomp rules of the tests are about; none changes anything. */
static void calls(void) {
	static const struct { const char *name; long n, a, b, c; } table[] = {
		{"getpriority(0)", SYS_getpriority, 0, 0}, {"getpriority(1)", SYS_getpriority, 1, 0},
		{"getpriority(2)", SYS_getpriority, 2, 0}, {"mkdir", SYS_mkdirat, AT_FDCWD, (long)"/proc/self/none", 0},
		{"socket(unix)", SYS_socket, AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0},
		{"socket(inet)", SYS_socket, AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0},
		{"socket(vsock)", SYS_socket, 40, SOCK_STREAM | SOCK_CLOEXEC, 0}, {"unshare", SYS_unshare, CLONE_NEWUTS},
		{"sethostname", SYS_sethostname, (long)"x", -1}, {"chroot", SYS_chroot, (long)"/none"},
		{"mount", SYS_mount, 0, (long)"/none", 0}, {"ptrace", SYS_ptrace, 99, 0}, {"bpf", SYS_bpf, 99, 0, 0},
		{"personality", SYS_personality, 0xffffffff}, {"sync_file_range", SYS_sync_file_range, -1, 0, 0},
		{"syslog", SYS_syslog, 10}, {"settimeofday", SYS_settimeofday, 0, 0}, {"clone3", 435, 0, 0}, {"unknown", 4242}};
	for (unsigned i = 0; i < sizeof table / sizeof *table; i++) {
		long r = syscall(table[i].n, table[i].a, table[i].b, table[i].c, 0, 0, 0);
		put(key("call.%s", table[i].name), "%s", r < 0 ? error() : "ok");
	}
}

/* The limits of the own groups: `top` is the host's /sys/fs/cgroup, bound in. */
static void groups(const char *top) {
	char lines[8192];
	snprintf(lines, sizeof lines, "%s\n", content("/proc/self/cgroup"));
	for (char *save, *line = strtok_r(lines, "\n", &save); line; line = strtok_r(0, "\n", &save)) {
		char *controllers = strchr(line, ':') + 1, *at = strchr(controllers, ':');
		*at++ = 0;
		char dir[PATH_MAX];
		snprintf(dir, sizeof dir, "%s/%s%s", top, *controllers ? strncmp(controllers, "name=", 5) ? controllers
			: controllers + 5 : "unified", at);
		if (!*controllers && access(dir, F_OK)) snprintf(dir, sizeof dir, "%s%s", top, at);
		DIR *d = opendir(dir);
		for (struct dirent *e; d && (e = readdir(d));) {
			char p[PATH_MAX];
			struct stat s;
			snprintf(p, sizeof p, "%s/%s", dir, e->d_name);
			/* What only counts cannot be written. */
			if (stat(p, &s) || !S_ISREG(s.st_mode) || !(s.st_mode & 0200) && strcmp(e->d_name, "devices.list")) continue;
			if (!strstr(e->d_name, ".")) continue;
			put(key("limit.%s: %s", *controllers ? controllers : "v2", e->d_name), "%s", content(p));
			if (!strncmp(e->d_name, "cgroup.procs", 12)) put(key("limit.%s: owner", *controllers ? controllers : "v2"), "%u", s.st_uid);
		}
		if (d) closedir(d);
	}
}

static int hook(const char *file, int argc, char **argv) {
	char state[65536];
	size_t n = 0;
	ssize_t got;
	while (n < sizeof state - 1 && (got = read(0, state + n, sizeof state - 1 - n)) > 0) n += got;
	state[n] = 0;
	out = fopen(file, "a");
	if (!out) return 3;
	char whole[1 << 18], ignored[64] = "";
	FILE *to = out;
	out = fmemopen(whole, sizeof whole, "w");
	put("kind", "%s", argc > 2 ? argv[2] : "?");
	put("state", "%s", state);
	put("argc", "%d", argc);
	put("uid", "%d", getuid());
	put("stdin", "%s", (got = lseek(0, 0, SEEK_CUR)) < 0 ? "pipe" : "file");
	surroundings();
	fputs("}\n", out);
	fflush(out);
	fputs(whole, to);
	fclose(to);
	int code = 0;
	for (int i = 3; i < argc; i++) {
		if (!strncmp(argv[i], "exit=", 5)) code = atoi(argv[i] + 5);
		if (!strncmp(argv[i], "sleep=", 6)) sleep(atoi(argv[i] + 6));
	}
	return code;
}

int main(int argc, char **argv) {
	for (int fd = 0; fd < 256; fd++) open_at_start[fd] = fcntl(fd, F_GETFD);
	if (argc > 1 && !strncmp(argv[1], "hook=", 5)) return hook(argv[1] + 5, argc, argv);
	static char whole[1 << 20];
	out = fmemopen(whole, sizeof whole, "w");
	int code = 0, signal = 0;
	for (int i = 0; i < argc; i++) put(key("argv.%d", i), "%s", argv[i]);
	identity();
	limits();
	surroundings();
	list("dev.", "/dev");
	list("root.", "/");
	entry("root", "/");
	usual_devices();
	for (int i = 1; i < argc; i++) {
		char *value = strchr(argv[i], '=');
		if (!value) continue;
		value++;
		if (!strncmp(argv[i], "path=", 5)) path(value);
		else if (!strncmp(argv[i], "size=", 5)) size(value);
		else if (!strncmp(argv[i], "cat=", 4)) put(key("cat.%s", value), "%s", content(value));
		else if (!strncmp(argv[i], "ls=", 3)) list(key("ls.%s/", value), value);
		else if (!strncmp(argv[i], "device=", 7)) device(value);
		else if (!strncmp(argv[i], "calls=", 6)) calls();
		else if (!strncmp(argv[i], "groups=", 7)) groups(value);
		else if (!strncmp(argv[i], "exit=", 5)) code = atoi(value);
		else if (!strncmp(argv[i], "kill=", 5)) signal = atoi(value);
	}
	fputs("}\n", out);
	fclose(out);
	for (size_t n = strlen(whole), done = 0; done < n;) {
		ssize_t wrote = write(1, whole + done, n - done);
		if (wrote <= 0) return 4;
		done += wrote;
	}
	if (signal) kill(getpid(), signal);
	return code;
}
