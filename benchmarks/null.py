"""How often the harness calls equal models different: the law against itself.

    python benchmarks/null.py [BATCHES]     # 10 unless given; some 25 minutes of one core; writes results/null.csv

A batch is 16 draws of the simulated law, as in the evaluation, and seven models on them that are all the law itself and differ in
nothing but the seeds of what they draw. Each score of each pair of them is compared as models are: mean difference over the 16
tables, paired, with its 95 % interval; 21 pairs a batch. A line of the table is one comparison; `apart` says that its interval
excludes zero. Pairs of a batch share tables, so the error of the rate is taken between batches.
"""
import itertools
import sys
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from genmod_nb.baselines import Truth
from genmod_nb.data import simulate_losses
from genmod_nb.study import EXPECTED, IDEALS, model_scores, paired_intervals

OUT = Path(__file__).parent / "results" / "null.csv"
DRAWS, ARMS, SCORES = 16, 7, [*IDEALS, *EXPECTED]


def scores(batch):
    """A row for each draw and arm: all scores."""
    for seed in tqdm(range(batch * DRAWS, (batch + 1) * DRAWS), desc=f"batch {batch}"):
        law = simulate_losses(1257, random_state=10_000 + seed)
        train, test = law[:720], law[720:]
        for arm in range(ARMS):
            yield dict(seed=seed, model=f"Truth {arm}", failure="") | model_scores(Truth().fit(train), train, test, seed * ARMS + arm, n_tables=20)


def comparisons(batch):
    """A row for each score and pair of arms: is the interval of the difference away from zero?"""
    rows = pd.DataFrame(scores(batch))
    for score, (a, b) in itertools.product(SCORES, itertools.combinations(rows.model.unique(), 2)):
        gap = paired_intervals(rows[rows.model.isin([a, b])], [], "model", a, score).loc[b]
        yield dict(batch=batch, score=score, first=a, second=b, mean=gap["mean"], low=gap.low, high=gap.high, apart=bool(gap.low > 0 or gap.high < 0))


if __name__ == "__main__":
    found = []
    for batch in range(int(sys.argv[1]) if len(sys.argv) > 1 else 10):
        found += comparisons(batch)
        pd.DataFrame(found).to_csv(OUT, index=False, float_format="%.6g")
    rate = pd.DataFrame(found).groupby(["score", "batch"], sort=False).apart.mean().unstack()
    print(pd.DataFrame({"apart": rate.mean(axis=1), "error": rate.std(axis=1) / rate.shape[1] ** 0.5}).round(3).to_string())
