"""Value at risk and expected shortfall against closed forms and hand counts; their errors against repeated draws; intervals, and the command."""
import re
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
from scipy import integrate, stats
from sklearn.exceptions import NotFittedError

from genmod_nb.baselines import Baseline, Bootstrap, GaussianCopula, GaussianMixture
from genmod_nb.cli import main
from genmod_nb.data import load_losses
from genmod_nb.risks import _interval, risk
from genmod_nb.store import Store
from genmod_nb.tables import TableWarning
from genmod_nb.vae import VAE

TRAIN = load_losses()[0]
ROOT = np.linalg.cholesky([[1, 0.5], [0.5, 1]])


class Normal(Baseline):
    """Two standard normal columns with correlation 1/2: every position has a closed form."""
    margins, _shapes = "identity", {}

    def _learn(self, Z): pass
    def _draw(self, n, rng): return rng.standard_normal((n, 2)) @ ROOT.T


NORMAL = Normal().fit(pd.DataFrame(np.random.default_rng(0).normal(size=(50, 2)), columns=["a", "b"]))
del Baseline.registry["Normal"]


def by_hand(x, level):
    """Quantile and the mean of the worst share 1 - level of equally likely outcomes, the last of them in part."""
    x, left, total = np.sort(x)[::-1], round(len(x) * (1 - level), 9), 0.0
    for value in x:
        total += value * min(left, 1)
        left -= min(left, 1)
        if left <= 0:
            break
    q = next(v for v in np.unique(x) if (x <= v).mean() >= level - 1e-12)
    return q, total / (len(x) * (1 - level))


@pytest.mark.parametrize("n", [40, 101, 1000])
@pytest.mark.parametrize("level", [0.05, 0.5, 0.61, 0.7])
def test_small_arrays_with_ties(n, level):
    x = np.random.default_rng(n).integers(-3, 4, n).astype(float)
    row = risk(x[:, None], levels=level).iloc[0]
    np.testing.assert_allclose(row[["var", "es"]].astype(float), by_hand(x, level), rtol=1e-12, atol=1e-12)
    assert row["var"] == np.quantile(x, level, method="inverted_cdf")


@pytest.mark.parametrize("law", [stats.norm(3), stats.expon(), stats.pareto(4), stats.lognorm(0.5)], ids=["normal", "exponential", "Pareto", "log-normal"])
@pytest.mark.parametrize("level", [0.9, 0.99, 0.999])
def test_closed_forms(law, level):
    x = law.rvs(size=400_000, random_state=1)[:, None]
    row = risk(x, levels=level).iloc[0]
    q = law.ppf(level)
    es = integrate.quad(lambda u: law.ppf(1 - u), 0, 1 - level)[0] / (1 - level)
    assert abs(row["var"] - q) < 4 * row.var_error and abs(row.es - es) < 4 * row.es_error
    assert row.var_error == pytest.approx(np.sqrt(level * (1 - level) / 400_000) / law.pdf(q), rel=0.3)


def test_a_model_and_weighted_sums_of_it():
    found = risk(NORMAL, {"sum": {"b": 1, "a": 1}, "net": {"a": 1, "b": -1}, "half": {"b": 0.5}}, n_samples=500_000, random_state=3)
    assert list(found) == ["position", "level", "var", "var_error", "es", "es_error"]
    assert list(found.position.unique()) == ["a", "b", "sum", "net", "half"] and list(found.level[:3]) == [0.95, 0.99, 0.999]
    scale = found.position.map({"a": 1, "b": 1, "sum": 3 ** 0.5, "net": 1, "half": 0.5})
    z = stats.norm.ppf(found.level)
    assert (abs(found["var"] - scale * z) < 4 * found.var_error).all()
    assert (abs(found.es - scale * stats.norm.pdf(z) / (1 - found.level)) < 4 * found.es_error).all()


def test_errors_are_those_of_repeated_draws():
    """Over 300 draws of 20,000 rows, the deviation of the estimates is the error that is told; its own error is 4 %."""
    some = [risk(NORMAL, levels=(0.9, 0.99), n_samples=20_000, random_state=s) for s in range(300)]
    for value in ("var", "es"):
        spread = np.std([f[value] for f in some], axis=0, ddof=1)
        told = np.mean([f[f"{value}_error"] for f in some], axis=0)
        np.testing.assert_allclose(told, spread, rtol=0.16)


def test_pieces_make_no_difference():
    X = NORMAL.sample(250_000, 5)
    pd.testing.assert_frame_equal(risk(X), risk(NORMAL, n_samples=250_000, random_state=5), rtol=1e-12)


def test_tables_of_every_kind_and_weights_in_any_order():
    X = pd.DataFrame(np.random.default_rng(0).exponential(size=(2000, 3)), columns=["x", "y", "z"])
    like = risk(X, {"x": 1, "z": 3}, levels=0.9)
    for table in (pl.from_pandas(X), X.to_numpy()):
        weights = {"z": 3, "x": 1} if not isinstance(table, np.ndarray) else [1, 0, 3]
        pd.testing.assert_frame_equal(risk(table, weights, levels=0.9).drop(columns="position"), like.drop(columns="position"))
    assert list(like.position) == ["x", "y", "z", "portfolio"]
    assert list(risk(X.to_numpy(), levels=0.9).position) == ["f1", "f2", "f3", "mean"]
    pd.testing.assert_frame_equal(risk(X.set_axis([0, 1, 2], axis=1), {"0": 1, 2: 3}, levels=0.9).iloc[3:], like.iloc[3:])


