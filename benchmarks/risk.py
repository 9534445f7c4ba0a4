"""How often intervals for value at risk and expected shortfall cover the truth: refits on resampled rows, on tables of the simulated law.

    python benchmarks/risk.py      # 100 tables of 720 rows, 60 refits each, Gaussian copula, 99 % of f1 and of the mean; a quarter of an hour

Two truths: that of the law, and the limit of the model, which is what it says when fitted to 200,000 rows. A model that cannot hold the law misses the first
by its bias, and no interval made of its own refits can tell. Two intervals from the same refits: their 5 % and 95 % quantiles (percentile), and the estimate
squared over the 95 % and the 5 % quantile (basic, on the log scale). The table goes to benchmarks/results/risk_coverage.csv.
"""
import itertools
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from genmod_nb.baselines import GaussianCopula
from genmod_nb.data import LossLaw
from genmod_nb.risks import _positions, _refits, risk

RESULTS = Path(__file__).parent / "results"
LEVEL, N, POSITIONS = 0.99, 20_000, ("f1", "mean")


def values(source, n=4_000_000):
    """Value at risk and shortfall of the positions, shape (2, positions)."""
    found = risk(source, levels=LEVEL, n_samples=n, random_state=1).set_index("position")
    return found.loc[list(POSITIONS), ["var", "es"]].to_numpy().T


def one(seed, refits):
    """Estimate (2, positions) and refits (refits, 2, positions) on one table."""
    X = LossLaw().sample(720, seed)
    names, W = _positions(None, X.columns)
    own = [names.index(p) for p in POSITIONS]
    model = GaussianCopula().fit(X)
    return values(model, N), _refits(model, X, refits, N, 1, W, [LEVEL], None, 1, False)[:, ::2, 0][..., own]


def coverage(found, truths):
    """A row per interval, truth, measure and position: how many intervals hold the truth, with a 95 % interval (Wilson) of that share."""
    estimate, again = (np.stack(part) for part in zip(*found))
    low, high = np.quantile(again, (0.05, 0.95), axis=1)
    rows = []
    for kind, (a, b) in {"percentile": (low, high), "basic, log": (estimate ** 2 / high, estimate ** 2 / low)}.items():
        for (about, truth), (k, measure), (j, position) in itertools.product(truths.items(), enumerate(("var", "es")), enumerate(POSITIONS)):
            ends = a[:, k, j], b[:, k, j]
            inside = (ends[0] <= truth[k, j]) & (truth[k, j] <= ends[1])
            ci = stats.binomtest(int(inside.sum()), len(found)).proportion_ci(0.95, "wilson")
            rows.append(dict(tables=len(found), interval=kind, truth=about, measure=measure, position=position, coverage=inside.mean(), low=ci.low, high=ci.high,
                             truth_above=(ends[1] < truth[k, j]).mean(), truth_below=(ends[0] > truth[k, j]).mean(),
                             width=np.median(ends[1] / ends[0]), ratio=np.median(estimate[:, k, j]) / truth[k, j]))
    return pd.DataFrame(rows)


def main(tables=100, refits=60):
    warnings.simplefilter("ignore")
    truths = {"law": values(LossLaw().sample(4_000_000, 7)), "limit of the model": values(GaussianCopula().fit(LossLaw().sample(200_000, 8)))}
    found = []
    for seed in range(1000, 1000 + tables):
        found.append(one(seed, refits))
        if len(found) % 5 == 0 or len(found) == tables:     # what is there, is there
            table = coverage(found, truths)
            table.to_csv(RESULTS / "risk_coverage.csv", index=False, float_format="%.4g")
    print(table.to_string(index=False, float_format="{:.3f}".format))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
