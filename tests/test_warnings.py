"""What `fit` says about a table whose rows follow each other, and about columns that others make up."""
import warnings
import numpy as np
import pandas as pd
import pytest
from pyarrow.dataset import dataset
from scipy import stats
from genmod_nb.cli import main
from genmod_nb.data import load_losses, simulate_losses
from genmod_nb.baselines import GaussianCopula, Vine
from genmod_nb.ensemble import Ensemble
from genmod_nb.study import study_tables
from genmod_nb.screening import path_columns, serial_correlation, sum_columns
from genmod_nb.tables import warn_of_table
from genmod_nb.many import fit_many
from genmod_nb.vae import VAE

SMALL = dict(max_epochs=1, progress=False, random_state=0, compile=False)


def said(f, *args, **kwargs):
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        f(*args, **kwargs)
    return [str(w.message) for w in seen]


def walk(n=300, d=3, sd=0.02, seed=0):
    steps = np.random.default_rng(seed).standard_normal((n, d))
    return pd.DataFrame(100 * np.exp(sd * steps.cumsum(axis=0)), columns=[f"price {j}" for j in range(d)])


def autoregression(phi, n=600, seed=0):
    x = np.random.default_rng(seed).standard_normal((n, 2))
    for t in range(1, n):
        x[t] += phi * x[t - 1]
    return pd.DataFrame(np.exp(x), columns=["a", "b"])


def moved_together(n, d=4, seed=0):
    rng = np.random.default_rng(seed)
    z = 1.5 * rng.standard_normal((n, 1)) + rng.standard_normal((n, d))
    return pd.DataFrame(np.exp(z)).rename(columns="f{}".format)


# ------------------------------------------------------------------ rows that follow each other
def book():
    return pd.concat(load_losses()).sort_index()


def stocks():
    from skfolio.datasets import load_sp500_dataset
    return load_sp500_dataset()


PATHS = {"prices": walk, "prices of stocks": lambda: stocks().loc["2018":], "a quarter's prices": lambda: stocks().iloc[-60:],
         "rates in steps": lambda: ((walk(1000, 2, 0.01) / 25 / 0.05).round() * 0.05), "an autoregression": lambda: autoregression(0.8),
         "one price among losses": lambda: simulate_losses(300, 0).assign(price=walk().iloc[:, 0]),
         "prices beside a running number": lambda: walk().assign(number=np.arange(300.0)),
         "smoothed over twenty days": lambda: np.log(stocks()).diff().rolling(20).std().dropna(),
         "months of a climate": lambda: pd.DataFrame({c: 15 + 10 * np.sin(np.arange(360) / 6 * np.pi) + np.random.default_rng(c).standard_normal(360)
                                                      for c in (0, 1)})}


@pytest.mark.parametrize("name", PATHS)
def test_a_path_is_named(name):
    X = PATHS[name]().rename(columns=str)
    text, = [t for t in said(warn_of_table, X) if "serially" in t]
    found = path_columns(X)
    assert f"lag-1 rank correlation {found.max():.2f} in '{found.idxmax()}'" in text and "did you mean the changes?" in text
    assert serial_correlation(X[found.idxmax()]) == pytest.approx(stats.spearmanr(X[found.idxmax()][1:], X[found.idxmax()][:-1]).statistic)


def two_files():
    X = moved_together(600)
    return pd.concat([X[:300].sort_values("f0"), X[300:].sort_values("f0")])


ROWS = {"the book": book, "the book, split": lambda: load_losses()[0], "absolute returns": lambda: np.log(stocks()).diff().dropna().abs(),
        "returns": lambda: np.log(stocks()).diff().dropna(), "the law": lambda: simulate_losses(720, 0), "sorted by a column": lambda: book().sort_values("f2"),
        "sorted downwards": lambda: book().sort_values("f3", ascending=False), "sorted by the total": lambda: moved_together(900).loc[lambda X: X.sum(axis=1).sort_values().index],
        "two sorted files": two_files, "regions": lambda: moved_together(900).mul(np.repeat([1, 30, 900], 300), axis=0),
        "inflation": lambda: moved_together(900).mul(np.exp(np.linspace(0, 5, 900)), axis=0), "a running number": lambda: moved_together(500).assign(number=np.arange(500.0)),
        "rare claims": lambda: moved_together(1000).where(np.random.default_rng(0).random((1000, 4)) < 0.02, 0), "alternating": lambda: moved_together(300).mul(1 + 9 * (np.arange(300) % 2), axis=0),
        "two rows": lambda: moved_together(2), "three rows": lambda: moved_together(3)}


@pytest.mark.parametrize("name", ROWS)
def test_rows_are_not(name):
    assert said(warn_of_table, ROWS[name]().rename(columns=str)) == []


@pytest.mark.parametrize("n", [12, 20, 30, 60, 200])
def test_independent_rows_are_no_path_by_chance(n):
    named = sum(len(path_columns(moved_together(n, 10, seed))) > 0 for seed in range(300))
    assert named <= 2                                   # a table in a thousand
    assert sum(len(path_columns(moved_together(n, 10, seed).sort_values("f0"))) > 0 for seed in range(100)) <= 3


