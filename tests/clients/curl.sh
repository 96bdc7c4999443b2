#!/usr/bin/env bash
# Plain curl against a Livy batch endpoint: submit, poll, log before and after the end, list, kill, a failing job, a wrong password; then a
# PySpark job and a JVM job to their end. A line on stdout for each cell of the matrix, as in cells.py.
#
#   curl.sh URL USER PASSWORD CA_FILE JOB_FILE PYSPARK_JOB JVM_JAR
set -uo pipefail
url=$1 user=$2 password=$3 ca=$4 job=$5 pyspark=$6 jar=$7
patience=180

ask() { # METHOD PATH [BODY]: prints the body, then the status on a line of its own
  curl -sS --max-time 130 --cacert "$ca" -u "$user:$password" -X "$1" -H 'Content-Type: application/json' ${3:+--data "$3"} -w '\n%{http_code}' "$url$2"
}
body() { sed '$d'; }
field() { python3 -c 'import json, sys; print(json.load(sys.stdin).get(sys.argv[1]))' "$1"; }
cell() { # OPERATION COMMAND...: the command's status decides, its last line says why
  local why
  if why=$("${@:2}" 2>&1); then
    printf 'cell\tcurl\t%s\tok\t\n' "$1"
  else
    printf 'cell\tcurl\t%s\tFAILED\t%s\n' "$1" "$(tail -n 1 <<< "$why" | cut -c1-300)"
  fi
}
submit() { # BODY: prints the id
  local answer
  answer=$(ask POST /batches "$1")
  [ "$(tail -n 1 <<< "$answer")" = 201 ] || { echo "POST /batches: $answer" >&2; return 1; }
  body <<< "$answer" | field id
}
wait_for() { # ID STATE
  local until=$((SECONDS + patience)) state=
  while [ "$SECONDS" -lt "$until" ]; do
    state=$(ask GET "/batches/$1/state" | body | field state)
    [ "$state" = "$2" ] && return 0
    case $state in starting | running) ;; *) break ;; esac
  done
  echo "batch $1 is $state, wanted $2"
  return 1
}
lines() { ask GET "/batches/$1/log?size=-1" | body | python3 -c 'import json, sys; print("\n".join(json.load(sys.stdin)["log"]))'; }
is() { [ "$1" = "$2" ] || { echo "$3: $1, wanted $2"; return 1; }; }

submits() { id=$(submit "{\"file\": \"$job\", \"args\": [\"3\"]}") && [ "$id" -gt 0 ] && echo "$id" > "$work/id"; }
reads_log() {
  local id; id=$(cat "$work/id")
  [ -n "$(lines "$id")" ] || { echo "no line"; return 1; }
  local all page; all=$(lines "$id" | wc -l); page=$(ask GET "/batches/$id/log?from=0&size=1" | body | python3 -c 'import json, sys; print(len(json.load(sys.stdin)["log"]))')
  is "$page" 1 "a page of one line" && [ "$all" -ge 1 ]
}
lists() { ask GET /batches | body | python3 -c 'import json, sys; ids = [one["id"] for one in json.load(sys.stdin)["sessions"]]; assert int(sys.argv[1]) in ids, ids' "$(cat "$work/id")"; }
kills() {
  local id; id=$(submit "{\"file\": \"$job\", \"args\": [\"600\"]}") || return 1
  wait_for "$id" running || return 1
  is "$(ask DELETE "/batches/$id" | body)" '{"msg":"deleted"}' "DELETE" || return 1
  is "$(ask GET "/batches/$id/state" | tail -n 1)" 404 "the state of what was killed"
}
fails() { local id; id=$(submit "{\"file\": \"$job\", \"args\": [\"0\", \"fail\"]}") && wait_for "$id" dead; }
refuses() { is "$(password=wrong; ask GET /batches | tail -n 1)" 401 "a wrong password"; }
runs() { # BODY [PATTERN]: to success, with a line like this in its log
  local id log
  id=$(submit "$1") && wait_for "$id" success || return 1
  log=$(lines "$id")
  grep -q "${2:-}" <<< "$log" || { echo "no line with $2"; return 1; }
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cell submit submits
cell log reads_log
cell poll wait_for "$(cat "$work/id")" success
cell log reads_log
cell list lists
cell kill kills
cell failing fails
cell auth refuses
cell pyspark runs "{\"file\": \"$pyspark\", \"args\": [\"1\"], \"driverMemory\": \"512m\"}" "${PYSPARK_SAYS:-}"
cell jvm runs "{\"file\": \"$jar\", \"className\": \"Pi\", \"driverMemory\": \"512m\"}" "${JVM_SAYS:-}"
