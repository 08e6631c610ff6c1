//! What hands used to docker type, line by line: the same results, exit codes and meaning with `docker` and with a link named
//! `docker` to the runner. Differences are listed with their reasons. To add lines, put them where they belong, or a test
//! beside these.

use coracle_tests::words::{ready, same};

#[test]
fn containers_run_in_front_as_dockers_do() {
    if !ready() {
        return;
    }
    same(
        "words-run",
        r#"
        docker run --rm box echo hi
        docker run --rm box sh -c "echo out; echo err >&2; exit 7"
        docker run --rm box nosuch
        docker run --rm box /etc
        docker run --rm box sh -c 'kill -9 $$'
        docker run --rm --nosuch box true
        docker run --rm nosuch:image true
        docker run --rm -e A=b -e IMAGE=no box sh -c 'echo $A $IMAGE'
        docker run --rm -eA=1 -e B=2 --env=C=3 box sh -c 'echo $A$B$C'
        printf 'A=file\n# no\nB=x y\n' >env; docker run --rm --env-file env box sh -c 'echo $A $B'
        docker run --rm -w /tmp box pwd
        docker run --rm -u 1000:1001 box id
        docker run --rm -u user box id -u
        docker run --rm -h named box hostname
        docker run --rm --entrypoint echo box a b
        docker run --rm --read-only box touch /x
        docker run --rm --tmpfs /t box sh -c "touch /t/x && ls /t"
        docker run --rm --cap-drop ALL box grep CapEff /proc/self/status
        docker run --rm --cap-drop ALL --cap-add NET_BIND_SERVICE box grep CapEff /proc/self/status
        docker run --rm --security-opt no-new-privileges box grep NoNewPrivs /proc/self/status
        docker run --rm --ulimit nofile=100:200 box sh -c "ulimit -n; ulimit -Hn"
        docker run --rm --shm-size 1m box sh -c "df -k /dev/shm | tail -n 1 | sed 's/  */ /g'"
        docker run --rm --network none box ls /sys/class/net
        echo typed | docker run -i --rm box cat
        echo unheard | docker run --rm box cat
        mkdir vol; docker run --rm -v "$B/vol:/v" box sh -c "echo data >/v/file"; cat vol/file
        docker run --rm -v "$B/vol:/v:ro" box touch /v/x
        docker run --rm --mount "type=bind,src=$B/vol,dst=/v" box cat /v/file
        docker run --rm -v named:/n box sh -c "echo kept >/n/file"
        docker run --rm -v named:/n box cat /n/file
        docker run --cidfile id --name noted box true; cat id; docker rm noted
        docker run --rm --cidfile id box true
        docker run --rm=true -i=false box echo no more
        docker run --rm --device /dev/full:/dev/filled:r box sh -c 'ls /dev/filled; echo x >/dev/filled'
        docker run --rm --device /dev/full:/dev/filled:x box true
        docker run --rm --device-cgroup-rule 'c 10:* rwm' box true
        docker run --rm --device-cgroup-rule 'c 10' box true
        docker run --rm --cgroupns private box grep pids: /proc/self/cgroup
        docker run --rm --cgroupns shared box true
        docker run --rm --cgroupns host --cgroup-parent /words-run box sh -c 'grep -o /words-run /proc/self/cgroup | sort -u'
        docker run --rm --sysctl net.ipv4.ip_forward=1 --network none box cat /proc/sys/net/ipv4/ip_forward
        docker run --rm -i box sh <"$B/env"
        docker run --rm --pull never nosuch true
        docker run --rm --restart always box true
        "#,
        &[("'kill -9 $$'", "Under docker the command is process 1, which cannot kill itself; here init is.")],
    );
}

