#!/bin/sh
# /init of a machine with cgroup v2 alone: makes a root that can be pivoted from, runs the checks in it,
# prints one line for each, and switches the machine off.
PATH=/bin
echo STARTED
cg=/sys/fs/cgroup

# ok NAME: the last command's end decides; what it printed is shown where it was wrong.
ok() { if [ "$?" = 0 ]; then echo "CHECK ok $1"; else echo "CHECK FAILED $1"; sed 's/^/    /' /tmp/out /tmp/err /tmp/said; fi; }

# oci VERB...: an OCI client's call. A created container keeps the streams that it was given.
oci() { runner --root /run/oci "$@" >/tmp/out 2>/tmp/err; code=$?; }
create() { runner --root /run/oci create --bundle /bundle one >/tmp/said 2>&1 </dev/null; }
is() { oci state one; grep -q "\"status\": \"$1\"" /tmp/out; }
becomes() { n=0; until is $1 || [ $n = 100 ]; do sleep 0.1; n=$((n+1)); done; is $1; }
# bundle COMMAND RESOURCES: in the group oci/one, seen from inside as the root of all groups.
bundle() {
    mkdir -p /bundle
    caps='["CAP_MKNOD", "CAP_KILL", "CAP_DAC_OVERRIDE"]'
    cat >/bundle/config.json <<END
{"ociVersion": "1.0.2", "hostname": "oci", "root": {"path": "$root"},
 "process": {"user": {"uid": 0, "gid": 0}, "args": ["sh", "-c", "$1"], "env": ["PATH=/bin"], "cwd": "/",
             "capabilities": {"bounding": $caps, "effective": $caps, "permitted": $caps}},
 "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755"]},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs"},
            {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup"}],
 "linux": {"cgroupsPath": "/oci/one", "resources": $2,
           "namespaces": [{"type": "pid"}, {"type": "mount"}, {"type": "ipc"}, {"type": "uts"},
                          {"type": "network"}, {"type": "cgroup"}]}}
END
}

if [ "$1" != checks ]; then
    mount -t tmpfs -o size=600m tmpfs /new
    cp -a /bin /init /new/
    cd /new && mkdir -p proc sys dev tmp etc run root/bin root/proc root/sys root/dev root/etc root/tmp home
    cp bin/busybox root/bin/
    for tool in sh tail sleep cat mknod head id true ls; do ln -s busybox root/bin/$tool; done

    # The root of this moment is the initramfs, which nothing can be pivoted from.
    mkdir -p /proc /sys /tmp /run && mount -t proc proc /proc && mount -t sysfs sysfs /sys && mount -t cgroup2 cgroup2 $cg
    mount -t devtmpfs dev /dev
    root=/new/root
    bundle 'sleep 600' '{"pids": {"limit": 20}}'
    create && is created && oci start one && is running && oci exec one sh -c 'ls /; cat /proc/self/cgroup' &&
        grep -qx 0::/ /tmp/out && ! grep -qx new /tmp/out && oci delete --force one && [ $code = 0 ] && ! [ -e $cg/oci/one ]
    ok 'from an initramfs a container is created, started, entered and deleted'
    rmdir $cg/oci; umount $cg /sys /proc; umount -l /dev
    exec switch_root /new /init checks
fi

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mount -t cgroup2 cgroup2 /sys/fs/cgroup
echo 'root:x:0:0:root:/root:/bin/sh' >/etc/passwd
export CORACLE_STORE=/store
root=/root
run() { runner run --rm --rootfs "$@" >/tmp/out 2>/tmp/err; code=$?; }

run /root sh -c 'echo hello; cat /proc/self/cgroup'
[ $code = 0 ] && grep -q hello /tmp/out && grep -qx 0::/ /tmp/out
ok 'a container starts'

run -m 32m --memory-swap 32m --report /tmp/report /root tail /dev/zero
[ $code = 137 ] && grep -q 'memory limit' /tmp/err && grep -q '"cause":"oom"' /tmp/report
ok 'memory beyond the limit kills and says so'

run --pids-limit 10 --report /tmp/report /root sh -c 'n=0; while [ $n -lt 30 ]; do sleep 9 & n=$((n+1)); done'
grep -q "can't fork" /tmp/err
ok 'a fork bomb stays within the pids limit'

runner run --rm --rootfs --cpus 0.5 --cpu-shares 2048 -m 64m --memory-swap 128m --cpuset-cpus 0 /root sh -c 'echo up; sleep 600' >/tmp/out 2>/tmp/err &
pid=$!
until grep -q up /tmp/out || ! kill -0 $pid 2>/dev/null; do sleep 0.1; done
cat $cg/coracle-*/cpu.max $cg/coracle-*/cpu.weight $cg/coracle-*/memory.max $cg/coracle-*/memory.swap.max $cg/coracle-*/cpuset.cpus >/tmp/seen 2>>/tmp/err
[ "$(tr '\n' ' ' </tmp/seen)" = '50000 100000 174 67108864 67108864 0 ' ]
ok 'limits are in the files of v2'
kill -9 $pid; wait $pid 2>/dev/null
runner ps >/tmp/out 2>/tmp/err && ! ls -d $cg/coracle-* >>/tmp/err 2>&1
ok 'a sweep removes the group of a runner that was killed'

run /root sh -c 'mknod /d b 8 0; head -c 1 /d && echo opened; mknod /n c 1 3; head -c 1 /n && echo null'
rm -f /root/d /root/n
grep -q 'not permitted' /tmp/err && [ "$(cat /tmp/out)" = null ]
ok 'the device filter holds'

