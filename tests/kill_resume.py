"""Kill a training run with SIGKILL at random moments, resume it, and compare the end with that of a run left alone.

    python tests/kill_resume.py --kills 300 --json docs/kill-resume.json --page docs/checkpoints.md     # minutes
    python tests/kill_resume.py --kills 12                                    # what the tests run, some seconds

After each kill the checkpoint that is there is resumed to the end in a process of its own, and parameters, history and
all random streams must equal the uninterrupted run's to the last bit; then the killed run goes on, to be killed again.
Half of the kills come from outside after a random time; the others come from within, at a random request to the
operating system, so that many fall into the middle of a save (of a write, half is written). Exit code 1 if anything
differs.
"""

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import textwrap
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import fastbp
from fastbp import identity, resuming, safefile

ENGINES = ("fused", "matrix", "reference")
N, EPOCHS, BATCH_SIZE = 120, 12, 6


def lesson() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(N, 8)) * (rng.random((N, 8)) < 0.7)
    return X, np.argmax(X[:, :3] + 0.5 * X[:, 3:6], axis=1)


class Remembers:
    """A callback with a state, which draws from the global streams."""

    def __init__(self) -> None:
        self.drawn: list[float] = []

    def on_epoch_end(self, network: Any, record: dict[str, Any]) -> None:
        self.drawn.append(random.random() + np.random.rand())

    def state(self) -> dict[str, Any]:
        return {"drawn": list(self.drawn)}

    def restore(self, state: dict[str, Any]) -> None:
        self.drawn = list(state["drawn"])


def train(engine: str, when: dict[str, Any] | None, path: Path, resume: Path | None) -> str:
    """Train with everything on that has a state; the SHA-256 of all that must come out equal."""
    random.seed(4), np.random.seed(4)
    X, y = lesson()
    net, callback = fastbp.Network([8, 7, 3], engine=engine, seed=1), Remembers()
    history = net.fit(
        X, y, epochs=EPOCHS, batch_size=BATCH_SIZE, lmbda=0.1, dropout=0.2,
        optimizer=fastbp.Adam(fastbp.WarmUp(fastbp.HalveWhenStuck(0.01, patience=2), 30, by="step")),
        validation_fraction=0.2, early_stopping=fastbp.EarlyStopping("validation_cost", patience=8),
        callbacks=[callback], checkpoint=None if when is None else fastbp.Checkpoint(path, **when), resume=resume,
    )  # fmt: skip
    records = [{k: repr(v) for k, v in record.items() if "second" not in k} for record in history.epochs]
    assert net._rng is not None
    rest = [history.ended, history.best_epoch, callback.drawn, random.random(), np.random.rand(), net._rng.random()]
    digest = hashlib.sha256(b"".join(a.tobytes() for a in (*net.biases, *net.weights)))
    digest.update(repr((records, rest)).encode())
    return digest.hexdigest()


def fork(action: Callable[[], str], answer: Path) -> int:
    """A process that leaves what `action` returns in the file `answer`."""
    answer.unlink(missing_ok=True)
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        answer.write_text(action())
        code = 0
    finally:
        os._exit(code)


def in_a_process(action: Callable[[], str], answer: Path) -> str:
    """What `action` returns, computed by a process of its own."""
    _, status = os.waitpid(fork(action, answer), 0)
    return answer.read_text() if status == 0 else f"failed with status {status}"


class Deadly(safefile.FileSystem):
    """The file system of a process that dies at its request number `left`, in the middle of it if that is a write."""

    def __init__(self, left: int) -> None:
        self.left = left


