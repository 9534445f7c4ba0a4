"""The engine: stacks, players, state, failures; each against what it should be by other means."""
import copy
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from torch import nn

from genmod_nb import compiled as rooms_of_compiled, engine
from genmod_nb.cli import MODELS
from genmod_nb.compiled import Compiled, _cache_folder, _own_folder, choose_path, compiled_file, cpp_compiler
from genmod_nb.surroundings import steady
from genmod_nb.seam import GenerativeModule, Player
from genmod_nb.engine import train_members
from genmod_nb.member import Member
from genmod_nb.many import fit_many
from genmod_nb.vae import VAE


def members(tables, seeds, **arguments):
    """Unfitted models and what the engine needs of each."""
    models = [VAE(random_state=s, progress=False, encoder=(16,), decoder=(16,), **arguments) for s in seeds]
    ready = [m._prepare(tables[0]) for m in models]
    for i, member in enumerate(ready):
        member.index = i
    return models, ready


def run(tables, seeds, path, size, **arguments):
    models, ready = members(tables, seeds, **arguments)
    with steady(0):
        for done in train_members(ready, path, size):
            models[done.index]._learn(done, path)
    return models


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.module_.parameters()])


def test_a_member_does_not_depend_on_its_stack(tables):
    alone = run(tables, [5], "stacked", 1, max_epochs=40, patience=15)[0]
    for seeds, size in (([5, 1], 2), ([3, 5, 1, 2], 4), (list(range(9)), 4), (list(range(8)), 8)):
        model = run(tables, seeds, "stacked", size, max_epochs=40, patience=15)[seeds.index(5)]
        assert model.best_epoch_ == alone.best_epoch_ and model.history_.epoch.max() == alone.history_.epoch.max()
        assert weights(model) == pytest.approx(weights(alone), abs=1e-6)
        assert model.sample(100, random_state=0).to_numpy() == pytest.approx(alone.sample(100, random_state=0).to_numpy(), rel=1e-5)


def test_paths_agree_for_a_few_hundred_steps(tables):
    eager, stacked = (run(tables, [5], path, 1, max_epochs=60, early_stopping=False)[0] for path in ("eager", "stacked"))
    assert eager.history_.step.max() == 300
    assert weights(eager) == pytest.approx(weights(stacked), abs=1e-5)


def test_compiled_path(tables):
    if cpp_compiler() is None:
        pytest.skip("no C++ compiler")
    compiled, eager = (run(tables, [5, 6], path, 1, max_epochs=20, early_stopping=False)[0] for path in ("compiled", "eager"))
    assert compiled.path_ == "compiled"
    assert weights(compiled) == pytest.approx(weights(eager), abs=1e-5)


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    """Nothing has been compiled on this machine, as far as can be seen; yields what is compiled from now on."""
    made, real = [], rooms_of_compiled._compile
    monkeypatch.setattr(rooms_of_compiled, "_cache_folder", lambda: tmp_path)
    monkeypatch.setattr(rooms_of_compiled, "_compile", lambda *given: (made.append(given[-1]), real(*given)))
    engine._MADE.clear()
    yield made
    engine._MADE.clear()


def test_the_same_seed_gives_the_same_bits(tables, empty_cache):
    """Before and after compilation, from an empty and a full cache, alone and among others."""
    if cpp_compiler() is None:
        pytest.skip("no C++ compiler")
    model = lambda s=3, **kw: VAE(**dict(encoder=(4,), decoder=(4,), max_epochs=2000, patience=3, random_state=s, progress=False) | kw)
    first = model().fit(tables[0])
    assert first.path_ == "compiled" and len(empty_cache) == 1
    again = model().fit(tables[0])
    engine._MADE.clear()                                    # as in another process: from the file
    loaded = model().fit(tables[0])
    others = fit_many([model(1), model(latent_dim=1, max_epochs=3), model(), model(2)], [tables[0], tables[1], tables[0], tables[0].head(300)],
                      n_jobs=1, progress=False)
    alone, = fit_many([model()], tables[0], n_jobs=1, progress=False)
    assert len(empty_cache) == 1 and others[1].path_ == "eager"
    for other in (again, loaded, others[2], alone):
        assert torch.equal(weights(first), weights(other)) and first.history_.equals(other.history_)


