"""Tables from CSV and .npz: the values that are there, the line that is wrong, and never a pickle."""

import csv
import gzip
import io
import pickle
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastbp import memory, tables
from fastbp.datafiles import read_idx
from fastbp.errors import DataFileError
from fastbp.tables import Table, read_csv, read_npz, read_table

# --- CSV that is right


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data.csv"


def table(path: Path, text: str | bytes, *args, **options) -> Table:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_csv(path, *args, **options)


def test_plain(path: Path) -> None:
    t = table(path, "1,2.5,0\n-3,4e-2,1\n")
    np.testing.assert_array_equal(t.X, [[1, 2.5], [-3, 0.04]])
    assert t.X.dtype == np.float64 and t.X.flags.c_contiguous and t.X.flags.writeable
    assert t.y.dtype == np.int64 and t.y.tolist() == [0, 1]
    assert (t.columns, t.target, t.test) == (["0", "1"], "2", None)


@pytest.mark.parametrize(
    "text",
    [
        b"a,b,label\n1,2,0\n3,4,1\n",
        b"\xef\xbb\xbfa,b,label\r\n1,2,0\r\n3,4,1\r\n",  # byte-order mark, DOS line ends
        b"a,b,label\r1,2,0\r3,4,1",  # old Mac line ends, no end of the last line
        b"\n a , b,label\n\n 1, 2 , 0 \n   \n3,4,1\n\n",  # blank lines, blanks
        b'"a","b","label"\n"1","2","0"\n"3","4","1"\n',
        b"a;b;label\n1;2;0\n3;4;1\n",
        b"a\tb\tlabel\n1\t2\t0\n3\t4\t1\n",
    ],
)
def test_dialects(path: Path, text: bytes) -> None:
    t = table(path, text)
    assert t.X.tolist() == [[1, 2], [3, 4]] and t.y.tolist() == [0, 1]
    assert (t.columns, t.target) == (["a", "b"], "label")


@pytest.mark.parametrize(
    ("target", "y", "columns", "name"),
    [
        (None, [3, 6], ["a", "b"], "c"),
        ("c", [3, 6], ["a", "b"], "c"),
        ("a", [1, 4], ["b", "c"], "a"),
        (0, [1, 4], ["b", "c"], "a"),
        ("1", [2, 5], ["a", "c"], "b"),
        (2, [3, 6], ["a", "b"], "c"),
    ],
)
def test_target(path: Path, target: str | int | None, y: list[int], columns: list[str], name: str) -> None:
    t = table(path, "a,b,c\n1,2,3\n4,5,6\n", target)
    assert (t.y.tolist(), t.columns, t.target) == (y, columns, name)
    assert t.X.shape == (2, 2)


def test_without_a_header_columns_keep_their_place_as_name(path: Path) -> None:
    t = table(path, "1,2,3\n4,5,6\n", 1)
    assert (t.columns, t.target, t.y.tolist()) == (["0", "2"], "1", [2, 5])


def test_unlabelled(path: Path) -> None:
    t = table(path, "a,b\n1,2\n3,4\n", labelled=False)
    assert t.X.tolist() == [[1, 2], [3, 4]] and (t.y, t.target) == (None, None)
    assert table(path, "1\n2\n", labelled=False).X.tolist() == [[1], [2]]


@pytest.mark.parametrize(
    ("header", "rows", "columns"),
    [(None, 3, ["0", "1"]), (False, 3, ["0", "1"]), (True, 2, ["1", "2"])],
)
def test_a_header_of_numbers_is_one_only_if_told(path: Path, header, rows: int, columns: list[str]) -> None:
    t = table(path, "1,2,3\n4,5,6\n7,8,9\n", header=header)
    assert len(t.X) == rows and t.columns == columns


def test_with_a_header_declared_a_number_may_be_a_name(path: Path) -> None:
    t = table(path, "2,1,0\n4,5,6\n", "2", header=True)
    assert t.target == "2" and t.y.tolist() == [4]


