"""Draws under conditions: against closed forms, windows of the same model's draws, and what cannot be."""
import threading
import time

import numpy as np
import pandas as pd
import pytest
from scipy import special, stats

from genmod_nb.baselines import Bootstrap, GaussianCopula, GaussianMixture, Independent, Truth, Vine
from genmod_nb.cli import main
from genmod_nb.copulas import BaggedVines, FoldedT, SplineFlow, TCopulaMixture
from genmod_nb.data import LossLaw, simulate_losses
from genmod_nb.ensemble import Ensemble
from genmod_nb.extremes import Radial
from genmod_nb.gan import GAN
from genmod_nb.lars import LARS, Density
from genmod_nb.priors import Mixture, Vamp
from genmod_nb.vae import VAE
from genmod_nb.wae import WAE

LOSSES = simulate_losses(720, 0)
LAW = LossLaw()
HIGH = LAW.ppf(np.array([[0.99]]))[0]
QUIET = dict(progress=False, random_state=0, max_epochs=40)
MODELS = {"normal": VAE(**QUIET), "student": VAE(likelihood="student", **QUIET), "conditional sigma": VAE(sigma="conditional", **QUIET), "fixed sigma": VAE(sigma=0.5, **QUIET),
          "multivariate t": VAE(likelihood="multivariate_t", sigma="conditional", **QUIET), "LARS": VAE(prior=LARS(), **QUIET), "mixture": VAE(prior=Mixture(4), **QUIET),
          "Vamp": VAE(prior=Vamp(4), **QUIET), "WAE": WAE(**QUIET), "Density": Density(**QUIET), "Density of a mixture": Density(prior=Mixture(4), **QUIET),
          "Ensemble": Ensemble(members=2, **QUIET), "uncalibrated": Ensemble(members=2, calibrated=False, **QUIET),
          "folded": VAE(folded=True, **QUIET), "folded t": VAE(likelihood="multivariate_t", sigma="conditional", folded=True, **QUIET),
          "folded radial": VAE(prior=Radial(8.0), folded=True, **QUIET)}
COPULAS = {"BaggedVines": BaggedVines(members=2, random_state=0), "FoldedT": FoldedT(), "TCopulaMixture": TCopulaMixture(n_init=1, random_state=0),
           "SplineFlow": SplineFlow(max_epochs=5, random_state=0)}
BASELINES = {c.__name__: c() for c in (Independent, GaussianCopula, GaussianMixture, Vine, Truth)} | COPULAS


@pytest.fixture(scope="module")
def fitted():
    """{name: fitted model}, each fitted when it is first asked for."""
    class Fits(dict):
        def __missing__(self, name):
            self[name] = (MODELS | BASELINES)[name].fit(LOSSES)
            return self[name]
    return Fits()


@pytest.fixture(scope="module")
def millions(fitted):
    """{name: a million rows of the model}, drawn when they are first asked for: half a minute for some."""
    class Draws(dict):
        def __missing__(self, name):
            self[name] = fitted[name].sample(1_000_000, 1)
            return self[name]
    return Draws()


def together(names):
    """Tests of one model go to one worker, which draws its rows once."""
    return [pytest.param(name, marks=pytest.mark.xdist_group(f"given {name}")) for name in names]


def test_the_gaussian_copula_is_a_regression(fitted):
    """Scores given two others are normal, with the mean and covariance of the regression."""
    model = fitted["GaussianCopula"]
    X = model.sample(40_000, 0, given={"f4": 0.03, "f2": 0.05})
    Z, R = model.margins_.transform(X).to_numpy(), model.correlation_
    assert (X.f2 == 0.05).all() and (X.f4 == 0.03).all()
    B = R[np.ix_([0, 2], [1, 3])] @ np.linalg.inv(R[np.ix_([1, 3], [1, 3])])
    mean, cov = B @ Z[0, [1, 3]], R[np.ix_([0, 2], [0, 2])] - B @ R[np.ix_([1, 3], [0, 2])]
    free = Z[:, [0, 2]]
    for j in range(2):
        assert stats.kstest(free[:, j], stats.norm(mean[j], cov[j, j] ** 0.5).cdf).pvalue > 1e-3
    assert np.corrcoef(free.T)[0, 1] == pytest.approx(cov[0, 1] / np.sqrt(cov[0, 0] * cov[1, 1]), abs=0.02)


