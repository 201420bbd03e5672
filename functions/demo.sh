#!/usr/bin/env bash
# `make demo`: starts a platform, deploys the examples and prints the calls to try. It runs until ctrl-c.
# `make demo DEMO=check` makes each of the calls, compares the answers and stops.
#
# DUNLIN_LISTEN and DUNLIN_ADMIN choose other addresses than 127.0.0.1:8080 and 127.0.0.1:8081, DUNLIN_DATA another folder
# than .dunlin/demo.
set -euo pipefail
cd "$(dirname "$0")"
root=$(cd .. && pwd)

dunlin=${DUNLIN:-$root/target/release/dunlin}
listen=${DUNLIN_LISTEN:-127.0.0.1:8080}
admin=${DUNLIN_ADMIN:-127.0.0.1:8081}
data=${DUNLIN_DATA:-$root/.dunlin/demo}
mode=${DEMO:-serve}
say() { printf '%s\n' "$*"; }
fail() { printf 'demo: %s\n' "$*" >&2; exit 1; }

case $mode in
serve) ;;
check)
  command -v curl >/dev/null || fail "DEMO=check makes its calls with curl, which is not installed"
  data=$(mktemp -d)
  # Free ports, so that a check never meets another platform.
  listen=${DUNLIN_LISTEN:-127.0.0.1:0}
  admin=${DUNLIN_ADMIN:-127.0.0.1:0}
  ;;
*) fail "DEMO is \`check\` or nothing, not \`$mode\`" ;;
esac

# The commands below speak to this platform, whatever the caller's environment points them to.
unset DUNLIN_SERVER DUNLIN_TOKEN DUNLIN_LISTEN DUNLIN_ADMIN DUNLIN_DATA

# Those of the shop that aren't Rust: the platform's own command gets what they are compiled with.
for function in invoicing ledger mailer labels; do
  "$dunlin" build "orders/$function"
done

output=$(mktemp)
platform=
# Each signal is handed on: the platform lets running requests finish at the first and ends at once at the second.
forward() { [ -z "$platform" ] || kill -TERM "$platform" 2>/dev/null || true; }
ended() { while kill -0 "$platform" 2>/dev/null; do wait "$platform" || true; done; }
stop() {
  forward
  [ -z "$platform" ] || ended
  rm -f "$output"
  [ "$mode" = serve ] || rm -rf "$data"
}
trap forward INT TERM
trap stop EXIT

deployed=()
# Job control gives it a process group of its own, so that ctrl-c reaches it through this script alone, once.
set -m
DUNLIN_SECRET_GITHUB_WEBHOOK=demo "$dunlin" up --data "$data" --listen "$listen" --admin "$admin" >"$output" &
platform=$!
set +m
# It prints both addresses once it accepts.
until grep -q '^admin ' "$output"; do
  kill -0 "$platform" 2>/dev/null || {
    wait "$platform" || true
    platform=
    say
    say "The platform did not start; its own words are above. If $listen or $admin is taken, choose others:"
    say "  DUNLIN_LISTEN=127.0.0.1:9080 DUNLIN_ADMIN=127.0.0.1:9081 make demo"
    exit 1
  }
  sleep 0.05
done
address() { sed -n "s/^$1  *\(http[^ ]*\).*/\1/p" "$output" | head -n 1; }
functions=$(address functions)
server=$(address admin)