@pytest.mark.parametrize("name", sorted(MODELS))
def test_one_compilation_serves_every_table(tables, empty_cache, name, full):
    """720, 721 and 5,000 rows, and without validation rows: right, and compiled once."""
    if cpp_compiler() is None:
        pytest.skip("no C++ compiler")
    if not (full or name == "density"):
        pytest.skip("compiles for ten seconds or more: with --full")
    X = tables[0].sample(5000, replace=True, random_state=0)
    fit = lambda rows, compile, **kw: MODELS[name](max_epochs=2, random_state=0, progress=False, compile=compile, **kw).fit(X.head(rows)).history_.value
    for rows in (720, 721, 5000):
        assert fit(rows, True).to_numpy() == pytest.approx(fit(rows, False).to_numpy(), abs=1e-4)
    fit(720, True, early_stopping=False)
    kinds = 2 if name in ("ensemble", "radial") else 1      # of members: whether they fold, or have a radius
    assert len(empty_cache) == kinds
    fit(100, True)                                          # fewer rows than a batch: another shape
    assert len(empty_cache) == 2 * kinds


def test_a_path_is_a_matter_of_the_work_alone(tables):
    """The same for one table and the next, however often it is asked for; more steps or draws make it longer."""
    plain, dear = (VAE(random_state=0, **kw)._cost(720, 4) for kw in ({}, {"n_draws": 8}))
    assert plain == VAE(random_state=1)._cost(720, 4) == VAE(random_state=0)._cost(10_000, 4)
    assert dear["eager"] > 1.5 * plain["eager"] and dear["compiled"] > 2 * plain["compiled"]
    assert choose_path(plain, 10)[0] == "eager" and choose_path(plain, 10, "cuda")[0] == "stacked"
    assert [VAE(max_epochs=n)._path(720, plain)[0] for n in (1, 400)] == ["eager", "compiled" if cpp_compiler() else "eager"]


def test_code_that_fixes_the_number_of_rows_is_refused(tables):
    """What was compiled for one number of validation rows would be wrong for another."""
    if cpp_compiler() is None:
        pytest.skip("no C++ compiler")
    count = lambda prior, mu, log_s, z, context: ((mu ** 2).sum() / len(mu), context.state)
    with pytest.raises(ValueError, match="write x.shape.0. for len"):
        VAE(encoder=(4,), decoder=(4,), divergence=count, compile=True, max_epochs=1, random_state=0, progress=False).fit(tables[0])
    VAE(encoder=(4,), decoder=(4,), divergence=count, compile=False, max_epochs=1, random_state=0, progress=False).fit(tables[0])


def test_without_a_compiler_fits_are_interpreted(tables, monkeypatch):
    monkeypatch.setattr(rooms_of_compiled, "cpp_compiler", lambda: None)
    rooms_of_compiled._warn_of_no_compiler.cache_clear()
    with pytest.warns(UserWarning, match="no C.. compiler: training runs interpreted"):
        assert VAE()._path(720, VAE()._cost(720, 4)) == ("eager", "no C++ compiler")
    with pytest.raises(ValueError, match="needs a C.. compiler"):
        VAE(compile=True, max_epochs=1, progress=False).fit(tables[0])


def test_compiled_functions_are_kept_mended_and_shared(tmp_path, monkeypatch):
    """What is compiled is found by another process; a damaged file is made again; strides do not matter."""
    if cpp_compiler() is None:
        pytest.skip("no C++ compiler")
    f, file = lambda x, more: ({"twice": 2 * x}, more["y"].sum(1)), tmp_path / "f.pt2"
    x, y = torch.randn(2, 3), torch.randn(3, 2)
    sample = lambda: ((x, {"y": y}), (False, {"y": True}))
    with steady(0):
        made = Compiled(f, file, sample)(x, {"y": y})
        assert torch.equal(made[0]["twice"], 2 * x) and torch.allclose(made[1], y.sum(1))
        loaded = Compiled(None, file, None)(torch.randn(3, 2).T, {"y": y})      # nothing to trace: it must come from the file
        assert torch.allclose(loaded[1], y.sum(1))
        turned = torch.randn(3, 2).T
        longer = torch.randn(7, 2)
        more = Compiled(None, file, None)(turned, {"y": longer})
        assert torch.equal(more[0]["twice"], 2 * turned) and torch.allclose(more[1], longer.sum(1))
        file.write_bytes(file.read_bytes()[:1000])
        assert torch.equal(Compiled(f, file, sample)(x, {"y": y})[0]["twice"], 2 * x)
    assert {p.name for p in tmp_path.iterdir()} == {"f.pt2", "f.lock"}    # the lock stays: who removes one may remove another's


