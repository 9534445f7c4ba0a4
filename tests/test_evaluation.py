"""Baselines, models from elsewhere, the harness and its table."""
import json
import os
import sys
import warnings

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file, save_file
from scipy import special, stats
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.utils.estimator_checks import parametrize_with_checks

from test_contract import damage
from genmod_nb.data import simulate_losses
from genmod_nb.margins import SIGNED, Margins
from genmod_nb.study import EXPECTED, IDEALS, LIKELIHOODS, model_scores
from genmod_nb.baselines import Baseline, Bootstrap, GaussianCopula, GaussianMixture, Independent, Truth, Vine, holds_baseline
from genmod_nb.copulas import BaggedVines, FoldedT, SplineFlow, TCopulaMixture
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
            BaggedVines(members=2, random_state=0), FoldedT(), TCopulaMixture(n_init=1, random_state=0), SplineFlow(max_epochs=2, random_state=0),
            External(Jitter(), random_state=0)]


EACH = pytest.mark.parametrize("model", baselines(), ids=lambda m: type(m).__name__)
DENSE = pytest.mark.parametrize("model", baselines()[1:-1], ids=lambda m: type(m).__name__)
SMALL = dict(max_epochs=3, progress=False)


@pytest.fixture(scope="module")
def once(tables):
    """A baseline as it is after a fit, for tests that only read it: a vine takes a second and a half to fit."""
    fits = {}

    def of(model):
        if type(model) not in fits:
            fits[type(model)] = clone(model).fit(tables[0])
        return fits[type(model)]
    return of


@parametrize_with_checks([m for m in baselines() if not isinstance(m, (Vine, BaggedVines, External))])
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
def test_same_seed_same_sample(model, once, tables):
    first, again = once(model), clone(model).fit(tables[0])
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
def test_frame_in_frame_out_array_in_array_out(model, once, tables):
    X = once(model).sample(11, random_state=0)
    A = clone(model).fit(tables[0].to_numpy()).sample(11, random_state=0)
    assert isinstance(X, pd.DataFrame) and list(X) == list(tables[0]) and X.shape == (11, 4)
    assert isinstance(A, np.ndarray) and A.dtype == np.float64
    assert np.array_equal(A, X.to_numpy())


@EACH
def test_support_of_the_data(model, once):
    X = once(model).sample(20_000, random_state=0)
    assert np.isfinite(X).all(axis=None) and (X >= 0).all(axis=None)


@EACH
def test_bad_input(model, once, tables):
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
        once(model).sample(0)


@EACH
def test_before_fit(model):
    with pytest.raises(NotFittedError):
        clone(model).sample()


# ------------------------------------------------------------------ files
KEPT = pytest.mark.parametrize("model", [*baselines()[:-1], Truth()], ids=lambda m: type(m).__name__)


def change(folder, change_config=None, **arrays):
    """Rewrite a saved folder; an array given as None is taken out."""
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | (change_config or {})))
    kept = load_file(folder / "model.safetensors") | {k.replace("__", "."): v for k, v in arrays.items()}
    save_file({k: np.array(v, order="C") for k, v in kept.items() if v is not None}, folder / "model.safetensors")


@KEPT
@pytest.mark.parametrize("as_array", [False, True])
def test_save_and_load(model, as_array, once, tables, tmp_path):
    train, test = (t.to_numpy() for t in tables) if as_array else tables
    model = clone(model).fit(train) if as_array else once(model)
    folder = model.save(tmp_path / "model")
    assert sorted(os.listdir(folder)) == ["config.json", "model.safetensors"]
    assert "genmod_nb." not in (folder / "config.json").read_text()
    for back in (type(model).load(folder), Baseline.load(folder)):
        assert type(back) is type(model) and set(vars(clone(back))) == set(vars(clone(model)))
        assert np.array_equal(back.sample(500, random_state=3), model.sample(500, random_state=3))
        if hasattr(model, "score_samples"):
            assert np.array_equal(back.score_samples(test), model.score_samples(test))
            assert back.copula_score(test) == model.copula_score(test)
        if not as_array:
            assert list(back.sample(2)) == list(train)
    again = back.save(tmp_path / "again")
    for name in ("config.json", "model.safetensors"):
        assert (again / name).read_bytes() == (folder / name).read_bytes()
    model.save(folder)                                  # an older one may be replaced
    assert sorted(os.listdir(tmp_path)) == ["again", "model"]