# `fan-out` calls the others, wherever they are. `orders/analytics` comes last, when there are orders to count. What runs
# for the changes of a database has to wait for one.
for function in */ orders/*/; do
  [ -f "$function/function.yaml" ] && [ "$function" != orders/analytics/ ] || continue
  grep -q '^  - database:' "$function/function.yaml" || deployed+=("$function")
done
DUNLIN_FUNCTIONS=$functions "$dunlin" deploy "${deployed[@]}" --server "$server"

checked=0
failed=0
# try WHAT EXPECTED ARGUMENT...: a call as curl's arguments, and what its answer must contain.
try() {
  local what=$1 expected=$2 argument shown= answer
  shift 2
  for argument in "$@"; do
    case $argument in
    *[!a-zA-Z0-9_./:@%=-]*) shown+=" '$argument'" ;;
    *) shown+=" $argument" ;;
    esac
  done
  if [ "$mode" = serve ]; then
    printf '  # %s\n  curl%s\n' "$what" "$shown"
    return
  fi
  checked=$((checked + 1))
  answer=$(curl --silent --show-error --max-time 20 "$@" 2>&1) || true
  if [[ $answer == *"$expected"* ]]; then
    say "ok      $what"
  else
    failed=$((failed + 1))
    say "FAILED  $what: curl$shown"
    say "        expected $expected, got $answer"
  fi
}

say
[ "$mode" = check ] || say "The examples are deployed at $functions. Calls to try in another terminal:"
say
try 'a WASI 0.2 component' 'Hello, world!' "$functions/hello"
try 'a WASI 0.3 component, asynchronous' 'Hello, world!' "$functions/hello-async"
try 'path parameters and JSON' '"result":26.2' "$functions/convert/42.195/km/mi"
try 'a JSON body' '"results":[' "$functions/convert/km/mi" -H 'content-type: application/json' -d '{"values": [1, 10, 100]}'
try 'its own errors' 'there is no unit' "$functions/convert/1/km/parsec"
try 'a body that streams through' 'A QUIET BIRD' "$functions/upper" -d 'a quiet bird'
try 'a command: the body on stdin, the answer from stdout' '3 words, 12 bytes' "$functions/word-count" -d 'a quiet bird'
try 'outgoing calls, three at once, to servers its manifest allows' '"status":200' "$functions/fan-out"
try 'and to one it does not allow' '"error":' "$functions/fan-out?url=$server/health"
# With another secret, body or signature it is 401. Signed by: printf %s '{"zen": "Keep it logically awesome."}' | openssl dgst -sha256 -hmac demo
try 'a webhook, signed as GitHub signs it' '202' "$functions/hooks/github" -w '%{http_code}' -H 'x-github-event: ping' \
  -H 'x-hub-signature-256: sha256=2528d8b4f3ec147f81d7fd2c608f23c610121f40033f9668f19816f233f0eec1' \
  -H 'content-type: application/json' -d '{"zen": "Keep it logically awesome."}'
try 'no such route' '"status":404' "$functions/nowhere"

shown() { # TOPIC: prints its events once there are as many as $2
  local tries=0
  until [ "$("$dunlin" events tail "$1" --last 1000 --server "$server" | wc -l)" -ge "$2" ]; do
    tries=$((tries + 1))
    [ "$tries" -lt 200 ] || { failed=$((failed + 1)); say "FAILED  there are not $2 events in $1"; return; }
    sleep 0.1
  done
  [ "$mode" = check ] || "$dunlin" events tail "$1" --last "$2" --server "$server" | cut -c 1-140 | sed "s/^/  $1 /"
}

# Others run without being asked: at times, and for files that are dropped into a folder.
try 'what makes functions run, and how it stands' '"state":"running"' "$server/api/triggers"
mkdir -p statements/inbox
printf 'date,text,cents\n2026-01-01,rent,-80000\n' >statements/inbox/demo.csv
trap 'stop; rm -f statements/inbox/demo.csv' EXIT
[ "$mode" = check ] || say "  # a file was dropped into functions/statements/inbox, and a function has read it"
shown statements 1

# A shop of functions that know each other only by their events: orders/README.md. Orders come in, and what happens is shown.
say
say "A shop: four orders come in, and functions react to one another's events."
say
order() {
  "$dunlin" invoke orders-api /orders --server "$server" -H 'content-type: application/json' -H "idempotency-key: demo-$1" \
    -d "{\"customer\": \"$2\", \"items\": [{\"sku\": \"$3\", \"quantity\": $4, \"price\": $5}]}" >/dev/null
}
order 1 ada tea 2 450
order 2 grace coffee 1 990
order 3 linus cake 400 450
order 4 ada tea 1 450
shown orders 4
shown payments 4
shown stock 4
shown shipments 3
# In Python, Go, TypeScript and C.
shown invoices 3
shown ledger 3
shown mails 6
shown labels 3
# It comes last, and counts from the beginning.
"$dunlin" deploy orders/analytics --server "$server" >/dev/null
[ "$mode" = check ] || say
try 'the read model: what became of each order' '"status":"shipped"' "$functions/orders"
today=$(date -u +%F)
[ "$mode" = check ] || say "  # analytics was deployed last, and has read it all"
[ "$mode" = check ] || say "  $dunlin state get function:analytics $today --server $server"
if [ "$mode" = check ]; then
  checked=$((checked + 1))
  tries=0
  until [[ $("$dunlin" state get function:analytics "$today" --server "$server" 2>/dev/null) == *'"orders":4'* ]]; do
    tries=$((tries + 1))
    [ "$tries" -lt 100 ] || { failed=$((failed + 1)); say "FAILED  analytics has not counted 4 orders"; break; }
    sleep 0.1
  done
  [ "$tries" -ge 100 ] || say "ok      a function that came last has counted all orders"
fi

if [ "$mode" = check ]; then
  say
  say "demo: $((checked - failed)) passed, $failed failed"
  [ "$failed" = 0 ]
  exit
fi

say
say "The platform itself:"
say
printf '  %s\n' "$dunlin list --server $server" "$dunlin logs -f --server $server" "$dunlin consumers --server $server" \
  "$dunlin events tail orders -f --server $server" "$dunlin dead-letters list --server $server"
say
say "ctrl-c stops it; what is deployed stays in $data and is there again at the next start."
ended
platform=
