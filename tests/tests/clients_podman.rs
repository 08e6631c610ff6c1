//! podman's commands, as root and as an ordinary user, with the runner in the place of runc and crun.

use coracle_tests::clients::Client;
use coracle_tests::{Privilege, need};

const ROOT: Client = Client {
    needs: &["podman", "catatonit"],
    begin: include_str!("clients/podman.sh"),
    end: "p rm -f -a -t 0 >/dev/null 2>&1",
};

const USER: Client = Client {
    needs: &["podman", "catatonit", "newuidmap", "setpriv"],
    begin: include_str!("clients/podman_user.sh"),
    end: "p rm -f -a -t 0 >/dev/null 2>&1; p system migrate >/dev/null 2>&1",
};

/// On a host with both versions of groups.
const DEVICES: &str =
    "Which devices may be used says a program at the group of v2, so that none of v1 is made.";

#[test]
fn podmans_containers_run_and_end_as_under_runc_and_crun() {
    if !ROOT.ready() {
        return;
    }
    ROOT.same(
        "podman-run",
        r#"
        run box:1 sh -c "exit 0"
        run box:1 sh -c "exit 7"
        run box:1 sh -c "kill -9 \$\$; exit 5"
        run box:1 sh -c "sh -c 'kill -9 \$\$'"
        run --init --init-path /usr/bin/catatonit box:1 sh -c "kill -KILL \$\$"
        run box:1 nosuch
        run box:1 /etc
        run box:1 /etc/passwd
        run -w /nosuch box:1 pwd
        run box:1 sh -c "echo out; echo err >&2"
        echo typed | p run -i --rm $L box:1 cat
        pty p run -it --rm $L box:1 sh -c "tty; until stty size 2>&1 | grep -q 80; do sleep 0.1; done; stty size; exit 3"
        pty p run -it --rm $L --user 1000 box:1 sh -c "tty; stat -c '%u %a' /dev/pts/0 /dev/console"
        made -t box:1 sh -c "while [ ! -e /go ]; do sleep 0.05; done; echo gone"
        p exec c touch /go
        p wait c
        p logs c
        p inspect -f "{{.State.Status}} {{.State.ExitCode}} {{.State.OOMKilled}} {{.State.Error}}" c
        p start -a c
        p rm c
        made box:1 sh -c "trap 'echo asked; exit 4' TERM; echo begun; while :; do sleep 0.05; done"
        soon "p logs c | grep begun"
        p stop -t 30 c
        p logs c
        p inspect -f "{{.State.Status}} {{.State.ExitCode}}" c
        p restart c
        p kill -s KILL c
        p wait c
        p kill c
        p rm c
        made box:1 sleep 1000
        p stop -t 0 c 2>/dev/null
        p inspect -f "{{.State.ExitCode}}" c
        p rm -f c
        p ps -a -q
        "#,
        &[],
    );
}

#[test]
fn what_podman_executes_in_a_container_runs_as_under_runc_and_crun() {
    if !ROOT.ready() {
        return;
    }
    ROOT.same(
        "podman-exec",
        r#"
        made --user 1000 -e A=b box:1 sh -c "sleep 1000; :"
        p exec c id
        p exec c sh -c "exit 7"
        p exec c nosuch
        p exec c /etc
        p exec c sh -c "kill -9 \$\$"
        p exec -u 0 -w /tmp -e X=y c sh -c "id; pwd; echo \$A \$X; grep Cap /proc/self/status"
        p exec -u user:extra c id
        p exec c grep -e Cap -e NoNew -e Seccomp: -e Groups /proc/self/status
        p exec --privileged c grep Cap /proc/self/status
        echo typed | p exec -i c cat
        p exec c sh -c "echo out; echo err >&2"
        pty p exec -it c sh -c "tty; until stty size 2>&1 | grep -q 80; do sleep 0.1; done; stty size; echo typed; exit 5"
        p exec -d c sh -c "echo \$\$ >/tmp/detached; exec sleep 500"
        soon p exec c grep . /tmp/detached
        p exec c ps -o user,args
        p top c user,args | sed "s/  */ /g"
        p top c -o args
        p exec c cat /proc/self/cgroup | grep -v -e ^0: | sed "s/.*:/:/" | sort -u
        p exec -d c nosuch
        p pause c
        p ps --format "{{.Names}} {{.Status}}"
        p exec c true
        p pause c
        p stop -t 1 c
        p unpause c
        p unpause c
        p exec c echo again
        p stats --no-stream --format "{{.Name}} {{.PIDs}}" c | sed "s/[1-9]$/N/"
        p stats --no-stream --format "{{.CPUNano}} {{.MemUsageBytes}} {{.NetIO}}" c | sed "s/[1-9][0-9.]*[kKM]*i*B*/N/g"
        p kill -s 0 c
        p kill -s USR1 c
        p rm -f -t 0 c
        "#,
        &[(&["runc", "crun"], "/proc/self/cgroup", DEVICES)],
    );
}

