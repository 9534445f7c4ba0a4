"""More than one machine, and machines that die: a cluster of real processes over TCP, stores that many write to, disks that are full."""
import json
import os
import resource
import signal
import subprocess
import sys
import time

import joblib
import numpy as np
import pandas as pd
import pyarrow.dataset
import pyarrow.parquet
import pytest

from conftest import small
from fits import models
from genmod_nb.baselines import GaussianCopula, Vine
from genmod_nb.ensemble import Ensemble
from genmod_nb.margins import Margins
from genmod_nb.metrics import anderson_darling, energy_distance, kendall_error, tail_error
from genmod_nb.risks import risk
from genmod_nb import tables as tables_room
from genmod_nb.data import simulate_losses
from genmod_nb.model import GenerativeModel
from genmod_nb.many import spread
from genmod_nb.cli import main
from genmod_nb.study import run_study
from genmod_nb.store import Store
from genmod_nb.many import fit_many
from genmod_nb.vae import VAE

pytest.importorskip("distributed")
SOON = 120      # seconds after which something hangs
cluster = pytest.mark.xdist_group("cluster")      # one cluster, of one worker of the tests


@pytest.fixture(scope="module")
def client():
    """A client of two worker processes of one thread, each under a nanny that replaces it when it dies."""
    import dask
    from distributed import Client, LocalCluster
    # Whenever a worker is lost, distributed 2026.8.0 looks 15 s later whether one of its name is there, and if not, closes its nanny
    # for good (`SpecCluster._update_worker_status`). That the worker was replaced meanwhile does not call this off: if its successor
    # is killed just before the 15 s are over, its nanny is closed while it starts the next. Here a nanny keeps its job for a day.
    with dask.config.set({"distributed.deploy.lost-worker-timeout": "1 day"}):
        with LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster:
            with Client(cluster) as client:
                yield client


@pytest.fixture(autouse=True)
def small_tasks(monkeypatch):
    monkeypatch.setattr("genmod_nb.many.TASK_S", 1e-9)


def rows_of(store):
    return store.table().set_index("key").created.to_dict()


