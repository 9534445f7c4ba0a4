"""The studies: what is recorded, nothing computed twice, nothing lost when a process is killed."""
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest

from genmod_nb import sigma as chapter
from genmod_nb.cli import main
from genmod_nb.study import active_units, fit_scores, intervals, without_noise
from genmod_nb.sigma import arguments_of, importances, search, sigma_study, size_study
from genmod_nb.store import Store
from genmod_nb.vae import VAE

SMALL = dict(max_epochs=4, encoder=(8,), decoder=(8,), progress=False)


@pytest.fixture(scope="module")
def vae(tables):
    return VAE(**SMALL | dict(max_epochs=30), random_state=0).fit(tables[0])


def study(tables, seeds, store=None, **kw):
    return sigma_study({"real": tables}, sigmas=(0.5, "learned"), margins=("gaussian",), seeds=seeds, store=store, n_jobs=1, max_epochs=4,
                       encoder=(8,), decoder=(8,), **{"progress": False} | kw)


def test_without_noise_is_the_decoder_alone_and_leaves_the_model_alone(vae, tables):
    before, bare = vae.sample(200, random_state=1), without_noise(vae)
    assert not bare.decoder_noise and vae.decoder_noise
    other = VAE(**vae.get_params() | dict(decoder_noise=False)).fit(tables[0])
    pd.testing.assert_frame_equal(bare.sample(200, random_state=1), other.sample(200, random_state=1))
    pd.testing.assert_frame_equal(vae.sample(200, random_state=1), before)


def test_scores_are_those_of_their_own_rooms(vae, tables):
    train, test = tables
    scores = fit_scores(vae, train, test, n_draws=64)
    assert scores["log_likelihood"] == pytest.approx(vae.score_samples(test, 64).mean())
    assert scores["copula"] == pytest.approx(vae.copula_score(test, 64))
    last = vae.history_[(vae.history_.epoch == vae.best_epoch_) & (vae.history_.split == "train")].set_index("term").value
    assert scores["kl"] == last["divergence"] and scores["kl"] - scores["reconstruction"] == pytest.approx(last["loss"], abs=1e-4)
    from genmod_nb.metrics import anderson_darling, kendall_error
    assert scores["anderson_darling"] == anderson_darling(test, vae.sample(len(test), random_state=0))
    assert scores["kendall_error_f"] == kendall_error(test, without_noise(vae).sample(len(test), random_state=0))


def test_active_units_of_a_known_encoder(vae, tables):
    """An encoder whose first mean follows the row and whose second stays put has one active unit."""
    import copy
    import torch
    model = copy.deepcopy(vae)
    with torch.no_grad():
        model.module_.mu.weight[1].zero_()
    assert active_units(model, tables[0]) <= 1
    with torch.no_grad():
        model.module_.mu.weight.mul_(100)
    assert active_units(model, tables[0]) == 1


def test_a_failed_fit_is_a_row_with_its_reason(tables):
    with pytest.warns(UserWarning, match="failed"):
        rows = study(tables, range(2), lr=1e30)
    assert (rows.failure != "").all() and rows.failure.str.contains("not finite").all()


def test_nothing_is_computed_twice(tables, tmp_path, monkeypatch):
    store, scored = Store(tmp_path / "fits.db"), []
    first = study(tables, range(2), store)
    original = fit_scores
    monkeypatch.setattr("genmod_nb.study.fit_scores", lambda model, *given: scored.append(model.seed_) or original(model, *given))
    again = study(tables, range(2), store)
    pd.testing.assert_frame_equal(first, again)
    assert scored == [] and len(store) == 4
    more = study(tables, range(3), store)
    assert scored == [2, 2] and len(store) == 6                                # one new seed of two settings
    pd.testing.assert_frame_equal(more[more.seed < 2].reset_index(drop=True), first)


def test_the_order_of_rows_and_the_number_of_processes_do_not_matter(tables):
    one = study(tables, range(9))
    two = sigma_study({"real": tables}, sigmas=(0.5, "learned"), margins=("gaussian",), seeds=range(9), n_jobs=2, max_epochs=4, encoder=(8,),
                      decoder=(8,), progress=False)
    assert list(one.seed) == list(two.seed) == 2 * list(range(9))
    np.testing.assert_allclose(one.log_likelihood, two.log_likelihood, rtol=1e-4)


