"""`fit_many` and its store: order, equality, nothing computed twice, nothing lost when a process is killed."""
import os
import signal
import sqlite3
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest

from genmod_nb.baselines import Independent
from genmod_nb.evaluation import compare
from genmod_nb.model import GenerativeModel
from genmod_nb.store import Store
from genmod_nb.many import fit_many
from genmod_nb.risks import risk
from genmod_nb.study import run_study
from genmod_nb.vae import VAE


def vae(seed, **kw):
    return VAE(**dict(encoder=(8,), decoder=(8,), max_epochs=6, compile=False, random_state=seed) | kw)


def samples(models):
    return [m.sample(20, random_state=0).to_numpy() for m in models]


def test_order_and_equality_over_shapes_and_processes(tables):
    models = [vae(s, latent_dim=2 + s % 2, sigma=1.0 if s % 3 else "learned") for s in range(9)]
    here = fit_many(models, tables[0], n_jobs=1, progress=False)
    there = fit_many(models, tables[0], n_jobs=2, progress=False)
    for model, a, b in zip(models, here, there):
        assert a.seed_ == b.seed_ == model.random_state and a.latent_dim == b.latent_dim == model.latent_dim
        assert not hasattr(model, "module_")
    for a, b in zip(samples(here), samples(there)):
        assert a == pytest.approx(b, rel=1e-5)
    one = fit_many(models[4:5] + models[:1], tables[0], n_jobs=1, progress=False)[0]
    if one.path_ == here[4].path_:
        assert samples([one])[0] == pytest.approx(samples(here)[4], rel=1e-5)


def test_one_table_each(tables):
    data = [tables[0], tables[0] * 2, tables[1]]
    fitted = fit_many([vae(0) for _ in data], data, n_jobs=1, progress=False)
    assert [len(m.history_) > 0 for m in fitted] == [True] * 3
    assert samples(fitted)[1] == pytest.approx(2 * samples(fitted)[0], rel=1e-4)
    with pytest.raises(ValueError, match="2 tables for 3 models"):
        fit_many([vae(0) for _ in data], data[:2])


def test_numbers_may_be_numpys(tables):
    """A learning rate out of a DataFrame is a numpy float64; the training stays in float32."""
    a, b = (fit_many([vae(0, lr=lr)] * 2, tables[0], n_jobs=1, progress=False)[0] for lr in (0.01, np.float64(0.01)))
    assert all(p.dtype == q.dtype and (p == q).all() for p, q in zip(a.module_.parameters(), b.module_.parameters()))


def test_empty_list(tables):
    assert fit_many([], tables[0]) == []


def test_failures_come_back_marked(tables):
    models = [vae(0), vae(1, lr=1e30, max_epochs=50), vae(2)]
    with pytest.warns(UserWarning, match="1 of 3 fits failed"):
        fitted = fit_many(models, tables[0], n_jobs=1, progress=False)
    assert [bool(m.failure_) for m in fitted] == [False, True, False]
    assert "step" in fitted[1].failure_ and "lr=1e+30" in fitted[1].failure_


def test_bad_models_are_refused_before_anything_is_trained(tables, tmp_path):
    store = Store(tmp_path / "s.db")
    with pytest.raises(ValueError, match="latent_dim"):
        fit_many([vae(0), vae(1, latent_dim=0)], tables[0], store=store)
    with pytest.raises(ValueError, match="random_state"):
        fit_many([vae(0), vae(None)], tables[0], store=store)
    assert len(store) == 0


def test_store_skips_what_is_there(tables, tmp_path, monkeypatch):
    store, models = Store(tmp_path / "s.db"), [vae(s) for s in range(4)]
    first = fit_many(models, tables[0], n_jobs=1, store=store, progress=False)
    trained = []
    original = GenerativeModel._prepare
    monkeypatch.setattr(GenerativeModel, "_prepare", lambda self, *given: trained.append(self.random_state) or original(self, *given))
    again = fit_many(models, tables[0], n_jobs=1, store=store, progress=False)
    assert trained == [] and all((a == b).all() for a, b in zip(samples(first), samples(again)))
    pd.testing.assert_frame_equal(first[0].history_, again[0].history_, check_dtype=False)
    fit_many(models + [vae(9)], tables[0], n_jobs=1, store=store, progress=False)
    assert trained == [9]
    fit_many(models[:1], tables[0] * 2, n_jobs=1, store=store, progress=False)       # other data
    fit_many([vae(0, lr=0.004)], tables[0], n_jobs=1, store=store, progress=False)   # other argument
    assert trained == [9, 0, 0] and len(store) == 7


def test_store_keeps_failures(tables, tmp_path):
    store, bad = Store(tmp_path / "s.db"), vae(1, lr=1e30, max_epochs=50)
    for _ in range(2):
        with pytest.warns(UserWarning, match="1 of 1"):
            model = fit_many([bad], tables[0], n_jobs=1, store=store, progress=False)[0]
        assert "not finite" in model.failure_
    assert "not finite" in store.table().failure[0]


