# CMD of a machine with a root on a disk; its initramfs had a file of 48 MiB.
[ ! -e /ballast ] && [ ! -e /init ] && [ "$(awk '/^MemFree/ { print $2 }' /proc/meminfo)" -gt 163840 ] && [ "$(awk '/^Unevictable/ { print $2 }' /proc/meminfo)" -lt 4096 ]
ok 'the initramfs is gone'
case $KIND in
overlay) echo x >/written && grep -q '^overlay / overlay rw' /proc/mounts && ! [ -e /run/coracle/lower/written ]; ok 'the overlay can be written to' ;;
ext4) echo x >/written && grep -q '/ ext4 rw,noatime' /proc/mounts; ok 'the root can be written to' ;;
esac
[ "$(cat /etc/coracle/boot.conf)" = 'arg=/bin/false' ]
ok "the root's boot.conf is not read"
exit 0
