"""The soak: networks of random shapes are fitted, saved, loaded and asked, again and again, and the memory is watched.

    python tests/soak.py --minutes 20 --plot docs/images/soak.png

The resident memory of the process is sampled after each round. After a warm-up, in which everything is compiled and the
allocators have seen the largest shapes, it must not grow: the slope of a line through the samples, that is robust to
single ones (Theil and Sen), is held to `--limit` MB in ten minutes. Files and temporary files, threads and open
descriptors are counted too. The result goes to tests/results/soak.json, from which docs/reliability.md is made.
"""

import argparse
import contextlib
import datetime
import gc
import json
import os
import sys
import tempfile
import threading
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse, stats

import fastbp
from fastbp import machine

RESULTS = Path(__file__).parent / "results" / "soak.json"
WARM_UP = 0.25  # of the time

OUTPUTS = {"sigmoid": "cross_entropy", "softmax": "log_likelihood", "identity": "quadratic", "tanh": "quadratic"}
HIDDEN = ("sigmoid", "tanh", "relu", "leaky_relu", "softplus", "gelu", "silu", "identity")
OPTIMIZERS = (
    lambda: fastbp.SGD(0.01), lambda: fastbp.SGD(0.01, momentum=0.9),
    lambda: fastbp.SGD(0.01, momentum=0.9, nesterov=True), lambda: fastbp.SGDW(0.01, momentum=0.9),
    lambda: fastbp.Adagrad(0.01), lambda: fastbp.RMSprop(0.001), lambda: fastbp.Adam(0.001),
    lambda: fastbp.AdamW(0.001),
)  # fmt: skip


def one_round(rng: np.random.Generator, folder: Path) -> None:
    """A network of a random kind: fit, save, load, predict; the loaded one must answer what the fitted one does."""
    sizes = [int(rng.integers(1, 60)) for _ in range(rng.integers(2, 6))]
    sizes[-1] = int(rng.integers(2, 12))
    output = str(rng.choice(list(OUTPUTS)))
    hidden = [str(rng.choice(HIDDEN)) for _ in sizes[1:-1]]
    neurons = {(2, 0): "tanh"} if rng.random() < 0.2 and len(sizes) > 2 else None
    net = fastbp.Network(
        sizes, hidden=hidden, output=output, cost=OUTPUTS[output], neurons=neurons, initializer="scaled",
        dtype=str(rng.choice(["float32", "float64"])), engine=str(rng.choice(["auto", "matrix", "fused", "reference"])),
        seed=int(rng.integers(2**31)),
    )  # fmt: skip
    n = int(rng.integers(1, 300))
    X: Any = rng.standard_normal((n, sizes[0])) * (rng.random((n, sizes[0])) < rng.choice([0.1, 1.0]))
    y = rng.integers(0, sizes[-1], n)
    if rng.random() < 0.2:
        X = sparse.csr_matrix(X)
    with contextlib.suppress(fastbp.DivergenceError):  # some of these networks do; the last finite parameters are kept
        net.fit(
            X, y, epochs=int(rng.integers(1, 4)), batch_size=int(rng.integers(1, 40)),
            optimizer=OPTIMIZERS[rng.integers(len(OPTIMIZERS))](), lmbda=float(rng.choice([0.0, 0.1])), verbose=False,
            validation_data=(X, y) if rng.random() < 0.3 else None,
        )  # fmt: skip
    path = folder / f"{rng.integers(5)}.model"
    net.save(path)
    with np.errstate(over="ignore", invalid="ignore"):  # the last finite parameters before a divergence are huge
        np.testing.assert_array_equal(fastbp.load(path).outputs(X), net.outputs(X))
    if rng.random() < 0.1:
        one_fault(rng, net, X, path)


def one_fault(rng: np.random.Generator, net: fastbp.Network, X: Any, path: Path) -> None:
    """What goes wrong must not leak either: bad data, a divergence, a damaged file."""
    for do, error in (
        (lambda: net.predict(np.full((1, net.sizes[0]), np.nan)), ValueError),
        (lambda: net.fit(X, np.full(X.shape[0], -1), epochs=1, eta=0.1), ValueError),
        (lambda: fastbp.load(_damaged(rng, path)), fastbp.ModelFileError),
    ):
        try:
            do()
        except error:
            continue
        raise AssertionError(f"{error.__name__} was expected")