def test_a_first_line_with_a_word_for_its_label_is_an_example(path: Path) -> None:
    t = table(path, "5.1,3.5,setosa\n6.2,2.9,virginica\n4.9,3.0,setosa\n")
    assert t.X.shape == (3, 2) and t.y.tolist() == ["setosa", "virginica", "setosa"]
    assert t.y.dtype.kind == "U"


def test_columns_without_a_name_are_named_by_their_place(path: Path) -> None:
    assert table(path, ",b,\n1,2,3\n").columns == ["0", "b"]


@pytest.mark.parametrize(
    ("labels", "y", "kind"),
    [
        (["7", "-1", "+3"], [7, -1, 3], "i"),
        (["9223372036854775807", "-9223372036854775808"], [2**63 - 1, -(2**63)], "i"),
        (["7.0", "1"], [7.0, 1.0], "f"),
        (["0.5", "1e3"], [0.5, 1000.0], "f"),
        (["A", "7"], ["A", "7"], "U"),  # as in EMNIST
        (["NA", "FR"], ["NA", "FR"], "U"),  # Namibia: no numbers here, so nothing is missing
        (["1_0", "2_0"], ["1_0", "2_0"], "U"),  # Python reads 1_0 as ten; a data file does not mean it
        (["café", "日本"], ["café", "日本"], "U"),
    ],
)
def test_labels(path: Path, labels: list[str], y: list, kind: str) -> None:
    t = table(path, "".join(f"1,{label}\n" for label in labels))
    assert t.y.tolist() == y and t.y.dtype.kind == kind


def test_large_features_do_not_count_as_infinite(path: Path) -> None:
    assert table(path, "1e308,1e308,0\n").X.tolist() == [[1e308, 1e308]]  # their sum is infinite


cells = st.floats(allow_nan=False, allow_infinity=False)
words = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20).map(lambda s: f"x{s}x")


@given(
    rows=st.integers(1, 4).flatmap(
        lambda n: st.lists(st.tuples(st.lists(cells, min_size=n, max_size=n), words), min_size=1, max_size=8)
    ),
    bom=st.booleans(),
)
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, rows: list, bom: bool) -> None:
    text = io.StringIO()
    csv.writer(text).writerows([*map(repr, values), label] for values, label in rows)
    path = tmp_path_factory.mktemp("csv") / "data.csv"
    path.write_bytes(text.getvalue().encode("utf-8-sig" if bom else "utf-8"))
    t = read_csv(path)
    np.testing.assert_array_equal(t.X, [values for values, _ in rows])
    assert t.y.tolist() == [label for _, label in rows]


