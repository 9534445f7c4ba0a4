"""What every model of the evaluation costs, and how models of other packages do on the same rows.

    python benchmarks/evaluation.py            # the book's own models
    python benchmarks/evaluation.py peers      # CTGAN, TVAE and SDV's synthesisers too (see requirements.txt)

Split 0 of the real table, one fit at a time from constructor to fitted model, the median of three seeds; generated rows per
second from a draw of 100,000. Shapes are compiled before, where a fit is long enough to pay for it. The table goes to
benchmarks/results, where the book reads it.
"""
import sys
import time
import warnings
from pathlib import Path

import pandas as pd
from sklearn.base import clone

from genmod_nb.data import load_losses
from genmod_nb.evaluation import BASELINES, NETWORKS, External, model_scores

warnings.simplefilter("ignore")


def peers(train):
    """Synthesisers of other packages with their own defaults, behind the adapter."""
    from ctgan import CTGAN, TVAE
    from sdv.metadata import Metadata
    from sdv.single_table import CopulaGANSynthesizer, GaussianCopulaSynthesizer
    metadata = Metadata.detect_from_dataframe(train.reset_index(drop=True))
    return {"ctgan: CTGAN": External(CTGAN(cuda=False)), "ctgan: TVAE": External(TVAE(cuda=False)),
            "SDV: GaussianCopula": External(GaussianCopulaSynthesizer(metadata)),
            "SDV: CopulaGAN": External(CopulaGANSynthesizer(metadata, cuda=False))}


def fitted(model, seed, train):
    """(The model, seconds of its fit.)"""
    model = clone(model)
    own = model.get_params(deep=False)
    model.set_params(**{k: v for k, v in (("random_state", seed), ("progress", False)) if k in own})
    start = time.perf_counter()
    model.fit(train)
    return model, time.perf_counter() - start


def measure(name, model, train, test, seeds=range(3)):
    """One row per seed: what the fit and the draw cost, and the scores."""
    rows = []
    for seed in seeds:
        done, seconds = fitted(model, seed, train)
        start = time.perf_counter()
        done.sample(100_000, random_state=seed)
        rate = 100_000 / (time.perf_counter() - start)
        scores = model_scores(done, train, test, seed, n_tables=5)
        rows.append({"model": name, "seed": seed, "fit_seconds": seconds} | scores | {"sample_rate": rate})
    print(name, round(seconds, 1), flush=True)
    return rows


if __name__ == "__main__":
    train, test = load_losses()
    models = BASELINES | NETWORKS | (peers(train) if sys.argv[1:] == ["peers"] else {})
    rows = pd.DataFrame([row for name, model in models.items() for row in measure(name, model, train, test)])
    table = rows.groupby("model", sort=False)[["fit_seconds", "sample_rate", "expected_anderson_darling", "expected_kendall_error",
                                               "copula", "two_sample", "tail_error", "novelty_ratio"]].median()
    folder = Path(__file__).parent / "results"
    folder.mkdir(exist_ok=True)
    table.to_csv(folder / "evaluation.csv")
    print(table.round(3).to_string())