def test_compiled_code_is_never_that_of_another_module(tables, monkeypatch):
    """Settings, code and versions are part of a shape; code from outside the package is not kept at all."""
    shape = lambda **kw: VAE(random_state=0, **kw)._prepare(tables[0]).shape
    base = shape()
    assert shape() == base and shape(lr=0.1, max_epochs=3, sigma="learned") == base
    assert shape(early_stopping=False) == base
    others = [shape(sigma="conditional"), shape(sigma=1.0), shape(latent_dim=3), shape(activation="relu"), shape(batch_size=64)]
    assert len({compiled_file(s) for s in [base, *others]}) == 6
    assert compiled_file(base).parent.name == "genmod_nb"
    assert shape(divergence=lambda *given: 0) != shape(divergence=lambda *given: 1)
    assert compiled_file(shape(divergence=lambda *given: 0)).parent == _own_folder()
    monkeypatch.setattr(type(VAE().build(4)), "terms", lambda *given: None)
    assert shape() != base and compiled_file(shape()).parent == _own_folder()


def test_a_redefined_function_is_compiled_anew(tables):
    """In a notebook, a divergence is written again under the same name: the new one must run."""
    if cpp_compiler() is None:
        pytest.skip("no C++ compiler")

    def fits(weight):
        def pull(prior, mu, log_s, z, context):
            return weight * (mu ** 2).mean(), context.state
        kw = dict(encoder=(4,), decoder=(4,), max_epochs=2, early_stopping=False, random_state=0, progress=False, divergence=pull)
        return [VAE(compile=c, **kw).fit(tables[0]).history_.value.to_numpy() for c in (True, False)]
    small, large = fits(1.0), fits(1000.0)
    assert small[0] == pytest.approx(small[1], rel=1e-3)
    assert large[0] == pytest.approx(large[1], rel=1e-3) and large[0].max() > 10 * small[0].max()


@pytest.mark.parametrize("name, value", [("_shift", torch.zeros(2)), ("shift", np.zeros(2)), ("table", {"a": 1})])
def test_a_module_that_hides_arrays_is_refused(name, value):
    """Two members that differ only in them would be trained as one."""
    module = Average()
    setattr(module, name, value)
    with pytest.raises(TypeError, match="parameters or to initial_state"):
        list(train_members([member(module, torch.randn(64, 3))], "stacked", 1))


def test_edited_files_and_unusable_folders_keep_what_is_compiled_apart(tables, monkeypatch, tmp_path):
    shape = VAE(random_state=0)._prepare(tables[0]).shape
    monkeypatch.setattr("genmod_nb.compiled._digest", lambda: b"edited since the import")
    assert compiled_file(shape).parent == _own_folder()
    (tmp_path / "file").write_text("")
    for home in (tmp_path / "file", "/proc/nope"):
        monkeypatch.setenv("XDG_CACHE_HOME", str(home))
        assert _cache_folder.__wrapped__() == _own_folder()


def test_a_module_with_buffers_is_refused():
    module = Average()
    module.register_buffer("table", torch.zeros(3))
    with pytest.raises(TypeError, match="initial_state"):
        list(train_members([member(module, torch.randn(64, 3))], "stacked", 1))


def test_members_have_their_own_numbers(tables):
    """Different sigmas, learning rates and lengths side by side give what each gives alone."""
    settings = [dict(sigma=0.5), dict(sigma=1.0, lr=1e-3), dict(sigma=2.0, max_epochs=7), dict(sigma=0.1, lr_decay="constant")]
    build = lambda kw: VAE(**dict(max_epochs=10, random_state=1, progress=False, encoder=(8,), decoder=(8,)) | kw)
    alone = []
    for kw in settings:
        model = build(kw)
        with steady(0):
            for done in train_members([model._prepare(tables[0])], "stacked", 1):
                alone.append(model._learn(done, "stacked"))
    models = [build(kw) for kw in settings]
    ready = [m._prepare(tables[0]) for m in models]
    for i, member in enumerate(ready):
        member.index = i
    with steady(0):
        for done in train_members(ready, "stacked", 4):
            models[done.index]._learn(done, "stacked")
    for a, b in zip(models, alone):
        assert a.history_.epoch.max() == b.history_.epoch.max()
        assert weights(a) == pytest.approx(weights(b), abs=1e-6)