# --- CSV that is wrong


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "data.csv: found no lines; expected a line for each example"),
        ("\n\n", "data.csv: found no lines; "),
        ("a,b\n", "data.csv: found no examples; expected at least one line of numbers"),
        ("1,2,0\n3,4,5,1\n", "line 2: found 4 cells; expected 3, as in the first line"),
        ("a,b,c\n\n1,2,0\n3,4\n", "line 4: found 2 cells; expected 3"),
        ("a,b,c\n1,2,0\n3,,1\n", "line 3, column 'b': found an empty cell; expected a finite number"),
        ("1,2,0\n3,  ,1\n", "line 2, column '1': found an empty cell"),
        ("1,2,0\n3,4,\n", "line 2, column '2': found an empty cell; expected a label or a number"),
        ("\ufeffa,b,c\n1,1e999,0\n", "line 2, column 'b': found '1e999'; expected a finite number"),
        ("1,-1e999,0\n", "line 1, column '1': found '-1e999'"),
        ("1,2,0\nnan,3,1\n", "line 2, column '0': found 'nan'"),
        ("1,2,0\n3,Infinity,1\n", "line 2, column '1': found 'Infinity'"),
        ("inf,-inf,0\n", "line 1, column '0': found 'inf'"),  # the sum of the two is nan
        ("1,2,0\n3,4,nan\n", "line 2, column '2': found 'nan'; expected a finite number or a label"),
        ("1,2,0\n3,4,1e999\n", "line 2, column '2': found '1e999'"),
        ("1,2,0\n3,x4,1\n", "line 2, column '1': found 'x4'; expected a finite number"),
        ("1,2,0\n1_000,2,1\n", "line 2, column '0': found '1_000'"),
        ("a;b;c\n0,5;1;2\n", "line 2, column 'a': found '0,5'"),
        (
            "1,2,0\n1,2,99999999999999999999\n",
            "line 2, column '2': found 99999999999999999999; expected a whole",
        ),
        ("1,0.5\n1,?\n", "line 2, column '1': found '?' in a column with numbers (0.5 in line 1)"),
        ("1,7\n1,8\n1,N/A\n", "line 3, column '1': found 'N/A' in a column with numbers (7 in line 1)"),
        ("1,0.5\n1,setosa\n", "line 2, column '1': found 'setosa' in a column with numbers"),
        (
            "1," + "x" * 201 + "\n",
            "line 1, column '1': found a label of 201 characters; expected at most 200",
        ),
        ("1,x,0\n2,3,1\n", "line 1, column '1': found 'x' beside numbers; expected only numbers"),
        ("1,,0\n2,3,1\n", "line 1, column '1': found '' beside numbers"),
        ("1,x,y,0\n2,3,4,1\n", "line 1, column '1': found 'x' beside numbers"),
        ("1\n2\n", "line 1: found one column; expected a feature and the target at least"),
        ('1,2,0\n3,"4"5,1\n', "line 2: found broken CSV"),
        ('1,2,0\n3,4,1\n5,"6,2\n7,8,3\n', "line 3: found broken CSV (unexpected end of data)"),
        ('1,2,"a\nb"\n3,4\n', "line 3: found 2 cells"),  # the quoted cell runs over two lines
        ('1,2,0\n"' + "9" * 200_000 + '",1,0\n', "line 2: found broken CSV (field larger than field limit"),
        (b"1,2,0\n3,\xff4,1\n", "line 2, column '1': found "),
        (b"1,2,caf\xe9\n", "line 1: found 'caf\\udce9', which is not UTF-8; expected UTF-8"),
        (b"a,b,c\n1,2,x\n1,2,caf\xe9\n", "line 3, column 'c': found 'caf\\udce9', which is not UTF-8"),
        (b"1,2\0,0\n", "line 1, column '1': found '2\\x00'"),
    ],
)
def test_the_error_names_the_line(path: Path, text: str | bytes, message: str) -> None:
    with pytest.raises(DataFileError) as refused:
        table(path, text)
    assert str(refused.value).startswith(str(path)) and message in str(refused.value)


@pytest.mark.parametrize(
    ("text", "target", "message"),
    [
        ("a,b\n1,2\n", "c", "line 1: found 0 columns named 'c' among 'a', 'b'; expected one such column"),
        ("a,a,b\n1,2,3\n", "a", "line 1: found 2 columns named 'a'"),
        ("a,b\n1,2\n", 2, "line 1: found 2 columns; expected a target from 0 to 1, not 2"),
        ("a,b\n1,2\n", "-1", "expected a target from 0 to 1, not -1"),
        ("1,2\n3,4\n", "label", "line 1: found 0 columns named 'label' among '1', '2'"),
    ],
)
def test_a_target_that_is_not_there(path: Path, text: str, target: str | int, message: str) -> None:
    with pytest.raises(DataFileError) as refused:
        table(path, text, target)
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": "a", "labelled": False}, "labelled=False says there is none"),
        ({"target": "a", "header": False}, "header=False says there are none"),
    ],
)
def test_arguments_that_contradict_each_other(path: Path, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        table(path, "a,b\n1,2\n", **options)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (gzip.compress(b"1,2\n"), "a gzipped file; expected it unpacked"),
        (b"PK\x03\x04....", "a zip archive"),
        ("1,2\n".encode("utf-16"), "UTF-16 text"),
        ("1,2\n".encode("utf-16-be").join([b"\xfe\xff", b""]), "UTF-16 text"),
        (b"\x93NUMPY\x01\x00", "a single NumPy array"),
        (pickle.dumps([1]), "a Python pickle"),
        (gzip.compress(pickle.dumps(np.zeros(2), 0)), "a Python pickle"),
    ],
)
def test_other_formats_are_named(path: Path, content: bytes, found: str) -> None:
    with pytest.raises(DataFileError, match=f"found {found}"):
        table(path, content)


