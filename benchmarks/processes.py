"""The runner's side of a worker: starts it with its thread count and caches, asks, and waits."""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent


class WorkerError(Exception):
    """A contender that cannot run: `kind` is "not installed", "not supported" or "failed"."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(f"{kind}: {reason}")
        self.kind, self.reason = kind, reason


class Process:
    """A worker process. `started` is the time it took to answer for the first time: the start of Python alone."""

    def __init__(self, threads: int, caches: Path | None = None) -> None:
        self.log = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the process)
        self.child = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, text=True,
            cwd=ROOT, env=environment(threads, caches),
        )  # fmt: skip

    def ask(self, do: str, **arguments: Any) -> dict:
        """The worker's answer. WorkerError if it has none."""
        assert self.child.stdin is not None and self.child.stdout is not None
        try:
            self.child.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
            self.child.stdin.flush()
            line = self.child.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise WorkerError("failed", f"the process ended with code {self.child.wait()} ({self.last_words()})")
        answer = json.loads(line)
        if "error" in answer:
            raise WorkerError(answer["error"], answer["reason"])
        return answer

    def last_words(self) -> str:
        """The last line it wrote to the standard error."""
        self.log.seek(0)
        lines = self.log.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else "nothing on the standard error"

    def close(self) -> None:
        """End it; a process that is busy is not waited for."""
        assert self.child.stdin is not None and self.child.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self.child.stdin.close()
        try:
            self.child.wait(5)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()
        self.child.stdout.close()
        self.log.close()

    def __enter__(self) -> "Process":
        return self

    def __exit__(self, *exception: Any) -> None:
        self.close()


# What would have OpenBLAS take another processor's kernels than this one's. With OPENBLAS_CORETYPE=Haswell on a machine
# with AVX-512 the products of L1 take 7.3 ms on one thread in the place of 3.9: NumPy, SciPy, scikit-learn and our
# `matrix` would be timed at half their speed, PyTorch, JAX and our `fused` at the whole of it.
FOREIGN_KERNELS = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")


def environment(threads: int, caches: Path | None = None) -> dict[str, str]:
    """The environment of a child: its thread counts, and compiled code kept in `caches` if that is given.

    Of that of this process, it does not inherit FOREIGN_KERNELS.
    """
    added = {
        name: str(threads)
        for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
    }
    added["VECLIB_MAXIMUM_THREADS"] = str(threads)
    if hasattr(os, "sched_getaffinity"):
        available = sorted(os.sched_getaffinity(0))
        if threads < len(available):
            added["BENCHMARKS_CPUS"] = ",".join(map(str, available[-threads:]))
    if caches is not None:
        added["NUMBA_CACHE_DIR"] = str(caches / "numba")
        added["TORCHINDUCTOR_CACHE_DIR"] = str(caches / "inductor")
        added["JAX_COMPILATION_CACHE_DIR"] = str(caches / "jax")
        added["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
        added["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    inherited = {name: value for name, value in os.environ.items() if name not in FOREIGN_KERNELS}
    return {**inherited, **added, "PYTHONPATH": path}


def rest(seconds: float) -> None:
    """Let the threads of the process that ran last go to sleep: idle pools spin for tens of milliseconds."""
    time.sleep(seconds)
