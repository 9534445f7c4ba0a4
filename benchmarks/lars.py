"""What the rejection sampler costs: proposals per second against the bare acceptance network, for a million draws at T = 100.

    python benchmarks/lars.py        # the table goes to benchmarks/results, where the book reads it

One thread. The network is scored at the size of batch that suits it best; both are timed in turn, medians of five.
Memory is the process's peak while it samples, less what it held before.
"""
import resource
import statistics
import time
from pathlib import Path

import pandas as pd
import torch

from genmod_nb.toys import NineGaussians
from genmod_nb.lars import LARS

DRAWS = 1_000_000


def score_rate(prior, seconds=1.0):
    """Proposals per second that the network alone scores, at its best batch."""
    best = 0.0
    with torch.no_grad():
        for size in (2_048, 4_096, 8_192, 16_384, 65_536):
            z, n, start = torch.randn(size, 2), 0, time.perf_counter()
            while time.perf_counter() - start < seconds / 5:
                prior.log_a(z)
                n += size
            best = max(best, n / (time.perf_counter() - start))
    return best


def sample_rate(lars, seed):
    start = time.perf_counter()
    draws = lars.draws(DRAWS, random_state=seed)
    seconds = time.perf_counter() - start
    return int(draws.proposals.sum()) / seconds, seconds, draws


if __name__ == "__main__":
    torch.set_num_threads(1)
    rows, toy = [], NineGaussians()
    for hidden in ((20, 20), (64, 64), (100, 100)):
        lars = LARS(hidden=hidden).fit(toy.sample(20_000, 0), lr=1e-2, batch_size=512, max_epochs=50, early_stopping=False,
                                       random_state=0, progress=False)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        bare, ours = [], []
        for seed in range(5):
            bare.append(score_rate(lars.model_.module_.prior))
            ours.append(sample_rate(lars, seed))
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        rate, seconds = (statistics.median(run[k] for run in ours) for k in (0, 1))
        draws = ours[-1][2]
        rows.append({"hidden": str(hidden), "Z": lars.acceptance_rate(), "proposals per draw": draws.proposals.mean(),
                     "seconds": seconds, "proposals per second": rate, "scored per second": statistics.median(bare),
                     "share": rate / statistics.median(bare), "peak memory added (MB)": memory / 1024})
    table = pd.DataFrame(rows)
    table.to_csv(Path(__file__).parent / "results" / "lars.csv", index=False)
    print(table.round(3).to_string())
