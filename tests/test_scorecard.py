"""Novelty where rows repeat, and a verdict that neither the generated nor the training rows move."""
import numpy as np
import pandas as pd
import pytest
from genmod_nb.cli import main
from genmod_nb.data import load_losses, simulate_losses
from genmod_nb.metrics import noise_floor, novelty, scorecard


# ------------------------------------------------------------------ novelty on ties
def counts(n, rng):
    return rng.poisson(1.0, (n, 3)).astype(float)


def rounded(n, rng):
    return np.round(np.exp(0.5 * rng.standard_normal((n, 2))), 0)


def mostly_zero(n, rng):
    return np.where(rng.random((n, 1)) < 0.6, 0, np.exp(rng.standard_normal((n, 3))))


def one_of_four(n, rng):
    return rng.integers(1, 3, (n, 2)).astype(float)


TIED = [counts, rounded, mostly_zero, one_of_four]


@pytest.mark.parametrize("law", TIED)
def test_a_tied_table_has_a_finite_ratio(law):
    rng = np.random.default_rng(0)
    train, test, fake = law(600, rng), law(400, rng), law(400, rng)
    scores = {"perfect": novelty(train, test, fake), "off": novelty(train, test, fake + 0.37), "copied": novelty(train, test, train[:400])}
    for s in scores.values():
        assert np.isfinite(s).all() and s.ratio == s.fake / s.test
    assert 0.4 < scores["perfect"].ratio < 2.5
    assert scores["off"].ratio > 1.3 * scores["perfect"].ratio
    assert scores["copied"].ratio <= 1 and scores["copied"].copies == 1


def test_where_every_row_has_been_seen_a_seen_row_is_as_new_as_any():
    rng = np.random.default_rng(1)
    train, test, fake = (one_of_four(n, rng) for n in (200, 100, 100))
    assert novelty(train, test, fake).ratio == 1 and novelty(train, test, train).ratio == 1
    assert novelty(train, test, fake + 0.5).ratio > 10


def test_a_memoriser_is_seen_by_the_rows_that_are_new():
    rng = np.random.default_rng(2)
    train, test = mostly_zero(600, rng), mostly_zero(400, rng)
    assert novelty(train, test, train[:400]).ratio < 0.01


def test_few_ties_change_nothing():
    train, test = load_losses()
    few = test.copy()
    few.iloc[:100] = train.iloc[:100].to_numpy()        # fewer than a quarter are copies
    seen = novelty(train, few, test)
    assert seen.ratio == seen.fake / seen.test and 0 < seen.test < seen.fake
    assert seen.fake == novelty(train, test, test).fake


# ------------------------------------------------------------------ the verdict
def far_rows(t):
    return pd.DataFrame(np.where(np.arange(len(t))[:, None] % 40 == 0, 1e3 * t, t), columns=list(t))


def doubled_tail(t):
    return t.where(t < t.quantile(0.97), 4 * t)


def shuffled(t):
    rng = np.random.default_rng(0)
    return t.apply(lambda x: rng.permutation(x.to_numpy()))


def one_row(t):
    return t * 0 + t.median()


def as_it_is(t):
    return t


FAKES = [far_rows, doubled_tail, shuffled, one_row, as_it_is]
FLOOR = ["floor", "floor_95"]


@pytest.fixture(scope="module")
def law():
    X = simulate_losses(900, random_state=3)
    return X[:400], X[400:600], X[600:].reset_index(drop=True)      # training, held-out, source of the fakes


@pytest.mark.parametrize("spoil", FAKES)
def test_the_verdict_is_the_same_with_and_without_training_rows(law, spoil):
    train, test, source = law
    fake = spoil(source)
    alone, full = (scorecard(test, fake, t, reps=60, progress=False) for t in (None, train))
    both = ["value", *FLOOR, "met"]
    pd.testing.assert_frame_equal(alone[both], full[both].loc[alone.index])
    assert list(full) == ["value", *FLOOR, "met", "training", "training_95"] and list(alone) == both
    assert alone.notna().all(axis=None) and (alone.met == (alone.value <= alone.floor_95)).all()
    assert set(full.index) - set(alone.index) == {"novelty_ratio", "novelty_nearer", "novelty_copies"}


def test_generated_rows_set_no_limit(law):
    train, test, source = law
    cards = [scorecard(test, spoil(source), train, reps=30, progress=False) for spoil in FAKES]
    for card in cards[1:]:
        pd.testing.assert_frame_equal(card[[*FLOOR, "training", "training_95"]], cards[0][[*FLOOR, "training", "training_95"]])
    tails = [scorecard(test, spoil(source), reps=60, progress=False).met["tail_error"] for spoil in (far_rows, doubled_tail)]
    assert tails == [False, False]


def test_large_tables_too(law):
    rng = np.random.default_rng(0)
    real, fake, train = rng.random((1500, 2)), rng.random((1200, 2)) ** 3, rng.random((700, 2))
    alone, full = (scorecard(real, fake, t, reps=20, max_rows=300, samples=2, progress=False) for t in (None, train))
    assert alone.met.equals(full.met[alone.index]) and not alone.met["anderson_darling"]
    assert "error" in alone and alone.floor.equals(scorecard(real, real, reps=20, max_rows=300, samples=2, progress=False).floor)


def test_the_floor_is_that_of_two_samples(law):
    X, n = simulate_losses(4000, random_state=4), 200
    floor = noise_floor(X, n, n, 100, progress=False).query("floor == 'ideal'")
    card = scorecard(X[:n], X[n:2 * n], reps=100, progress=False)
    assert card.floor["anderson_darling"] == pytest.approx(floor.anderson_darling.mean(), rel=0.25)
    assert card.floor["kendall_error"] == pytest.approx(floor.kendall_error.mean(), rel=0.25)


def test_on_the_command_line(law, tmp_path, capsys):
    train, test, source = law
    files = [tmp_path / f"{k}.csv" for k in ("real", "fake", "train")]
    for path, table in zip(files, (test, doubled_tail(source), train)):
        table.to_csv(path, index=False)
    cards = []
    for more in ([], ["--train", str(files[2])]):
        assert main(["score", *map(str, files[:2]), *more, "--reps", "40", "--quiet", "--out", str(tmp_path / "card.csv")]) == 0
        cards.append(pd.read_csv(tmp_path / "card.csv", index_col="score"))
        assert "floor_95" in capsys.readouterr().out
    assert cards[0].met.equals(cards[1].met[cards[0].index]) and "training_95" in cards[1]
