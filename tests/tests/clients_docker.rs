//! docker's commands, with the runner in the place of runc and crun.

use coracle_tests::clients::Client;

const DOCKER: Client = Client {
    needs: &["docker", "dockerd"],
    begin: include_str!("clients/docker.sh"),
    end: r#"d ps -aq | while read -r id; do d rm -f "$id"; done >/dev/null 2>&1; kill "$daemon"; wait "$daemon""#,
};

/// The same with a user namespace for every container.
const REMAPPED: Client =
    Client { begin: concat!(include_str!("clients/remap.sh"), include_str!("clients/docker.sh")), ..DOCKER };

/// An update of one limit names the others too.
const CRUN: &str = "crun cannot write the limits of memory again that docker says with every update.";

#[test]
fn dockers_containers_run_and_end_as_under_runc_and_crun() {
    if !DOCKER.ready() {
        return;
    }
    DOCKER.same(
        "docker-run",
        r#"
        run box:1 sh -c "exit 7"
        run --init box:1 sh -c "kill -KILL \$\$"
        run --init box:1 sh -c "cat /proc/1/comm; (sleep 0 & exec true); sleep 1; grep -c 'State:.Z' /proc/[0-9]*/status | grep -c :1"
        run box:1 nosuch
        run box:1 /etc
        + run -w /made/folder box:1 pwd
        echo typed | d run -i --rm $L box:1 cat
        pty d run -it --rm $L box:1 sh -c "tty; until stty size 2>&1 | grep -q 80; do sleep 0.1; done; stty size; exit 3"
        run --user 1000 box:1 sh -c "id; touch /x; grep -e Cap -e NoNew -e Seccomp: /proc/self/status"
        + run --user user --group-add 5 box:1 id
        + run --cap-drop ALL --cap-add NET_BIND_SERVICE box:1 grep Cap /proc/self/status
        run --cap-add SYS_ADMIN box:1 sh -c "grep Cap /proc/self/status; mount -t tmpfs none /tmp && echo mounted"
        run --read-only --tmpfs /data:size=1m,mode=700 box:1 sh -c "touch /x; touch /data/x; grep ' /data ' /proc/mounts"
        mkdir vol; run -v "$B/vol:/vol" box:1 sh -c "echo data >/vol/file"; run -v "$B/vol:/vol:ro" box:1 sh -c "cat /vol/file; touch /vol/x"
        + run -v named:/n box:1 sh -c "echo kept >/n/file"; run -v named:/n box:1 cat /n/file; d volume rm named
        run --pid host box:1 sh -c "[ \$\$ != 1 ] && echo outside"
        + run --ipc host box:1 readlink /proc/self/ns/ipc | cmp - <(readlink /proc/self/ns/ipc)
        + run --cgroupns private box:1 grep memory /proc/self/cgroup
        run --memory 64m --memory-swap 64m --cpus 0.5 --cpu-shares 300 --pids-limit 20 box:1 sh -c "cd /sys/fs/cgroup; cat memory/memory.limit_in_bytes cpu/cpu.cfs_quota_us cpu/cpu.shares pids/pids.max"
        run --memory 16m --memory-swap 16m box:1 tail -c 39000000 /dev/zero
        run --device /dev/fuse:/dev/fire:rw box:1 sh -c ": </dev/fire && echo opened"
        run --device-cgroup-rule "c 10:229 rwm" --cap-add MKNOD box:1 sh -c "mknod /x c 10 229 && : </x && echo opened"
        run box:1 sh -c "mknod /x c 10 229 && : </x && echo opened"
        run --sysctl net.ipv4.ip_forward=1 --ulimit core=0:0 --oom-score-adj 500 box:1 sh -c "cat /proc/sys/net/ipv4/ip_forward /proc/self/oom_score_adj; ulimit -c"
        run --security-opt no-new-privileges --security-opt seccomp=unconfined box:1 grep -e NoNew -e Seccomp: /proc/self/status
        + run --hostname named --shm-size 1m box:1 sh -c "hostname; df -k /dev/shm | tail -n 1"
        run box:1 sh -c "cut -d' ' -f2 /proc/mounts | grep -v devices | sort; ls /dev | grep -v core"
        "#,
        &[
            (&["crun"], "box:1 nosuch", "docker does not know crun's words for it."),
            (&["crun"], "box:1 /etc", "docker does not know crun's words for it."),
        ],
    );
}