def test_different_tables_side_by_side(tables):
    models = [VAE(random_state=0, progress=False, max_epochs=5, encoder=(8,), decoder=(8,)) for _ in range(2)]
    data = [tables[0], tables[0] * 3 + 0.01]
    ready = [m._prepare(X) for m, X in zip(models, data)]
    ready[1].index = 1
    with steady(0):
        for done in train_members(ready, "stacked", 2):
            models[done.index]._learn(done, "stacked")
    for model, X in zip(models, data):
        alone = VAE(random_state=0, progress=False, max_epochs=5, encoder=(8,), decoder=(8,), compile=False)._prepare(X)
        with steady(0):
            list(train_members([alone], "stacked", 1))
        flat = torch.cat([p.detach().flatten() for p in alone.module.parameters()])
        assert weights(model) == pytest.approx(flat, abs=1e-6)


def test_a_failure_is_reported_and_leaves_its_neighbours_alone(tables):
    healthy = run(tables, [1, 2, 3], "stacked", 1, max_epochs=10)
    models, ready = members(tables, [1, 2, 3, 4], max_epochs=10)
    ready[3].scalars["lr"] = 1e30
    with steady(0):
        for done in train_members(ready, "stacked", 4):
            models[done.index]._learn(done, "stacked")
    assert "is not finite at step" in models[3].failure_ and models[3].history_.epoch.max() == 1
    for a, b in zip(models, healthy):
        assert not a.failure_ and weights(a) == pytest.approx(weights(b), abs=1e-6)


def member(module, X, seed=0, **kw):
    arguments = dict(batch_size=32, max_epochs=5, patience=5, decay="constant") | kw
    rows = torch.arange(len(X))
    return Member(module, X, rows, rows[:0], arguments.pop("scalars", {"lr": 0.05}), torch.Generator().manual_seed(seed), **arguments)


class Average(GenerativeModule):
    """One weight, and a moving average of the batch means as state."""
    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.zeros(3))

    def initial_state(self):
        return {"average": torch.zeros(3), "steps": torch.zeros(())}

    def terms(self, x, noise, scalars, state):
        average = 0.9 * state["average"] + 0.1 * x.mean(0)
        return {"loss": ((x - self.w) ** 2).mean()}, {"average": average, "steps": state["steps"] + 1}


@pytest.mark.parametrize("path, size", [("eager", 1), ("stacked", 1), ("stacked", 2)])
def test_state_is_carried(path, size):
    X = torch.randn(320, 3, generator=torch.Generator().manual_seed(1)) + 2
    ready = [member(Average(), X, seed) for seed in range(size)]
    with steady(0):
        done = list(train_members(ready, path, size))
    assert len(done) == size
    for m in done:
        assert m.state["steps"] == 50                                    # 10 batches, 5 epochs
        rng, average = torch.Generator().manual_seed(m.rng.initial_seed()), torch.zeros(3)
        for _ in range(5):
            for rows in torch.randperm(320, generator=rng).view(10, 32):
                average = 0.9 * average + 0.1 * X[rows].mean(0)
        assert m.state["average"] == pytest.approx(average, abs=1e-5)


class Half(GenerativeModule):
    """A weight that is fitted, a weight that is not, and a number that is not."""
    def __init__(self):
        super().__init__()
        self.w, self.v = nn.Parameter(torch.zeros(3)), nn.Parameter(torch.ones(3), requires_grad=False)
        self.scale = nn.Parameter(torch.tensor(2.0), requires_grad=False)

    def terms(self, x, noise, scalars, state):
        return {"loss": (self.scale * (x - self.w - self.v) ** 2).mean()}, state


