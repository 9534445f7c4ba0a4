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

FAR = 12    # scores beyond it count as it: a level within 1e-33 of 0 or 1

def _quantiles(Z, nu, folded):
    "What a t variable, or its absolute value, is at scores"
    z = np.clip(Z, -FAR, FAR)
    if folded: return -special.stdtrit(nu, special.ndtr(-z) / 2)
    return -np.sign(z) * special.stdtrit(nu, special.ndtr(-np.abs(z)))

def _scores(T, nu, folded):
    "The scores of draws from t distributions, or of their absolute values"
    if folded: return -special.ndtri(np.minimum(2 * special.stdtr(nu, -np.abs(T)), 1 - 1e-16))
    return -np.sign(T) * special.ndtri(special.stdtr(nu, -np.abs(T)))

MOST = 12   # columns that signs are summed over: 2^(MOST - 1) terms a row

def _signs(d, folded):
    "The sign vectors summed over, shape (m, d): half of them for a fold, or one"
    own = [[1, -1] if folded else [1]] * (d - 1)
    return np.array(list(itertools.product([1], *own)), dtype=float)

def _terms(x, R, nu, signs):
    "Log t densities of rows at each sign vector, and the weights of the scatter, shape (n, m)"
    d, P, (i, j) = len(R), np.linalg.inv(R), np.triu_indices(len(R), 1)
    cross = (x[:, i] * x[:, j] * P[i, j]) @ (signs[:, i] * signs[:, j]).T
    square = np.maximum((x ** 2 @ np.diag(P))[:, None] + 2 * cross, 0)
    constant = (special.gammaln((nu + d) / 2) - special.gammaln(nu / 2)
                - d / 2 * np.log(nu * np.pi) - np.linalg.slogdet(R)[1] / 2)
    return constant - (nu + d) / 2 * np.log1p(square / nu), (nu + d) / (nu + square)

def t_copula_log_density(
    Z,  # normal scores, shape (n, d)
    R,  # correlations, shape (d, d)
    nu: float, # degrees of freedom, 1 or more
    folded: bool = False, # the copula of absolute values?
) -> np.ndarray: # shape (n,), in nats
    """Return the log-density of a t copula, or of a folded one, at normal scores.

    A fold costs 2^(d - 1) terms a row. Source: Demarta and McNeil (2005), @eq-folded-copula."""
    x, d = _quantiles(Z, nu, folded), len(R)
    logs, _ = _terms(x, R, nu, _signs(d, folded))
    margins = stats.t.logpdf(x, nu).sum(1) + folded * (d - 1) * np.log(2)
    return special.logsumexp(logs, axis=1) - margins

RIDGE, DOF = 1e-6, (1, 100)     # taken off correlations; the range of degrees of freedom

def _triangle(a, d):
    "The Cholesky factor with these numbers, and the lengths its rows had"
    A = np.eye(d)
    A[np.tril_indices(d, -1)] = a
    lengths = np.linalg.norm(A, axis=1, keepdims=True)
    return A / lengths, lengths

def _correlation(a, d):
    "The correlation matrix with these numbers, shape (d, d)"
    L, _ = _triangle(a, d)
    R = (1 - RIDGE) * L @ L.T
    np.fill_diagonal(R, 1)
    return R

def _angles(R):
    "The numbers of a correlation matrix"
    L = np.linalg.cholesky(R)
    return (L / np.diag(L)[:, None])[np.tril_indices(len(R), -1)]

def _slope(Z, w, R, nu, folded):
    "The derivative by R of the weighted sum of log-densities, shape (d, d)"
    x, signs, (i, j) = _quantiles(Z, nu, folded), _signs(len(R), folded), np.triu_indices(len(R), 1)
    logs, scatter = _terms(x, R, nu, signs)
    each = w[:, None] * special.softmax(logs, axis=1) * scatter
    S = np.diag(each.sum(1) @ x ** 2)
    S[i, j] = S[j, i] = (x[:, i] * x[:, j] * (each @ (signs[:, i] * signs[:, j]))).sum(0)
    P = np.linalg.inv(R)
    return (P @ S @ P - w.sum() * P) / 2

def _loss(v, Z, w, folded, h=1e-4):
    "Minus the weighted mean log-density at numbers of R and log nu, and its gradient"
    d, nu = Z.shape[1], np.exp(v[-1])
    R, (L, lengths) = _correlation(v[:-1], d), _triangle(v[:-1], d)
    at = lambda nu: w @ t_copula_log_density(Z, R, nu, folded)
    g = 2 * (1 - RIDGE) * _slope(Z, w, R, nu, folded) @ L
    g = (g - L * (g * L).sum(1, keepdims=True)) / lengths
    by_nu = (at(nu * np.exp(h)) - at(nu * np.exp(-h))) / (2 * h)
    return -at(nu), -np.append(g[np.tril_indices(d, -1)], by_nu)

def _climb(Z, w, R, nu, folded, steps=500):
    "R and nu that are more likely for weighted scores than those given, after so many steps"
    d, bounds = Z.shape[1], [(None, None)] * (len(R) * (len(R) - 1) // 2) + [np.log(DOF)]
    found = optimize.minimize(_loss, np.append(_angles(R), np.log(nu)), jac=True, bounds=bounds,
                              args=(Z, w / w.sum(), folded), options=dict(maxiter=steps))
    return _correlation(found.x[:-1], d), float(np.clip(np.exp(found.x[-1]), *DOF))

def _t_rows(n, R, nu, rng):
    "Rows from the multivariate t distribution"
    e = rng.standard_normal((n, len(R))) @ np.linalg.cholesky(R).T
    return e / np.sqrt(rng.chisquare(nu, (n, 1)) / nu)

class FoldedT(Baseline):
    """The fitted margins under the copula of |T|, where T has a multivariate t distribution.

    Its density is a sum of 2^(d - 1) terms: `fit` refuses more than 12 columns."""
    _shapes = {"correlation": ("float64", "dd"), "df": ("float64", "")}
    def _learn(self, Z):
        n, d = Z.shape
        if d > MOST: raise ValueError(f"{d} columns: FoldedT sums over 2^{d - 1} signs for each row; "
                                      f"give at most {MOST} columns, or take a Vine")
        warn_of_few(n, d)
        off = np.corrcoef(Z.to_numpy(), rowvar=False)[np.triu_indices(d, 1)]
        rho = np.sqrt(np.clip(off.mean(), 0.01, 0.9))
        R = rho + (1 - rho) * np.eye(d)
        with threadpool_limits(1):      # several threads add up in an order of their own
            self.correlation_, self.df_ = _climb(Z.to_numpy(), np.ones(n), R, 5.0, True)
    def _draw(self, n, rng): return _scores(_t_rows(n, self.correlation_, self.df_, rng), self.df_, True)
    def _log_prob(self, Z):
        log_c = t_copula_log_density(Z, self.correlation_, self.df_, True)
        return log_c + stats.norm.logpdf(Z).sum(1)


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
