"""What margins cost and how far they reach: held-out likelihood, far quantiles, and integrals of every model's density.

    python benchmarks/margins.py likelihood    # nats behind the best single candidate; 32 splits, 16 draws of the law, ten distributions
    python benchmarks/margins.py quantile      # ratio of the 99.99 % quantile to the truth
    python benchmarks/margins.py integral      # of every model and baseline on four tables; two hours, goes on where it stopped
    python benchmarks/margins.py thresholds    # likelihood and far quantiles under other thresholds, on fresh seeds; minutes

Tables go to benchmarks/results. The distributions are those of the list below, none of which is the law of the book.
"""
import sys
import time
import warnings
from itertools import product
from pathlib import Path
from unittest import mock

import joblib
import numpy as np
import pandas as pd
from scipy import special, stats

from genmod_nb import families, margin, tilt
from genmod_nb.baselines import GaussianCopula, GaussianMixture, Independent, Vine
from genmod_nb.cli import MODELS
from genmod_nb.data import LossLaw, load_losses, simulate_losses
from genmod_nb.lars import LARS
from genmod_nb.margin import GaussianMargin, only
from genmod_nb.vae import VAE

RESULTS = Path(__file__).parent / "results"
COMPETITORS = ["half-t", "Burr XII", "log-normal", "gamma", "generalised gamma"]


def cauchy(n, seed):
    x = np.abs(stats.cauchy.rvs(size=3 * n, random_state=seed))
    return x[x < 1000][:n]


def two_modes(n, seed):
    rng = np.random.RandomState(seed)
    return np.exp(np.where(rng.rand(n) < 0.5, -1.5, 1.5) + 0.5 * rng.randn(n))


def draws(dist):
    return lambda n, seed: dist.rvs(size=n, random_state=seed)


DISTRIBUTIONS = {
    "gamma, shape 0.7": draws(stats.gamma(0.7)), "Weibull 0.6": draws(stats.weibull_min(0.6)),
    "log-normal 1.2": draws(stats.lognorm(1.2)), "inverse Gaussian": draws(stats.invgauss(1.0)),
    "Pareto 2.5 above 1": draws(stats.pareto(2.5)), "two log-normal modes": two_modes, "|Cauchy| below 1,000": cauchy,
    "beta(2, 5)": draws(stats.beta(2, 5)), "half-logistic": draws(stats.halflogistic()), "folded normal, mean 1": draws(stats.foldnorm(1.0)),
}
QUANTILES = {"log-normal 1.2": stats.lognorm(1.2), "Weibull 0.6": stats.weibull_min(0.6), "Pareto 2.5 above 1": stats.pareto(2.5)}


def kernel_on_logs(x, test):
    """Held-out log-density of a Gaussian kernel on the logarithms (Silverman's rule); atoms have their share."""
    fitted = GaussianMargin().fit(x)
    out, rest = fitted.log_pdf(test), ~fitted.at_atom(test)
    logs = np.log(x[~fitted.at_atom(x)])
    spread = min(logs.std(ddof=1), np.subtract(*np.quantile(logs, [0.75, 0.25])) / 1.349)
    width = 0.9 * spread * len(logs) ** -0.2
    at = np.log(np.maximum(test[rest], 1e-12))
    out[rest] = (special.logsumexp(-0.5 * ((at[:, None] - logs) / width) ** 2, axis=1) - np.log(len(logs) * width * np.sqrt(2 * np.pi)) - at + np.log(fitted.rest))
    return out


def column_scores(x, test):
    """Nats per row of the margin and of each candidate on its own."""
    chosen = GaussianMargin().fit(x)
    rows = {"chosen": chosen.log_pdf(test).mean()} | {name: only(name)().fit(x).log_pdf(test).mean() for name in COMPETITORS}
    return rows | {"kernel on logs": kernel_on_logs(x, test).mean(), "family": chosen.about()["family"], "corrected": bool(chosen.gains[0])}


def likelihood():
    tasks = []
    for seed in range(32):
        train, test = load_losses(random_state=seed)
        tasks += [("real table", seed, train[c].to_numpy(), test[c].to_numpy()) for c in train]
    for seed in range(16):
        train, test = simulate_losses(720, seed).to_numpy(), simulate_losses(5000, 1000 + seed).to_numpy()
        tasks += [("law", seed, a, b) for a, b in zip(train.T, test.T)]
    for name, draw in DISTRIBUTIONS.items():
        tasks += [(name, seed, draw(720, seed), draw(5000, 10_000 + seed)) for seed in range(50)]
    scores = joblib.Parallel(n_jobs=2)(joblib.delayed(column_scores)(x, test) for *_, x, test in tasks)
    rows = pd.DataFrame([dict(table=t, seed=s) | own for (t, s, *_), own in zip(tasks, scores)])
    rows.to_csv(RESULTS / "margins_columns.csv", index=False)
    names = ["chosen", *COMPETITORS, "kernel on logs"]
    total = rows.groupby(["table", "seed"], sort=False)[names].sum().groupby("table", sort=False).mean()     # a row: all its columns
    best = total[names[1:]].max(axis=1)
    return pd.DataFrame({"chosen": total.chosen, "best single": total[names[1:]].idxmax(axis=1), "its nats": best, "behind": best - total.chosen})


