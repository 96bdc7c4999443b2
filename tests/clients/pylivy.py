#!/usr/bin/env python3
"""pylivy (the package `livy`), unchanged, against a Livy batch endpoint: submit, wait, log, list, get, kill.

    pylivy.py URL USER PASSWORD CA_FILE JOB_FILE
"""

import sys

from cells import cell
from livy import LivyBatch
from livy.client import LivyClient

URL, USER, PASSWORD, CA, JOB = sys.argv[1:6]
CLIENT = "pylivy"
auth = (USER, PASSWORD)

with cell(CLIENT, "submit"):
    batch = LivyBatch.create(URL, file=JOB, args=["1", 2], auth=auth, verify=CA, spark_conf={"spark.a": "1"}, num_executors=2)
    failing = LivyBatch.create(URL, file=JOB, args=["0", "fail"], auth=auth, verify=CA)
with cell(CLIENT, "poll"):
    batch.wait()
    assert batch.state.name == "SUCCESS", batch.state
with cell(CLIENT, "log"):
    lines = batch.log()
    assert lines and all(isinstance(line, str) for line in lines), lines
client = LivyClient(URL + "/", auth=auth, verify=CA)
with cell(CLIENT, "list"):
    assert any(one.batch_id == batch.batch_id for one in client.list_batches())
    assert client.get_batch(batch.batch_id).state.name == "SUCCESS"
with cell(CLIENT, "failing"):
    failing.wait()
    assert failing.state.name == "DEAD", failing.state
with cell(CLIENT, "kill"):
    for one in [batch, failing]:
        one.kill()
        assert client.get_batch(one.batch_id) is None, "a killed batch is still there"
with cell(CLIENT, "auth"):
    try:
        LivyClient(URL, auth=(USER, "wrong"), verify=CA).list_batches()
        raise AssertionError("a wrong password was taken")
    except Exception as error:
        assert "401" in str(error), error