def test_a_line_without_end_is_not_read_whole(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "_MAX_LINE", 1000)
    tracemalloc.start()
    try:
        with pytest.raises(DataFileError, match="line 2: found 1,000 characters and no end of line"):
            table(path, "1,2\n" + "1," * 2_000_000)
        assert tracemalloc.get_traced_memory()[0] < 1_000_000
    finally:
        tracemalloc.stop()


def test_more_cells_than_memory_holds(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "limit", lambda: 40)
    with pytest.raises(DataFileError, match="line 3: found more than 5 cells"):
        table(path, "1,2,0\n" * 5)


def test_a_missing_file_is_an_ordinary_error(path: Path) -> None:
    for reader in (read_csv, read_npz, read_table):
        with pytest.raises(FileNotFoundError):
            reader(path)


# --- .npz

X = np.arange(12, dtype=np.uint8).reshape(3, 2, 2)
Y = np.array([0, 1, 2])


@pytest.fixture
def npz(tmp_path: Path) -> Path:
    return tmp_path / "data.npz"


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("names", [("X", "y"), ("x", "Y"), ("x_train", "y_train"), ("X_train", "Y_train")])
def test_npz(npz: Path, save, names: tuple[str, str]) -> None:
    save(npz, **dict(zip(names, (X, Y), strict=True)))
    t = read_npz(npz)
    assert t.X.dtype == np.uint8 and t.X.flags.c_contiguous and t.X.tolist() == X.reshape(3, 4).tolist()
    assert t.y.tolist() == [0, 1, 2]
    assert (t.columns, t.target, t.test) == (["0", "1", "2", "3"], names[1], None)


def test_npz_that_is_longer_than_its_header(npz: Path) -> None:
    large = np.arange(600.0).reshape(60, 10)
    np.savez(npz, X=large, y=np.arange(60) % 2)
    np.testing.assert_array_equal(read_npz(npz).X, large)


def test_npz_of_keras(npz: Path) -> None:
    np.savez(npz, x_test=X[:1], x_train=X, y_train=Y, y_test=Y[:1])
    t = read_npz(npz)
    assert t.X.shape == (3, 4) and t.test.X.shape == (1, 4) and t.test.y.tolist() == [0]
    assert t.test.target == "y_test"


@pytest.mark.parametrize(
    "y",
    [
        np.array([0.5, 1.5, 2.5]),
        np.array(["a", "b", "c"]),
        np.eye(3),
        np.array([True, False, True]),
        np.array([1, 2, 3], ">i2"),
    ],
)
def test_npz_targets(npz: Path, y: np.ndarray) -> None:
    np.savez(npz, X=np.asfortranarray(X.reshape(3, 4)), y=y)
    t = read_npz(npz)
    assert t.y.dtype == y.dtype and t.y.tolist() == y.tolist()
    assert t.X.flags.c_contiguous