#[test]
fn containers_in_the_background_live_as_dockers_do() {
    if !ready() {
        return;
    }
    same(
        "words-life",
        r#"
        docker run -d --name web -l tier=front -e A=b -w /tmp box sleep 1000
        docker run -d --name web box true
        docker ps
        docker ps --format '{{.Names}} {{.Image}} {{.Command}} {{.State}} {{.Labels}}'
        docker ps -q
        docker ps -q --no-trunc
        docker ps -q --filter is-task=true
        docker ps --filter is-task=false --format '{{.Names}}'
        docker ps --filter is-task=web
        docker ps --filter publish=none
        docker container ls -a --filter name=web --format '{{.Names}}'
        docker exec web echo hi
        docker exec web sh -c 'exit 3'
        docker exec web nosuch
        docker exec -e X=y web sh -c 'echo $A $X $IMAGE; pwd'
        docker exec --env-file /dev/null -w / web pwd
        docker exec -u 1000 web id -u
        echo typed | docker exec -i web cat
        docker exec -d web sh -c 'echo done >/tmp/mark'; soon 'docker exec web test -e /tmp/mark'; docker exec web cat /tmp/mark
        docker exec nosuch true
        docker exec web
        docker inspect -f '{{.Name}} {{.State.Status}} {{.State.Running}} {{.Config.WorkingDir}} {{json .Config.Labels}}' web
        docker inspect -f '{{.Path}} {{.Args}} {{.Config.Cmd}} {{.Config.Entrypoint}} {{.Config.Image}} {{.RestartCount}}' web
        docker inspect -f '{{.HostConfig.AutoRemove}} {{.HostConfig.RestartPolicy.Name}} {{.HostConfig.Privileged}} {{.HostConfig.Memory}}' web
        docker inspect web | grep -c '"Id"'
        docker inspect -f '{{.Id}}' web box
        docker inspect nosuch
        docker container inspect box
        docker inspect --type image web
        docker top web -o pid,args
        docker top nosuch
        docker stats --no-stream --format '{{.Name}}' web
        docker stats --no-stream nosuch
        docker pause web
        docker ps --format '{{.Names}} {{.Status}}'
        docker ps --filter status=paused --format '{{.Names}}'
        docker exec web true
        docker pause web
        docker unpause web
        docker unpause web
        docker rename web front
        docker rename nosuch other
        docker inspect -f '{{.Name}}' front
        docker rename front web
        docker kill -s CONT web
        docker ps -q | wc -l
        docker stop --timeout 1 web
        docker stop web
        docker stop nosuch
        docker ps --format '{{.Names}}'
        docker ps -a --format '{{.Names}} {{.State}}'
        docker exec web true
        docker pause web
        docker kill web
        docker start web
        docker start web
        docker start nosuch
        docker exec web cat /tmp/mark
        docker restart -t 0 web
        docker ps --format '{{.Names}} {{.State}}'
        docker rm web
        docker kill web
        docker wait web
        docker inspect -f '{{.State.Status}} {{.State.ExitCode}} {{.State.OOMKilled}}' web
        docker rm web
        docker rm web
        docker rm -f nosuch
        docker wait nosuch
        docker create --name made box sh -c "echo made; exit 4"
        docker ps -a --format '{{.Names}} {{.Status}}'
        docker start -a made
        docker inspect -f '{{.State.Status}} {{.State.ExitCode}}' made
        docker start made; docker wait made
        docker rm made
        docker create --name quoted box sh -c 'echo "a b"'; docker ps -a --no-trunc --format '{{.Command}}'; docker rm quoted
        docker run -d --name polite --stop-signal USR1 box sh -c 'trap "exit 9" USR1; while :; do sleep 0.1; done'
        sleep 0.5; docker stop -t 20 polite; docker inspect -f '{{.State.ExitCode}} {{.Config.StopSignal}}' polite
        docker rm -f polite
        docker run -d --rm --name brief box true; soon '! docker inspect brief'; docker ps -aq
        "#,
        &[
            ("docker top web", "Init is the container's process 1 here, with the command as its child."),
            (
                "docker exec web nosuch",
                "docker 20.10 told 126 of an exec, newer ones tell 127, as both do of run.",
            ),
        ],
    );
}

#[test]
fn logs_are_dockers() {
    if !ready() {
        return;
    }
    same(
        "words-logs",
        r#"
        docker run -d --name log box sh -c "echo one; echo err >&2; sleep 0.3; echo two; printf end"; docker wait log
        docker logs log 2>/dev/null
        docker logs log 2>&1 >/dev/null
        docker logs --tail 1 log
        docker logs -n 0 log
        docker logs --tail all log 2>/dev/null
        docker logs -t log 2>/dev/null | head -n 2
        docker logs --since 1h log 2>/dev/null
        docker logs --until 1h log
        docker logs --since 2000-01-01T00:00:00 log 2>/dev/null
        docker logs -f log 2>/dev/null
        docker logs nosuch
        docker start log; docker wait log; docker logs log 2>/dev/null | grep -c one
        docker run -d --name talk box sh -c "for n in 1 2 3; do echo \$n; sleep 0.2; done"; docker logs -f talk
        docker run -d --name none --log-driver none box echo x; docker wait none
        docker logs none
        docker run --name seen box echo in-front; docker rm seen
        "#,
        &[],
    );
}