def test_the_normal_mixture_is_one_again(fitted):
    model = fitted["GaussianMixture"]
    z = model.margins_.transform(LOSSES.median().to_frame().T.assign(f1=HIGH[0])).to_numpy()[0, 0]
    m = model.mixture_
    Z = model.margins_.transform(model.sample(20_000, 0, given={"f1": HIGH[0]})).to_numpy()
    w = special.softmax(np.log(m.weights_) + stats.norm.logpdf(z, m.means_[:, 0], m.covariances_[:, 0, 0] ** 0.5))
    for j in (1, 2, 3):
        slope = m.covariances_[:, j, 0] / m.covariances_[:, 0, 0]
        loc = m.means_[:, j] + slope * (z - m.means_[:, 0])
        scale = np.sqrt(m.covariances_[:, j, j] - slope * m.covariances_[:, 0, j])
        assert stats.kstest(Z[:, j], lambda v: stats.norm.cdf(v[:, None], loc, scale) @ w).pvalue > 1e-3


def the_laws_own(j, x, n=4001):
    """Distribution function of column j given f1 = x under the law, by quadrature of each regime's bivariate t copula; losses and levels."""
    levels = np.linspace(0.5, n - 0.5, n) / n
    logs, cdfs, sf = [], [], LAW.sf(np.array([[x, 0, 0, 0]]))[0, 0]
    losses = LAW.ppf(levels[:, None])[:, j]
    for w, nu, R in zip(LAW.weights, LAW.copula_df, LAW.correlation):
        q, r = stats.t.isf(sf, nu), R[0, j]
        logs.append(np.log(w))                      # of one coordinate a copula says nothing
        scale = np.sqrt((nu + q ** 2) * (1 - r ** 2) / (nu + 1))
        cdfs.append(stats.t.cdf((stats.t.ppf(levels, nu) - r * q) / scale, nu + 1))
    return losses, special.softmax(logs) @ np.array(cdfs)


def distances(X):
    """Kolmogorov's p-values of f2, f3, f4 against the law's own conditional."""
    own = {f"f{j + 1}": the_laws_own(j, HIGH[0]) for j in (1, 2, 3)}
    return pd.Series({c: stats.kstest(X[c], lambda v, at=at: np.interp(v, *at)).pvalue for c, at in own.items()})


def test_the_truth_given_its_99_percent_quantile(fitted):
    """At 10^5 draws the truth passes, and an error of 5 % in the scale of any one column is caught."""
    X = fitted["Truth"].sample(100_000, 0, given={"f1": HIGH[0]})
    assert distances(X).min() > 0.001
    assert (distances(X * 1.05) < 1e-6).all()


def test_the_truth_given_two_columns(fitted):
    """Each row weighed by the density ratio: importance sampling from draws given one column."""
    truth, x4 = fitted["Truth"], 0.04
    base = truth.sample(200_000, 1, given={"f1": HIGH[0]}).assign(f4=x4)
    wide = truth.sample(4_000_000, 2)
    near = wide[(wide.f1 / HIGH[0] - 1).abs().lt(0.1) & (wide.f4 / x4 - 1).abs().lt(0.1)]
    X = truth.sample(50_000, 3, given={"f1": HIGH[0], "f4": x4})
    assert len(near) > 1000 and len(base)
    for c in ("f2", "f3"):
        error = 1.25 * near[c].std() / np.sqrt(len(near))
        assert abs(X[c].median() - near[c].median()) < 4 * error


def test_two_intervals_keep_their_dependence(fitted):
    """A peer truncates column by column, and its tau is zero."""
    high = LAW.ppf(np.array([[0.95]]))[0]
    X = fitted["Truth"].sample(20_000, 0, where={"f1": (high[0], None), "f4": (high[3], None)})
    assert (X.f1 >= high[0]).all() and (X.f4 >= high[3]).all()
    assert stats.kendalltau(X.f1, X.f4).statistic == pytest.approx(0.245, abs=0.02)


