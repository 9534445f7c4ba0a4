"""Bad input, through Python and through the command line: one clear error each, and nothing half-written."""
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from conftest import SMALL, has_likelihood, small
from genmod_nb.cli import main
from genmod_nb.tables import check_losses, read_losses
from genmod_nb.metrics import anderson_darling, kendall_error, kendall_function, noise_floor, scorecard, tail_dependence, tail_error


def spoil(table, how):
    """The table with one defect, and what the error must name."""
    t = table.copy().reset_index(drop=True)
    if how == "nan":
        t.iloc[[3, 9], 1] = np.nan
        return t, ["'f2'", "2 NaN", "3, 9"]
    if how == "inf":
        t.iloc[4, 2] = np.inf
        return t, ["'f3'", "1 inf", "4"]
    if how == "negative":
        t.iloc[5, 0] = -0.1
        return t, ["'f1'", "1 negative", "5"]
    if how == "text":
        t["f4"] = t["f4"].astype(object)
        t.iloc[2, 3] = "abc"
        return t, ["'f4'", "'abc'", "2"]
    if how == "constant":
        t["f3"] = 0.5
        return t, ["'f3'", "0.5"]
    if how == "duplicate names":
        t.columns = ["a", "b", "b", "c"]
        return t, ["'b'"]
    if how == "few rows":
        return t.head(19), ["19", "20"]
    if how == "one column":
        return t[["f1"]], ["column"]
    if how == "zero columns":
        return t[[]], ["column"]


DEFECTS = ["nan", "inf", "negative", "text", "constant", "duplicate names", "few rows", "one column"]


@pytest.mark.parametrize("how", DEFECTS + ["zero columns"])
def test_check_losses(tables, how):
    table, named = spoil(tables[0], how)
    with pytest.raises(ValueError) as error:
        check_losses(table)
    assert all(word in str(error.value) for word in named), error.value


@pytest.mark.parametrize("how", [d for d in DEFECTS if d != "few rows"])
def test_fit(kind, tables, how):
    table, named = spoil(tables[0], how)
    with pytest.raises(ValueError) as error:
        kind(**SMALL).fit(table)
    assert all(word in str(error.value) for word in named), error.value


def genmod(capsys, *arguments):
    """Run a command in this process; its status and what it says on stderr."""
    try:
        status = main([str(a) for a in arguments])
    except SystemExit as e:
        status = e.code
    return status, capsys.readouterr().err


@pytest.mark.parametrize("how", DEFECTS)
@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_command_line_fit(tables, tmp_path, capsys, how, suffix):
    table, named = spoil(tables[0], how)
    if suffix == "parquet" and how in ("duplicate names", "text"):
        pytest.skip("parquet cannot hold it")
    path = tmp_path / f"losses.{suffix}"
    table.to_csv(path, index=False) if suffix == "csv" else table.to_parquet(path, index=False)
    status, err = genmod(capsys, "fit", path, "--out", tmp_path / "model", "--epochs", 1, "--quiet")
    assert status == 2 and err.count("\n") == 1 and "Traceback" not in err
    if not (how == "one column" and suffix == "csv"):
        assert all(word in err for word in named), err
    assert os.listdir(tmp_path) == [path.name]


@pytest.fixture
def model(fitted, tmp_path):
    return fitted.save(tmp_path / "model")


@pytest.fixture
def losses(tables, tmp_path):
    tables[0].to_csv(tmp_path / "losses.csv")
    return tmp_path / "losses.csv"


