#!/usr/bin/env bash
# Is this gateway as fast as it says? Constant load, and the acceptance criteria asserted. `--help` tells the rest.
set -euo pipefail

usage() {
    cat <<'TEXT'
Usage: scripts/load_test.sh [options]

Sends chat completions at a constant rate, prints what it measured, and fails (status 1) unless

  - p50 is at most 100 ms above that of the provider asked directly (needs --baseline),
  - each pod gave at least 100 good answers a second,
  - no request was answered 429: give it a key whose quota is above the load,
  - at most 1 % of the requests failed or could not be sent in time.

Without --url it starts the demo gateway with a fake provider on this machine, with a key whose quota is exactly the load,
and stops it again. Every option may be given as an environment variable instead.

  --url URL             LOAD_TEST_URL           base URL of the gateway, such as https://gateway.example/v1
  --key KEY             LOAD_TEST_KEY           its key (the variable keeps it out of the list of processes)
  --model NAME          LOAD_TEST_MODEL         gpt-4o
  --baseline URL        LOAD_TEST_BASELINE      base URL of the provider, asked directly first, at the same rate
  --baseline-key KEY    LOAD_TEST_BASELINE_KEY  its key
  --baseline-model NAME LOAD_TEST_BASELINE_MODEL  as --model
  --pods N              LOAD_TEST_PODS          1, how many pods share the load
  --rate R              LOAD_TEST_RATE          requests a second, 150 per pod; 0: as many as are answered (closed loop)
  --concurrency N       LOAD_TEST_CONCURRENCY   256, most requests in progress (closed loop: always so many)
  --duration S          LOAD_TEST_DURATION      20, seconds that are measured
  --warm-up S           LOAD_TEST_WARM_UP       2, seconds before that
  --body-bytes N        LOAD_TEST_BODY_BYTES    1024, length of a request
  --stream              LOAD_TEST_STREAM=1      ask for streams
  --http 1|2            LOAD_TEST_HTTP          1
  --cacert FILE         LOAD_TEST_CACERT        certificates (PEM) to trust instead of the system's
  --pid NAME=PID        LOAD_TEST_PIDS          processes (separated by blanks) whose CPU time per request to show
  --max-overhead-ms N   LOAD_TEST_MAX_OVERHEAD_MS  100
  --min-rps N           LOAD_TEST_MIN_RPS       100, per pod
  --max-errors N        LOAD_TEST_MAX_ERRORS    1, percent
  --json FILE           LOAD_TEST_JSON          where to write the load generator's figures (bench/README.md explains them)

The generator is target/release/load (`make build`), or what LOAD names. Its latencies count from the moment that a request
was due, so that a gateway that stands still cannot hide it.
TEXT
}

fail() {
    echo "load_test.sh: $1" >&2
    exit "${2:-2}"
}

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
load=${LOAD:-${CARGO_TARGET_DIR:-$root/target}/release/load}

# -- options -----------------------------------------------------------------------------------------------------------
url=${LOAD_TEST_URL:-} key=${LOAD_TEST_KEY:-} model=${LOAD_TEST_MODEL:-gpt-4o}
baseline=${LOAD_TEST_BASELINE:-} baseline_key=${LOAD_TEST_BASELINE_KEY:-} baseline_model=${LOAD_TEST_BASELINE_MODEL:-}
pods=${LOAD_TEST_PODS:-1} rate=${LOAD_TEST_RATE:-} concurrency=${LOAD_TEST_CONCURRENCY:-256}
duration=${LOAD_TEST_DURATION:-20} warm_up=${LOAD_TEST_WARM_UP:-2} body_bytes=${LOAD_TEST_BODY_BYTES:-1024}
stream=${LOAD_TEST_STREAM:-} http=${LOAD_TEST_HTTP:-1} cacert=${LOAD_TEST_CACERT:-} pids=${LOAD_TEST_PIDS:-}
max_overhead=${LOAD_TEST_MAX_OVERHEAD_MS:-100} min_rps=${LOAD_TEST_MIN_RPS:-100} max_errors=${LOAD_TEST_MAX_ERRORS:-1}
json=${LOAD_TEST_JSON:-}

