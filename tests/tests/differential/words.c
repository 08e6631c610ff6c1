/* How the probe writes: one flat JSON object, and what can be said of a file. No kernel header is needed:
 * musl's compiler has none. probe.c comes after it. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/types.h>
#include <sys/utsname.h>
#include <unistd.h>

extern char **environ;
static FILE *out;
static const char *separator = "{";
/* Values that later looks would change are taken before anything is opened. */
static int open_at_start[256];

static void quoted(const char *text) {
	fputc('"', out);
	for (const unsigned char *c = (const unsigned char *)text; *c; c++)
		if (*c < 0x20 || *c > 0x7e || *c == '"' || *c == '\\') fprintf(out, "\\u%04x", *c);
		else fputc(*c, out);
	fputc('"', out);
}

static void put(const char *key, const char *format, ...) {
	static char value[1 << 18];
	va_list list;
	va_start(list, format);
	vsnprintf(value, sizeof value, format, list);
	va_end(list);
	fputs(separator, out);
	quoted(key);
	fputc(':', out);
	quoted(value);
	separator = ",";
}

static const char *key(const char *format, ...) {
	static char name[PATH_MAX + 64];
	va_list list;
	va_start(list, format);
	vsnprintf(name, sizeof name, format, list);
	va_end(list);
	return name;
}

static const char *error(void) {
	static const struct { int n; const char *name; } names[] = {
		{EPERM, "EPERM"}, {ENOENT, "ENOENT"}, {EACCES, "EACCES"}, {EROFS, "EROFS"}, {ENXIO, "ENXIO"},
		{ENODEV, "ENODEV"}, {EINVAL, "EINVAL"}, {ENOSYS, "ENOSYS"}, {EBUSY, "EBUSY"}, {ENOSPC, "ENOSPC"},
		{EEXIST, "EEXIST"}, {ENOTDIR, "ENOTDIR"}, {EISDIR, "EISDIR"}, {ELOOP, "ELOOP"}, {EBADF, "EBADF"},
		{EAGAIN, "EAGAIN"}, {EIO, "EIO"}, {ENOMEM, "ENOMEM"}, {EOPNOTSUPP, "EOPNOTSUPP"}, {ENOTTY, "ENOTTY"},
		{EAFNOSUPPORT, "EAFNOSUPPORT"}, {ENOTUNIQ, "ENOTUNIQ"}, {ESRCH, "ESRCH"}};
	static char number[16];
	for (unsigned i = 0; i < sizeof names / sizeof *names; i++)
		if (names[i].n == errno) return names[i].name;
	snprintf(number, sizeof number, "errno %d", errno);
	return number;
}

/* The beginning of a file; an error in angle brackets. */
static const char *content(const char *path) {
	static char text[1 << 17];
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0) return snprintf(text, sizeof text, "<%s>", error()), text;
	size_t n = 0;
	ssize_t got;
	while (n < sizeof text - 1 && (got = read(fd, text + n, sizeof text - 1 - n)) > 0) n += got;
	if (n == 0 && got < 0) n = snprintf(text, sizeof text, "<read: %s>", error());
	close(fd);
	for (size_t i = 0; i < n; i++) if (!text[i]) text[i] = ' ';
	while (n && text[n - 1] == '\n') n--;
	text[n] = 0;
	return text;
}

static const char *link_of(const char *path) {
	static char to[PATH_MAX];
	ssize_t n = readlink(path, to, sizeof to - 1);
	if (n < 0) return snprintf(to, sizeof to, "<%s>", error()), to;
	to[n] = 0;
	return to;
}

static const char *kind(mode_t mode) {
	return S_ISREG(mode) ? "file" : S_ISDIR(mode) ? "dir" : S_ISCHR(mode) ? "char" : S_ISBLK(mode) ? "block"
		: S_ISFIFO(mode) ? "fifo" : S_ISSOCK(mode) ? "socket" : S_ISLNK(mode) ? "link" : "?";
}

/* An entry of a directory: type, device, mode, owner. */
static void entry(const char *name, const char *path) {
	struct stat s;
	if (lstat(path, &s)) put(name, "<%s>", error());
	else if (S_ISLNK(s.st_mode)) put(name, "link %s %u:%u", link_of(path), s.st_uid, s.st_gid);
	else if (S_ISCHR(s.st_mode) || S_ISBLK(s.st_mode))
		put(name, "%s %u:%u %04o %u:%u", kind(s.st_mode), major(s.st_rdev), minor(s.st_rdev),
			s.st_mode & 07777, s.st_uid, s.st_gid);
	else put(name, "%s %04o %u:%u", kind(s.st_mode), s.st_mode & 07777, s.st_uid, s.st_gid);
}

static void list(const char *prefix, const char *dir) {
	DIR *d = opendir(dir);
	if (!d) { put(prefix, "<%s>", error()); return; }
	for (struct dirent *e; (e = readdir(d));) {
		if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..")) continue;
		char path[PATH_MAX], name[PATH_MAX];
		snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
		snprintf(name, sizeof name, "%s%s", prefix, e->d_name);
		entry(name, path);
	}
	closedir(d);
}

/* What can be done with a path: its type, whether something is read out of it, whether it can be written. */
static void path(const char *p) {
	struct stat s;
	if (stat(p, &s)) { put(key("path.%s", p), "<%s>", error()); return; }
	char inside[64];
	if (S_ISDIR(s.st_mode)) {
		DIR *d = opendir(p);
		int n = -2;
		while (d && readdir(d)) n++;
		snprintf(inside, sizeof inside, d ? n > 0 ? "has entries" : "empty" : "<%s>", error());
		if (d) closedir(d);
	} else {
		char byte;
		int fd = open(p, O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
		ssize_t n = fd < 0 ? -1 : read(fd, &byte, 1);
		snprintf(inside, sizeof inside, n > 0 ? "has bytes" : n == 0 ? "empty" : "<%s>", error());
		if (fd >= 0) close(fd);
	}
	const char *write = access(p, W_OK) ? error() : "ok";
	put(key("path.%s", p), "%s %04o %u:%u, %s, write %s, execute %s", kind(s.st_mode), s.st_mode & 07777, s.st_uid,
		s.st_gid, inside, write, access(p, X_OK) ? "no" : "ok");
}

/* How large a tmpfs is made: blocks and files. */
static void size(const char *p) {
	struct statfs f;
	if (!statfs(p, &f)) put(key("size.%s", p), "%lu blocks, %lu files", (long)f.f_blocks, (long)f.f_files);
}

