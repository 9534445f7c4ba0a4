"""Any dataframe in, by name, and one of its kind out; cells that hide, columns that do not vary, and what the errors say."""
import io
import sys

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from conftest import SMALL
from genmod_nb.cli import main
from genmod_nb.frames import is_constant
from genmod_nb.tables import check_losses, open_losses, random_rows
from genmod_nb.data import load_losses, simulate_losses
from genmod_nb.margin import GaussianMargin
from genmod_nb.margins import Margins
from genmod_nb.baselines import Bootstrap, GaussianCopula, GaussianMixture, Independent, Vine
from genmod_nb.evaluation import External
from genmod_nb.evaluation import compare
from genmod_nb.metrics import (anderson_darling, energy_distance, kendall_error, kendall_function, noise_floor, novelty, plot_kendall, plot_pairs,
                               scorecard, tail_error, two_sample)
from genmod_nb.surroundings import seed_from
from genmod_nb.store import Store
from genmod_nb.many import fit_many
from genmod_nb.vae import VAE

KINDS = {"pandas": lambda t: t, "polars": pl.from_pandas, "pyarrow": lambda t: pa.Table.from_pandas(t, preserve_index=False)}
TYPES = {"pandas": pd.DataFrame, "polars": pl.DataFrame, "pyarrow": pa.Table}
OTHER = ["f3", "f1", "f4", "f2"]
MODELS = [VAE(**SMALL, compile=False), GaussianCopula(), Bootstrap()]


@pytest.fixture(scope="module")
def plain(tables):
    return [t.reset_index(drop=True) for t in tables]


METRICS = anderson_darling, kendall_error, tail_error
QUICK = dict(reps=2, max_rows=100, samples=2, progress=False)


@pytest.fixture(scope="module")
def scored(plain):
    """What the metrics say of two pandas tables whose columns are in one order."""
    train, test = plain
    return [m(test, train) for m in METRICS], novelty(train, test, test), scorecard(test, train, train, **QUICK)


@pytest.mark.parametrize("a", KINDS)
@pytest.mark.parametrize("b", KINDS)
def test_metrics_match_by_name(plain, scored, a, b):
    train, test = plain
    real, fake = KINDS[a](test), KINDS[b](train[OTHER])
    values, new, card = scored
    assert [m(real, fake) for m in METRICS] == values
    pd.testing.assert_series_equal(novelty(KINDS[b](train[OTHER]), real, real), new)
    pd.testing.assert_frame_equal(scorecard(real, fake, KINDS[a](train[OTHER]), **QUICK), card)


@pytest.mark.parametrize("a", KINDS)
def test_names_that_differ_are_named(plain, a):
    train, test = plain
    for wrong, words in ((train.rename(columns={"f1": "g"}), ["only real has 'f1'", "only fake has 'g'"]),
                         (train[["f1", "f2", "f3"]], ["only real has 'f4'"]), (train.assign(h=1.0), ["only fake has 'h'"])):
        with pytest.raises(ValueError) as error:
            anderson_darling(test, KINDS[a](wrong))
        assert all(word in str(error.value) for word in words)
    with pytest.raises(ValueError, match="only real has 0, 1; only fake has 2, 3"):
        kendall_error(test[["f1", "f2"]].set_axis([0, 1], axis=1), train[["f1", "f2"]].set_axis([2, 3], axis=1))
    with pytest.raises(ValueError, match="fake: duplicate column name 'f1'"):
        kendall_error(test, train.set_axis(["f1", "f2", "f1", "f4"], axis=1))


@pytest.mark.parametrize("a", KINDS)
@pytest.mark.parametrize("model", MODELS, ids=lambda m: type(m).__name__)
def test_sample_answers_in_kind(plain, model, a):
    train, test = plain
    fitted, reference = model.fit(KINDS[a](train)).sample(7, random_state=1), model.fit(train).sample(7, random_state=1)
    assert type(fitted) is TYPES[a]
    np.testing.assert_array_equal(np.asarray(fitted), reference)
    Z = model.fit(train).margins_.transform(KINDS[a](test))
    assert type(Z) is TYPES[a] and type(model.margins_.inverse_transform(Z)) is TYPES[a]


