#!/usr/bin/env bash
# Runs `livy-gateway demo` and pastes every line that it prints into a shell, as a newcomer would; each must do what it says.
set -euo pipefail
binary=${1:?usage: tests/demo.sh PATH-TO-livy-gateway}
work=$(mktemp -d)
"$binary" demo --listen 127.0.0.1:0 > "$work/out" 2> "$work/log" &
demo=$!
trap 'kill "$demo" 2>/dev/null || true; rm -rf "$work"' EXIT
for _ in $(seq 300); do grep -q 'batches$' <(tail -n 1 "$work/out") && break; kill -0 "$demo" || { cat "$work/log"; exit 1; }; sleep 0.1; done

grep -v '^livy-gateway demo\|^Users' "$work/out" > "$work/lines.sh"
bash -eu "$work/lines.sh" > "$work/answers" 2> "$work/echoed"
count() { grep -c "$1" "$work/answers" || true; }
fail() { echo "demo: $1" >&2; cat "$work/answers" "$work/echoed" >&2; exit 1; }
[ "$(count '"state":"starting"}$')" -ge 5 ] || fail "five polls were expected"
[ "$(count '"total":[0-9]*,"log":\[')" -eq 5 ] || fail "five logs were expected"
[ "$(count '"sessions":\[{')" -ge 5 ] || fail "five lists were expected"
[ "$(count '^{"msg":"deleted"}$')" -eq 5 ] || fail "five kills were expected"
[ "$(count '"total":0,"sessions":\[\]')" -eq 1 ] || fail "the other user sees nothing"
[ "$(count '"code":')" -eq 0 ] || fail "a line failed"
folder=$(sed -n 's/.*--cacert \([^ ]*\)\/tls.crt.*/\1/p' "$work/out" | head -n 1)
kill -INT "$demo" && wait "$demo" || fail "Ctrl-C did not end it well"
[ ! -e "$folder" ] || fail "$folder was left behind"
echo "demo: every printed line works on every flavor"
