"""The contract of every model. A new model joins by adding its name to `genmod_nb.cli.MODELS`."""
import io
import json
import os
import warnings
from contextlib import redirect_stderr, redirect_stdout

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.utils.estimator_checks import parametrize_with_checks

from conftest import has_likelihood, small
from genmod_nb.cli import MODELS, load
from genmod_nb.data import simulate_losses
from genmod_nb.margins import Margins
from genmod_nb.ensemble import Ensemble
from genmod_nb.priors import Mixture
from genmod_nb.lars import Density
from genmod_nb.model import GenerativeModel


def test_constructor_only_stores(kind):
    model = kind()
    assert set(vars(model)) == set(model.get_params(deep=False))


def test_fit_returns_self_and_learns_only_underscored(kind, tables):
    model = small(kind)
    before = dict(model.get_params())
    assert model.fit(tables[0]) is model
    assert model.get_params() == before
    learned = set(vars(model)) - set(before)
    assert learned and all(name.endswith("_") for name in learned)


def test_clone_and_set_params(fitted):
    twin = clone(fitted)
    plain = lambda model: {k: v for k, v in model.get_params().items() if not hasattr(v, "get_params")}     # a prior is cloned too, and its own are among them
    assert plain(twin) == plain(fitted) and twin.get_params().keys() == fitted.get_params().keys() and not hasattr(twin, "module_")
    assert twin.set_params(max_epochs=7).max_epochs == 7


def test_dataframe_in_dataframe_out(fitted, tables):
    X = fitted.sample(11, random_state=0)
    assert isinstance(X, pd.DataFrame) and list(X) == list(tables[0]) and X.shape == (11, 4)
    assert fitted.sample().shape == (1, 4)


def test_array_in_array_out(kind, tables):
    X = small(kind).fit(tables[0].to_numpy()).sample(11, random_state=0)
    assert isinstance(X, np.ndarray) and X.shape == (11, 4) and X.dtype == np.float64


def test_same_seed_same_samples(kind, fitted, tables):
    again = small(kind).fit(tables[0])
    pd.testing.assert_frame_equal(again.sample(50, random_state=3), fitted.sample(50, random_state=3))
    assert not fitted.sample(50, random_state=3).equals(fitted.sample(50, random_state=4))
    assert not fitted.sample(50).equals(fitted.sample(50))      # without a seed, afresh


def test_other_seed_other_model(kind, fitted, tables):
    other = small(kind, random_state=1).fit(tables[0])
    assert not other.sample(50, random_state=3).equals(fitted.sample(50, random_state=3))


@pytest.mark.parametrize("margins", ["gaussian", "log"])
def test_samples_have_the_support_of_the_data(kind, tables, margins):
    X = small(kind, margins=margins).fit(tables[0]).sample(20_000, random_state=0)
    assert np.isfinite(X).all(axis=None) and (X >= 0).all(axis=None)


def test_history_is_tidy(fitted):
    history, ensemble = fitted.history_, isinstance(fitted, Ensemble)
    assert list(history) == ["epoch", "step", "split", "term", "value"] + ["member"] * ensemble
    splits = {"train", "validation"} if fitted.early_stopping else {"train"}
    loss = "loss" if ensemble else fitted.module_.players[-1].loss
    assert set(history.split) == splits and loss in set(history.term)
    assert np.isfinite(history.value).all()
    assert not history.duplicated([c for c in history if c not in ("step", "value")]).any()


def test_save_and_load(kind, fitted, tables, tmp_path):
    folder = fitted.save(tmp_path / "model")
    assert sorted(os.listdir(folder)) == ["config.json", "model.safetensors"]
    assert "genmod_nb." not in (folder / "config.json").read_text()        # a name, never an import path
    for back in (kind.load(folder), GenerativeModel.load(folder), load(folder)):
        assert type(back) is kind
        pd.testing.assert_frame_equal(back.sample(50, random_state=3), fitted.sample(50, random_state=3))
        pd.testing.assert_frame_equal(back.history_, fitted.history_)
        assert clone(back).get_params().keys() == fitted.get_params().keys()
    fitted.save(folder)                        # an older model may be replaced
    assert os.listdir(tmp_path) == ["model"]   # and nothing is left beside it


