/* What the tests of init need at both of its ends, in one static program.
 *
 *     actor VERB ARGS... [VERB ARGS...] [PROGRAM ARGS...]
 *
 * The first verbs change the process and go on with the words that follow; a word that is no verb is a
 * program to execute. The last verbs are commands for init to run. Signals are numbers, and handled by bare
 * system calls: a C library keeps some of them for itself. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

static void die(const char *what) { perror(what); _exit(99); }

static void block(uint64_t set)
{
    if (syscall(SYS_rt_sigprocmask, SIG_BLOCK, &set, NULL, 8)) die("rt_sigprocmask");
}

static void say(const char *format, long a, long b, long c)
{
    char line[100];
    int length = snprintf(line, sizeof line, format, a, b, c);
    if (write(1, line, length) != length) _exit(98);
}

static int status_of(int status) { return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status); }

/* Wait for one child and leave as it did. */
static void leave_as(pid_t child)
{
    int status;
    while (waitpid(child, &status, 0) != child) if (errno != EINTR) die("waitpid");
    _exit(status_of(status));
}

static pid_t must_fork(void)
{
    /* Other tests use up process numbers as well: wait for some to become free. */
    for (int tries = 0; tries < 20000; tries++) {
        pid_t pid = fork();
        if (pid >= 0) return pid;
        if (errno != EAGAIN) break;
        usleep(1000);
    }
    die("fork");
    return -1;
}

/* Print every signal that arrives: its number, si_code and value. The next to last line of defence is an
 * alarm: nothing here outlives its test by long. */
static void watch(void)
{
    uint64_t all = ~0ull;
    block(all);
    say("ready %ld\n", getpid(), 0, 0);
    for (;;) {
        siginfo_t info;
        long sig = syscall(SYS_rt_sigtimedwait, &all, &info, NULL, 8);
        if (sig == SIGCHLD) continue;
        if (sig > 0) say("signal %ld code %ld value %ld\n", sig, info.si_code, info.si_code == SI_QUEUE ? info.si_value.sival_int : 0);
    }
}

/* Have an orphan of init be traced by init, its parent, and stop for a signal. */
static void traced_orphan(int sig)
{
    int alive[2];
    if (pipe(alive)) die("pipe");
    pid_t middle = must_fork();
    if (!middle) {
        pid_t self = getpid();
        if (must_fork()) _exit(0);
        while (getppid() == self) usleep(1000);
        if (ptrace(PTRACE_TRACEME, 0, 0, 0)) die("ptrace");
        syscall(SYS_tgkill, getpid(), getpid(), sig);
        _exit(0);
    }
    waitpid(middle, NULL, 0);
    close(alive[1]);
    char byte;
    if (read(alive[0], &byte, 1) == 0) say("gone\n", 0, 0, 0);
    _exit(0);
}

static long now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000L + time.tv_nsec;
}

static int by_size(const void *a, const void *b)
{
    long x = *(const long *)a, y = *(const long *)b;
    return x < y ? -1 : x > y;
}

/* Send init a signal, wait until it comes back, `count` times: the median in nanoseconds. */
static void echo(long count)
{
    uint64_t usr1 = 1ull << (SIGUSR1 - 1);
    long *times = calloc(count, sizeof *times);
    block(usr1);
    for (long i = 0; i < count; i++) {
        siginfo_t info;
        long began = now();
        if (kill(getppid(), SIGUSR1)) die("kill");
        while (syscall(SYS_rt_sigtimedwait, &usr1, &info, NULL, 8) != SIGUSR1) {}
        times[i] = now() - began;
    }
    qsort(times, count, sizeof *times, by_size);
    say("echo %ld\n", times[count / 2], 0, 0);
    _exit(0);
}

/* Make `count` orphans; each sleeps for good if `keep`, else ends at once. Returns when all are made. */
static void orphans(long count, int keep)
{
    pid_t middle = must_fork();
    if (!middle) {
        for (long i = 0; i < count; i++) {
            if (must_fork()) continue;
            if (keep) {
                for (int fd = 0; fd < 3; fd++) close(fd);
                alarm(100); /* nothing here outlives its test by long */
                for (;;) pause();
            }
            _exit(0);
        }
        _exit(0);
    }
    int status;
    waitpid(middle, &status, 0);
    if (status) _exit(97);
}