def test_score_takes_every_kind_and_refuses_another_order(plain):
    train, test = plain
    model = GaussianCopula().fit(pl.from_pandas(train))
    for convert in KINDS.values():
        assert model.score(convert(test)) == GaussianCopula().fit(train).score(test)
        for call in (model.score, model.margins_.transform):
            with pytest.raises(ValueError, match="feature"):
                call(convert(test[OTHER]))
            with pytest.raises(ValueError, match="f4"):
                call(convert(test[["f1", "f2", "f3"]]))


def test_a_loaded_model_draws_pandas_and_knows_its_names(plain, tmp_path):
    train, test = plain
    model = VAE(**SMALL, compile=False).fit(pl.from_pandas(train))
    back = VAE.load(model.save(tmp_path / "m"))
    pd.testing.assert_frame_equal(back.sample(5, random_state=0), model.sample(5, random_state=0).to_pandas())
    with pytest.raises(ValueError, match="were fitted"):
        back.margins_.transform(test[OTHER])
    store = Store(tmp_path / "s.db")
    for _ in range(2):
        assert isinstance(fit_many([VAE(**SMALL)], pl.from_pandas(train), 1, store, False)[0].sample(2), pl.DataFrame)


def test_compare_and_plots_match_by_name(plain):
    train, test = plain
    scores = [compare({"g": GaussianCopula()}, pl.from_pandas(train), t, progress=False).drop(columns=["fit_seconds", "sample_rate"])
              for t in (test, pl.from_pandas(test[OTHER]))]
    pd.testing.assert_frame_equal(*scores)
    with pytest.raises(ValueError, match="only train has 'f4'"):
        compare({"g": GaussianCopula()}, train, test[["f1", "f2", "f3"]], progress=False)
    dots = [np.asarray(plot_pairs(test, t).axes[0].collections[1].get_offsets()) for t in (train, pl.from_pandas(train[OTHER]))]
    np.testing.assert_array_equal(*dots)
    with pytest.raises(ValueError, match="only real has 'f2'"):
        plot_kendall(test, {"a": train[["f1", "f3", "f4"]]})


def test_a_model_of_another_package_may_answer_in_polars(plain):
    class Foreign:
        def fit(self, X): self.X = X
        def sample(self, n): return pl.from_pandas(self.X.head(n)[OTHER])
    drawn = External(Foreign()).fit(plain[0]).sample(9)
    np.testing.assert_array_equal(drawn, plain[0].head(9))


def hidden(train):
    A, mask = train.to_numpy(), np.zeros(train.shape, bool)
    mask[5, 2] = True
    gap = train.mask(mask)
    return {"masked": np.ma.array(A, mask=mask), "list of masked": list(np.ma.array(A, mask=mask)), "objects": gap.astype(object).where(~mask, None).to_numpy(),
            "nullable": gap.astype("Float64"), "arrow-backed": gap.astype("double[pyarrow]"), "polars": pl.from_pandas(gap), "pyarrow": pl.from_pandas(gap).to_arrow()}


@pytest.mark.parametrize("how", hidden(pd.DataFrame(np.ones((9, 4)))))
def test_hidden_cells_are_refused_by_column_and_row(plain, how):
    X, fitted = hidden(plain[0])[how], Margins().fit(plain[0])
    for call in (check_losses, GaussianCopula().fit, VAE(**SMALL).fit, fitted.transform, kendall_function, lambda X: anderson_darling(plain[1], X)):
        with pytest.raises(ValueError, match=r"'f3' has 1 (NaN|masked) cell \(row 5\)"):
            call(X)


def test_what_is_no_table_yet(plain):
    import torch
    from scipy import sparse
    train = plain[0]
    for X, word in ((pl.from_pandas(train).lazy(), "collect"), (train.to_records(index=False), "structured"), (sparse.csr_array(train), "dense"),
                    (torch.tensor(train.to_numpy(), requires_grad=True), "detach")):
        for call in (check_losses, Independent().fit, lambda X: tail_error(plain[1], X), Margins().fit(train).transform):
            with pytest.raises((ValueError, TypeError), match=word):
                call(X)
    for X in (torch.tensor(train.to_numpy()), np.asmatrix(train.to_numpy())):
        np.testing.assert_array_equal(check_losses(X), train)
        assert anderson_darling(plain[1].to_numpy(), X) == anderson_darling(*plain[::-1])


