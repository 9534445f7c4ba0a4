"""What it adds to sum a decoder's noise over the signs that absolute returns have lost: on development tables.

    python benchmarks/folds.py [SPLITS]     # 1 unless given; some 10 minutes a split on two cores; writes results/folds.csv

Settings are chosen on tables that judge nothing in the book: absolute returns of other names, of the book's names in other years, and
draws of laws that are not the book's, one of which has no signs to lose. Each line is one model on one split, 720 rows against the
others: the copula's part of its held-out log-likelihood less the vine's, in nats a row, and the seconds of its fit.
"""
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats
from skfolio.datasets import load_sp500_dataset

from genmod_nb.baselines import Vine
from genmod_nb.copulas import FoldedT
from genmod_nb.ensemble import Ensemble
from genmod_nb.vae import VAE

OUT = Path(__file__).parent / "results" / "folds.csv"
RETURNS = {"technology 2018-22": (["AAPL", "AMD", "MSFT", "HD"], "2018", "2022"), "pharma 2013-17": (["JNJ", "PFE", "MRK", "LLY"], "2013", "2017"),
           "the book's names 2003-07": (["CVX", "JPM", "BAC", "XOM"], "2003", "2007"), "staples 2018-22": (["KO", "PEP", "PG", "WMT"], "2018", "2022")}
NOISE = dict(likelihood="multivariate_t", sigma="conditional", n_draws=8, weight_decay=0.002, batch_size=64, random_state=0, progress=False)
MODELS = {"folded t": FoldedT(), "VAE": VAE(random_state=0, progress=False), "VAE, folded": VAE(folded=True, random_state=0, progress=False),
          "VAE, multivariate t": VAE(**NOISE), "VAE, multivariate t, folded": VAE(**NOISE, folded=True),
          "Ensemble": Ensemble(random_state=0, progress=False, folded=False), "Ensemble, folded": Ensemble(random_state=0, progress=False, folded=True)}


def named(rows):
    return pd.DataFrame(rows).set_axis([f"f{j + 1}" for j in range(4)], axis=1)


def tables(seed):
    """{name: (train, test)}"""
    prices, rng = np.log(load_sp500_dataset()), np.random.default_rng(seed)
    for name, (names, first, last) in RETURNS.items():
        rows = named(prices[names].diff().abs().loc[first:last])
        order = rng.permutation(len(rows))
        yield name, (rows.iloc[np.sort(order[:720])], rows.iloc[np.sort(order[720:])])
    R = np.full((4, 4), 0.5) + 0.5 * np.eye(4)
    T = stats.multivariate_t(np.zeros(4), R, 4).rvs(5720, random_state=rng)
    losses = 0.01 * stats.halfnorm.isf(stats.t.sf(T, 4))
    yield "law: t copula", (named(losses[:720]), named(losses[720:]))
    yield "law: folded t", (named(0.01 * np.abs(T[:720])), named(0.01 * np.abs(T[720:])))


if __name__ == "__main__":
    rows = []
    for seed in range(int(sys.argv[1]) if len(sys.argv) > 1 else 1):
        for table, (train, test) in tables(seed):
            vine = Vine().fit(train).copula_score(test)
            for name, model in MODELS.items():
                start = time.perf_counter()
                gain = model.fit(train).copula_score(test) - vine
                rows.append(dict(table=table, seed=seed, model=name, gain=gain, seconds=time.perf_counter() - start))
                pd.DataFrame(rows).to_csv(OUT, index=False, float_format="%.6g")
    print(pd.DataFrame(rows).pivot_table("gain", "model", "table", sort=False).round(3).to_string())