def test_store_is_plain_sqlite(tables, tmp_path):
    store = Store(tmp_path / "s.db")
    fit_many([vae(3)], tables[0], n_jobs=1, store=store, progress=False)
    with sqlite3.connect(tmp_path / "s.db") as db:
        row = pd.read_sql("SELECT * FROM fits", db).iloc[0]
        assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert row["model"] == "VAE" and row.seed == 3 and row.rows == 720


def test_store_that_is_none(tmp_path):
    (tmp_path / "s.db").write_bytes(b"not a database, but long enough to be read as one" * 40)
    with pytest.raises(OSError, match="s.db"):
        Store(tmp_path / "s.db")


def test_a_path_is_no_store(tables, tmp_path, monkeypatch):
    """Neither for fits, nor for a study, nor for the refits of a risk; and nothing is fitted or drawn before that is said."""
    model, path = VAE(max_epochs=1, random_state=0, progress=False, compile=False), tmp_path / "s.db"
    networks, baseline = model.fit(tables[0]), Independent().fit(tables[0])
    for cls, method in ((GenerativeModel, "_prepare"), (Independent, "fit"), (GenerativeModel, "sample_pieces"), (Independent, "sample_pieces")):
        monkeypatch.setattr(cls, method, lambda *a, **k: pytest.fail("work was begun"))
    asked = dict(levels=0.9, n_samples=2000, X=tables[0], intervals=20, progress=False)
    for ask in (lambda s: fit_many([model], tables[0], store=s), lambda s: run_study([({}, model, *tables)], s, progress=False),
                lambda s: compare({"a": model, "b": Independent()}, *tables, seeds=[0], store=s, progress=False),
                lambda s: compare({"b": Independent()}, *tables, seeds=[0], store=s, progress=False),
                lambda s: risk(networks, store=s, **asked), lambda s: risk(baseline, store=s, **asked)):
        for store in (path, str(path)):
            with pytest.raises(TypeError, match=r"give Store\('.*s.db'\)"):
                ask(store)
    assert not path.exists()


STUDY = """
import sys
from genmod_nb.data import load_losses
from genmod_nb.store import Store
from genmod_nb.many import fit_many
from genmod_nb.vae import VAE
models = [VAE(encoder=(8,), decoder=(8,), max_epochs=20, compile=False, random_state=s) for s in range(24)]
fit_many(models, load_losses()[0], n_jobs=int(sys.argv[2]), store=Store(sys.argv[1]), progress=False)
"""


@pytest.mark.parametrize("jobs", [1, 2])
def test_killed_studies_lose_nothing(tables, tmp_path, jobs, full):
    """Kills at random moments; every finished fit stays, none is done twice, the result is that of a quiet run."""
    path, rng, kept = tmp_path / "s.db", np.random.default_rng(jobs), set()
    command = [sys.executable, "-c", STUDY, str(path), str(jobs)]
    for _ in range(10 if full else 3 // jobs):
        process = subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL)
        while process.poll() is None and (not path.exists() or len(Store(path)) <= len(kept)):
            time.sleep(0.02)
        time.sleep(rng.uniform(0, 0.3))
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        found = Store(path).table().set_index("key").created
        assert kept <= set(found.items())                  # still there, and not written again
        kept = set(found.items())
    subprocess.run(command, check=True)
    found = Store(path).table()
    assert len(found) == 24 and kept <= set(found.set_index("key").created.items())
    models = [VAE(encoder=(8,), decoder=(8,), max_epochs=20, compile=False, random_state=s) for s in range(24)]
    stored = fit_many(models, tables[0], n_jobs=jobs, store=Store(path), progress=False)
    quiet = fit_many(models, tables[0], n_jobs=jobs, progress=False)
    for a, b in zip(samples(stored), samples(quiet)):
        assert a == pytest.approx(b, rel=1e-5)


NESTED = """
import multiprocessing, sys, time
from genmod_nb.many import spread
inner = multiprocessing.get_context("fork").Process(target=lambda: list(spread(time.sleep, [(2,), (2,)], 2)))
inner.start()
inner.join(60)
sys.exit(inner.exitcode if not inner.is_alive() else inner.kill() or "still waiting")
"""


def test_workers_end_with_the_process_that_started_them():
    """Also where multiprocessing started that one: it joins its children before joblib would let them go."""
    subprocess.run([sys.executable, "-c", NESTED], check=True, timeout=120)


@pytest.mark.parametrize("bad", [lambda t: t.f1, lambda t: t.assign(f2=np.nan), lambda t: t[["f1"]], lambda t: t.assign(f3="x")])
def test_bad_tables_are_refused_before_anything_is_trained(tables, tmp_path, bad):
    store = Store(tmp_path / "s.db")
    with pytest.raises(ValueError):
        fit_many([vae(0), vae(1)], [tables[0], bad(tables[0])], n_jobs=1, store=store)
    assert len(store) == 0
