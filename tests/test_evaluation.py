"""Baselines, models from elsewhere, the harness and its table."""
import sys
import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import special, stats
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.utils.estimator_checks import parametrize_with_checks

from genmod_nb.data import simulate_losses
from genmod_nb.margins import SIGNED, Margins
from genmod_nb.study import EXPECTED, IDEALS
from genmod_nb.baselines import Baseline, Bootstrap, GaussianCopula, GaussianMixture, Independent, Vine
from genmod_nb.evaluation import External
from genmod_nb.evaluation import compare, ranks, summary
from genmod_nb.gan import GAN
from genmod_nb.metrics import kendall_taus, noise_floor, scorecard
from genmod_nb.store import Store
from genmod_nb.model import GenerativeModel
from genmod_nb.vae import VAE


class Jitter:
    """A model of another package: a table in, a table out, randomness from the global generator."""
    def fit(self, table):
        assert isinstance(table, pd.DataFrame)
        self.table = table

    def sample(self, n):
        rows = self.table.sample(n, replace=True)       # from NumPy's global generator
        return rows * np.random.lognormal(0, 0.1, rows.shape)


def baselines():
    return [Bootstrap(), Independent(), GaussianCopula(), GaussianMixture(max_components=3, random_state=0), Vine(),
            External(Jitter(), random_state=0)]


EACH = pytest.mark.parametrize("model", baselines(), ids=lambda m: type(m).__name__)
DENSE = pytest.mark.parametrize("model", baselines()[1:5], ids=lambda m: type(m).__name__)
SMALL = dict(max_epochs=3, progress=False)


@parametrize_with_checks([m for m in baselines() if not isinstance(m, (Vine, External))])
def test_scikit_learn_checks(estimator, check):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check(estimator)


@EACH
def test_constructor_only_stores(model):
    assert set(vars(model)) == set(model.get_params(deep=False))
    assert not issubclass(type(model), GenerativeModel) and type(model).__name__ not in GenerativeModel.registry


@EACH
def test_fit_returns_self_and_learns_only_underscored(model, tables):
    model = clone(model)
    before = set(vars(model))
    assert model.fit(tables[0]) is model
    learned = set(vars(model)) - before
    assert learned and all(name.endswith("_") for name in learned)
    assert set(vars(clone(model))) == before


@EACH
def test_same_seed_same_sample(model, tables):
    first, again = clone(model).fit(tables[0]), clone(model).fit(tables[0])
    pd.testing.assert_frame_equal(first.sample(50, random_state=3), again.sample(50, random_state=3))
    assert not first.sample(50, random_state=3).equals(first.sample(50, random_state=4))
    assert not first.sample(50).equals(first.sample(50))


@EACH
def test_global_state_is_left_alone(model, tables):
    np.random.seed(5)
    expected = np.random.rand()
    np.random.seed(5)
    clone(model).fit(tables[0]).sample(20)
    assert np.random.rand() == expected


@EACH
def test_frame_in_frame_out_array_in_array_out(model, tables):
    X = clone(model).fit(tables[0]).sample(11, random_state=0)
    A = clone(model).fit(tables[0].to_numpy()).sample(11, random_state=0)
    assert isinstance(X, pd.DataFrame) and list(X) == list(tables[0]) and X.shape == (11, 4)
    assert isinstance(A, np.ndarray) and A.dtype == np.float64
    assert np.array_equal(A, X.to_numpy())


@EACH
def test_support_of_the_data(model, tables):
    X = clone(model).fit(tables[0]).sample(20_000, random_state=0)
    assert np.isfinite(X).all(axis=None) and (X >= 0).all(axis=None)


@EACH
def test_bad_input(model, tables):
    X = tables[0].copy()
    X.iloc[3, 1] = np.nan
    with pytest.raises(ValueError, match="f2.*NaN"):
        clone(model).fit(X)
    with pytest.raises(ValueError, match="2 columns"):
        clone(model).fit(tables[0][["f1"]])
    if model.margins not in SIGNED:
        with pytest.raises(ValueError, match="[Nn]egative"):
            clone(model).fit(tables[0] - 1)
    with pytest.raises(ValueError, match="n_samples=0"):
        clone(model).fit(tables[0]).sample(0)


@EACH
def test_before_fit(model):
    with pytest.raises(NotFittedError):
        clone(model).sample()


@EACH
def test_no_file(model, tables, tmp_path):
    with pytest.raises(AttributeError, match="no file format"):
        clone(model).fit(tables[0]).save(tmp_path / "model")


def test_bad_arguments(tables):
    with pytest.raises(ValueError, match="max_components"):
        GaussianMixture(max_components=0).fit(tables[0])


@DENSE
def test_scores(model, tables):
    train, test = tables
    model = clone(model).fit(train)
    log_p = model.score_samples(test)
    assert log_p.shape == (len(test),) and np.isfinite(log_p).all()
    assert model.score(test) == pytest.approx(log_p.mean())
    assert model.copula_score(test) == pytest.approx((log_p - Margins().fit(train).log_pdf(test).sum(1)).mean())
    with pytest.raises(ValueError, match="feature"):
        model.score_samples(test[["f2", "f1", "f3", "f4"]])
    with pytest.raises(NotFittedError):
        clone(model).score_samples(test)