def requests(losses, model, tmp_path):
    """Requests with something wrong, and the word that the error must hold."""
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "blank.csv").write_text("\n\n")
    (tmp_path / "head.csv").write_text("a,b\n")
    (tmp_path / "ragged.csv").write_text("a,b\n" + "1,2\n" * 30 + "1,2,3,4\n")
    (tmp_path / "binary.csv").write_bytes(bytes(range(256)) * 20)
    (tmp_path / "fake.parquet").write_text("not parquet")
    (tmp_path / "losses.xlsx").write_text("x")
    (tmp_path / "file").write_text("x")
    pd.read_csv(losses, index_col=0)[["f1", "f2", "f3"]].to_csv(tmp_path / "three.csv")
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "config.json").write_text("{}")
    (tmp_path / "foreign" / "model.safetensors").write_bytes(b"\0" * 8)
    fit = lambda name: ["fit", tmp_path / name, "--out", tmp_path / "m"]
    return [
        (fit("missing.csv"), "missing.csv"), (fit("empty.csv"), "empty"), (fit("blank.csv"), "empty"), (fit("head.csv"), "n_samples=0"),
        (fit("ragged.csv"), "ragged.csv"), (fit("binary.csv"), ""), (fit("fake.parquet"), "fake.parquet"), (fit("losses.xlsx"), ".xlsx"),
        (fit("model"), "no .parquet file"), (["fit", losses], "--out"), (["fit", losses, "--out", tmp_path / "file" / "m"], "file"),
        (["fit", losses, "--out", tmp_path / "foreign", "--epochs", 1, "--model", "oracle"], "oracle"),
        (["fit", losses, "--out", tmp_path / "m", "--epochs", 0], "max_epochs"), (["fit", losses, "--out", tmp_path / "m", "--param", "depth=3"], "depth"),
        (["fit", losses, "--out", tmp_path / "m", "--param", "latent_dim"], "name=value"),
        (["fit", losses, "--out", tmp_path / "m", "--param", "latent_dim=0"], "latent_dim"),
        (["fit", losses, "--out", tmp_path / "m", "--param", "sigma=loud"], "sigma"),
        (["fit", losses, "--out", tmp_path / "m", "--seed", "x"], "--seed"),
        (["fit", losses, "--out", tmp_path, "--epochs", 1], "not a model folder"),
        (["sample", model, "-n", 0, "--out", tmp_path / "x.csv"], "n_samples=0"), (["sample", model, "-n", -5, "--out", tmp_path / "x.csv"], "n_samples=-5"),
        (["sample", model, "-n", "many", "--out", tmp_path / "x.csv"], "many"), (["sample", model], "--out"),
        (["sample", model, "--out", tmp_path / "x.xlsx"], ".csv"), (["sample", model, "--out", tmp_path / "file" / "x.csv"], "file"),
        (["sample", model, "--out", "/proc/genmod/x.csv"], "proc"), (["sample", tmp_path / "foreign", "--out", tmp_path / "x.csv"], "foreign"),
        (["sample", tmp_path / "nowhere", "--out", tmp_path / "x.csv"], "nowhere"), (["sample", losses, "--out", tmp_path / "x.csv"], "no model folder"),
        (["score", losses, tmp_path / "three.csv"], "f4"), (["score", losses, tmp_path / "missing.csv"], "missing.csv"),
        (["score", losses, losses, "--train", tmp_path / "three.csv"], "f4"), (["score", losses, losses, "--reps", 0], "--reps"),
        (["score", losses], "fake"), ([], "no command"), (["dance"], "dance"),
    ]


def test_command_line_requests(losses, model, tmp_path, capsys):
    cases = requests(losses, model, tmp_path)
    before = sorted(tmp_path.rglob("*"))
    for arguments, word in cases:
        status, err = genmod(capsys, *arguments)
        assert status == 2 and word in err and "Traceback" not in err, (arguments, status, err)
        assert sorted(tmp_path.rglob("*")) == before, arguments


def test_real_process(losses, tmp_path):
    run = lambda *a: subprocess.run([sys.executable, "-c", "import sys; from genmod_nb.cli import main; sys.exit(main())", *map(str, a)],
                                    capture_output=True, text=True)
    done = run("fit", losses, "--out", tmp_path / "m", "--epochs", 2)
    assert done.returncode == 0 and "720 rows x 4 columns" in done.stdout, done.stderr
    wrong = run("sample", tmp_path / "m", "-n", "0", "--out", tmp_path / "x.csv")
    assert wrong.returncode == 2 and wrong.stderr == "genmod sample: error: n_samples=0: ask for 1 row or more\n"
    few = tmp_path / "few.csv"
    pd.read_csv(losses, index_col=0).head(30).to_csv(few)
    warned = run("fit", few, "--out", tmp_path / "m", "--epochs", 2, "--quiet")
    assert warned.returncode == 0 and warned.stdout == "" and warned.stderr.startswith("genmod fit: warning: 30 rows")


