# CMD of a machine without a disk, as an ordinary user.
[ "$#" = 3 ] && [ "$1" = 'two words' ] && [ "$2" = 'back\slash
line' ] && [ "$3" = last ] && [ "$A" = 'b c' ] && [ "$B" = 'from the line' ] && [ "$HOME" = / ] && [ -z "$TERM" ] && [ "$(env | grep -c '^A=')" = 1 ]
ok 'words and environment'
[ "$(id -u):$(id -g):$(id -G)" = '1234:567:567 5 6' ] && [ "$(grep '^CapEff' /proc/self/status)" = 'CapEff:	0000000000000000' ]
ok 'user and groups'
[ "$(pwd)" = /tmp/below ] && [ "$(hostname)" = coracle ]
ok 'working directory and host name'
for one in '/proc proc' '/sys sysfs' '/dev devtmpfs' '/run tmpfs' '/dev/pts devpts' '/dev/shm tmpfs' '/dev/mqueue mqueue' '/sys/fs/cgroup cgroup2'; do
    awk '{ print $2, $3 }' /proc/self/mounts | grep -qx "$one" || echo "$one"
done | grep . >&2
[ "$?" = 1 ] && [ "$(readlink /dev/fd)" = /proc/self/fd ] && [ "$(readlink /dev/stderr)" = /proc/self/fd/2 ]
ok 'file systems'
[ "$(tr ' ' '\n' </sys/fs/cgroup/cgroup.controllers | sort)" = "$(tr ' ' '\n' </sys/fs/cgroup/cgroup.subtree_control | sort)" ] && grep -q memory /sys/fs/cgroup/cgroup.subtree_control
ok 'every controller is enabled'
ping -c 1 -W 5 127.0.0.1 >/dev/null 2>&1 || ifconfig lo | grep -q 'inet addr:127.0.0.1'
ok 'loopback'
ifconfig | grep -q 'inet addr:10.0.2.15 .*Mask:255.255.255.0' && route -n | grep -q '^0.0.0.0 *10.0.2.2 ' && [ "$(cat /etc/resolv.conf)" = 'nameserver 10.0.2.3' ]
ok 'address, gateway and name server'
grep -q '^none /tmp/mounted tmpfs rw,nodev,relatime,size=64k' /proc/mounts
ok 'a mount of its own'
[ "$(grep -E '^Sig(Blk|Ign)' /proc/self/status | awk '{ print $2 }' | sort -u)" = 0000000000000000 ]
ok 'signals are as they should be'
[ "$(ls /proc/self/fd | tr '\n' ' ')" = '0 1 2 3 ' ]
ok 'no descriptor of init'"'"'s'
[ "$(awk '/^VmRSS/ { print $2 }' /proc/1/status)" -le 160 ]
ok 'init is small'
(sh -c 'sleep 0.1 & sleep 0.2 & exit 0'); sleep 1; ! ps -o stat | grep -q '^Z'
ok 'orphans are reaped'
echo 'to stderr' >&2
exit 7
