"""A fitted model is nobody's scratch: other fits, threads, forks, interruptions and settings leave it alone."""
import copy
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import warnings
from contextlib import contextmanager

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.neighbors import KernelDensity

from conftest import SMALL, small
from test_contract import diverging
from genmod_nb import engine, surroundings
from genmod_nb.engine import run_epoch, train_members
from genmod_nb.member import Member
from genmod_nb.many import _fit_each
from genmod_nb.seam import GenerativeModule, Player
from genmod_nb.surroundings import steady
from genmod_nb.cli import MODELS
from genmod_nb.margins import Margins
from genmod_nb.baselines import Bootstrap, GaussianCopula, GaussianMixture, Vine
from genmod_nb.copulas import BaggedVines, FoldedT, SplineFlow, TCopulaMixture
from genmod_nb.evaluation import External
from genmod_nb.gan import last_weights
from genmod_nb.lars import Density, LARS
from genmod_nb.study import posterior, without_noise
from genmod_nb.model import GenerativeModel
from genmod_nb.many import fit_many
from genmod_nb.vae import VAE

FITS = {name: small(kind, compile=False) for name, kind in MODELS.items()}
FITS |= {"lars": VAE(prior=LARS(hidden=(8,)), **SMALL, compile=False), "vine": Vine(), "bootstrap": Bootstrap(),
         "copula": GaussianCopula(), "mixture": GaussianMixture(random_state=0), "external": External(KernelDensity(bandwidth=0.01)),
         "bagged vines": BaggedVines(members=2, random_state=0), "folded t": FoldedT(), "t copulas": TCopulaMixture(n_init=1, random_state=0),
         "spline flow": SplineFlow(max_epochs=2, random_state=0)}


def drawn(model):
    return np.asarray(model.sample(6, random_state=1))


def facts(model):
    """Everything that a fit has left, as bytes and texts."""
    left = {k: v for k, v in vars(model).items() if k.endswith("_") and not k.startswith("_")}
    return {k: pickle.dumps(v) for k, v in left.items() if k not in ("vine_", "vines_")} | {"sample": drawn(model).tobytes()}


@contextmanager
def fitting(model, X):
    """Within: the model is fitted in another thread, again and again."""
    end, errors = threading.Event(), []

    def work():
        while not end.is_set():
            try:
                model.fit(X)
            except Exception as e:
                errors.append(e)
                return
    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join()
    assert not errors, errors


# ------------------------------------------------------------------ another fit
@pytest.mark.parametrize("shape", [dict(), dict(encoder=(16,), decoder=(16, 16)), dict(latent_dim=3, likelihood="student", sigma="conditional")],
                         ids=["default", "narrow", "student"])
def test_three_hundred_copies_during_a_fit(tables, tmp_path, shape, full):
    """A hundred for each of three shapes (here, fifteen): saved, pickled and copied deeply in turn, while a model of the same shape is trained."""
    arguments = dict(shape, compile=False, progress=False)
    model = VAE(**arguments, random_state=0, max_epochs=5).fit(tables[0])
    weights, score = {k: v.clone() for k, v in model.module_.state_dict().items()}, model.score(tables[1].head(20))
    ways = [lambda: VAE.load(model.save(tmp_path / "model")), lambda: pickle.loads(pickle.dumps(model)), lambda: copy.deepcopy(model)]
    with fitting(VAE(**arguments, random_state=1, max_epochs=30), tables[0]):
        for k in range(100 if full else 15):
            found = ways[k % 3]().module_.state_dict()
            assert all(torch.equal(v, weights[n]) for n, v in found.items()), k
        assert model.score(tables[1].head(20)) == score


@pytest.mark.parametrize("path", ["eager", "compiled"])
def test_members_of_a_stack_are_their_own(tables, path, full):
    if path == "compiled" and not full:
        pytest.skip("compiles for twenty seconds: with --full")
    models = [VAE(encoder=(8,), decoder=(8,), random_state=s, max_epochs=3, compile=path == "compiled", progress=False) for s in range(2)]
    first, _ = fit_many(models, tables[0], n_jobs=1, progress=False)
    want = drawn(first)
    with fitting(FitMany(models, tables[0]), None):
        for _ in range(30):
            assert (drawn(copy.deepcopy(first)) == want).all() and (drawn(first) == want).all()
    assert first.path_ == path


