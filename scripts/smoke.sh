#!/bin/sh
# Does a chat completion come back? HTTP 200, and JSON of the right shape. Needs curl and awk, nothing else.
set -eu

usage() {
    cat <<'TEXT'
Usage: scripts/smoke.sh BASE_URL [KEY] [MODEL] [-- CURL OPTIONS]

  scripts/smoke.sh http://127.0.0.1:4000 sk-...
  scripts/smoke.sh https://gateway.example/v1 sk-... gpt-4o -- --cacert ca.pem --cert me.pem --key me.key
  SMOKE_KEY=sk-... scripts/smoke.sh https://api.openai.com/v1

BASE_URL is what an OpenAI SDK takes; one without a path gets /v1. KEY is also taken from SMOKE_KEY or OPENAI_API_KEY (an
empty one sends none: certificates may stand for keys), MODEL from SMOKE_MODEL (gpt-4o), the time limit from SMOKE_TIMEOUT
(60 seconds). Works with every OpenAI-compatible server.

Status 0: a chat completion came back. 1: it did not, and the last line says why. 2: wrong arguments.
TEXT
}

wrong() {
    echo "smoke.sh: $1 (--help tells the rest)" >&2
    exit 2
}

fail() {
    echo "smoke: FAILED: $1" >&2
    exit 1
}

# -- arguments ---------------------------------------------------------------------------------------------------------
case ${1:-} in -h | --help) usage; exit 0 ;; esac
[ $# -ge 1 ] || wrong "BASE_URL is missing"
base=${1%/} key=${SMOKE_KEY:-${OPENAI_API_KEY:-}} model=${SMOKE_MODEL:-gpt-4o}
shift
if [ $# -gt 0 ] && [ "$1" != -- ]; then key=$1; shift; fi
if [ $# -gt 0 ] && [ "$1" != -- ]; then model=$1; shift; fi
if [ $# -gt 0 ]; then
    [ "$1" = -- ] || wrong "$1: options of curl come after --"
    shift
fi
case $base in
    http://*/* | https://*/*) ;;
    http://?* | https://?*) base=$base/v1 ;;
    *) wrong "BASE_URL $base: want http(s)://..." ;;
esac
case $key$model in *[\"\\[:cntrl:]]*) wrong "KEY and MODEL have neither quotes nor backslashes" ;; esac
for tool in curl awk mktemp; do
    command -v "$tool" >/dev/null || wrong "$tool is not installed"
done

# -- the request -------------------------------------------------------------------------------------------------------
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
# Headers by standard input: the key is in no list of processes.
told=$(
    {
        [ -z "$key" ] || printf 'header = "authorization: Bearer %s"\n' "$key"
        printf 'header = "content-type: application/json"\n'
    } | curl --silent --show-error --max-time "${SMOKE_TIMEOUT:-60}" --config - --output "$folder/body" \
        --write-out '%{http_code} %{time_total}' --stderr "$folder/error" "$@" \
        --data "{\"model\":\"$model\",\"messages\":[{\"role\":\"user\",\"content\":\"Say hello.\"}]}" \
        "$base/chat/completions"
) || fail "no answer from $base: $(cat "$folder/error")"
status=${told%% *} took=${told#* }
[ -e "$folder/body" ] || : >"$folder/body"
[ "$status" = 200 ] || fail "HTTP $status instead of 200 from $base/chat/completions: $(head -c 500 "$folder/body")"

# -- the answer --------------------------------------------------------------------------------------------------------
# Reads strict JSON and prints a line `path<TAB>type<TAB>value` for each scalar (text still escaped); status 1 if it is none.
cat >"$folder/json.awk" <<'AWK'
function bad() { failed = 1; exit 1 }
function space() { sub(/^[ \t\r\n]+/, "", rest) }
function take(pattern, found) {
    if (!match(rest, "^" pattern)) bad()
    found = substr(rest, 1, RLENGTH); rest = substr(rest, RLENGTH + 1)
    return found
}
function text(found) { found = take("\"([^\"\\\\[:cntrl:]]|\\\\[\"\\\\/bfnrtu])*\""); return substr(found, 2, length(found) - 2) }
function value(path, first, number) {
    space(); first = substr(rest, 1, 1)
    if (first == "{") members(path)
    else if (first == "[") items(path)
    else if (first == "\"") print path "\tstring\t" text()
    else if (first ~ /[-0-9]/) {
        number = take("-?(0|[1-9][0-9]*)([.][0-9]+)?([eE][-+]?[0-9]+)?")
        print path "\tnumber\t" number
    } else print path "\tword\t" take("(true|false|null)")
    space()
}
function members(path, name) {
    take("[{]"); space()
    if (rest ~ /^}/) { take("}"); return }
    for (;;) {
        space(); name = text(); space(); take(":"); value(path (path == "" ? "" : ".") name)
        if (rest ~ /^}/) { take("}"); return }
        take(",")
    }
}
function items(path, index_) {
    take("[[]"); space()
    if (rest ~ /^]/) { take("]"); return }
    for (index_ = 0; ; index_++) {
        value(path "." index_)
        if (rest ~ /^]/) { take("]"); return }
        take(",")
    }
}
{ rest = rest (NR > 1 ? "\n" : "") $0 }
END { if (!failed) { value(""); if (rest != "") bad() } exit failed }
AWK
LC_ALL=C awk -f "$folder/json.awk" "$folder/body" >"$folder/flat" ||
    fail "HTTP 200, but the body is not JSON: $(head -c 300 "$folder/body")"

# What is at the path if it has that type.
at() {
    awk -F '\t' -v path="$1" -v type="$2" '$1 == path && $2 == type { print substr($0, length($1 $2) + 3); exit }' "$folder/flat"
}
lacks() {
    fail "HTTP 200, but $1: $(head -c 500 "$folder/body")"
}
[ "$(at object string)" = chat.completion ] || lacks "\`object\` is not chat.completion"
[ -n "$(at id string)" ] || lacks "\`id\` is no text"
[ -n "$(at model string)" ] || lacks "\`model\` is no text"
[ "$(at choices.0.message.role string)" = assistant ] || lacks "the first choice is no message of the assistant"
content=$(at choices.0.message.content string)
[ -n "$content" ] || [ -n "$(at choices.0.message.tool_calls.0.id string)" ] || lacks "the first choice is empty"
[ -n "$(at choices.0.finish_reason string)" ] || lacks "the first choice has no \`finish_reason\`"
tokens=$(at usage.total_tokens number)
[ "${tokens:-0}" -gt 0 ] 2>/dev/null || lacks "\`usage.total_tokens\` is not a number above 0"
echo "smoke: ok: $(at model string) answered in $took s, $tokens tokens: $(printf %s "$content" | cut -c 1-60)"
