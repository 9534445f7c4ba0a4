"""Tables, model folders and command lines that nobody should send: each ends in a clear error of ours or in a result, soon."""
import contextlib
import gzip
import io
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError
from safetensors.numpy import load, save_file
from scipy import sparse

from conftest import SMALL
from genmod_nb.cli import MODELS, main
from genmod_nb.tables import check_losses, read_losses
from genmod_nb.lars import LARS
from genmod_nb.model import GenerativeModel
from genmod_nb.vae import VAE


class Hang(BaseException):
    """Not an Exception, so that no handler mistakes it for an error."""


@contextlib.contextmanager
def soon(seconds=10):
    def ring(*_):
        raise Hang(f"more than {seconds} s")
    old = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)


def throw(strategy, check, n):
    """Call check with n generated inputs."""
    quiet = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
    settings(max_examples=n, deadline=None, database=None, suppress_health_check=quiet)(given(strategy)(check))()


def count(full):
    return 25_000 if full else 250


# Tables in files

NUMBERS = st.one_of(st.floats(0, 1e3).map(repr), st.integers(0, 99).map(str), st.floats(allow_nan=True).map(str))
CELLS = st.one_of(NUMBERS, NUMBERS, NUMBERS, st.sampled_from(["", " ", "nan", "NA", "inf", "-inf", "-1", "1e999", "1,5", "1.5", '"', '""', "'", "#", "\\",
                                                            "\0", "abc", "é", "\ufeff", "2020-01-01", "1_000", "0x10", "True", "=1+1", "sep=;", "%", "(1)"]),
                  st.text(max_size=5))


@st.composite
def csv_files(draw):
    """(suffix, bytes) of something like a csv file."""
    columns, rows = draw(st.integers(1, 5)), draw(st.integers(0, 40))
    steady = draw(st.booleans())
    some = st.lists(NUMBERS if steady else CELLS, min_size=columns if steady else 0, max_size=columns)
    few = draw(st.lists(some, min_size=1, max_size=6))
    lines = [few[i % len(few)] for i in range(rows)]
    if draw(st.booleans()):
        lines.insert(0, draw(st.lists(st.one_of(st.sampled_from("abcde"), CELLS), min_size=1, max_size=columns)))
    separator, end = draw(st.sampled_from([",", ";", "\t", "|", " ", ", "])), draw(st.sampled_from(["\n", "\r\n", "\r", "\n\n", ""]))
    text = end.join(separator.join(line) for line in lines) + end
    content = text.encode(draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "latin-1"])), errors="replace")
    suffix = draw(st.sampled_from([".csv", ".tsv", ".txt", ".csv.gz", ".CSV", ".parquet", ".xls", ""]))
    if suffix.endswith(".gz") and draw(st.booleans()):
        content = gzip.compress(content)
    return suffix, mutilated(draw, content)


def mutilated(draw, content):
    """The bytes, mostly as they are, else with some cut off, replaced or put in."""
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 3]))):
        at = draw(st.integers(0, len(content)))
        upto = draw(st.integers(at, min(at + 16, len(content))))
        content = content[:at] + draw(st.binary(max_size=8)) + (content[upto:] if draw(st.booleans()) else b"")
    return content


VALUES = st.one_of(st.none(), st.booleans(), st.integers(-5, 10 ** 6), st.floats(), st.floats(0, 10), st.text(max_size=3), st.binary(max_size=3), st.datetimes(),
                   st.dates(), st.timedeltas(), st.decimals(allow_nan=True), st.lists(st.integers(0, 3), max_size=2), st.dictionaries(st.sampled_from("xy"), st.integers(0, 3), max_size=2),
                   st.complex_numbers(), st.integers(2 ** 70, 2 ** 71))
TYPES = [None, "float32", "float64", "float16", "int8", "uint64", "bool", "object", "complex64", "datetime64[ns]", "timedelta64[ns]", "category", "string",
         "Int64", "Float64", "boolean", "Sparse[float64]"]
NAMES = st.one_of(st.sampled_from(["a", "b", "index", "", "a.1", "Unnamed: 0"]), st.text(max_size=3), st.integers(0, 3), st.none(), st.floats(), st.booleans(),
                  st.tuples(st.integers(0, 1), st.just("x")), st.dates())


@st.composite
def frames(draw):
    """DataFrames of all sorts of cells, types, names and indices."""
    rows, columns = draw(st.sampled_from([0, 1, 2, 19, 20, 21, 40])), {}
    for j in range(draw(st.integers(0, 4))):
        kind = draw(st.sampled_from([st.floats(0, 10), st.floats(0, 10), VALUES]))
        some = draw(st.lists(kind, min_size=1, max_size=5))
        column = pd.Series([some[i % len(some)] for i in range(rows)], dtype=object)
        with contextlib.suppress(Exception):        # most types do not take most cells
            column = column.astype(draw(st.sampled_from(TYPES)) or object)
        columns[j] = column
    X = pd.DataFrame(columns)
    if draw(st.booleans()):
        X.columns = pd.Index(draw(st.lists(NAMES, min_size=X.shape[1], max_size=X.shape[1])), tupleize_cols=draw(st.booleans()), dtype=object)
    if draw(st.booleans()):
        X.index = pd.Index([draw(NAMES)] * rows, dtype=object)
    return X