class FitMany:
    def __init__(self, models, X):
        self.models, self.X = models, X

    def fit(self, _):
        fit_many(self.models, self.X, n_jobs=1, progress=False)


def test_a_refit_is_seen_as_a_whole(tables):
    """Samples drawn while the model itself is fitted again are those of the one fit or of the other."""
    small, large = tables[0], 1000 * tables[0]
    model = VAE(**SMALL, compile=False)
    either = {drawn(clone(model).fit(X)).tobytes() for X in (small, large)}
    model.fit(small)
    turns = iter(range(10 ** 6))

    class Turn:
        def fit(self, _):
            model.fit(large if next(turns) % 2 else small)
    with fitting(Turn(), None):
        seen = {drawn(model).tobytes() for _ in range(60)}
    assert seen <= either


def test_what_was_handed_out_outlives_a_refit(tables):
    model = VAE(prior=LARS(hidden=(8,)), **SMALL, compile=False).fit(tables[0])
    prior, before = model.prior_, model.prior_.sample(20, random_state=0)
    module = model.module_
    weights = {k: v.clone() for k, v in module.state_dict().items()}
    model.set_params(random_state=7).fit(tables[1])
    assert np.array_equal(prior.sample(20, random_state=0), before)
    assert all(torch.equal(v, weights[k]) for k, v in module.state_dict().items())
    assert not np.array_equal(model.prior_.sample(20, random_state=0), before)


def test_numbers_set_later_do_not_change_the_fit(tables):
    model = VAE(sigma=0.5, **SMALL, compile=False).fit(tables[0])
    want, score = drawn(model), model.score(tables[1])
    model.set_params(sigma=3.0)
    assert (drawn(model) == want).all() and model.score(tables[1]) == score


# ------------------------------------------------------------------ all or nothing
def refused(model, tables, monkeypatch):
    model.fit(tables[0].assign(f2=np.nan))


def one_column(model, tables, monkeypatch):
    model.fit(tables[0][["f1"]])


def interrupted(model, tables, monkeypatch):
    """In the middle of the work: at the second epoch, or after the margins."""
    calls = iter([None])

    def stop(*args, **kwargs):
        if next(calls, "end") == "end":
            raise KeyboardInterrupt
        return epoch(*args, **kwargs)
    epoch = run_epoch
    with monkeypatch.context() as m:
        m.setattr("genmod_nb.engine.run_epoch", stop)
        if not isinstance(model, GenerativeModel):
            m.setattr(type(model), "_learn", stop)
            next(calls)
        model.fit(tables[1])


def no_memory(model, tables, monkeypatch):
    def fail(*args):
        raise MemoryError
    with monkeypatch.context() as m:
        m.setattr(Margins, "scores", fail)
        model.fit(tables[1])


@pytest.mark.parametrize("name", FITS)
@pytest.mark.parametrize("ends", [refused, one_column, interrupted, no_memory])
def test_a_fit_that_does_not_end_well_leaves_the_earlier_one(tables, monkeypatch, name, ends):
    model = clone(FITS[name]).fit(tables[0])
    before = facts(model)
    with pytest.raises((ValueError, KeyboardInterrupt, MemoryError)):
        ends(model, tables, monkeypatch)
    assert facts(model) == before
    fresh = clone(FITS[name])
    with pytest.raises((ValueError, KeyboardInterrupt, MemoryError)):
        ends(fresh, tables, monkeypatch)
    assert not [k for k in vars(fresh) if k.endswith("_") and not k.startswith("_")]
    with pytest.raises(NotFittedError):
        fresh.sample(3)


