#!/bin/sh
# /init of a machine with cgroup v2 alone: makes a root that can be pivoted from, runs the checks in it,
# prints one line for each, and switches the machine off.
PATH=/bin
if [ "$1" != checks ]; then
    mount -t tmpfs -o size=600m tmpfs /new
    cp -a /bin /init /new/
    cd /new && mkdir -p proc sys dev tmp etc run root/bin root/proc root/sys root/dev root/etc root/tmp home
    cp bin/busybox root/bin/
    for tool in sh tail sleep cat mknod head id true; do ln -s busybox root/bin/$tool; done
    exec switch_root /new /init checks
fi

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mount -t cgroup2 cgroup2 /sys/fs/cgroup
echo 'root:x:0:0:root:/root:/bin/sh' >/etc/passwd
export CORACLE_STORE=/store
cg=/sys/fs/cgroup

# ok NAME: the last command's end decides; what it printed is shown where it was wrong.
ok() { if [ "$?" = 0 ]; then echo "CHECK ok $1"; else echo "CHECK FAILED $1"; sed 's/^/    /' /tmp/out /tmp/err; fi; }
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
run -m 32m --memory-swap 32m /root sh -c 'cat /proc/self/cgroup'
[ $code = 0 ] && grep -qx 0::/ /tmp/out
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

! find $cg -name 'coracle-*' | grep . >/tmp/out
ok 'no group is left'
echo 'CHECKS DONE'
poweroff -f