def test_load_only_what_it_is(kind, fitted, tmp_path):
    class Other(kind):
        pass
    try:
        with pytest.raises(ValueError, match="not a Other"):
            Other.load(fitted.save(tmp_path / "model"))
    finally:
        del GenerativeModel.registry["Other"]


def damage(folder, how):
    config, weights = folder / "config.json", folder / "model.safetensors"
    if how == "no config":
        config.unlink()
    elif how == "no weights":
        weights.unlink()
    elif how == "truncated":
        weights.write_bytes(weights.read_bytes()[:-100])
    elif how == "pickle":
        weights.write_bytes(b"\x80\x04cposix\nsystem\n(S'touch owned'\ntR.")
    elif how == "not json":
        config.write_text("{")
    elif how == "list":
        config.write_text("[]")
    elif how == "foreign":
        config.write_text(json.dumps({"architectures": ["Other"]}))
    elif how == "import path":
        config.write_text(json.dumps(json.loads(config.read_text()) | {"model": "os.system"}))
    elif how == "future format":
        config.write_text(json.dumps(json.loads(config.read_text()) | {"format": 99}))
    elif how == "other shapes":
        content = json.loads(config.read_text())
        content["params"]["latent_dim"] = 5
        config.write_text(json.dumps(content))
    elif how == "NaN weights":
        from safetensors.numpy import load_file, save_file
        arrays = load_file(weights)
        arrays = {k: np.full_like(v, np.nan) if k.startswith("module.") else v for k, v in arrays.items()}
        save_file(arrays, weights)


@pytest.mark.parametrize("how", ["no config", "no weights", "truncated", "pickle", "not json", "list", "foreign",
                                 "import path", "future format", "other shapes", "NaN weights"])
def test_damaged_folder(kind, fitted, tmp_path, how):
    folder = fitted.save(tmp_path / "model")
    damage(folder, how)
    with pytest.raises(ValueError, match="model"):
        kind.load(folder)


