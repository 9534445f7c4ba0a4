"""What the tests share: the real table, and one small fitted model of each kind."""
import pytest
from hypothesis import settings

from genmod_nb.cli import MODELS
from genmod_nb.data import load_losses

settings.register_profile("same", derandomize=True)     # every run tries the same examples
settings.load_profile("same")

SMALL = dict(max_epochs=3, random_state=0, progress=False)


@pytest.fixture(scope="session")
def tables():
    return load_losses()


@pytest.fixture(scope="session", params=sorted(MODELS))
def kind(request):
    return MODELS[request.param]


@pytest.fixture(scope="session")
def fitted(kind, tables):
    return kind(**SMALL).fit(tables[0])