def test_the_law_is_never_named():
    assert [seed for seed in range(200) if said(warn_of_table, simulate_losses(720 if seed % 2 else 60, seed))] == []


@pytest.mark.parametrize("seed", range(3))
def test_the_studies_run_without_a_word(seed):
    for train, test in study_tables(seed).values():
        assert said(warn_of_table, train) == said(warn_of_table, test) == []


# ------------------------------------------------------------------ columns that others make up
def parts(n=300, d=4, seed=0, sd=1.0):
    z = np.random.default_rng(seed).standard_normal((n, d))
    return pd.DataFrame(100 * np.exp(sd * z), columns=["fire", "hail", "storm", "theft", "water", "wind", "ice", "dust", "glass", "frost", "ash", "smoke", "rust", "mould"][:d])


def total(X):
    return X.assign(total=X.sum(axis=1))


def net(X):
    ceded = X.fire * np.random.default_rng(1).random(len(X))
    return X[["hail"]].assign(gross=X.fire, ceded=ceded, net=X.fire - ceded)


def nested(X):
    return X.assign(nature=X.hail + X.storm, total=X.sum(axis=1))


ALL = dict(fire=1, hail=1, storm=1, theft=1)
SUMS = {"total": (lambda: total(parts()), {"total": ALL}), "of two": (lambda: parts().assign(t=lambda X: X.fire + X.theft), {"t": dict(fire=1, theft=1)}),
        "first": (lambda: total(parts()).iloc[:, ::-1], {"total": ALL}), "heavy tails": (lambda: total(parts(sd=2.5)), {"total": ALL}),
        "rounded after": (lambda: total(parts()).round(1), {"total": ALL}), "to whole": (lambda: total(parts()).round(0), {"total": ALL}),
        "to a hundredth of 0.02": (lambda: total(parts() / 5000).round(4), {"total": ALL}), "to a thousandth of 0.02": (lambda: total(simulate_losses(720, 0)).round(3), {"total": dict(f1=1, f2=1, f3=1, f4=1)}), "rounded before": (lambda: total(parts().round(0)), {"total": ALL}),
        "one column rounded": (lambda: total(parts()).round({"total": -1}), {"total": ALL}), "truncated": (lambda: np.floor(parts().assign(t=lambda X: X.fire + X.theft)), {"t": dict(fire=1, theft=1)}),
        "single precision": (lambda: total(parts().astype(np.float32)).astype(float), {"total": ALL}), "a small part": (lambda: total(parts().assign(hail=lambda X: X.hail / 1000)), {"total": ALL}),
        "nested": (lambda: nested(parts()), {"nature": dict(hail=1, storm=1), "total": ALL}), "two subtotals": (
            lambda: parts().assign(ab=lambda X: X.fire + X.hail, cd=lambda X: X.storm + X.theft, t=lambda X: X.ab + X.cd), {"ab": dict(fire=1, hail=1), "cd": dict(storm=1, theft=1), "t": ALL}),
        "net": (lambda: net(parts()), {"gross": dict(ceded=1, net=1)}), "copy": (lambda: parts().assign(again=lambda X: X.fire), {"again": dict(fire=1)}),
        "currency": (lambda: parts().assign(dollars=lambda X: 1.08 * X.fire).round(2), {"dollars": dict(fire=1.08)}), "thousands": (lambda: parts().assign(k=lambda X: X.fire / 1000), {"k": dict(fire=0.001)}),
        "average": (lambda: parts().assign(mean=lambda X: X.mean(axis=1)), {"mean": dict.fromkeys(ALL, 0.25)}), "average, rounded": (
            lambda: parts().assign(mean=lambda X: (X.fire + X.hail) / 2).round(2), {"mean": dict(fire=0.5, hail=0.5)}),
        "weights": (lambda: parts().assign(index=lambda X: 0.7 * X.fire + 0.3 * X.hail), {"index": dict(fire=0.7, hail=0.3)}), "counts": (
            lambda: total(pd.DataFrame(np.random.default_rng(0).poisson([2, 1, 0.3, 0.1], (300, 4)), columns=list(ALL)).astype(float)), {"total": ALL}),
        "mostly zero": (lambda: total(parts().where(np.random.default_rng(0).random((300, 4)) < 0.3, 0)), {"total": ALL}), "signed": (lambda: total(parts() - 150), {"total": ALL}),
        "20 rows": (lambda: total(parts(20)), {"total": ALL}), "20 rows, 15 columns": (lambda: total(parts(20, 14)), {"total": dict.fromkeys(parts(1, 14), 1)}),
        "result": (lambda: parts().assign(result=lambda X: X.fire + X.hail - X.storm - X.theft), {"result": dict(fire=1, hail=1, storm=-1, theft=-1)})}


@pytest.mark.parametrize("name", SUMS)
def test_a_sum_is_found(name):
    make, expected = SUMS[name]
    found = sum_columns(make())
    assert list(found) == list(expected)
    for column, told in expected.items():
        assert found[column] == pytest.approx(told, rel=1e-3)


