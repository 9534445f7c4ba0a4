"""What a t copula folded over signs adds to a vine, over the splits of the real table and tables of the simulated law.

    python benchmarks/folded_t.py [SPLITS]     # 32 unless given; a minute or two; writes results/folded_t.csv

Losses that are absolute values have a folded distribution: a density is a sum over the signs that are not known. Its copula has
seven numbers on four columns, six correlations and the degrees of freedom. A line is a split: the copula's part of the held-out
log-likelihood less the vine's, in nats a row. The real table is split by seed, 720 rows against 537; a table of the law has 720
rows against 5,000. The intervals are those of the mean over these splits as if they were independent; for the real table, whose
splits share rows, the second allows for that (Nadeau and Bengio 2003).
"""
import itertools
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import optimize, special, stats
from threadpoolctl import threadpool_limits

from genmod_nb.baselines import Baseline, Vine
from genmod_nb.data import load_losses, simulate_losses
from genmod_nb.study import SHARED
from genmod_nb.tables import warn_of_few

OUT = Path(__file__).parent / "results" / "folded_t.csv"

FAR = 12    # scores beyond it count as it: a level within 1e-33 of 1
DOF = (1, 100)      # the range of degrees of freedom


def quantiles(Z, nu):
    """What |T| is at normal scores."""
    return -special.stdtrit(nu, special.ndtr(-np.clip(Z, -FAR, FAR)) / 2)


def t_terms(x, R, nu, signs):
    """Log t densities of rows at each vector of signs, shape (n, signs)."""
    d, P, (i, j) = len(R), np.linalg.inv(R), np.triu_indices(len(R), 1)
    square = np.maximum((x ** 2 @ np.diag(P))[:, None] + 2 * (x[:, i] * x[:, j] * P[i, j]) @ (signs[:, i] * signs[:, j]).T, 0)
    constant = special.gammaln((nu + d) / 2) - special.gammaln(nu / 2) - d / 2 * np.log(nu * np.pi) - np.linalg.slogdet(R)[1] / 2
    return constant - (nu + d) / 2 * np.log1p(square / nu)


def log_density(Z, R, nu):
    """Log-density of the folded copula at normal scores, shape (n,): by symmetry the first sign is one."""
    d, x = len(R), quantiles(Z, nu)
    signs = np.array([(1, *s) for s in itertools.product([1, -1], repeat=d - 1)], float)
    return special.logsumexp(t_terms(x, R, nu, signs), axis=1) - stats.t.logpdf(x, nu).sum(1) - (d - 1) * np.log(2)


def triangle(a, d):
    """A correlation matrix as L L', from d (d - 1) / 2 numbers; the rows of L have length one."""
    L = np.eye(d)
    L[np.tril_indices(d, -1)] = a
    return L / np.linalg.norm(L, axis=1, keepdims=True)


class FoldedT(Baseline):
    "The fitted margins under the copula of |T|, where T has a multivariate t distribution"
    _shapes = {"correlation": ("float64", "dd"), "df": ("float64", "")}
    def _learn(self, Z):
        Z, d = Z.to_numpy(), Z.shape[1]
        warn_of_few(*Z.shape)
        R = lambda v: triangle(v[:-1], d) @ triangle(v[:-1], d).T
        loss = lambda v: -log_density(Z, R(v), np.exp(v[-1])).mean()
        start = np.append(np.full(d * (d - 1) // 2, 0.5), np.log(5))
        with threadpool_limits(1):      # several threads add up in an order of their own
            found = optimize.minimize(loss, start, bounds=[(None, None)] * (len(start) - 1) + [np.log(DOF)])
        self.correlation_, self.df_ = R(found.x), float(np.exp(found.x[-1]))
    def _log_prob(self, Z): return log_density(Z, self.correlation_, self.df_) + stats.norm.logpdf(Z).sum(1)
    def _draw(self, n, rng):
        T = rng.standard_normal((n, len(self.correlation_))) @ np.linalg.cholesky(self.correlation_).T
        T /= np.sqrt(rng.chisquare(self.df_, (n, 1)) / self.df_)
        return -special.ndtri(np.minimum(2 * special.stdtr(self.df_, -np.abs(T)), 1 - 1e-16))


TABLES = {"real": lambda s: load_losses(random_state=s), "law": lambda s: (simulate_losses(720, 2 * s), simulate_losses(5000, 2 * s + 1))}


def gains(splits):
    """A row for each split and table."""
    for seed in range(splits):
        for table, of in TABLES.items():
            train, test = of(seed)
            folded = FoldedT().fit(train)
            yield dict(table=table, seed=seed, gain=folded.copula_score(test) - Vine().fit(train).copula_score(test), df=folded.df_)


def summary(rows):
    """Mean gain of each table, half the widths of both 95 % intervals, and the share of splits that are won."""
    at = rows.groupby("table").gain
    n, t = at.count(), stats.t.ppf(0.975, at.count() - 1)
    shared = np.array([SHARED.get(table, 0) for table in n.index])
    return pd.DataFrame({"gain": at.mean(), "naive": t * at.std() / n ** 0.5, "shared rows": t * at.std() * (1 / n + shared) ** 0.5,
                         "won": at.agg(lambda g: (g > 0).mean()), "splits": n})


def check():
    """The density integrates to one (against independence, by its own draws and independent ones), and its draws have it."""
    model = FoldedT().fit(load_losses(random_state=0)[0])
    rng = np.random.default_rng(0)
    points = np.vstack([model._draw(40_000, rng), rng.standard_normal((40_000, 4))])
    share = 2 / (1 + np.exp(stats.norm.logpdf(points).sum(1) - model._log_prob(points)))
    error = share.std() / len(share) ** 0.5
    assert abs(share.mean() - 1) < 4 * error, (share.mean(), error)
    return share.mean(), error


if __name__ == "__main__":
    print("integral of the density: %.4f, error %.4f" % check())
    rows = pd.DataFrame(gains(int(sys.argv[1]) if len(sys.argv) > 1 else 32))
    rows.to_csv(OUT, index=False, float_format="%.6g")
    print(summary(rows).round(4).to_string())
