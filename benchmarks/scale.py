"""What a study costs on a cluster, and what a table of ten million rows costs on one machine.

    python benchmarks/scale.py study   # fits and workers against seconds
    python benchmarks/scale.py rows    # ten million rows: write, fit, sample, score
                                       # the tables go to benchmarks/results, where the book reads them

`study`: default VAEs are fitted by one and by two worker processes of one thread of a cluster, over TCP, into a fresh store;
the workers have started and compiled before. Every size is timed twice, in turn. `client` are the seconds of the client's own processor: what it costs by the fit
is seen where fits of one epoch leave it no time to wait.
`rows`: each step runs in a process of its own, so that its peak memory is its own.
"""
import itertools
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import joblib
import pandas as pd

RESULTS = Path(__file__).parent / "results"


def study(sizes=(16, 32, 64), brief=512, workers=(1, 2), repeats=2):
    from distributed import Client, LocalCluster
    from genmod_nb.data import load_losses
    from genmod_nb.store import Store
    from genmod_nb.many import fit_many
    from genmod_nb.vae import VAE
    train, rows, seeds = load_losses()[0], [], itertools.count()
    models = lambda n, **short: [VAE(random_state=next(seeds), progress=False, **short) for _ in range(n)]
    runs = [(n, w, {}) for n in sizes for w in workers] + [(brief, max(workers), dict(max_epochs=1))]
    with (LocalCluster(n_workers=max(workers), threads_per_worker=1, processes=True, dashboard_address=None) as cluster, Client(cluster) as client,
          tempfile.TemporaryDirectory() as folder):
        addresses = list(client.scheduler_info()["workers"])
        with joblib.parallel_config(backend="dask"):
            for n, _, short in runs: fit_many(models(n, **dict(max_epochs=2) | short), train, progress=False)
        for repeat, (n, w, short) in itertools.product(range(repeats), runs):
            with joblib.parallel_config(backend="dask", workers=addresses[:w]):
                store, start, own = Store(f"{folder}/{len(rows)}.db"), time.perf_counter(), time.process_time()
                fit_many(models(n, **short), train, store=store, progress=False)
                rows.append(dict(epochs=short.get("max_epochs", VAE().max_epochs), workers=w, fits=n, repeat=repeat,
                                 seconds=time.perf_counter() - start, client=time.process_time() - own))
                print(rows[-1], flush=True)
    pd.DataFrame(rows).to_csv(RESULTS / "scale_study.csv", index=False)


STEPS = {
    "write the table": """
from genmod_nb.tables import write_table
from genmod_nb.data import simulate_losses
write_table("law.parquet", (simulate_losses(100_000, random_state=k) for k in range(n // 100_000)))""",
    "fit a VAE, one epoch": """
from genmod_nb.tables import open_losses
from genmod_nb.vae import VAE
VAE(max_epochs=1, batch_size=1024, random_state=0, progress=False).fit(open_losses("law.parquet")).save("model")""",
    "sample to parquet": """
from genmod_nb.cli import load
load("model").sample_to("fake.parquet", n, random_state=0, progress=False)""",
    "score": """
from genmod_nb.tables import open_losses
from genmod_nb.metrics import scorecard
scorecard(open_losses("law.parquet"), open_losses("fake.parquet"), reps=20, progress=False).to_csv("card.csv")""",
}
AROUND = r"""
import json, re, time
start, n = time.perf_counter(), {n}
{step}
peak = int(re.search(r"VmHWM:\s+(\d+) kB", open("/proc/self/status").read())[1]) / 1024
print(json.dumps(dict(seconds=time.perf_counter() - start, peak_mb=peak)))"""


def rows(n=10_000_000):
    table = []
    with tempfile.TemporaryDirectory() as folder:
        for name, step in STEPS.items():
            done = subprocess.run([sys.executable, "-c", AROUND.format(n=n, step=step)], cwd=folder, check=True, capture_output=True, text=True)
            table.append(dict(step=name, rows=n) | json.loads(done.stdout.splitlines()[-1]))
            print(table[-1], flush=True)
        card = pd.read_csv(f"{folder}/card.csv")
        print(card.round(4).to_string())
    pd.DataFrame(table).to_csv(RESULTS / "scale_rows.csv", index=False)
    card.to_csv(RESULTS / "scale_card.csv", index=False)


if __name__ == "__main__":
    dict(study=study, rows=rows)[sys.argv[1]](*map(int, sys.argv[2:]))
