"""What a study costs on a cluster, and what a table of ten million rows costs on one machine.

    python benchmarks/scale.py study   # fits and workers against seconds
    python benchmarks/scale.py rows    # ten million rows: write, fit, sample, score
                                       # the tables go to benchmarks/results, where the book reads them

`study`: the same models are fitted by one and by two worker processes of one thread of a cluster, over TCP, into a fresh store;
the workers have started before, and nothing is compiled. Every size is timed twice, in turn.
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


def study(fits=(16, 32, 64), workers=(1, 2), repeats=2):
    from distributed import Client, LocalCluster
    from genmod_nb.data import load_losses
    from genmod_nb.training import Store, fit_many
    from genmod_nb.vae import VAE
    train, rows, seeds = load_losses()[0], [], itertools.count()
    models = lambda n: [VAE(random_state=next(seeds), compile=False, max_epochs=60, progress=False) for _ in range(n)]
    with (LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster, Client(cluster) as client,
          tempfile.TemporaryDirectory() as folder):
        addresses = list(client.scheduler_info()["workers"])
        with joblib.parallel_config(backend="dask"):
            fit_many(models(16), train, progress=False)
        for repeat, n, w in itertools.product(range(repeats), fits, workers):
            with joblib.parallel_config(backend="dask", workers=addresses[:w]):
                start = time.perf_counter()
                fit_many(models(n), train, store=Store(f"{folder}/{repeat}-{n}-{w}.db"), progress=False)
                rows.append(dict(workers=w, fits=n, repeat=repeat, seconds=time.perf_counter() - start))
                print(rows[-1], flush=True)
    pd.DataFrame(rows).to_csv(RESULTS / "scale_study.csv", index=False)


STEPS = {
    "write the table": """
from genmod_nb.data import simulate_losses, write_table
write_table("law.parquet", (simulate_losses(100_000, random_state=k) for k in range(n // 100_000)))""",
    "fit a VAE, one epoch": """
from genmod_nb.data import open_losses
from genmod_nb.vae import VAE
VAE(max_epochs=1, batch_size=1024, random_state=0, progress=False).fit(open_losses("law.parquet")).save("model")""",
    "sample to parquet": """
from genmod_nb.cli import load
load("model").sample_to("fake.parquet", n, random_state=0, progress=False)""",
    "score": """
from genmod_nb.data import open_losses
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