@pytest.mark.parametrize("name", MODELS)
def test_a_divergence_leaves_the_earlier_fit(tables, tmp_path, name):
    model = clone(FITS[name]).fit(tables[0])
    before = facts(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(FloatingPointError):
            model.set_params(**diverging(MODELS[name])).fit(tables[1])
    assert facts(model) == before
    assert (drawn(type(model).load(model.save(tmp_path / "model"))) == drawn(model)).all()


def test_a_refused_argument_leaves_the_earlier_fit(tables):
    for name, wrong in (("vae", dict(latent_dim=0)), ("ensemble", dict(members=0)), ("mixture", dict(max_components=0)), ("wae", dict(margins="no"))):
        model = clone(FITS[name]).fit(tables[0])
        before = facts(model)
        with pytest.raises(ValueError):
            model.set_params(**wrong).fit(tables[1])
        assert facts(model) == before, name


def test_margins_are_fitted_as_a_whole(tables):
    margins = Margins().fit(tables[0])
    before = margins.transform(tables[1])
    for X in (tables[0].assign(f4=-1.0), tables[0].rename(columns={"f1": "g"}).assign(f2=np.inf)):
        with pytest.raises(ValueError):
            margins.fit(X)
        assert margins.transform(tables[1]).equals(before)
    fresh = Margins()
    with pytest.raises(ValueError):
        fresh.fit(tables[0] * np.nan)
    assert vars(fresh) == {"kind": "gaussian", "lower": None, "upper": None}


# ------------------------------------------------------------------ threads
CROSS = """
import numpy as np, warnings
from joblib import parallel_config
from sklearn.model_selection import cross_val_score
from genmod_nb import ensemble
from genmod_nb.data import load_losses
ensemble.CALIBRATION = 2 ** 16
with parallel_config(backend="threading", n_jobs=4):
    scores = cross_val_score(ensemble.Ensemble(members=2, max_epochs=5, random_state=0, progress=False), load_losses()[0], cv=4)
assert np.isfinite(scores).all(), scores
print(scores.tolist())
"""


def test_threaded_cross_validation_in_fresh_processes(full):
    runs = [subprocess.run([sys.executable, "-c", CROSS], capture_output=True, text=True) for _ in range(30 if full else 1)]
    assert [r.returncode for r in runs] == [0] * len(runs), [r.stderr[-500:] for r in runs if r.returncode]
    assert len({r.stdout for r in runs}) == 1


ENDS = {
    "a worker of joblib frees its last task": """
import sys, torch
from joblib import Parallel, delayed
from genmod_nb.surroundings import steady
class Task: pass
def work(task):
    with steady(0): task.freed = [torch.zeros(3, requires_grad=True) for _ in range(20000)]
sys.setswitchinterval(1e-5)
Parallel(n_jobs=4, backend="threading")(delayed(work)(Task()) for _ in range(4))
""",
    "a fit without an end": """
import threading, time
from genmod_nb.data import load_losses
from genmod_nb.vae import VAE
model = VAE(max_epochs=10**6, compile=False, early_stopping=False, progress=False)
threading.Thread(target=model.fit, args=(load_losses()[0],), daemon=True).start()
time.sleep(2)
""",
    "samples without an end": """
import threading, time
from genmod_nb.data import load_losses
from genmod_nb.vae import VAE
model = VAE(max_epochs=2, progress=False).fit(load_losses()[0])
def work():
    while True: model.sample(1000)
for _ in range(3): threading.Thread(target=work, daemon=True).start()
time.sleep(1)
"""}


@pytest.mark.parametrize("code", ENDS.values(), ids=list(ENDS))
def test_daemon_threads_at_the_end_of_the_process(code, full):
    """The interpreter waits for none of them; one that is inside PyTorch then would abort the process."""
    runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True) for _ in range(10 if full else 1)]
    assert [(r.returncode, r.stderr) for r in runs] == [(0, "")] * len(runs)


@pytest.mark.parametrize("name", ["vae", "wae", "gan", "lars", "mixture"])
def test_threads_give_what_a_loop_gives(tables, name):
    seeds = range(6)
    want = [drawn(clone(FITS[name]).set_params(random_state=s).fit(tables[0])) for s in seeds]
    got = {}

    def work(seed):
        model = clone(FITS[name]).set_params(random_state=seed).fit(tables[0])
        got[seed] = drawn(copy.deepcopy(model))
    threads = [threading.Thread(target=work, args=(s,)) for s in seeds]
    for t in threads: t.start()
    for t in threads: t.join()
    assert sorted(got) == list(seeds) and all((got[s] == want[s]).all() for s in seeds)


