#!/usr/bin/env bash
# Fetches the real clients, Apache Airflow with its Livy provider and pylivy, into a cache outside the tree. Prints the Python that has them.
set -euo pipefail
cache=${LIVY_GATEWAY_TEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/livy-gateway-tests}
venv=$cache/airflow-3.3.2-livy-4.6.4-pylivy-0.8.0
# Two runs at once would fetch into each other.
mkdir -p "$cache"
exec 9> "$cache/clients.lock"
flock 9
if [ ! -d "$venv" ]; then
  echo "fetching Airflow with its Livy provider, and pylivy, into $venv" >&2
  rm -rf "$venv.part"
  python3 -m venv "$venv.part" >&2
  { "$venv.part/bin/pip" install --quiet --disable-pip-version-check uv &&
    "$venv.part/bin/uv" pip install --quiet --python "$venv.part/bin/python" apache-airflow==3.3.2 apache-airflow-providers-apache-livy==4.6.4 livy==0.8.0; } >&2 ||
    { echo "could not download the clients from the Python package index; check the network and run again" >&2; exit 3; }
  mv "$venv.part" "$venv"
fi
echo "$venv/bin/python"