WORDS = [(lambda: total(parts()), "column 'total' is the sum of 'fire', 'hail', 'storm', 'theft': leave it out and add it back to what is drawn"),
         (lambda: parts().assign(again=lambda X: X.fire), "column 'again' is a copy of 'fire': leave it out"),
         (lambda: parts().assign(mean=lambda X: (X.fire + X.hail) / 2), "column 'mean' is the average of 'fire', 'hail': leave it out"),
         (lambda: parts().assign(dollars=lambda X: 1.08 * X.fire), "column 'dollars' is 1.08 × 'fire': leave it out"),
         (lambda: nested(parts()), "column 'nature' is the sum of 'hail', 'storm'; column 'total' is the sum of 'fire', 'hail', 'storm', 'theft': leave them out and add them back"),
         (lambda: SUMS["result"][0](), "column 'result' is 'fire' + 'hail' - 'storm' - 'theft': leave it out")]


@pytest.mark.parametrize("make, words", WORDS)
def test_it_is_said_in_words(make, words):
    text, = said(warn_of_table, make())
    assert text.startswith(words)


def honest(seed):
    "A table without a sum: columns from independent to a Kendall tau of 0.99, as written or rounded to two digits and more of the smallest"
    rng = np.random.default_rng(seed)
    n, d = [(20, 15), (20, 4), (50, 15), (300, 6), (1000, 12)][seed % 5]
    rho = np.sin(np.pi / 2 * rng.choice([0, 0.5, 0.9, 0.99]))
    z = np.sqrt(rho) * rng.standard_normal((n, 1)) + np.sqrt(1 - rho) * rng.standard_normal((n, d))
    X = np.exp(rng.choice([0.5, 1.5]) * z) * 10 * np.exp(rng.choice([0, 1]) * rng.standard_normal(d))
    return pd.DataFrame(X if seed % 3 == 0 else X.round(rng.integers(2, 5)))


def test_honest_tables_hold_no_sum():
    assert {seed: found for seed in range(200) if (found := sum_columns(honest(seed)))} == {}


def test_counts_add_up_by_chance_and_are_not_named():
    rng = np.random.default_rng(0)
    for seed in range(200):
        n, d, rate = rng.choice([10, 20, 40]), rng.integers(3, 16), rng.choice([0.05, 0.3, 1, 3])
        X = pd.DataFrame(rng.poisson(rate, (n, d)).astype(float))
        assert sum_columns(X.loc[:, X.std() > 0]) == {}


ODD = {"more columns than rows": pd.DataFrame(np.random.default_rng(0).random((8, 12))), "two rows": pd.DataFrame(np.random.default_rng(0).random((2, 3))),
       "wide": pd.DataFrame({"a": 10 ** np.linspace(-300, 300, 50), "b": np.arange(50.0), "c": np.full(50, 1.0)}), "one claim": pd.DataFrame(np.eye(40)[:, :3] * [1, 2, 3]),
       "the same claim": pd.DataFrame(np.outer(np.r_[np.zeros(39), 1], [1, 2, 3]))}


@pytest.mark.parametrize("name", ODD)
def test_odd_tables_are_passed_over(name):
    assert sum_columns(ODD[name]) == {} and path_columns(ODD[name].drop(columns=["b"], errors="ignore")).empty


# ------------------------------------------------------------------ at fit
def spoiled(n=80):
    X = walk(n, 2).round(2)
    return X.assign(both=(X["price 0"] + X["price 1"]).round(2))


@pytest.mark.parametrize("model", [VAE(**SMALL), Ensemble(members=2, **SMALL), GaussianCopula(), Vine()], ids=lambda m: type(m).__name__)
def test_a_fit_says_each_once(model):
    texts = said(model.fit, spoiled())
    assert sorted(t.split()[0] for t in texts) == ["column", "rows"], texts
    assert said(model.fit, simulate_losses(80, 0)) == []


def test_many_fits_say_it_once_for_each_table():
    X = spoiled()
    assert len(said(fit_many, [VAE(**SMALL | dict(random_state=s)) for s in range(3)], X, n_jobs=1, progress=False)) == 2
    other = simulate_losses(80, 0)
    assert len(said(fit_many, [VAE(**SMALL), VAE(**SMALL), VAE(**SMALL)], [X, other, X], n_jobs=1, progress=False)) == 2


def test_arrays_and_pieces_too(tmp_path):
    X = spoiled(300)
    assert len(said(warn_of_table, X.to_numpy())) == 2
    X.to_parquet(tmp_path / "x.parquet")
    assert said(warn_of_table, dataset(tmp_path / "x.parquet")) == said(warn_of_table, X)


def test_the_command_line_says_each_in_a_line(tmp_path, capsys):
    spoiled().to_csv(tmp_path / "x.csv", index=False)
    assert main(["fit", str(tmp_path / "x.csv"), "--out", str(tmp_path / "m"), "--epochs", "1", "--quiet"]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 and all(line.startswith("genmod fit: warning: ") for line in lines)
    assert "rows look serially dependent" in lines[0] and "column 'both' is the sum of 'price 0', 'price 1'" in lines[1]
