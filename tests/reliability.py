"""Writes docs/reliability.md from the results of the long runs, and from the table of rows below.

    python tests/reliability.py            # after tests/ulp.py, tests/fuzz, tests/soak.py, tests/mutation.py

Each row is an input or a fault, what happens then, and the tests that fail without it. That these tests exist, and that
the page is the one this script writes, is itself tested (tests/test_reliability.py).
"""

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "tests" / "results"
PAGE = ROOT / "docs" / "reliability.md"
SOAK_PLOT = ROOT / "docs" / "images" / "soak.png"


class Row(NamedTuple):
    """An input or fault; what happens; tests as "file::name", the file without test_ and .py."""

    what: str
    happens: str
    tests: tuple[str, ...]


ROWS = (
    Row(
        "NaN or infinity in the inputs or targets",
        "`ValueError` that names the first row and column, in training and in prediction",
        (
            "network_edges::test_not_finite_inputs", "network_edges::test_not_finite_targets",
            "network_edges::test_sparse_rows", "network_edges::test_not_finite_parameters_are_refused_before_training",
        ),
    ),
    Row(
        "training diverges",
        "`DivergenceError` with epoch and mini-batch, within one run of a tenth of a second; the last finite "
        "parameters stay",
        (
            "network_edges::test_divergence_names_the_mini_batch_and_keeps_the_last_finite_parameters",
            "network_edges::test_divergence_found_at_the_end_of_a_run_is_traced_to_its_mini_batch",
            "fit::test_divergence_publishes_what_was_good",
        ),
    ),
    Row(
        "a weighted input far beyond ±700",
        "the right sigmoid, without a warning",
        (
            "network_edges::test_saturated_neurons",
            "network_edges::test_an_underflow_is_no_error_where_a_user_lets_every_one_raise",
            "kernels::test_special_arguments", "kernels::test_infinity",
        ),
    ),
    Row(
        "labels that are negative, too large, or no whole numbers",
        "`ValueError` before anything compiled runs",
        (
            "network_edges::test_labels_outside_the_range", "network_edges::test_labels_beyond_int64",
            "network_edges::test_labels_of_one_output",
        ),
    ),
    Row(
        "labels as strings, floats, objects, bools",
        "the documented encoding, or an error that says which is wrong",
        (
            "fit::test_labels_of_every_form_are_the_same_labels", "fit::test_named_labels",
            "network_edges::test_targets_that_cannot_be_read",
        ),
    ),
    Row(
        "no examples, no features, one example, one class",
        "an error; an error; works; works",
        (
            "network_edges::test_no_examples", "network_edges::test_no_features",
            "network_edges::test_one_example_one_class_one_neuron",
        ),
    ),
    Row(
        "batch sizes 0, negative, larger than the data; a last mini-batch that is not full",
        "an error; an error; one batch; it divides by its own length",
        (
            "network_edges::test_batch_sizes_that_are_none",
            "network_edges::test_a_batch_larger_than_the_data_is_one_batch",
            "engines::test_a_batch_may_be_longer_than_the_data", "engines::test_one_step_is_the_rule_of_the_book",
        ),
    ),
    Row(
        "memory of every layout: Fortran order, strides, either byte order, read-only, memory maps",
        "the same result, and the caller's arrays untouched",
        ("network_edges::test_memory_of_every_kind", "engines::test_what_is_given_is_left_alone"),
    ),
    Row(
        "other number types; complex and masked arrays",
        "a documented cast to the network's dtype, never a wider one; refused",
        (
            "network_edges::test_real_numbers_of_every_type_are_cast",
            "network_edges::test_what_is_no_real_number_is_refused", "fit::test_float32_stays_float32",
        ),
    ),
    Row(
        "shapes that do not fit the network",
        "an error with both shapes and what to do",
        ("network_edges::test_shapes_of_inputs", "network_edges::test_shapes_of_pairs"),
    ),
    Row(
        "sizes beyond the memory",
        "counted in Python integers first, and refused with the figure",
        ("network_edges::test_sizes", "network_edges::test_mini_batches_beyond_memory"),
    ),
    Row(
        "Ctrl-C during a long fit, or while kernels are compiled",
        "training stops within half a second (0.15 to 0.26 s were measured in a compilation), after whole "
        "mini-batches, and the network can be used and trained on",
        (
            "fit::test_ctrl_c_in_a_compiled_run",
            "fit::test_an_interrupt_within_a_mini_batch_leaves_whole_mini_batches",
            "processes::test_ctrl_c_while_compiling_and_two_threads_that_compile",
            "environment::test_ctrl_c_in_a_callback_of_the_compiler_is_not_lost",
        ),
    ),
    Row(
        "two threads fit two networks at once",
        "both learn what each learns alone, bit for bit",
        (
            "at_once::test_networks_in_many_threads_learn_what_each_learns_alone",
            "engines::test_other_threads_change_no_bit",
            "processes::test_ctrl_c_while_compiling_and_two_threads_that_compile",
        ),
    ),
    Row(
        "fork after a fit, spawned and loky workers, pickles",
        "workers train what one process trains, bit for bit",
        (
            "processes::test_workers_train_what_one_process_trains",
            "processes::test_a_pickle_is_the_same_network_and_goes_on_with_the_same_numbers",
            "at_once::test_a_fork_after_a_fit_can_train_even_if_a_thread_held_the_lock",
        ),
    ),
    Row(
        "the cache of compiled code is damaged, read-only, missing, full or filled by two processes; no HOME",
        "kernels are compiled again, or for this process alone, and one warning says so",
        (
            "environment::test_a_damaged_file_is_compiled_again_and_mended",
            "environment::test_what_cannot_be_written_is_said_once",
            "environment::test_a_read_only_install_keeps_its_code_at_home",
            "environment::test_a_read_only_install_without_a_home",
            "environment::test_two_processes_fill_one_cache_at_once",
            "environment::test_a_full_disk_keeps_no_code_and_trains_all_the_same",
        ),
    ),
    Row(
        "a kill at any moment of a training with checkpoints",
        "the newest complete checkpoint loads, and the run goes on to the same bits",
        (
            "checkpoint::test_a_few_kills", "checkpoint::test_goes_on_from_any_mini_batch",
            "checkpoint::test_where_a_run_is_cut_changes_no_bit",
        ),
    ),
    Row(
        "a full disk, missing rights, or a kill during a save",
        "an error that says what to do; the old file still loads; nothing is left behind at the next start",
        (
            "container::test_a_save_that_fails_keeps_the_old_file", "container::test_killed_at_any_moment",
            "container::test_a_disk_that_fills_up_at_any_byte", "environment::test_a_full_disk_keeps_the_old_model",
            "environment::test_a_disk_that_fills_up_while_saving", "cli::test_a_file_that_must_not_be_written_to",
        ),
    ),
    Row(
        "a model or checkpoint cut short at any byte, or with any bit flipped",
        "refused, with the reason",
        (
            "container::test_truncated_at_every_byte", "container::test_every_bit_flipped",
            "checkpoint::test_truncated_at_every_byte", "checkpoint::test_every_bit_flipped",
        ),
    ),
    Row(
        "a hostile model: huge shapes, keys twice, a pickle, unknown names",
        "refused before memory is taken; nothing in a file is imported, evaluated or looked up by getattr",
        (
            "container::test_hostile_tensors_take_no_memory", "container::test_hostile_metadata",
            "container::test_a_pickle_is_not_run", "models::test_hostile_metadata",
            "checkpoint::test_hostile_checkpoints",
            "fuzz::test_damaged_files_are_read_as_promised_or_refused",
        ),
    ),
    Row(
        "an IDX file whose header lies; a gzip bomb",
        "refused; no more is read than the header allows",
        (
            "datafiles::test_every_truncation_is_refused", "datafiles::test_every_flipped_bit_of_the_header_is_refused",
            "datafiles::test_a_gzip_bomb_is_read_no_further_than_its_header_allows",
        ),
    ),
    Row(
        "CSV that is ragged, has a byte-order mark, a header, 1e999",
        "read where it can be; else an error with the number of the line",
        ("tables::test_the_error_names_the_line", "tables::test_dialects"),
    ),
    Row(
        "a pickle offered as data",
        "never opened: refused with advice",
        (
            "datafiles::test_a_pickle_is_never_opened", "tables::test_a_pickle_is_refused_by_every_reader",
            "mnist_loader::test_the_books_own_pickle_is_refused",
        ),
    ),
    Row(
        "a download with a wrong checksum",
        "refused, and removed",
        ("datasets::test_a_wrong_checksum_is_refused_and_the_file_removed",),
    ),
    Row(
        "more threads asked for than there are cores; BLAS threads within workers",
        "capped, with a note; workers keep to their share; pools are as they were after any run",
        (
            "bench::test_threads", "processes::test_blas_in_joblib_s_workers_keeps_to_their_share",
            "processes::test_pools_are_as_they_were_after_a_run",
            "at_once::test_pools_are_put_back_by_the_last_of_two_that_overlap",
        ),
    ),
)  # fmt: skip