@pytest.mark.parametrize("path, size", [("eager", 1), ("stacked", 1), ("stacked", 2)])
def test_what_requires_no_gradient_is_left_as_it_is(path, size):
    """As in an optimiser that is given the other parameters only."""
    X = torch.randn(320, 3, generator=torch.Generator().manual_seed(1)) + 2
    with steady(0):
        done = list(train_members([member(Half(), X, seed) for seed in range(size)], path, size))
    for m in done:
        assert m.module.v.tolist() == [1, 1, 1] and m.module.scale == 2 and not m.module.v.requires_grad
        assert (m.module.w > 0.5).all()


class Tug(GenerativeModule):
    """Two players: `a` runs after the data, `b` after `a`, twice as often and with its own learning rate."""
    players = (Player("loss_b", "b", steps=2, lr="lr_b", betas=(0.5, 0.9)), Player("loss_a", "a"))

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.ones(2))

    def terms(self, x, noise, scalars, state):
        return {"loss_a": ((x - self.a) ** 2).mean() + 0 * self.b.sum(), "loss_b": ((self.a - self.b) ** 2).mean()}, state


@pytest.mark.parametrize("path, size", [("eager", 1), ("stacked", 1), ("stacked", 4)])
def test_two_players(path, size):
    X = torch.randn(320, 2, generator=torch.Generator().manual_seed(1)) + 2
    ready = [member(Tug(), X, seed, scalars={"lr": 0.05, "lr_b": 0.02}, max_epochs=40) for seed in range(size)]
    with steady(0):
        done = list(train_members(ready, path, size))
    reference = Tug()
    players = torch.optim.Adam([reference.b], lr=0.02, betas=(0.5, 0.9)), torch.optim.Adam([reference.a], lr=0.05)
    rng = torch.Generator().manual_seed(0)
    for _ in range(40):
        order = torch.randperm(320, generator=rng)[:288].view(3, 3, 32)      # 3 rounds of 2 + 1 steps
        for batches in order:
            for optimiser, term, rows in ((players[0], "loss_b", batches[0]), (players[0], "loss_b", batches[1]), (players[1], "loss_a", batches[2])):
                optimiser.zero_grad()
                reference.terms(X[rows], {}, {}, {})[0][term].backward()
                optimiser.step()
    first = next(m for m in done if m.rng.initial_seed() == 0)
    assert first.module.a.detach() == pytest.approx(reference.a.detach(), abs=1e-5)
    assert first.module.b.detach() == pytest.approx(reference.b.detach(), abs=1e-5)
    assert first.rounds == 3 and list(first.names) == ["loss_a", "loss_b"]


def test_a_player_with_nothing_to_train_is_an_error():
    """In the words of the engine, not in those of autograd."""
    frozen = Tug()
    frozen.b.requires_grad_(False)
    scalars = {"lr": 0.05, "lr_b": 0.02}
    rooms_of_compiled.step_ms(frozen, 32, 2, scalars)
    with steady(0), pytest.raises(RuntimeError, match="does not depend on the parameters that it trains"):
        list(train_members([member(frozen, torch.randn(320, 2), scalars=scalars)], "eager"))


def test_eager_path_is_the_plain_loop():
    """The package's VAE by the textbook's loop: PyTorch's Adam, one batch at a time, nothing else."""
    X, numbers = torch.randn(320, 4, generator=torch.Generator().manual_seed(1)), {"lr": 0.003, "sigma": 0.6}
    module = VAE(sigma=0.6, encoder=(16,), decoder=(16,)).build(4)
    reference = copy.deepcopy(module)
    start = torch.nn.utils.parameters_to_vector(module.parameters()).detach().clone()
    with steady(0):
        done = next(train_members([member(module, X, 3, scalars=numbers, max_epochs=6, patience=6, decay="cosine")], "eager", 1))
        adam, rng = torch.optim.Adam(reference.parameters()), torch.Generator().manual_seed(3)
        scalars = {k: torch.tensor(v) for k, v in numbers.items()}
        for epoch in range(6):
            for b, rows in enumerate(torch.randperm(320, generator=rng).view(10, 32)):
                adam.param_groups[0]["lr"] = 0.003 * 0.5 * (1 + np.cos(np.pi * (epoch + b / 10) / 6))
                adam.zero_grad()
                reference.terms(X[rows], reference.noise(32, rng), scalars, {})[0]["loss"].backward()
                adam.step()
    ours, plain = (torch.nn.utils.parameters_to_vector(m.parameters()).detach() for m in (done.module, reference))
    assert (plain - start).abs().max() > 0.01
    torch.testing.assert_close(ours, plain, rtol=1e-5, atol=1e-6)