def _deadly(name: str) -> Callable[..., Any]:
    plain = getattr(safefile.FileSystem, name)

    def request(self: Deadly, *arguments: Any) -> Any:
        if self.left == 0:
            if name == "write":
                plain(self, arguments[0], arguments[1][: len(arguments[1]) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        self.left -= 1
        return plain(self, *arguments)

    return request


for _name in [name for name in vars(safefile.FileSystem) if not name.startswith("_")]:
    setattr(Deadly, _name, _deadly(_name))


def campaign(engine: str, kills: int, seed: int, folder: Path) -> Counter[str]:
    """Kill runs in this engine so many times; counts of what was killed where, and of what came out."""
    draw, found = random.Random(seed), Counter[str]()
    path, copy, answer = folder / "run.checkpoint", folder / "copy", folder / "answer"
    train(engine, None, path, None)  # what is compiled is there for all forks
    began = time.perf_counter()
    expected = in_a_process(lambda: train(engine, None, path, None), answer)
    whole = time.perf_counter() - began
    assert len(expected) == 64, expected
    found.update({"differing": 0, "strays that stayed": 0})
    when: dict[str, Any] = {}
    while found["kills"] < kills:
        if not path.exists():
            options = [{"every_batches": draw.randint(1, 9)}, {"every_epochs": 1}, {"every_seconds": 0.002}]
            when = draw.choice(options)
        from_within = draw.random() < 0.5
        at = draw.randrange(3, 120)

        def live(from_within: bool = from_within, at: int = at, when: dict[str, Any] = when) -> str:
            if from_within:
                safefile._files = Deadly(at)
            return train(engine, when, path, path if path.exists() else None)

        child = fork(live, answer)
        if not from_within:
            time.sleep(draw.uniform(0, 2 * whole))
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):
            found["runs completed"] += 1
            found["differing"] += answer.read_text() != expected if status == 0 else 1
            path.unlink(missing_ok=True)
            continue
        found["kills"] += 1
        found["from within"] += from_within
        strays = list(folder.glob(".run.checkpoint.*.tmp"))
        found["in mid-save"] += bool(strays)
        if not path.exists():  # killed before the first save was over
            found["before the first checkpoint"] += 1
            continue
        shutil.copy(path, copy)
        run = resuming.load(path).state["run"]  # this also removes what a killed save left
        found["strays that stayed"] += len(list(folder.glob(".run.checkpoint.*.tmp")))
        found["resumed in mid-epoch"] += run["batch"] > 0
        end = in_a_process(lambda: train(engine, None, path, copy), answer)
        found["resumed"] += 1
        found["differing"] += end != expected
    return found


MARKS = "<!-- kills:begin -->\n", "<!-- kills:end -->"


def paragraph(counts: dict[str, Any]) -> str:
    """What docs/checkpoints.md says of the counts."""
    engines = counts["engines"]
    total = Counter[str]()
    for found in engines.values():
        total.update(found)
    text = (
        f"`tests/kill_resume.py` kills training with SIGKILL at random moments, with Adam, a schedule, early "
        f"stopping, dropout, L2, and a callback with a state. The last long run: "
        f"{counts['kills']} kills ({', '.join(sorted(engines))}), {total['in mid-save']} of them in mid-save; "
        f"{total['resumed']} resumed to the end, {total['resumed in mid-epoch']} of these from mid-epoch; "
        f"{counts['differing']} ended in other bits, and {total['strays that stayed']} stray files stayed. Counts: "
        f"[kill-resume.json](kill-resume.json)."
    )
    return textwrap.fill(text, 120, break_on_hyphens=False) + "\n"


def write_page(page: Path, counts: dict[str, Any]) -> None:
    text = page.read_text(encoding="utf-8")
    before, rest = text.split(MARKS[0])
    _, after = rest.split(MARKS[1])
    page.write_text(f"{before}{MARKS[0]}{paragraph(counts)}{MARKS[1]}{after}", encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description="Kill training runs, resume them, compare.")
    parser.add_argument("--kills", type=int, default=300, help="kills in all, over the engines")
    parser.add_argument("--engines", default=",".join(ENGINES), help="fused,matrix,reference")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the counts there, added to those of earlier calls")
    parser.add_argument("--page", type=Path, help="and the paragraph on them there")
    options = parser.parse_args()
    engines = options.engines.split(",")
    before = json.loads(options.json.read_text()) if options.json and options.json.exists() else {"engines": {}}
    for i, engine in enumerate(engines):
        share = options.kills // len(engines) + (i < options.kills % len(engines))
        with tempfile.TemporaryDirectory() as folder:
            found = campaign(engine, share, options.seed + i, Path(folder))
        print(f"{engine}: " + ", ".join(f"{name} {count}" for name, count in sorted(found.items())), flush=True)
        old = Counter(before["engines"].get(engine, {}))
        before["engines"][engine] = {name: old[name] + found[name] for name in {*old, *found}}
        if found["differing"] or found["strays that stayed"]:
            return 1
    if options.json:
        before["versions"] = identity.versions()
        before["kills"] = sum(each["kills"] for each in before["engines"].values())
        before["differing"] = sum(each["differing"] for each in before["engines"].values())
        options.json.write_text(json.dumps(before, indent=2, sort_keys=True, ensure_ascii=False) + "\n")
    if options.page:
        write_page(options.page, before)
    return 0


if __name__ == "__main__":
    sys.exit(main())
