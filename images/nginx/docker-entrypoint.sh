#!/bin/sh
# Prepare what nginx is configured with, then become the command. Nothing is prepared for another command.
set -eu

case ${1-} in nginx | nginx-debug) ;; *) exec "$@" ;; esac
say() { [ -n "${NGINX_ENTRYPOINT_QUIET_LOGS-}" ] || echo "docker-entrypoint.sh: $*"; }

# A kernel without IPv6 has no such sockets, and nginx would not start.
conf=/etc/nginx/conf.d/default.conf
if [ ! -e /proc/net/if_inet6 ] && [ -w "$conf" ]; then
    say "no IPv6 here: $conf listens without"
    sed -i '/listen *\[::\]/d' "$conf"
fi

# Only variables that are set are put in: nginx has a $host of its own.
templates=${NGINX_ENVSUBST_TEMPLATE_DIR:-/etc/nginx/templates}
suffix=${NGINX_ENVSUBST_TEMPLATE_SUFFIX:-.template}
out=${NGINX_ENVSUBST_OUTPUT_DIR:-/etc/nginx/conf.d}
if [ -d "$templates" ]; then
    names=$(env -0 | sed -z 's/=.*//' | grep -zE "^[A-Za-z_][A-Za-z0-9_]*$" | grep -zE "${NGINX_ENVSUBST_FILTER-}" | sed -z 's/.*/${&}/' | tr '\0' ' ' || true)
    find -L "$templates" -type f -name "*$suffix" | sort | while IFS= read -r template; do
        file=${template#"$templates/"}
        file=$out/${file%"$suffix"}
        say "$template becomes $file"
        mkdir -p "${file%/*}"
        envsubst "$names" <"$template" >"$file"
    done
fi

if [ -d /docker-entrypoint.d ]; then
    for script in $(find -L /docker-entrypoint.d -type f | sort -V); do
        case $script in
            *.envsh) say "read $script"; . "$script" ;;
            *.sh) if [ -x "$script" ]; then say "run $script"; "$script"; else say "not run, as it is not executable: $script"; fi ;;
            *) say "neither .sh nor .envsh: $script" ;;
        esac
    done
fi
exec "$@"
