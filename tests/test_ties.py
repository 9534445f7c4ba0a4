"""Scores of tables in which values repeat: what a perfect generator reaches, what is still seen, and copies told from rows that anybody would repeat."""
import math

import numpy as np
import pandas as pd
import pytest

from genmod_nb.data import LossLaw, load_losses, simulate_losses
from genmod_nb.metrics import DISTANCES, _novelty_limits, anderson_darling, kendall_error, novelty, scorecard, tail_dependence, tail_dependence_error

LIMIT = LossLaw().ppf(np.full((1, 4), 0.87))


def losses(n, rng):
    return simulate_losses(n, rng).to_numpy(copy=True)


def zeros(n, rng, scale=1):
    return np.where(rng.random_sample((n, 4)) < 0.3, 0, scale * losses(n, rng))


def two_decimals(n, rng, scale=1):
    return np.round(scale * losses(n, rng), 2)


def counts(n, rng, scale=1):
    return np.round(scale * rng.poisson(1.0, (n, 4)))


def capped(n, rng, scale=1):
    return np.minimum(scale * losses(n, rng), LIMIT)


TIED = [zeros, two_decimals, counts, capped]


# ------------------------------------------------------------------ the Anderson-Darling distance
def printed(x, y):
    """The report's formula for one feature."""
    n, i = len(x), np.arange(1, len(x) + 1)
    u = (np.searchsorted(np.sort(x), np.sort(y), side="right") + 1) / (n + 2)
    return -n - np.mean((2 * i - 1) * (np.log(u) + np.log(1 - u[::-1])))