def read(path: Path) -> dict[str, Any] | None:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def page() -> str:
    """The whole page. Of a long run without a result it says that there is none."""
    parts = [INTRODUCTION, _rows(), _ulp(read(RESULTS / "ulp.json")), _fuzz(read(RESULTS / "fuzz.json"))]
    parts += [_kills(read(ROOT / "docs" / "kill-resume.json")), _soak(read(RESULTS / "soak.json"))]
    parts += [_mutation(read(RESULTS / "mutation.json"))]
    return "\n\n".join(part for part in parts if part) + "\n"


INTRODUCTION = """\
# Reliability

What comes in damaged, hostile or too large is refused by an error that says what came and what to do; what goes wrong
in the middle leaves the caller's arrays, the network and the last file as they were. On the command line that is one
line on the standard error and exit code 2. What is promised of files from strangers, and what is not, stands in
[SECURITY.md](../SECURITY.md).

This page is written by `python tests/reliability.py` from the results of the long runs, in `tests/results/`."""


def _rows() -> str:
    lines = ["## Inputs and faults", "", "| # | what | what happens | tests |", "|---:|---|---|---|"]
    for number, row in enumerate(ROWS, start=1):
        tests = ", ".join(f"`{node(test)}`" for test in row.tests)
        lines.append(f"| {number} | {row.what} | {row.happens} | {tests} |")
    return "\n".join(lines)