def accepts(call, *expected):
    """What the call returns, or None where it raises one of the errors that it may."""
    with soon():
        try:
            return call()
        except expected as e:
            assert str(e).strip()


def is_table(X):
    values = X.to_numpy()
    return values.dtype == np.float64 and np.isfinite(values).all() and (values >= 0).all() and X.shape[1] >= 2 and len(X) >= 20


def test_csv_files(tmp_path, full):
    def check(file):
        suffix, content = file
        (tmp_path / f"t{suffix}").write_bytes(content)
        X = accepts(lambda: read_losses(tmp_path / f"t{suffix}"), ValueError)
        assert X is None or is_table(X)
    throw(csv_files(), check, count(full) // 2)


def test_parquet_files(tmp_path, full):
    @st.composite
    def files(draw):
        X, buffer = draw(frames()), io.BytesIO()
        try:
            X.to_parquet(buffer)
        except Exception:                           # not every frame can be written
            return mutilated(draw, b"PAR1" + draw(st.binary(max_size=50)) + b"PAR1")
        return mutilated(draw, buffer.getvalue())

    def check(content):
        (tmp_path / "t.parquet").write_bytes(content)
        X = accepts(lambda: read_losses(tmp_path / "t.parquet"), ValueError)
        assert X is None or is_table(X)
    throw(files(), check, count(full) // 2)


def test_tables_in_memory(full):
    arrays = st.builds(lambda shape, kind, fill: np.full(shape, fill).astype(kind), st.lists(st.integers(0, 25), max_size=3).map(tuple),
                       st.sampled_from(["float64", "float32", "int64", "bool", "complex128", "object", "U3", "S3", "datetime64[D]"]), st.integers(0, 3))
    odd = st.one_of(VALUES, st.lists(st.lists(VALUES, max_size=3), max_size=25), st.dictionaries(st.sampled_from("ab"), st.lists(st.floats(), max_size=3)),
                    st.just(sparse.csr_array(np.eye(30))), st.builds(pd.Series, st.lists(st.floats(), max_size=25)))

    def check(X):
        got = accepts(lambda: check_losses(X), ValueError, TypeError)
        assert got is None or is_table(got)
    throw(st.one_of(frames(), frames(), arrays, odd), check, count(full))


# Model folders

@pytest.fixture(scope="module")
def folders(tables, tmp_path_factory):
    """One saved model of each kind, and one whose prior has arguments of its own."""
    root = tmp_path_factory.mktemp("models")
    kinds = {name: kind(**SMALL) for name, kind in MODELS.items()}
    small = dict(encoder=(4,), decoder=(4,)) | SMALL
    kinds |= {"vae": VAE(**small), "ensemble": MODELS["ensemble"](members=2, **small), "lars": VAE(prior=LARS(hidden=(4,)), **small)}
    return [model.fit(tables[0]).save(root / name) for name, model in kinds.items()]


JSON = st.recursive(st.one_of(st.none(), st.booleans(), st.integers(-3, 20), st.sampled_from([10 ** 9, 2 ** 63, -2 ** 63, 10 ** 30]), st.floats(),
                              st.sampled_from(["", "VAE", "normal", "raw", "identity", "gaussian", "../x", "os.system", "cuda", "auto", "eager", "kl", "LARS"]), st.text(max_size=4)),
                    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.one_of(st.sampled_from(["LARS", "data", "columns", "order"]), st.text(max_size=3)),
                                                                                        inner, max_size=3)), max_leaves=6)


def places(value, way=()):
    """Every place in a JSON value."""
    yield way
    for k, v in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) and len(value) < 50 else ():
        yield from places(v, (*way, k))


def damaged_config(draw, about):
    """A config with a value replaced, dropped, or added."""
    *way, last = draw(st.sampled_from([p for p in places(about) if p]))
    inner = about
    for k in way:
        inner = inner[k]
    how = draw(st.sampled_from(["replace", "replace", "replace", "drop", "add"]))
    if how == "drop":
        del inner[last]
    elif how == "add" and isinstance(inner, dict):
        inner[draw(st.text(max_size=4))] = draw(JSON)
    else:
        inner[last] = draw(JSON)
    return about


