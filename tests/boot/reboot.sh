#!/bin/sh
# /init of a machine with cgroup v2 alone and a disk that it keeps: containers in the background, before the power is cut
# and after. One line for each check; `POWER` asks for the cut.
PATH=/bin
echo STARTED
cg=/sys/fs/cgroup
mkdir -p /proc /sys /dev /run /tmp /disk /etc /home
mount -t proc proc /proc && mount -t sysfs sysfs /sys && mount -t devtmpfs dev /dev && mount -t tmpfs tmpfs /run
mount -t cgroup2 cgroup2 $cg
insmod /overlay.ko
mount -t ext4 /dev/nvme0n1 /disk || echo 'CHECK FAILED the disk'
chmod 755 / /bin; chmod 1777 /tmp
export CORACLE_STORE=/disk/store

# ok NAME: the last command's end decides; what it printed is shown where it was wrong.
ok() { if [ "$?" = 0 ]; then echo "CHECK ok $1"; else echo "CHECK FAILED $1"; sed 's/^/    /' /tmp/out /tmp/err; fi; }
r() { runner "$@" >/tmp/out 2>/tmp/err; code=$?; [ $code = 0 ]; }
# Each container and what became of it, by name.
all() { runner ps -a --format '{{.Names}} {{.Status}}' 2>/tmp/err | sed -E 's/^([^ ]+) (Up|Created|Exited \([0-9]+\)|Restarting).*/\1: \2/' | sort >/tmp/out; }
are() { all; printf '%s\n' "$@" | sort >/tmp/wanted; cmp -s /tmp/out /tmp/wanted; }
dir() { echo /disk/store/containers/$(runner ps -aq --no-trunc --filter "name=^$1\$"); }
monitor() { sed 's/.*"runner":{"pid":\([0-9]*\).*/\1/' $(dir $1)/container.json; }
until_() { n=0; until "$@" || [ $n = 100 ]; do sleep 0.1; n=$((n+1)); done; "$@"; }
state_of() { runner ps -a --filter "name=^$1\$" --format '{{.Status}}' | grep -q "^$2"; }
gone() { rmdir $1 2>/dev/null; ! [ -e $1 ]; }
groups() { find $cg -name 'coracle-*' | grep -v coracle-monitors; }
stay='trap "exit 0" TERM; while :; do sleep 1000 & wait; done'

