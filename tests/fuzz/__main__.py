"""The long run of the fuzzers: `python tests/fuzz --seconds 300`, one loader after another, with Atheris.

What they find, inputs that crash or take too long, is left in --found; what they looked at is added up in
tests/results/fuzz.json, run by run, from which docs/reliability.md is made. New inputs that reach new code are kept in
--grown (not in the repository), so that the next run starts from there.
"""

import argparse
import datetime
import json
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from fuzz.corpus import folder  # noqa: E402  after the path
from fuzz.targets import TARGETS  # noqa: E402

RESULTS = HERE.parent / "results" / "fuzz.json"


def run(name: str, seconds: int, grown: Path, found: Path, seed: int) -> dict:
    """Fuzz one loader: how many inputs in how many seconds, and the files that were found."""
    (grown / name).mkdir(parents=True, exist_ok=True)
    found.mkdir(parents=True, exist_ok=True)
    before = set(found.iterdir())
    command = [
        sys.executable, str(HERE / "harness.py"), name, f"-max_total_time={seconds}", f"-seed={seed}", "-timeout=10",
        "-rss_limit_mb=1024", "-max_len=4096", "-print_final_stats=1", f"-artifact_prefix={found}/{name}-",
        str(grown / name), str(folder(name)),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    runs = re.search(r"stat::number_of_executed_units: +(\d+)", done.stderr)
    took = re.search(r"Done \d+ runs in (\d+) second", done.stderr)
    new = sorted(path.name for path in set(found.iterdir()) - before)
    if runs is None or (done.returncode and not new):
        sys.exit(f"{name}: the harness failed\n{done.stderr[-3000:]}")
    if new:
        print(done.stdout[-3000:], done.stderr[-1000:])
    return {"inputs": int(runs[1]), "seconds": int(took[1]) if took else seconds, "found": new}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--loader", choices=TARGETS, action="append", help="this one only (again for more)")
    parser.add_argument("--seconds", type=int, default=300, help="for each loader")
    parser.add_argument("--seed", type=int, default=0, help="of libFuzzer; 0 draws one")
    parser.add_argument("--grown", type=Path, default=HERE / "grown", help="where inputs for new code are kept")
    parser.add_argument("--found", type=Path, default=HERE / "found", help="where inputs that did harm are kept")
    parser.add_argument("--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    harm = False
    for name in arguments.loader or TARGETS:
        result = run(name, arguments.seconds, arguments.grown.resolve(), arguments.found.resolve(), arguments.seed)
        print(f"{name}: {result['inputs']:,} inputs in {result['seconds']} s, {len(result['found'])} found", flush=True)
        harm |= bool(result["found"])
        record(arguments.output, name, result)
    sys.exit(1 if harm else 0)


def record(path: Path, name: str, result: dict) -> None:
    """Add a run to what was there: inputs and seconds add up, and what was found stays named."""
    content = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"loaders": {}}
    entry = content["loaders"].setdefault(name, {"inputs": 0, "seconds": 0, "runs": 0, "found": []})
    entry["inputs"] += result["inputs"]
    entry["seconds"] += result["seconds"]
    entry["runs"] += 1
    entry["found"] = sorted({*entry["found"], *result["found"]})
    content["atheris"] = version("atheris")
    content["last"] = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d")
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
