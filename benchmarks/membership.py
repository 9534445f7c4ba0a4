"""The attack on models of 720 and of 50 rows, and the p-values of a perfect generator: `python benchmarks/membership.py [REPEATS]`.

Rows are draws of the simulated law, 537 of them held out. An AUC of 1/2 is chance. Tables go to benchmarks/results; about ten minutes.
"""
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from genmod_nb.baselines import Bootstrap, GaussianCopula, Truth, Vine
from genmod_nb.checks import membership_attack, permutation_p
from genmod_nb.data import simulate_losses
from genmod_nb.ensemble import Ensemble
from genmod_nb.vae import VAE

RESULTS = Path(__file__).parent / "results"
SCORES = ["anderson_darling", "kendall_error", "tail_error", "energy_distance"]


def attacks(repeats):
    """Mean, and standard deviation over draws of the law, of the AUC by model and number of rows."""
    rows = []
    for seed in range(100, 100 + repeats):       # not the draws that the attack was chosen on
        held = simulate_losses(537, 1000 + seed)
        for n in (720, 50):
            train, plain = simulate_losses(n, seed), dict(random_state=seed, progress=False)
            for model in (Bootstrap(), Truth(), GaussianCopula(), Vine(), VAE(**plain), *([Ensemble(**plain)] if seed < 100 + max(repeats // 4, 2) else [])):
                rows.append(dict(model=type(model).__name__, n=n, auc=membership_attack(model.fit(train), train, held, seed)["auc"]))
    return pd.DataFrame(rows).groupby(["model", "n"]).auc.agg(["mean", "std", "count"]).round(3)


def p_values(repeats, digits, scale=1.0):
    """Kolmogorov-Smirnov p-values against a uniform law, and the share of p-values up to 0.05, by score."""
    found, rng = [], np.random.default_rng(0)
    for seed in range(repeats):
        real = simulate_losses(80, seed).round(digits)
        fake = (scale * Truth().fit(real).sample(80, random_state=5000 + seed)).round(digits)
        # 39 relabellings: p is a multiple of 1/40, and less a random part of that it is continuous
        found.append(permutation_p(real, fake, permutations=39, random_state=seed, progress=False)[SCORES])
    p = pd.DataFrame(found)
    exact = p - rng.random(p.shape) / 40
    return pd.DataFrame({"KS": exact.apply(lambda x: stats.kstest(x, "uniform").pvalue), "p up to 0.05": (p <= 0.05).mean()}).round(3)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    repeats = int(sys.argv[1]) if len(sys.argv) > 1 else 8
    uniform = pd.concat({"as drawn": p_values(200, 12), "rounded to whole per cents": p_values(200, 2), "30 % too large": p_values(50, 12, 1.3)}, names=["rows", "score"])
    uniform.to_csv(RESULTS / "membership_p.csv")
    print(uniform.to_string(), flush=True)
    found = attacks(repeats)
    found.to_csv(RESULTS / "membership.csv")
    print(found.to_string())