def test_sizes_of_the_study(tables):
    rows = size_study({"real": tables}, activations=("elu",), latent_dims=(2,), sigmas=(1.0,), seeds=range(1), max_epochs=2, n_jobs=1)
    assert rows.groupby(["kind", "size"]).ngroups == 6
    for kind in ("plain", "matched"):
        count = {size: sum(p.numel() for p in VAE(encoder=e, decoder=d).build(4).parameters()) for (k, size), (e, d) in chapter.SIZES.items() if k == kind}
        assert kind == "plain" or max(count.values()) < 1.01 * min(count.values())


def test_intervals_are_t_intervals():
    from scipy import stats
    x = np.random.default_rng(0).normal(size=12)
    rows = pd.DataFrame(dict(label="a", score=x, failure=""))
    rows.loc[12] = ["a", np.nan, "diverged"]
    found = intervals(rows, ["label"], ["score"]).loc[("a", "score")]
    low, high = stats.t.interval(0.95, 11, x.mean(), stats.sem(x))
    assert tuple(found) == pytest.approx((x.mean(), low, high, 12))


def tiny(trial):
    """A search small enough for a test: one number and one choice."""
    trial.suggest_categorical("batch size", [128, 256])
    return dict(SMALL, sigma=trial.suggest_categorical("sigma", ["learned", 0.5, 1.0]), lr=trial.suggest_float("lr", 1e-3, 1e-2), progress=False)


@pytest.fixture
def small_search(monkeypatch):
    monkeypatch.setattr(chapter, "table_1", lambda t: {k: v for k, v in tiny(t).items() if k != "progress"})


def journal(path):
    """The studies in a journal."""
    import optuna
    from optuna.storages.journal import JournalFileBackend
    storage = optuna.storages.JournalStorage(JournalFileBackend(str(path)))
    return [optuna.load_study(study_name=s.study_name, storage=storage) for s in optuna.get_all_study_summaries(storage)]


def test_one_journal_keeps_the_searches_of_two_tables_apart(tables, tmp_path, small_search):
    pytest.importorskip("optuna")
    run = lambda X: search(X, 2, seeds=range(1), storage=tmp_path / "journal.log", n_jobs=1, progress=False)
    a, b = run(tables[0]), run(tables[0] * 2)
    assert not a.score.equals(b.score) and len(journal(tmp_path / "journal.log")) == 2
    assert run(tables[0]).equals(a)


def test_an_interrupted_search_leaves_no_trial_behind(tables, tmp_path, small_search, monkeypatch):
    pytest.importorskip("optuna")
    run = lambda n: search(tables[0], n, seeds=range(3), batch=2, storage=tmp_path / "journal.log", n_jobs=1, progress=False)
    original, calls = chapter._rung, []

    def stop(*given):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return original(*given)
    with monkeypatch.context() as once:
        once.setattr(chapter, "_rung", stop)
        with pytest.raises(KeyboardInterrupt):
            run(4)
    rows = run(4)
    assert set(rows.state) <= {"COMPLETE", "PRUNED", "FAIL"} and (rows.state == "FAIL").sum() == 4      # two fits of two trials
    settings = [tuple(t.params.items()) for t in journal(tmp_path / "journal.log")[0].trials]
    assert len(set(settings)) == len(settings) == 4


def test_a_search_goes_on_where_it_was(tables, tmp_path, small_search):
    pytest.importorskip("optuna")
    run = lambda n: search(tables[0], n, seeds=range(3), batch=2, storage=tmp_path / "journal.log", n_jobs=1, progress=False)
    first, both = run(2), run(4)
    assert sorted(first.trial.unique()) == [0, 1] and sorted(both.trial.unique()) == [0, 1, 2, 3]
    pd.testing.assert_frame_equal(both[both.trial < 2].reset_index(drop=True), first)
    assert run(4).equals(both)


def test_two_processes_may_share_a_search(tmp_path):
    pytest.importorskip("optuna")
    code = ("import sys; from genmod_nb import sigma; from genmod_nb.data import load_losses\n"
            "sigma.table_1 = lambda t: dict(encoder=(8,), decoder=(8,), max_epochs=3, lr=t.suggest_float('lr', 1e-3, 1e-2))\n"
            "rows = sigma.search(load_losses()[0], 6, seeds=range(1), batch=1, storage=sys.argv[1], n_jobs=1, progress=False)")
    running = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "journal.log"), str(k)], stderr=subprocess.PIPE) for k in range(2)]
    for process in running:
        errors = process.communicate()[1].decode()
        assert process.returncode == 0, errors
    trials = journal(tmp_path / "journal.log")[0].trials
    finished = [t for t in trials if t.state.is_finished()]
    assert 6 <= len(finished) <= 7 and len({t.number for t in trials}) == len(trials)