while [ $# -gt 0 ]; do
    case $1 in
        -h | --help) usage; exit 0 ;;
        --stream) stream=1; shift; continue ;;
        --*) [ $# -ge 2 ] || fail "$1 needs a value (see --help)" ;;
        *) fail "$1: no such option (see --help)" ;;
    esac
    case $1 in
        --url) url=$2 ;;
        --key) key=$2 ;;
        --model) model=$2 ;;
        --baseline) baseline=$2 ;;
        --baseline-key) baseline_key=$2 ;;
        --baseline-model) baseline_model=$2 ;;
        --pods) pods=$2 ;;
        --rate) rate=$2 ;;
        --concurrency) concurrency=$2 ;;
        --duration) duration=$2 ;;
        --warm-up) warm_up=$2 ;;
        --body-bytes) body_bytes=$2 ;;
        --http) http=$2 ;;
        --cacert) cacert=$2 ;;
        --pid) pids="$pids $2" ;;
        --max-overhead-ms) max_overhead=$2 ;;
        --min-rps) min_rps=$2 ;;
        --max-errors) max_errors=$2 ;;
        --json) json=$2 ;;
        *) fail "$1: no such option (see --help)" ;;
    esac
    shift 2
done

# Result of an expression of awk, numbers by name: calculate 'a / b' a=1 b=2
calculate() {
    local expression=$1 name
    shift
    local assignments=()
    for name in "$@"; do assignments+=(-v "$name"); done
    awk "${assignments[@]}" "BEGIN { print ($expression) }"
}

number() {
    [[ $2 =~ ^[0-9]+([.][0-9]+)?$ ]] || fail "$1 $2: want a number"
}
number --pods "$pods"
rate=${rate:-$(calculate '150 * pods' "pods=$pods")}
for option in rate duration warm_up max_overhead min_rps max_errors; do
    number "--${option/_/-}" "${!option}"
done
[ "$(calculate 'pods >= 1 && duration > 0' "pods=$pods" "duration=$duration")" = 1 ] ||
    fail "--pods and --duration: want more than 0"
wanted_rps=$(calculate 'pods * least' "pods=$pods" "least=$min_rps")
[ "$(calculate 'rate == 0 || rate >= wanted' "rate=$rate" "wanted=$wanted_rps")" = 1 ] ||
    fail "--rate $rate cannot show $wanted_rps answers a second (--min-rps $min_rps for each of $pods pods)"
[ -x "$load" ] || fail "$load is missing: run \`make build\`, or name the load generator in LOAD"

# -- the demo gateway ----------------------------------------------------------------------------------------------------
# This script again, with the addresses of a gateway that lives as long as it runs.
demo() {
    local python="$root/.attache/venv/bin/python"
    [ -x "$python" ] || fail "without --url the demo gateway is needed: run \`make build\`"
    export LOAD_TEST_RATE=$rate LOAD_TEST_DURATION=$duration LOAD_TEST_WARM_UP=$warm_up LOAD_TEST_MODEL=$model \
        LOAD_TEST_CONCURRENCY=$concurrency LOAD_TEST_BODY_BYTES=$body_bytes LOAD_TEST_STREAM=$stream \
        LOAD_TEST_HTTP=$http LOAD_TEST_MAX_OVERHEAD_MS=$max_overhead LOAD_TEST_MIN_RPS=$min_rps LOAD_TEST_PODS=$pods \
        LOAD_TEST_MAX_ERRORS=$max_errors LOAD_TEST_JSON=$json LOAD=$load
    exec "$python" - "$root" <<'PYTHON'
import math
import os
import subprocess
import sys
from pathlib import Path

root = Path(sys.argv[1])
sys.path.insert(0, str(root / "scripts"))
from project import LOCAL, main, say
from stack import DEMO_CONFIG, Stack


def demo():
    option = lambda name: float(os.environ[f"LOAD_TEST_{name}"])
    requests = math.ceil(option("RATE") * (option("WARM_UP") + option("DURATION")))
    with Stack(DEMO_CONFIG, LOCAL / "run" / "load-test") as stack:
        # Every request counts, and one more than these would be refused.
        key = stack.new_key(key_alias="load-test", **({"rpm_limit": requests} if requests else {}))
        say(f"demo gateway on {stack.url}, logs in {stack.folder}; "
            + (f"the key may send {requests} requests a minute, which is the load" if requests else "no quota"))
        environment = {
            **os.environ, "LOAD_TEST_URL": f"{stack.url}/v1", "LOAD_TEST_KEY": key,
            "LOAD_TEST_BASELINE": f"{stack.provider.url}/openai/v1", "LOAD_TEST_BASELINE_KEY": "sk-fake-openai-0001",
            "LOAD_TEST_PIDS": f"envoy={stack.envoy.pid} attache={stack.sidecar.pid}"}
        return subprocess.run([root / "scripts" / "load_test.sh"], env=environment, check=False).returncode


main(demo)
PYTHON
}

if [ -z "$url" ]; then
    [ -z "$baseline$key$cacert$pids" ] || fail "--baseline, --key, --cacert and --pid need --url"
    demo
