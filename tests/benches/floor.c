/* The floor under `runner run --rm`: one static program that makes the kernel calls no container start can do
 * without, and nothing else. No parsing, no checks of policy, no capabilities, no seccomp, no limits, no PID 1
 * of its own: a yardstick, not a runtime.
 *
 *     floor DIR LOWERS COMMAND ARGS...     DIR: a folder for upper and work; LOWERS: as overlay's lowerdir
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef CLONE_PIDFD
#define CLONE_PIDFD 0x1000
#endif
#ifndef P_PIDFD
#define P_PIDFD 3
#endif

/* As in linux/sched.h, which musl's compiler wrapper does not find. */
struct clone_args {
	uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls;
};

static void check(long result, const char *call)
{
	if (result < 0) {
		perror(call);
		_exit(125);
	}
}

static void child(const char *dir, const char *lowers, char **command)
{
	static const struct {
		const char *path;
		int major, minor;
	} devices[] = {{"null", 1, 3}, {"zero", 1, 5}, {"full", 1, 7}, {"random", 1, 8}, {"urandom", 1, 9}, {"tty", 5, 0}};
	char options[16384];

	check(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), "mount private");
	check(chdir(dir), "chdir");
	snprintf(options, sizeof options, "lowerdir=%s,upperdir=upper,workdir=work,volatile", lowers);
	check(mount("overlay", "root", "overlay", 0, options), "mount overlay");
	check(chdir("root"), "chdir root");
	check(mount("proc", "proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL), "mount proc");
	check(mount("sysfs", "sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RDONLY, NULL), "mount sysfs");
	check(mount("tmpfs", "dev", "tmpfs", MS_NOSUID, "mode=755,size=64k"), "mount tmpfs");
	umask(0);
	check(chdir("dev"), "chdir dev");
	for (unsigned i = 0; i < sizeof devices / sizeof *devices; i++)
		check(mknod(devices[i].path, S_IFCHR | 0666, makedev(devices[i].major, devices[i].minor)), "mknod");
	check(chdir(".."), "chdir ..");
	check(syscall(SYS_pivot_root, ".", "."), "pivot_root");
	check(umount2(".", MNT_DETACH), "umount");
	check(chdir("/"), "chdir /");
	execv(command[0], command);
	check(-1, command[0]);
}

int main(int argc, char **argv)
{
	char name[4096], *at;
	int pidfd = -1;
	siginfo_t end;

	if (argc < 4)
		return 2;
	/* A fresh upper for every start: no runtime comes about without one. */
	at = name + snprintf(name, sizeof name, "%s/%d", argv[1], getpid());
	check(mkdir(name, 0700), "mkdir");
	strcpy(at, "/upper"), check(mkdir(name, 0755), "mkdir upper");
	strcpy(at, "/work"), check(mkdir(name, 0755), "mkdir work");
	strcpy(at, "/root"), check(mkdir(name, 0755), "mkdir root");
	*at = 0;

	struct clone_args args = {
		.flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWNET | CLONE_NEWCGROUP |
			 CLONE_PIDFD,
		.pidfd = (uint64_t)(uintptr_t)&pidfd,
		.exit_signal = SIGCHLD,
	};
	long pid = syscall(SYS_clone3, &args, sizeof args);
	check(pid, "clone3");
	if (pid == 0)
		child(name, argv[2], argv + 3);
	check(waitid(P_PIDFD, pidfd, &end, WEXITED), "waitid");

	/* What overlay's `volatile` leaves in the work folder. */
	strcpy(at, "/work/work/incompat/volatile/dirty"), unlink(name) && rmdir(name);
	strcpy(at, "/work/work/incompat/volatile"), rmdir(name);
	strcpy(at, "/work/work/incompat"), rmdir(name);
	strcpy(at, "/work/work"), rmdir(name);
	strcpy(at, "/work"), rmdir(name);
	strcpy(at, "/upper"), rmdir(name);
	strcpy(at, "/root"), rmdir(name);
	*at = 0, rmdir(name);
	return end.si_code == CLD_EXITED ? end.si_status : 128 + end.si_status;
}
