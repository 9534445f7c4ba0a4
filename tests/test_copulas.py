"""Copulas beyond the simple ones: densities against draws, planted numbers, what is refused, and files that the command line reads."""
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import special, stats
from sklearn.base import clone
from threadpoolctl import threadpool_info

from genmod_nb import copulas
from genmod_nb.copulas import BaggedVines, FoldedT, SplineFlow, TCopulaMixture, t_copula_log_density
from genmod_nb.data import simulate_losses

LOSSES = simulate_losses(300, 0)
NU, R = 4.0, np.array([[1, 0.8, 0.5], [0.8, 1, 0.6], [0.5, 0.6, 1]])
SMALL = {"BaggedVines": BaggedVines(members=2, random_state=0), "FoldedT": FoldedT(), "TCopulaMixture": TCopulaMixture(n_init=1, random_state=0),
         "SplineFlow": SplineFlow(max_epochs=3, random_state=0)}


def folded(n, R, seed=0):
    """Absolute values of rows from a t distribution."""
    return np.abs(stats.multivariate_t(np.zeros(len(R)), R, NU).rvs(n, random_state=seed))


def equal(d, rho=0.6):
    return np.full((d, d), rho) + (1 - rho) * np.eye(d)


def disagreement(log_p, log_q, points):
    """By how many standard errors the share of p in p + q, over points drawn half from each, misses one half."""
    share = special.expit(log_p(points) - log_q(points))
    return abs(share.mean() - 0.5) / (share.std() / np.sqrt(len(points)))


@pytest.mark.parametrize("d", [2, 3, 5])
def test_a_folded_t_draws_from_its_density(d):
    """And a fold with another nu, or the t copula that is not folded, is told from it."""
    X = folded(40_000, equal(d))
    Z = special.ndtri(1 - 2 * stats.t.sf(X, NU))
    normal = np.random.default_rng(1).standard_normal(Z.shape)
    points, log_q = np.concatenate([Z, normal]), lambda Z: stats.norm.logpdf(Z).sum(1)
    of = lambda nu, fold: lambda Z: t_copula_log_density(Z, equal(d), nu, fold) + log_q(Z)
    assert disagreement(of(NU, True), log_q, points) < 4
    assert disagreement(of(NU, False), log_q, points) > 8


def test_of_one_column_a_copula_says_nothing():
    z = np.linspace(-6, 6, 13)[:, None]
    for fold in (False, True):
        assert t_copula_log_density(z, np.eye(1), 3.0, fold) == pytest.approx(np.zeros(13), abs=1e-9)
        with pytest.raises(ValueError, match="2 columns"):
            FoldedT().fit(LOSSES[["f1"]])


def test_signs_are_forgotten():
    """Tables whose variables differ by signs are the same table of absolute values, so that R with changed signs has the same density."""
    s, Z = np.array([1, -1, 1]), np.random.default_rng(0).standard_normal((100, 3)) * 2
    assert t_copula_log_density(Z, R * np.outer(s, s), NU, True) == pytest.approx(t_copula_log_density(Z, R, NU, True), abs=1e-10)
    assert not np.allclose(t_copula_log_density(Z, R * np.outer(s, s), NU), t_copula_log_density(Z, R, NU))


def test_far_scores_are_finite():
    Z = np.array([[40.0, -40, 0], [-40, -40, -40], [np.inf, -np.inf, 1]])
    for fold in (False, True):
        assert np.isfinite(t_copula_log_density(Z, R, 1.0, fold)).all()


def test_planted_numbers_come_back():
    model = FoldedT().fit(folded(5000, R))
    assert model.correlation_ == pytest.approx(R, abs=0.06) and model.df_ == pytest.approx(NU, rel=0.3)


def test_the_fit_is_a_maximum():
    """No step in any direction makes the training rows more likely."""
    model = FoldedT().fit(folded(500, R))
    Z = model.margins_.transform(folded(500, R))
    v, rng, w = np.append(copulas._angles(model.correlation_), np.log(model.df_)), np.random.default_rng(0), np.full(500, 1 / 500)
    least = copulas._loss(v, Z, w, True)[0]
    assert all(copulas._loss(v + 0.02 * rng.standard_normal(4), Z, w, True)[0] > least - 1e-7 for _ in range(30))


