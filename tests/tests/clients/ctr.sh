# containerd of its own: address, root and state.
export A=/run/ctr/sock
mkdir /run/ctr && cat >config.toml <<END
version = 2
root = "$B/containerd"
state = "/run/ctr/state"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs",
    "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.devmapper"]
[grpc]
address = "$A"
END
containerd --config config.toml >log 2>&1 &
daemon=$!
c() { ctr -a "$A" -n clients "$@"; }
export -f c
soon c version
L="--runtime io.containerd.runc.v2 --runc-binary $R --cgroup $G/one --snapshotter native"
run() { c run --rm $L "$@"; }
made() { c run -d $L "$@"; }
printf 'name = "box:1"\n[[layer]]\ndir = "rootfs/"\n' >rootfs.toml
export CORACLE_STORE=$B/images
"$T" compose -q . -t box:1 && "$T" save --format oci-archive box:1 -o oci.tar && c images import --snapshotter native oci.tar
I=$(c images ls -q) && [ -n "$I" ]
