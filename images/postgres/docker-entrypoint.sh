#!/bin/bash
# Make the cluster where there is none, then become the server. Nothing is made for another command.
set -Eeuo pipefail

fail() { echo "docker-entrypoint.sh: $*" >&2; exit 1; }

# VAR, or what the file of VAR_FILE holds, or the default.
setting() {
    local name=$1 file="${1}_FILE"
    [ -z "${!name-}" ] || [ -z "${!file-}" ] || fail "$name and $file are both set"
    if [ -n "${!file-}" ]; then
        [ -r "${!file}" ] || fail "$file: ${!file} cannot be read"
        export "$name=$(<"${!file}")"
    else
        export "$name=${!name:-${2-}}"
    fi
    unset "$file"
}

query() { PGHOST= PGHOSTADDR= psql -v ON_ERROR_STOP=1 --no-psqlrc --no-password -U "$POSTGRES_USER" "$@"; }

# The variables are of use to a command that is read here, such as an init script of users.
process_init_files() {
    local f
    for f; do
        case $f in
            *.sh) if [ -x "$f" ]; then echo "$0: run $f"; "$f"; else echo "$0: read $f"; . "$f"; fi ;;
            *.sql) echo "$0: run $f"; query -d "$POSTGRES_DB" -f "$f" ;;
            *.sql.gz) echo "$0: run $f"; gunzip -c "$f" | query -d "$POSTGRES_DB" ;;
            *.sql.xz) echo "$0: run $f"; xzcat "$f" | query -d "$POSTGRES_DB" ;;
            *.sql.zst) echo "$0: run $f"; zstd -dc "$f" | query -d "$POSTGRES_DB" ;;
            *) echo "$0: left alone: $f" ;;
        esac
    done
}

make_cluster() {
    setting POSTGRES_PASSWORD
    setting POSTGRES_USER postgres
    setting POSTGRES_DB "$POSTGRES_USER"
    setting POSTGRES_INITDB_ARGS
    local method=${POSTGRES_HOST_AUTH_METHOD-}
    [ -n "$POSTGRES_PASSWORD" ] || [ "$method" = trust ] ||
        fail "POSTGRES_PASSWORD is not set: name the superuser's password, or say POSTGRES_HOST_AUTH_METHOD=trust to let everybody in"
    [ "$method" != trust ] || echo "$0: warning: POSTGRES_HOST_AUTH_METHOD=trust lets everybody in who reaches the port" >&2
    # What an earlier start has begun and not finished nobody has ever used.
    if [ -e "$PGDATA/unfinished" ]; then find "$PGDATA" -mindepth 1 -delete; fi
    [ -z "$(ls -A "$PGDATA")" ] || [ "$(ls -A "$PGDATA")" = lost+found ] || fail "$PGDATA is not empty and has no PG_VERSION: it is no cluster"

    local waldir=()
    [ -z "${POSTGRES_INITDB_WALDIR-}" ] || waldir=(--waldir "$POSTGRES_INITDB_WALDIR")
    eval 'initdb --username="$POSTGRES_USER" --pwfile=<(printf "%s\n" "$POSTGRES_PASSWORD") "${waldir[@]}" '"$POSTGRES_INITDB_ARGS"
    touch "$PGDATA/unfinished"
    printf '\nhost all all all %s\n' "${method:-$(postgres -C password_encryption)}" >>"$PGDATA/pg_hba.conf"

    # Until all is there, it listens to nobody but this script.
    pg_ctl -D "$PGDATA" -o "$([ $# = 0 ] || printf '%q ' "$@")-c listen_addresses='' -p ${PGPORT:-5432}" -w start
    export PGPASSWORD=${PGPASSWORD:-$POSTGRES_PASSWORD}
    if [ "$POSTGRES_DB" != postgres ]; then
        query -d postgres -v db="$POSTGRES_DB" <<<'CREATE DATABASE :"db";'
    fi
    process_init_files /docker-entrypoint-initdb.d/*
    pg_ctl -D "$PGDATA" -m fast -w stop
    unset PGPASSWORD
    rm "$PGDATA/unfinished"
    echo "$0: the cluster is made"
}

[ "${1:0:1}" != - ] || set -- postgres "$@"
[ "${1-}" = postgres ] || exec "$@"
for word; do case $word in -'?' | --help | --describe-config | -V | --version) exec "$@" ;; esac; done

if [ "$(id -u)" = 0 ]; then
    mkdir -p "$PGDATA" /var/run/postgresql ${POSTGRES_INITDB_WALDIR:+"$POSTGRES_INITDB_WALDIR"}
    # Where the files are another's, of a folder of the host that forbids it, the server says so itself.
    for dir in "$PGDATA" /var/run/postgresql ${POSTGRES_INITDB_WALDIR:+"$POSTGRES_INITDB_WALDIR"}; do
        find "$dir" \! -user postgres -exec chown postgres {} + || true
    done
    chmod 3775 /var/run/postgresql || true
    exec env HOME=/var/lib/postgresql setpriv --reuid postgres --regid postgres --init-groups -- "$BASH" "$0" "$@"
fi
mkdir -p "$PGDATA"
chmod 700 "$PGDATA" || true
shopt -s nullglob
if [ ! -s "$PGDATA/PG_VERSION" ] || [ -e "$PGDATA/unfinished" ]; then
    whoami >/dev/null 2>&1 || fail "user $(id -u) has no name: initdb wants one in /etc/passwd"
    make_cluster "${@:2}"
fi
exec "$@"
