# CMD of a machine with a squashfs root and a data partition on one disk, in its first and in its second run.
grep -q '/ squashfs ro' /proc/mounts && ! touch /x 2>/dev/null
ok 'the root is a squashfs'
[ "$(df -k /data | awk 'END { print $2 }')" -gt 45000 ]
ok 'the data partition has grown'
case $1 in
first) dd if=/dev/zero of=/data/much bs=1M count=30 2>/dev/null && echo kept >/data/kept; ok 'it can be written to' ;;
second) [ "$(cat /data/kept)" = kept ] && [ "$(stat -c %s /data/much)" = 31457280 ]; ok 'what was written is there' ;;
esac
[ "$(cat /sys/class/watchdog/watchdog0/state)" = active ] && [ "$(cat /sys/class/watchdog/watchdog0/timeout)" = 30 ]
ok 'the watchdog is watched'
exit 0