#[test]
fn policies_and_health_are_dockers() {
    if !ready() {
        return;
    }
    same(
        "words-health",
        r#"
        docker run -d --name again --restart on-failure:2 box sh -c "exit 3"
        soon '[ "$(docker inspect -f "{{.State.Status}} {{.RestartCount}}" again)" = "exited 2" ]'; docker inspect -f '{{.RestartCount}} {{.State.ExitCode}}' again
        docker inspect -f '{{.HostConfig.RestartPolicy.Name}} {{.HostConfig.RestartPolicy.MaximumRetryCount}}' again
        docker run -d --name fine --restart on-failure box true; docker wait fine; docker inspect -f '{{.RestartCount}}' fine
        docker run -d --name always --restart always box sleep 1000
        docker kill always; sleep 1; docker ps --filter name=always --format '{{.Names}}'
        docker start always; docker stop -t 1 always; docker inspect -f '{{.State.Status}}' always
        docker update --restart no always
        docker inspect -f '{{.HostConfig.RestartPolicy.Name}}' always
        docker update --restart sometimes always
        docker run -d --name sick --health-cmd 'test -e /well' --health-interval 1s --health-retries 1 box sleep 1000
        docker inspect -f '{{.State.Health.Status}}' sick
        soon '[ "$(docker inspect -f "{{.State.Health.Status}}" sick)" = unhealthy ]' && docker ps --filter health=unhealthy --format '{{.Names}} {{.Status}}'
        docker exec sick touch /well; soon '[ "$(docker inspect -f "{{.State.Health.Status}}" sick)" = healthy ]' && docker ps --filter health=healthy --format '{{.Names}} {{.Status}}'
        docker inspect -f '{{.Config.Healthcheck.Test}} {{.Config.Healthcheck.Interval}} {{.Config.Healthcheck.Retries}}' sick
        docker inspect -f '{{(index .State.Health.Log 0).ExitCode}}' sick
        docker run -d --name well --no-healthcheck box sleep 1000; docker ps --filter health=none --format '{{.Names}}'
        docker run --rm --no-healthcheck --health-cmd true box true
        docker rm -f sick well always again fine
        "#,
        &[],
    );
}

#[test]
fn limits_change_as_dockers_do() {
    if !ready() {
        return;
    }
    same(
        "words-update",
        r#"
        docker run -d --name web --memory 64m --cpus 0.5 --pids-limit 50 box sleep 1000
        docker inspect -f '{{.HostConfig.Memory}} {{.HostConfig.NanoCpus}} {{.HostConfig.PidsLimit}}' web
        docker update --memory 32m web
        group web memory memory.limit_in_bytes
        docker update --memory 256m web
        docker update --memory 128m --memory-swap 256m web
        docker update --cpus 0.25 web
        group web cpu cpu.cfs_quota_us
        docker update --pids-limit 20 --cpu-shares 512 web
        group web pids pids.max; group web cpu cpu.shares
        docker inspect -f '{{.HostConfig.Memory}} {{.HostConfig.NanoCpus}} {{.HostConfig.PidsLimit}} {{.HostConfig.CpuShares}}' web
        docker update web
        docker update
        docker update --memory 32m nosuch
        docker stop -t 0 web; docker update --memory 48m web; docker inspect -f '{{.HostConfig.Memory}}' web
        docker start web; group web memory memory.limit_in_bytes
        docker rm -f web
        "#,
        &[],
    );
}

