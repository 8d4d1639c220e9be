"""Mutation testing: small mistakes are made in the source, one at a time, and the tests must notice each.

    python tests/mutation.py --sample 300                  # hours; in pieces with --first and --count
    python tests/mutation.py --sample 300 --first 40 --count 20

Cosmic-ray's operators make the mistakes (another sign, another number, a comparison turned round, a loop gone). The
sample is drawn by a seed: lines of all modules first, then a mistake in each. It is made in a copy of the repository
and runs with the JIT off, where the kernels' plain twins stand for them, against the test files that belong to its
module. A mistake is killed if they fail or take too long; the survivors stay in the result, to be looked at one by one.
The result is added up in tests/results/mutation.json, from which docs/reliability.md is made.
"""

import argparse
import ast
import difflib
import fcntl
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
RESULTS = Path(__file__).parent / "results" / "mutation.json"

# Which tests judge a module.
MODULES = {
    "kernels": ("test_kernels", "test_ulp", "test_engines", "test_optimizers", "test_regularization", "test_threads"),
    "tables": ("test_tables", "test_fuzz"),
    "datafiles": ("test_datafiles", "test_datasets", "test_fuzz"),
    "data": ("test_network_edges", "test_fit", "test_dropin", "test_regularization", "test_pairs"),
    "container": ("test_container", "test_models", "test_fuzz"),
    "safefile": ("test_container", "test_models", "test_environment"),
    "models": ("test_models", "test_fuzz"),
    "checkpoint": ("test_checkpoint", "test_fuzz"),
    "book/jsonfile": ("test_network2", "test_fuzz"),
    "statetree": ("test_statetree", "test_checkpoint"),
}

# Names whose numbers change how fast or how large, and no result: tiles, crossovers, sizes of pieces.
TUNING = {
    "VECTOR_BYTES", "AHEAD", "_PATIENCE", "PREDICTION_BLOCK", "PREDICTION_FLOPS", "SMALL", "BLOCK", "_CHUNK",
    "HEADER_LIMIT", "DEPTH_LIMIT", "NDIM_LIMIT", "_MAX_LINE", "_MAX_LABEL", "DEFLATE_RATIO",
}  # fmt: skip
# What does not run with the JIT off, as in [tool.coverage.report]: what emits vector code, and what types it.
COMPILED_ONLY_CLASSES = ("_Emitter",)
COMPILED_ONLY_DECORATORS = ("vector_code", "_inside", "intrinsic", "overload")
COMPILED_ONLY_FUNCTIONS = (
    "_bitcast", "_tiles", "_breathe", "_control_register", "_typed", "_vector_bytes", "_compile", "from_python",
)  # fmt: skip


class Mutant(NamedTuple):
    """The `occurrence`-th place where an operator applies in a module, and its line (from 1)."""

    module: str
    operator: str
    occurrence: int
    line: int


def left_out(source: str) -> set[int]:
    """Lines in which a mistake would not show: what is compiled only, tuning, imports, and the wording of messages."""
    lines: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        if _shows_nothing(node):
            lines |= _lines(node)
        for decorator in getattr(node, "decorator_list", []):  # those compile
            lines |= _lines(decorator)
    return lines


def _shows_nothing(node: ast.AST) -> bool:
    match node:
        case ast.ClassDef(name=name):
            return name.startswith(COMPILED_ONLY_CLASSES)
        case ast.FunctionDef(name=name, decorator_list=decorators):
            return name in COMPILED_ONLY_FUNCTIONS or any(map(_is_compiled_only, decorators))
        case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
            return name in TUNING
        case ast.If(test=ast.Name(id="TYPE_CHECKING")) | ast.Import() | ast.ImportFrom() | ast.JoinedStr():
            return True
    return False


def _is_compiled_only(decorator: ast.expr) -> bool:
    called = decorator.func if isinstance(decorator, ast.Call) else decorator
    return isinstance(called, ast.Name) and called.id in COMPILED_ONLY_DECORATORS


def _lines(node: ast.AST) -> set[int]:
    first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))])  # type: ignore[attr-defined]
    return set(range(first, node.end_lineno + 1))  # type: ignore[attr-defined]


def annotations(source: str) -> set[tuple[int, int]]:
    """(line, column) of every place within a type annotation: `int | None` is no arithmetic."""
    places: set[tuple[int, int]] = set()
    for node in ast.walk(ast.parse(source)):
        for part in (getattr(node, "annotation", None), getattr(node, "returns", None)):
            if isinstance(part, ast.expr):
                for inner in ast.walk(part):
                    if isinstance(inner, ast.expr):
                        end = inner.end_col_offset or inner.col_offset
                        places |= {(inner.lineno, column) for column in range(inner.col_offset, end + 1)}
    return places


def every_mutant(module: str) -> Iterator[Mutant]:
    """All mistakes that the operators know for a module, but for lines in which none would show."""
    from cosmic_ray.ast import ast_nodes, get_ast
    from cosmic_ray.plugins import get_operator, operator_names

    source = (ROOT / "fastbp" / f"{module}.py").read_text(encoding="utf-8")
    skipped, types = left_out(source), annotations(source)
    nodes = list(ast_nodes(get_ast(source)))
    for name in sorted(operator_names()):
        if name in ("core/VariableReplacer", "core/VariableInserter", "core/RemoveDecorator"):
            continue  # the first two need names to insert; decorators compile
        operator, occurrence = get_operator(name)(), 0
        for node in nodes:
            for (line, column), _ in operator.mutation_positions(node):
                if line not in skipped and (line, column) not in types:
                    yield Mutant(module, name, occurrence, line)
                occurrence += 1