def test_the_likelihood_of_a_fit_is_asked_for_once(tables, monkeypatch):
    """It is the most expensive score of a network; the others are of the card."""
    calls, original = [], GaussianCopula.score_samples
    monkeypatch.setattr(GaussianCopula, "score_samples", lambda self, X: calls.append(X) or original(self, X))
    model = GaussianCopula().fit(tables[0])
    scores = model_scores(model, *tables)
    assert len(calls) == 1
    each = model.score_samples(tables[1]) - model.log_margins(tables[1])
    assert scores["copula"] == model.copula_score(tables[1]) == each.mean() and scores["log_likelihood"] == model.score(tables[1])


def test_a_file_needs_a_format(tables, tmp_path):
    with pytest.raises(AttributeError, match="External has no file format"):
        External(Jitter()).fit(tables[0]).save(tmp_path / "model")
    folder = Independent().fit(tables[0]).save(tmp_path / "model")
    change(folder, {"model": "External", "params": {"model": "os.system"}})
    for cls in (External, Baseline):
        with pytest.raises(ValueError, match="no file format"):
            cls.load(folder)
    with pytest.raises(NotFittedError):
        Vine().save(tmp_path / "new")


def test_load_only_what_it_is(tables, tmp_path):
    folder = Independent().fit(tables[0]).save(tmp_path / "model")
    for cls in (Vine, GenerativeModel, VAE):
        with pytest.raises(ValueError, match=f"'Independent', not a {cls.__name__}"):
            cls.load(folder)
    assert holds_baseline(folder)
    network = VAE(**SMALL).fit(tables[0]).save(tmp_path / "network")
    with pytest.raises(ValueError, match="'VAE', not a Baseline"):
        Baseline.load(network)
    assert not holds_baseline(network)
    change(folder, {"model": ["Independent"]})
    with pytest.raises(ValueError, match="not a Baseline"):
        Baseline.load(folder)
    assert not holds_baseline(folder)
    with pytest.raises(FileNotFoundError):
        Baseline.load(tmp_path / "nowhere")


@KEPT
@pytest.mark.parametrize("how", ["no config", "no weights", "truncated", "pickle", "not json", "list", "foreign", "import path", "future format"])
def test_damaged_folder(model, how, once, tmp_path):
    folder = once(model).save(tmp_path / "model")
    damage(folder, how)
    with pytest.raises(ValueError, match="model"):
        type(model).load(folder)


@KEPT
def test_damaged_arrays(model, once, tmp_path):
    model = once(model)
    loc = "margins__0__" + ("loc" if model.margins == "identity" else "xi")
    laws = [f"law__{name}" for name in model._shapes if name not in ("vine", "vines")]
    for name in [loc, *laws]:
        folder = model.save(tmp_path / "model")
        own = load_file(folder / "model.safetensors")[name.replace("__", ".")]
        other = "float64" if own.dtype == np.float32 else "float32"
        for array, says in [(None, "missing"), (own.astype(other), other), (own[None], "shape"), (own * np.nan, "NaN")]:
            model.save(folder)
            change(folder, **{name: array})
            with pytest.raises(ValueError, match=f"{folder}.*{says}"):
                Baseline.load(folder)
    for more in ({"extra": np.zeros(2)}, {"law__extra": np.zeros(2)}):
        change(model.save(folder), **more)
        with pytest.raises(ValueError, match="one too many"):
            Baseline.load(folder)


