"""Properties of margins and metrics on generated tables, against literal transcriptions."""
from math import comb

import numpy as np
import pytest
from hypothesis import example, given, settings, strategies as st
from hypothesis.extra.numpy import arrays

from genmod_nb.data import LossLaw
from genmod_nb.margin import GaussianMargin
from genmod_nb.margins import MARGINS, SIGNED
from genmod_nb.metrics import anderson_darling, kendall_error, kendall_function

LOSS = st.one_of(st.just(0.0), st.floats(1e-6, 1e4), st.integers(1, 5).map(float))
COLUMN = st.integers(2, 120).flatmap(lambda n: arrays(np.float64, n, elements=LOSS)).filter(lambda x: len(np.unique(x)) > 1)
TABLES = st.tuples(st.integers(2, 25), st.integers(1, 4)).flatmap(
    lambda s: st.tuples(*[arrays(np.float64, s, elements=st.integers(0, 6).map(float))] * 2))


@settings(max_examples=200, deadline=None)
@given(COLUMN)
def test_gaussian_margin_is_a_law(x):
    m = GaussianMargin().fit(x)
    grid = np.unique(np.r_[np.linspace(0, 2 * x.max(), 500)[1:], x[x > 0], x.max() * np.geomspace(2, 1e3, 200)])   # a bare zero counts as the clip
    F, log_f = m.levels(grid, 1.0)[0], m.log_pdf(grid)
    assert 0 <= m.xi < 1 and m.beta > 0 and m.sound()
    assert (np.diff(F) >= 0).all() and ((0 <= F) & (F <= 1 + 1e-12)).all()
    inside = m.at_atom(grid) | (grid <= m.upper) & (grid >= m.lower) & (m.rest > 0)
    assert not np.isnan(log_f).any() and (log_f[~inside] == -np.inf).all() and (log_f[m.at_atom(grid)] > -np.inf).all()
    draws = m.inverse(np.linspace(-6, 6, 400))
    assert (np.diff(draws) >= 0).all() and (draws >= m.lower).all() and (draws <= m.upper).all()
    if m.sf_u:                                                         # body and tail meet with one density
        u = m.lower + m.scale * m.u
        assert m.log_pdf(np.array([u * (1 - 1e-9)])) == pytest.approx(m.log_pdf(np.array([u * (1 + 1e-9)])), abs=1e-5)


@settings(max_examples=200, deadline=None)
@given(COLUMN, st.sampled_from(sorted(MARGINS)))
@example(np.array([0.0, 1161.0, 1161.0]), "gaussian")       # the only positive value is the last knot
@example(np.array([1.0, 1e-6, np.nextafter(1e-6, 1)]), "gaussian")
def test_round_trip(x, kind):
    m = MARGINS[kind]().fit(x)
    probe = np.r_[x[x > 0], x[x > 0] * 1.37, x.max() * np.array([2.0, 10.0, 100.0])]
    rounding = 1e-12 * x.max() if kind == "raw" else 0      # of the mean, which is taken away and added again
    assert m.inverse(m.transform(probe)) == pytest.approx(probe, rel=1e-9, abs=rounding)
    if kind not in SIGNED:
        zero = m.inverse(m.transform(np.zeros(1)))[0]
        assert 0 <= zero < x[x > 0].min() / 2 and (zero == 0) == (x == 0).any()


def literal_ad(real, fake):
    """Of each generated value, the mean over all orders of its tie: the k-th of b comes after j of a real ones with a hypergeometric probability."""
    n, total = len(real), 0.0
    for x, y in zip(real.T, fake.T):
        y = sorted(y)
        for i, w in enumerate(y, 1):
            below, a, b = sum(x < w), sum(x == w), y.count(w)
            k = i - sum(v < w for v in y)
            for j in range(a + 1):
                p, u = comb(j + k - 1, j) * comb(a - j + b - k, a - j) / comb(a + b, a), (below + j + 1) / (n + 2)
                total -= p * ((2 * i - 1) * np.log(u) + (2 * (n - i) + 1) * np.log(1 - u)) / n
        total -= n
    return total / real.shape[1]