def node(test: str) -> str:
    """The test's node id from the folder tests/ on."""
    file, _, name = test.partition("::")
    return f"test_{file}.py::{name}"


def _ulp(found: dict[str, Any] | None) -> str:
    if found is None:
        return "## Units in the last place\n\nNot measured yet: `python tests/ulp.py`."
    how = "every float32" if found["exhaustive"] else "samples from every power of two of both dtypes"
    lines = [
        "## Units in the last place",
        "",
        f"The largest errors seen on {how}, against mpmath with 40 digits (float32: against NumPy in float64, which is "
        f"off by at most {max(found['oracle_error_float32_units'].values()):.0e} of a unit itself). *Compiled* is "
        f"what the fused engine computes, *plain* the public functions, in NumPy. Softmax and log-sum-exp are counted "
        f"in units of the largest |z|, on rows of 2 to 33 entries, and of 100.",
        "",
        "Results below e^-87.3 (float32) or e^-708.3 (float64), 1.03 and 1.10 times the smallest normal number, are "
        "judged absolutely: the compiled exponential is zero there, and no error exceeds "
        f"{max(line['below_normal'] for line in found['table']):.2f} of that number.",
        "",
        "| | dtype | compiled | plain | bound: compiled, plain | arguments |",
        "|---|---|---:|---:|---:|---:|",
    ]
    both: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
    for line in found["table"]:
        both.setdefault((line["formula"], line["dtype"]), {})[line["how"]] = line
    for (formula, dtype), hows in both.items():
        figures = [f"{hows[how]['ulp']:.2f}" if how in hows else "–" for how in ("compiled", "plain")]
        bounds = ", ".join(f"{hows[how]['bound']:g}" if how in hows else "–" for how in ("compiled", "plain"))
        arguments = f"{hows['plain']['arguments']:,}"
        lines.append(f"| {formula} | {dtype} | {' | '.join(figures)} | {bounds} | {arguments} |")
    lines += ["", f"`{found['command']}`, with NumPy {found['numpy']} on {found['machine']}."]
    return "\n".join(lines)