@pytest.mark.parametrize("name", together(sorted(MODELS) + ["Vine", "BaggedVines", "FoldedT", "TCopulaMixture"]))
def test_a_value_is_a_narrow_window(fitted, millions, name):
    """What is drawn given a value is what the same model draws in a narrow window around it."""
    model, wide, x = fitted[name], millions[name], LOSSES.f1.quantile(0.9)
    near = wide[(wide.f1 / x - 1).abs() < 0.02]
    X = model.sample(20_000, 0, given={"f1": x})
    assert (X.f1 == x).all() and X.attrs["effective"] > 10_000 and not X.duplicated().any()
    for c in ("f2", "f3", "f4"):
        for level in (0.5, 0.9):                # the share of either below the other's quantile
            error = np.sqrt(level * (1 - level) * (1 / len(near) + 1 / X.attrs["effective"]))
            assert abs((X[c] < near[c].quantile(level)).mean() - level) < 4.5 * error, (c, level)
    taus = [stats.kendalltau(T.f2, T.f4).statistic for T in (X, near)]
    assert taus[0] == pytest.approx(taus[1], abs=4 * 0.7 / np.sqrt(len(near)) + 0.01)


@pytest.mark.parametrize("columns", [("f1", "f3"), ("f2", "f4"), ("f1", "f2", "f3")])
@pytest.mark.parametrize("name", together(["multivariate t", "student", "Ensemble", "Density", "Vine", *COPULAS]))
def test_several_values(fitted, millions, name, columns):
    """The same with two values and three, whether or not they begin an order of the vine."""
    model, wide, x = fitted[name], millions[name], LOSSES.quantile(0.6)[list(columns)]
    near = wide[((wide[list(columns)] / x - 1).abs() < 0.12).all(axis=1)]
    X = model.sample(5000, 0, given=x.to_dict())
    assert len(near) > 100
    for c in set(LOSSES) - set(columns):
        error = np.sqrt(0.25 * (1 / len(near) + 1 / X.attrs["effective"]))
        assert abs((X[c] < near[c].median()).mean() - 0.5) < 4.5 * error + 0.01, c


def test_seeds_order_and_the_rest(fitted):
    model = fitted["multivariate t"]
    before = {k: v.clone() for k, v in model.module_.state_dict().items()}
    one = model.sample(500, 3, given={"f1": 0.04, "f3": 0.02}, where={"f2": (0.01, None)})
    two = model.sample(500, 3, given={"f3": 0.02, "f1": 0.04}, where={"f2": (0.01, None)})
    pd.testing.assert_frame_equal(one, two)
    assert (one.f2 >= 0.01).all() and not one.equals(model.sample(500, 4, given={"f1": 0.04, "f3": 0.02}, where={"f2": (0.01, None)}))
    assert all((before[k] == v).all() for k, v in model.module_.state_dict().items())
    pieces = pd.concat(model.sample_pieces(500, 3, 500, given={"f1": 0.04, "f3": 0.02}, where={"f2": (0.01, None)}))
    assert pieces.equals(one)


def test_threads(fitted):
    model, alone, found = fitted["normal"], None, []
    alone = model.sample(2000, 1, given={"f1": 0.05})
    threads = [threading.Thread(target=lambda: found.append(model.sample(2000, 1, given={"f1": 0.05}))) for _ in range(3)]
    for t in threads: t.start()
    for t in threads: t.join()
    assert len(found) == 3 and all(X.equals(alone) for X in found)


@pytest.mark.parametrize("given, where, message", [
    ({"f9": 1}, None, "no column 'f9'"), ({"f1": np.nan}, None, "no number"), ({"f1": "much"}, None, "no number"), ({"f1": -0.1}, None, "impossible"),
    ({"f1": np.inf}, None, "impossible"), (None, {"f1": 0.05}, "pair"), (None, {"f1": (0.2, 0.1)}, "empty"), (None, {"f1": (None, -1)}, "impossible"),
    (None, {"f1": (np.nan, 1)}, "no number"), ({"f1": 0.1}, {"f1": (0, 1)}, "both"), ({c: 0.1 for c in LOSSES}, None, "nothing is left"), ([0.1], None, "dictionary")])