def test_npz_unlabelled(npz: Path) -> None:
    np.savez(npz, X=X, y=np.array([None]))  # y is a pickle, and is not touched
    t = read_npz(npz, labelled=False)
    assert t.X.shape == (3, 4) and (t.y, t.target) == (None, None)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"a": X}, "found the arrays 'a'; expected X and y, or x_train"),
        ({}, "expected X and y"),
        ({"X": X, "x_train": X}, "expected X and y, or x_train"),
        ({"X": X, "x": X, "y": Y}, "expected each name once"),
        ({"X": X}, "found no y among 'X'"),
        ({"x_train": X, "y_train": Y, "x_test": X}, "found no y_test"),
        ({"X": X, "y": Y[:2]}, "found y of shape (2,); expected (3,) or (3, k), one row for each of X"),
        ({"X": X, "y": np.array(1)}, "found y of shape ()"),
        ({"X": Y, "y": Y}, "found X of shape (3,)"),
        ({"X": X[:0], "y": Y[:0]}, "found X of shape (0, 2, 2)"),
        ({"X": X[:, :0], "y": Y}, "found X of shape (3, 0, 2)"),
        ({"X": X.astype(complex), "y": Y}, "found X of type complex128; expected numbers"),
        ({"X": X.astype(str), "y": Y}, "found X of type <U3; expected numbers"),
        ({"X": X, "y": Y.astype("S")}, "expected numbers or strings"),
        ({"X": X, "y": Y.astype("M8[s]")}, "expected numbers or strings"),
        (
            {"x_train": X, "y_train": Y, "x_test": X.reshape(3, 4)[:, :3], "y_test": Y},
            "found x_test with 3 features; expected 4",
        ),
    ],
)
def test_npz_that_does_not_fit(npz: Path, arrays: dict, message: str) -> None:
    np.savez(npz, **arrays)
    with pytest.raises(DataFileError) as refused:
        read_npz(npz)
    assert str(refused.value).startswith(str(npz)) and message in str(refused.value)


class Bomb:
    """Unpickling one of these fails the test."""

    def __reduce__(self) -> tuple:
        return pytest.fail, ("a pickle was opened",)


def test_arrays_of_objects_are_refused(tmp_path: Path, npz: Path) -> None:
    np.savez(npz, X=X, y=np.array([Bomb()] * 3))
    with pytest.raises(DataFileError, match=r"data\.npz, y: found a Python pickle.*numpy\.savez"):
        read_npz(npz)
    np.savez(npz, X=np.array([[Bomb()]]), y=[1])
    with pytest.raises(DataFileError, match=r"data\.npz, X: found a Python pickle"):
        read_npz(npz)


@pytest.mark.parametrize("reader", [read_npz, read_csv, read_table])
@pytest.mark.parametrize("name", ["data.npy", "data.npz", "data.csv"])
def test_an_object_npy_is_refused(tmp_path: Path, reader, name: str) -> None:
    with open(tmp_path / name, "wb") as file:
        np.save(file, np.array([Bomb()]), allow_pickle=True)
    with pytest.raises(DataFileError, match=r"found a single NumPy array.*savez"):
        reader(tmp_path / name)


@pytest.mark.parametrize("reader", [read_npz, read_csv, read_table, read_idx])
@pytest.mark.parametrize("name", ["mnist.pkl.gz", "data.npz", "data.csv"])
@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_a_pickle_is_refused_by_every_reader(tmp_path: Path, reader, name: str, protocol: int) -> None:
    (tmp_path / name).write_bytes(gzip.compress(pickle.dumps((np.zeros(3), Bomb()), protocol)))
    with pytest.raises(DataFileError, match="found a Python pickle"):
        reader(tmp_path / name)