def test_a_search_learns_from_four_fifths_and_chooses_by_the_rest(tables, small_search, monkeypatch):
    pytest.importorskip("optuna")
    train, learned, chosen = tables[0], [], []
    fit, held_out = chapter.fit_many, chapter._held_out
    monkeypatch.setattr(chapter, "fit_many", lambda models, X, **kw: learned.append(X) or fit(models, X, **kw))
    monkeypatch.setattr(chapter, "_held_out", lambda model, train, rows: chosen.append(rows) or held_out(model, train, rows))
    search(train, 2, seeds=range(2), n_jobs=1, progress=False)
    for a in learned:
        for b in chosen:
            pd.testing.assert_frame_equal(pd.concat([a, b]).sort_index(), train.sort_index())
            assert len(b) == 144


def test_importances_find_what_matters():
    rng = np.random.default_rng(0)
    trials = pd.DataFrame({name: rng.choice([1, 2, 3], 80) for name in chapter.TABLE_1}).assign(trial=range(80), activation=rng.choice(["elu", "leaky_relu"], 80), state="COMPLETE")
    trials["score"] = trials["lr"] * 1.0 + 0.01 * rng.normal(size=80)
    failed = trials.iloc[:1].assign(trial=80, state="FAIL", score=np.nan)
    found = importances(pd.concat([trials, failed]))
    assert found.idxmax() == "lr" and found.drop("lr").max() < 0.1 * found["lr"]


def test_arguments_of_a_trial_build_a_model():
    row = pd.Series({"encoder width": 16.0, "encoder depth": 2, "decoder width": 32, "decoder depth": 1, "lr": 0.01, "sigma": "0.3", "epochs": 7.0,
                     "batch size": 64, "activation": "elu", "latent dimension": 3})
    model = VAE(**arguments_of(row))
    model._validate_params()
    assert model.encoder == (16, 16) and model.sigma == 0.3 and model.max_epochs == 7


def test_a_killed_study_goes_on(tables, tmp_path):
    """SIGKILL in the middle of `genmod study`: what was finished stays, and the second run completes the rest."""
    code = "import sys; from genmod_nb.cli import main; sys.exit(main())"
    tables[0].head(200).to_csv(tmp_path / "mine.csv")
    command = [sys.executable, "-c", code, "study", "sigma", "--out", str(tmp_path), "--data", str(tmp_path / "mine.csv"),
               "--seeds", "2", "--epochs", "20", "--jobs", "1", "--quiet"]
    process = subprocess.Popen(command, start_new_session=True)
    count = lambda: len(Store(tmp_path / "fits.db").table()) if (tmp_path / "fits.db").exists() else 0
    while process.poll() is None and not count():
        time.sleep(0.05)
    assert process.poll() is None, "the study was over before it could be killed"
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    before = Store(tmp_path / "fits.db").table()
    assert 0 < len(before) < 48 and not (tmp_path / "sigma-0.parquet").exists()
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    after = Store(tmp_path / "fits.db").table()
    assert len(after) == 48 and set(before.key) <= set(after.key)
    assert (after.set_index("key").created[before.key].to_numpy() == before.created.to_numpy()).all()
    rows = pd.read_parquet(tmp_path / "sigma-0.parquet")
    assert len(rows) == 48 and rows.split.eq(0).all() and (tmp_path / "sigma-0.png").stat().st_size > 10_000


def test_study_command_on_a_table_of_ones_own(tables, tmp_path, capsys):
    tables[0].iloc[:120, :3].to_csv(tmp_path / "mine.csv", index=False)
    assert main(["study", "size", "--out", str(tmp_path / "o"), "--data", str(tmp_path / "mine.csv"), "--seeds", "1", "--epochs", "1", "--jobs", "1", "--quiet"]) == 0
    rows = pd.read_parquet(tmp_path / "o" / "size-0.parquet")
    assert set(rows.table) == {"data"} and (rows.failure == "").all() and len(rows) == 48


@pytest.mark.parametrize("arguments, says", [(["sigma"], "--out"), (["sigma", "--out", "x", "--seeds", "0"], "--seeds"),
                                             (["sigma", "--out", "x", "--data", "missing.csv"], "missing.csv"),
                                             (["sigma", "--out", "x", "--trials", "3"], "--trials"),
                                             (["search", "--out", "x", "--epochs", "3"], "--epochs")])
def test_study_command_refuses(arguments, says, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["study", *arguments]) == 2
    assert says in capsys.readouterr().err