def sample(count: int, seed: int) -> list[Mutant]:
    """So many mutants, each on a line of its own: lines are drawn first, or those with much arithmetic had them all."""
    rng = random.Random(seed)
    on_line: dict[tuple[str, int], list[Mutant]] = {}
    for module in MODULES:
        for mutant in every_mutant(module):
            on_line.setdefault((module, mutant.line), []).append(mutant)
    lines = sorted(on_line)
    return [rng.choice(on_line[line]) for line in rng.sample(lines, min(count, len(lines)))]


def copy_repository(folder: Path) -> Path:
    """What the tests need, in a place where the source may be spoilt."""
    skip = shutil.ignore_patterns("__pycache__", ".git", "results", "found", "grown", ".hypothesis")
    for name in ("fastbp", "tests", "benchmarks", "docs"):
        shutil.copytree(ROOT / name, folder / name, ignore=skip)
    (folder / "tests" / "results").mkdir()
    for path in (*(ROOT / "tests" / "results").glob("*.json"), ROOT / "pyproject.toml", ROOT / "README.md"):
        shutil.copy(path, folder / path.relative_to(ROOT))
    return folder


def tests_of(module: str, folder: Path) -> tuple[str, ...]:
    return tuple(f"tests/{name}.py" for name in MODULES[module] if (folder / "tests" / f"{name}.py").exists())


def run_tests(folder: Path, files: tuple[str, ...], seconds: float) -> tuple[int | None, float]:
    """(exit code, or None if they took too long; seconds)."""
    environment = {
        **os.environ, "NUMBA_DISABLE_JIT": "1", "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1",
        "FASTBP_FUZZ": "300",
    }  # fmt: skip
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--hypothesis-seed=0", *files]
    began = time.perf_counter()
    try:
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        return None, time.perf_counter() - began
    return done.returncode, time.perf_counter() - began


def judge(mutant: Mutant, folder: Path, seconds: float) -> dict:
    """Make the mistake, run the tests, take it back."""
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator

    path = folder / "fastbp" / f"{mutant.module}.py"
    source = path.read_text(encoding="utf-8")
    changed = mutate_code(source, get_operator(mutant.operator)(), mutant.occurrence)
    assert changed is not None and changed != source, mutant
    path.write_text(changed, encoding="utf-8")
    try:
        code, took = run_tests(folder, tests_of(mutant.module, folder), seconds)
    finally:
        path.write_text(source, encoding="utf-8")
    diff = [
        line for line in difflib.unified_diff(source.splitlines(), changed.splitlines(), lineterm="", n=0)
        if line[:1] in "+-" and line[:3] not in ("+++", "---")
    ]  # fmt: skip
    return {**mutant._asdict(), "outcome": _outcome(code), "seconds": round(took, 1), "diff": diff}


def _outcome(code: int | None) -> str:
    """pytest ends with 1 if a test failed, 2 or 4 if the package could not even be imported; 0 if nobody noticed."""
    if code is None:
        return "timed out"
    if code in (3, 5):
        raise RuntimeError(f"pytest ended with {code}: the tests themselves are at fault")
    return "survived" if code == 0 else "killed"


def check_without_mistake(module: str, folder: Path, seconds: float) -> None:
    """RuntimeError unless the tests of a module pass as it is: else every mistake would look noticed."""
    code, _ = run_tests(folder, tests_of(module, folder), seconds)
    if code != 0:
        raise RuntimeError(f"the tests of {module} fail without any mistake: pytest ended with {code}")


def fingerprint(drawn: list[Mutant]) -> str:
    """Tells samples apart: of other sources, or other modules."""
    return hashlib.sha256(repr(drawn).encode()).hexdigest()[:12]


def record(results: list[dict], drawn: str, arguments: argparse.Namespace) -> None:
    """Put results beside those of other pieces of the same sample (that of this fingerprint)."""
    key = {"sample": arguments.sample, "seed": arguments.seed, "drawn": drawn}
    with open(arguments.output, "a+", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # pieces may run side by side
        file.seek(0)
        content = json.loads(file.read() or "{}")
        old = content["mutants"] if {name: content.get(name) for name in key} == key else []
        mutants = {(m["module"], m["operator"], m["occurrence"]): m for m in (*old, *results)}
        dead = sum(m["outcome"] != "survived" for m in mutants.values())
        content = {
            **key, "cosmic_ray": version("cosmic-ray"), "judged": len(mutants), "killed": dead,
            "score": dead / len(mutants), "mutants": list(mutants.values()),
        }  # fmt: skip
        file.truncate(0)
        file.write(json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sample", type=int, default=300, help="mutants to draw")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="of the sample, where to begin")
    parser.add_argument("--count", type=int, help="how many of them to judge (default: all the rest)")
    parser.add_argument("--timeout", type=float, default=300, help="seconds for one mutant")
    parser.add_argument("--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    drawn = sample(arguments.sample, arguments.seed)
    last = None if arguments.count is None else arguments.first + arguments.count
    with tempfile.TemporaryDirectory(prefix="fastbp-mutation-") as name:
        folder = copy_repository(Path(name))
        for module in sorted({mutant.module for mutant in drawn[arguments.first : last]}):
            check_without_mistake(module, folder, arguments.timeout)
        for i, mutant in enumerate(drawn[arguments.first : last], start=arguments.first):
            result = judge(mutant, folder, arguments.timeout)
            record([result], fingerprint(drawn), arguments)
            where = f"{mutant.module}.py:{mutant.line} {mutant.operator.removeprefix('core/')}"
            print(f"{i:4} {result['outcome']:9} {result['seconds']:6.1f} s  {where}", flush=True)


if __name__ == "__main__":
    main()