@pytest.mark.parametrize("n", [2, 3, 50, 537, 4000])
def test_without_ties_it_is_the_formula_to_the_last_bit(n):
    rng = np.random.RandomState(n)
    real, fake = losses(n, rng), losses(n, rng)
    assert list(anderson_darling(real, fake, per_feature=True)) == [printed(x, y) for x, y in zip(real.T, fake.T)]
    real[:n // 2, 0] = -1       # ties of one table only
    fake[:n // 3, 1] = 1e9
    assert anderson_darling(real, fake) == float(np.mean([printed(x, y) for x, y in zip(real.T, fake.T)]))


def over_orders(x, y):
    """The mean of W, each generated entry's level averaged by itself: how many of the a real entries of a tie lie before its k-th generated one."""
    n, W = len(x), -float(len(x))
    for v in set(y):
        A, a, B, b = sum(x < v), sum(x == v), sum(y < v), sum(y == v)
        for k in range(1, b + 1):
            for j in range(a + 1):
                p = math.comb(j + k - 1, j) * math.comb(a - j + b - k, a - j) / math.comb(a + b, a)
                u = (A + j + 1) / (n + 2)
                W -= p * ((2 * (B + k) - 1) * math.log(u) + (2 * (n - B - k) + 1) * math.log(1 - u)) / n
    return W


@pytest.mark.parametrize("values", [1, 2, 5, 30])
def test_with_ties_it_is_the_mean_over_their_orders(values):
    rng = np.random.default_rng(values)
    for n in (2, 7, 40):
        x, y = rng.integers(0, values, (2, n)).astype(float)
        assert anderson_darling(x[:, None], y[:, None]) == pytest.approx(over_orders(x, y), abs=1e-10)


@pytest.mark.parametrize("table", TIED)
def test_a_perfect_generator_is_at_two(table):
    rng = np.random.RandomState(0)
    null = [anderson_darling(table(400, rng), table(400, rng)) for _ in range(60)]
    assert np.mean(null) == pytest.approx(2, abs=0.3)


def classes(n, rng):
    return rng.randint(0, 12, (n, 2)).astype(float)


def half_floor_half_tail(n, rng):
    x = losses(n, rng)[:, :2]
    return np.where(x < np.median(LossLaw().ppf(np.full((1, 4), 0.5))), 0.001, x.round(3))


def nearly_always_zero(n, rng):
    return np.where(rng.random_sample((n, 2)) < 0.95, 0, rng.exponential(size=(n, 2)))


@pytest.mark.parametrize("table", [classes, half_floor_half_tail, nearly_always_zero])
def test_so_is_every_feature_whatever_its_ties(table):
    rng = np.random.RandomState(1)
    null = np.mean([anderson_darling(table(300, rng), table(300, rng), per_feature=True) for _ in range(150)], axis=0)
    assert null == pytest.approx(np.full(2, 2.0), abs=0.4)


@pytest.mark.parametrize("table, n", [(zeros, 90), (two_decimals, 90), (counts, 40), (capped, 90)])
def test_losses_that_are_too_large_are_seen(table, n):
    rng = np.random.RandomState(0)
    null, large = (np.array([anderson_darling(table(n, rng), table(n, rng, s)) for _ in range(80)]) for s in (1, 1.3))
    assert (large > np.quantile(null, 0.95)).mean() > (0.2 if table is zeros else 0.4)


def test_it_depends_on_no_seed_and_no_order():
    rng = np.random.RandomState(3)
    real, fake = counts(200, rng), counts(200, rng)
    first = anderson_darling(real, fake)
    assert anderson_darling(real[::-1], fake[::-1], random_state=7) == first
    assert anderson_darling(np.exp(real), np.exp(fake)) == first
    assert anderson_darling(0 * real, 0 * fake) == pytest.approx(2, abs=0.05)        # one value: as good as any


def test_the_real_table_has_too_few_ties_to_matter():
    train, test = load_losses()
    now, then = anderson_darling(train[:537], test, per_feature=True), [printed(x, y) for x, y in zip(train[:537].to_numpy().T, test.to_numpy().T)]
    assert now.to_numpy() == pytest.approx(then, abs=0.2)


# ------------------------------------------------------------------ novelty
def with_copies(train, new, share, rng, jitter=0.0):
    """New rows, of which a share is copied from the training rows, with a little noise."""
    n = int(share * len(new))
    fake = new.copy()
    fake[:n] = train[rng.randint(len(train), size=n)] * rng.uniform(1 - jitter, 1 + jitter, (n, train.shape[1]))
    return fake


def signed(n, rng):
    return losses(n, rng) * rng.choice([-1, 1], (n, 1))


@pytest.mark.parametrize("table, jitter", [(losses, 0.01), (signed, 0.01), (losses, 0.001)])
def test_a_tenth_of_jittered_copies_shows(table, jitter):
    rng = np.random.RandomState(0)
    train, real, new = table(720, rng), table(500, rng), table(500, rng)
    card = scorecard(real, with_copies(train, new, 0.1, rng, jitter), train, reps=100, progress=False)
    assert not card.met["novelty_nearer"] and card.value["novelty_nearer"] > 1.3 * card.floor_95["novelty_nearer"]
    assert card.met["novelty_copies"] and card.value["novelty_ratio"] > 0.8             # which hardly see it
    honest = novelty(train, real, new)
    assert honest.nearer <= card.floor_95["novelty_nearer"] and honest.ratio >= card.floor_95["novelty_ratio"]


def test_a_few_exact_copies_show_in_an_untied_table():
    rng = np.random.RandomState(1)
    train, real, new = losses(400, rng), losses(300, rng), losses(300, rng)
    card = scorecard(real, with_copies(train, new, 0.02, rng), train, reps=20, progress=False)
    assert card.value["novelty_copies"] == 0.02 and card.floor["novelty_copies"] == 0 and not card.met["novelty_copies"]


def test_copies_of_a_tied_table_show_where_they_exceed_those_of_new_rows():
    rng = np.random.RandomState(2)
    few = lambda n: rng.poisson(3.0, (n, 3)).astype(float)       # about half of the new rows have been seen
    train, real, new = few(400), few(300), few(300)
    honest, copied = (scorecard(real, fake, train, reps=50, progress=False) for fake in (new, with_copies(train, new, 0.5, rng)))
    assert 0.3 < honest.floor["novelty_copies"] < 0.9
    assert honest.met["novelty_copies"] and not copied.met["novelty_copies"]
    assert copied.training["novelty_copies"] == 1


@pytest.mark.parametrize("table", TIED)
def test_a_perfect_generator_of_a_tied_table_copies_no_more_than_it_may(table):
    rng, met = np.random.RandomState(0), []
    for _ in range(15):
        train, real, new = table(300, rng), table(150, rng), table(150, rng)
        limits, seen = _novelty_limits(real, 150, train, list("abcd"), 200, rng).floor_95, novelty(train, real, new)
        met.append([seen.ratio >= limits["novelty_ratio"], seen.nearer <= limits["novelty_nearer"], seen.copies <= limits["novelty_copies"]])
    assert (np.mean(met, axis=0) >= 0.75).all(), np.mean(met, axis=0)


def test_the_share_of_rows_too_near_is_a_twentieth_whatever_the_ties():
    rng = np.random.RandomState(4)
    for table in TIED:
        shares = [novelty(table(200, rng), table(100, rng), table(100, rng)).nearer for _ in range(12)]
        assert np.mean(shares) == pytest.approx(0.05, abs=0.03)


# ------------------------------------------------------------------ floors of every score
@pytest.fixture(scope="module")
def rows():
    rng = np.random.RandomState(5)
    return losses(400, rng), losses(200, rng), losses(200, rng)


def test_every_score_has_limits_that_were_computed(rows):
    train, real, new = rows
    card = scorecard(real, new, train, reps=40, progress=False)
    assert list(card) == ["value", "floor", "floor_95", "met", "training", "training_95"] and card.notna().all(axis=None)
    assert {*DISTANCES, "two_sample", "novelty_ratio", "novelty_nearer", "novelty_copies"} <= {*card.index}
    assert card.met.drop("tail_error").sum() >= len(card) - 3
    bare = scorecard(real, new, train, reps=0, progress=False)
    assert bare.value.equals(card.value) and bare.drop(columns="value").isna().all(axis=None)


def test_dependence_that_is_lost_misses_the_limits_of_the_scores_that_see_it(rows):
    _, real, new = rows
    rng = np.random.RandomState(6)
    lost, too_much = (scorecard(real, np.column_stack([f(x) for x in new.T]), reps=80, progress=False) for f in (rng.permutation, np.sort))
    assert not lost.met[["kendall_error", "energy_distance", "two_sample"]].any()
    assert not too_much.met[["kendall_error", "tail_dependence_error", "energy_distance", "two_sample"]].any()


def test_large_losses_miss_the_limit_of_the_energy_distance(rows):
    train, real, new = rows
    assert not scorecard(real, 2 * new, train, reps=80, progress=False).met["energy_distance"]


def test_the_classifier_may_be_worse_than_chance(rows):
    real = rows[1]
    card = scorecard(real, real, reps=8, progress=False)         # each row's twin is in another fold
    assert card.value["two_sample"] < 0.45 and card.met["two_sample"]


def test_less_novel_than_new_rows_is_bad_and_more_is_not(rows):
    train, real, new = rows
    rng = np.random.RandomState(7)
    near, far = (scorecard(real, fake, train, reps=40, progress=False) for fake in (train[:200] * rng.uniform(0.999, 1.001, (200, 4)), 3 * new))
    assert not near.met["novelty_ratio"] and far.met["novelty_ratio"] and far.value["novelty_ratio"] > 1.5


@pytest.mark.parametrize("table", [counts, zeros])
def test_the_floors_of_a_tied_table_are_those_of_two_samples(table):
    rng, n = np.random.RandomState(8), 150
    card = scorecard(table(n, rng), table(n, rng), reps=60, progress=False)
    pairs = [(table(n, rng), table(n, rng)) for _ in range(60)]
    for score in (anderson_darling, kendall_error):
        assert card.floor[score.__name__] == pytest.approx(np.mean([score(*p) for p in pairs]), rel=0.3)
    assert card.floor[[f"anderson_darling f{k}" for k in (1, 2, 3, 4)]].to_numpy() == pytest.approx(np.full(4, 2.0), abs=0.6)


def test_a_column_of_one_value_has_a_card_too():
    rng = np.random.RandomState(9)
    table = lambda n: np.column_stack([np.ones(n), losses(n, rng)[:, 0]])
    card = scorecard(table(100), pd.DataFrame(table(100)), reps=10, progress=False)
    assert card.loc["anderson_darling f1", ["value", "floor"]].astype(float).to_numpy() == pytest.approx(np.full(2, 1.9), abs=0.15)
    assert card.met["anderson_darling f1"]


def test_the_tail_dependence_error_is_a_mean_over_pairs(rows):
    _, real, new = rows
    gaps = [abs(tail_dependence(real).iloc[j, k] - tail_dependence(new).iloc[j, k]) for j in range(4) for k in range(j)]
    assert tail_dependence_error(real, new) == pytest.approx(np.mean(gaps))
    assert tail_dependence_error(real[:, :1], new[:, :1]) == 0