@pytest.mark.parametrize("command", ["fit", "sample", "score"])
def test_help_names_every_argument(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    text = capsys.readouterr().out
    assert stop.value.code == 0
    lines = [l for l in text.splitlines() if l.startswith("  ") and not l.startswith("      ")]
    assert lines and all(len(l.split(None, 2)) > 2 or l.strip().startswith("-") for l in lines), text


def test_wrong_columns_at_score(fitted, tables):
    if not has_likelihood(fitted):
        pytest.skip("this model has no likelihood")
    for wrong in (tables[1][["f1", "f2", "f3"]], tables[1].rename(columns={"f1": "g"}), tables[1][["f2", "f1", "f3", "f4"]]):
        with pytest.raises(ValueError, match="feature"):
            fitted.score(wrong)


def test_unfitted(kind, tables):
    from sklearn.exceptions import NotFittedError
    calls = [lambda m: m.sample(3), lambda m: m.save("x")]
    if has_likelihood(kind()):
        calls.append(lambda m: m.score(tables[1]))
    for call in calls:
        with pytest.raises(NotFittedError):
            call(kind())


def test_metrics_refuse(tables):
    train, test = tables
    for metric in (anderson_darling, kendall_error, tail_error, scorecard):
        with pytest.raises(ValueError, match="f4"):
            metric(train, test[["f1", "f2", "f3"]])
        with pytest.raises(ValueError, match="NaN"):
            metric(train, test.mask(test > 0.05))
    for X in (np.zeros(5), np.zeros((1, 3))):
        with pytest.raises(ValueError, match="shape"):
            kendall_function(X)
    with pytest.raises(ValueError, match="rows"):
        noise_floor(test, 400, 300)
    with pytest.raises(ValueError, match="u=1"):
        tail_dependence(test, 1)
    with pytest.raises(ValueError, match="q=1"):
        tail_error(test, train, q=1)


def test_read_losses_keeps_what_looks_like_an_index_but_is_not(tmp_path):
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"count": rng.integers(0, 50, 40), "loss": rng.random(40), "claim": rng.random(40)})
    X.to_csv(tmp_path / "a.csv", index=False)
    assert list(read_losses(tmp_path / "a.csv")) == ["count", "loss", "claim"]


@pytest.mark.parametrize("text", ["a b c\n" + "0.1 0.2 0.3\n0.3 0.1 0.2\n" * 15, "a;b;c\r\n" + "0,1;0,2;1\r\n0,3;1;2,5\r\n" * 15,
                                  "\ufeffa,b,c\n" + "1e-3,2,3\n3,1.5,2\n" * 15, '"a, in EUR","b","c"\n' + "1,2,3\n3,1,2\n" * 15])
def test_read_losses_dialects(tmp_path, text):
    (tmp_path / "a.csv").write_text(text, encoding="utf-8", newline="")
    X = read_losses(tmp_path / "a.csv")
    assert X.shape == (30, 3) and X.columns[1] == "b" and X.columns[0].startswith("a")


def test_command_line_refuses_a_foreign_folder_before_the_work(losses, tmp_path, capsys):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "config.json").write_text("{}")
    (tmp_path / "full" / "thesis.tex").write_text("precious")
    status, err = genmod(capsys, "fit", losses, "--out", tmp_path / "full", "--epochs", 1_000_000)
    assert status == 2 and "not a model folder" in err
    assert (tmp_path / "full" / "thesis.tex").read_text() == "precious"


def test_command_line_scores_what_it_samples(losses, tmp_path, capsys):
    """A collapsed model on the raw scale generates negative and constant columns; score says how bad they are."""
    fit = ["fit", losses, "--out", tmp_path / "m", "--epochs", 2, "--quiet", "--param", "margins=identity", "decoder_noise=false", "sigma=1"]
    assert genmod(capsys, *fit)[0] == 0
    assert genmod(capsys, "sample", tmp_path / "m", "-n", 100, "--out", tmp_path / "x.csv")[0] == 0
    assert genmod(capsys, "score", losses, tmp_path / "x.csv", "--reps", 3)[0] == 0


@pytest.mark.parametrize("device", ["gpu", "meta2"])
def test_unusable_device(losses, tmp_path, capsys, device):
    status, err = genmod(capsys, "fit", losses, "--out", tmp_path / "m", "--param", f"device={device}")
    assert status == 2 and "device" in err and "Traceback" not in err


NUMBERED = pd.DataFrame(np.random.default_rng(0).random((40, 3)), columns=["a", "b", "c"])


