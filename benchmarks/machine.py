"""What the figures were measured on: the machine, the versions, the commit."""

import datetime
import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks.processes import ROOT
from fastbp import memory
from fastbp.machine import cores


def describe() -> dict:
    """JSON-able facts about this machine and this checkout."""
    return {
        "cpu": cpu_model(),
        "cpus": cores(),
        "memory_gib": memory.gib(),
        "load_average": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "system": platform.platform(),
        "python": platform.python_version(),
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": commit(),
    }


def cpu_model() -> str:
    """The processor's name; where only its family is told, that too."""
    facts: dict[str, str] = {}
    if Path("/proc/cpuinfo").exists():
        for line in Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines():
            key, _, value = line.partition(":")
            facts[key.strip()] = value.strip()
    name = facts.get("model name") or platform.processor() or platform.machine()
    if "cpu family" in facts:
        name += f" (family {facts['cpu family']}, model {facts['model']})"
    vectors = [flag for flag in ("avx2", "fma", "avx512f") if flag in facts.get("flags", "").split()]
    return f"{name}, {' '.join(vectors)}" if vectors else name


def commit() -> str:
    """The commit of the checkout, marked where package or benchmarks differ from it."""

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
        return done.stdout.strip() if done.returncode == 0 else ""

    try:
        head = git("rev-parse", "--short=12", "HEAD")
        return f"{head}, modified" if git("status", "--porcelain", "--", "fastbp", "benchmarks/*.py") else head
    except OSError:  # no git
        return ""


def installed() -> dict[str, str]:
    """The versions of all that a contender may need; empty where it is not installed."""
    versions = {}
    for package in ("numpy", "scipy", "numba", "scikit-learn", "torch", "jax"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = ""
    return versions
