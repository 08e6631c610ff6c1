# A docker daemon whose only runtime is this one: on a socket and data of its own, without networks.
d() { docker -H "unix://$B/sock" "$@"; }
export -f d
dockerd -H "unix://$B/sock" --data-root "$B/data" --exec-root "$B/exec" --pidfile "$B/pid" --iptables=false \
    --ip6tables=false --bridge=none --storage-driver vfs --add-runtime "this=$R" --default-runtime this \
    --cgroup-parent "$G" $DOCKERD >"$B/log" 2>&1 &
daemon=$!
soon d version
L="--network none"
run() { d run --rm $L "$@"; }
made() { d run -d --name box $L "$@"; }
d import "$B/image.tar" box:1
