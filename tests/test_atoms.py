"""Values that many rows share: which are atoms, that nothing is drawn beyond one at an end of the range, and that density and sampler are one."""
from functools import partial

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from conftest import SMALL
from genmod_nb.atoms import distinct, find_atoms, untied
from genmod_nb.baselines import GaussianCopula, GaussianMixture, Independent, Vine
from genmod_nb.copulas import BaggedVines, FoldedT, SplineFlow, TCopulaMixture
from genmod_nb.cli import MODELS, load, main
from genmod_nb.data import simulate_losses
from genmod_nb.margin import GaussianMargin
from genmod_nb.margins import Margins, margins_of
from genmod_nb.model import GenerativeModel
from genmod_nb.vae import VAE

QUIET = dict(progress=False, random_state=0)
LOSSES = simulate_losses(720, 0)
LIMIT, DEDUCTIBLE = LOSSES.quantile(0.87), LOSSES.quantile(0.29)


def standard_sum(X):
    """Every tenth claim is settled at the same sum, in the middle of the others."""
    return X.mask(np.random.default_rng(0).random(X.shape) < 0.1, X.median(), axis=1)


TABLES = {"zero-heavy": LOSSES.where(LOSSES > LOSSES.quantile(0.3), 0.0), "capped": LOSSES.clip(upper=LIMIT, axis=1),
          "deductible": LOSSES.clip(lower=DEDUCTIBLE, axis=1), "deductible and limit": LOSSES.clip(DEDUCTIBLE, LIMIT, axis=1),
          "rounded": LOSSES.round(2), "rounded and capped": LOSSES.round(3).clip(upper=LIMIT.round(3), axis=1), "a standard sum": standard_sum(LOSSES)}


def atoms(x, lower=0.0, upper=np.inf):
    value, count = distinct(np.asarray(x, float))
    return list(value[find_atoms(value, count, lower, upper)])


# What each table makes an atom of: its own value for each column, and zero where the losses have one
MADE = {"zero-heavy": lambda c: {0.0}, "capped": lambda c: {LIMIT[c]}, "deductible": lambda c: {DEDUCTIBLE[c]}, "deductible and limit": lambda c: {DEDUCTIBLE[c], LIMIT[c]},
        "rounded": lambda c: {0.0}, "rounded and capped": lambda c: {LIMIT.round(3)[c]}, "a standard sum": lambda c: {LOSSES.median()[c]}}


@pytest.mark.parametrize("table", sorted(TABLES))
def test_the_rule(table):
    """An atom is what many share beside neighbours that few share; every tick of a rounded table is like its neighbours."""
    for (c, x), m in zip(TABLES[table].items(), Margins().fit(TABLES[table]).columns_):
        assert set(m.atoms) == MADE[table](c) | ({0.0} if (x == 0).any() else set())
        assert m.masses == pytest.approx([(x == a).mean() for a in m.atoms], abs=1e-12)


def held_by(*counts, rest=0):
    """Values 1, 2, 3, ... held by so many rows each, and far above them `rest` values that one row holds."""
    return np.r_[np.repeat(np.arange(1.0, len(counts) + 1), counts), 100 + np.arange(rest)]


@pytest.mark.parametrize("x, expected", [
    (np.r_[np.zeros(50), np.full(5, 9.0)], [0, 9]), (np.r_[np.zeros(50), np.full(4, 9.0)], [0]),        # five rows are many, four are not
    (held_by(10, rest=990), [1]), (held_by(10, rest=991), []),                                  # one row in a hundred, or just less
    (held_by(10, 2, rest=88), [1]), (held_by(9, 2, rest=88), []),                               # five times a neighbour, or just less
    (held_by(10, 1, 1, 2, rest=80), [1]), (held_by(10, 1, 1, 3, rest=80), []),                  # the third neighbour above counts
    (held_by(10, 1, 1, 1, 3, rest=80), [1]),                                                    # the fourth does not
    (held_by(3, 1, 1, 10, rest=80), []), (held_by(3, 1, 1, 1, 10, rest=80), [5]),               # nor does the fourth below
    (np.r_[np.zeros(9), held_by(10, rest=80)], [0, 1]),                                         # an end of the range is no neighbour
    (np.r_[0.0, held_by(rest=99)], [0]), (np.r_[1e-300, held_by(rest=99)], []),                 # one row at the end, or just above it
])
def test_the_rule_at_its_bounds(x, expected):
    assert atoms(x) == expected


@pytest.mark.parametrize("top, expected", [(199.0, [199.0]), (np.nextafter(199, 300), [])])
def test_one_row_at_the_upper_end_is_an_atom(top, expected):
    assert atoms(held_by(rest=100), upper=top) == expected


