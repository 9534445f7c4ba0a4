"""Joint extremes: what the laws say of themselves against rows drawn from them, and the measures of a table."""
import runpy
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
from scipy import integrate, stats

from genmod_nb.data import GaussianLaw, LossLaw
from genmod_nb.joint import angles, chi_bar, joint_exceedance, kendall_corner, tail_dependence

ROOT = Path(__file__).parents[1]
LAWS = (LossLaw, GaussianLaw)
ROWS = 2_000_000
claims = runpy.run_path(str(ROOT / "benchmarks" / "joint.py"))["claims"]


@pytest.fixture(scope="module")
def tables():
    return {kind: kind().sample(ROWS, 1) for kind in LAWS}


@pytest.mark.parametrize("kind", LAWS)
def test_a_law_says_what_its_rows_show(kind, tables):
    """Every claim within 3 standard errors, which one of them in 400 misses by chance; with this seed none does."""
    rows = pd.DataFrame(claims(kind(), [tables[kind].to_numpy()]))
    assert len(rows) > 60 and {"all", "at least 3", "chi f1 f2", "shortfall f4"} <= set(rows.measure)
    assert rows.z.abs().max() < 3, rows[rows.z.abs() >= 3]
    assert rows.z.std() == pytest.approx(1, abs=0.5)        # the errors are not too wide either


def test_chi_bar_of_a_law(tables):
    """Of normal pairs by scipy's integral; of both laws by their rows, within 4 errors of a logarithm; far out towards its limit."""
    u = 0.999
    q = stats.norm.isf(1 - u)
    for j, k in ((0, 1), (1, 2), (0, 3)):
        rho = GaussianLaw.correlation[0][j, k]
        both = stats.multivariate_normal.cdf([-q, -q], cov=[[1, rho], [rho, 1]])
        assert GaussianLaw().chi_bar(u).iloc[j, k] == pytest.approx(2 * np.log(1 - u) / np.log(both) - 1, abs=1e-5)
    for kind in LAWS:
        said, seen = kind().chi_bar(u).to_numpy(), chi_bar(tables[kind], u).to_numpy()
        p = (1 - u) ** (2 / (1 + said))
        error = (1 + said) / np.abs(np.log(p)) / np.sqrt(ROWS * p)
        assert (np.abs(seen - said) <= 4 * error * (1 - np.eye(4)) + 1e-9).all()
        assert np.allclose(np.diag(said), 1) and (said == said.T).all()
    assert (LossLaw().chi_bar(1 - 1e-12).to_numpy() > LossLaw().chi_bar(u).to_numpy() - 1e-12).all()
    for u in (0, 1):
        with pytest.raises(ValueError, match=f"u={u}"):
            LossLaw().chi_bar(u)


def test_a_planted_error_is_caught(tables):
    """Correlations that are off by 0.02 in stress, a scale by one per cent."""
    class Off(LossLaw):
        correlation = (LossLaw.correlation[0], 0.98 * LossLaw.correlation[1] + 0.02 * np.eye(4))
    class Wide(LossLaw):
        scale = LossLaw.scale * [1.01, 1, 1, 1]
    for law in (Off(), Wide()):
        rows = pd.DataFrame(claims(law, [tables[LossLaw].to_numpy()], levels=(0.9, 0.99)))
        assert rows.z.abs().max() > 5


@pytest.mark.parametrize("rho", (0.15, 0.5, 0.9))
@pytest.mark.parametrize("nu", (3, 8, np.inf))
def test_the_joint_survival_function_far_out(nu, rho):
    """Two losses by the conditional of a bivariate t, four of one correlation by a common factor, over a scale."""
    law = LossLaw()
    law.weights, law.copula_df, law.correlation = (1.,), (nu,), (np.full((4, 4), rho) + (1 - rho) * np.eye(4),)
    z = np.arange(-12, 12, 0.02)
    wz = 0.02 * stats.norm.pdf(z)
    s, ws = np.ones(1), np.ones(1)
    if np.isfinite(nu):
        s = np.exp(np.arange(-14, 3, 0.01))
        ws = 0.01 * s * np.sqrt(nu) * stats.chi.pdf(s * np.sqrt(nu), nu)
    for tail in (1e-2, 1e-5):
        q, x = stats.t.isf(tail, nu), law.ppf([[1 - tail]])
        # given its first component, the second is a t with nu + 1 degrees of freedom
        width = lambda t: np.sqrt((1 - rho ** 2) * (1 if np.isinf(nu) else (nu + t * t) / (nu + 1)))
        given = lambda v: stats.t.sf((q - rho * v) / width(v), nu + 1)
        two = tail * integrate.quad(lambda v: given(stats.t.isf(tail * v, nu)), 0, 1, epsrel=1e-10)[0]
        assert law.joint_sf(x * [1, 1, 0, 0])[0] == pytest.approx(two, rel=3e-5)
        alone = stats.norm.sf((s[:, None] * q - np.sqrt(rho) * z) / np.sqrt(1 - rho))
        for d in (3, 4):
            assert law.joint_sf(x * (np.arange(4) < d))[0] == pytest.approx(ws @ (alone ** d @ wz), rel=3e-5)