@pytest.mark.parametrize("names", [[0, 1, 2], [2018, 2019, 2020], ["a", 1, 2]])
@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("real", ["csv", "index.csv", "parquet"])
@pytest.mark.parametrize("fake", ["csv", "parquet"])
def test_names_that_are_numbers_come_back_from_files(tmp_path, capsys, names, whole, real, fake):
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.poisson(5, (60, 3)) if whole else rng.exponential(size=(60, 3)), columns=names)
    VAE(**SMALL, compile=False).fit(X).sample_to(tmp_path / f"x.{fake}", 40, 0, progress=False)
    path = tmp_path / f"real.{real}"
    if real == "parquet":
        X.rename(columns=str if "a" in names else {}).to_parquet(path)
    else:
        X.to_csv(path, index=real == "index.csv")
    status, err = main(["score", str(path), str(tmp_path / f"x.{fake}"), "--reps", "1", "--quiet"]), capsys.readouterr().err
    if names == [0, 1, 2] and whole and real == "csv":          # names of counts, or counts?
        assert status == 2 and "line 1, '0,1,2', may hold names or numbers" in err
    else:
        assert status == 0, err


def test_a_model_fitted_on_numbers_scores_what_a_file_gives_back():
    X = simulate_losses(60, random_state=0).set_axis(range(4), axis=1)
    model = GaussianCopula().fit(X)
    assert model.score(X.rename(columns=str)) == model.score(X)


def test_columns_that_differ_by_rounding_are_constant(tables):
    n = len(tables[0])
    single = np.nextafter(np.float32(0.3), np.float32([0, 1]))
    for pair in ((0.3, 0.1 + 0.2), (1.1 * 3, 3.3), (1e9, np.nextafter(1e9, 2e9)), single, single.astype(float), (2.0 ** 53, 2.0 ** 53 - 1)):
        x = np.resize(pair, n)
        assert is_constant(x)
        for fit in (check_losses, Margins().fit, Margins("raw").fit, GaussianCopula().fit):
            with pytest.raises(ValueError, match="'f2'.*constant"):
                fit(tables[0].assign(f2=x))


@pytest.mark.parametrize("x", [lambda u: 1e9 + u, lambda u: 1e6 + 1e-3 * u, lambda u: 1e12 + 100 * u, lambda u: np.float32(1 + 1e-4 * u).astype(float),
                               lambda u: 2.0 ** 53 - np.arange(500)])
def test_an_offset_is_a_law(x):
    x = x(np.random.default_rng(0).random(500))
    assert not is_constant(x)
    margin = GaussianMargin().fit(x)
    assert len(margin.atoms) == 0 and margin.sound()
    drawn, q = margin.inverse(np.random.default_rng(1).normal(size=4000)), [0.05, 0.25, 0.5, 0.75, 0.95]
    assert np.abs(np.quantile(drawn, q) - np.quantile(x, q)).max() < 0.05 * np.ptp(x)


def test_energy_distance_of_a_column_that_is_constant_but_for_rounding():
    rng = np.random.default_rng(0)
    real, fake = np.full((50, 2), 0.1), 0.1 + rng.random((50, 2))
    assert np.std(real[:, 0]) > 0 and energy_distance(real, fake) < 2


BAD_SEEDS = [2 ** 64, 2 ** 32, -1, 1.0, True, "1", (1, 2)]


@pytest.mark.parametrize("seed", BAD_SEEDS)
def test_bad_seeds(plain, seed):
    train, test = plain
    model, baseline = VAE(**SMALL, compile=False).fit(train), GaussianCopula().fit(train)
    calls = [lambda: model.sample(2, random_state=seed), lambda: baseline.sample(2, random_state=seed), lambda: simulate_losses(5, seed), lambda: load_losses(random_state=seed),
             lambda: anderson_darling(test, train, random_state=seed), lambda: two_sample(test, train, seed), lambda: noise_floor(test, 9, 9, 1, seed),
             lambda: scorecard(test, train, random_state=seed), lambda: energy_distance(test, train, random_state=seed), lambda: VAE(**SMALL | dict(random_state=seed)).fit(train)]
    for call in calls:
        with pytest.raises(ValueError, match="random_state.*4294967295"):
            call()


def test_good_seeds(plain):
    baseline = GaussianCopula().fit(plain[0])
    for seed in (np.int64(7), np.uint8(7)):
        assert baseline.sample(3, random_state=seed).equals(baseline.sample(3, random_state=7))
    assert baseline.sample(3, np.random.default_rng(0)).equals(baseline.sample(3, np.random.default_rng(0)))
    assert anderson_darling(plain[1], plain[0], random_state=np.random.default_rng(0)) > 0
    assert seed_from(2 ** 32 - 1) == 2 ** 32 - 1