@pytest.mark.parametrize("model", [Bootstrap(), External(Jitter())])
def test_no_density(model, tables):
    model = clone(model).fit(tables[0])
    for name in ("score_samples", "score", "copula_score"):
        assert not hasattr(model, name)
    with pytest.raises(AttributeError, match=f"{type(model).__name__} has no likelihood"):
        model.score(tables[1])


@DENSE
@pytest.mark.parametrize("columns", [["f1", "f2"], ["f1", "f2", "f3", "f4"]])
def test_density_integrates_to_one(model, columns, tables):
    """Under half q, half an independent law, q over their average has mean 1 and is at most 2."""
    train = tables[0][columns]
    q, p = clone(model).fit(train), Independent().fit(train)
    x = pd.concat([q.sample(10_000, random_state=0), p.sample(10_000, random_state=1)])
    ratio = 2 * special.expit(q.score_samples(x) - p.score_samples(x))
    assert ratio.mean() == pytest.approx(1, abs=1e-9 + 4 * ratio.std() / np.sqrt(len(x)))


def test_independent(tables):
    model = Independent().fit(tables[0])
    assert model.copula_score(tables[1]) == pytest.approx(0, abs=1e-10)
    taus = kendall_taus(model.sample(5000, random_state=0)).to_numpy()
    assert np.abs(taus[np.triu_indices(4, 1)]).max() < 0.04


def test_gaussian_copula_recovers_a_gaussian_copula():
    R = np.array([[1, 0.7], [0.7, 1]])
    Z = np.random.default_rng(0).multivariate_normal([0, 0], R, 4000)
    X = pd.DataFrame(stats.expon.ppf(stats.norm.cdf(Z)), columns=["a", "b"])
    model = GaussianCopula().fit(X)
    assert model.correlation_ == pytest.approx(R, abs=0.03)
    assert model.copula_score(X) == pytest.approx(-0.5 * np.log(1 - 0.7 ** 2), abs=0.03)
    assert kendall_taus(model.sample(4000, random_state=0)).iloc[0, 1] == pytest.approx(2 / np.pi * np.arcsin(0.7), abs=0.04)


def test_columns_that_say_the_same():
    X = simulate_losses(100, random_state=0)
    X["twin"] = 2 * X.f1
    for model in (GaussianCopula(), GaussianMixture(max_components=2, random_state=0), Vine()):
        fake = model.fit(X).sample(200, random_state=0)
        assert np.isfinite(model.score(X)) and fake.f1.corr(fake.twin, "kendall") > 0.9