# ------------------------------------------------------------------ fork
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.parametrize("name", ["vae", "ensemble", "vine"])
def test_a_child_forked_during_a_fit(tables, name, full):
    """It samples and fits as its parent does, and has the parent's settings, not those of the thread that is not there."""
    model = clone(FITS[name]).fit(tables[0])
    want, threads, random = drawn(model), torch.get_num_threads(), torch.default_generator.get_state()
    with fitting(VAE(**SMALL | dict(max_epochs=50), compile=False), tables[0]):
        for k in range(4 if full else 2):
            time.sleep(0.02 + 0.05 * k)
            child = os.fork()
            if child == 0:
                signal.alarm(60)
                settings = torch.get_num_threads() == threads and torch.get_default_dtype() == torch.float32
                own = (drawn(model) == want).all() and (drawn(clone(FITS[name]).fit(tables[0])) == want).all()
                os._exit(0 if settings and own and torch.equal(torch.default_generator.get_state(), random) else 1)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_child_forked_by_the_thread_inside():
    with steady(5):
        child = os.fork()
        if child == 0:
            signal.alarm(30)
            with steady(6):
                inside = torch.get_num_threads() == 1
            os._exit(0 if inside and surroundings._INSIDE else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


# ------------------------------------------------------------------ surroundings
@contextmanager
def default_device(kind):
    torch.set_default_device(kind)
    try:
        yield
    finally:
        torch.set_default_device(None)


@contextmanager
def default_dtype(kind):
    torch.set_default_dtype(kind)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@contextmanager
def deterministic():
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


@contextmanager
def warnings_as_errors():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


SURROUNDINGS = {
    "inference": torch.inference_mode, "no_grad": torch.no_grad, "grad off": lambda: torch.set_grad_enabled(False), "autocast": lambda: torch.autocast("cpu"),
    "device": lambda: default_device("meta"), "device context": lambda: torch.device("meta"), "float64": lambda: default_dtype(torch.float64),
    "bfloat16": lambda: default_dtype(torch.bfloat16), "seterr": lambda: np.errstate(all="raise"), "deterministic": deterministic,
    "warnings": warnings_as_errors}


@pytest.fixture(scope="module")
def everything(tables, tmp_path_factory):
    """What a fit of a name gives: draws, scores, and draws of the model that was saved and loaded."""
    folder, few = tmp_path_factory.mktemp("models"), tables[1].head(10)

    def fit(name):
        model = clone(FITS[name]).fit(tables[0])
        found = [drawn(model), model.score_samples(few) if hasattr(model, "score_samples") and name != "gan" else 0]
        if name in MODELS:
            found.append(drawn(type(model).load(model.save(folder / name))))
        return found
    return fit


@pytest.fixture(scope="module", params=["vae", "wae", "gan", "density", "lars", "ensemble", "vine", "mixture"])
def undisturbed(request, everything):
    """A name, and what it gives in surroundings that nobody has changed."""
    return request.param, everything(request.param)


@pytest.mark.parametrize("around", SURROUNDINGS)
def test_surroundings_change_nothing(undisturbed, everything, around):
    name, want = undisturbed
    before = torch.is_grad_enabled(), torch.get_num_threads(), torch.default_generator.get_state()
    with SURROUNDINGS[around]():
        within = torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.get_default_dtype(), np.geterr(), torch.get_default_device()
        got = everything(name)
        assert within == (torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.get_default_dtype(), np.geterr(), torch.get_default_device())
    assert all(np.array_equal(a, b) for a, b in zip(want, got))
    assert before[:2] == (torch.is_grad_enabled(), torch.get_num_threads()) and torch.equal(before[2], torch.default_generator.get_state())


@pytest.mark.parametrize("around", SURROUNDINGS)
def test_surroundings_of_a_stack(tables, around):
    models = [VAE(**SMALL | dict(random_state=s), compile=False) for s in range(2)]
    want = [drawn(m) for m in fit_many(models, tables[0], n_jobs=1, progress=False)]
    with SURROUNDINGS[around]():
        got = [drawn(m) for m in fit_many(models, tables[0], n_jobs=1, progress=False)]
    assert all((a == b).all() for a, b in zip(want, got))


def test_a_model_fitted_under_inference_learns(tables):
    with torch.inference_mode():
        model = VAE(**SMALL | dict(max_epochs=30), compile=False).fit(tables[0])
    loss = model.history_[(model.history_.term == "loss") & (model.history_.split == "train")].value
    assert loss.iloc[-1] < loss.iloc[0] - 0.1


def test_what_a_step_costs_is_counted_alone(tables):
    """The module that is counted is built inside, one thread at a time: the random numbers of others are not touched."""
    model, state = VAE(**SMALL), torch.default_generator.get_state()
    with steady(3):
        inside, counted = torch.default_generator.get_state(), []
        thread = threading.Thread(target=lambda: counted.append(model._cost(720, 4)))
        thread.start()
        thread.join(0.5)
        assert thread.is_alive() and not counted and torch.equal(torch.default_generator.get_state(), inside)
    thread.join()
    assert counted and torch.equal(torch.default_generator.get_state(), state)


def test_a_loss_without_gradient_is_an_error(tables):
    class Blind(GenerativeModule):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(3))

        def terms(self, x, noise, scalars, state):
            return {"loss": x.square().mean()}, state

    class BlindModel(GenerativeModel):
        def build(self, n_features):
            return Blind()
    try:
        with pytest.raises(RuntimeError, match="does not depend on the parameters"):
            BlindModel(max_epochs=2, compile=False, progress=False).fit(tables[0])
    finally:
        GenerativeModel.registry.pop("BlindModel")