def test_a_mixture_of_one_is_a_t_copula():
    """Its numbers are those of the t copula's own maximum."""
    T = stats.multivariate_t(np.zeros(3), R, NU).rvs(2000, random_state=0)
    model = TCopulaMixture(n_components=1, n_init=1, random_state=0).fit(stats.t.cdf(T, NU) / (1 - stats.t.cdf(T, NU)))
    assert model.weights_ == pytest.approx([1]) and model.correlations_[0] == pytest.approx(R, abs=0.06) and model.dfs_[0] == pytest.approx(NU, rel=0.35)


def test_more_starts_are_never_worse_on_the_training_rows():
    one, four = (TCopulaMixture(n_init=n, random_state=0).fit(LOSSES).score(LOSSES) for n in (1, 4))
    assert four >= one - 1e-3       # starts are compared after ten rounds


def test_too_many_columns_for_signs():
    X = np.random.default_rng(0).exponential(size=(60, 13))
    with pytest.raises(ValueError, match="13 columns.*at most 12"):
        FoldedT().fit(X)
    assert np.isfinite(FoldedT().fit(X[:, :6]).score(X[:, :6]))


@pytest.mark.parametrize("name", SMALL)
def test_few_rows_are_warned_of(name):
    with pytest.warns(UserWarning, match="too few to learn a joint law from"):
        clone(SMALL[name]).fit(LOSSES.head(4).to_numpy())


@pytest.mark.parametrize("name", SMALL)
def test_threads_are_left_as_found(name):
    before = torch.get_num_threads(), [p["num_threads"] for p in threadpool_info()], torch.get_default_dtype()
    clone(SMALL[name]).fit(LOSSES).sample(5)
    assert before == (torch.get_num_threads(), [p["num_threads"] for p in threadpool_info()], torch.get_default_dtype())


def test_a_seed_decides():
    for kind in (BaggedVines(members=2), SplineFlow(max_epochs=2)):
        a, b, c = (kind.set_params(random_state=s).fit(LOSSES).score(LOSSES) for s in (1, 1, 2))
        assert a == b != c


def test_a_flow_without_its_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "zuko", None)
    with pytest.raises(ImportError, match="genmod_nb\\[baselines\\]"):
        SplineFlow().fit(LOSSES)


def test_a_flow_does_not_learn_from_the_rows_held_out():
    """It stops when they stop gaining: with patience 1 soon, and with what was best."""
    quick, long = (SplineFlow(max_epochs=60, patience=p, random_state=0).fit(LOSSES) for p in (1, 60))
    assert quick.score(LOSSES) < long.score(LOSSES)


@pytest.mark.parametrize("name, change, says", [("FoldedT", {"df": np.array(0.5)}, "between 1 and 100"), ("FoldedT", {"correlation": np.full((4, 4), 2.0)}, "not positive"),
                                                ("TCopulaMixture", {"weights": np.array([0.5, 0.2])}, "no shares"), ("TCopulaMixture", {"dfs": np.ones(3)}, "not 2 weights"),
                                                ("SplineFlow", {"parameters": np.zeros(3, np.float32)}, "parameters, not of 3"),
                                                ("BaggedVines", {"vines": np.frombuffer(b"[]", np.uint8)}, "0 vines, not 2")])
def test_what_no_fit_leaves(name, change, says):
    model = clone(SMALL[name]).fit(LOSSES)
    with pytest.raises(ValueError, match=says):
        model._restore(model._kept() | change)


def test_the_command_line_knows_them(tmp_path):
    FoldedT().fit(LOSSES).save(tmp_path / "m")
    code = "import sys; from genmod_nb.cli import load; print(type(load(sys.argv[1])).__name__)"
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "m"], capture_output=True, text=True)
    assert done.stdout == "FoldedT\n", done.stderr