@pytest.mark.parametrize("apart, values", [(0.9e-9, 1), (1.1e-9, 2)])
def test_numbers_a_billionth_apart_are_one(apart, values):
    assert len(distinct(np.array([1.0, 1.0 + apart, 3.0]))[0]) == values + 1


@pytest.mark.parametrize("x, expected", [
    (np.round(np.random.default_rng(0).exponential(3, 500)), [0.0]),                    # counts
    (np.random.default_rng(0).poisson(20, 500), []),
    (np.r_[np.random.default_rng(0).exponential(1, 400), np.full(4, 9.0)], []),         # four rows are not many
    (np.r_[np.random.default_rng(0).exponential(1, 400), np.full(60, 0.5)], [0.5]),
    (np.r_[np.random.default_rng(0).exponential(1, 400).round(2), np.full(200, 0.5)], [0.0, 0.5]),
    (np.r_[np.zeros(70), np.full(30, 5.0)], [0.0, 5.0]),
    (np.r_[0.0, np.random.default_rng(0).exponential(1, 400)], [0.0]),                  # zero has no logarithm
    (np.r_[np.full(50, 0.1 + 0.2), np.full(50, 0.3), np.random.default_rng(0).random(400)], [0.3]),     # one value, two spellings
])
def test_the_rule_on_columns(x, expected):
    assert atoms(x) == pytest.approx(expected)


def test_ticks_keep_their_quantiles():
    for tick in (0.001, 0.01):
        value, count = distinct((LOSSES.f1 / tick).round().to_numpy() * tick)
        spread = untied(value, count, np.zeros(len(value), bool), -np.inf, np.inf)
        assert len(spread) == 720 and (np.diff(spread) >= 0).all()
        assert np.abs(np.quantile(spread, np.linspace(0.1, 0.9, 9)) - np.quantile(LOSSES.f1, np.linspace(0.1, 0.9, 9))).max() < tick / 2


@pytest.mark.parametrize("table", sorted(TABLES))
@pytest.mark.parametrize("model", ["vae", "vine", "independent"])
def test_nothing_beyond_an_end_and_atoms_in_their_share(model, table):
    X, n = TABLES[table], 50_000
    unfitted = {"vae": VAE(**SMALL), "vine": Vine(), "independent": Independent()}[model]
    fitted = unfitted.fit(X)
    drawn = fitted.sample(n, random_state=1)
    assert ((drawn >= 0) & np.isfinite(drawn)).all(axis=None)
    for c, m in zip(X, fitted.margins_.columns_):
        if "capped" in table or "limit" in table: assert drawn[c].max() == X[c].max()
        if "deductible" in table: assert drawn[c].min() == X[c].min()
        for a, mass in zip(m.atoms, m.masses):
            far = 0.12 if model == "vae" else 3.5 * np.sqrt(mass * (1 - mass) / n)          # twelve epochs leave the scores somewhat off
            assert (drawn[c] == a).mean() == pytest.approx(mass, abs=far)


def integral(fitted, X, rows):
    """Of the density, over half of its own draws and half of draws of the margins: 1 if density and sampler are one."""
    other = Independent().fit(X)
    points = pd.concat([fitted.sample(rows, random_state=1), other.sample(rows, random_state=2)])
    share = 2 / (1 + np.exp(other.score_samples(points) - fitted.score_samples(points)))
    a, b = share[:rows], share[rows:]
    return (a.mean() + b.mean()) / 2, 0.5 * np.sqrt((a.var() + b.var()) / rows)


@pytest.mark.parametrize("table", ["zero-heavy", "capped", "rounded", "deductible and limit", "a standard sum"])
@pytest.mark.parametrize("model", [GaussianCopula(), GaussianMixture(random_state=0), Vine(), FoldedT(), TCopulaMixture(n_init=1, random_state=0),
                                   SplineFlow(max_epochs=5, random_state=0), VAE(**SMALL), VAE(**SMALL | dict(margins="log"))],
                         ids=["copula", "mixture", "vine", "folded t", "t copulas", "flow", "vae", "vae on logs"])
def test_the_density_comes_to_one(model, table):
    value, error = integral(model.fit(TABLES[table]), TABLES[table], 2000)
    assert error < 0.02 and value == pytest.approx(1, abs=3 * error + 0.005)


def test_scores_at_atoms_are_deterministic_and_know_no_neighbours():
    X = TABLES["zero-heavy"]
    model = VAE(**SMALL).fit(X)
    once, again = model.score_samples(X), model.score_samples(X)
    assert (once == again).all() and np.isfinite(once).all()
    some = X.iloc[::7]
    assert Vine().fit(X).score_samples(some) == pytest.approx(Vine().fit(X).score_samples(X)[::7], abs=1e-9)