#[test]
fn podmans_options_mean_the_same_as_under_runc_and_crun() {
    if !ROOT.ready() {
        return;
    }
    ROOT.same(
        "podman-options",
        r#"
        run --init --init-path /usr/bin/catatonit box:1 sh -c "cat /proc/1/comm; ps -o args"
        run --user 1000:1001 box:1 id
        + run --user user --group-add 5 box:1 id
        run --user 1000 box:1 sh -c "grep -e Cap -e Groups -e NoNew -e Seccomp: /proc/self/status; touch /x; echo \$HOME"
        run --cap-drop ALL box:1 grep Cap /proc/self/status
        + run --cap-drop ALL --cap-add NET_BIND_SERVICE --user 1000 box:1 grep Cap /proc/self/status
        run --cap-add SYS_ADMIN box:1 sh -c "grep Cap /proc/self/status; mount -t tmpfs none /tmp && echo mounted"
        run --privileged box:1 sh -c "grep Cap /proc/self/status; mount | grep -e ' /sys ' -e ' /proc '; ls /dev | grep -v -e tty -e core"
        run --read-only box:1 sh -c "touch /x; touch /tmp/x && touch /run/x && touch /dev/shm/x && echo written"
        + run --read-only --read-only-tmpfs=false box:1 sh -c "touch /tmp/x"
        run --tmpfs /data:size=1m,mode=700,noexec box:1 sh -c "grep ' /data ' /proc/mounts; stat -c '%a %u' /data"
        + run --tmpfs /etc box:1 sh -c "ls /etc"
        mkdir "$B/vol"; run -v "$B/vol:/vol" box:1 sh -c "echo data >/vol/file; grep ' /vol ' /proc/mounts | cut -d' ' -f4"; cat vol/file
        run -v "$B/vol:/vol:ro,noexec" box:1 sh -c "cat /vol/file; touch /vol/x; grep ' /vol ' /proc/mounts | cut -d' ' -f4"
        + run -v "$B/vol/file:/etc/one:ro" box:1 cat /etc/one
        run --mount type=bind,src="$B/vol",dst=/a/b/c,bind-propagation=rshared box:1 sh -c "grep ' /a/b/c ' /proc/self/mountinfo | grep -c shared"
        + run -v named:/n box:1 sh -c "echo kept >/n/file"; run -v named:/n box:1 cat /n/file; p volume rm named
        run --pid host box:1 sh -c "[ \$\$ != 1 ] && ps -o args | grep -c '[c]onmon'"
        made --pid host box:1 sleep 1000
        p stop -t 0 c; p inspect -f "{{.State.ExitCode}}" c; p rm c
        + run --ipc host box:1 readlink /proc/self/ns/ipc | cmp - <(readlink /proc/self/ns/ipc)
        + run --uts host box:1 hostname | cmp - <(hostname)
        p run --rm $U --network host --cgroup-parent $G box:1 ls /sys/class/net
        + run --hostname named box:1 sh -c "hostname; cat /etc/hostname"
        + run --userns auto:size=1000 box:1 sh -c "id -u; cat /proc/self/uid_map | wc -l"
        run --uidmap 0:100000:5000 --gidmap 0:100000:5000 box:1 sh -c "cat /proc/self/uid_map /proc/self/gid_map; id; touch /x; stat -c %u /x /dev/pts"
        + run --uidmap 0:100000:5000 --user 1000 -v "$B/vol:/vol" box:1 sh -c "id; cat /vol/file; touch /vol/y"
        run --memory 64m --memory-swap 64m box:1 sh -c "cat /sys/fs/cgroup/memory/memory.limit_in_bytes"
        run --memory 16m --memory-swap 16m box:1 tail -c 39000000 /dev/zero
        run --cpus 0.5 --cpu-shares 300 --cpuset-cpus 0 box:1 sh -c "cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us /sys/fs/cgroup/cpu/cpu.shares; nproc"
        run --pids-limit 20 box:1 sh -c "cat /sys/fs/cgroup/pids/pids.max"
        run --device /dev/fuse:/dev/fire:rw box:1 ls -l /dev/fire | sed "s/root.*[0-9]:[0-9]*//"
        run --device-cgroup-rule "c 10:* rwm" --cap-add MKNOD box:1 sh -c "mknod /x c 10 229 && : </x && echo opened"
        run box:1 sh -c "mknod /x c 10 229 && : </x && echo opened"
        + run --sysctl net.ipv4.ip_forward=1 box:1 cat /proc/sys/net/ipv4/ip_forward
        + run --ulimit core=0:0 box:1 sh -c "ulimit -c; ulimit -n"
        run --security-opt seccomp=unconfined box:1 grep Seccomp: /proc/self/status
        run --security-opt no-new-privileges box:1 grep NoNew /proc/self/status
        + run --security-opt mask=/etc/group --security-opt unmask=/proc/kcore box:1 sh -c "wc -c </etc/group; ls -l /proc/kcore | cut -c1-10"
        + run --shm-size 1m box:1 df -k /dev/shm
        + run --oom-score-adj 500 box:1 cat /proc/self/oom_score_adj
        + run --annotation a=b --env X=y --entrypoint /bin/echo box:1 hello
        + run --rootfs "$B/rootfs" echo a folder
        run box:1 sh -c "cut -d' ' -f2 /proc/mounts | sort"
        run box:1 sh -c "ls -l /dev | grep -v core | sed 's/root  *root *//; s/[A-Z][a-z][a-z] .*[0-9] //'"
        + run box:1 sh -c "find /proc/sys /proc/keys /sys/firmware -maxdepth 0 | while read f; do stat -c '%n %F' \$f; done"
        + run box:1 sh -c "cat /proc/self/limits | grep -e open -e proc -e core; cat /proc/self/setgroups; umask"
        run box:1 sh -c "ls -l /proc/self/fd | wc -l"
        "#,
        &[(&["runc", "crun"], "/proc/mounts | sort", DEVICES)],
    );
}