def test_the_gaussian_law_is_a_normal_one():
    law = GaussianLaw()
    normal = stats.multivariate_normal(np.zeros(4), law.correlation[0])
    for u in (0.3, 0.9, 0.999):
        both = stats.multivariate_normal.cdf([-stats.norm.ppf(u)] * 2, cov=law.correlation[0][1:3, 1:3])
        assert law.tail_dependence(u).f2.f3 == pytest.approx(both / (1 - u), rel=3e-5)
    assert (law.tail_dependence().to_numpy() == np.eye(4)).all()
    X = law.sample(1_000, 0)
    z = stats.norm.isf(law.sf(X))
    expected = normal.logpdf(z) - stats.norm.logpdf(z).sum(1) + law.margin_log_prob(X).sum(1)
    assert law.log_prob(X) == pytest.approx(expected, abs=1e-8)


def test_the_two_laws_agree_in_the_bulk(tables):
    """Kendall's taus of a twentieth of the rows: their errors are about 0.002."""
    taus = [tables[kind][:100_000].corr("kendall").to_numpy() for kind in LAWS]
    assert np.abs(taus[0] - taus[1]).max() < 0.01
    assert np.abs(taus[1] - 2 / np.pi * np.arcsin(GaussianLaw.correlation[0])).max() < 0.01


def test_a_law_refuses():
    law = LossLaw()
    for call, text in ((lambda: law.tail_dependence(1.5), "u=1.5"), (lambda: law.value_at_risk(1), "level=1"),
                       (lambda: law.shortfall(-0.1), "level=-0.1"), (lambda: law.exceedance(0.1, 5), "at_least=5"),
                       (lambda: law.exceedance(0.1, 0), "at_least")):
        with pytest.raises(ValueError, match=text):
            call()


def test_the_measures_take_any_table():
    X = LossLaw().sample(2_000, 0)
    for other in (X.to_numpy(), pl.from_pandas(X), X.set_index(np.zeros(2_000, int))):
        for measure in (tail_dependence, chi_bar, angles, kendall_corner):
            assert (measure(other).to_numpy() == measure(X).to_numpy()).all()
        assert joint_exceedance(other, 0.03, 2).equals(joint_exceedance(X, 0.03, 2))
    for call, text in ((lambda: chi_bar(X, 1), "u=1"), (lambda: angles(X, 1), "level=1"),
                       (lambda: angles(X.mask(X > 0.05)), "NaN"),
                       (lambda: kendall_corner(X, (0.9, 1)), "levels="), (lambda: kendall_corner(X.head(1)), "row"), (lambda: joint_exceedance(X, {}), "a number"),
                       (lambda: joint_exceedance(X, 0.1, 5), "at_least=5"), (lambda: joint_exceedance(X, {"g": 1}), "'g'")):
        with pytest.raises(ValueError, match=text):
            call()


def test_a_missing_cell_ranks_nowhere():
    """It is left out of its column's ranks, and the others keep theirs."""
    X = pd.DataFrame(np.random.default_rng(0).normal(size=(400, 3)), columns=["a", "b", "c"])
    holed = X.copy()
    holed.loc[X.a.idxmin(), "a"] = np.nan
    pd.testing.assert_frame_equal(tail_dependence(holed, 0.9), tail_dependence(X, 0.9), atol=0.05)
    assert (np.diag(tail_dependence(holed, 0.9)) == 1).all()


def test_increasing_maps_change_no_rank_measure():
    X = LossLaw().sample(5_000, 0)
    for measure in (tail_dependence, chi_bar, angles, kendall_corner):
        assert measure(np.log(X) * [1, 2, 3, 4]).equals(measure(X))


def test_at_least_is_counted_by_hand():
    X = pd.DataFrame(dict(a=[1, 2, 3, 4], b=[4, 3, 2, 1]))
    assert joint_exceedance(X, 1.5, 1).to_dict() == dict(probability=1.0, standard_error=0.0, rows=4)
    both = joint_exceedance(X, {"a": 1, "b": 2})
    assert both.rows == 1 and both.probability == 0.25 and both.standard_error == pytest.approx(np.sqrt(0.25 * 0.75 / 4))
    assert joint_exceedance(X, {"b": 3}).rows == 1              # strictly beyond, and only the column that is named


@pytest.mark.parametrize("law", [LossLaw(), GaussianLaw()])
def test_thresholds_at_the_ends(law):
    x = law.ppf([[0.9]])[0]
    for j in range(4):
        open_, never, unknown = x.copy(), x.copy(), x.copy()
        open_[j], never[j], unknown[j] = -np.inf, np.inf, np.nan
        assert law.joint_sf([open_])[0] == law.joint_sf([np.where(np.arange(4) == j, 0, x)])[0]
        assert law.joint_sf([never, x]).tolist() == [0, law.joint_sf([x])[0]]
        assert law.exceedance(never, 3) == pytest.approx(law.joint_sf([np.where(np.arange(4) == j, 0, x)])[0], rel=1e-9)
        assert law.exceedance(open_, 1) == pytest.approx(1, abs=1e-4)
        for refused in (lambda: law.joint_sf([unknown]), lambda: law.exceedance(unknown, 2)):
            with pytest.raises(ValueError, match="NaN"):
                refused()


def test_the_corner_is_counted_by_hand():
    X = pd.DataFrame(dict(a=[1, 2, 3, 4, 5], b=[1, 2, 3, 5, 4]))       # the shares are 0, 1/4, 1/2, 3/4 and 3/4
    corner = kendall_corner(X, (0.2, 0.5, 0.75))
    assert corner.rows.tolist() == [4, 2, 0] and corner.share.tolist() == [0.8, 0.4, 0.0]
    assert corner.ratio.to_numpy() == pytest.approx([1.0, 0.8, 0.0])
