"""What the divergences and the moving λ cost: training seconds of a stack of 32 models, against the VAE's.

    python benchmarks/wae.py        # the table goes to benchmarks/results, where the book reads it

One process, shapes compiled before, 2,000 steps each, medians of three interleaved runs.
"""
import statistics
import time
from pathlib import Path

import pandas as pd

from genmod_nb.data import simulate_losses
from genmod_nb.many import fit_many
from genmod_nb.vae import VAE
from genmod_nb.wae import WAE

KINDS = {
    "VAE (KL)": lambda **kw: VAE(**kw),
    "W2": lambda **kw: WAE(**kw),
    "MMD": lambda **kw: WAE(divergence="mmd", **kw),
    "W2, λ by ARIMA": lambda **kw: WAE(schedule="arima", **kw),
    "W2, λ without forecast": lambda **kw: WAE(schedule="plain", **kw),
}


def seconds(kind, epochs=400):
    X = simulate_losses(720, random_state=0)
    models = [KINDS[kind](early_stopping=False, max_epochs=epochs, random_state=s, compile=True, progress=False) for s in range(32)]
    start = time.perf_counter()
    fit_many(models, X, n_jobs=1, progress=False)
    return time.perf_counter() - start


if __name__ == "__main__":
    for kind in KINDS:
        seconds(kind, 50)           # compiles, if this machine has not
    runs = pd.DataFrame([{kind: seconds(kind) for kind in KINDS} for _ in range(3)])
    table = pd.DataFrame({"seconds": {kind: statistics.median(runs[kind]) for kind in KINDS}})
    table["share of the VAE's"] = table.seconds / table.seconds["VAE (KL)"]
    table["share of W2's"] = table.seconds / table.seconds["W2"]
    folder = Path(__file__).parent / "results"
    folder.mkdir(exist_ok=True)
    table.rename_axis("what").to_csv(folder / "wae.csv")
    print(table.round(2).to_string())