#[test]
fn podmans_pods_and_checks_work_as_under_runc_and_crun() {
    if !ROOT.ready() {
        return;
    }
    ROOT.same(
        "podman-pods",
        r#"
        p pod create --name pod --infra-image box:1 --infra-command "sleep 1000" --network none --hostname together --share net,ipc,uts --cgroup-parent $G
        p run -d --pod pod --name one $U box:1 sh -c "echo shared >/dev/shm/file; exec sleep 1000"
        soon p exec one cat /dev/shm/file
        p run --rm --pod pod $U box:1 sh -c "hostname; cat /dev/shm/file; ls /sys/class/net"
        p run -d --pod pod --name two $U box:1 sleep 1000
        for n in net ipc uts; do p exec one readlink /proc/self/ns/$n | cmp - <(p exec two readlink /proc/self/ns/$n) && echo $n; done
        p exec one readlink /proc/self/ns/pid | cmp -s - <(p exec two readlink /proc/self/ns/pid) || echo apart
        p pod ps --format "{{.Name}} {{.Status}} {{.NumberOfContainers}}"
        p pod top pod args
        p pod pause pod >/dev/null; p pod ps --format "{{.Status}}"; p pod unpause pod
        p pod stats --no-stream --format "{{.Name}}" pod | grep -v infra | sort
        p pod stop -t 0 pod >/dev/null
        p ps -a --format "{{.Names}} {{.Status}}" --filter name=one | sed "s/).*/)/"
        p pod start pod >/dev/null; p pod ps --format "{{.Status}}"
        p pod rm -f -t 0 pod
        p pod create --name deep --infra-image box:1 --infra-command "sleep 1000" --network none --share pid,ipc --cgroup-parent $G
        p run --rm --pod deep $U box:1 sh -c "ps -o args | grep -c 'sleep 100[0]'"
        p pod rm -f -t 0 deep
        made --name first box:1 sleep 1000
        p run --rm --cgroup-parent $G $U --network container:first --pid container:first --ipc container:first box:1 sh -c "ps -o args | grep -c 'sleep 100[0]'"
        p rm -f -t 0 first
        made --health-cmd "test -e /healthy" --health-interval disable --health-retries 1 box:1 sleep 1000
        p healthcheck run c
        p inspect -f "{{.State.Health.Status}} {{.State.Health.FailingStreak}}" c
        p exec c touch /healthy
        p healthcheck run c
        p inspect -f "{{.State.Health.Status}} {{.State.Health.FailingStreak}}" c
        p rm -f -t 0 c
        made --restart on-failure:2 box:1 sh -c "exit 3"
        soon '[ "$(p inspect -f "{{.RestartCount}} {{.State.Status}}" c)" = "2 exited" ]'
        p inspect -f "{{.RestartCount}} {{.State.ExitCode}}" c
        p rm c
        p create --name c $L box:1 sh -c "echo made; exit 6"
        p inspect -f "{{.State.Status}}" c
        p init c; p inspect -f "{{.State.Status}}" c
        p start -a c
        p rm c
        p create --name c $L box:1 sh -c "exit 6"; p init c; p rm c
        made box:1 sh -c "echo x >/new; exec sleep 1000"
        + p cp c:/new new; cat new; p cp new c:/tmp/copied; p exec c cat /tmp/copied
        p port c; p events --stream=false --filter container=c --format "{{.Status}}" | grep -x -e create -e start -e died | tail -n 4
        p rm -f -t 0 c
        "#,
        &[(&["crun"], "what is left", "It does not see the groups of v2, of which the pod's is left by the others.")],
    );
}