def test_save_refuses_a_folder_with_something_else(fitted, tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(FileExistsError, match="not a model folder"):
        fitted.save(tmp_path)
    assert (tmp_path / "thesis.tex").read_text() == "precious"


def test_global_state_is_left_as_found(kind, tables):
    torch.manual_seed(5)
    np.random.seed(5)
    before = (torch.get_num_threads(), torch.get_default_dtype(), torch.get_rng_state(), np.random.get_state()[1].copy())
    model = small(kind).fit(tables[0])
    model.sample(10)
    if has_likelihood(model):
        model.score(tables[1].head(30))
    assert (torch.get_num_threads(), torch.get_default_dtype()) == before[:2]
    assert torch.equal(torch.get_rng_state(), before[2]) and (np.random.get_state()[1] == before[3]).all()
    assert (torch.tensor(1e-310, dtype=torch.float64) * 1).item() > 0     # denormals are not flushed


def test_float64_default_dtype_does_not_matter(kind, fitted, tables):
    torch.set_default_dtype(torch.float64)
    try:
        X = small(kind).fit(tables[0]).sample(20, random_state=0)
    finally:
        torch.set_default_dtype(torch.float32)
    pd.testing.assert_frame_equal(X, fitted.sample(20, random_state=0))


def test_silent_on_request(kind, tables):
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        small(kind).fit(tables[0])
    assert out.getvalue() == "" and err.getvalue() == ""
    with redirect_stderr(err):
        small(kind, verbose=True).fit(tables[0])
    assert "training rows" in err.getvalue() and "best epoch" in err.getvalue()


def test_no_likelihood_says_so(kind, fitted, tables):
    if has_likelihood(fitted):
        pytest.skip("this model has a likelihood")
    for name in ("score_samples", "score", "copula_score"):
        with pytest.raises(AttributeError, match=f"{kind.__name__} has no likelihood"):
            getattr(fitted, name)(tables[1])


def test_likelihood_has_the_change_of_variables(kind, fitted, tables):
    if not has_likelihood(fitted):
        pytest.skip("this model has no likelihood")
    test = tables[1].head(40)
    assert fitted.score_samples(test).shape == (40,)
    assert fitted.score(test) == pytest.approx(fitted.score_samples(test).mean())
    assert (fitted.score_samples(test) == fitted.score_samples(test)).all()
    part = fitted.score(test) - fitted.margins_.log_pdf(test).sum(1).mean()
    assert fitted.copula_score(test) == pytest.approx(part)
    doubled = small(kind).fit(2 * tables[0])      # in other units the density changes by the Jacobian alone
    cells = (~fitted.margins_.at_atoms(test)).sum(axis=1)           # an atom keeps its probability
    assert doubled.score_samples(2 * test) == pytest.approx(fitted.score_samples(test) - cells * np.log(2), abs=1e-3)


def test_models_share_their_margins(fitted, tables):
    reference = Margins("gaussian").fit(tables[0])
    assert (reference.log_pdf(tables[1]) == fitted.margins_.log_pdf(tables[1])).all()


def test_few_rows(kind, tables):
    with pytest.warns(UserWarning, match="2 rows"):
        assert small(kind).fit(tables[0].head(2)).sample(5).shape == (5, 4)
    with pytest.warns(UserWarning, match="49 rows"):
        small(kind).fit(tables[0].head(49))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        small(kind).fit(tables[0].head(50))
    with pytest.raises(ValueError, match="n_samples=1"):
        small(kind).fit(tables[0].head(1))


@pytest.mark.parametrize("n", [0, -3, 2.5, "7", None])
def test_bad_n_samples(fitted, n):
    with pytest.raises(ValueError, match="n_samples"):
        fitted.sample(n)


@pytest.mark.parametrize("argument, value", [("lr", 0), ("lr", float("nan")), ("batch_size", 0), ("max_epochs", 0), ("margins", "cube"),
                                             ("patience", 0), ("validation_fraction", 1.0), ("lr_decay", "slow")])
def test_bad_argument(kind, tables, argument, value):
    with pytest.raises(ValueError, match=argument):
        small(kind, **{argument: value}).fit(tables[0])


def diverging(kind):
    "Arguments under which training cannot stay finite"
    return dict(lr=1e30, max_epochs=50) | (dict(prior=Mixture(2)) if kind is Density else {})      # LARS is bounded: nothing overflows


def test_divergence_is_reported(kind, tables):
    with pytest.raises(FloatingPointError, match="not finite at step"):
        small(kind, **diverging(kind)).fit(tables[0])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda(kind, tables):
    model = small(kind, device="cuda").fit(tables[0])
    assert next(model.module_.parameters()).is_cuda
    assert model.sample(10, random_state=0).shape == (10, 4)
    assert not has_likelihood(model) or np.isfinite(model.score(tables[1]))


def test_other_tables(kind):
    wide = pd.concat([simulate_losses(60, random_state=s).add_suffix(str(s)) for s in range(3)], axis=1)
    for X in (wide, wide.iloc[:, :2], wide.round(2), wide * 1e6):
        Y = small(kind).fit(X).sample(100, random_state=0)
        assert list(Y) == list(X) and np.isfinite(Y).all(axis=None) and (Y >= 0).all(axis=None)


CHECKED = [small(model, max_epochs=2) for model in MODELS.values()]


@pytest.mark.filterwarnings("ignore")
@parametrize_with_checks(CHECKED)
def test_scikit_learn(estimator, check):
    check(estimator)


@pytest.mark.parametrize("name, value", [("p", lambda v: v[:2]), ("p", lambda v: v + 1000), ("p", lambda v: v[:, None]), ("heights", lambda v: v[::2]),
                                         ("heights", lambda v: v + 1), ("rest", lambda v: v / 2), ("scale", lambda v: -v), ("family", lambda v: v + 0.5),
                                         ("xi", lambda v: v - 1), ("xi", lambda v: np.repeat(v, 2)), ("beta", lambda v: -v), ("sf_u", lambda v: v + 1),
                                         ("lower", lambda v: v + 1e9), ("upper", lambda v: 0 * v), ("clip", lambda v: 0 * v), ("tail", lambda v: v[:1]),
                                         ("atoms", lambda v: np.r_[v, v, 1.0]), ("masses", lambda v: np.r_[v, 0.5])])
def test_damaged_margins(kind, fitted, tmp_path, name, value):
    from safetensors.numpy import load_file, save_file
    folder = fitted.save(tmp_path / "model")
    arrays = load_file(folder / "model.safetensors")
    arrays[f"margins.0.{name}"] = np.ascontiguousarray(value(arrays[f"margins.0.{name}"]))
    save_file(arrays, folder / "model.safetensors")
    with pytest.raises(ValueError, match="margin"):
        kind.load(folder)


@pytest.mark.parametrize("change", [dict(n_features=10 ** 9), dict(n_features=True), dict(columns="abcd"), dict(columns=["a", "a", "b", "c"]),
                                    dict(params={"depth": 3}), dict(params={"max_epochs": "many"})])
def test_damaged_config(kind, fitted, tmp_path, change):
    folder = fitted.save(tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(ValueError, match="model"):
        kind.load(folder)


def test_huge_config_asks_for_no_memory(fitted, tmp_path):
    folder = fitted.save(tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    huge = [100_000, 100_000, 100_000]
    widths = [name for name in ("encoder", "generator") if name in config["params"]]
    config["params"] |= {widths[0]: huge} if widths else {"prior": {"LARS": {"hidden": huge}}}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="do not fit"):
        GenerativeModel.load(folder)


def test_save_over_its_own_folder(fitted, tables, tmp_path, monkeypatch):
    fitted.save(tmp_path / "a")
    monkeypatch.chdir(tmp_path / "a")
    fitted.save(".")
    assert sorted(os.listdir(tmp_path / "a")) == ["config.json", "model.safetensors"] and os.listdir(tmp_path) == ["a"]
    (tmp_path / "a" / "thesis.tex").write_text("precious")
    with pytest.raises(FileExistsError):
        fitted.save(tmp_path / "a")


def test_numpy_arguments_are_saved(kind, tables, tmp_path):
    model = small(kind, max_epochs=np.int64(2), early_stopping=np.bool_(kind().early_stopping)).fit(tables[0])
    assert kind.load(model.save(tmp_path / "m")).max_epochs == 2


def test_threads_do_not_disturb_each_other(kind, tables):
    from concurrent.futures import ThreadPoolExecutor
    fit = lambda seed: small(kind, random_state=seed).fit(tables[0]).sample(5, random_state=0).to_numpy()
    alone = [fit(s) for s in range(6)]
    with ThreadPoolExecutor(6) as pool:
        together = list(pool.map(fit, range(6)))
    assert all((a == b).all() for a, b in zip(alone, together))


def test_bad_n_draws(fitted, tables):
    if not has_likelihood(fitted):
        pytest.skip("this model has no likelihood")
    for n in (0, -1, 2.5):
        with pytest.raises(ValueError, match="n_draws"):
            fitted.score_samples(tables[1], n_draws=n)
    assert np.isfinite(fitted.score_samples(tables[1].head(5), n_draws=np.int64(3))).all()


def test_diverged_model_is_not_fitted(kind, tables):
    from sklearn.exceptions import NotFittedError
    model = small(kind, **diverging(kind))
    with pytest.raises(FloatingPointError):
        model.fit(tables[0])
    calls = [lambda: model.sample(3), lambda: model.save("x")]
    if has_likelihood(model):
        calls.append(lambda: model.score(tables[1]))
    for call in calls:
        with pytest.raises(NotFittedError):
            call()