@cluster
def test_a_study_on_a_cluster_has_the_same_rows(client, tables, tmp_path):
    plan = [(dict(table="real", k=i // 2), model, *tables) for i, model in enumerate(models(2)[:10])]
    here = run_study(plan, n_draws=16, n_jobs=2, progress=False)
    with joblib.parallel_config(backend="dask"):
        there = run_study(plan, Store(tmp_path / "s.db"), n_draws=16, progress=False)
        again = run_study(plan, Store(tmp_path / "s.db"), n_draws=16, progress=False)
    pd.testing.assert_frame_equal(here, there, check_exact=True)
    pd.testing.assert_frame_equal(here, again, check_exact=True)
    assert len(Store(tmp_path / "s.db")) == 10


@cluster
def test_the_command_line_on_a_cluster(client, tables, tmp_path, capsys):
    address = client.scheduler.address
    tables[0].head(200).to_csv(tmp_path / "losses.csv")
    asked = ["study", "sigma", "--data", str(tmp_path / "losses.csv"), "--seeds", "1", "--epochs", "2", "--quiet"]
    assert main([*asked, "--cluster", address, "--out", str(tmp_path / "there")]) == 0
    assert main([*asked, "--jobs", "2", "--out", str(tmp_path / "here")]) == 0
    read = lambda name: pd.read_parquet(tmp_path / name / "sigma-0.parquet")
    pd.testing.assert_frame_equal(read("there"), read("here"), check_exact=True)


@cluster
def test_a_table_goes_to_every_worker_once(client, tables):
    """Large ones too: two workers, two copies, whatever the number of tasks; and nothing stays behind."""
    X = pd.concat([tables[0]] * 20, ignore_index=True)
    X = X + np.random.default_rng(0).random(X.shape) * 1e-3
    seen = []
    with joblib.parallel_config(backend="dask"):
        for _ in spread(np.shape, [(X,)] * 12, 2, [X]):
            seen.append({k: len(v) for k, v in client.who_has().items() if "DataFrame" in k})
        assert joblib.parallel.get_active_backend()[0].data_futures == {}
    assert all(list(copies.values()) == [2] for copies in seen) and len(seen) == 12


def churn(n):
    """Page faults of a process that takes and returns a megabyte n times."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(n):
        np.ones(2 ** 17)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@cluster
def test_workers_keep_their_memory(client):
    """Dask's workers return freed memory at once, and fetch it anew, a page of 4 kB at a time; ours do not."""
    assert set(client.run(os.environ.get, "MALLOC_TRIM_THRESHOLD_").values()) == {"65536"}
    with joblib.parallel_config(backend="dask"):
        assert max(spread(churn, [(1000,)] * 4, 2)) < 10_000      # of 256,000


def test_other_backends(tables):
    """multiprocessing's cannot hand back results one by one; neither can Ray's."""
    few = models(1)[:3]
    here = fit_many(few, tables[0], n_jobs=1, progress=False)
    with joblib.parallel_config(backend="multiprocessing"):
        there = fit_many(few, tables[0], n_jobs=2, progress=False)
    for a, b in zip(here, there):
        assert a.sample(9, random_state=0).equals(b.sample(9, random_state=0))


@cluster
def test_killed_workers(client, tables, tmp_path, full):
    """SIGKILL to a worker at random moments of a study: it completes, and nothing that was finished is done again."""
    rng, fits = np.random.default_rng(0), models(8 if full else 4)
    for kill in range(10 if full else 1):
        store, kept = Store(tmp_path / f"{kill}.db"), {}
        moment, done = int(rng.integers(1, 0.75 * len(fits))), 0
        put = Store.put

        def counted(self, model, X):
            nonlocal done, kept
            put(self, model, X)
            done += 1
            if done == moment:
                time.sleep(rng.uniform(0, 0.3))
                os.kill(list(client.run(os.getpid).values())[kill % 2], signal.SIGKILL)
                kept = rows_of(store)

        with pytest.MonkeyPatch.context() as patch, joblib.parallel_config(backend="dask"):
            patch.setattr(Store, "put", counted)
            fitted = fit_many(fits, tables[0], store=store, progress=False)
        assert len(fitted) == len(store) == done == len(fits) and len(kept) == moment
        assert kept.items() <= rows_of(store).items()
        client.wait_for_workers(2, timeout=SOON)


class Deadly(VAE):
    """A model that kills the worker that is to train it."""

    def _prepare(self, X, laws=None):
        os.kill(os.getpid(), signal.SIGKILL)


@cluster
def test_a_task_that_is_given_up(client, tables, tmp_path, monkeypatch):
    """Dask gives up a task on which workers die: the call ends and says so, where it would wait for ever; what came back is stored."""
    monkeypatch.setattr(client.cluster.scheduler, "allowed_failures", 0)
    store, fits = Store(tmp_path / "s.db"), models(1)
    with joblib.parallel_config(backend="dask"), pytest.raises(OSError, match="the cluster gave up a task: .*workers died"):
        fit_many([*fits, Deadly(max_epochs=1, compile=False, progress=False, random_state=0)], tables[0], store=store, progress=False)
    kept = rows_of(store)
    assert 0 < len(kept) <= len(fits)
    client.wait_for_workers(2, timeout=SOON)
    with joblib.parallel_config(backend="dask"):
        fit_many(fits, tables[0], store=store, progress=False)
    assert len(store) == len(fits) and kept.items() <= rows_of(store).items()


CLIENT = """
import sys, joblib
sys.path.insert(0, {tests!r})
from fits import models
from genmod_nb import many
from genmod_nb.data import load_losses
from genmod_nb.many import fit_many
from genmod_nb.store import Store
many.TASK_S = 1e-9
with joblib.parallel_config(backend="dask", scheduler_host={address!r}):
    fit_many(models({n}), load_losses()[0], store=Store(sys.argv[1]), progress=False)
"""


@cluster
def test_killed_clients(client, tables, tmp_path, full):
    """SIGKILL to the client at random moments, and the same call again: what was finished stays, and is not done again."""
    n = 8 if full else 4
    script = CLIENT.format(tests=os.path.dirname(__file__), address=client.scheduler.address, n=n)
    rng, store, kept, kills = np.random.default_rng(1), Store(tmp_path / "s.db"), {}, 0
    for kill in range(10 if full else 1):
        process = subprocess.Popen([sys.executable, "-c", script, store.path], stderr=subprocess.DEVNULL)
        start = time.time()
        while process.poll() is None and len(store) <= len(kept):
            assert time.time() - start < SOON
            time.sleep(0.02)
        time.sleep(rng.uniform(0, 0.3))
        kills += process.poll() is None
        process.kill()
        process.wait()
        found = rows_of(store)
        assert kept.items() <= found.items()
        kept = found
    assert kills and len(kept) < 10 * n
    subprocess.run([sys.executable, "-c", script, store.path], check=True, timeout=SOON)
    assert kept.items() <= rows_of(store).items() and len(store) == 10 * n


def test_a_killed_scheduler(tmp_path, full):
    """SIGKILL to the scheduler: the client says so, and the same call on another cluster goes on from the store."""
    if not full:
        pytest.skip("only with --full")
    store, kept = Store(tmp_path / "s.db"), {}
    for kill in (True, False):
        file = tmp_path / f"scheduler-{kill}.json"
        dask = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--port", "0", "--no-dashboard", "--scheduler-file", str(file)]
        scheduler = subprocess.Popen(dask, stderr=subprocess.DEVNULL)
        wait_until(file.exists)
        dask = [sys.executable, "-m", "distributed.cli.dask_worker", "--scheduler-file", str(file), "--nworkers", "2", "--nthreads", "1", "--no-dashboard"]
        workers = subprocess.Popen(dask, stderr=subprocess.DEVNULL, start_new_session=True)
        script = CLIENT.format(tests=os.path.dirname(__file__), address=json.loads(file.read_text())["address"], n=8)
        client = subprocess.Popen([sys.executable, "-c", script, store.path], stderr=subprocess.PIPE, text=True)
        if kill:
            wait_until(lambda: len(store) > 2)
            scheduler.kill()
        said = client.communicate(timeout=SOON)[1]
        scheduler.kill()
        os.killpg(workers.pid, signal.SIGKILL)
        if kill:
            assert client.returncode == 1 and "lost the connection to the scheduler" in said
            kept = rows_of(store)
    assert client.returncode == 0 and 0 < len(kept) < 80 == len(store) and kept.items() <= rows_of(store).items()


def wait_until(ready):
    start = time.time()
    while not ready():
        assert time.time() - start < SOON
        time.sleep(0.02)


WRITER = """
import sys
from fits import models
from genmod_nb.data import load_losses
from genmod_nb.store import Store
X, first, n = load_losses()[0], int(sys.argv[2]), int(sys.argv[3])
model = models(1, max_epochs=1)[0].fit(X)
for seed in range(first, first + n): Store(sys.argv[1]).put(model.set_params(random_state=seed), X)
"""


def test_many_processes_write_to_one_store(tables, tmp_path, full):
    """20 processes, 500 rows each: all there, none torn."""
    processes, n = (20, 500) if full else (4, 20)
    call = lambda k: [sys.executable, "-c", WRITER, str(tmp_path / "s.db"), str(k * n), str(n)]
    running = [subprocess.Popen(call(k), cwd=os.path.dirname(__file__)) for k in range(processes)]
    assert [p.wait(timeout=10 * SOON) for p in running] == [0] * processes
    store, X = Store(tmp_path / "s.db"), tables[0]
    assert len(store) == processes * n
    with store._open() as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    model = models(1, max_epochs=1)[0]
    for seed in range(0, processes * n, 1 if full else 7):
        found = store.get(model.set_params(random_state=seed), X, "eager")
        assert found.random_state == seed and np.isfinite(found.sample(3, random_state=0).to_numpy()).all()


FULL = """
import resource, sys
from fits import models
from genmod_nb.data import load_losses
from genmod_nb.store import Store
from genmod_nb.many import fit_many
store = Store(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, 150_000))
try: fit_many(models(3), load_losses()[0], n_jobs=1, store=store, progress=False)
except OSError as e: sys.exit(f"refused: {e}")
"""


def test_a_full_disk_is_reported(tables, tmp_path):
    """A limit on the size of a file is met in the middle of a study; what was finished is there, and the study goes on."""
    call = [sys.executable, "-c", FULL, str(tmp_path / "s.db")]
    done = subprocess.run(call, cwd=os.path.dirname(__file__), capture_output=True, text=True, timeout=SOON)
    assert done.returncode == 1 and "refused: the store" in done.stderr and "Traceback" not in done.stderr
    store, fits = Store(tmp_path / "s.db"), models(3)
    kept = rows_of(store)
    assert 0 < len(kept) < 30
    found = [store.get(m, tables[0], "eager") for m in fits]
    assert sum(m is not None for m in found) == len(kept)
    fit_many(fits, tables[0], n_jobs=1, store=store, progress=False)
    assert len(store) == 30 and kept.items() <= rows_of(store).items()


@pytest.fixture
def model(tables, tmp_path):
    VAE(encoder=(8,), decoder=(8,), max_epochs=2, random_state=0, progress=False).fit(tables[0]).save(tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize("name", ["x.parquet", "x.csv"])
def test_sampling_to_a_full_disk(model, tmp_path, name):
    code = ("import resource, sys; from genmod_nb.cli import main; resource.setrlimit(resource.RLIMIT_FSIZE, (10 ** 6, 10 ** 6)); "
            f"sys.exit(main(['sample', {str(model)!r}, '-n', '200000', '--quiet', '--out', {str(tmp_path / name)!r}]))")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=SOON)
    assert done.returncode == 2 and done.stderr.startswith("genmod sample: error: ") and done.stderr.count("\n") == 1, done.stderr
    assert os.listdir(tmp_path) == ["model"]


def test_stopped_sampling_leaves_nothing_that_looks_complete(model, tmp_path):
    code = "import sys; from genmod_nb.cli import main; sys.exit(main(sys.argv[1:]))"
    for signal_, left in ((signal.SIGKILL, 1), (signal.SIGINT, 0)):
        process = subprocess.Popen([sys.executable, "-c", code, "sample", str(model), "-n", "100000000", "--quiet", "--out", str(tmp_path / "x.parquet")],
                                   stderr=subprocess.DEVNULL)
        start, partial = time.time(), []
        while not partial or partial[0].stat().st_size < 10 ** 6:
            assert process.poll() is None and time.time() - start < SOON
            time.sleep(0.05)
            partial = list(tmp_path.glob(".x.parquet.*"))
        process.send_signal(signal_)
        process.wait(timeout=SOON)
        partial = list(tmp_path.glob(".x.parquet.*"))
        assert len(partial) == left and not (tmp_path / "x.parquet").exists()
        for path in partial:
            with pytest.raises(pyarrow.ArrowInvalid):
                pyarrow.parquet.read_metadata(path)
            path.unlink()


LARGEST = """
import re, sys, time
from genmod_nb.cli import load
model, start = load(sys.argv[1]), time.time()
model.sample_to(sys.argv[2], int(sys.argv[3]), random_state=0, progress=False)
peak = re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1]      # of this program; getrusage counts its parent's, too
print(time.time() - start, int(peak) / 1024)
"""


def test_sampling_does_not_gather_rows(model, tables, tmp_path, full):
    """Ten million rows to parquet in less than a gigabyte; the file holds what `sample` returns."""
    n = 10_000_000 if full else 300_000
    path = tmp_path / "x.parquet"
    done = subprocess.run([sys.executable, "-c", LARGEST, str(model), str(path), str(n)], capture_output=True, text=True, check=True)
    seconds, megabytes = map(float, done.stdout.split())
    print(f"{n} rows: {n / seconds:.0f} rows/s, {megabytes:.0f} MB at most")
    assert pyarrow.parquet.read_metadata(path).num_rows == n and megabytes < 1000
    first = next(pyarrow.dataset.dataset(path).to_batches(batch_size=100_000)).to_pandas()
    assert first.equals(GenerativeModel.load(model).sample(100_000, random_state=0))


@pytest.fixture
def long_table(tmp_path, monkeypatch):
    """3,000 rows as a DataFrame, a parquet folder and a memory-mapped array; 1,000 rows count as many."""
    monkeypatch.setattr(tables_room, "LARGE", 1_000)
    X = simulate_losses(3_000, random_state=0)
    (tmp_path / "parts").mkdir()
    for k in range(3):
        tables_room.write_table(tmp_path / "parts" / f"{k}.parquet", [X[k * 1_000:(k + 1) * 1_000]])
    np.save(tmp_path / "x.npy", X.to_numpy())
    return X, tables_room.open_losses(tmp_path / "parts"), np.load(tmp_path / "x.npy", mmap_mode="r")


def test_large_tables_in_all_their_forms(kind, long_table):
    """A model is the same from memory, from a folder of parquet files, and from a memory-mapped array."""
    fits = [small(kind, max_epochs=2).fit(X) for X in long_table]
    a, b, c = (np.asarray(m.sample(50, random_state=0)) for m in fits)
    assert np.array_equal(a, b) and np.array_equal(a, c)
    assert list(fits[1].sample(1)) == list(long_table[0]) and isinstance(fits[2].sample(1), np.ndarray)
    if hasattr(fits[0].module_, "log_prob"):
        scores = [m.score_samples(X, 4) for m, X in zip(fits, long_table)]
        assert len(scores[0]) == 3_000 and np.array_equal(scores[0], scores[1]) and np.array_equal(scores[0], scores[2])


def parts_of(folder, X, sizes):
    """A folder of parquet files of so many rows."""
    folder.mkdir()
    ends = np.cumsum(sizes)
    for k, (end, n) in enumerate(zip(ends, sizes)):
        tables_room.write_table(folder / f"{k:03}.parquet", [X[end - n:end]])
    return pyarrow.dataset.dataset(folder)


def test_files_do_not_show_in_pieces(tmp_path):
    """However a folder is cut into files, and in memory too, the same rows come in the same pieces."""
    X = simulate_losses(700, random_state=0)
    cuts = {"one": [700], "even": [100] * 7, "odd": [1, 299, 3, 197, 200]}
    for rows in (64, 100, 300, 700, 1_000):
        expected = [X[i:i + rows] for i in range(0, 700, rows)]
        forms = {name: parts_of(tmp_path / f"{rows}-{name}", X, sizes) for name, sizes in cuts.items()}
        for table in [*forms.values(), X, X.to_numpy()]:
            found = list(tables_room.pieces(table, rows))
            assert [len(p) for p in found] == [len(p) for p in expected]
            assert all(np.array_equal(a, b) for a, b in zip(found, expected))
        for table in forms.values():
            assert [list(p.index) for p in tables_room.pieces(table, rows)] == [list(p.index) for p in expected]


def test_an_empty_folder_is_one_empty_piece(tmp_path):
    import pyarrow
    pyarrow.parquet.write_table(pyarrow.table({"a": [], "b": []}), tmp_path / "x.parquet")
    (piece,) = tables_room.pieces(pyarrow.dataset.dataset(tmp_path / "x.parquet"))
    assert piece.shape == (0, 2) and list(piece) == ["a", "b"]


def test_warnings_do_not_depend_on_files(tmp_path):
    """The first file alone has too few rows to show that a column is the sum of two others, or that rows follow each other."""
    rng = np.random.default_rng(0)
    X = pd.DataFrame(np.exp(np.cumsum(rng.normal(size=(400, 2)), 0) / 10), columns=["a", "b"])
    X["c"] = X.a + X.b
    said = []
    for name, table in dict(memory=X, one=parts_of(tmp_path / "one", X, [400]), many=parts_of(tmp_path / "many", X, [4] * 100)).items():
        with pytest.warns(tables_room.TableWarning) as seen:
            tables_room.warn_of_table(table)
        said.append(sorted(str(w.message) for w in seen))
    assert said[0] == said[1] == said[2] and len(said[0]) == 2


def test_scores_name_the_row_of_the_whole_table(long_table, monkeypatch):
    """A cell that cannot be scored is named by its row in the table, from memory or from a folder."""
    monkeypatch.setattr(tables_room.pieces, "__defaults__", (1_000,))
    X, folder, mapped = long_table
    model = small(VAE, max_epochs=1).fit(mapped)
    bad = mapped.copy()
    bad[2_500, 1] = np.nan
    with pytest.raises(ValueError, match=r"row 2500"):
        model.score_samples(bad, 2)
    assert len(model.score_samples(mapped, 2)) == 3_000


@pytest.mark.parametrize("measure", ["risk", "digest", "margins", "scores"])
def test_errors_name_the_row_of_the_whole_table(measure, monkeypatch):
    """Whatever is measured piece by piece, an array's bad cell is named by its row in the table."""
    monkeypatch.setattr(tables_room.pieces, "__defaults__", (1_000,))
    X = simulate_losses(3_000, random_state=0).to_numpy().copy()
    model = GaussianCopula().fit(X)
    X[2_500, 1] = np.nan
    ask = dict(risk=lambda X: risk(X, levels=0.9), digest=tables_room.table_digest, margins=model.log_margins, scores=model.score_samples)
    for table in (X, pd.DataFrame(X, columns=["f1", "f2", "f3", "f4"])):
        with pytest.raises(ValueError, match=r"row 2500"):
            ask[measure](table)


def test_marks_are_asked_of_a_table_and_not_of_its_pieces(monkeypatch):
    """Two cells of 9999 stand apart from the first thousand rows, not from the table: rows score alike in one call or in many."""
    X = simulate_losses(3_000, random_state=0) * 1e4
    X.iloc[[3, 4], 0] = 9999.0
    X.iloc[2_000:2_020, 0] = 4000.0 + np.arange(20)
    model = GaussianCopula().fit(X)
    scores = model.score_samples(X)
    monkeypatch.setattr(tables_room.pieces, "__defaults__", (1_000,))
    monkeypatch.setattr(tables_room, "LARGE", 2_500)
    assert np.array_equal(model.score_samples(X), scores)
    assert np.array_equal(np.concatenate([model.score_samples(X[i:i + 1]) for i in range(10)]), scores[:10])
    vae = small(VAE, max_epochs=1).fit(X)
    assert len(vae.score_samples(X[:100], 2)) == 100
    X.iloc[[3, 4], 0] = 999999.0
    with pytest.raises(ValueError, match="cells of 999999"):
        GaussianCopula().fit(X)


@pytest.mark.parametrize("kind", [GaussianCopula, Vine, VAE, Ensemble])
def test_rows_that_no_margin_saw_are_looked_at(kind, monkeypatch):
    """Of a large table margins take a part; a negative loss or one beyond a declared end is an error in the others too."""
    monkeypatch.setattr(tables_room, "LARGE", 1_000)
    own = dict(max_epochs=1, progress=False, random_state=0, compile=False) if kind in (VAE, Ensemble) else {}
    own |= dict(members=2) if kind is Ensemble else {}
    X = simulate_losses(3_000, random_state=0)
    left = np.setdiff1d(np.arange(3_000), tables_room.random_places(X))[7]
    for value, ends, what in ((-1.0, {}, "negative loss"), (150.0, dict(upper=100), "outside")):
        bad = X.copy()
        bad.iloc[left, 1] = value
        for table in (bad, bad.to_numpy()):
            with pytest.raises(ValueError, match=f"row {left}.*{what}|{what}.*row {left}"):
                kind(**own, **ends).fit(table)


def test_warnings_of_large_arrays_name_their_rows(monkeypatch):
    monkeypatch.setattr(tables_room, "LARGE", 1_000)
    X = simulate_losses(3_000, random_state=0)
    place = tables_room.random_places(X)[600]
    X.iloc[place, 1] *= 1e7
    for table in (X, X.to_numpy()):
        for model in (GaussianCopula(), small(VAE, max_epochs=1)):
            with pytest.warns(tables_room.TableWarning, match=f"row {place}"):
                model.fit(table)


def test_marks_of_large_arrays_name_their_rows(monkeypatch):
    monkeypatch.setattr(tables_room, "LARGE", 1_000)
    X = simulate_losses(3_000, random_state=0)
    places = tables_room.random_places(X)[[600, 700]]
    X.iloc[places, 1] = 99999.0
    for table in (X, X.to_numpy()):
        for model in (GaussianCopula(), small(VAE, max_epochs=1)):
            with pytest.raises(ValueError, match=rf"2 cells of 99999 \(rows? {places[0]}"):
                model.fit(table)


def test_pyarrow_tables_reach_workers_as_they_are(tmp_path):
    """A filter is no part of what pyarrow pickles, and a table in memory cannot be pickled: a worker gets the rows."""
    import pyarrow.dataset as dataset
    X = simulate_losses(400, random_state=0)
    X.to_parquet(tmp_path / "x.parquet")
    plain = dataset.dataset(tmp_path / "x.parquet")
    far = dataset.field("f1") > X.f1.median()
    few = models(1)[:3]
    for table, rows in ((plain.filter(far), X[X.f1 > X.f1.median()]), (dataset.dataset([plain, plain]).filter(far), None),
                        (dataset.dataset(pyarrow.Table.from_pandas(X)), X)):
        here, there = (fit_many(few, table, n_jobs=n, progress=False) for n in (1, 2))
        alone = [m.fit(table if rows is None else rows) for m in few]
        for a, b, c in zip(here, there, alone):
            assert a.sample(9, random_state=0).equals(b.sample(9, random_state=0))
            assert a.sample(9, random_state=0).equals(c.sample(9, random_state=0))


def test_a_folder_is_one_table(tmp_path):
    """Types wide enough for all files, in whatever order; a total in the last file; labels and reports as for one file."""
    X = pd.DataFrame({"fire": [0, 3, 7, 2] * 10, "hail": np.arange(40) % 9})
    Y = X + 0.5
    for k, order in enumerate(([X, Y], [Y, X], [X.astype("float32"), Y + 1e-9], [Y, X.astype("int8")])):
        (tmp_path / str(k)).mkdir()
        for i, part in enumerate(order):
            part.to_parquet(tmp_path / str(k) / f"{i}.parquet", index=False)
        assert np.array_equal(tables_room.open_losses(tmp_path / str(k)), pd.concat(order).astype(float))
    # an index that is stored in one file only, a label of another type, extension types: as the first file says
    odd = {"index": [X.set_axis(range(40)), Y[::2].set_axis(range(0, 40, 2))],
           "label": [X.assign(policy=range(40)), Y.assign(policy=["a", "b"] * 20)],
           "extension": [X.convert_dtypes(), Y.convert_dtypes()]}
    for name, parts in odd.items():
        (tmp_path / name).mkdir()
        for i, part in enumerate(parts):
            part.to_parquet(tmp_path / name / f"{i}.parquet")
        found = tables_room.open_losses(tmp_path / name, columns=["fire", "hail"])
        assert np.array_equal(found, pd.concat(parts)[["fire", "hail"]].astype(float)), name
    (tmp_path / "index" / "9.parquet").write_bytes(b"PAR1 damaged")
    with pytest.raises(ValueError, match="9.parquet cannot be read as a table"):
        tables_room.open_losses(tmp_path / "index")
    total = pd.DataFrame([pd.concat([X, Y]).sum()])
    (tmp_path / "total").mkdir()
    for i, part in enumerate([X, Y, total]):
        part.to_parquet(tmp_path / "total" / f"{i}.parquet", index=False)
    with pytest.raises(ValueError, match="sum"):
        tables_room.open_losses(tmp_path / "total")
    # a large one too
    for large in (0, 50):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(tables_room, "LARGE", large)
            data = tables_room.open_losses(tmp_path / "0")
            assert isinstance(data, pyarrow.dataset.Dataset)
            assert np.array_equal(pd.concat(tables_room.pieces(data, 7)), pd.concat([X, Y]).astype(float))


def test_margins_of_a_table_on_a_disk_know_its_names(tmp_path):
    X = simulate_losses(400, random_state=0).rename(columns={"f1": "fire", "f2": "hail"})
    X.to_parquet(tmp_path / "x.parquet", index=False)
    table = pyarrow.dataset.dataset(tmp_path / "x.parquet")
    law = Margins().fit(table)
    assert list(law.choices_.index) == list(X)
    pd.testing.assert_frame_equal(law.transform(table), Margins().fit(X).transform(X))
    pd.testing.assert_frame_equal(law.inverse_transform(law.transform(table)), X, rtol=1e-9)
    with pytest.raises(ValueError, match="bring them into that order"):
        law.transform(X[list(X)[::-1]])


def test_metrics_do_not_see_the_order_in_memory():
    A, B = (simulate_losses(n, random_state=s).to_numpy() for n, s in ((2_003, 0), (1_501, 1)))
    forms = [(A, B), (np.asfortranarray(A), np.asfortranarray(B)), (pd.DataFrame(A), pd.DataFrame(B))]
    for measure in (tail_error, energy_distance, kendall_error, anderson_darling):
        values = {measure(np.ascontiguousarray(a) if k == 0 else a, b) for k, (a, b) in enumerate(forms)}
        assert len(values) == 1, measure.__name__


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("mark", [999.9, 9999.99, -9.99, 999])
def test_marks_of_single_precision(mark, dtype):
    X = pd.DataFrame({"fire": np.arange(40) % 11 + 0.25, "hail": np.arange(40) % 7 + 0.5})
    X.iloc[[4, 9], 1] = mark
    with pytest.raises(ValueError, match="mark missing|negative"):
        tables_room.check_losses(X.astype(dtype))


def test_large_tables_are_checked_to_their_last_row(long_table, tmp_path):
    X, folder, _ = long_table
    bad = X.copy()
    bad.iloc[-1, 2] = -1
    model = VAE(max_epochs=1, progress=False)
    with pytest.raises(ValueError, match=r"'f3' has 1 negative loss \(row 2999\)"):
        model.fit(bad.to_numpy())
    tables_room.write_table(tmp_path / "parts" / "2.parquet", [bad[2_000:]])
    with pytest.raises(ValueError, match=r"'f3' has 1 negative loss \(row 2999\)"):
        model.fit(tables_room.open_losses(tmp_path / "parts"))


def test_large_tables_in_a_study(long_table, tmp_path):
    X, folder, mapped = long_table
    fits = [VAE(max_epochs=2, random_state=s, compile=False, progress=False) for s in range(2)]
    store = Store(tmp_path / "s.db")
    for table in (folder, mapped):
        fitted = fit_many(fits, table, n_jobs=1, store=store, progress=False)
        assert np.array_equal(*(np.asarray(m.sample(5, random_state=0)) for m in (fitted[0], fits[0].fit(X))))
    assert len(store) == 4 and (store.table()["rows"] == 3_000).all()


def test_command_line_on_a_folder_of_parquet_files(long_table, tmp_path, capsys):
    run = lambda *a: main([str(x) for x in a])
    assert run("fit", tmp_path / "parts", "--epochs", 1, "--out", tmp_path / "m") == 0
    assert "3000 rows x 4 columns" in capsys.readouterr().out
    assert run("sample", tmp_path / "m", "-n", 3_000, "--out", tmp_path / "x.parquet", "--seed", 1) == 0
    assert run("score", tmp_path / "parts", tmp_path / "x.parquet", "--reps", 2, "--quiet") == 0
