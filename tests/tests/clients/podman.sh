# podman of root, with a storage of its own. `$L` is what every container of it needs here: without CAP_SYS_RESOURCE no
# limit can be raised.
p() {
    podman --runtime "$R" --cgroup-manager cgroupfs --events-backend file --storage-driver vfs \
        --root "$B/store" --runroot "$B/run" --tmpdir "$B/tmp" "$@"
}
export -f p
U="--ulimit nofile=1024:1024 --ulimit nproc=1024:1024"
L="$U --network none --cgroup-parent $G"
run() { p run --rm $L "$@"; }
made() { p run -d --name c $L "$@"; }
# Of whom `--userns auto` takes ids.
for file in subuid subgid; do
    { cat /etc/$file; echo containers:500000:100000; } >"$B/$file"
    mount --bind "$B/$file" /etc/$file
done
p import -q "$B/image.tar" box:1
