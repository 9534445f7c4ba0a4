"""How often intervals for value at risk and expected shortfall cover the truth: refits on resampled rows, on tables of the simulated law.

    python benchmarks/risk.py      # 256 tables of 720 rows, 60 refits each, Gaussian copula, 99 % and 99.9 % of f1 and of the mean; an hour

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
LEVELS, N, POSITIONS = (0.99, 0.999), 100_000, ("f1", "mean")


def values(source, n=4_000_000):
    """Value at risk and shortfall of the positions, shape (2, levels, positions)."""
    found = risk(source, levels=LEVELS, n_samples=n, random_state=1)
    return np.stack([found.pivot(index="level", columns="position", values=m)[list(POSITIONS)].to_numpy() for m in ("var", "es")])


def one(seed, refits):
    """Estimate (2, levels, positions) and refits (refits, 2, levels, positions) on one table."""
    X = LossLaw().sample(720, seed)
    names, W = _positions(None, X.columns)
    own = [names.index(p) for p in POSITIONS]
    model = GaussianCopula().fit(X)
    return values(model, N), _refits(model, X, refits, N, 1, W, LEVELS, None, 1, False)[:, ::2][..., own]


def coverage(found, truths):
    """A row per interval, truth, measure, level and position: how many intervals hold the truth, with a 95 % interval (Wilson) of that share."""
    estimate, again = (np.stack(part) for part in zip(*found))
    low, high = np.quantile(again, (0.05, 0.95), axis=1)
    rows = []
    for kind, (a, b) in {"percentile": (low, high), "basic, log": (estimate ** 2 / high, estimate ** 2 / low)}.items():
        for (about, truth), (k, measure), (l, level), (j, position) in itertools.product(
                truths.items(), enumerate(("var", "es")), enumerate(LEVELS), enumerate(POSITIONS)):
            ends, true = (a[:, k, l, j], b[:, k, l, j]), truth[k, l, j]
            inside = (ends[0] <= true) & (true <= ends[1])
            ci = stats.binomtest(int(inside.sum()), len(found)).proportion_ci(0.95, "wilson")
            rows.append(dict(tables=len(found), interval=kind, truth=about, measure=measure, level=level, position=position,
                             coverage=inside.mean(), low=ci.low, high=ci.high, truth_above=(ends[1] < true).mean(), truth_below=(ends[0] > true).mean(),
                             width=np.median(ends[1] / ends[0]), ratio=np.median(estimate[:, k, l, j]) / true))
    return pd.DataFrame(rows)


def main(tables=256, refits=60):
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
