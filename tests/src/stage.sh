# The stage of a client's script. `$0` is its folder, then the runtime and the name of the group.
export B=$0 R=$1 G=/$2 LC_ALL=C.UTF-8 SHELL=/bin/bash
unset XDG_RUNTIME_DIR XDG_DATA_HOME XDG_CONFIG_HOME
mkdir "$B/host" "$B/said" || exit 99
mount -t tmpfs -o mode=755 none "$B/host" && cd /dev && cp -a null zero full random urandom tty "$B/host" &&
    { [ ! -e fuse ] || cp -a fuse "$B/host"; } &&
    mkdir "$B/host/pts" "$B/host/shm" "$B/host/mqueue" &&
    ln -s /proc/self/fd "$B/host/fd" && ln -s pts/ptmx "$B/host/ptmx" &&
    ln -s fd/0 "$B/host/stdin" && ln -s fd/1 "$B/host/stdout" && ln -s fd/2 "$B/host/stderr" &&
    cd / && mount --bind "$B/host" /dev && mount -t devpts -o newinstance,ptmxmode=0666 devpts /dev/pts &&
    mount -t tmpfs -o mode=1777 shm /dev/shm && mount -t mqueue mqueue /dev/mqueue &&
    mount -t tmpfs -o mode=755 none /run && ip link set lo up || exit 99
# The host's groups, without what others have left beside them. crun refuses a mix of cgroup versions: it sees
# v1 alone.
if [ "$(stat -fc %T /sys/fs/cgroup)" = tmpfs ]; then
    mkdir "$B/groups" && mount -t tmpfs -o mode=755 tmpfs "$B/groups" || exit 99
    find /sys/fs/cgroup -maxdepth 1 -type l -exec cp -d {} "$B/groups" \;
    for group in $(awk '$5 ~ "^/sys/fs/cgroup/[^/]*$" { print $5 }' /proc/self/mountinfo); do
        case $R$group in *crun*/unified) continue ;; esac
        mkdir "$B/groups/${group##*/}" && mount --bind "$group" "$B/groups/${group##*/}" || exit 99
    done
    mount --rbind "$B/groups" /sys/fs/cgroup && umount -R "$B/groups" || exit 99
fi

mkfifo "$B/silence" && exec 8<>"$B/silence"
pty() { script -qec "stty rows 24 cols 80; $(printf '%q ' "$@")" /dev/null <&8; }
soon() {
    local end=$((SECONDS + 30))
    while [ $SECONDS -lt $end ]; do eval "$*" >/dev/null 2>&1 && return; sleep 0.05; done
    echo "not within half a minute: $*"
    return 1
}

cd "$B" && . "$B/begin" || exit 98
step=0
while IFS= read -r line <&9; do
    step=$((step + 1))
    eval "$line" </dev/null >"$B/said/$step.out" 2>"$B/said/$step.err" 9<&-
    echo $? >"$B/said/$step.code"
done 9<"$B/steps"
. "$B/end"
exit 0