def damaged_arrays(draw, arrays):
    """Arrays with one dropped, added, renamed, swapped, or of other values, types or shapes."""
    name, other = (draw(st.sampled_from(sorted(arrays))) for _ in range(2))
    how = draw(st.sampled_from(["drop", "add", "rename", "swap", "nan", "huge", "zero", "type", "shape", "negative", "noise"]))
    a = arrays[name]
    if how == "drop": del arrays[name]
    if how == "add": arrays[draw(st.text(max_size=9)) or "x"] = np.zeros(draw(st.lists(st.integers(0, 3), max_size=3)))
    if how == "rename": arrays[draw(st.sampled_from(["../../x", "/x", "__class__", "module.", "history.0", name + "\0"]))] = arrays.pop(name)
    if how == "swap": arrays[name], arrays[other] = arrays[other], a
    if how in ("nan", "huge", "zero", "negative"): arrays[name] = np.full_like(a, dict(nan=np.nan, huge=1e38, zero=0, negative=-1)[how]) if a.dtype.kind == "f" else a
    if how == "type": arrays[name] = a.astype(draw(st.sampled_from(["float16", "float32", "float64", "int8", "int64", "bool"])))
    if how == "shape": arrays[name] = draw(st.sampled_from([a[None], a.ravel(), a.T.copy(), np.repeat(a[None], 2, 0), a.ravel()[:1]]))
    if how == "noise" and a.dtype.kind == "f": arrays[name] = (a + np.random.default_rng(draw(st.integers(0, 9))).normal(size=a.shape) * draw(st.sampled_from([.1, 10, 1e6]))).astype(a.dtype)
    return arrays


class Owned:
    def __reduce__(self):
        return os.system, ("touch owned",)


PAYLOADS = [pickle.dumps(Owned()), b"", b"\0" * 8, b"PK\3\4" + b"\0" * 60, (2 ** 63).to_bytes(8, "little"), (10 ** 7).to_bytes(8, "little") + b"{", b"[" * 100_000,
            b'{"a":' * 20_000, b"1" * 10_000, b"\xff\xfe", gzip.compress(b"0" * 10 ** 6)]


def damage(draw, folder):
    """One to three kinds of damage."""
    config, weights = folder / "config.json", folder / "model.safetensors"
    for _ in range(draw(st.integers(1, 3))):
        how = draw(st.sampled_from(["config", "config", "config", "arrays", "arrays", "arrays", "bytes", "payload", "link", "folder", "fifo"]))
        file = draw(st.sampled_from([config, weights]))
        if any(p.is_symlink() or not p.is_file() for p in (config, weights)):
            return              # nothing here may write through a link
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError, SafetensorError):     # damaged already, beyond this damage
            if how == "config": config.write_text(json.dumps(damaged_config(draw, json.loads(config.read_text()))))
            if how == "arrays": save_file({k: np.ascontiguousarray(v) for k, v in damaged_arrays(draw, load(weights.read_bytes())).items()}, weights)
            if how == "bytes": file.write_bytes(mutilated(draw, file.read_bytes()))
            if how == "payload": file.write_bytes(draw(st.sampled_from(PAYLOADS)))
            if how in ("link", "folder", "fifo"):
                file.unlink()
                if how == "link": file.symlink_to(draw(st.sampled_from(["../secret", "/dev/zero", "config.json", "model.safetensors", "nowhere"])))
                if how == "folder": file.mkdir()
                if how == "fifo": os.mkfifo(file)


