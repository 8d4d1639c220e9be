"""What a user waits for before training, and the memory a fit takes beyond its data: each in fresh processes."""

import json
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.measure import Runner, spread
from benchmarks.processes import ROOT, environment
from benchmarks.workloads import WORKLOADS
from fastbp.machine import cores

IMPORTS = {"import numpy": "import numpy", "from fastbp import Network": "from fastbp import Network"}

_IMPORT = "import time; began = time.perf_counter(); {statement}; print(time.perf_counter() - began)"

# began: when the process was asked for, on the clock of the system
_FIRST_EPOCH = """
import sys, time
import numpy as np
from fastbp import Network
folder, dtype, began = sys.argv[1], sys.argv[2], float(sys.argv[3])
reading = time.perf_counter()
X, y = np.load(folder + "/X.npy").astype(dtype, copy=False), np.load(folder + "/labels.npy")
reading = time.perf_counter() - reading
Network([784, 30, 10], dtype=dtype).fit(X, y, epochs=1, batch_size=10, eta=3.0, verbose=False)
print(time.time() - began - reading)
"""

_MEMORY = """
import contextlib, io, json, resource, sys
import numpy as np
from fastbp import Network

folder, dtype, call = sys.argv[1:4]
X, y = np.load(folder + "/X.npy"), np.load(folder + "/labels.npy")
X = X.astype(dtype, copy=False) if call == "fit" else X  # the book's loader gives float32 columns
net = Network([784, 30, 10], dtype=dtype)
pairs = None
if call == "SGD":
    Y = np.zeros((len(y), 10, 1))
    Y[np.arange(len(y)), y] = 1
    pairs = list(zip(X[:, :, np.newaxis], Y))

def train(n):
    if pairs is None:
        net.fit(X[:n], y[:n], epochs=1, batch_size=10, eta=0.5, verbose=False)
    else:
        with contextlib.redirect_stdout(io.StringIO()):
            net.SGD(pairs[:n], 1, 10, 0.5)

def status(key):
    with open("/proc/self/status") as file:
        return next(1024 * int(line.split()[1]) for line in file if line.startswith(key))

def start_peak():
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")  # the peak starts again at what is used now
        return status("VmRSS:")
    except OSError:
        return peak()

def peak():
    try:
        return status("VmHWM:")
    except (OSError, StopIteration):
        unit = 1 if sys.platform == "darwin" else 1024
        return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

train(100)  # libraries and compiled code are not the fit's memory
before = start_peak()
train(len(y))
print(json.dumps({"beyond": peak() - before, "data": X.nbytes}))
"""


def _run(code: str, *arguments: str, caches: Path | None = None) -> str:
    variables = environment(cores(), caches)
    variables.pop("PYTHONDONTWRITEBYTECODE", None)  # a package that pip has installed has its bytecode, as NumPy has
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True, text=True, check=False, cwd=ROOT, env=variables,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"a start-up measurement failed: {done.stderr.strip().splitlines()[-1:]}")
    return done.stdout


def measure_start(runner: Runner) -> list[dict]:
    """Rows: what, samples, median and spread in seconds."""
    samples: dict[str, list[float]] = {name: [] for name in IMPORTS}
    for turn in range(runner.effort.starts + 1):
        for name, statement in IMPORTS.items():
            seconds = float(_run(_IMPORT.format(statement=statement)))
            if turn:  # the first brings the files into memory
                samples[name].append(seconds)
    runner.say("start: first epoch of S1")
    folder = str(runner.data(WORKLOADS["S1"])[0])
    for dtype in ("float32", "float64"):
        cold, warm = f"first epoch, empty cache, {dtype}", f"first epoch, warm cache, {dtype}"
        samples |= {cold: [], warm: []}
        for i in range(max(1, runner.effort.starts // 3)):
            caches = runner.folder / f"start-{dtype}-{i}"
            for name, times in ((cold, 1), (warm, 3)):
                for _ in range(times):
                    samples[name].append(float(_run(_FIRST_EPOCH, folder, dtype, str(time.time()), caches=caches)))
    return [{"what": name, "samples": values, **spread(values)} for name, values in samples.items()]


def measure_memory(runner: Runner) -> list[dict]:
    """Rows: what, bytes at the peak beyond those in use before, bytes of the data matrix."""
    rows = []
    for name, call, dtype in (
        ("S1", "fit", "float32"), ("S1", "fit", "float64"), ("G1", "fit", "float32"),
        ("S1", "SGD", "float32"), ("S1", "SGD", "float64"),
    ):  # fmt: skip
        runner.say(f"memory: {call} {name} {dtype}")
        answer = json.loads(_run(_MEMORY, str(runner.data(WORKLOADS[name])[0]), dtype, call))
        rows.append({"workload": name, "call": call, "dtype": dtype, **answer})
    return rows