def quantile():
    level, rows = np.array([special.ndtri(1 - 1e-4)]), []
    truth = LossLaw().ppf(np.full(4, 1 - 1e-4))
    for seed in range(64):
        for j, x in enumerate(simulate_losses(720, seed).to_numpy().T):
            rows.append(dict(distribution="law", column=j, seed=seed, ratio=GaussianMargin().fit(x).inverse(level)[0] / truth[j]))
        for name, dist in QUANTILES.items():
            x = dist.rvs(size=720, random_state=seed)
            rows.append(dict(distribution=name, column=0, seed=seed, ratio=GaussianMargin().fit(x).inverse(level)[0] / dist.isf(1e-4)))
    return pd.DataFrame(rows).groupby("distribution", sort=False).ratio.agg(["mean", "median", "std"])


THRESHOLDS = [("default", 2.0, 3.0), *(("one number more", t, 3.0) for t in (1.0, 3.0, 5.0)), *(("Pareto tail", 2.0, t) for t in (1.0, 2.0, 5.0))]


def under(gain, pareto, x):
    """A margin fitted with other thresholds."""
    with mock.patch.object(families, "GAIN", gain), mock.patch.object(tilt, "GAIN", gain), mock.patch.object(margin, "PARETO", pareto):
        return GaussianMargin().fit(x)


def threshold_rows(table, x, test, truth):
    """One row for each setting: nats, what was chosen, and the ratio of the 99.99 % quantile to the truth, where that is known."""
    level, rows = np.array([special.ndtri(1 - 1e-4)]), []
    for varied, gain, pareto in THRESHOLDS:
        m = under(gain, pareto, x)
        rows.append(dict(varied=varied, gain=gain, pareto=pareto, table=table, nats=m.log_pdf(test).mean(), corrected=m.gains[0] > 0, tail=m.gains[1] > 0, ratio=m.inverse(level)[0] / truth))
    return rows


def thresholds():
    law, tasks = LossLaw().ppf(np.full(4, 1 - 1e-4)), []
    for seed in range(500, 516):
        train, test = load_losses(random_state=seed)
        tasks += [("real table", train[c].to_numpy(), test[c].to_numpy(), np.nan) for c in train]
        train, test = simulate_losses(720, seed).to_numpy(), simulate_losses(5000, 1000 + seed).to_numpy()
        tasks += [("law", a, b, t) for a, b, t in zip(train.T, test.T, law)]
    for name, draw in DISTRIBUTIONS.items():
        known = QUANTILES[name].isf(1e-4) if name in QUANTILES else np.nan
        tasks += [(name, draw(720, seed), draw(5000, 10_000 + seed), known) for seed in range(500, 524)]
    rows = pd.DataFrame([row for task in tasks for row in threshold_rows(*task)])
    rows["off"] = np.abs(np.log(rows.ratio))
    groups = rows.groupby(["varied", "gain", "pareto", "table"], sort=False)
    return groups.agg(nats=("nats", "mean"), corrected=("corrected", "mean"), tail=("tail", "mean"), ratio=("ratio", "median"), off=("off", "mean"))


def tables():
    train = load_losses()[0]
    cap = train.quantile(0.87)
    return {"real": train, "rounded": train.round(2), "capped": train.clip(upper=cap, axis=1), "zero-heavy": train.where(train > train.quantile(0.3), 0.0)}


def integral_of(model, X, rows=10_000):
    """The integral of a density over half of its own draws and half of independent margins: 1 if density and sampler are one."""
    fitted, other = model.fit(X), Independent().fit(X)
    points = pd.concat([fitted.sample(rows // 2, random_state=1), other.sample(rows // 2, random_state=2)])
    own, alone = fitted.score_samples(points), other.score_samples(points)
    share = 2 / (1 + np.exp(alone - own))
    # each half is a sample of its own
    halves = share[:rows // 2], share[rows // 2:]
    value, error = np.mean([h.mean() for h in halves]), 0.5 * np.sqrt(sum(h.var() / len(h) for h in halves))
    drawn = fitted.sample(100_000, random_state=3)
    worst = 0.0
    for c, m in zip(X, fitted.margins_.columns_):
        for a, mass in zip(m.atoms, m.masses):
            worst = max(worst, abs((drawn[c] == a).mean() - mass) / np.sqrt(mass * (1 - mass) / len(drawn)))
    outside = int(sum(((drawn[c] < m.lower) | (drawn[c] > m.upper)).sum() for c, m in zip(X, fitted.margins_.columns_)))
    return dict(integral=value, error=error, atoms_z=worst, outside=outside)


def integral():
    """A line for each table and model, kept as it is reached: what stands in the table already is not computed again."""
    quick = dict(progress=False, random_state=0)
    models = {name: MODELS[name](**quick) for name in ("vae", "wae", "density")}
    models |= {"lars": VAE(prior=LARS(), **quick)} | {type(b).__name__: b for b in (Independent(), GaussianCopula(), GaussianMixture(random_state=0), Vine())}
    models |= {name: MODELS[name](**quick) for name in ("ensemble", "radial")}
    path = RESULTS / "margins_integral.csv"
    rows = pd.read_csv(path).to_dict("records") if path.exists() else []
    done = {(r["table"], r["model"]) for r in rows}
    for (table, X), (name, model) in product(tables().items(), models.items()):
        if (table, name) not in done:
            started = time.time()
            rows.append(dict(table=table, model=name) | integral_of(model, X) | dict(seconds=time.time() - started))
            print(rows[-1], flush=True)
            pd.DataFrame(rows).to_csv(path, index=False)
    return pd.DataFrame(rows).set_index(["table", "model"])


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    for what in sys.argv[1:]:
        table = {"likelihood": likelihood, "quantile": quantile, "integral": integral, "thresholds": thresholds}[what]()
        table.to_csv(RESULTS / f"margins_{what}.csv")
        print(table.round(4).to_string())