#[test]
fn dockers_verbs_work_as_under_runc_and_crun() {
    if !DOCKER.ready() {
        return;
    }
    DOCKER.same(
        "docker-verbs",
        r#"
        made --user 1000 -e A=b box:1 sh -c "trap 'echo asked; exit 4' TERM; echo begun; while :; do sleep 0.1; done"
        soon "d logs box | grep begun"
        d exec box id
        d exec box sh -c "exit 7"
        d exec box nosuch
        d exec box /etc
        + d exec -u 0 -w /tmp -e X=y box sh -c "id; pwd; echo \$A \$X; grep Cap /proc/self/status"
        echo typed | d exec -i box cat
        pty d exec -it box sh -c "tty; until stty size 2>&1 | grep -q 80; do sleep 0.1; done; stty size; exit 5"
        d exec -d box touch /tmp/detached; soon d exec box cat /tmp/detached
        d top box -o user,args | sed "s/  */ /g" | grep -v "sleep 0"
        d stats --no-stream --format "{{.Name}} {{.MemUsage}} {{.NetIO}} {{.PIDs}}" box | sed "s/[1-9][0-9.]*[KM]iB/N/; s/[0-9.]*GiB/N/; s/[1-9]$/N/"
        d update --memory 64m --memory-swap 64m --cpus 0.5 --pids-limit 30 box
        d exec box sh -c "cd /sys/fs/cgroup; cat memory/memory.limit_in_bytes cpu/cpu.cfs_quota_us cpu/cpu.cfs_period_us pids/pids.max"
        d update --cpuset-cpus 0 --cpu-shares 300 box
        d exec box sh -c "cd /sys/fs/cgroup; cat cpuset/cpuset.cpus cpu/cpu.shares memory/memory.limit_in_bytes; nproc"
        d pause box
        d ps --format "{{.Names}} {{.Status}}" | sed "s/Up .*(/Up (/"
        d exec box true
        d pause box
        d unpause box
        d unpause box
        d exec box echo again
        d stop -t 30 box
        d logs box
        d inspect -f "{{.State.Status}} {{.State.ExitCode}} {{.State.OOMKilled}} {{.State.Error}}" box
        d exec box true
        d start box; d restart -t 0 box
        d kill box; d wait box
        d rm box
        made --restart on-failure:2 box:1 sh -c "exit 3"
        soon '[ "$(d inspect -f "{{.RestartCount}} {{.State.Status}}" box)" = "2 exited" ]'
        d inspect -f "{{.RestartCount}} {{.State.ExitCode}}" box
        d rm box
        made --health-cmd "test -e /healthy" --health-interval 200ms --health-retries 1 box:1 sleep 1000
        soon '[ "$(d inspect -f "{{.State.Health.Status}}" box)" = unhealthy ]'
        d exec box touch /healthy
        soon '[ "$(d inspect -f "{{.State.Health.Status}}" box)" = healthy ]'
        d stop -t 0 box; d inspect -f "{{.State.ExitCode}}" box
        d rm box
        made --pid host box:1 sh -c "sleep 777 & sleep 777"
        d rm -f box; pgrep -f "sleep 777" | wc -l
        d create --name box $L box:1 sh -c "echo made; exit 6"
        d start -a box
        d rm box
        d create --name box $L box:1 nosuch
        d start box
        d inspect -f "{{.State.Status}} {{.State.ExitCode}}" box
        d rm box
        made box:1 sleep 1000
        d run --rm --network container:box --pid container:box --ipc container:box box:1 sh -c "ps -o args | grep -c 'sleep 100[0]'"
        + d cp box:/etc/group group; head -n 1 group; d cp group box:/tmp/copied; d exec box head -n 1 /tmp/copied
        d diff box | grep copied
        d rm -f box
        mkdir build; printf 'FROM box:1\nRUN echo built >/built && id -u && mkdir /d && chown 1000 /d\nUSER 1000\nWORKDIR /d\nRUN touch mine\nCMD ["cat", "/built"]\n' >build/Dockerfile
        DOCKER_BUILDKIT=0 d build -q --network none -t built build | cut -c1-7
        run built; run built ls -l /d | grep -c "1 user"
        printf 'FROM box:1\nRUN exit 9\n' >build/Dockerfile; DOCKER_BUILDKIT=0 d build -q --network none build 2>&1 | grep -o "non-zero code: 9"
        "#,
        &[
            (&["crun"], "d update --cpuset-cpus", CRUN),
            (&["crun"], "cat cpuset/cpuset.cpus", CRUN),
        ],
    );
}

#[test]
fn dockers_containers_in_user_namespaces_see_what_they_see_under_runc_and_crun() {
    if !REMAPPED.ready() {
        return;
    }
    REMAPPED.same(
        "docker-userns",
        r#"
        run box:1 sh -c "id; cat /proc/self/uid_map /proc/self/gid_map; touch /x; stat -c %u /x /dev/pts /proc"
        run --user 1000 box:1 sh -c "id; touch /x; grep Cap /proc/self/status"
        run --init box:1 sh -c "exit 3"
        run --cap-add SYS_ADMIN box:1 sh -c "mount -t tmpfs none /tmp && echo mounted; mknod /x box 1 3"
        run --memory 64m --pids-limit 20 box:1 cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/pids/pids.max
        + run --tmpfs /data:size=1m --read-only box:1 sh -c "touch /x; touch /data/x; grep -c ' /data ' /proc/mounts"
        + run -v named:/n box:1 sh -c "echo kept >/n/file"; run -v named:/n box:1 stat -c "%u %s" /n/file
        + run --userns host box:1 sh -c "cat /proc/self/uid_map | sed 's/  */ /g'"
        run box:1 sh -c "ls -l /dev/null /dev/full /dev/tty | cut -c1-10; cat /dev/null && echo x >/dev/null && echo devices"
        run box:1 sh -c "cut -d' ' -f2 /proc/mounts | grep -v devices | sort"
        pty d run -it --rm $L box:1 sh -c "tty; stat -c '%u %a' /dev/console; exit 3"
        made box:1 sleep 1000
        d exec box id
        d exec -u 1000 box sh -c "id; grep Cap /proc/self/status"
        pty d exec -it box sh -c "tty; exit 5"
        d pause box; d unpause box
        d stats --no-stream --format "{{.Name}} {{.PIDs}}" box
        d update --memory 64m --memory-swap 64m box; d exec box cat /sys/fs/cgroup/memory/memory.limit_in_bytes
        d stop -t 0 box; d inspect -f "{{.State.ExitCode}}" box
        d rm box
        "#,
        &[],
    );
}
