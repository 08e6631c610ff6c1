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

#[test]
fn limits_that_the_host_cannot_give_are_refused_as_docker_refuses_them() {
    if !ready() {
        return;
    }
    same(
        "daily-limits",
        r#"
        docker run --rm --cpus 500 box true
        docker create --cpus 500 box true
        docker run --rm --cpus $(nproc).01 box true
        docker run --rm --cpus $(nproc) box true
        docker run --rm --cpus 0 box true
        docker run --rm --cpus 0.001 box true
        docker run --rm --cpus x box true
        docker run --rm --cpuset-cpus 9999 box true
        docker run --rm --cpuset-cpus x box true
        docker run --rm --cpuset-cpus 0 box nproc
        docker run --rm --cpuset-mems 99 box true
        docker run --rm --memory 1k box true
        docker run --rm --memory 6m box true
        docker run --rm --memory x box true
        docker run --rm --memory-reservation 1k box true
        docker run --rm --memory 32m --memory-reservation 64m box true
        docker run --rm --memory-swap 64m box true
        docker run --rm --memory-swappiness 200 box true
        docker run --rm --cpu-quota 50000 --cpus 1 box true
        docker run --rm --cpu-period 10 box true
        docker run --rm --pids-limit 0 box true
        docker run --rm --pids-limit -1 box true
        docker run --rm --oom-score-adj 2000 box true
        docker run --rm --ulimit nofile=20:10 box true
        docker run --rm --ulimit nofile=x box true
        docker run --rm --shm-size x box true
        docker run -d --name web box sleep 100
        docker update --cpus 500 web
        docker update --cpuset-cpus 9999 web
        docker update --cpuset-mems 99 web
        docker update --memory 1k web
        docker update --cpu-period 10 web
        docker update --cpus 0.5 --memory 64m --memory-swap -1 web
        docker inspect -f '{{.HostConfig.NanoCpus}} {{.HostConfig.Memory}}' web
        docker rm -f web
        "#,
        &[],
    );
}

#[test]
fn the_lines_of_scripts_and_pages_mean_what_they_mean_to_docker() {
    if !ready() {
        return;
    }
    same(
        "daily-lines",
        r#"
        docker run -d --name web -l tier=a -e X=1 --health-cmd true --health-interval 1s box sleep 600
        docker run -d --name two box sh -c 'for n in 1 2 3; do echo $n; done; sleep 600'; soon 'docker logs two | grep 3'
        docker ps --format '{{json .Names}}'
        docker ps -q | xargs docker inspect -f '{{.Name}} {{.State.Running}}' | sort
        docker inspect -f '{{range .Config.Env}}{{println .}}{{end}}' web | grep -v PATH | sort
        docker inspect -f '{{range $k, $v := .Config.Labels}}{{$k}}={{$v}} {{end}}' web
        docker inspect --format='{{json .Config.Cmd}} {{.Config.Image}}' two
        docker inspect --size -f '{{.SizeRw}}' two
        docker logs --since 10s two
        docker logs --tail 2 -t two | wc -l
        docker stats --no-stream --format '{{.Name}}' two
        docker stats --no-stream --format '{{json .}}' two | tr ',' '\n' | cut -d: -f1 | tr -d '{' | sort
        docker stats -a --no-stream --format '{{.Name}}' | sort
        docker container stats --no-stream --format '{{.Name}}' | sort
        docker top two aux | head -1
        docker top two -eo user,comm | head -1
        docker exec -w /tmp -e A=b -u 1000 two sh -c 'pwd; echo $A; id -u'
        printf 'Q=r\n' >ef; docker exec --env-file ef two sh -c 'echo $Q'
        docker exec --env-file nosuch two true
        docker exec -it two true
        docker exec two sh -c 'kill -9 $$'
        docker kill -s SIGHUP nosuch
        docker kill -s NOSUCH two
        docker kill --signal=CONT two
        docker rename two three; docker rename three two
        docker rename two web
        docker port two
        docker update --memory 64m --memory-swap 128m two
        docker run -d --name q1 box sh -c 'exit 3'; docker run -d --name q2 box sh -c 'exit 4'; docker wait q1 q2
        docker ps -a --filter exited=3 --format '{{.Names}}'
        docker ps -aqf status=exited | wc -l
        docker container prune -f --filter until=1h
        docker rm $(docker ps -aqf name=q)
        docker cp two:/etc/passwd - | tar -xOf - | head -1
        tar -cf - ef | docker cp - two:/tmp; docker exec two ls /tmp
        docker cp two:/etc/passwd ./pw; cut -d: -f1 pw | head -1
        docker image inspect box -f '{{.Os}} {{json .Config.Cmd}} {{.Config.Env}}'
        docker image inspect --format '{{json .Config.Labels}}' box
        docker image inspect nosuch
        docker images -q box | wc -l
        docker images --filter dangling=true -q
        docker images --filter reference='b*' -q | wc -l
        docker history --format '{{.CreatedBy}}' box | wc -l
        docker volume create v1; docker volume create --label a=b v2
        docker volume ls -q
        docker volume ls -qf dangling=true
        docker volume ls -qf name=v1
        docker volume ls -f label=a=b --format '{{.Name}} {{.Driver}}'
        docker volume inspect -f '{{.Name}} {{.Driver}} {{json .Labels}} {{.Scope}}' v1 v2
        docker volume inspect nosuch
        docker volume rm v1 v2
        docker volume rm v1
        docker network inspect nosuch
        docker network rm nosuch
        docker network ls -q --filter name=nosuch
        docker network inspect host -f '{{.Name}} {{.Driver}} {{.Scope}} {{.Internal}}'
        docker info -f '{{.Containers}} {{.Images}}'
        docker version --format '{{.Client.Os}}'
        docker pause web two; docker unpause web two
        docker restart -t 0 web two
        docker stop -t 0 web two
        docker start web two
        docker rm -fv web two
        docker run --rm --user nosuch box true
        docker run --rm -w relative box true
        docker run --rm --mount type=bind,src=/nosuch,dst=/x box true
        docker run --rm -e 'A B=c' box env | grep 'A B'
        docker run --rm --name 'a b' box true
        docker run --rm --hostname x.y box hostname
        docker run --rm --label-file /nosuch box true
        docker run --rm --network nosuch box true
        docker run --rm --link nosuch box true
        docker run --rm -p 99999:80 box true
        docker run --rm --device /nosuch box true
        docker run --rm --cap-add NOSUCH box true
        docker run --rm --security-opt nosuch box true
        docker run --rm --log-driver nosuch box true
        docker run --rm --log-opt nosuch=1 box true
        docker run --rm --pid nosuch box true
        docker run --rm --tmpfs relative box true
        docker run --rm --gpus all box true
        docker tag box other:1; docker rmi -f other:1 >/dev/null
        docker rmi nosuch
        docker save box | tar -tf - | grep -c manifest.json
        docker save box -o s.tar; docker load -qi s.tar | sed 's/localhost.//'
        docker login --nosuch
        docker system prune -f --volumes | tail -1
        docker logs --details nosuch
        docker system df --format '{{.Type}}'
        "#,
        &[
            ("docker system df", "What builds keep has no line of its own."),
            ("--device /nosuch", "docker ends with 127, which is of commands that are not found."),
        ],
    );
}
