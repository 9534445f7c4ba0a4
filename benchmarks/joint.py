"""What the simulated laws say of their joint extremes, against rows drawn from them.

    python benchmarks/joint.py [ROWS]      # 1e8 unless given, in pieces of a million; writes results/joint_law.csv

Each line is one claim of a law: the truth by quadrature or closed form, what the rows show, its standard error, and z,
the difference in errors. A binomial error for a probability or a chi, that of a mean for a shortfall.
"""
import sys
import time
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd

PIECE = 1_000_000
LEVELS = (0.9, 0.99, 0.999, 0.9999)


def counted(pieces, thresholds):
    """Of all rows: how many; at each level how often each set of losses is beyond; sum and squares of each loss beyond."""
    sets = [s for m in (1, 2, 3, 4) for s in combinations(range(4), m)]
    n, beyond = 0, np.zeros((len(thresholds), len(sets)))
    least, first, second = np.zeros((len(thresholds), 5)), *np.zeros((2, len(thresholds), 4))
    for X in pieces:
        n += len(X)
        for i, t in enumerate(thresholds):
            over = X > t
            beyond[i] += [over[:, s].all(1).sum() for s in sets]
            least[i] += np.bincount(over.sum(1), minlength=5)
            excess = np.where(over, X, 0)
            first[i] += excess.sum(0)
            second[i] += (excess ** 2).sum(0)
    return n, dict(zip(sets, beyond.T)), least[:, ::-1].cumsum(1)[:, ::-1], first, second


def claims(law, pieces, levels=LEVELS):
    """Every claim of a law as a row: measure, level, truth, simulated, error, z."""
    thresholds = law.ppf(np.array(levels)[:, None])
    n, beyond, least, first, second = counted(pieces, thresholds)
    rows = []

    def add(measure, level, truth, simulated, error):
        rows.append(dict(measure=measure, level=level, truth=truth, simulated=simulated, error=error,
                         z=(simulated - truth) / error))

    for i, level in enumerate(levels):
        x, chi, mean = thresholds[i], law.tail_dependence(level).to_numpy(), law.shortfall(level)
        share = lambda count, p: (count / n, np.sqrt(p * (1 - p) / n))
        if n * (p := law.joint_sf([x])[0]) > 20:
            add("all", level, p, *share(beyond[0, 1, 2, 3][i], p))
        for k in (1, 2, 3):
            if n * (p := law.exceedance(x, k)) > 20:
                add(f"at least {k}", level, p, *share(least[i][k], p))
        for j, k in combinations(range(4), 2):
            p, tail = chi[j, k] * (1 - level), 1 - level
            if n * p > 20:
                seen, error = share(beyond[j, k][i], p)
                add(f"chi {law.columns[j]} {law.columns[k]}", level, chi[j, k], seen / tail, error / tail)
        for j, c in enumerate(law.columns):
            m = beyond[(j,)][i]
            add(f"beyond {c}", level, 1 - level, *share(m, 1 - level))
            if m > 20:
                average = first[i, j] / m
                add(f"shortfall {c}", level, mean[c], average, np.sqrt((second[i, j] / m - average ** 2) / m))
    return rows


def main(total):
    from genmod_nb.data import GaussianLaw, LossLaw
    tables = []
    for law in (LossLaw(), GaussianLaw()):
        start = time.time()
        sizes = [min(PIECE, total - a) for a in range(0, total, PIECE)]
        pieces = (law.sample(size, seed).to_numpy() for seed, size in enumerate(sizes))
        tables.append(pd.DataFrame(claims(law, pieces)).assign(law=type(law).__name__, rows=total))
        print(f"{type(law).__name__}: {time.time() - start:.0f} s")
    table = pd.concat(tables)[["law", "rows", "measure", "level", "truth", "simulated", "error", "z"]]
    print(table.to_string(index=False))
    print(f"largest |z| of {len(table)}: {table.z.abs().max():.2f}")
    return table


if __name__ == "__main__":
    rows = int(float(sys.argv[1])) if len(sys.argv) > 1 else 100_000_000
    table = main(rows)
    if rows == 100_000_000:                 # a trial writes nothing
        table.to_csv(Path(__file__).parent / "results" / "joint_law.csv", index=False, float_format="%.6g")