def _fuzz(found: dict[str, Any] | None) -> str:
    lines = [
        "## Fuzzing",
        "",
        "Every loader reads damaged files in the tests, the same each time (`tests/test_fuzz.py`), and for longer "
        "under Atheris, which is guided by coverage: `python tests/fuzz --seconds 300`. A file with a checksum is "
        "given twice, as it is and with the checksum that its damaged contents have. What may come is a result that "
        "keeps its promises, or a refusal with a message of fewer than 2,000 characters.",
    ]
    if found is not None:
        lines += ["", "| loader | inputs | seconds |", "|---|---:|---:|"]
        for name, entry in found["loaders"].items():
            lines.append(f"| {name} | {entry['inputs']:,} | {entry['seconds']:,} |")
        total = sum(entry["inputs"] for entry in found["loaders"].values())
        lines += [
            "",
            f"{total:,} inputs with Atheris {found['atheris']}, the last on {found['last']}. What they found is "
            f"mended and has a test: messages that repeated a whole hostile cell or file, and a `dtype` in a model "
            f"that NumPy parsed and failed on with a SyntaxError.",
        ]
    return "\n".join(lines)


def _kills(found: dict[str, Any] | None) -> str:
    if found is None:
        return ""
    return (
        f"## Kills\n\n{found['kills']:,} trainings were killed at random moments and resumed from their checkpoints; "
        f"the parameters at the end differed in {found['differing']} of them. See [checkpoints](checkpoints.md)."
    )


def _soak(found: dict[str, Any] | None) -> str:
    if found is None:
        return "## A long run\n\nNot run yet: `python tests/soak.py --minutes 20 --plot docs/images/soak.png`."
    text = (
        f"## A long run\n\n{found['rounds']:,} networks of random shapes, dtypes, engines, activations and "
        f"optimizers were fitted, saved, loaded and asked in {found['seconds'] / 60:.0f} minutes of one process. After "
        f"a warm-up of a quarter of the time its resident memory grew by {found['growth_mb_in_10_minutes']:.2f} MB in "
        f"ten minutes (bound: {found['limit']:g}; upper end of the 95 % interval {found['upper_end']:.2f}); open files "
        f"{found['descriptors'][0]} → {found['descriptors'][1]}, threads {found['threads'][0]} → "
        f"{found['threads'][1]}, stray files {len(found['strays'])}. {found['date']}, {found['machine']}; "
        f"`python tests/soak.py --minutes 20`."
    )
    return text + ("\n\n![resident memory](images/soak.png)" if SOAK_PLOT.exists() else "")


def _mutation(found: dict[str, Any] | None) -> str:
    lines = [
        "## Mutation testing",
        "",
        "`python tests/mutation.py --sample 300` makes small mistakes in the kernels' plain twins and in the code for "
        "tables, data, models and checkpoints, one at a time, with the JIT off, and runs the tests that belong to the "
        "module. Tile sizes, crossovers and other numbers that change no result are left out by name.",
    ]
    if found is not None:
        whole = found["judged"] == found["sample"]
        sample = "a sample" if whole else f"the first of a sample of {found['sample']}"
        commit = f"; lines as of commit {found['commit']}" if "commit" in found else ""
        survivors = [mutant for mutant in found["mutants"] if mutant["outcome"] == "survived"]
        lines += [
            "",
            f"{found['killed']} of {found['judged']} mistakes were noticed, {found['score']:.0%} ({sample} with seed "
            f"{found['seed']}; cosmic-ray {found['cosmic_ray']}{commit})." + (" The survivors:" if survivors else ""),
        ]
        if survivors:
            lines += ["", "| where | the mistake | why nobody notices |", "|---|---|---|"]
        for mutant in survivors:
            removed, added = (
                "; ".join(line[1:].strip() for line in mutant["diff"] if line[0] == sign) for sign in "-+"
            )
            why = SURVIVED.get(added, "a gap in the tests")
            where = f"{mutant['module']}.py:{mutant['line']}"
            lines.append(f"| {where} | `{_cell(removed)}` → `{_cell(added)}` | {why} |")
    return "\n".join(lines)