class Gradientless(GenerativeModule):
    """A loss that has nothing to do with the parameters, or whose formula turns gradients off, or is another player's."""
    def __init__(self, wrong):
        super().__init__()
        self.wrong, self.weight, self.own = wrong, torch.nn.Parameter(torch.zeros(3)), torch.nn.Parameter(torch.zeros(3))
        self.players = (Player("first", "own"), Player("loss", "weight"))

    def terms(self, x, noise, scalars, state):
        loss = (x - self.weight).square().mean()
        with torch.no_grad():
            unseen = (x - self.own).square().mean()
        return {"loss": loss, "first": {"nothing": x.square().mean(), "no_grad": unseen, "other": loss}[self.wrong]}, state


@pytest.mark.parametrize("path, size", [("eager", 1), ("stacked", 1), ("stacked", 2)])
@pytest.mark.parametrize("wrong", ["nothing", "no_grad", "other"])
def test_a_loss_without_gradient_is_an_error_in_a_stack_too(path, size, wrong):
    rows = torch.arange(64)
    members = [Member(Gradientless(wrong), torch.randn(64, 3), rows, rows[:0], {"lr": 0.1}, torch.Generator(), 32, 2, 2, "constant") for _ in range(size)]
    with pytest.raises(RuntimeError, match="'first' of Gradientless"):
        list(train_members(members, path, size))


@pytest.mark.parametrize("model", [Density(LARS(truncation=1, hidden=(4,)), margins="raw"), VAE(prior=LARS(truncation=1, hidden=(4,)))], ids=["alone", "vae"])
def test_a_prior_with_nothing_to_learn_may_be_fitted(tables, model):
    """Truncation 1 takes every proposal: the acceptance network has a gradient, which is zero."""
    model = clone(model).set_params(compile=False, **SMALL)
    with steady(0):
        first = {k: v.clone() for k, v in model.build(4).state_dict().items() if "prior." in k}
    fitted = model.fit(tables[0]).module_.state_dict()
    assert first and all(torch.equal(v, fitted[k]) for k, v in first.items())


@pytest.mark.parametrize("call", ["sample", "sample_to"])
def test_rows_are_dressed_by_the_fit_that_drew_them(tables, tmp_path, monkeypatch, call):
    """A refit on an array, in another unit, that falls between the call and the drawing."""
    model, original = VAE(**SMALL, compile=False).fit(tables[0]), GenerativeModel.sample_pieces

    def pieces(self, *given, **named):
        model.fit(1000 * tables[0].to_numpy())
        yield from original(self, *given, **named)
    want = model.sample(5, random_state=0)
    monkeypatch.setattr(GenerativeModel, "sample_pieces", pieces)
    if call == "sample":
        pd.testing.assert_frame_equal(model.sample(5, random_state=0), want)
    else:
        monkeypatch.setattr(GenerativeModel, "sample_pieces", lambda self, *given: [*pieces(self, *given)])
        model.sample_to(tmp_path / "rows.csv", 5, random_state=0, progress=False)
        assert pd.read_csv(tmp_path / "rows.csv").to_numpy() == pytest.approx(want.to_numpy())


