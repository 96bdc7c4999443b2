"""The job of `livy-gateway certify`: runs for as many seconds as its first argument says; fails if its second one is "fail"."""

import sys
import time

from pyspark.sql import SparkSession

seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 2.0
spark = SparkSession.builder.appName("livy-gateway certify").getOrCreate()
print("certify: the sum is", spark.range(1000).selectExpr("sum(id)").first()[0], flush=True)
end = time.time() + seconds
tick = 0
while time.time() < end:
    tick += 1
    print("certify: tick", tick, flush=True)
    time.sleep(min(1.0, max(0.0, end - time.time())))
if "fail" in sys.argv[2:]:
    raise RuntimeError("certify: told to fail")
spark.stop()
