"""One line on stdout for each cell of the matrix: client, operation, verdict, why."""

import contextlib
import traceback


@contextlib.contextmanager
def cell(client, operation):
    """What happens inside decides the verdict; a failure is told and does not end the script."""
    try:
        yield
    except BaseException as error:  # Airflow's exceptions, and its SystemExit, alike
        why = " ".join(str(error).split()) or type(error).__name__
        print(f"cell\t{client}\t{operation}\tFAILED\t{why[:300]}", flush=True)
        traceback.print_exc()
    else:
        print(f"cell\t{client}\t{operation}\tok\t", flush=True)
