"""One process with one contender: does what it is told, a line of JSON at a time, and times only that.

`python -m benchmarks.worker` is started by processes.py, which sets the thread counts in the environment before any
library can read them.
"""

import json
import os
import sys
import time
import traceback
from pathlib import Path
from typing import Any


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints must not be taken for an answer
    cpus = os.environ.get("BENCHMARKS_CPUS")
    if cpus:  # the only limit that XLA's thread pool knows
        os.sched_setaffinity(0, map(int, cpus.split(",")))
    worker = Worker()
    for line in sys.stdin:
        command = json.loads(line)
        try:
            answer = getattr(worker, command.pop("do"))(**command)
        except ModuleNotFoundError as error:
            answer = {"error": "not installed", "reason": f"No module named {error.name!r}"}
        except Exception as error:
            traceback.print_exc()
            answer = {"error": "failed", "reason": f"{type(error).__name__}: {error}".splitlines()[0]}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


class Worker:
    """The commands."""

    contender: Any

    def load(self, contender: str) -> dict:
        """Import the contender and its library."""
        from importlib.metadata import PackageNotFoundError, version

        from benchmarks import contenders

        began = time.perf_counter()
        self.contender = contenders.load(contender)
        seconds = time.perf_counter() - began
        versions = {}
        for package in ("numpy", "scipy", "numba", "scikit-learn", "torch", "jax", "jaxlib"):
            if package.replace("scikit-learn", "sklearn") in sys.modules:
                try:
                    versions[package] = version(package)
                except PackageNotFoundError:
                    versions[package] = "?"
        return {"seconds": seconds, "label": self.contender.label, "versions": versions}

    def prepare(self, workload: list, data: str, dtype: str, threads: int, theta: str) -> dict:
        """Read the data (not timed), and have the contender take them."""
        import numpy as np

        from benchmarks.workloads import Data, Workload

        work = Workload(*[tuple(part) if isinstance(part, list) else part for part in workload])
        refusal = self.contender.refusal(work, np.dtype(dtype))
        if refusal:
            return {"error": "not supported", "reason": refusal}
        examples = Data(np.load(Path(data) / "X.npy"), np.load(Path(data) / "labels.npy"), "")
        first = np.load(theta)
        began = time.perf_counter()
        self.contender.prepare(work, examples, np.dtype(dtype), threads, first)
        return {
            "seconds": time.perf_counter() - began,
            "caveat": self.contender.caveat(work),
            "tolerance": self.contender.tolerance(work, np.dtype(dtype)),
        }

    def run(self, n: int, epochs: int, seed: int, checking: bool = False) -> dict:
        """Train in this order; `checking`: in the same way as all contenders do, for their results are compared."""
        from benchmarks.workloads import Order

        order = Order(n, epochs, seed)
        self.contender.checking = checking
        order.rows()  # drawn before, and kept: shuffling counts only for those that do it themselves
        began = time.perf_counter()
        self.contender.run(order)
        return {"seconds": time.perf_counter() - began}

    def save(self, path: str) -> dict:
        """Write the parameters."""
        import numpy as np

        np.save(path, self.contender.parameters().astype(np.float64))
        return {}

    def products(self, seconds: float) -> dict:
        """The time of one mini-batch's bare products, repeated for about `seconds`."""
        multiply = self.contender.bare_products()
        multiply()
        count, began = 0, time.perf_counter()
        while (elapsed := time.perf_counter() - began) < seconds or count < 2:
            multiply()
            count += 1
        return {"seconds": elapsed / count}

    def sweep(self, seconds: float) -> dict:
        """The time of one bare sweep of the optimizer over all parameters, likewise; 0 if the contender has none."""
        sweep = self.contender.bare_sweep()
        if sweep is None:
            return {"seconds": 0.0}
        sweep(1)
        times, elapsed = 1, 0.0
        while elapsed < seconds:
            times *= 2
            began = time.perf_counter()
            sweep(times)
            elapsed = time.perf_counter() - began
        return {"seconds": elapsed / times}

    def pools(self) -> dict:
        """The thread pools of the libraries that are loaded, and the processor whose kernels each BLAS takes."""
        from threadpoolctl import threadpool_info

        keys = ("internal_api", "version", "num_threads", "threading_layer", "architecture")
        return {"pools": [{key: pool.get(key) for key in keys} for pool in threadpool_info()]}


if __name__ == "__main__":
    main()
