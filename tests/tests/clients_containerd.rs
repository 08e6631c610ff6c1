//! containerd's tasks, with the runner in the place of runc and crun.

use coracle_tests::clients::Client;

const CONTAINERD: Client = Client {
    needs: &["containerd", "ctr"],
    begin: include_str!("clients/ctr.sh"),
    end: r#"for id in $(c tasks ls -q); do c tasks rm -f "$id"; done >/dev/null 2>&1; kill "$daemon"; wait "$daemon""#,
};

#[test]
fn containerds_tasks_work_as_under_runc_and_crun() {
    if !CONTAINERD.ready() {
        return;
    }
    CONTAINERD.same(
        "containerd",
        r#"
        run $I one sh -c "echo out; echo err >&2; exit 7"
        run $I one nosuch
        run $I one /etc
        run --cwd /tmp --env A=b $I one sh -c "pwd; echo \$A; id; grep -e Cap -e NoNew -e Seccomp: /proc/self/status"
        run --read-only --mount type=tmpfs,src=tmpfs,dst=/tmp,options=size=1m $I one sh -c "touch /x; touch /tmp/x; df -k /tmp | tail -n 1"
        run --privileged --cap-drop CAP_SYS_RESOURCE $I one sh -c "mount -t tmpfs none /tmp && echo mounted"
        run --seccomp --allow-new-privs --cap-add CAP_SYS_TIME --cap-drop CAP_CHOWN $I one grep -e Cap -e NoNew -e Seccomp: /proc/self/status
        made --memory-limit 67108864 --cpus 0.5 $I one sleep 1000
        cat /sys/fs/cgroup/memory$G/one/memory.limit_in_bytes /sys/fs/cgroup/cpu$G/one/cpu.cfs_quota_us
        c tasks delete -f one; c containers delete one
        run --memory-limit 16777216 $I one tail -c 39000000 /dev/zero
        run --net-host $I one ls /sys/class/net
        run --device /dev/fuse $I one sh -c ": </dev/fuse && echo opened"
        run $I one sh -c "cut -d' ' -f2 /proc/mounts | grep -v devices | sort; ls /dev | grep -v core"
        pty c run --rm -t $L $I one sh -c "tty; exit 3"
        echo typed | c run --rm $L $I one head -n 1
        made $I one sh -c "trap 'exit 4' TERM; sleep 1000 & while :; do wait; done"
        c tasks ls | sed "s/[0-9][0-9]*/N/; s/  */ /g"
        c tasks exec --exec-id a one sh -c "id -u; exit 5"
        c tasks exec --exec-id a --user 1000:1001 --cwd /tmp one sh -c "id; pwd; grep Cap /proc/self/status"
        c tasks exec --exec-id a one nosuch
        c tasks exec --exec-id a one /etc
        echo typed | c tasks exec --exec-id a one head -n 1
        pty c tasks exec -t --exec-id a one sh -c "tty; sleep 1; exit 5"
        c tasks exec -d --exec-id d one sleep 888
        soon "c tasks exec --exec-id b one ps -o args | grep 888"
        c tasks ps one | wc -l
        c tasks metrics one | grep -e pids.current -e memory.usage_in_bytes -e "cpuacct.usage " | sed "s/[1-9][0-9]*/N/; s/  */ /g"
        c tasks metrics --format json one | tr , "\n" | grep -c -e '"pids"' -e '"memory"' -e '"cpu"'
        c tasks pause one; c tasks ls | grep -o PAUSED
        c tasks exec --exec-id a one true
        c tasks resume one; c tasks ls | grep -o RUNNING
        c tasks exec --exec-id a one echo again
        c tasks delete one
        c tasks kill -s KILL --exec-id d one; soon "! c tasks exec --exec-id b one ps -o args | grep '[8]88'"
        c tasks kill -s TERM one; soon "c tasks ls | grep STOPPED"
        c tasks exec --exec-id a one true
        c tasks delete one
        c tasks start -d one; c tasks kill -a -s KILL one; soon "c tasks ls | grep STOPPED"; c tasks delete one
        c containers delete one; c tasks ls -q; c containers ls -q
        made --pid-file pid $I one sleep 1000
        soon 'grep -q sleep "/proc/$(cat pid)/cmdline"'
        c tasks delete -f one; c containers delete one
        run --with-ns pid:/proc/1/ns/pid --with-ns ipc:/proc/1/ns/ipc $I one sh -c "[ \$\$ != 1 ] && ps -o args | grep -c '^containerd '"
        run --uidmap 0:100000:65536 --gidmap 0:100000:65536 --remap-labels $I one sh -c "cat /proc/self/uid_map"
        run --rootfs $B/rootfs one /bin/echo a folder
        "#,
        &[],
    );
}