after() {
    # Nothing runs, and who ran was killed; what was to go with its end is gone.
    [ "$last" ] || { all; grep -q '^last: ' /tmp/out && last=1; }
    are 'no: Exited (137)' 'always: Exited (137)' 'unless-stopped: Exited (137)' 'on-failure: Exited (137)' 'on-failure-3: Exited (137)' \
        'stopped-always: Exited (0)' 'stopped-unless-stopped: Exited (0)' 'stopped-on-failure: Exited (137)' 'created-always: Created' \
        'done: Exited (0)' 'failed: Exited (3)' 'log: Exited (137)' 'oom: Exited (137)' 'victim: Exited (137)' ${last:+'last: Exited (137)'}
    ok 'after the power cut ps tells of all containers how they ended'
    ! ls /disk/store/containers/*/container.json | while read f; do [ -s $f ] || echo $f; done | grep . >/tmp/out
    ok 'no record is cut off'
    rootfs-tool verify >/tmp/out 2>/tmp/err
    ok 'the store is whole'
    grep -q '"oom":true' $(dir oom)/container.json
    ok 'a reboot does not forget that memory ran out'
    [ "$(runner logs log 2>&1)" = 'before 1' ]
    ok 'the log of before is there'
    r run -d --network none --name always box true; [ $code = 125 ] && grep -q 'already in use' /tmp/err
    ok 'names are still taken'
    r start --all; sort /tmp/out >/tmp/back
    printf '%s\n' always log on-failure on-failure-3 stopped-always stopped-on-failure unless-stopped ${last:+last} | sort >/tmp/wanted
    [ $code = 0 ] && cmp /tmp/back /tmp/wanted
    ok 'those come back that docker would bring back'
    are 'no: Exited (137)' 'always: Up' 'unless-stopped: Up' 'on-failure: Up' 'on-failure-3: Up' \
        'stopped-always: Up' 'stopped-unless-stopped: Exited (0)' 'stopped-on-failure: Up' 'created-always: Created' \
        'done: Exited (0)' 'failed: Exited (3)' 'log: Up' 'oom: Exited (137)' 'victim: Exited (137)' ${last:+'last: Up'}
    ok 'ps tells which run again'
    r start --all && [ ! -s /tmp/out ]
    ok 'they are brought back once'
    until_ sh -c '[ "$(runner logs log)" = "before 1
before 2" ]' && r exec log cat /count && [ "$(cat /tmp/out)" = 2 ]
    ok 'its log and its files go on'
    r start stopped-unless-stopped && state_of stopped-unless-stopped Up
    ok 'one that was stopped is started by its user'
    r rm -f $(runner ps -aq) && all && [ ! -s /tmp/out ] && [ -z "$(ls /disk/store/containers /disk/store/names | grep -v :)" ]
    ok 'all are removed'
    ! groups >/tmp/out && r ps && ! find $cg -name 'coracle-*' | grep . >/tmp/out
    ok 'no group is left'
    sync; umount /disk
    ok 'the disk is let go'
    echo 'CHECKS DONE'
    poweroff -f
}
grep -q again /proc/cmdline && after

# A service of systemd's, which starts containers and ends.
unit=$cg/system.slice/boot.service
echo '+memory +pids' >$cg/cgroup.subtree_control && mkdir -p $unit && echo '+memory +pids' >$cg/system.slice/cgroup.subtree_control
cat >/tmp/service <<END
echo 0 >$unit/cgroup.procs
runner run -d --network none --name log --restart always box sh -c 'n=\$((\$(cat /count 2>/dev/null)+1)); echo \$n >/count; echo before \$n; $stay'
sleep 1000
END
sh /tmp/service >/tmp/out 2>/tmp/err &
# Who looks on sees it before it can be joined.
until_ state_of log Up && until_ r exec log cat /proc/self/cgroup
ok 'a service starts a container in the background'
m=$(monitor log)
[ "$(cat /proc/$m/cgroup)" = 0::/system.slice/coracle-monitors ] && ls -d $cg/system.slice/coracle-????????* >/tmp/out && [ -z "$(find $unit -name 'coracle-*')" ]
ok 'its groups and its monitor are beside the unit'
echo 1 >$unit/cgroup.kill; until_ gone $unit; sleep 0.5
state_of log Up && kill -0 $m && r exec log true
ok 'the container outlives the service'
until_ sh -c '[ "$(runner logs log)" = "before 1" ]' && sync
ok 'what it writes is in its log'

for policy in no always unless-stopped on-failure on-failure:3; do
    r run -d --network none --name $(echo $policy | tr : -) --restart $policy box sh -c "$stay" || break
done
ok 'containers start with each policy'
for policy in always unless-stopped on-failure; do r run -d --network none --name stopped-$policy --restart $policy box sh -c "$stay" || break; done
r stop stopped-always stopped-unless-stopped && r stop -t 0 stopped-on-failure && r create --name created-always --restart always box true
ok 'some are stopped by their user, one is never begun'
r run -d --network none --name failed --restart on-failure:2 box sh -c 'echo run; exit 3' && r run -d --network none --name done --restart on-failure box true
until_ sh -c 'runner logs failed | grep -c run | grep -qx 3' && until_ state_of failed 'Exited (3)' && until_ state_of done 'Exited (0)'
ok 'one that fails begins again as often as was said'
r run -d --network none --name oom -m 32m --memory-swap 32m box tail /dev/zero && r wait oom && [ "$(cat /tmp/out)" = 137 ] && grep -q '"oom":true' $(dir oom)/container.json
ok 'that memory ran out is in its record'
r run -d --network none --name ill --health-cmd 'test -e /well' --health-interval 200ms --health-retries 1 box sh -c "$stay"
until_ grep -q '"Status":"unhealthy"' $(dir ill)/health && r exec ill touch /well && until_ grep -q '"Status":"healthy"' $(dir ill)/health && r rm -f ill
ok 'its health is looked after'
r run -d --network none --name victim box sh -c "$stay" && id=$(runner ps -q --no-trunc --filter name=victim) && [ -d $cg/coracle-$id ] && kill -9 $(monitor victim)
until_ state_of victim 'Exited (137)' && ! [ -d $cg/coracle-$id ]
ok 'one whose monitor is killed ends with it, and ps tells'
r run -d --network none --name ahead box sh -c "$stay" && r stop -t 1 ahead && state_of ahead Exited && r restart ahead && state_of ahead Up && r exec ahead mount && grep -q '^overlay on / ' /tmp/out && r rm -f ahead
ok 'one is stopped and restarted, on an overlay'
# One that was removed in the last seconds before a cut may be there again.
sync

# An ordinary user, whose groups are delegated as those of a login are.
echo 'root:x:0:0:root:/root:/bin/sh' >/etc/passwd; echo 'user:x:1000:1000::/home:/bin/sh' >>/etc/passwd
for d in bin proc sys dev etc tmp; do mkdir -p /home/root/$d; done
cp /bin/busybox /home/root/bin; for tool in sh sleep cat; do ln -s busybox /home/root/bin/$tool; done
mkdir -p $cg/user@1000.service/app.slice/shell.scope
for g in $cg/user@1000.service $cg/user@1000.service/app.slice; do echo '+pids +memory' >$g/cgroup.subtree_control; done
chown -R 1000:1000 $cg/user@1000.service /home
cat >/tmp/user <<'END'
echo 0 >/sys/fs/cgroup/user@1000.service/app.slice/shell.scope/cgroup.procs
exec su user -s /bin/sh -c "HOME=/home CORACLE_STORE=/home/store XDG_RUNTIME_DIR=/home $*"
END
as_user() { sh /tmp/user "$@" >/tmp/out 2>/tmp/err; code=$?; [ $code = 0 ]; }
as_user 'runner run -d --network none --name mine --restart on-failure -m 64m --pids-limit 20 --rootfs /home/root sleep 1000' && as_user 'runner exec mine cat /proc/self/cgroup'
ok 'a user starts one in the background, and enters it'
find $cg/user@1000.service -name 'coracle-*' | sed "s|$cg||; s|/coracle-[0-9a-f]\{64\}|/coracle-ID|" | sort | tr '\n' ' ' >/tmp/out
[ "$(cat /tmp/out)" = '/user@1000.service/app.slice/coracle-monitors /user@1000.service/coracle-ID ' ] &&
    [ "$(cat $cg/user@1000.service/coracle-*/memory.max)" = 67108864 ]
ok 'it has its limits, and its monitor is beside it'
echo 1 >$cg/user@1000.service/app.slice/shell.scope/cgroup.kill
as_user 'runner ps --format "{{.Status}}"' && grep -q '^Up' /tmp/out && as_user 'runner stop -t 0 mine' && as_user 'runner rm mine' && as_user 'runner ps' &&
    ! find $cg/user@1000.service -name 'coracle-*' | grep . >/tmp/out
ok 'it outlives the scope, is stopped, and nothing of it is left'

are 'no: Up' 'always: Up' 'unless-stopped: Up' 'on-failure: Up' 'on-failure-3: Up' \
    'stopped-always: Exited (0)' 'stopped-unless-stopped: Exited (0)' 'stopped-on-failure: Exited (137)' 'created-always: Created' \
    'done: Exited (0)' 'failed: Exited (3)' 'log: Up' 'oom: Exited (137)' 'victim: Exited (137)'
ok 'before the power cut ps tells of all containers'
r run -d --network none --rm --name goes box sh -c "$stay" && sleep 0.2
r run -d --network none --name last --restart always box sh -c "$stay"
ok 'POWER'
sleep 1000
