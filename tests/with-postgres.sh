#!/usr/bin/env bash
# Runs a command with a PostgreSQL server of its own: on a free port of 127.0.0.1, in a temporary folder, gone when the command ends.
# The command finds it by LIVY_GATEWAY_TEST_POSTGRES, a URL whose user may create databases.
#
#   tests/with-postgres.sh cargo test --lib registry::
set -euo pipefail
bin=$(dirname "$(command -v postgres || ls -d /usr/lib/postgresql/*/bin/postgres 2> /dev/null | sort -V | tail -1)")
[ -x "$bin/initdb" ] || { echo "PostgreSQL is not installed: apt-get install postgresql" >&2; exit 1; }
folder=$(mktemp -d)
as=()
# The server refuses to run as root.
if [ "$(id -u)" = 0 ]; then
  chown postgres "$folder"
  as=(setpriv --reuid postgres --regid postgres --clear-groups)
fi
cd_to() { (cd "$folder" && "${as[@]}" "$@"); }
stop() { cd_to "$bin/pg_ctl" stop --silent --pgdata "$folder/data" --mode immediate || true; rm -rf "$folder"; }
trap stop EXIT
cd_to "$bin/initdb" --pgdata "$folder/data" --username livy --auth trust --no-instructions > "$folder/initdb.log" 2>&1 \
  || { cat "$folder/initdb.log" >&2; exit 1; }
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
cd_to "$bin/pg_ctl" start --silent --wait --pgdata "$folder/data" --log "$folder/data/server.log" \
  --options "-p $port -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c max_connections=300 -c fsync=${POSTGRES_FSYNC:-off}" \
  || { cat "$folder/data/server.log" >&2; exit 1; }
export LIVY_GATEWAY_TEST_POSTGRES="postgres://livy@127.0.0.1:$port/postgres" LIVY_GATEWAY_TEST_POSTGRES_DATA="$folder/data" LIVY_GATEWAY_TEST_POSTGRES_BIN="$bin"
"$@"
