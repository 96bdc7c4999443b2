#!/usr/bin/env python3
"""Airflow's Livy hook, operator and trigger, unchanged, against a Livy batch endpoint.

No database, scheduler or web server is needed: hook, operator and trigger run in this one process.

    airflow_livy.py URL USER PASSWORD CA_FILE JOB_FILE

JOB_FILE is a job that runs for as many seconds as its first argument says, and fails if there is a second one, "fail".
"""

import asyncio
import json
import os
import sys
import tempfile

from cells import cell

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

HOOK, OPERATOR, TRIGGER = "Airflow hook", "Airflow operator", "Airflow trigger"


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


def expect_error(words, call):
    """Runs something that must raise an error with one of these words in it."""
    try:
        call()
    except Exception as error:
        text = str(error).lower()
        assert any(word in text for word in words), error
    else:
        raise AssertionError(f"no error, wanted one with {words}")


def hook():
    hook = LivyHook()
    with cell(HOOK, "submit"):
        first = hook.post_batch(file=JOB, args=["1"], conf={"spark.x": 1}, num_executors="1")
        second = hook.post_batch(file=JOB, args=["1"])
        assert isinstance(first, int) and first > 0 and second != first, (first, second)
    with cell(HOOK, "poll"):
        seen = set()
        while True:
            state = hook.get_batch_state(first)
            seen.add(state.value)
            if state in hook.TERMINAL_STATES:
                break
        assert state == BatchState.SUCCESS and seen <= {"starting", "running", "success"}, seen
        batch = hook.get_batch(first)
        assert batch["id"] == first and "appId" in batch, batch
    with cell(HOOK, "log"):
        hook.dump_batch_logs(first)
        page = hook.get_batch_logs(first, 0, 100)
        assert page["total"] >= 1 and isinstance(page["log"], list), page
    with cell(HOOK, "kill"):
        for batch in [first, second]:
            hook.delete_batch(batch)
            expect_error(["not find", "404", "not found"], lambda: hook.get_batch_state(batch))
    with cell(HOOK, "auth"):
        connect("wrong")
        expect_error(["401"], lambda: LivyHook().post_batch(file=JOB))
    connect(PASSWORD)


def operator():
    store, ctx = Store(), None
    ctx = context(store)
    batch = None
    with cell(OPERATOR, "submit"):
        operator = LivyOperator(task_id="run", file=JOB, args=["1"], polling_interval=1)
        batch = operator.execute(ctx)
        assert int(batch) > 0, batch
    with cell(OPERATOR, "poll"):
        assert "app_id" in ctx["ti"].pushed, ctx["ti"].pushed
        assert LivyHook().get_batch_state(batch) == BatchState.SUCCESS
    with cell(OPERATOR, "retry"):
        again = LivyOperator(task_id="run", file=JOB, args=["1"], polling_interval=1).execute(context(store))
        assert int(again) == int(batch), "a retry after the crash of a worker submitted a second job"
    with cell(OPERATOR, "kill"):
        operator = LivyOperator(task_id="kill", file=JOB, args=["600"], polling_interval=0)
        batch = operator.execute(context())
        operator.on_kill()
        expect_error(["404", "not f"], lambda: LivyHook().get_batch(batch))
    with cell(OPERATOR, "failing"):
        operator = LivyOperator(task_id="fails", file=JOB, args=["0", "fail"], polling_interval=1)
        expect_error(["did not succeed", "dead"], lambda: operator.execute(context()))


def trigger():
    with cell(TRIGGER, "submit"):
        operator = LivyOperator(task_id="deferred", file=JOB, args=["1"], polling_interval=1, deferrable=True)
        try:
            operator.execute(context())
            raise AssertionError("the operator did not defer")
        except TaskDeferred as deferred:
            batch = deferred.trigger.serialize()[1]["batch_id"]
    with cell(TRIGGER, "poll"):
        trigger = LivyTrigger(batch_id=batch, spark_params={}, polling_interval=1, extra_options=None, extra_headers={})

        async def first():
            async for event in trigger.run():
                return event

        payload = asyncio.run(first()).payload
        assert payload["status"] == "success", payload
    with cell(TRIGGER, "log"):
        assert payload.get("log_lines") is not None, payload
        operator.execute_complete(context(), payload)


hook()
operator()
trigger()