#[test]
fn an_ordinary_users_podman_does_the_same_as_under_runc_and_crun() {
    if !USER.ready() || !need(Privilege::OrdinaryUser) || !need(Privilege::UserNamespaces) {
        return;
    }
    USER.same(
        "podman-user",
        r#"
        run box:1 sh -c "id -u; cat /proc/self/uid_map | wc -l; exit 7"
        run box:1 nosuch
        run box:1 /etc
        run --init --init-path /usr/bin/catatonit box:1 sh -c "kill -KILL \$\$"
        pty p run -it --rm $L box:1 sh -c "tty; exit 3"
        run --user 1000 box:1 sh -c "id; touch /x; grep -e Cap -e Seccomp: /proc/self/status"
        + run --userns keep-id box:1 sh -c "id -u"
        run --cap-drop ALL box:1 grep Cap /proc/self/status
        + run --privileged box:1 grep Cap /proc/self/status
        run --read-only --tmpfs /data:size=1m box:1 sh -c "touch /x; touch /data/x; df -k /data | tail -n 1"
        install -d -o "$U" vol; run -v "$PWD/vol:/vol" box:1 sh -c "echo data >/vol/file"; stat -c %U vol/file
        run -v "$PWD/vol:/vol:ro" --user 1000 box:1 sh -c "cat /vol/file; touch /vol/x"
        run --pid host box:1 sh -c "[ \$\$ != 1 ] && echo outside"
        run --memory 64m box:1 echo without a limit
        + run --hostname named box:1 hostname
        run box:1 sh -c "mount -t tmpfs none /tmp; mknod /x c 1 3; cat /dev/null && echo x >/dev/null && echo devices"
        run box:1 sh -c "cut -d' ' -f2 /proc/mounts | grep -v cgroup | sort"
        made --user 1000 box:1 sleep 1000
        p exec c sh -c "id -u; exit 5"
        p exec -u 0 c sh -c "id -u; grep Cap /proc/self/status"
        p exec c nosuch
        pty p exec -it c sh -c "tty; exit 5"
        p exec -d c touch /tmp/detached; soon p exec c cat /tmp/detached
        p top c user,args
        p pause c
        p stop -t 0 c
        p inspect -f "{{.State.Status}} {{.State.ExitCode}}" c
        p start c
        p kill -s KILL c; p wait c
        p rm c
        p pod create --name pod --infra-image box:1 --infra-command "sleep 1000" --network none --hostname together
        p run --rm --pod pod --ulimit nofile=1024:1024 --ulimit nproc=1024:1024 box:1 hostname
        p pod rm -f -t 0 pod
        "#,
        &[],
    );
}