fi

# -- measuring -----------------------------------------------------------------------------------------------------------
# Figures of the last run, and one of them: its first number of this name.
figures=""
figure() {
    local found
    found=$(grep -o "[{,]\"$1\":[^,}]*" <<<"$figures" | head -n 1) || true
    found=${found##*:}
    [ "$found" = null ] || printf '%s' "$found"
}

limited() {
    grep -o '"rate_limited":{"count":[0-9]*' <<<"$figures" | grep -o '[0-9]*$'
}

# Percent of the requests that failed or were not sent.
error_rate() {
    calculate 'good + bad == 0 ? 100 : 100 * bad / (good + bad)' "good=$(figure requests)" \
        "bad=$(calculate 'errors + dropped' "errors=$(figure errors)" "dropped=$(figure dropped)")"
}

# measure NAME URL KEY MODEL [options]
measure() {
    local name=$1 options=(--url "$2" --model "$4" --rate "$rate" --concurrency "$concurrency" --seconds "$duration"
        --warm-up "$warm_up" --body-bytes "$body_bytes" --http "$http")
    local key=$3
    shift 4
    [ -z "$stream" ] || options+=(--stream)
    [ -z "$cacert" ] || options+=(--cacert "$cacert")
    echo "· $name, ${options[1]}: $([ "$rate" = 0 ] && echo "closed loop of $concurrency" || echo "$rate/s") for $duration s"
    figures=$(LOAD_KEY=$key "$load" "${options[@]}" "$@") || fail "the load generator failed" 1
    printf '    p50 %s   p95 %s   p99 %s   max %s ms   %s good answers, %s/s\n' "$(shown p50_ms)" "$(shown p95_ms)" \
        "$(shown p99_ms)" "$(shown max_ms)" "$(figure requests)" "$(figure rps)"
    printf '    errors %s, not sent %s (%.2f %%)   429: %s   sent late %s\n' "$(figure errors)" "$(figure dropped)" \
        "$(error_rate)" "$(limited)" "$(figure late)"
    if [ "$(figure errors)" != 0 ]; then
        grep -oE '"(statuses|failures)":\{[^}]*\}' <<<"$figures" | sed 's/^/    /'
    fi
    grep -o '"[^"]*":{"pid":[0-9]*,"cpu_us_per_request":[0-9.]*' <<<"$figures" |
        sed 's/^"\([^"]*\)".*:\([0-9.]*\)$/    CPU per request, \1: \2 µs/'
}

shown() {
    local value
    value=$(figure "$1")
    printf '%s' "${value:--}"
}

direct=""
if [ -n "$baseline" ]; then
    measure "provider directly" "$baseline" "$baseline_key" "${baseline_model:-$model}"
    direct=$(figure p50_ms)
    [ -n "$direct" ] || fail "the provider gave no good answer: there is nothing to compare with" 1
fi
watched=()
for pid in $pids; do watched+=(--pid "$pid"); done
measure "gateway" "$url" "$key" "$model" ${watched[@]+"${watched[@]}"}
[ -z "$json" ] || printf '%s\n' "$figures" >"$json"

# -- the criteria --------------------------------------------------------------------------------------------------------
broken=0
# criterion HOLDS(1|0) WHAT SEEN WANTED
criterion() {
    if [ "$1" = 1 ]; then
        echo "PASS  $2: $3 ($4)"
    else
        echo "FAIL  $2: $3 ($4)"
        broken=$((broken + 1))
    fi
}

p50=$(figure p50_ms)
if [ -z "$p50" ]; then
    criterion 0 "p50 overhead over the provider" "no good answer" "at most $max_overhead ms"
elif [ -n "$direct" ]; then
    overhead=$(calculate 'p50 - direct' "p50=$p50" "direct=$direct")
    criterion "$(calculate 'overhead <= most' "overhead=$overhead" "most=$max_overhead")" \
        "p50 overhead over the provider" "$overhead ms" "at most $max_overhead"
else
    echo "SKIP  p50 overhead over the provider: give --baseline URL"
fi
criterion "$(calculate 'rps >= wanted' "rps=$(figure rps)" "wanted=$wanted_rps")" "good answers a second" \
    "$(figure rps)" "at least $min_rps for each of $pods pods"
criterion "$([ "$(limited)" = 0 ] && echo 1)" "429 within the quota" "$(limited)" "none"
errors=$(error_rate)
criterion "$(calculate 'errors <= most' "errors=$errors" "most=$max_errors")" "failed or not sent" "$errors %" \
    "at most $max_errors"
[ "$broken" = 0 ] || fail "$broken of the criteria do not hold" 1
