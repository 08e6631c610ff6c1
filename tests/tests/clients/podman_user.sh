# podman of the ordinary user. Without groups of its own there is no limit, no pause and no statistics on
# cgroup v1. Its home has a short name: where conmon's sockets have a long one, podman waits 20 s for every end.
U=${CORACLE_TEST_USER:-coracle-test} L="--network none --ulimit nofile=1024:1024 --ulimit nproc=1024:1024"
export U
mount --make-rshared / && install -d -o "$U" /run/home /run/home/run && cd /run/home || exit
p() {
    setpriv --reuid "$U" --regid "$U" --init-groups env HOME=/run/home USER="$U" XDG_RUNTIME_DIR=/run/home/run \
        podman --runtime "$R" --cgroup-manager cgroupfs --events-backend file --storage-driver vfs "$@"
}
export -f p
run() { p run --rm $L "$@"; }
made() { p run -d --name c $L "$@"; }
p import -q "$B/image.tar" box:1