def test_a_term_may_look_at_the_whole_batch():
    class Spread(Average):
        def terms(self, x, noise, scalars, state):
            return {"loss": (x.std(0) - self.w).square().sum()}, state
    X = torch.randn(3200, 3, generator=torch.Generator().manual_seed(1)) * torch.tensor([1.0, 2.0, 3.0])
    done = list(train_members([member(Spread(), X, s, batch_size=320, max_epochs=60) for s in range(2)], "stacked", 2))
    for m in done:
        assert m.module.w.detach() == pytest.approx(np.array([1, 2, 3.0]), abs=0.1)


LONG = """
import sys
from genmod_nb import store
from genmod_nb.data import load_losses
from genmod_nb.vae import VAE
store.CHECKPOINT_SECONDS = 0
VAE(encoder=(16,), decoder=(16,), max_epochs=150, random_state=3, compile=False, progress=False).fit(load_losses()[0], checkpoint=sys.argv[1]).save(sys.argv[2])
"""


def test_a_killed_fit_arrives_where_it_would_have(tables, tmp_path):
    """Three kills at random moments: bitwise the weights of a fit that was left alone."""
    place, command = tmp_path / "place", [sys.executable, "-c", LONG, str(tmp_path / "place"), str(tmp_path / "model")]
    file, rng = place / "checkpoint.safetensors", np.random.default_rng(0)
    for _ in range(3):
        seen = file.stat().st_mtime_ns if file.exists() else 0
        process = subprocess.Popen(command)
        while process.poll() is None and (not file.exists() or file.stat().st_mtime_ns == seen):
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.2))
        assert process.poll() is None, "the fit was over before it could be killed"
        process.send_signal(signal.SIGKILL)
        process.wait()
    subprocess.run(command, check=True)
    quiet = VAE(encoder=(16,), decoder=(16,), max_epochs=150, random_state=3, compile=False, progress=False).fit(tables[0])
    resumed = VAE.load(tmp_path / "model")
    assert torch.equal(weights(resumed), weights(quiet))
    assert (resumed.history_.value == quiet.history_.value).all()
    assert not file.exists()


def test_a_damaged_checkpoint_is_reported(tables, tmp_path):
    model = VAE(encoder=(8,), decoder=(8,), max_epochs=3, random_state=3, progress=False)
    (tmp_path / "checkpoint.safetensors").write_bytes(b"torn")
    with pytest.warns(UserWarning, match="starts afresh"):
        fitted = model.fit(tables[0], checkpoint=tmp_path)
    assert torch.equal(weights(fitted), weights(VAE(**model.get_params()).fit(tables[0])))


def test_a_checkpoint_of_another_fit_is_refused(tables, tmp_path, monkeypatch):
    monkeypatch.setattr("genmod_nb.store.CHECKPOINT_SECONDS", 0)
    monkeypatch.setattr("genmod_nb.store.Path.unlink", lambda self, missing_ok=False: None)     # as if killed at the end
    VAE(encoder=(8,), decoder=(8,), max_epochs=3, random_state=3, progress=False).fit(tables[0], checkpoint=tmp_path)
    with pytest.raises(FileExistsError, match="another fit"):
        VAE(encoder=(8,), decoder=(8,), max_epochs=3, random_state=4, progress=False).fit(tables[0], checkpoint=tmp_path)


def test_a_fit_killed_after_its_last_epoch_is_finished_not_prolonged(tables, tmp_path, monkeypatch):
    fit = lambda: VAE(encoder=(8,), decoder=(8,), max_epochs=4, random_state=3, progress=False).fit(tables[0], checkpoint=tmp_path)
    monkeypatch.setattr("genmod_nb.store.CHECKPOINT_SECONDS", 0)
    with monkeypatch.context() as killed:
        killed.setattr("genmod_nb.store.Path.unlink", lambda self, missing_ok=False: None)
        first = fit()
    assert (tmp_path / "checkpoint.safetensors").exists()
    again = fit()
    assert torch.equal(weights(first), weights(again)) and again.history_.equals(first.history_)
    assert not (tmp_path / "checkpoint.safetensors").exists()
