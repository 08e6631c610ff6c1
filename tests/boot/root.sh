# CMD of a machine with a root on a disk; its initramfs had a file of 48 MiB.
[ ! -e /ballast ] && [ ! -e /init ] && [ "$(awk '/^MemFree/ { print $2 }' /proc/meminfo)" -gt 163840 ] && [ "$(awk '/^Unevictable/ { print $2 }' /proc/meminfo)" -lt 4096 ]
ok 'the initramfs is gone'
overlay() { echo x >"/written-$KIND" && grep -q '^overlay / overlay rw' /proc/mounts && ! [ -e "/run/coracle/lower/written-$KIND" ] && [ -e "/run/coracle/upper/upper/written-$KIND" ]; }
case $KIND in
erofs) overlay && grep -q '/run/coracle/lower erofs ro' /proc/mounts && grep -q '/run/coracle/upper ext4 rw' /proc/mounts; ok 'what is written is on the disk above the root' ;;
ext4) echo x >/written && grep -q '/ ext4 rw,noatime' /proc/mounts && [ -e /upper/written-erofs ]; ok 'the root can be written to' ;;
tmpfs) overlay && [ -e /written ] && grep -q '/run/coracle/lower ext4 ro' /proc/mounts && grep -q '/run/coracle/upper tmpfs rw' /proc/mounts; ok 'what is written above the root is in memory' ;;
esac
[ "$(cat /etc/coracle/boot.conf)" = 'arg=/bin/false' ]
ok "the root's boot.conf is not read"
exit 0