@pytest.mark.parametrize("config, says", [
    ({"n_features": 5}, "disagree"), ({"n_features": "4"}, "n_features"), ({"columns": ["a", "a", "b", "c"]}, "disagree"),
    ({"n_features": 3, "columns": None}, "one too many"), ({"params": {"verbose": True}}, "verbose"), ({"params": []}, "cannot be loaded"),
    ({"model": "Bootstrap"}, "law.correlation")], ids=str)
def test_damaged_config(config, says, tables, tmp_path):
    folder = GaussianCopula().fit(tables[0]).save(tmp_path / "model")
    change(folder, config)
    with pytest.raises(ValueError, match=says):
        Baseline.load(folder)


@pytest.mark.parametrize("array, value, says", [
    ("law__correlation", np.eye(4) * 2, "not 1"), ("law__correlation", np.ones((4, 4)), "positive definite"),
    ("law__correlation", np.eye(4) + np.triu(np.full((4, 4), 0.5), 1), "symmetric"), ("law__correlation", np.eye(3), "shape"),
    ("margins__2__xi", np.array(2.0), "margin 3")], ids=range(5))
def test_damaged_correlations(array, value, says, tables, tmp_path):
    folder = GaussianCopula().fit(tables[0]).save(tmp_path / "model")
    change(folder, **{array: value})
    with pytest.raises(ValueError, match=says):
        Baseline.load(folder)


def test_damaged_mixture(tables, tmp_path):
    model = GaussianMixture(max_components=3, random_state=0).fit(tables[0])
    kept = {f"law__{k}": v for k, v in model._kept().items()}
    for name, value, says in [("law__weights", -kept["law__weights"], "shares"), ("law__weights", kept["law__weights"] * 2, "shares"),
                              ("law__means", kept["law__means"][:-1], "as many means"), ("law__covariances", -kept["law__covariances"], "positive"),
                              ("law__precisions_cholesky", kept["law__precisions_cholesky"] * 1.1, "factors")]:
        folder = model.save(tmp_path / "model")
        change(folder, **{name: value})
        with pytest.raises(ValueError, match=says):
            Baseline.load(folder)
    folder = model.save(tmp_path / "model")
    change(folder, {"params": {"max_components": 0, "random_state": 0}})
    with pytest.raises(ValueError, match="max_components"):
        Baseline.load(folder)
    empty = {k: v[:0] for k, v in kept.items()}
    change(model.save(folder), **empty)
    with pytest.raises(ValueError, match="cannot be loaded"):
        Baseline.load(folder)


def test_the_seed_of_a_mixture_is_kept(tables, tmp_path):
    model = GaussianMixture(max_components=2, random_state=np.random.RandomState(1)).fit(tables[0])
    back = Baseline.load(model.save(tmp_path / "model"))
    again = clone(back).fit(tables[0])
    assert np.array_equal(again.sample(50, random_state=0), model.sample(50, random_state=0))
    with pytest.raises(ValueError, match="max_components"):
        model.set_params(max_components=0).save(tmp_path / "other")
    assert os.listdir(tmp_path) == ["model"]


def vines():
    """Texts that are no vine of four features, and would be read past, or taken for one."""
    def put(value, *path):
        def edit(about):
            *upper, last = path
            for key in upper:
                about = about[key]
            about[last] = value
        return edit
    first = ("pair copulas", "tree0", "pc0")
    return {"no pairs": lambda a: a.pop("pair copulas"), "no pair": lambda a: a["pair copulas"]["tree0"].pop("pc1"),
            "no tree": lambda a: a["pair copulas"].pop("tree2"), "huge": put([2, 10 ** 9], *first, "par", "shape"),
            "negative": put([-2, -1], *first, "par", "shape"), "range": put([1e9, 5.0], *first, "par", "data"),
            "family": put("os.system", *first, "fam"), "order": put([4, 4, 2, 1], "structure", "order"),
            "array": put([[4, 3, 400], [3, 4], [2]], "structure", "array", "data"), "discrete": put(["d", "c", "c", "c"], "var_types"),
            "pairs elsewhere": lambda a: a["pair copulas"]["tree0"].update(pc9=a["pair copulas"].pop("tree2")["pc0"])}