def test_model_folders(folders, tmp_path, monkeypatch, full):
    """A damaged folder is refused, or is a model: it draws finite rows or says why it cannot. Nothing else in the world has changed."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secret").write_text("{}")

    def check(data):
        good, bad = data.draw(st.sampled_from(folders)), tmp_path / "bad"
        shutil.rmtree(bad, ignore_errors=True)
        shutil.copytree(good, bad)
        damage(data.draw, bad)
        model = accepts(lambda: GenerativeModel.load(bad), ValueError)
        if model is not None:
            X = accepts(lambda: model.sample(3, random_state=0), ValueError)
            assert X is None or np.isfinite(np.asarray(X, float)).all()
        assert sorted(os.listdir(tmp_path)) == ["bad", "secret"] and (tmp_path / "secret").read_text() == "{}"
    throw(st.data(), check, count(full))


# Command lines

@pytest.fixture(scope="module")
def desk(tables, folders, tmp_path_factory):
    """A folder with a good table, a bad one, a model, and things that are neither."""
    root = tmp_path_factory.mktemp("desk")
    tables[0].head(40).to_csv(root / "good.csv")
    tables[1].head(40).to_parquet(root / "good.parquet")
    (root / "bad.csv").write_text("a,b\n1,x\n")
    (root / "empty.csv").write_text("")
    shutil.copytree(folders[0], root / "model")
    (root / "folder").mkdir()
    (root / "folder" / "note.txt").write_text("precious")
    return root


WORDS = st.one_of(st.sampled_from(["good.csv", "good.parquet", "bad.csv", "empty.csv", "model", "folder", "missing.csv", "folder/../good.csv", "/proc/none/x", "/dev/null", "", "-", "--",
                                   "out.csv", "out.parquet", "out", "folder/out.csv", "bad.csv/out.csv", "0", "1", "-1", "1e9", "x"]), st.text(st.characters(exclude_characters="/\\~"), max_size=6))
PARAMS = st.one_of(st.builds("{}={}".format, st.sampled_from(["latent_dim", "encoder", "decoder", "sigma", "lr", "batch_size", "margins", "prior", "likelihood", "device", "compile", "x"]),
                             st.one_of(st.sampled_from(["0", "3", "-1", "[8]", "[8,8]", "[]", "[0]", "1e30", "nan", "NaN", "null", "true", "raw", "identity", "log", "learned", "cuda:9", '{"LARS":{}}',
                                                        '{"LARS":{"hidden":[4]}}', '{"os.system":{}}', "1000000000000"]), st.text(max_size=4))), WORDS)
COMMANDS = {
    "fit": (1, {"--model": st.one_of(st.sampled_from([*MODELS, "oracle"])), "--out": WORDS, "--seed": WORDS, "--param": PARAMS}, ["--epochs", "1", "--quiet"]),
    "sample": (1, {"-n": st.one_of(st.integers(-2, 500).map(str), WORDS), "--out": WORDS, "--seed": WORDS}, ["--quiet"]),
    "score": (2, {"--train": WORDS, "--out": WORDS, "--seed": WORDS}, ["--reps", "1", "--quiet"]),
    "study": (1, {"--split": WORDS, "--epochs": WORDS, "--jobs": WORDS}, ["--quiet"]),      # without --out: a study would run
}


@st.composite
def command_lines(draw):
    if draw(st.integers(0, 9)) == 0:
        return draw(st.lists(st.one_of(WORDS, st.sampled_from(["fit", "--help", "--version"])), max_size=4))
    command = draw(st.sampled_from(sorted(COMMANDS)))
    places_, options, always = COMMANDS[command]
    words = draw(st.lists(WORDS if command != "study" else st.sampled_from(["sigma", "gan", "x"]), min_size=places_ - draw(st.sampled_from([0, 0, 0, 1])), max_size=places_))
    for name in draw(st.lists(st.sampled_from(sorted(options)), max_size=4)):
        words += [name, draw(options[name])]
    return [command, *words, *always]


def outcome(arguments):
    """(status, stderr) of a command in this process."""
    err = io.StringIO()
    with contextlib.redirect_stderr(err), contextlib.redirect_stdout(io.StringIO()):
        try:
            status = main(arguments)
        except SystemExit as e:
            status = e.code
    return status, err.getvalue()


def plain(status, err, arguments):
    """Done, or one line that says why not (or the parser's usage)."""
    assert status in (0, 2), (arguments, status, err)
    assert "Traceback" not in err and (status == 0 or "error: " in err), (arguments, err)


def precious(desk):
    return {p: p.stat().st_mtime_ns for p in (desk / "good.csv", desk / "good.parquet", desk / "bad.csv", desk / "folder" / "note.txt")}


def test_command_lines(desk, monkeypatch, full):
    monkeypatch.chdir(desk)
    kept = sorted(p.name for p in desk.iterdir())

    def check(arguments):
        before = precious(desk)
        with soon():
            plain(*outcome(arguments), arguments)
        # asked for or not, an input may only be replaced by an output that names it
        assert all(before[p] == t or str(p.name) in " ".join(arguments) for p, t in precious(desk).items())
        for p in desk.iterdir():
            if p.name not in kept:
                shutil.rmtree(p) if p.is_dir() else p.unlink()
        for name in set(kept) - {p.name for p in desk.iterdir()}:
            raise AssertionError(f"{arguments} has removed {name}")
    throw(command_lines(), check, count(full))


def test_command_lines_in_processes(desk, full):
    """The same in processes of their own, whose memory is limited."""
    code = ("import resource, sys; from genmod_nb.cli import main; "
            "resource.setrlimit(resource.RLIMIT_AS, (8 * 2 ** 30, resource.RLIM_INFINITY)); sys.exit(main(sys.argv[1:]))")

    def check(arguments):
        arguments = [a.replace("\0", "") .encode("utf-8", "replace").decode() for a in arguments]
        with tempfile.TemporaryDirectory() as folder:
            for p in desk.iterdir():
                shutil.copytree(p, Path(folder) / p.name) if p.is_dir() else shutil.copy(p, folder)
            done = subprocess.run([sys.executable, "-c", code, *arguments], cwd=folder, capture_output=True, text=True, timeout=60, errors="replace")
            plain(done.returncode, done.stderr, arguments)
    throw(command_lines(), check, 200 if full else 4)