@pytest.mark.parametrize("change, says", [
    (dict(levels=1), "between 0 and 1"), (dict(levels=[]), "between 0 and 1"), (dict(levels=["0.9"]), "between 0 and 1"), (dict(levels=99), "between 0 and 1"),
    (dict(weights={"q": 1}), "no column 'q'"), (dict(weights={"p": {"q": 1}}), "no column 'q'"), (dict(weights=[1, 2, 3]), "one for each"),
    (dict(weights={"a": np.nan}), "finite"), (dict(weights={"a": {"b": 1}}), "column already"), (dict(n_samples=0), "n_samples"),
    (dict(n_samples=5000), "10000 draws or more"), (dict(random_state=-1), "random_state"),
    (dict(intervals=200), "give X"), (dict(intervals=5, X=NORMAL.sample(50, 0)), "20 refits"), (dict(intervals=2.5, X=TRAIN), "whole number"),
    (dict(intervals=20, X=TRAIN), "feature"), (dict(intervals=20, X=NORMAL.sample(50, 0)[["b", "a"]]), "order"),
])
def test_bad_requests(change, says):
    with pytest.raises(ValueError, match=says):
        risk(NORMAL, **{"n_samples": 20_000, "levels": (0.9, 0.999)} | change)


def test_bad_tables_and_models():
    for table, says in ((TRAIN, "1 of 720|0 of 720"), (TRAIN.assign(f1=np.nan), "NaN"), (TRAIN.head(0), "no rows|0 sample"), (TRAIN.assign(mean=1.0), "column already")):
        with pytest.raises(ValueError, match=says):
            risk(table)
    with pytest.raises(ValueError, match="a table is not fitted"):
        risk(TRAIN, levels=0.9, intervals=20, X=TRAIN)
    with pytest.raises(NotFittedError):
        risk(GaussianCopula())


def test_intervals_of_the_bootstrap_are_the_textbook_ones():
    """Of the rows' own 90 % quantile: what resampling the rows directly gives, within the noise of 300 resamples."""
    x = TRAIN[["f1", "f2"]]
    row = risk(Bootstrap().fit(x), levels=0.9, n_samples=20_000, random_state=0, X=x, intervals=300, n_jobs=1, progress=False).iloc[0]
    rng = np.random.default_rng(1)
    own = [np.quantile(rng.choice(x.f1, len(x)), 0.9, method="inverted_cdf") for _ in range(4000)]
    low, high = row["var"] ** 2 / np.quantile(own, (0.95, 0.05))       # on the log scale
    assert row.var_low == pytest.approx(low, abs=0.15 * (high - low)) and row.var_high == pytest.approx(high, abs=0.15 * (high - low))
    assert row.es_low < row.es < row.es_high


def test_intervals_of_what_is_not_positive_are_basic_on_the_plain_scale():
    """Refits that lie mostly above the estimate speak of a truth below it, on either scale. A position that is long and short in one column is 0 in every draw; one that is short is negative up to its end."""
    X = TRAIN[["f1", "f2"]]
    found = risk(Bootstrap().fit(X), {"flat": {"f1": 0}, "short": {"f1": -1}}, 0.5, 2000, 0, X, 20, n_jobs=1, progress=False).set_index("position")
    assert (found.loc["flat", ["var", "var_low", "var_high", "es_high"]] == 0).all()
    assert found.loc["short", "var_low"] < found.loc["short", "var"] < found.loc["short", "var_high"] < 0
    refits = np.array([-1.2, -1.0, -0.8, -0.4, -0.2])[:, None]
    low, high = np.quantile(refits, (0.05, 0.95))
    assert _interval(np.array([-1.0]), refits).ravel() == pytest.approx([-2 - high, -2 - low])
    logs, crossing = _interval(np.array([1.0]), 2 + refits), _interval(np.array([0.0]), 1 + refits)
    assert logs.ravel() == pytest.approx([1 / (2 + high), 1 / (2 + low)]) and crossing.ravel() == pytest.approx([-1 - high, -1 - low])


def test_intervals_at_an_atom_are_no_negative_losses():
    """Where seven losses in ten are zero the 70 % quantile is zero in some refits: the ends are those of the refits, not a reflection below zero."""
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"a": np.where(np.arange(300) < 210, 0.0, 1 + rng.pareto(3, 300)), "b": 1 + rng.pareto(3, 300)})
    row = risk(Bootstrap().fit(X), levels=0.7, n_samples=20_000, random_state=0, X=X, intervals=40, n_jobs=1, progress=False).iloc[0]
    assert row.var_low == 0 and row["var"] <= row.var_high and row.var_high > 0 and 0 < row.es_low < row.es < row.es_high


