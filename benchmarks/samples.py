"""A digest of what every model draws, to tell whether a change of the code has changed a number.

    python benchmarks/samples.py > after.txt     # the same in a checkout of the commit before, and `diff`

One line for each model: of its samples, of its log-likelihoods and of its history.
"""
import hashlib
import sys
import tempfile
import warnings

import numpy as np

from genmod_nb.cli import MODELS, load
from genmod_nb.data import load_losses, simulate_losses
from genmod_nb.baselines import Bootstrap, GaussianCopula, GaussianMixture, Independent, Vine
from genmod_nb.lars import LARS
from genmod_nb.many import fit_many
from genmod_nb.priors import Mixture, Vamp

QUICK = dict(max_epochs=12, random_state=3, progress=False)
ARGUMENTS = {
    "vae": [{}, dict(compile=True), dict(sigma="conditional", likelihood="student"), dict(likelihood="multivariate_t", n_draws=4),
            dict(prior=Mixture(5)), dict(prior=Vamp(5)), dict(prior=LARS()), dict(margins="log"), dict(margins="raw"), dict(margins="identity", sigma=1.0)],
    "wae": [{}, dict(divergence="mmd", lam=10.0), dict(schedule="arima", max_epochs=50, early_stopping=False)], "density": [{}, dict(prior=Mixture(4))],
    "ensemble": [dict(members=2), dict(members=2, calibrated=False)],
}


def digest(*arrays):
    return hashlib.sha256(b"".join(np.ascontiguousarray(a, dtype=float).tobytes() for a in arrays)).hexdigest()[:16]


def told(model, test):
    try:
        likelihood = model.score_samples(test.head(50))
    except AttributeError:
        likelihood = []
    return digest(model.sample(500, random_state=1)), digest(likelihood), digest(model.history_.value if hasattr(model, "history_") else [])


def main():
    warnings.simplefilter("ignore")
    tables = {"real": load_losses(), "law": (simulate_losses(300, 0), simulate_losses(100, 1))}
    for name, (train, test) in tables.items():
        for kind, model in MODELS.items():
            for arguments in ARGUMENTS.get(kind, [{}]):
                fitted = model(**QUICK | arguments).fit(train)
                with tempfile.TemporaryDirectory() as folder:
                    again = load(fitted.save(f"{folder}/m"))
                print(name, kind, arguments, *told(fitted, test), *told(again, test))
        stack = fit_many([MODELS["vae"](**QUICK | dict(random_state=s)) for s in range(5)], train, n_jobs=1, progress=False)
        print(name, "stack", *[told(m, test)[0] for m in stack])
        for baseline in (Bootstrap(), Independent(), GaussianCopula(), GaussianMixture(), Vine()):
            print(name, type(baseline).__name__, *told(baseline.fit(train), test))
        sys.stdout.flush()


if __name__ == "__main__":
    main()
