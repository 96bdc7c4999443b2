#!/usr/bin/env python3
"""Airflow's Livy hook, operator and trigger, unchanged, against a Livy batch endpoint.

No database, scheduler or web server is needed: hook, operator and trigger run in this one process.

    airflow_livy.py URL USER PASSWORD CA_FILE JOB_FILE

JOB_FILE is a job that runs for as many seconds as its first argument says. Prints one line for each step; exit status 1 at the first
that fails.
"""

import asyncio
import json
import os
import sys
import tempfile

URL, USER, PASSWORD, CA, JOB = sys.argv[1:6]


def connect(password):
    os.environ["AIRFLOW_CONN_LIVY_DEFAULT"] = json.dumps(
        {"conn_type": "livy", "host": URL, "login": USER, "password": password, "extra": {"verify": CA}})


# The asynchronous side (aiohttp) does not read the connection's "verify".
os.environ["SSL_CERT_FILE"] = CA
os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp(prefix="livy-gateway-airflow-")
os.environ["AIRFLOW__LOGGING__LOGGING_LEVEL"] = "ERROR"
connect(PASSWORD)

from airflow.providers.apache.livy.hooks.livy import BatchState, LivyHook  # noqa: E402
from airflow.providers.apache.livy.operators.livy import LivyOperator  # noqa: E402
from airflow.providers.apache.livy.triggers.livy import LivyTrigger  # noqa: E402
from airflow.providers.common.compat.sdk import TaskDeferred  # noqa: E402


class TaskInstance:
    """What the operator wants of a task instance."""

    stats_tags = {}

    def __init__(self):
        self.pushed = {}

    def xcom_push(self, key, value, **_):
        self.pushed[key] = value


class Store(dict):
    """Airflow's store for what a task must remember over a retry."""

    def set(self, key, value):
        self[key] = value


def context(store=None):
    values = {"ti": TaskInstance()}
    if store is not None:
        values["task_state_store"] = store
    return values


def step(text):
    print(f"airflow: {text}", flush=True)


def hook_walks_to_the_end():
    hook = LivyHook()
    first = hook.post_batch(file=JOB, args=["1"], conf={"spark.x": 1}, num_executors="1")
    second = hook.post_batch(file=JOB, args=["1"])
    assert isinstance(first, int) and first > 0 and second != first, (first, second)
    seen = set()
    while True:
        state = hook.get_batch_state(first)
        seen.add(state.value)
        if state in hook.TERMINAL_STATES:
            break
    assert state == BatchState.SUCCESS and seen <= {"starting", "running", "success"}, seen
    batch = hook.get_batch(first)
    assert batch["id"] == first and "appId" in batch, batch
    hook.dump_batch_logs(first)
    page = hook.get_batch_logs(first, 0, 100)
    assert page["total"] >= 1 and isinstance(page["log"], list), page
    hook.delete_batch(first)
    try:
        hook.get_batch_state(first)
        raise SystemExit("a deleted batch still has a state")
    except Exception as error:
        assert "not find" in str(error) or "404" in str(error) or "not found" in str(error), error
    step(f"hook: posted {first}, states {sorted(seen)}, log of {page['total']} lines, deleted")


def operator_runs_and_recovers():
    store = Store()
    ctx = context(store)
    operator = LivyOperator(task_id="sync", file=JOB, args=["1"], polling_interval=1)
    batch = operator.execute(ctx)
    assert int(batch) > 0 and "app_id" in ctx["ti"].pushed, (batch, ctx["ti"].pushed)
    again = LivyOperator(task_id="sync", file=JOB, args=["1"], polling_interval=1).execute(context(store))
    assert int(again) == int(batch), "a retry after the crash of a worker submitted a second job"
    step(f"operator: ran {batch} to the end; a retry found it again and submitted nothing")


def operator_kills():
    operator = LivyOperator(task_id="kill", file=JOB, args=["600"], polling_interval=0)
    batch = operator.execute(context())
    operator.on_kill()
    try:
        LivyHook().get_batch(batch)
        raise SystemExit("a killed batch is still there")
    except Exception as error:
        assert "404" in str(error) or "not f" in str(error).lower(), error
    step(f"operator: killed {batch}")


def trigger_ends_well():
    operator = LivyOperator(task_id="deferred", file=JOB, args=["1"], polling_interval=1, deferrable=True)
    try:
        operator.execute(context())
        raise SystemExit("the operator did not defer")
    except TaskDeferred as deferred:
        batch = deferred.trigger.serialize()[1]["batch_id"]
    trigger = LivyTrigger(batch_id=batch, spark_params={}, polling_interval=1, extra_options=None, extra_headers={})

    async def first():
        async for event in trigger.run():
            return event

    payload = asyncio.run(first()).payload
    assert payload["status"] == "success", payload
    operator.execute_complete(context(), payload)
    step(f"trigger: {batch} ended as {payload['status']}")


def failure_is_told():
    failing = JOB.replace("job", "fail") if "simulated" in os.environ.get("JOBS", "") else JOB
    operator = LivyOperator(task_id="fails", file=failing, args=["0", "on purpose"], polling_interval=1)
    try:
        operator.execute(context())
        raise SystemExit("a failing job passed")
    except Exception as error:
        assert "did not succeed" in str(error) or "dead" in str(error).lower(), error
    connect("wrong")
    try:
        LivyHook().post_batch(file=JOB)
        raise SystemExit("a wrong password was taken")
    except Exception as error:
        assert "401" in str(error), error
    step("a failing job fails the task, a wrong password is a 401")


for check in [hook_walks_to_the_end, operator_runs_and_recovers, operator_kills, trigger_ends_well, failure_is_told]:
    check()
step("all passed")