@pytest.fixture(scope="module")
def vine(once):
    return once(Vine())


@pytest.mark.parametrize("how", vines())
def test_damaged_vine(how, vine, tmp_path):
    about = json.loads(vine.vine_.to_json())
    vines()[how](about)
    folder = vine.save(tmp_path / "model")
    change(folder, law__vine=np.frombuffer(json.dumps(about).encode(), np.uint8))
    with pytest.raises(ValueError, match="cannot be loaded"):
        Vine.load(folder)


@pytest.mark.parametrize("text", [b"", b"{", b"[" * 100_000, b"5", b"null", b"\xff", b'{"pair copulas": {}}'], ids=range(7))
def test_no_vine_at_all(text, vine, tmp_path):
    folder = vine.save(tmp_path / "model")
    change(folder, law__vine=np.frombuffer(text, np.uint8))
    with pytest.raises(ValueError, match="cannot be loaded"):
        Vine.load(folder)


def test_a_vine_of_other_columns(vine, tables, tmp_path):
    two = Vine().fit(tables[0][["f1", "f2"]])
    folder = vine.save(tmp_path / "model")
    change(folder, law__vine=two._kept()["vine"])
    with pytest.raises(ValueError, match="not one of 4"):
        Vine.load(folder)


def test_a_vine_of_independent_columns_is_kept(tmp_path):
    X = np.abs(np.random.default_rng(0).standard_normal((300, 3)))
    model = Vine().fit(X)
    back = Vine.load(model.save(tmp_path / "model"))
    assert np.array_equal(back.score_samples(X), model.score_samples(X))


def test_bad_arguments(tables):
    with pytest.raises(ValueError, match="max_components"):
        GaussianMixture(max_components=0).fit(tables[0])


@DENSE
def test_scores(model, once, tables):
    train, test = tables
    model = once(model)
    log_p = model.score_samples(test)
    assert log_p.shape == (len(test),) and np.isfinite(log_p).all()
    assert model.score(test) == pytest.approx(log_p.mean())
    assert model.copula_score(test) == pytest.approx((log_p - Margins().fit(train).log_pdf(test).sum(1)).mean())
    with pytest.raises(ValueError, match="feature"):
        model.score_samples(test[["f2", "f1", "f3", "f4"]])
    with pytest.raises(NotFittedError):
        clone(model).score_samples(test)


@pytest.mark.parametrize("model", [Bootstrap(), External(Jitter())])
def test_no_density(model, once, tables):
    model = once(model)
    for name in ("score_samples", "score", "log_margins", "copula_score"):
        assert not hasattr(model, name)
    with pytest.raises(AttributeError, match=f"{type(model).__name__} has no likelihood"):
        model.score(tables[1])


@DENSE
@pytest.mark.parametrize("columns", [["f1", "f2"], ["f1", "f2", "f3", "f4"]])
def test_density_integrates_to_one(model, columns, once, tables):
    """Under half q, half an independent law, q over their average has mean 1 and is at most 2."""
    train = tables[0][columns]
    q, p = clone(model).fit(train) if len(columns) < 4 else once(model), Independent().fit(train)
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
    for model in (GaussianCopula(), GaussianMixture(max_components=2, random_state=0), Vine(), FoldedT(), TCopulaMixture(n_init=1, random_state=0)):
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
    assert (fine.failure == "").all() and fine[[k for k in IDEALS if k not in LIKELIHOODS]].notna().all(axis=None)


