"""Faults of the environment: a cache of compiled code that is damaged, full, shared or not to be had; a full disk.

Whatever is wrong, kernels are compiled again or for this process alone, one warning says so, and training goes on.
"""

import contextlib
import ctypes
import importlib.util
import itertools
import json
import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest
from numba.core import config
from numba.core.config import DISABLE_JIT

import fastbp
from fastbp import jitcache

ROOT = Path(__file__).resolve().parent.parent

pytestmark = pytest.mark.skipif(DISABLE_JIT, reason="nothing is compiled with the JIT off")


# --- Damage, in one process: a small function in the place of a kernel


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for the cache, and a module with a function to keep there."""
    (tmp_path / "small.py").write_text("def twice(x):\n    return 2 * x\n")
    monkeypatch.setattr(config, "CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(jitcache, "_warned", False)
    return tmp_path


def fresh(folder: Path) -> Any:
    """`twice`, compiled as the kernels are, as a new process would meet it."""
    spec = importlib.util.spec_from_file_location("small", folder / "small.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return jitcache.use(numba.njit(module.twice))


def files(folder: Path) -> dict[str, Path]:
    """The index and the code of the one function."""
    return {path.suffix: path for path in (folder / "cache").rglob("small.twice*")}


def hits(function: Any) -> int:
    return sum(function.stats.cache_hits.values())


def test_a_second_process_finds_what_the_first_one_kept(folder: Path) -> None:
    first, second = fresh(folder), fresh(folder)
    assert first(2) == 4 and hits(first) == 0
    assert second(3) == 6 and hits(second) == 1


def damages(content: bytes, suffix: str) -> Iterator[bytes]:
    """Cut short in many places and about the ends; zeros; foreign pickles; one byte in the middle of an index."""
    for length in sorted({0, 1, 2, 10, len(content) - 1, *range(0, len(content), max(50, len(content) // 12))}):
        yield content[:length]
    yield bytes(len(content))
    yield b"\x80\x04N."  # None
    yield b"\x80\x04cfastbp.kernels\nnot_there_any_more\n."  # as another version of the package would leave it
    if suffix == ".nbi":  # machine code with another byte is damage that nobody could see
        yield content[: len(content) // 2] + b"\xff" + content[len(content) // 2 + 1 :]


@pytest.mark.parametrize("suffix", [".nbi", ".nbc"])
def test_a_damaged_file_is_compiled_again_and_mended(folder: Path, suffix: str) -> None:
    assert fresh(folder)(2) == 4
    good = {path: path.read_bytes() for path in files(folder).values()}
    damaged = files(folder)[suffix]
    n = 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nothing to say: the damage is gone when the process ends
        for n, content in enumerate(damages(good[damaged], suffix), start=1):  # noqa: B007
            for path, kept in good.items():
                path.write_bytes(kept)
            damaged.write_bytes(content)
            again = fresh(folder)
            assert again(2) == 4, content[:40]
            after = fresh(folder)
            assert after(2) == 4 and hits(after) == 1, content[:40]
    assert n > 12


def test_code_that_is_missing_is_compiled_again(folder: Path) -> None:
    assert fresh(folder)(2) == 4
    files(folder)[".nbc"].unlink()
    again = fresh(folder)
    assert again(2) == 4 and hits(again) == 0
    shutil.rmtree(folder / "cache")
    assert fresh(folder)(2) == 4


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), PermissionError(13, "Permission denied")])
def test_what_cannot_be_written_is_said_once(folder: Path, monkeypatch: pytest.MonkeyPatch, error: OSError) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr("numba.core.caching.IndexDataCacheFile._open_for_write", refuse)
    with pytest.warns(RuntimeWarning, match=r"cannot be used .*Set NUMBA_CACHE_DIR to a folder") as said:
        assert fresh(folder)(2) == 4
        assert fresh(folder)(2) == 4
    assert len(said) == 1


def test_a_process_without_any_folder_goes_without(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: Any) -> None:
        raise RuntimeError("cannot cache function: no locator available")

    monkeypatch.setattr(jitcache, "ForgivingCache", none)
    with pytest.warns(RuntimeWarning, match=r"there is no folder for the cache") as said:
        assert fresh(folder)(2) == 4 and fresh(folder)(3) == 6
    assert len(said) == 1


def test_ctrl_c_in_a_callback_of_the_compiler_is_not_lost(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """LLVM calls back through ctypes, from where no exception gets out: Python would only report it."""
    usual, save = sys.unraisablehook, jitcache.FunctionCache.save_overload

    @ctypes.CFUNCTYPE(None)
    def callback() -> None:
        raise raised

    def save_and_call_back(self: Any, *arguments: Any) -> None:
        callback()
        save(self, *arguments)

    monkeypatch.setattr(jitcache.FunctionCache, "save_overload", save_and_call_back)
    reported: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", reported.append)
    raised: BaseException = KeyboardInterrupt()
    function = fresh(folder)
    with pytest.raises(KeyboardInterrupt):
        function(2)
    assert function(2) == 4 and not reported  # compiled, and not interrupted again
    assert sys.unraisablehook == reported.append
    raised = ValueError()  # any other is reported as ever
    assert function(2.5) == 5 and [each.exc_type for each in reported] == [ValueError]
    reported.clear()
    monkeypatch.undo()
    assert sys.unraisablehook is usual


# --- Whole processes

# Runs two of the kernels, and tells what was said, and what came from the cache.
USE_KERNELS = """
import json, warnings
import numpy as np
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    from fastbp import kernels
    dense, counts, middles = np.array([0.0, 2, 3, 0, 0, 6]), np.zeros(2, np.int64), np.zeros(2, np.int64)
    kernels.count_nonzeros(dense, 2, 3, counts)
    kernels.find_middles(np.array([0, 2]), np.array([2, 3]), np.array([1, 2, 2], np.int32), 2, middles)