def test_what_cannot_be(fitted, given, where, message):
    for name in ("normal", "GaussianCopula"):
        with pytest.raises(ValueError, match=message):
            fitted[name].sample(10, 0, given=given, where=where)


def test_improbable_conditions_end_soon(fitted):
    start = time.perf_counter()
    with pytest.raises(ValueError, match="below .* would take more than"):
        fitted["normal"].sample(10_000, 0, where={c: (50 * HIGH[0], None) for c in LOSSES})
    assert time.perf_counter() - start < 20
    with pytest.raises(ValueError, match="nearly impossible together"):
        fitted["fixed sigma"].sample(1000, 0, given={"f1": 1e4, "f2": 1e-7, "f4": 1e4})
    with pytest.raises(ValueError, match="no negative losses"):
        fitted["Truth"].sample(10, 0, given={"f1": -0.1})


@pytest.mark.parametrize("model", [GAN(**QUIET | {"max_epochs": 2}), Bootstrap()])
def test_without_a_density_intervals_only(model):
    model.fit(LOSSES)
    with pytest.raises(AttributeError, match="no likelihood.*where="):
        model.sample(10, 0, given={"f1": 0.05})
    assert (model.sample(50, 0, where={"f1": (0.01, 0.02)}).f1.between(0.01, 0.02)).all()


def test_without_the_decoders_noise():
    with pytest.raises(ValueError, match="decoder_noise=False"):
        VAE(decoder_noise=False, **QUIET | {"max_epochs": 2}).fit(LOSSES).sample(10, 0, given={"f1": 0.05})


@pytest.mark.parametrize("model", [VAE(**QUIET), GaussianCopula()])
def test_an_atom(model):
    """A given deductible is the atom: the others are as in those of the model's rows that stand there."""
    least = LOSSES.f1.quantile(0.3)
    model.fit(LOSSES.assign(f1=LOSSES.f1.clip(lower=least)))
    X, wide = model.sample(20_000, 0, given={"f1": least}, where={"f3": (0.001, None)}), model.sample(200_000, 1)
    near = wide[(wide.f1 == least) & (wide.f3 >= 0.001)]
    assert (X.f1 == least).all() and 0.25 < (wide.f1 == least).mean() < 0.35
    for c in ("f2", "f4"):
        assert stats.ks_2samp(X[c], near[c]).pvalue > 1e-3
    with pytest.raises(ValueError, match="impossible"):
        model.sample(10, 0, given={"f1": least / 2})


def test_tables_of_other_kinds():
    polars = pytest.importorskip("polars")
    X = GaussianCopula().fit(polars.from_pandas(LOSSES)).sample(20, 0, given={"f1": 0.05})
    assert isinstance(X, polars.DataFrame) and (X["f1"] == 0.05).all()
    A = GaussianCopula().fit(LOSSES.to_numpy()).sample(20, 0, given={"f1": 0.05})
    assert isinstance(A, np.ndarray) and (A[:, 0] == 0.05).all()


def test_few_effective_draws_warn():
    model = VAE(sigma=0.03, latent_dim=4, **QUIET).fit(LOSSES)
    with pytest.warns(UserWarning, match="independent ones"):
        X = model.sample(100_000, 0, given={"f1": 0.02, "f2": 0.02})
    assert 1000 < X.attrs["effective"] < 50_000


def test_command_line(fitted, tmp_path, capsys):
    fitted["normal"].save(tmp_path / "model")
    run = lambda *more: main(["sample", str(tmp_path / "model"), "-n", "200", "--seed", "1", "--out", str(tmp_path / "x.csv"), *more])
    assert run("--given", "f1=0.05", "--where", "f2=0.01:", "f4=:0.1") == 0
    X = pd.read_csv(tmp_path / "x.csv")
    assert (X.f1 == 0.05).all() and (X.f2 >= 0.01).all() and (X.f4 <= 0.1).all() and len(X) == 200
    assert "independent ones" in capsys.readouterr().out
    for odd in (["--given", "f1"], ["--given", "f1=x"], ["--where", "f1=0.1"], ["--where", "f1=:"], ["--where", "f1=1:2", "f1=1:3"], ["--given", "f9=1"]):
        assert run(*odd) == 2
        assert "error" in capsys.readouterr().err