def test_vine_without_its_package(tables, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyvinecopulib", None)
    with pytest.raises(ImportError, match="genmod_nb\\[baselines\\]"):
        Vine().fit(tables[0])
    with pytest.raises(ImportError, match="genmod_nb\\[baselines\\]"):
        compare({"vine": Vine()}, *tables)


def test_import_is_light():
    import subprocess
    code = "import sys, genmod_nb.evaluation; print([m for m in ('pyvinecopulib', 'matplotlib', 'seaborn') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


class Wrong(Jitter):
    def sample(self, n):
        return super().sample(n).iloc[1:]


class Nothing(Jitter):
    def sample(self, n):
        return super().sample(n) * np.nan


class Shuffled(Jitter):
    def sample(self, n):
        return super().sample(n)[["f4", "f3", "f2", "f1"]]


def test_external(tables):
    given = Jitter()
    model = External(given).fit(tables[0])
    assert not vars(given)                              # copied, not changed
    assert list(External(Shuffled()).fit(tables[0]).sample(3)) == list(tables[0])
    with pytest.raises(ValueError, match=r"sample\(10\) of Wrong"):
        External(Wrong()).fit(tables[0]).sample(10)
    with pytest.raises(ValueError, match="NaN"):
        External(Nothing()).fit(tables[0]).sample(10)
    assert isinstance(model, Baseline)


@pytest.fixture(scope="module")
def compared(tables):
    models = {"VAE": VAE(**SMALL), "diverging": VAE(lr=1e30, max_epochs=50, progress=False), "Independent": Independent(),
              "GAN": GAN(**SMALL), "elsewhere": External(Jitter()), "broken": External(Nothing())}
    with pytest.warns(UserWarning, match="2 of 6 fits failed"):
        return compare(models, *tables, seeds=[3, 1], n_jobs=1, progress=False)


@pytest.mark.xdist_group("compared")
def test_rows_are_in_the_order_of_models_and_seeds(compared):
    assert list(compared) == ["model", "seed", "failure", *IDEALS, *EXPECTED, "fit_seconds", "sample_rate"]
    assert list(compared.model.unique()) == ["VAE", "diverging", "Independent", "GAN", "elsewhere", "broken"]
    assert list(compared.seed) == [3, 1] * 6


@pytest.mark.xdist_group("compared")
def test_failures_are_rows(compared):
    by = compared.set_index("model")
    assert by.failure["diverging"].str.contains("not finite").all() and by.failure["broken"].str.contains("NaN").all()
    assert by.loc[["diverging", "broken"], list(IDEALS)].isna().all(axis=None)
    fine = by.drop(["diverging", "broken"])
    assert (fine.failure == "").all() and fine[[k for k in IDEALS if k != "copula"]].notna().all(axis=None)


@pytest.mark.xdist_group("compared")
def test_copula_only_where_there_is_a_density(compared):
    known = compared.set_index("model").copula.notna()
    assert known["VAE"].all() and known["Independent"].all()
    assert not known["GAN"].any() and not known["elsewhere"].any()


@pytest.mark.xdist_group("compared")
def test_seconds_only_where_fitted_alone(compared, tables):
    by = compared.set_index("model")
    assert by.fit_seconds["VAE"].isna().all() and (by.fit_seconds["Independent"] > 0).all()
    assert (by.sample_rate[["VAE", "GAN", "Independent"]] > 0).all()
    alone = compare({"VAE": VAE(**SMALL)}, *tables, n_jobs=1, progress=False)
    assert alone.fit_seconds.item() > 0


def test_rows_equal_the_metrics_by_hand(tables):
    train, test = tables
    row = compare({"VAE": VAE(**SMALL)}, train, test, seeds=[1], n_jobs=1, progress=False).iloc[0]
    model = VAE(**SMALL, random_state=1).fit(train)
    card = scorecard(test, model.sample(len(test), random_state=1), train, reps=1, progress=False).value
    for name in IDEALS:
        expected = model.copula_score(test) if name == "copula" else card[name]
        assert row[name] == pytest.approx(expected, rel=1e-6, abs=1e-9), name


def test_compare_leaves_the_models_alone(tables):
    model = VAE(**SMALL)
    compare({"a": model}, *tables, seeds=[5], n_jobs=1, progress=False)
    assert model.random_state is None and not hasattr(model, "state_")


def test_store_is_reused(tables, tmp_path, monkeypatch):
    store = Store(tmp_path / "fits.db")
    models = {"VAE": VAE(**SMALL), "Bootstrap": Bootstrap()}
    first = compare(models, *tables, seeds=range(2), n_jobs=1, store=store, progress=False)
    assert len(store) == 2

    def refuse(*args, **kwargs):
        raise AssertionError("fitted again")
    monkeypatch.setattr("genmod_nb.many.train_members", refuse)
    again = compare(models, *tables, seeds=range(2), n_jobs=1, store=store, progress=False)
    pd.testing.assert_frame_equal(first[["model", "seed", *IDEALS]], again[["model", "seed", *IDEALS]])
    assert again[again.model == "VAE"].fit_seconds.isna().all()


def test_compare_refuses(tables):
    with pytest.raises(TypeError, match="External"):
        compare({"raw": Jitter()}, *tables)
    with pytest.raises(ValueError, match="NaN"):
        compare({"a": Bootstrap()}, tables[0] * np.nan, tables[1])


def test_compare_takes_arrays_and_any_iterable_of_seeds(tables):
    rows = compare({"a": Bootstrap(), "b": Independent()}, *(t.to_numpy() for t in tables), seeds=iter([0, 1]), progress=False)
    assert list(rows.seed) == [0, 1, 0, 1] and (rows.failure == "").all()


def toy(**scores):
    n = len(next(iter(scores.values())))
    return pd.DataFrame({"model": list("aabbcc")[:n], "failure": ""} | dict.fromkeys(IDEALS, np.nan) | scores)


def test_ranks_tie_where_intervals_overlap():
    order = ranks(toy(copula=[1.00, 1.01, 0.99, 1.02, 0.10, 0.11], novelty_ratio=[1.0, 1.0, 3, 3, 0.2, 0.2]))["rank"].unstack("score")
    assert list(order.copula) == [1, 1, 3]              # higher is better
    assert list(order.novelty_ratio) == [1, 3, 2]       # nearer to 1 is better
    assert order.anderson_darling.isna().all()


def test_one_seed_ranks_nothing():
    rows = toy(copula=[1.0, 0.5])
    rows["model"] = ["a", "b"]
    assert list(ranks(rows)["rank"].unstack("score").copula) == [1, 1]
    assert list(summary(rows).copula) == ["1 (1)", "0.5 (1)"]


@pytest.mark.xdist_group("compared")
def test_summary(compared, tables):
    floors = noise_floor(pd.concat(tables), 720, 537, 5, progress=False)
    table = summary(compared, floors)
    assert list(table.index) == ["noise floor", *compared.model.unique()] and list(table) == [*IDEALS, "fits"]
    assert table.fits["diverging"] == "0 of 2" and table.fits["VAE"] == "2 of 2"
    assert table.copula["GAN"] == "–" and table.copula["Independent"].startswith("0 ± 0 (") and "[" in table.kendall_error["noise floor"]
    assert (table.loc["broken", list(IDEALS)] == "–").all()
    failed = summary(compared[compared.model == "broken"])
    assert list(failed.index) == ["broken"] and (failed[list(IDEALS)] == "–").all(axis=None)