# Not the true root any more: our own group has processes, so groups go beside it.
mkdir $cg/mine && echo 0 >$cg/mine/cgroup.procs
run -m 32m --memory-swap 32m /root sh -c 'cat /proc/self/cgroup /sys/fs/cgroup/memory.max; echo 1 >/sys/fs/cgroup/pids.max || echo fixed'
[ $code = 0 ] && grep -qx 0::/ /tmp/out && grep -qx 33554432 /tmp/out && grep -qx fixed /tmp/out
ok 'from a group with processes the limits are given above it'

run --memory-swappiness 5 -m 32m /root true
[ $code = 125 ] && grep -q swappiness /tmp/err
ok 'a limit of v1 is refused by name'
run --best-effort --memory-swappiness 5 -m 32m --report /tmp/report /root true
[ $code = 0 ] && grep -q 'dropped":\["memory.swappiness' /tmp/report
ok 'best effort goes on and reports what it dropped'

# An ordinary user: nothing is delegated, then a group is.
echo 'user:x:1000:1000::/home:/bin/sh' >>/etc/passwd
chown -R 1000:1000 /home && cp -a /root /home/root && chown -R 1000:1000 /home/root
as_user() { su user -s /bin/sh -c "HOME=/home CORACLE_STORE=/home/store XDG_RUNTIME_DIR=/home $*" >/tmp/out 2>/tmp/err; code=$?; }
chmod 755 / /bin; chmod 1777 /tmp
as_user 'runner run --rm --rootfs --pids-limit 20 /home/root true'
[ $code = 125 ] && grep -q 'controller pids is not delegated' /tmp/err && grep -q Delegate /tmp/err
ok 'what is not delegated to a user is refused with the remedy'
echo '+pids +memory' >$cg/cgroup.subtree_control
mkdir $cg/user && echo '+pids +memory' >$cg/user/cgroup.subtree_control && mkdir $cg/user/shell
chown -R 1000:1000 $cg/user
echo 0 >$cg/user/shell/cgroup.procs
as_user 'runner run --rm --rootfs --pids-limit 20 -m 32m --memory-swap 32m /home/root tail /dev/zero'
[ $code = 137 ] && grep -q 'memory limit' /tmp/err
ok 'a user limits a container in a delegated group'
echo 0 >$cg/mine/cgroup.procs

runner doctor >/tmp/out 2>/tmp/err; code=$?
[ $code = 0 ] && grep -q 'version 2' /tmp/out
ok 'doctor sees version 2'
runner info --json >/tmp/out 2>/tmp/err
grep -q '"cgroupVersion": "2"' /tmp/out
ok 'info sees version 2'

bundle 'sleep 600 & sleep 600' '{"memory": {"limit": 67108864, "swap": 67108864}, "pids": {"limit": 20}, "cpu": {"quota": 50000, "period": 100000}, "unified": {"memory.high": "60000000"}}'
create && is created && [ "$(cat $cg/oci/one/memory.max $cg/oci/one/memory.swap.max $cg/oci/one/pids.max $cg/oci/one/cpu.max | tr '\n' ' ')" = '67108864 0 20 50000 100000 ' ] &&
    grep -q '^59' $cg/oci/one/memory.high && oci start one && is running
ok 'a bundle is created in its group with its limits, and started'
oci exec one sh -c 'cat /proc/self/cgroup; cat /sys/fs/cgroup/pids.max'
[ $code = 0 ] && [ "$(tr '\n' ' ' </tmp/out)" = '0::/ 20 ' ]
ok 'who is executed in it is in its group and sees that as the root'
oci pause one && is paused && [ "$(cat $cg/oci/one/cgroup.freeze)" = 1 ] && oci resume one && is running && [ "$(cat $cg/oci/one/cgroup.freeze)" = 0 ]
ok 'it is paused and goes on'
echo '{"unified": {"memory.low": "1048576"}}' >/tmp/limits
oci update --memory 48m --memory-swap 64m --pids-limit 33 --cpu-quota 20000 --cpu-period 100000 --cpuset-cpus 0 one && oci update -r /tmp/limits one &&
    [ "$(cd $cg/oci/one && cat memory.max memory.swap.max pids.max cpu.max cpuset.cpus memory.low | tr '\n' ' ')" = '50331648 16777216 33 20000 100000 0 1048576 ' ]
ok 'its limits are changed while it runs'
oci events --stats one && grep -q '"current": *[1-9]' /tmp/out && grep -q '"limit": *33' /tmp/out && grep -q 50331648 /tmp/out
ok 'what it uses is told'
oci kill --all one KILL && becomes stopped && oci delete one && [ $code = 0 ] && ! [ -e $cg/oci/one ] && [ -z "$(ls /run/oci)" ]
ok 'all of it is killed, and deleted with its group'
bundle 'mknod /t c 4 64; mknod /u c 4 65; mknod /d b 8 0; for n in t u d; do (: </$n) && echo $n; done; sleep 600' '{"devices": [{"allow": false, "access": "rwm"}, {"allow": true, "type": "c", "major": 4, "minor": 64, "access": "rw"}]}'
create && oci start one; n=0; until [ "$(grep -c 'not permitted' /tmp/said)" = 2 ] || [ $n = 50 ]; do sleep 0.1; n=$((n+1)); done
rm -f /root/t /root/u /root/d; cp /tmp/said /tmp/err
grep -qx t /tmp/said && ! grep -qx '[ud]' /tmp/said && [ "$(grep -c 'not permitted' /tmp/said)" = 2 ]
ok 'a bundle opens the devices that its rules allow, and no others'
oci delete --force one; [ $code = 0 ] && ! [ -e $cg/oci/one ]
ok 'a running bundle is deleted by force'
rmdir $cg/oci

! find $cg -name 'coracle-*' | grep . >/tmp/out
ok 'no group is left'
echo 'CHECKS DONE'
poweroff -f
