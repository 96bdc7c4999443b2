#!/usr/bin/env python3
"""pylivy (the package `livy`), unchanged, against a Livy batch endpoint: submit, wait, log, list, get, kill.

    pylivy.py URL USER PASSWORD CA_FILE JOB_FILE
"""

import sys

from livy import LivyBatch
from livy.client import LivyClient

URL, USER, PASSWORD, CA, JOB = sys.argv[1:6]
auth = (USER, PASSWORD)

batch = LivyBatch.create(URL, file=JOB, args=["1", 2], auth=auth, verify=CA, spark_conf={"spark.a": "1"}, num_executors=2)
batch.wait()
assert batch.state.name == "SUCCESS", batch.state
lines = batch.log()
assert lines and all(isinstance(line, str) for line in lines), lines
client = LivyClient(URL + "/", auth=auth, verify=CA)
assert any(one.batch_id == batch.batch_id for one in client.list_batches())
assert client.get_batch(batch.batch_id).state.name == "SUCCESS"
batch.kill()
assert client.get_batch(batch.batch_id) is None, "a killed batch is still there"
print(f"pylivy: {batch.batch_id} ran to the end, {len(lines)} lines of log, listed, killed", flush=True)