int main(int argc, char **argv)
{
    char **word = argv + 1;
    (void)argc;
    while (*word) {
        char *verb = *word++;
#define IS(name) (!strcmp(verb, name))
#define NUMBER (*word ? atol(*word++) : (_exit(96), 0L))
        /* Changes of the process. */
        if (IS("ignore")) signal(NUMBER, SIG_IGN);
        else if (IS("block")) block(1ull << (NUMBER - 1));
        else if (IS("raise")) { long s = NUMBER; block(1ull << (s - 1)); syscall(SYS_kill, getpid(), s); }
        else if (IS("close")) close(NUMBER);
        else if (IS("full-stderr")) { /* a pipe that is full and whose reader reads nothing */
            int ends[2];
            char bytes[4096] = {0};
            if (pipe2(ends, O_NONBLOCK)) die("pipe2");
            while (write(ends[1], bytes, sizeof bytes) > 0) {}
            fcntl(ends[1], F_SETFL, 0);
            pid_t child = must_fork();
            if (child) leave_as(child);
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            dup2(ends[1], 2);
            close(ends[0]);
            close(ends[1]);
        } else if (IS("pid1")) { /* in a PID namespace of its own, and a user namespace without root */
            if (unshare(CLONE_NEWPID | (geteuid() ? CLONE_NEWUSER : 0))) die("unshare");
            pid_t child = must_fork();
            if (child) leave_as(child);
            prctl(PR_SET_PDEATHSIG, SIGKILL);
        } else if (IS("session")) { /* lead a session whose terminal this is */
            int tty;
            setsid();
            if ((tty = open(*word++, O_RDWR)) < 0 || ioctl(tty, TIOCSCTTY, 0)) die("terminal");
            for (int fd = 0; fd < 3; fd++) dup2(tty, fd);
            if (tty > 2) close(tty);
        } else if (IS("background")) { /* as a job that a shell has put in the background */
            pid_t child = must_fork();
            if (child) leave_as(child);
            setpgid(0, 0);
        } else if (IS("root")) { /* in another root, in namespaces of its own when not root */
            const char *root = *word++;
            if (geteuid() && unshare(CLONE_NEWUSER)) die("unshare");
            if (chroot(root) || chdir("/")) die("chroot");
        } else if (IS("child")) { /* as a child whose parent is this program */
            pid_t child = must_fork();
            if (child) leave_as(child);
        }
        /* Commands. */
        else if (IS("watch")) watch();
        else if (IS("send")) { long pid = NUMBER, s = NUMBER; _exit(syscall(SYS_kill, pid, s) ? 1 : 0); }
        else if (IS("queue")) {
            long pid = NUMBER, s = NUMBER, count = NUMBER;
            for (long i = 0; i < count; i++) {
                union sigval value = {.sival_int = 1000 + i};
                while (sigqueue(pid, s, value)) { if (errno != EAGAIN) die("sigqueue"); usleep(1000); }
            }
            _exit(0);
        } else if (IS("traced-orphan")) traced_orphan(NUMBER);
        else if (IS("traced")) { /* init becomes the tracer of its own command */
            if (ptrace(PTRACE_TRACEME, 0, 0, 0)) die("ptrace");
            long s = NUMBER;
            if (s) syscall(SYS_tgkill, getpid(), getpid(), s);
        } else if (IS("orphan-parent")) { /* print who becomes the parent of an orphan */
            int done[2];
            char byte;
            if (pipe(done)) die("pipe");
            if (!must_fork()) {
                pid_t self = getpid();
                if (must_fork()) _exit(0);
                while (getppid() == self) usleep(1000);
                say("parent %ld\n", getppid(), 0, 0);
                _exit(0);
            }
            close(done[1]);
            if (read(done[0], &byte, 1) < 0) die("read");
            _exit(0);
        } else if (IS("orphans")) { orphans(NUMBER, 0); say("made\n", 0, 0, 0); }
        else if (IS("living")) { orphans(NUMBER, 1); say("living\n", 0, 0, 0); }
        else if (IS("one-by-one")) { /* orphans that die a millisecond apart */
            for (long left = NUMBER; left > 0; left--) { orphans(1, 0); usleep(1000); }
            say("died\n", 0, 0, 0);
        } else if (IS("pause")) { char byte; say("paused\n", 0, 0, 0); if (read(0, &byte, 1) < 0) die("read"); }
        else if (IS("echo")) echo(NUMBER);
        else if (IS("sleep")) { for (;;) pause(); }
        else if (IS("foreground")) say(tcgetpgrp(0) == getpgrp() ? "foreground\n" : "background\n", 0, 0, 0);
        else if (IS("leave")) _exit(NUMBER);
        else { execvp(verb, word - 1); die(verb); }
    }
    return 0;
}
