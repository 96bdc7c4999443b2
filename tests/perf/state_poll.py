#!/usr/bin/env python3
"""Measures a state poll through livy-gateway and through nginx, side by side, in one run.

Both end TLS 1.3, check HTTP Basic, rewrite the path, inject a credential and ask the same upstream (a second nginx that answers a fixed
30 bytes) over kept-alive connections, with one worker. The load is wrk's. What counts is CPU time per request, read from /proc: it hardly
depends on what else the machine does; requests per second do.

    cargo build --release && tests/perf/state_poll.py

Needs nginx, wrk, openssl and htpasswd on the PATH (Debian: nginx-core wrk openssl apache2-utils).
"""

import base64
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.request

SECONDS = int(os.environ.get("SECONDS_EACH", "8"))
ROUNDS = int(os.environ.get("ROUNDS", "3"))
CONNECTIONS = 32
USER, PASSWORD = "alice", "a-password"
AUTH = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
TICKS = os.sysconf("SC_CLK_TCK")


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_for(port):
    until = time.monotonic() + 20
    while time.monotonic() < until:
        with socket.socket() as s:
            if s.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    sys.exit(f"nothing listens on port {port}")


def cpu_seconds(pid):
    fields = open(f"/proc/{pid}/stat").read().rsplit(") ", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def resident_mb(pid):
    return int(re.search(r"VmRSS:\s+(\d+)", open(f"/proc/{pid}/status").read()).group(1)) / 1024


def children(pid):
    return [int(p) for p in open(f"/proc/{pid}/task/{pid}/children").read().split()]


def nginx(work, name, http):
    conf = f"""daemon off; worker_processes 1; error_log {work}/{name}.err; pid {work}/{name}.pid;
events {{ worker_connections 4096; }}
http {{ access_log off; keepalive_requests 100000000;
  client_body_temp_path {work}/{name}-1; proxy_temp_path {work}/{name}-2; fastcgi_temp_path {work}/{name}-3;
  uwsgi_temp_path {work}/{name}-4; scgi_temp_path {work}/{name}-5;
{http} }}"""
    path = f"{work}/{name}.conf"
    open(path, "w").write(conf)
    return subprocess.Popen(["nginx", "-c", path, "-p", work], stderr=subprocess.DEVNULL)


def load(url, seconds):
    out = subprocess.run(
        ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--latency", "-H", f"Authorization: {AUTH}", url],
        capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in out or "Socket errors" in out:
        sys.exit(f"{url} answered errors:\n{out}")
    requests = int(re.search(r"(\d+) requests in", out).group(1))
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", out).group(1))
    return requests, rate, re.search(r"99%\s+(\S+)", out).group(1)


def measure(name, pid, url, results):
    before = cpu_seconds(pid)
    requests, rate, p99 = load(url, SECONDS)
    used = (cpu_seconds(pid) - before) * 1e6 / requests
    results.setdefault(name, []).append((used, rate, p99))


def main():
    binary = os.path.abspath(os.path.join(os.path.dirname(__file__), "../../target/release/livy-gateway"))
    for tool in ["nginx", "wrk", "openssl", "htpasswd", binary]:
        shutil.which(tool) or sys.exit(f"{tool} is missing")
    work = tempfile.mkdtemp(prefix="livy-gateway-perf-")
    os.chmod(work, 0o755)
    upstream, proxy, gate, admin = (free_port() for _ in range(4))
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=localhost",
                    "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", f"{work}/tls.key", "-out", f"{work}/tls.crt"], check=True, capture_output=True)
    # The cheapest hash for both: nginx computes it for every request, and the question is not how slow a password hash is.
    users = subprocess.run(["htpasswd", "-nbs", USER, PASSWORD], capture_output=True, text=True, check=True).stdout
    open(f"{work}/users", "w").write(users.strip() + "\n")
    running = [
        nginx(work, "upstream", f"""server {{ listen 127.0.0.1:{upstream};
    location = /batches {{ if ($request_method = POST) {{ return 201 '{{"id":0,"state":"running","log":["x"]}}'; }} return 200 '{{"from":0,"total":0,"sessions":[]}}'; }}
    location ~ /state$ {{ default_type application/json; return 200 '{{"id":0,"state":"running"}}'; }}
    location / {{ default_type application/json; return 200 '{{"id":0,"state":"running","log":["x"]}}'; }} }}"""),
        nginx(work, "proxy", f"""upstream livy {{ server 127.0.0.1:{upstream}; keepalive 64; keepalive_requests 100000000; }}
  server {{ listen 127.0.0.1:{proxy} ssl; ssl_certificate {work}/tls.crt; ssl_certificate_key {work}/tls.key; ssl_protocols TLSv1.3;
    location /livy/ {{ auth_basic livy; auth_basic_user_file {work}/users; rewrite ^/livy/(.*)$ /$1 break;
      proxy_pass http://livy; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Authorization "Basic Z2F0ZXdheTpzZWNyZXQ="; proxy_hide_header Set-Cookie; }} }}"""),
    ]
    results = {}
    ready_ms = []
    idle = {}
    try:
        wait_for(upstream)
        wait_for(proxy)
        worker = children(running[1].pid)[0]
        idle["nginx"] = resident_mb(worker)
        for mode, freshness in [("livy-gateway, uncached", "0s"), ("livy-gateway, freshness 1s", "1s")]:
            open(f"{work}/routes.yaml", "w").write(f"""
server: {{listen: "127.0.0.1:{gate}", tls: {{cert_file: tls.crt, key_file: tls.key, min_version: "1.3"}}}}
admin: {{listen: "127.0.0.1:{admin}"}}
allow_inline_secrets: true
authenticators: {{staff: {{basic: {{htpasswd_file: users}}}}}}
clusters: {{livy: {{flavor: livy, url: "http://127.0.0.1:{upstream}", freshness: {freshness}, credentials: {{basic: {{username: gateway, password: secret}}}}}}}}
routes: [{{name: all, targets: [{{cluster: livy}}]}}]
registry: {{sqlite: {{path: {freshness}.db}}}}
""")
            env = {**os.environ, "TOKIO_WORKER_THREADS": "1", "LIVY_GATEWAY_LOG": "warn"}
            gateway = subprocess.Popen([binary, "serve", "-c", f"{work}/routes.yaml"], env=env)
            started = time.monotonic()
            running.append(gateway)
            wait_for(gate)
            ready_ms.append((time.monotonic() - started) * 1000)
            time.sleep(0.5)
            idle["livy-gateway"] = resident_mb(gateway.pid)
            context = ssl.create_default_context(cafile=f"{work}/tls.crt")
            request = urllib.request.Request(f"https://localhost:{gate}/batches", data=b'{"file": "/x.py"}', headers={"Authorization": AUTH, "Content-Type": "application/json"})
            batch = json.load(urllib.request.urlopen(request, context=context))["id"]
            for _ in range(ROUNDS):
                measure("nginx", worker, f"https://localhost:{proxy}/livy/batches/0/state", results)
                measure(mode, gateway.pid, f"https://localhost:{gate}/livy/batches/{batch}/state", results)
            gateway.terminate()
            gateway.wait()
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait()
        shutil.rmtree(work, ignore_errors=True)
    report(results, idle, ready_ms)


def report(results, idle, ready_ms):
    middle = lambda values: sorted(values)[len(values) // 2]
    base = middle([used for used, _, _ in results["nginx"]])
    print(f"\n| state poll, one worker, {CONNECTIONS} connections | CPU µs per request (spread) | against nginx | requests/s | p99 at full load | resident idle, MB |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, rows in results.items():
        used = [row[0] for row in rows]
        print(f"| {name} | {middle(used):.1f} ({min(used):.1f}–{max(used):.1f}) | {middle(used) / base:.2f}x | {middle([row[1] for row in rows]):,.0f} | "
              f"{middle([row[2] for row in rows])} | {idle['nginx' if name == 'nginx' else 'livy-gateway']:.1f} |")
    print(f"\nFrom process start to the first accepted connection: {max(ready_ms):.0f} ms at most.")


main()