def _damaged(rng: np.random.Generator, path: Path) -> Path:
    content = bytearray(path.read_bytes())
    content[rng.integers(len(content))] ^= 1
    damaged = path.with_suffix(".damaged")
    damaged.write_bytes(content)
    return damaged


def rss() -> int:
    """Resident memory of this process in bytes."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def soak(seconds: float, seed: int) -> dict[str, Any]:
    """Rounds for so long; the samples of time and memory, and what there was at the start and is at the end."""
    rng, times, memory, rounds = np.random.default_rng(seed), [], [], 0
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="fastbp-soak-") as name:
        folder = Path(name)
        at_warm: tuple[int, int] | None = None
        while (elapsed := time.perf_counter() - began) < seconds:
            one_round(rng, folder)
            rounds += 1
            if at_warm is None and elapsed > WARM_UP * seconds:
                at_warm = descriptors(), threading.active_count()
            if not times or elapsed - times[-1] > seconds / 400:
                gc.collect()
                times.append(elapsed)
                memory.append(rss())
        strays = sorted(path.name for path in folder.iterdir() if path.suffix not in (".model", ".damaged"))
        at_end = descriptors(), threading.active_count()
    return {
        "rounds": rounds, "seconds": time.perf_counter() - began, "seed": seed, "times": times, "rss": memory,
        "descriptors": [at_warm and at_warm[0], at_end[0]], "threads": [at_warm and at_warm[1], at_end[1]],
        "strays": strays,
    }  # fmt: skip


def growth(times: list[float], memory: list[int]) -> tuple[float, float]:
    """(MB in ten minutes, the same at the upper end of its 95 % interval) after the warm-up."""
    t, m = np.array(times), np.array(memory) / 1e6
    kept = t >= WARM_UP * t[-1]
    slope, _, _, high = stats.theilslopes(m[kept], t[kept])
    return float(600 * slope), float(600 * high)


def draw(result: dict[str, Any], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.2), layout="constrained")
    whole, after = figure.subplots(1, 2)
    minutes, memory = np.array(result["times"]) / 60, np.array(result["rss"]) / 1e6
    kept = minutes >= WARM_UP * minutes[-1]
    whole.plot(minutes, memory, lw=1, color="#0b4fb3")
    whole.axvspan(0, WARM_UP * minutes[-1], color="#eeeeee", zorder=0, label="warm-up")
    whole.legend(loc="lower right", frameon=False)
    whole.set_ylim(0, 1.15 * memory.max())
    whole.set_title(f"resident memory, MB; {result['rounds']:,} rounds", fontsize=10, loc="left")
    after.plot(minutes[kept], memory[kept] - memory[kept][0], lw=1, color="#0b4fb3")
    after.set_ylim(-1, max(2.0, 1.2 * (memory[kept] - memory[kept][0]).max()))
    slope = result["growth_mb_in_10_minutes"]
    after.set_title(f"growth after the warm-up, MB: {slope:+.2f} in ten minutes", fontsize=10, loc="left")
    for axes in (whole, after):
        axes.set_xlabel("minutes")
        axes.grid(alpha=0.25)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    figure.savefig(path, dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=float, default=1.0, help="MB of growth in ten minutes")
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--plot", type=Path, help="draw the memory there (needs matplotlib)")
    arguments = parser.parse_args()
    warnings.simplefilter("error")
    result = soak(60 * arguments.minutes, arguments.seed)
    slope, high = growth(result["times"], result["rss"])
    result |= {
        "growth_mb_in_10_minutes": slope, "upper_end": high, "limit": arguments.limit, "fastbp": fastbp.__version__,
        "machine": f"{machine.cpu_name()}, {machine.cores()} cores",
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
    }  # fmt: skip
    result["times"] = [round(t, 1) for t in result["times"]]
    arguments.output.write_text(json.dumps(result) + "\n", encoding="utf-8")
    if arguments.plot is not None:
        draw(result, arguments.plot)
    print(
        f"{result['rounds']:,} rounds in {result['seconds'] / 60:.1f} minutes, {slope:+.2f} MB in ten minutes "
        f"(at most {high:+.2f}); descriptors {result['descriptors']}, threads {result['threads']}, "
        f"stray files {result['strays']}"
    )
    leaks = result["descriptors"][1] > result["descriptors"][0] or result["threads"][1] > result["threads"][0]
    if slope > arguments.limit or leaks or result["strays"]:
        sys.exit("something grows")


if __name__ == "__main__":
    main()
