#!/bin/sh
# /init of a machine whose disk keeps quotas of projects: what containers may write to it. One line for each check.
PATH=/bin
echo STARTED
mkdir -p /proc /sys /dev /run /tmp /disk /etc
mount -t proc proc /proc && mount -t sysfs sysfs /sys && mount -t devtmpfs dev /dev && mount -t tmpfs tmpfs /run
mount -t cgroup2 cgroup2 /sys/fs/cgroup
insmod /overlay.ko && insmod /quota_tree.ko && insmod /quota_v2.ko
chmod 755 / /bin; chmod 1777 /tmp
export CORACLE_STORE=/disk/store

# ok NAME: the last command's end decides; what it printed is shown where it was wrong.
ok() { if [ "$?" = 0 ]; then echo "CHECK ok $1"; else echo "CHECK FAILED $1"; sed 's/^/    /' /tmp/out /tmp/err; fi; }
r() { runner "$@" >/tmp/out 2>/tmp/err; code=$?; [ $code = 0 ]; }
# fill MEGABYTES: a script for a container; the last line is how many bytes came to be.
fill() { echo "dd if=/dev/zero of=/much bs=1M count=$1 2>/dev/shm/said; cat /dev/shm/said; stat -c %s /much"; }
projects() { ls /disk/store/projects 2>/dev/null; }
bytes() { tail -n 1 /tmp/out; }

# A file system that counts, and is not told to hold anybody to it.
mount -t ext4 /dev/nvme0n1 /disk || echo 'CHECK FAILED the disk'
r run --rm --storage-opt size=8m box true
[ $code = 125 ] && grep -q 'prjquota' /tmp/err && grep -q 'scratch tmpfs:8m' /tmp/err && [ "$(grep -c . /tmp/err)" = 1 ] &&
    [ -z "$(ls /disk/store/containers)" ]
ok 'without the mount option it is refused by name, and nothing is left'
umount /disk && mount -t ext4 -o prjquota /dev/nvme0n1 /disk

r run --rm --storage-opt size=8m box sh -c "$(fill 20)" && grep -Eq 'quota exceeded|No space' /tmp/out && [ "$(bytes)" -le 8388608 ] && [ "$(bytes)" -gt 4194304 ]
ok 'what is beyond the limit cannot be written'
[ -z "$(projects)" ]
ok 'the number goes with its container'
r run --rm --storage-opt size=8m box busybox df /
awk '/overlay/ { exit !($2 <= 8192) }' /tmp/out
ok 'df tells the limit inside'
r run --rm box sh -c "$(fill 20)" && [ "$(bytes)" = 20971520 ]
ok 'who is not limited is not'

for more in '' '--security-opt seccomp=unconfined'; do
    r run --rm --storage-opt size=8m $more box sh -c "mkdir /d; reproject /d; cd /d; $(fill 20 | sed 's,/much,much,g')"
    [ $code = 0 ] && grep -q 'FSSETXATTR: Operation not permitted' /tmp/out && grep -q 'SETFLAGS: Operation not permitted' /tmp/out &&
        [ "$(bytes)" -le 8388608 ] && [ "$(bytes)" -gt 4194304 ] || { echo "$more"; cat /tmp/out; }
done >/tmp/wrong
! [ -s /tmp/wrong ] || { cp /tmp/wrong /tmp/out; false; }
ok 'no file leaves the project that it counts for'

# Before Linux 6.15 overlay takes no mount that is attached nowhere, as layers with mapped ids are, and what is in memory.
r run --rm --network none --userns auto --storage-opt size=8m box sh -c "cat /proc/self/uid_map; grep ' / overlay' /proc/mounts; stat -c %u /bin; $(fill 20)" &&
    ! grep -q 4294967295 /tmp/out && grep -q ' / overlay' /tmp/out && grep -qx 0 /tmp/out && [ "$(bytes)" -le 8388608 ] && ! [ -s /tmp/err ]
ok 'a container with ids of its own has an overlay, and its quota'
for how in --untrusted '--untrusted --read-only=false' '--network none --scratch tmpfs:8m' '--network none --userns auto --scratch tmpfs:8m'; do
    r run --rm $how box sh -c 'grep " / overlay" /proc/mounts' && ! [ -s /tmp/err ] || { echo "$how"; cat /tmp/err; }
done >/tmp/wrong
grep /disk/store /proc/mounts >>/tmp/wrong
! [ -s /tmp/wrong ] || { cp /tmp/wrong /tmp/out; false; }
ok 'whose ids are mapped, and what is written to memory, is an overlay as well, and no mount is left on the host'

r run -d --name kept --storage-opt size=8m box sh -c 'while :; do sleep 1; done' && r exec kept sh -c "$(fill 6)" && [ "$(bytes)" = 6291456 ]
ok 'a container in the background has its limit too'
r stop -t 0 kept && r start kept && r exec kept sh -c 'dd if=/dev/zero of=/more bs=1M count=6 2>&1; stat -c %s /more' && [ "$(bytes)" -lt 3145728 ]
ok 'it keeps the limit, and what it has used, when it starts again'
r inspect -f '{{index .HostConfig.StorageOpt "size"}}' kept && [ "$(cat /tmp/out)" = 8m ]
ok 'inspect shows it'
r rm -f kept && [ -z "$(projects)" ]
ok 'its number is free when it is removed'

for n in 1 2 3 4 5 6; do runner run -d --name n$n --storage-opt size=4m box sh -c 'dd if=/dev/zero of=/f bs=1M count=3 2>/said; sleep 1000' >/dev/null 2>>/tmp/err & done; wait
[ "$(projects | wc -l)" = 6 ] && [ "$(for p in $(projects); do readlink /disk/store/projects/$p; done | sort -u | wc -l)" = 6 ]
ok 'as many as begin at once have numbers of their own'
for n in 1 2 3 4 5 6; do r exec n$n sh -c 'until [ -s /said ]; do sleep 0.1; done; stat -c %s /f' && bytes; done | sort -u >/tmp/sizes
[ "$(cat /tmp/sizes)" = 3145728 ]
ok 'and none takes of the others'
# One that was killed with its files: the next who asks frees its number.
dead=$(runner ps -aq --no-trunc --filter name=n1)
runner kill n1 >/dev/null 2>&1; rm -r /disk/store/containers/$dead
r run -d --name n7 --storage-opt size=4m box sleep 1000 && [ "$(projects | wc -l)" = 6 ]
ok 'a number whose container is gone is given out again'
for option in size=x size=0 inode=7 size; do r run --rm --storage-opt $option box true; [ $code = 125 ] && grep -q -- --storage-opt /tmp/err || echo $option; done >/tmp/wrong
! [ -s /tmp/wrong ]
ok 'what is no size is refused'
echo 'CHECKS DONE'
poweroff -f
