//! More of what hands type to docker every day, line by line as in `docker_words.rs`: who is attached to what, and the lines of
//! scripts and of pages.

use coracle_tests::words::{ready, same};

#[test]
fn streams_are_attached_to_as_dockers_are() {
    if !ready() {
        return;
    }
    same(
        "daily-attach",
        r#"
        docker run --rm -a stdout box sh -c 'echo out; echo err >&2'
        docker run --rm -a stderr box sh -c 'echo out; echo err >&2' 2>&1
        docker run --rm -a STDOUT box sh -c 'echo out; echo err >&2' 2>&1
        docker run --rm -a stdout -a stderr box sh -c 'echo out; echo err >&2; exit 3' | cat
        echo typed | docker run --rm -a stdin -a stdout box cat
        echo typed | docker run --rm -i -a stdin -a stdout box cat
        echo typed | docker run --rm -i -a stdout box cat
        docker run --name fed -i -a stdin box sh -c 'cat; exit 3' </dev/null
        docker run --rm -a stdin -d box cat
        docker run --rm -a nosuch box true
        docker run --rm -t -a stdout box echo hi
        docker run --rm -t -a stderr box echo hi
        docker run --rm --attach=stdout --sig-proxy=false box echo hi
        docker run --rm --sig-proxy=maybe box true
        docker run -d --rm --sig-proxy=false box true
        docker create -a stdout --name made box sh -c 'echo out; echo err >&2; exit 4'
        docker start -a made 2>&1 | sort
        docker inspect -f '{{.Config.AttachStdin}} {{.Config.AttachStdout}} {{.Config.AttachStderr}} {{.Config.StdinOnce}}' made fed
        docker create -i --name cat box cat
        echo typed | docker start -ai cat
        echo typed | docker start -i cat
        echo typed | docker start --attach --interactive cat
        docker start -a cat made
        docker start -i cat made
        docker run -d --name talk box sh -c 'sleep 1; echo x; exit 4'; docker attach --no-stdin --sig-proxy=false talk
        docker attach nosuch
        docker attach --sig-proxy=maybe talk
        docker attach --detach-keys
        docker ps -n x
        docker ps --no-trunc=x
        docker rm made fed cat talk
        docker --version | grep -c '^Docker version [0-9.]*, build [a-z0-9]'
        docker -v | grep -c '^Docker version [0-9.]*, build [a-z0-9]'
        docker builder prune -f
        docker builder prune -af --filter until=24h
        docker builder prune -f --filter nosuch=x
        echo n | docker builder prune >/dev/null
        "#,
        &[],
    );
}
