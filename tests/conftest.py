"""What the tests share: the real table, and one small fitted model of each kind."""
import atexit
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

# Tests patch functions; what they compile must not reach the user's own cache. All workers share one, made by the process that starts them.
if "PYTEST_XDIST_WORKER" not in os.environ:
    os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="genmod_nb-tests.")
    atexit.register(shutil.rmtree, os.environ["XDG_CACHE_HOME"], ignore_errors=True)

# A background job of a script ignores Ctrl-C, and so would all that the tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

import pytest
from hypothesis import settings

from genmod_nb import ensemble
from genmod_nb.cli import MODELS
from genmod_nb.data import load_losses
from genmod_nb.lars import LARS

settings.register_profile("same", derandomize=True)     # every run tries the same examples
settings.load_profile("same")

SMALL = dict(max_epochs=3, random_state=0, progress=False)
WITHOUT_LIKELIHOOD = {"GAN", "WGANGP"}      # by name, so that no other model can drop out of a test unseen


# More members, or a larger network in the prior, show nothing else, and take most of the time of a short fit
SMALLER = {"Ensemble": dict(members=2), "RadialEnsemble": dict(members=2, tails=(4.0, None)), "Density": dict(prior=LARS(n_proposals=64, hidden=(8,)))}


def small(kind, **more):
    """An unfitted model of the kind that is soon fitted."""
    return kind(**SMALL | SMALLER.get(kind.__name__, {}) | more)


def has_likelihood(model):
    return type(model).__name__ not in WITHOUT_LIKELIHOOD


@pytest.fixture(scope="session", autouse=True)
def few_draws():
    """An ensemble measures its margins from fewer draws in the tests: they fit hundreds of them."""
    full, ensemble.CALIBRATION = ensemble.CALIBRATION, 2 ** 16
    yield
    ensemble.CALIBRATION = full


@pytest.fixture(scope="session")
def tables():
    return load_losses()


@pytest.fixture(scope="session", params=sorted(MODELS))
def kind(request):
    return MODELS[request.param]


@pytest.fixture(scope="session")
def fitted(kind, tables):
    return small(kind).fit(tables[0])


@pytest.fixture(scope="session")
def book(tmp_path_factory):
    """A copy of the project in which the notebooks are processed, as for Quarto (_proc/), and rendered, without Quarto (_docs/)."""
    here, root = Path(__file__).parents[1], tmp_path_factory.mktemp("project")
    for name in ("nbs", "genmod_nb"):
        shutil.copytree(here / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("settings.ini", "_quarto.yml"):
        shutil.copy(here / name, root / name)
    if (here / "node_modules").is_dir():
        (root / "node_modules").symlink_to(here / "node_modules")
    subprocess.run([sys.executable, root / "nbs" / "_offline" / "render.py"], check=True, stdout=subprocess.DEVNULL)
    return root


def pytest_addoption(parser):
    parser.addoption("--full", action="store_true", help="faults and sizes in full, instead of a sample of them")


@pytest.fixture(scope="session")
def full(request):
    return request.config.getoption("--full")