@pytest.mark.parametrize("n, word", [(1e3, "n_samples=1000$"), (2.5, "whole number"), (True, "whole number"), ("7", "whole number"), (0, "ask for 1")])
def test_bad_counts(plain, n, word):
    for draw in (GaussianCopula().fit(plain[0]).sample, VAE(**SMALL, compile=False).fit(plain[0]).sample):
        with pytest.raises(ValueError, match=word):
            draw(n)
    with pytest.raises(ValueError, match="max_rows"):
        kendall_error(*plain, max_rows=1e3)
    with pytest.raises(ValueError, match="n_train"):
        load_losses(720.0)


@pytest.mark.parametrize("command", ["fit", "sample", "score"])
@pytest.mark.parametrize("seed", [2 ** 64, -1])
def test_command_line_seeds(tables, tmp_path, capsys, command, seed):
    tables[0].to_csv(tmp_path / "t.csv")
    folder = VAE(**SMALL, compile=False).fit(tables[0]).save(tmp_path / "m")
    more = {"fit": [tmp_path / "t.csv", "--out", tmp_path / "n"], "sample": [folder, "--out", tmp_path / "x.csv"], "score": [tmp_path / "t.csv", tmp_path / "t.csv"]}[command]
    assert main([command, *map(str, more), "--seed", str(seed)]) == 2
    error = capsys.readouterr().err
    assert "--seed: random_state=" in error and "4294967295" in error


@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
def test_a_card_is_printed_on_any_terminal(tmp_path, monkeypatch, encoding):
    names = ["σ", "€", "猫"]
    simulate_losses(40, random_state=0).iloc[:, :3].set_axis(names, axis=1).to_csv(tmp_path / "t.csv", index=False)
    for arguments in (["score", tmp_path / "t.csv", tmp_path / "t.csv", "--reps", 1, "--quiet"], ["score", tmp_path / "猫.csv", tmp_path / "t.csv"]):
        out, err = (io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="strict") for _ in range(2))
        monkeypatch.setattr(sys, "stdout", out)
        monkeypatch.setattr(sys, "stderr", err)
        status = main([str(a) for a in arguments])
        out.flush(), err.flush()
        text = (out.buffer.getvalue() + err.buffer.getvalue()).decode(encoding)
        assert (status, r"\u732b" in text) in ((0, True), (2, True)) and out.errors == err.errors == "strict"


@pytest.mark.parametrize("name", [".DS_Store", "Thumbs.db", "desktop.ini", "Desktop.ini", "._config.json"])
def test_what_file_managers_leave_is_no_obstacle(tables, tmp_path, name):
    model = VAE(**SMALL, compile=False).fit(tables[0])
    folder = model.save(tmp_path / "m")
    (folder / name).write_bytes(b"\0")
    model.save(folder)
    assert VAE.load(folder).sample(2, random_state=0).equals(model.sample(2, random_state=0))
    (folder / ".hidden").write_text("precious")
    with pytest.raises(FileExistsError, match="'.hidden'"):
        model.save(folder)
    (tmp_path / "t").mkdir()
    tables[0].to_parquet(tmp_path / "t" / "a.parquet", index=False)
    (tmp_path / "t" / name).write_bytes(b"\0")
    np.testing.assert_array_equal(random_rows(open_losses(tmp_path / "t")), tables[0])


@pytest.mark.parametrize("model", [GaussianCopula(), GaussianMixture(max_components=1, random_state=0), Vine(), VAE(**SMALL, compile=False)], ids=lambda m: type(m).__name__)
def test_fewer_rows_than_columns(model, recwarn):
    X = np.random.default_rng(0).random((12, 30))
    model.fit(X)
    assert any("12 rows for 30 columns" in str(w.message) for w in recwarn)
    recwarn.clear()
    Bootstrap().fit(X), Independent().fit(X), GaussianCopula().fit(X[:, :11])
    assert not [w for w in recwarn if "too few" in str(w.message)]


def test_arrays_pass_the_door_without_a_copy(tmp_path):
    from genmod_nb.frames import as_table
    for order in "CF":
        mapped = np.memmap(tmp_path / order, np.float32, "w+", shape=(30, 3), order=order)
        assert np.shares_memory(as_table(mapped), mapped)