np.testing.assert_array_equal(counts, [2, 1])
np.testing.assert_array_equal(middles, [1, 2])
stats = [kernel.stats for kernel in (kernels.count_nonzeros, kernels.find_middles)]
print(json.dumps({
    "said": [str(warning.message) for warning in said],
    "hits": sum(sum(stat.cache_hits.values()) for stat in stats),
}))
"""


def start(root: Path = ROOT, **environment: str | None) -> subprocess.Popen:
    """A process that uses kernels; a variable that is None is not set there."""
    variables = {**os.environ, "PYTHONPATH": str(root), **environment}
    return subprocess.Popen(
        [sys.executable, "-c", USE_KERNELS],
        env={name: value for name, value in variables.items() if value is not None},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=root,
    )  # fmt: skip


def result(process: subprocess.Popen) -> dict[str, Any]:
    out, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert not errors
    return json.loads(out)


def test_two_processes_fill_one_cache_at_once(tmp_path: Path) -> None:
    cache = {"NUMBA_CACHE_DIR": str(tmp_path)}
    processes = [start(**cache) for _ in range(3)]
    for process in processes:
        process.wait(120)
    assert not any(result(process)["said"] for process in processes)
    assert result(start(**cache))["hits"] == 2


def install(folder: Path) -> Path:
    """A copy of the package in which nothing can be written beside the modules, not even by root."""
    shutil.copytree(ROOT / "fastbp", folder / "fastbp", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "fastbp" / "__pycache__").write_text("a file in the place of the folder")
    return folder


def test_a_read_only_install_keeps_its_code_at_home(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    variables = {"NUMBA_CACHE_DIR": None, "HOME": str(home), "XDG_CACHE_HOME": None}
    root = install(tmp_path / "site")
    first, second = result(start(root, **variables)), result(start(root, **variables))
    assert first == {"said": [], "hits": 0} and second["hits"] == 2
    assert any(home.rglob("*.nbc"))


@pytest.mark.parametrize("home", [None, "/proc/no/such/folder"])
def test_a_read_only_install_without_a_home(tmp_path: Path, home: str | None) -> None:
    if home is None and (not hasattr(os, "getuid") or _user_s_home_is_real()):
        pytest.skip("without HOME the system still knows a home folder, and it can be written")
    variables = {"NUMBA_CACHE_DIR": None, "HOME": home, "XDG_CACHE_HOME": None}
    found = result(start(install(tmp_path), **variables))
    (said,) = found["said"]
    assert said.startswith("there is no folder for the cache of compiled code") and "NUMBA_CACHE_DIR" in said


def _user_s_home_is_real() -> bool:
    import pwd

    return os.access(pwd.getpwuid(os.getuid()).pw_dir, os.W_OK)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder in which nobody can write")
def test_a_cache_folder_that_cannot_be_written() -> None:
    assert not result(start(NUMBA_CACHE_DIR="/proc/self/cache"))["said"]  # Numba takes the package's own


# --- A full disk


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB; only root can have one."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = shutil.which("mount")
    options = ("-t", "tmpfs", "-o", "size=256k,mode=0777", "tmpfs", str(place))
    if mount is None or sys.platform != "linux" or os.getuid() != 0:
        pytest.skip("only root can mount a small file system")
    if subprocess.run([mount, *options], capture_output=True, check=False).returncode:
        pytest.skip("this root may not mount a file system")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(disk: Path) -> Path:
    """Write until nothing more fits."""
    filler = disk / "filler"
    with contextlib.suppress(OSError), open(filler, "wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    return filler


def test_a_full_disk_keeps_no_code_and_trains_all_the_same(small_disk: Path) -> None:
    filler = fill(small_disk)
    found = result(start(NUMBA_CACHE_DIR=str(small_disk)))
    (said,) = found["said"]
    assert "compiled anew in every process" in said
    filler.unlink()
    assert not result(start(NUMBA_CACHE_DIR=str(small_disk)))["said"]
    assert result(start(NUMBA_CACHE_DIR=str(small_disk)))["hits"] == 2


def test_a_full_disk_keeps_the_old_model(small_disk: Path) -> None:
    path = small_disk / "a.model"
    old = fastbp.Network([20, 10], seed=0)
    old.save(path)
    filler = fill(small_disk)
    with pytest.raises(OSError, match="No space left on device") as caught:
        fastbp.Network([100, 100], seed=1).save(path)
    assert caught.value.filename == str(path)
    assert sorted(small_disk.iterdir()) == [path, filler]  # no stray file
    np.testing.assert_array_equal(fastbp.load(path).weights[0], old.weights[0])
    filler.unlink()
    fastbp.Network([100, 100], seed=1).save(path)
    assert fastbp.load(path).sizes == [100, 100]


def test_a_disk_that_fills_up_while_saving(small_disk: Path) -> None:
    """The new model fits in part: 128 KB of it into the 100 KB that are left."""
    path = small_disk / "a.model"
    fastbp.Network([100, 100], seed=0).save(path)
    (small_disk / "other").write_bytes(bytes(70_000))
    old = path.read_bytes()
    for _ in range(2):
        with pytest.raises(OSError, match="No space left on device"):
            fastbp.Network([160, 100], seed=1).save(path)
        assert path.read_bytes() == old
        assert sorted(each.name for each in small_disk.iterdir()) == ["a.model", "other"]


def test_every_damage_is_another() -> None:
    content = bytes(range(256)) * 3
    made = list(damages(content, ".nbi"))
    assert all(damaged != content for damaged in made)
    assert all(a != b for a, b in itertools.pairwise(made))