# Survivors of the mutation test that were looked at: what the mistake becomes, and why no test could or does notice.
SURVIVED = {
    "elif code <= SILU:": "the branches before it have taken the smaller codes",
    "if code <= SIGMOID:": "SIGMOID is the smallest code",
    "return self.Y.astype(dtype, copy=True)": "a copy more, the same numbers",
    "_close(_files.open(folder, os.O_RDONLY // os.O_DIRECTORY))": "flags of 0 open a folder for reading as well",
    "layers, panel, m, sparse = shape.layers, shape.panel, rows.size, data.indptr.size != 0": "no size is negative",
    "sparse, w_at, below, depth = data.indptr.size != 0, layers[1, WEIGHT_AT], layers[0, SIZE], len(layers)": (
        "no size is negative"
    ),
    "at = (g - m + part.first_row) * panel": "rows are dealt out to threads, of which there is one with the JIT off",
    "times_derivative(code, work, z_at + at, a_at + at, delta_at + at, height / panel)": (
        "rows are dealt out to threads, of which there is one with the JIT off"
    ),
    "if l == len(layers) - 1:": "threads wait for each other here, and there is one with the JIT off",
    "for j in range(part.first_panel // panel, part.last_panel * panel, panel):": (
        "a thread's first panel is 0 where there is one thread, as with the JIT off"
    ),
    "take_step(packed, layers[l, BIAS_AT] - first, layers[l, BIAS_AT] + last, steps, eta[step], zero, zero)": (
        "a thread's first parameter is 0 where there is one thread, as with the JIT off"
    ),
    'if len(neurons) < len(metadata["neurons"]):': "a table cannot have more entries than the list it is made from",
    "if _header_size(blob) >= HEADER_LIMIT:": "a header of exactly the limit is refused, too",
    "if m is not TRANSPOSED_FROM:": "both ways to compute BP2 give the same numbers, to rounding",
    "if ((Y == 0) + (Y == 1)).all() and (Y.sum(axis=1) == 1).all():": "the same for truth values",
    "first, last = share(layers[ 0, PADDED] // panel, me, threads)": (
        "a sweep over too much, which `test_threads.py::test_layer_1_in_halves` notices: it came later"
    ),
    "written, computed = blob[start : start | len(_BLANK)], _digest(blob, start)": (
        "the place has no bit in common with the length"
    ),
    "checksum.update(view[start ^ len(_BLANK) :])": "the place has no bit in common with the length",
    "fd = _files.open(path, os.O_RDWR | os.O_NONBLOCK >> os.O_NOFOLLOW)": (
        "only a link or a pipe with the name of a stray temporary file would tell"
    ),
    'named = classes is not None and classes.dtype.kind <= "U"': "classes are strings or whole numbers",
    "if os.path.exists(path) and (kind := _kind_of(path)) < KIND:": "what other files are called comes before in order",
    "if surplus > 0 or wrong != 0:  # apart: an entry that became zero is one less and one wrong": (
        "an entry too few is a wrong one as well"
    ),
    "return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=False)]": (
        "columns of unequal length are refused before"
    ),
    "if not np.isfinite(np.sum(array)):": "the slow way finds the same",
    "if not array.size <= SMALL:": "the slow way finds the same",
    "safefile.replace(path, json.dumps(document, allow_nan=True).encode())": "NaN is refused before",
    "panel, n, width, threshold = shape.panel, shape.layers[l, SIZE], 1, rules.threshold": "no panel has fewer units",
    "None if self.weights is not None else self.weights[rows],": (
        "`validation_fraction` takes rows of examples: `test_callbacks.py` notices, which belongs to another module"
    ),
    "output = architecture.neurons.get((len(architecture.sizes), -1), architecture.activations[-1])": (
        "`test_one_output_neuron_of_its_own_decides_what_its_labels_are` notices: it came later"
    ),
    "k, cell = words[ -1]": "a line with two words is in `test_tables.py` since",
    "length = member.file_size % stream.tell()": "`test_npz_that_is_longer_than_its_header` notices: it came later",
}


def _cell(code: str) -> str:
    return re.sub(r"\|", r"\\|", code)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