def literal_kendall(X):
    n = len(X)
    return [sum(all(X[j, k] < X[i, k] for k in range(X.shape[1])) for j in range(n) if j != i) / (n - 1) for i in range(n)]


@settings(max_examples=150, deadline=None)
@given(TABLES)
def test_metrics_are_their_formulas(pair):
    real, fake = pair
    n = len(real)
    assert anderson_darling(real, fake) / n == pytest.approx(literal_ad(real, fake) / n, abs=1e-12)
    assert list(kendall_function(real)) == literal_kendall(real)
    literal = sum(abs(a - b) for a, b in zip(sorted(literal_kendall(real)), sorted(literal_kendall(fake)))) / n
    assert kendall_error(real, fake) == pytest.approx(literal, abs=1e-12)
    assert 0 <= kendall_error(real, fake) <= 0.5


def test_kendall_function_ignores_increasing_maps():
    X = np.random.default_rng(0).random((300, 3))
    assert (kendall_function(X) == kendall_function(np.exp(5 * X))).all()


def test_law_density_is_the_derivative_of_its_distribution():
    law, x = LossLaw(), np.geomspace(1e-4, 0.5, 200)[:, None] * np.ones(4)
    h = 1e-6 * x
    slope = (law.cdf(x + h) - law.cdf(x - h)) / (2 * h)
    assert np.log(slope) == pytest.approx(law.margin_log_prob(x), abs=1e-4)
    assert law.ppf(law.cdf(x)) == pytest.approx(x, rel=1e-8)
    assert (law.margin_log_prob(-x) == -np.inf).all()


@pytest.mark.parametrize("share", [0.0, 0.02, 0.3, 0.6])
def test_zeros_keep_their_share(share):
    """The scores of a column with zeros are as near to normal as an atom allows, and samples have its mean."""
    rng = np.random.default_rng(0)
    x = np.where(rng.random(720) < share, 0, 0.01 * np.abs(rng.standard_t(4, 720)))
    share, m = (x == 0).mean(), GaussianMargin().fit(x)
    z = m.transform(x)
    assert abs(z.mean()) < 0.1 + share and 0.6 < z.std() < 1.1
    draws = m.inverse(rng.normal(size=100_000))
    assert draws.mean() == pytest.approx(x.mean(), rel=0.1)
    assert (draws < x[x > 0].min()).mean() == pytest.approx(share, abs=0.01)
    assert (draws == 0).mean() == pytest.approx(share, abs=0.01)


@pytest.mark.parametrize("x", [[0.0] * 70 + [1.0] * 30, [0.0] * 40 + [100.0] * 50 + [500.0] * 10, [1.0] * 50 + [2.0] * 50, [1.0] * 499 + [0.5]])
def test_ties_have_a_tail_no_longer_than_their_own(x):
    x = np.array(x)
    draws = GaussianMargin().fit(x).inverse(np.random.default_rng(0).normal(size=100_000))
    assert (draws > 2 * x.max()).mean() < 0.05 and draws.mean() < 2 * x.mean()


@pytest.mark.parametrize("scale", [1e-200, 1e-120, 1e120, 1e200])
def test_any_unit(scale):
    x = np.abs(np.random.default_rng(0).standard_t(4, 300))
    m, reference = GaussianMargin().fit(scale * x), GaussianMargin().fit(x)
    assert m.transform(scale * x) == pytest.approx(reference.transform(x), abs=1e-6)
    assert m.inverse(np.linspace(-4, 4, 50)) == pytest.approx(scale * reference.inverse(np.linspace(-4, 4, 50)), rel=1e-6)
    assert m.log_pdf(scale * x) == pytest.approx(reference.log_pdf(x) - np.log(scale), abs=1e-6)


def test_no_density_below_zero():
    law, bad = LossLaw(), np.array([[-0.01, 0.01, 0.01, 0.01]])
    assert law.log_prob(bad) == -np.inf and law.cdf(bad)[0, 0] == 0 and law.sf(bad)[0, 0] == 1
    for kind in ("gaussian", "log"):
        assert MARGINS[kind]().fit(np.arange(1.0, 50)).log_pdf(np.array([-1.0])) == -np.inf