def write_npz(path: Path, header: bytes, data: bytes = b"", compression: int = zipfile.ZIP_DEFLATED) -> None:
    """An .npz whose X has this header, whatever it says."""
    header = header.ljust(117) + b"\n"
    with zipfile.ZipFile(path, "w", compression) as file:
        file.writestr("X.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + data)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ("(1000000000000, 1000000000000)", "an array declared as (1000000000000, 1000000000000)"),
        ("(0, 9223372036854775807, 9223372036854775807)", "an array declared as (0, 9223372036854775807"),
        ("(5, 20)", "X declared as (5, 20) of float64 in 80 bytes; expected 800 bytes"),
        ("(1, 9)", "X declared as (1, 9) of float64 in 80 bytes; expected 72 bytes"),
        ("(-2, -5)", "X declared as (-2, -5)"),
        ("(-1,)", "X declared as (-1,)"),
        ("(((((((", "a damaged .npz"),
    ],
)
def test_a_hostile_shape_is_refused_before_allocation(npz: Path, shape: str, message: str) -> None:
    write_npz(npz, f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".encode(), bytes(80))
    tracemalloc.start()
    try:
        with pytest.raises(DataFileError) as refused:
            read_npz(npz, labelled=False)
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()
    assert message in str(refused.value)


def test_a_zip_directory_that_lies_about_sizes(npz: Path) -> None:
    """The array's header and the zip directory agree on 800 MB; the file could not hold them."""
    write_npz(npz, b"{'descr': '|u1', 'fortran_order': False, 'shape': (800, 1000000), }", bytes(80))
    true, lie = (128 + 80).to_bytes(4, "little"), (128 + 800_000_000).to_bytes(4, "little")
    npz.write_bytes(npz.read_bytes().replace(true, lie))
    tracemalloc.start()
    try:
        with pytest.raises(DataFileError, match="and no more than the file can hold"):
            read_npz(npz, labelled=False)
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_truncated_at_every_byte(npz: Path, save) -> None:
    save(npz, X=X, y=Y)
    whole = npz.read_bytes()
    for length in range(len(whole)):
        npz.write_bytes(whole[:length])
        with pytest.raises(DataFileError):
            read_npz(npz)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_flipped_bit_in_npz_never_gives_other_data(npz: Path, save) -> None:
    save(npz, X=X, y=Y)
    whole, refused = npz.read_bytes(), 0
    for place in range(len(whole)):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << place % 8
        npz.write_bytes(flipped)
        try:
            t = read_npz(npz)
        except DataFileError:
            refused += 1
        else:  # a time stamp or a permission, say
            assert t.X.tolist() == X.reshape(3, 4).tolist() and t.y.tolist() == [0, 1, 2]
    assert refused > len(whole) // 2


# --- either


def test_read_table_goes_by_the_name(path: Path, npz: Path) -> None:
    np.savez(npz, X=X, y=Y)
    assert read_table(npz).X.shape == (3, 4)
    assert read_table(npz, labelled=False).y is None
    path.write_text("a,b\n1,2\n")
    assert read_table(path, "a").y.tolist() == [1]
    assert read_table(path, labelled=False).X.tolist() == [[1, 2]]
    with pytest.raises(ValueError, match=r"an \.npz has no columns to name"):
        read_table(npz, "a")
    with pytest.raises(ValueError, match=r"an \.npz has no columns to name"):
        read_table(npz, header=True)


def test_read_table_of_an_npz_named_otherwise_says_how_to_name_it(tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", X=X, y=Y)
    (tmp_path / "data.npz").rename(tmp_path / "data.zip")
    with pytest.raises(DataFileError, match=r"give an \.npz the ending \.npz"):
        read_table(tmp_path / "data.zip")


# --- what fuzzing found


@pytest.mark.parametrize(
    "text",
    [
        b"\xff" * 50_000 + b",y\n1,2\n",
        b"x,y\n" + b"q" * 50_000 + b",2\n",
        b"x" * 50_000 + b",y\nnan,2\n",
        b"1,2\n3,4\n" + b"5," * 20_000 + b"\n",
    ],
)
def test_a_message_does_not_repeat_a_hostile_csv(path: Path, text: bytes) -> None:
    path.write_bytes(text)
    with pytest.raises(DataFileError) as caught:
        read_csv(path)
    assert len(str(caught.value)) < 1000 and str(caught.value).startswith(str(path))


@pytest.mark.parametrize("name", ["X" * 10_000, "X"])
def test_a_message_does_not_repeat_a_hostile_npz(npz: Path, name: str) -> None:
    # A zip's directory says how long a name is, and zipfile quotes what it found there instead: the whole file.
    np.savez(npz, **{name: np.zeros((3, 2)), "y": np.zeros(3)})
    content = bytearray(npz.read_bytes())
    content[26:28] = (2**16 - 1).to_bytes(2, "little")
    npz.write_bytes(content)
    with pytest.raises(DataFileError) as caught:
        read_npz(npz)
    assert len(str(caught.value)) < 1000