@pytest.mark.xdist_group("compared")
def test_copula_only_where_there_is_a_density(compared):
    """The copula's part is said of models whose margins are the fitted ones: a VAE bends its own."""
    total, copula = (compared.set_index("model")[k].notna() for k in LIKELIHOODS)
    assert total["VAE"].all() and total["Independent"].all() and copula["Independent"].all()
    assert not copula["VAE"].any()
    assert not total[["GAN", "elsewhere"]].any() and not copula[["GAN", "elsewhere"]].any()


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
    known = card.to_dict() | {"log_likelihood": model.score(test), "copula": np.nan}
    for name in IDEALS:
        assert row[name] == pytest.approx(known[name], rel=1e-6, abs=1e-9, nan_ok=True), name


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
    return pd.DataFrame({"model": list("aabbcc")[:n], "seed": ([0, 1] * 3)[:n], "failure": ""} | dict.fromkeys(IDEALS, np.nan) | scores)


def test_ranks_tie_where_no_difference_is_clear():
    order = ranks(toy(copula=[1.00, 1.01, 0.99, 1.02, 0.10, 0.11], novelty_ratio=[1.0, 1.0, 3, 3, 0.2, 0.2]))["rank"].unstack("score")
    assert list(order.copula) == [1, 1, 3]              # higher is better
    assert list(order.novelty_ratio) == [1, 3, 2]       # nearer to 1 is better
    assert order.anderson_darling.isna().all()


def test_ranks_are_paired_by_seed():
    """What all models share, such as a hard split, hides nothing: a constant lead is a lead, however the splits scatter."""
    hard = np.random.default_rng(0).normal(size=20)
    wobble = np.random.default_rng(1).normal(scale=0.01, size=(3, 20))
    rows = pd.DataFrame({"model": np.repeat(["a", "b", "c"], 20), "seed": [*range(20)] * 3, "failure": ""} | dict.fromkeys(IDEALS, np.nan))
    rows["copula"] = (hard + np.array([[0.1], [0.0], [0.0]]) + wobble).ravel()
    rows["novelty_ratio"] = (1 + np.array([[0.1], [-0.1], [0.4]]) + wobble).ravel()     # as far below as above is as far
    order = ranks(rows)["rank"].unstack("score")
    assert list(order.copula) == [1, 2, 2] and list(order.novelty_ratio) == [1, 1, 3]
    assert list(ranks(rows, ratio=100.0)["rank"].unstack("score").copula) == [1, 1, 1]      # splits that share rows say less


def test_equal_models_rarely_differ():
    """Of 400 pairs of equal models at most 7 % are ranked apart, whatever side of the ideal they are on, and when they straddle it."""
    rng, apart = np.random.default_rng(0), 0
    for k in range(400):
        rows = pd.DataFrame({"model": np.repeat(["a", "b"], 16), "seed": [*range(16)] * 2, "failure": ""} | dict.fromkeys(IDEALS, np.nan))
        rows["two_sample"] = 0.5 + (k % 4) * 0.01 + rng.normal(scale=0.02, size=32) + np.tile(rng.normal(scale=0.02, size=16), 2)
        apart += (ranks(rows)["rank"].xs("two_sample", level="score") > 1).any()
    assert 0.005 < apart / 400 <= 0.07, apart


def test_one_seed_ranks_nothing():
    rows = toy(copula=[1.0, 0.5])
    rows["model"], rows["seed"] = ["a", "b"], 0
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


MIXED = """
import hashlib
from genmod_nb.baselines import GaussianMixture
from genmod_nb.data import load_losses
model = GaussianMixture(random_state=3).fit(load_losses()[0])
print(hashlib.sha256(model.sample(500, random_state=1).to_numpy().tobytes()).hexdigest())
"""


def test_a_mixture_is_the_same_in_every_process():
    """Also where k-means may use several threads, which would add up in an order of their own."""
    import os, subprocess, sys
    digests = {subprocess.run([sys.executable, "-c", MIXED], env=os.environ | dict(OMP_NUM_THREADS=n, MKL_NUM_THREADS=n), capture_output=True, text=True, check=True).stdout
               for n in ("1", "4", "4")}
    assert len(digests) == 1
