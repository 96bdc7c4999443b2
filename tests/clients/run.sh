#!/usr/bin/env bash
# Real client libraries, unchanged, through the gateway to simulated clusters of every flavor: Airflow's hook, operator and trigger, and pylivy.
set -euo pipefail
binary=${1:?usage: tests/clients/run.sh PATH-TO-livy-gateway}
here=$(cd "$(dirname "$0")" && pwd)
cache=${LIVY_GATEWAY_TEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/livy-gateway-tests}
venv=$cache/airflow-3.3.2-livy-4.6.4-pylivy-0.8.0
if [ ! -d "$venv" ]; then
  echo "fetching Airflow with its Livy provider, and pylivy, into $venv" >&2
  rm -rf "$venv.part"
  python3 -m venv "$venv.part"
  "$venv.part/bin/pip" install --quiet --disable-pip-version-check uv &&
    "$venv.part/bin/uv" pip install --quiet --python "$venv.part/bin/python" apache-airflow==3.3.2 apache-airflow-providers-apache-livy==4.6.4 livy==0.8.0 ||
    { echo "could not download the clients from the Python package index; check the network and run again" >&2; exit 3; }
  mv "$venv.part" "$venv"
fi

work=$(mktemp -d)
"$binary" demo --listen 127.0.0.1:0 > "$work/out" 2> "$work/log" &
demo=$!
trap 'kill "$demo" 2>/dev/null || true; rm -rf "$work"' EXIT
for _ in $(seq 300); do grep -q 'batches$' <(tail -n 1 "$work/out") && break; kill -0 "$demo" || { cat "$work/log"; exit 1; }; sleep 0.1; done
base=$(grep -o 'https://localhost:[0-9]*' "$work/out" | head -n 1)
ca=$(sed -n 's/.*--cacert \([^ ]*\).*/\1/p' "$work/out" | head -n 1)
for flavor in livy knox hdinsight ibm kyuubi; do
  echo "--- $flavor"
  for client in airflow_livy pylivy; do
    JOBS=simulated "$venv/bin/python" -W ignore "$here/$client.py" "$base/clusters/$flavor" alice wonderland "$ca" hdfs:///jobs/job.py 2> "$work/err" ||
      { tail -n 40 "$work/err"; exit 1; }
  done
done