class Torch:
    """A model of another package that trains with PyTorch, NumPy's global random numbers and Python's."""
    def fit(self, X):
        self.w = torch.nn.Parameter(torch.zeros(X.shape[1]))
        loss = ((torch.tensor(X.to_numpy(), dtype=torch.float32) - self.w) ** 2).mean()
        loss.backward()
        self.w.data -= self.w.grad
        time.sleep(0.05)

    def sample(self, n):
        return self.w.detach().numpy() + np.random.randn(n, len(self.w))


@pytest.mark.parametrize("around", ["inference", "no_grad", "grad off", "device", "float64", "seterr"])
def test_a_model_of_another_package_trains_in_any_surroundings(tables, around):
    want = drawn(External(Torch(), random_state=0).fit(tables[0]))
    with SURROUNDINGS[around]():
        assert np.array_equal(drawn(External(Torch(), random_state=0).fit(tables[0])), want)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_child_has_the_random_numbers_of_its_parent(tables):
    """Another package's fit seeds NumPy's global generator; a child forked meanwhile has it as it was. (Python seeds its own anew in a child.)"""
    numpy = np.random.get_state()
    with fitting(External(Torch(), random_state=3), tables[0]):
        time.sleep(0.3)
        for _ in range(3):
            child = os.fork()
            if child == 0:
                same = all(np.array_equal(a, b) for a, b in zip(np.random.get_state(), numpy))
                os._exit(0 if same else 1)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_child_that_ends_leaves_what_its_parent_has_compiled():
    code = "import os, sys; from genmod_nb.compiled import _own_folder; p = _own_folder(); c = os.fork(); c or sys.exit(0); os.waitpid(c, 0); assert p.exists()"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_nothing_is_held_while_a_finished_model_is_stored(tables):
    """Another thread is let in between two members, and the settings are the caller's."""
    models = [VAE(**SMALL | dict(random_state=s), compile=False) for s in range(2)]
    torch.set_default_dtype(torch.float64)
    try:
        for _ in _fit_each(models, [0, 0], [0, 1], "stacked", 1, tables[0]):
            inside = []
            thread = threading.Thread(target=lambda: inside.append(surroundings._ONE_AT_A_TIME.acquire(timeout=5) and not surroundings._ONE_AT_A_TIME.release()))
            thread.start()
            thread.join()
            assert inside == [True] and torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("around", ["autocast", "device", "float64", "inference"])
def test_readings_of_weights_are_the_same_in_any_surroundings(tables, around):
    vae, gan = VAE(**SMALL, compile=False).fit(tables[0]), clone(FITS["gan"]).fit(tables[0])
    readings = lambda: [posterior(vae, tables[1])[0].cpu().numpy(), drawn(last_weights(gan)), drawn(without_noise(vae))]
    want = readings()
    with SURROUNDINGS[around]():
        got = readings()
    assert all(np.array_equal(a, b) for a, b in zip(want, got))


@pytest.mark.parametrize("name", ["ensemble", "vae"])
def test_an_interruption_waits_for_the_end_of_the_step(tables, monkeypatch, name):
    """Ctrl-C as the weights are swapped: the earlier fit is whole, and the next one can be made."""
    model = clone(FITS[name]).fit(tables[0])
    before, place = facts(model), (engine, "functional_call")
    original, calls = getattr(*place), []

    def press(*given, **named):
        calls.append(0)
        if len(calls) == 3:
            signal.raise_signal(signal.SIGINT)
        return original(*given, **named)
    with monkeypatch.context() as m, pytest.raises(KeyboardInterrupt):
        m.setattr(*place, press)
        model.fit(tables[1])
    assert len(calls) >= 3 and facts(model) == before and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert facts(clone(FITS[name]).fit(tables[0]))["sample"] == before["sample"]


def test_what_a_notebook_defines_can_be_sent_to_a_worker(tables):
    """A class of a notebook goes by value, with all that its methods hold on to."""
    import cloudpickle
    from genmod_nb import baselines
    cloudpickle.register_pickle_by_value(baselines)
    try:
        sent = [cloudpickle.dumps(m.fit(tables[0])) for m in (Bootstrap(), GaussianCopula())]
    finally:
        cloudpickle.unregister_pickle_by_value(baselines)
    assert [drawn(pickle.loads(s)).shape for s in sent] == [(6, 4)] * 2