#[test]
fn lists_events_and_prunes_are_dockers() {
    if !ready() {
        return;
    }
    same(
        "words-lists",
        r#"
        docker run -d --name one -l tier=front box sleep 1000
        docker run -d --name two -l tier=back -v named:/n box sh -c "exit 5"; docker wait two
        docker create --name three box true
        docker ps -a --format '{{.Names}} {{.State}} {{.Ports}}'
        docker ps -a --format 'table {{.Names}}\t{{.Status}}\t{{.Image}}'
        docker ps -aq | wc -l
        docker ps -l --format '{{.Names}}'
        docker ps -n 2 --format '{{.Names}}'
        docker ps -a --filter status=exited --format '{{.Names}}'
        docker ps -a --filter status=exited --filter status=created --format '{{.Names}}'
        docker ps -a --filter exited=5 --format '{{.Names}}'
        docker ps -a --filter label=tier --format '{{.Names}} {{.Label "tier"}}'
        docker ps -a --filter label=tier=back --format '{{.Names}}'
        docker ps -a --filter ancestor=box --format '{{.Names}}'
        docker ps -a --filter before=three --format '{{.Names}}'
        docker ps -a --filter since=one --format '{{.Names}}'
        docker ps -a --filter volume=named --format '{{.Names}} {{.Mounts}}'
        docker volume create --name kept; docker volume create --name kept other; docker volume rm kept
        docker images --nosuch
        docker tag box UPPER
        docker pull "a b"
        docker ps -a --filter 'name=^/two$' --format '{{.Names}}'
        docker ps -a --filter "id=$(docker inspect -f '{{.Id}}' one)" --format '{{.Names}}'
        docker ps --filter nosuch=x
        docker ps --filter status=sometimes
        docker ps --nosuch
        docker ps one
        docker ps --format '{{.Nosuch}}'
        docker ps -a --size --format '{{.Names}} {{.Size}}' | sed 's/[0-9.]*MB/MB/'
        docker port one
        docker port one 80
        docker port nosuch
        sleep 1.1; docker events --since 1h --until 0s --filter container=two --filter event=die --format '{{.Action}} {{.Actor.Attributes.exitCode}} {{.Actor.Attributes.name}}'
        docker events --since 1h --until 0s --filter container=three --format '{{.Action}}'
        docker events --since 1h --until 0s --filter label=tier=front --filter event=start | sed 's/image=[a-z]*, *//'
        docker events --since 1h --until 0s --filter nosuch=x
        docker kill one; docker rm one; sleep 1.1; docker events --since 1h --until 0s --filter container=one --format '{{.Action}}'
        echo n | docker container prune; docker ps -aq | wc -l
        docker container prune -f --filter label=tier=none
        docker container prune -f --filter label=tier=back | tail -n 1
        docker ps -a --format '{{.Names}}'
        docker container prune -f --filter nosuch=x
        docker container prune --force; docker ps -aq
        docker system df --format '{{.Type}} {{.TotalCount}} {{.Active}}' | head -n 2
        docker container nosuch
        docker version --format '{{.Client.Os}}/{{.Client.Arch}}'
        docker info --format '{{.OSType}} {{.NCPU}} {{.ContainersRunning}}'
        docker nosuch
        "#,
        &[(
            "docker events --since 1h --until 0s --filter nosuch=x",
            "docker keeps quiet about filters that it does not know.",
        )],
    );
}

#[test]
fn files_go_in_and_out_as_dockers_do() {
    if !ready() {
        return;
    }
    same(
        "words-files",
        r#"
        docker create --name cc box true
        echo hi >f; docker cp f cc:/tmp/f && docker cp cc:/tmp/f g && cat g
        docker cp f cc:/tmp/ && docker cp cc:/tmp/f - | tar -tf -
        docker cp cc:/nosuch .
        docker cp nosuch:/x .
        docker cp f cc:/no/such/place
        tar -cf - f | docker cp - cc:/root && docker cp cc:/root/f - | tar -xOf -
        docker diff cc | sort
        docker export cc | tar -tf - | grep -c '^tmp/f$'
        docker commit -m note cc new; docker run --rm new cat /tmp/f
        docker commit -c 'CMD ["echo", "said"]' cc new; docker run --rm new
        docker container diff cc | sort
        docker run -d --name rr box sleep 1000; docker cp f rr:/f; docker exec rr cat /f
        docker exec rr sh -c "echo more >>/f"; docker cp rr:/f h; cat h
        docker rm -f cc rr
        docker diff nosuch
        docker export nosuch
        docker commit nosuch
        "#,
        &[],
    );
}
