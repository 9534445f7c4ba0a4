"""What the tests share: the real table, and one small fitted model of each kind."""
import atexit
import os
import shutil
import tempfile

# Tests patch functions; what they compile must not reach the user's own cache.
os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="genmod_nb-tests.")
atexit.register(shutil.rmtree, os.environ["XDG_CACHE_HOME"], ignore_errors=True)

import pytest
from hypothesis import settings

from genmod_nb import evaluation
from genmod_nb.cli import MODELS
from genmod_nb.data import load_losses

settings.register_profile("same", derandomize=True)     # every run tries the same examples
settings.load_profile("same")

SMALL = dict(max_epochs=3, random_state=0, progress=False)
WITHOUT_LIKELIHOOD = {"GAN", "WGANGP"}      # by name, so that no other model can drop out of a test unseen


def has_likelihood(model):
    return type(model).__name__ not in WITHOUT_LIKELIHOOD


@pytest.fixture(scope="session", autouse=True)
def few_draws():
    """An ensemble measures its margins from fewer draws in the tests: they fit hundreds of them."""
    full, evaluation.CALIBRATION = evaluation.CALIBRATION, 2 ** 16
    yield
    evaluation.CALIBRATION = full


@pytest.fixture(scope="session")
def tables():
    return load_losses()


@pytest.fixture(scope="session", params=sorted(MODELS))
def kind(request):
    return MODELS[request.param]


@pytest.fixture(scope="session")
def fitted(kind, tables):
    return kind(**SMALL).fit(tables[0])
