"""What bagged vines and a folded t copula add to a vine, over splits of the real table and tables of the simulated law.

    python benchmarks/copulas.py [SPLITS] [MODEL ...]   # 32 and all of MODELS unless given; writes results/copulas_gains.csv

Each line is one model on one split: the copula's part of its held-out log-likelihood less the vine's, in nats a row, and the
seconds of its fit. The real table is split by seed, 720 rows against 537; a table of the law has 720 rows against 5,000. The
summary's first interval is that of the mean over these splits as if they were independent; for the real table, whose splits share
rows, the second allows for that (Nadeau and Bengio 2003).
"""
import sys
import time
from pathlib import Path

import pandas as pd
from scipy import stats

from genmod_nb.baselines import GaussianMixture, Vine
from genmod_nb.copulas import BaggedVines, FoldedT, SplineFlow, TCopulaMixture
from genmod_nb.data import load_losses, simulate_losses
from genmod_nb.study import SHARED

MODELS = {"folded t": FoldedT(), "bagged vines": BaggedVines(random_state=0), "two t copulas": TCopulaMixture(random_state=0),
          "vine of all families": Vine(families="all"), "nonparametric vine": Vine(families="nonparametric"),
          "normal mixture, 5 starts": GaussianMixture(n_init=5, random_state=0), "spline flow": SplineFlow(random_state=0)}
TABLES = {"real table": lambda s: load_losses(random_state=s), "law": lambda s: (simulate_losses(720, 2 * s), simulate_losses(5000, 2 * s + 1))}
OUT = Path(__file__).parent / "results" / "copulas_gains.csv"


def gains(splits, names):
    """A row for each split, table and model, as they come."""
    for seed in range(splits):
        for table, of in TABLES.items():
            train, test = of(seed)
            vine = Vine().fit(train).copula_score(test)
            for name in names:
                start = time.perf_counter()
                model = MODELS[name].fit(train)
                seconds = time.perf_counter() - start
                yield dict(table=table, seed=seed, model=name, gain=model.copula_score(test) - vine, seconds=seconds)


def summary(rows):
    """Mean gain of each model, half the widths of its two 95 % intervals, and the share of the splits that it wins."""
    at = rows.groupby(["table", "model"]).gain
    n, sd = at.count(), at.std()
    t = stats.t.ppf(0.975, (n - 1).clip(lower=1))
    shared = n.index.get_level_values("table").map(lambda name: SHARED.get(name.split()[0], 0))
    return pd.DataFrame({"gain": at.mean(), "naive": t * sd / n ** 0.5, "shared rows": t * sd * (1 / n + shared) ** 0.5,
                         "splits": n, "won": at.agg(lambda g: (g > 0).mean())})


if __name__ == "__main__":
    splits, names = int(sys.argv[1]) if len(sys.argv) > 1 else 32, sys.argv[2:] or list(MODELS)
    stored = pd.read_csv(OUT) if OUT.exists() else pd.DataFrame({"model": []})
    stored = stored[~stored.model.isin(names)]      # other models keep their rows
    rows = []
    for row in gains(splits, names):
        rows.append(row)
        pd.concat([stored, pd.DataFrame(rows)]).to_csv(OUT, index=False, float_format="%.6g")
    print(summary(pd.read_csv(OUT)).round(4).to_string())
