#!/bin/bash
# Before SIGTERM: lets Envoy finish its requests and hand over its usage. drain.sh MOST LEAST [ADMIN], in seconds.
#
# Connections are told to go elsewhere, and the listener stays open for those who have not heard yet that this one goes: for
# LEAST seconds at least. Status 0 in any case: a drain of more than MOST seconds must not keep the rest of the shutdown
# from happening.
set -uo pipefail
most=$1 least=$2 admin=${3:-127.0.0.1:9901}
ask() { "$(dirname "$0")/ask.sh" "$@" 2>/dev/null; }

# Requests of clients in progress, and usage records that the sidecar has not acknowledged.
left() {
    local total=0 name value
    while IFS=': ' read -r name value; do
        case $name in http.public.downstream_rq_active | *attache.usage_pending) total=$((total + value)) ;; esac
    done < <(ask GET "$admin" '/stats?filter=downstream_rq_active|usage_pending')
    echo "$total"
}

ask POST "$admin" '/drain_listeners?graceful&skip_exit' >/dev/null || { echo "drain: Envoy does not answer at $admin" >&2; exit 0; }
quiet=0
while [ $SECONDS -lt "$most" ]; do
    # Three times, so that two ticks (50 ms each) of usage have passed since the last request.
    if [ "$(left)" = 0 ]; then quiet=$((quiet + 1)); else quiet=0; fi
    [ $quiet -ge 3 ] && [ $SECONDS -ge "$least" ] && { echo "drain: done"; exit 0; }
    sleep 0.2
done
echo "drain: $(left) requests and usage records left after $most s" >&2