@pytest.mark.parametrize("name", sorted(MODELS))
def test_every_model_takes_a_range_and_keeps_it_in_its_file(name, tmp_path):
    X = LOSSES.clip(upper=LIMIT, axis=1)
    model = MODELS[name](**SMALL, lower=0.0, upper={"f1": 1.0}).fit(X)
    drawn = model.sample(3000, random_state=1)
    assert (drawn.max() <= [1.0, *LIMIT[1:]]).all() and (drawn >= 0).all(axis=None)
    back = GenerativeModel.load(model.save(tmp_path / "m"))
    pd.testing.assert_frame_equal(back.sample(3000, random_state=1), drawn)
    assert back.get_params()["upper"] == {"f1": 1.0}
    with pytest.raises(ValueError, match="'f2'.*outside"):
        MODELS[name](**SMALL, upper={"f2": 1e-6}).fit(X)


@pytest.mark.parametrize("baseline", [Independent, GaussianCopula, Vine, GaussianMixture, FoldedT, partial(TCopulaMixture, n_init=1),
                                      partial(BaggedVines, members=2), partial(SplineFlow, max_epochs=2)])
def test_every_baseline_takes_a_range(baseline, tmp_path):
    top = float(LOSSES.max().max())
    fitted = baseline(upper=top).fit(LOSSES)
    drawn = fitted.sample(100_000, random_state=0)
    assert drawn.max().max() <= top and (drawn.max() > 0.5 * LOSSES.max()).all()
    pd.testing.assert_frame_equal(load(fitted.save(tmp_path / "b")).sample(50, random_state=0), fitted.sample(50, random_state=0))


def test_a_range_below_zero_is_for_numbers_of_either_sign():
    X = pd.DataFrame(np.random.default_rng(0).standard_t(4, (400, 2)).clip(-9, 9), columns=["a", "b"])
    model = VAE(**SMALL, lower=-10.0).fit(X)
    drawn = model.sample(20_000, random_state=0)
    assert (drawn < 0).any(axis=None) and drawn.min().min() >= -10 and np.isfinite(model.score(X))
    with pytest.raises(ValueError, match="[Nn]egative"):
        VAE(**SMALL).fit(X)
    with pytest.raises(ValueError, match="no ends"):
        VAE(**SMALL, margins="raw", lower=-10.0).fit(X)
    assert Independent(lower=-10).fit(X).sample(5000, random_state=0).mean().abs().max() < 0.3


@pytest.mark.parametrize("bad, says", [(dict(lower=1.0, upper=0.5), "not below"), (dict(upper={"f9": 1}), "no column 'f9'"), (dict(lower="0"), "lower"), (dict(upper=[1, 2]), "upper")])
def test_ranges_that_are_none(bad, says):
    with pytest.raises(ValueError, match=says):
        VAE(**SMALL, **bad).fit(LOSSES)


def test_the_command_line_takes_a_range(tmp_path, capsys):
    LOSSES.to_csv(tmp_path / "x.csv", index=False)
    fit = ["fit", str(tmp_path / "x.csv"), "--out", str(tmp_path / "m"), "--epochs", "2", "--quiet"]
    top = float(LOSSES.f1.max())
    assert main([*fit, "--lower", "0", "--upper", f"f1={top}"]) == 0
    assert main(["sample", str(tmp_path / "m"), "-n", "50000", "--seed", "1", "--out", str(tmp_path / "s.csv"), "--quiet"]) == 0
    drawn = pd.read_csv(tmp_path / "s.csv")
    assert drawn.f1.max() <= top < drawn.to_numpy().max()
    capsys.readouterr()
    for wrong in (["--upper", "f1"], ["--upper", "f1=x"], ["--lower", "1", "2"], ["--upper", "f1=0.000001"]):
        assert main([*fit, *wrong]) == 2
        assert "upper" in (err := capsys.readouterr().err) or "lower" in err or "outside" in err


def test_margins_see_all_rows_of_a_fit():
    """Those that early stopping holds back among them."""
    model = VAE(**SMALL).fit(LOSSES)
    assert model.margins_.choices_.equals(margins_of("gaussian", LOSSES).choices_)
    assert (model.margins_.columns_[0].p == GaussianMargin().fit(LOSSES.f1.to_numpy()).p).all()


def test_rows_at_an_atom_are_trained_on_normal_scores():
    X = TABLES["zero-heavy"]
    margins = Margins().fit(X)
    Z = margins.scores(X, np.random.default_rng(1).random(X.shape))
    for j in range(4):
        assert stats.kstest(Z[:, j], "norm").pvalue > 1e-3
    assert (margins.inverse_transform(Z)[margins.at_atoms(X)] == X.to_numpy()[margins.at_atoms(X)]).all()


def test_a_zero_where_training_had_none_is_no_catastrophe():
    X = LOSSES[(LOSSES > 0).all(axis=1)]
    row = X.head(1).assign(f1=0.0)
    for model in (GaussianCopula(), VAE(**SMALL)):
        assert np.isfinite(model.fit(X).score(row))