@pytest.mark.parametrize("write, columns", [
    (lambda t, p: t.set_axis(range(3), axis=1).to_csv(p, index=False), 3), (lambda t, p: t.set_axis(range(3), axis=1).to_csv(p), 3),
    (lambda t, p: t.set_axis([2018, 2019, 2020], axis=1).to_csv(p, index=False), 3), (lambda t, p: t.sample(frac=0.9, random_state=0).to_csv(p), 3),
    (lambda t, p: t.rename_axis("policy_id").set_axis(range(1000, 1080, 2)).to_csv(p), 3),
    (lambda t, p: t.set_axis(pd.date_range("2020-03-20", periods=40, tz="Europe/Paris")).to_csv(p), 3),
    (lambda t, p: p.write_text("sep=;\n" + t.to_csv(index=False, sep=";", decimal=",")), 3),
    (lambda t, p: p.write_text(t.to_csv(index=False).replace("\n", ",\n")), 3), (lambda t, p: p.write_text(t.to_csv(index=False).replace(",", ", ")), 3),
    (lambda t, p: t.rename(columns=dict(b="a.1")).to_csv(p, index=False), 3), (lambda t, p: t.rename(columns=dict(a="a; in EUR|x")).to_csv(p, index=False), 3),
])
def test_read_losses_headers_and_indices(tmp_path, write, columns):
    path = tmp_path / "t.csv"
    write(NUMBERED.round(4), path)
    X = read_losses(path)
    assert X.shape[1] == columns and len(X) in (36, 40) and X.max(axis=None) < 1
    assert all(c == c.strip() for c in X.columns)


def test_read_losses_does_not_take_an_index_for_a_loss(tmp_path):
    NUMBERED[["a"]].to_csv(tmp_path / "one.csv")
    with pytest.raises(ValueError, match="2 columns"):
        read_losses(tmp_path / "one.csv")


def test_read_losses_damaged_archive(tmp_path):
    NUMBERED.to_csv(tmp_path / "t.csv.gz")
    data = (tmp_path / "t.csv.gz").read_bytes()
    for bad in (data[:-20], data[:40] + b"\0" * 40 + data[80:]):
        (tmp_path / "bad.csv.gz").write_bytes(bad)
        with pytest.raises(ValueError, match="bad.csv.gz"):
            read_losses(tmp_path / "bad.csv.gz")


@pytest.mark.parametrize("column", [pd.Series(pd.date_range("2020", periods=40)), NUMBERED.a + 1j, pd.Series([10 ** 400] * 40, dtype=object),
                                    pd.Series([pd.NA] * 40, dtype=object), pd.arrays.SparseArray([0.0, 1.0] * 20),
                                    pd.Series(["x"] * 40, dtype="category"), pd.Series(pd.period_range("2020", periods=40))])
def test_check_losses_odd_types(column):
    with pytest.raises(ValueError, match="column 'd'"):
        check_losses(NUMBERED.assign(d=column))


@pytest.mark.parametrize("dtype", ["datetime64[ns]", "timedelta64[ns]", complex, pd.SparseDtype(float)])
@pytest.mark.parametrize("rows, what", [(0, "n_samples=0"), (30, "30 NaN")])
def test_check_losses_columns_with_nothing_in_them(dtype, rows, what):
    with pytest.raises(ValueError, match=what):
        check_losses(pd.DataFrame({c: pd.Series([None] * rows, dtype=object).astype(dtype) for c in "ab"}))


@pytest.mark.parametrize("dtype", ["Float64", "Int64", "bool", "float32", object])
def test_check_losses_usual_types(dtype):
    X = check_losses((NUMBERED * 100).round().mod(2).astype("int64").astype(dtype))
    assert (X.dtypes == np.float64).all()


def test_check_losses_names():
    for names in ([("a", 1), ("a", 2), ("b", 1)], pd.date_range("2020", periods=3)):
        with pytest.raises(ValueError, match="column name"):
            check_losses(NUMBERED.set_axis(pd.Index(list(names), tupleize_cols=False), axis=1))


def test_column_order_is_checked_for_names_that_are_numbers(kind):
    X = NUMBERED.set_axis(range(3), axis=1)
    model = small(kind).fit(X)
    assert list(model.sample(2)) == [0, 1, 2]
    if has_likelihood(model):
        with pytest.raises(ValueError, match="feature"):
            model.score(X[[2, 1, 0]])
    with pytest.raises(ValueError, match="fitted"):
        model.margins_.transform(X[[2, 1, 0]])


def test_tail_error_is_its_formula():
    real = np.arange(1.0, 31)[:, None]
    fake = real.copy()
    fake[28] = 29.5        # i > 28.5: the 29th and 30th order statistics
    assert tail_error(real, fake) == pytest.approx(0.5 / 59)
    assert tail_error(0 * real, 0 * real) == 0 and tail_error(0 * real, fake) == np.inf


def test_command_line_parquet_of_objects(tmp_path, capsys):
    pd.DataFrame({"a": [{"x": 1}] * 30, "b": range(30)}).to_parquet(tmp_path / "t.parquet")
    status, err = genmod(capsys, "fit", tmp_path / "t.parquet", "--out", tmp_path / "m")
    assert status == 2 and "t.parquet" in err and "Traceback" not in err