@pytest.mark.parametrize("model", [GaussianCopula(), VAE(max_epochs=1, random_state=0, progress=False, compile=False)])
def test_refits_do_not_warn_of_resampled_tables(model):
    """Their rows have other numbers than the table's own, of which the fit has warned."""
    X = TRAIN.head(200).copy()
    X.iloc[7, 2] = 900.0
    with pytest.warns(TableWarning, match="check the unit"):
        fitted = model.fit(X)
    with warnings.catch_warnings():
        warnings.simplefilter("error", TableWarning)
        for jobs in (1, 2):
            risk(fitted, levels=0.9, n_samples=2000, X=X, intervals=20, n_jobs=jobs, progress=False)


def test_intervals_are_the_same_again_wherever_they_are_made():
    X = TRAIN.head(100)
    mixture = GaussianMixture(max_components=2, random_state=0).fit(X)
    asked = dict(levels=0.9, n_samples=2000, random_state=1, X=X, intervals=20, progress=False)
    one, two = (risk(mixture, n_jobs=jobs, **asked) for jobs in (1, 2))
    three = risk(mixture, n_jobs=1, **asked | {"random_state": 2})
    pd.testing.assert_frame_equal(one, two)
    assert not np.isclose(one.var_low, three.var_low, rtol=1e-9).any()
    assert (one.var_low < one["var"]).all() and (one["var"] < one.var_high).all()


def test_networks_are_fitted_once_with_a_store(tmp_path):
    X = pl.from_pandas(TRAIN.head(200))
    model, store = VAE(max_epochs=2, random_state=0, progress=False, compile=False).fit(X), Store(tmp_path / "fits.db")
    asked = dict(levels=0.9, n_samples=2000, random_state=1, X=X, intervals=20, n_jobs=1, store=store, progress=False)
    one = risk(model, **asked)
    made = set(store.table().created)
    pd.testing.assert_frame_equal(risk(model, **asked), one)
    assert len(made) == 20 and set(store.table().created) == made
    assert (one.es_low < one.es_high).all() and model.random_state == 0


def run(capsys, *line):
    status = main([str(part) for part in line])
    return status, *capsys.readouterr()


def test_the_command(tmp_path, capsys):
    copula = GaussianCopula().fit(TRAIN)
    copula.save(tmp_path / "m")
    TRAIN.to_csv(tmp_path / "rows.csv", index=False)
    asked = "--weights f2=0.75 f1=0.25 --levels 0.9 0.99 -n 2000 --seed 4 --quiet".split()
    status, out, err = run(capsys, "risk", tmp_path / "m", *asked, "--out", tmp_path / "risk.parquet", "--intervals", 20, "--data", tmp_path / "rows.csv")
    assert (status, err) == (0, "") and "portfolio" in out and "var_low" in out
    like = risk(copula, {"f1": 0.25, "f2": 0.75}, (0.9, 0.99), 2000, 4, TRAIN, 20, n_jobs=1, progress=False)
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "risk.parquet"), like)
    status, out, err = run(capsys, "risk", tmp_path / "rows.csv", "--levels", 0.9, "--columns", "f1", "f3", "--out", tmp_path / "risk.csv")
    assert (status, err) == (0, "")
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "risk.csv"), risk(TRAIN[["f1", "f3"]], levels=0.9))


@pytest.mark.parametrize("line, says", [
    ("m --weights f9=1 -n 20000", "no column 'f9'"), ("rows.csv", "draws or more|rows or more"), ("rows.csv --intervals 20 --data rows.csv", "a table is not fitted"),
    ("m --intervals 20 --data rows.csv -n 20000 --store fits.db", "it keeps a network's refits"),
    ("m --intervals 3 --data rows.csv -n 20000", "20 refits"), ("m --intervals 20 --data negative.csv -n 20000", "negative")])
def test_mistakes_of_the_command(line, says, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    GaussianCopula().fit(TRAIN).save("m")
    TRAIN.to_csv("rows.csv", index=False)
    (TRAIN - 0.02).to_csv("negative.csv", index=False)
    status, out, err = run(capsys, "risk", *line.split())
    assert status == 2 and out == "" and err.count("\n") == 1
    assert re.search(says, err), err
    assert not Path("fits.db").exists()


def test_the_command_goes_on_from_a_store(tmp_path, capsys):
    """The second run fits nothing, and says the same."""
    VAE(max_epochs=1, random_state=0, progress=False, compile=False).fit(TRAIN.head(200)).save(tmp_path / "m")
    TRAIN.head(200).to_csv(tmp_path / "rows.csv", index=False)
    line = ["risk", tmp_path / "m", "--levels", 0.9, "-n", 2000, "--seed", 1, "--quiet", "--intervals", 20, "--data", tmp_path / "rows.csv", "--store", tmp_path / "fits.db"]
    first = run(capsys, *line)
    made = set(Store(tmp_path / "fits.db").table().created)
    assert first[0] == 0 and run(capsys, *line) == first and len(made) == 20
    assert set(Store(tmp_path / "fits.db").table().created) == made
    status, _, err = run(capsys, *line[:9], "--store", tmp_path / "fits.db")
    assert status == 2 and "give --intervals" in err
