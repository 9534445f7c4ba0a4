"""What some models of the evaluation cost, and how models of other packages do on the same rows.

    python benchmarks/evaluation.py            # the book's own models
    python benchmarks/evaluation.py peers      # CTGAN, TVAE and SDV's synthesisers too (see requirements.txt)

Split 0 of the real table, one fit at a time from constructor to fitted model, one seed; generated rows per second from a draw
of 100,000; the expected distances from five tables. The table goes to benchmarks/results.
"""
import sys
import time
import warnings
from pathlib import Path

import pandas as pd
from sklearn.base import clone

from genmod_nb.data import load_losses
from genmod_nb.study import model_scores
from genmod_nb.evaluation import External
from genmod_nb.evaluation import BASELINES, NETWORKS

warnings.simplefilter("ignore")


class Single:
    """A synthesiser of SDV 2, which takes and gives {name: table}, on a single table."""
    def __init__(self, synthesizer):
        self.synthesizer = synthesizer

    def fit(self, table):
        self.synthesizer.fit({"losses": table})

    def sample(self, n):
        rows = self.synthesizer.sample(n)
        return rows["losses"] if isinstance(rows, dict) else rows


def peers(train):
    """Synthesisers of other packages with their own defaults, behind the adapter."""
    from ctgan import CTGAN, TVAE
    from sdv.metadata import Metadata
    from sdv.single_table import CopulaGANSynthesizer, GaussianCopulaSynthesizer
    metadata = Metadata.load_from_dict({"tables": {"losses": {"columns": {c: {"sdtype": "numerical"} for c in train}}}})
    return {"ctgan: CTGAN": External(CTGAN(cuda=False)), "ctgan: TVAE": External(TVAE(cuda=False)),
            "SDV: GaussianCopula": External(Single(GaussianCopulaSynthesizer(metadata))),
            "SDV: CopulaGAN": External(Single(CopulaGANSynthesizer(metadata)))}


def fitted(model, seed, train):
    """(The model, seconds of its fit.)"""
    model = clone(model)
    own = model.get_params(deep=False)
    model.set_params(**{k: v for k, v in (("random_state", seed), ("progress", False)) if k in own})
    start = time.perf_counter()
    model.fit(train)
    return model, time.perf_counter() - start


def measure(name, model, train, test, seed=0):
    """What the fit and the draw cost, and the scores."""
    done, seconds = fitted(model, seed, train)
    start = time.perf_counter()
    done.sample(100_000, random_state=seed)
    rate = 100_000 / (time.perf_counter() - start)
    print(name, round(seconds, 1), flush=True)
    return {"model": name, "fit_seconds": seconds} | model_scores(done, train, test, seed, n_tables=5) | {"sample_rate": rate}


if __name__ == "__main__":
    train, test = load_losses()
    own = {name: (BASELINES | NETWORKS)[name] for name in ("Bootstrap", "Vine", "VAE", "GAN", "Ensemble")}
    models = own | (peers(train) if sys.argv[1:] == ["peers"] else {})
    rows = pd.DataFrame([measure(name, model, train, test) for name, model in models.items()])
    table = rows.set_index("model")[["fit_seconds", "sample_rate", "expected_anderson_darling", "expected_kendall_error",
                                     "copula", "two_sample", "tail_error", "novelty_ratio"]]
    folder = Path(__file__).parent / "results"
    folder.mkdir(exist_ok=True)
    table.to_csv(folder / "evaluation.csv")
    print(table.round(3).to_string())
