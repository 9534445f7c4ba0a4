"""What the chapter on the learned accept/reject prior does not show: gradients, stacks, files, faults of the sampler."""
import copy
import json
import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from sklearn.base import clone

from genmod_nb import lars
from genmod_nb.surroundings import steady
from genmod_nb.compiled import cpp_compiler
from genmod_nb.store import Store
from genmod_nb.cli import load, main
from genmod_nb.priors import Mixture, Vamp
from genmod_nb.toys import TOYS, TwoHumps
from genmod_nb.acceptance import expected_proposals, monte_carlo_log_z, quadrature_log_z, rejection_sample
from genmod_nb.lars import Density, LARS, ResampledPrior
from genmod_nb.many import fit_many
from genmod_nb.priors import Context
from genmod_nb.vae import VAE

FEW = dict(max_epochs=3, early_stopping=False, progress=False)
SMALL = dict(encoder=(8,), decoder=(8,), **FEW)


@pytest.fixture
def prior():
    torch.manual_seed(0)
    module = ResampledPrior(2, 10, 64, 0.01, (8, 8)).double()
    with torch.no_grad():
        module.logit.weight *= 5
    return module


def noise(module, seed=0):
    return {"proposals": torch.randn(module.n_proposals, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)}


def test_the_gradient_of_log_z_is_that_of_z_curr_over_z_smooth(prior):
    z, log_q = torch.randn(16, 2, dtype=torch.float64), torch.randn(16, dtype=torch.float64)
    draws, mean = noise(prior)["proposals"], torch.tensor(0.35, dtype=torch.float64)
    log_ratio = prior.log_pi(z) - log_q
    ours, new = lars.estimate_log_z(prior.log_a(draws), prior.log_a(z), log_ratio, mean.log(), prior.decay)
    curr = (prior.log_a(draws).exp().sum() + log_ratio.exp() * prior.log_a(z).exp()) / 65
    smooth = 0.99 * mean + 0.01 * curr.detach()
    assert ours.detach().numpy() == pytest.approx(smooth.log().detach().numpy(), abs=1e-12)
    assert new.exp().item() == pytest.approx(smooth.mean().item(), abs=1e-12)
    weights = list(prior.parameters())
    for r in range(16):
        own = torch.autograd.grad(ours[r], weights, retain_graph=True)
        oracle = torch.autograd.grad(curr[r] / smooth[r], weights, retain_graph=True)
        for a, b in zip(own, oracle):
            assert torch.allclose(a, b, atol=1e-6, rtol=0)


def test_the_encoder_feels_nothing_of_z(prior):
    """Through Z, that is: the rest of log p_T it must feel."""
    mu, log_s = torch.randn(16, 2, dtype=torch.float64, requires_grad=True), torch.zeros(16, 2, dtype=torch.float64, requires_grad=True)
    state = {k: v.double() for k, v in prior.initial_state().items()}
    z = mu + log_s.exp() * torch.randn(16, 2, dtype=torch.float64)
    log_q = lars.normal_log_prob(z, mu, log_s).sum(-1)
    log_z, _ = lars.estimate_log_z(prior.log_a(noise(prior)["proposals"]), prior.log_a(z.detach()), prior.log_pi(z) - log_q,
                                   state["log_mean_z"], prior.decay)
    assert torch.autograd.grad(log_z.sum(), (mu, log_s), retain_graph=True, allow_unused=True) == (None, None)
    log_p, _ = prior.training_log_prob(z, log_q, Context(None, noise(prior), state))
    seen = torch.autograd.grad(log_p.sum(), (mu, log_s), retain_graph=True)
    fixed = lars.resampled_log_prob(prior.log_pi(z), prior.log_a(z), log_z.detach(), prior.truncation)
    for a, b in zip(seen, torch.autograd.grad(fixed.sum(), (mu, log_s))):
        assert torch.allclose(a, b, atol=1e-12) and a.abs().max() > 0


@pytest.mark.parametrize("truncation", [1, 2, 10, 100, None])
def test_the_density_integrates_to_one(prior, truncation):
    prior.truncation = truncation
    log_z = torch.tensor(quadrature_log_z(lambda z: prior.log_a(z).detach(), 2), dtype=torch.float64)
    state = {"log_z": log_z, "log_mean_z": log_z}

    def density(z):
        with torch.no_grad():
            return prior.log_prob(torch.from_numpy(z), Context(state=state)).exp().numpy()
    assert integrate.cubature(density, [-8, -8], [8, 8], rtol=1e-4).estimate == pytest.approx(1, abs=1e-3)
    if truncation == 1:
        z = np.random.default_rng(0).standard_normal((100, 2))
        assert density(z) == pytest.approx(np.exp(stats.norm.logpdf(z).sum(1)), rel=1e-12)


@pytest.mark.parametrize("k", [1, 2, 3])
def test_log_z_by_quadrature_and_by_draws(k):
    torch.manual_seed(k)
    module = ResampledPrior(k, 10, 64, 0.01, (8, 8)).double()
    with torch.no_grad():
        module.logit.weight *= 20
        drawn, error = monte_carlo_log_z(module.log_a, k, 400_000, torch.Generator().manual_seed(0))
        if k <= 2:
            assert abs(drawn - quadrature_log_z(module.log_a, k)) < 4 * error
        else:
            again, other = monte_carlo_log_z(module.log_a, k, 400_000, torch.Generator().manual_seed(1))
            assert again != drawn and abs(drawn - again) < 4 * math.hypot(error, other)


def test_log_z_of_what_a_float_cannot_hold():
    """exp(-900) is zero; its logarithm is not."""
    drawn, error = monte_carlo_log_z(lambda z: z[:, 0] - 900, 1, 400_000, torch.Generator().manual_seed(0))
    assert drawn == pytest.approx(-899.5, abs=5 * error)
    assert quadrature_log_z(lambda z: z[:, 0] - 900, 1) == pytest.approx(-899.5, abs=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("log_z", [0.0, -1e-7, -1e-3, -1.0, -20.0, -80.0])
def test_extreme_rates_give_finite_values_and_gradients(dtype, log_z):
    for truncation in (2, 100, None):
        log_a = torch.tensor([-1e-6, -1.0, -60.0], dtype=dtype, requires_grad=True)
        level = torch.tensor(log_z, dtype=dtype, requires_grad=True)
        out = lars.resampled_log_prob(torch.zeros(3, dtype=dtype), log_a, level, truncation)
        assert torch.isfinite(out).all()
        assert all(torch.isfinite(g).all() for g in torch.autograd.grad(out.sum(), (log_a, level)))


@pytest.mark.parametrize("rate, truncation", [(0.5, 1), (0.5, 3), (0.05, 10), (0.001, 100), (0.2, None)])
def test_number_of_proposals(rate, truncation):
    log_a = lambda z: torch.full((len(z),), math.log(rate))
    draws = rejection_sample(log_a, 2, 20_000, truncation, math.log(rate), torch.Generator().manual_seed(0))
    n, expected = draws.proposals.double(), expected_proposals(math.log(rate), truncation)
    assert abs(n.mean() - expected) <= 5 * n.std() / len(n) ** 0.5
    if truncation is not None:
        assert n.max() <= truncation
        share = (1 - rate) ** truncation
        assert abs(draws.forced.double().mean() - share) <= 5 * math.sqrt(share * (1 - share) / len(n)) + 1e-9
        assert (n[draws.forced] == truncation).all()
    else:
        assert not draws.forced.any()
    assert draws.z.shape == (20_000, 2) and np.unique(draws.z[:, 0]).size > 19_990


def test_sampler_never_hangs():
    never = lambda z: torch.full((len(z),), -200.0)
    with pytest.raises(ValueError, match="acceptance rate 1.4e-87: 10 draws would take"):
        rejection_sample(never, 2, 10, None, -200.0, torch.Generator())
    with pytest.raises(ValueError, match="where 5.0e-01 was expected"):        # a Z that is not the network's
        rejection_sample(never, 2, 10, None, math.log(0.5), torch.Generator())
    with pytest.raises(ValueError, match="where 5.0e-01 was expected"):
        rejection_sample(lambda z: z[:, 0] * math.nan, 2, 10, None, math.log(0.5), torch.Generator())
    assert rejection_sample(never, 2, 10, 7, -200.0, torch.Generator()).proposals.tolist() == [7] * 10


def test_a_member_of_a_stack_gets_what_it_would_get_alone(tables):
    models = [VAE(prior=LARS(n_proposals=32, hidden=(8,)), random_state=s, compile=False, **SMALL) for s in range(4)]
    stack = fit_many(models, tables[0], n_jobs=1, progress=False)
    pairs = [fit_many(models[k:k + 2], tables[0], n_jobs=1, progress=False) for k in (0, 2)]
    for one, other in zip(stack, [*pairs[0], *pairs[1]]):
        assert {k: v.item() for k, v in one.state_.items()} == pytest.approx({k: v.item() for k, v in other.state_.items()}, rel=1e-5)
        assert one.sample(20, random_state=0).to_numpy() == pytest.approx(other.sample(20, random_state=0).to_numpy(), rel=1e-3)
    alone = clone(models[0]).fit(tables[0])           # by the plain backward pass
    assert alone.history_.value.to_numpy() == pytest.approx(stack[0].history_.value.to_numpy(), rel=1e-3)
    states = [m.state_["log_mean_z"].item() for m in stack]
    assert len(set(states)) == 4                      # each has its own


@pytest.mark.skipif(cpp_compiler() is None, reason="no C++ compiler")
def test_compiled_steps_carry_the_state(tables, full):
    """Compiling takes twenty seconds: here a prior with state, and one that is a mixture made by the encoder; with --full a plain mixture too."""
    for spec in (LARS(n_proposals=32, hidden=(8,)), Vamp(3), *[Mixture(3)] * full):
        one, other = (VAE(prior=spec, random_state=0, compile=c, **SMALL).fit(tables[0]) for c in (True, False))
        assert one.path_ == "compiled" and other.path_ == "eager"
        assert one.history_.value.to_numpy() == pytest.approx(other.history_.value.to_numpy(), rel=1e-4)
        assert {k: v.item() for k, v in one.state_.items()} == pytest.approx({k: v.item() for k, v in other.state_.items()}, rel=1e-4)


PRIORS = [LARS(truncation=7, n_proposals=32, hidden=(8,)), LARS(truncation=None, n_proposals=32, hidden=(8,)), Mixture(3), Vamp(3)]


@pytest.mark.parametrize("spec", PRIORS, ids=str)
def test_a_prior_is_an_argument(spec, tables, tmp_path):
    model = VAE(prior=spec, random_state=0, **SMALL)
    before = json.dumps(spec.get_params())
    assert f"prior__{next(iter(spec.get_params()))}" in model.get_params()
    fitted = model.fit(tables[0])
    assert json.dumps(spec.get_params()) == before and not hasattr(spec, "model_")     # nothing given is changed
    back = load(fitted.save(tmp_path / "m"))
    assert back.sample(30, random_state=1).equals(fitted.sample(30, random_state=1))
    assert back.score(tables[1].head(20)) == fitted.score(tables[1].head(20))
    assert type(back.prior) is type(spec) and back.prior.get_params() == spec.get_params()
    assert {k: v.item() for k, v in back.state_.items()} == {k: v.item() for k, v in fitted.state_.items()}
    z = fitted.prior_.sample(50, random_state=0)
    assert z.shape == (50, 2) and np.isfinite(fitted.prior_.log_prob(z)).all()


def test_nested_arguments_can_be_set(tables):
    model = VAE(prior=LARS()).set_params(prior__truncation=3, prior__hidden=(4,))
    assert clone(model).prior.truncation == 3
    for bad in (dict(truncation=0), dict(truncation=2.5), dict(n_proposals=0), dict(decay=0.0), dict(decay=1.0), dict(hidden=7)):
        with pytest.raises(ValueError, match=next(iter(bad))):
            VAE(prior=LARS(**bad), **SMALL).fit(tables[0])
    for prior in ("lars", LARS, 3, None):
        with pytest.raises(ValueError, match="prior"):
            VAE(prior=prior, **SMALL).fit(tables[0])


@pytest.mark.parametrize("change", [{"state.log_z": None}, {"state.log_z": np.zeros(2)}, {"state.other": np.float32(0)}])
def test_damaged_state(change, tables, tmp_path):
    from safetensors.numpy import load_file, save_file
    folder = VAE(prior=LARS(n_proposals=16, hidden=(4,)), random_state=0, **SMALL).fit(tables[0]).save(tmp_path / "m")
    arrays = load_file(folder / "model.safetensors") | change
    save_file({k: np.array(v) for k, v in arrays.items() if v is not None}, folder / "model.safetensors")
    with pytest.raises(ValueError, match="state"):
        load(folder)


@pytest.mark.parametrize("prior", [{"Pickle": {}}, {"LARS": 3}, {"LARS": {"depth": 3}}, {"LARS": {}, "Vamp": {}}, {}, "LARS"])
def test_damaged_specification(prior, tables, tmp_path):
    folder = VAE(prior=LARS(n_proposals=16, hidden=(4,)), random_state=0, **SMALL).fit(tables[0]).save(tmp_path / "m")
    config = json.loads((folder / "config.json").read_text())
    config["params"]["prior"] = prior
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="model|damaged"):
        load(folder)


def test_from_the_command_line(tables, tmp_path):
    data, out = tmp_path / "a.csv", tmp_path / "model"
    tables[0].to_csv(data, index=False)
    argv = ["fit", str(data), "--out", str(out), "--epochs", "2", "--quiet", "--param"]
    assert main([*argv, 'prior={"LARS": {"truncation": 5, "hidden": [4]}}']) == 0
    assert load(out).prior.get_params() == LARS(truncation=5, hidden=(4,)).get_params()
    assert main([*argv, 'prior={"Lars": {}}']) == 2


def test_a_prior_on_its_own(tables):
    z = TOYS["rings"].sample(2_000, 0)
    spec = LARS(n_proposals=64, hidden=(8, 8))
    assert spec.fit(z, random_state=0, **FEW) is spec
    assert np.isfinite(spec.log_prob(z)).all() and spec.sample(7, random_state=0).shape == (7, 2)
    assert 0 < spec.acceptance_rate() < 1 and 1 < spec.expected_proposals() < 100
    assert spec.log_z(200_000, random_state=0) == pytest.approx(spec.log_z(), abs=0.02)
    assert spec.log_prob(z).mean() == pytest.approx(spec.model_.score(z), abs=1e-9)
    for call in (lambda: spec.log_prob(z[:, :1]), lambda: spec.sample(0)):
        with pytest.raises(ValueError):
            call()
    from sklearn.exceptions import NotFittedError
    for call in (lambda: LARS().sample(3), lambda: LARS().log_z(), lambda: LARS().log_prob(z), lambda: LARS().draws(2),
                 lambda: VAE(prior=LARS()).prior_, lambda: Density().prior_):
        with pytest.raises(NotFittedError):
            call()


def test_a_density_has_the_likelihood_of_its_samples(tables):
    """E_p[q / p] = 1 for any q with p's support: here q is the independent law, p the fitted density."""
    model = Density(LARS(n_proposals=64, hidden=(8,)), random_state=0, **FEW | dict(max_epochs=30)).fit(tables[0])
    X = model.sample(20_000, random_state=0)
    ratio = np.exp(model.margins_.log_pdf(X).sum(1) - model.score_samples(X))
    assert ratio.mean() == pytest.approx(1, abs=5 * ratio.std() / len(X) ** 0.5)


def test_learning_improves_on_the_normal_law():
    toy = TwoHumps(2)
    spec = LARS(n_proposals=256).fit(toy.sample(4_000, 0), random_state=0, lr=1e-2, **FEW | dict(max_epochs=60))
    normal = toy.kl(toy.normal().logpdf)
    assert toy.kl(spec.log_prob) < 0.3 * normal
    bare = copy.deepcopy(spec)
    bare.model_.module_.prior.truncation = 1
    assert toy.kl(bare.log_prob) == pytest.approx(normal, abs=1e-6)


def test_gain_is_bounded_by_the_logarithm_of_the_proposals():
    spec = LARS(truncation=4, n_proposals=256).fit(TOYS["nine Gaussians"].sample(4_000, 0), random_state=0, lr=1e-2,
                                                    **FEW | dict(max_epochs=40))
    z = np.random.default_rng(0).uniform(-3, 3, (50_000, 2))
    gain = spec.log_prob(z) - stats.norm.logpdf(z).sum(1)
    assert gain.max() <= math.log(spec.expected_proposals()) + 1e-6 <= math.log(4) + 1e-6
    assert gain.max() > 0.5 * math.log(spec.expected_proposals())


def test_studies(tables, tmp_path):
    small = dict(latent_dims=(2,), decoders=((),), max_epochs=2, progress=False, n_jobs=1)
    store = Store(tmp_path / "fits.db")
    rows = lars.prior_study(seeds=range(2), store=store, **small)
    assert len(rows) == 16 and set(rows.prior) == set(lars.PRIORS) and set(rows.table) == {"real", "law"}
    assert rows.acceptance.notna().equals(rows.prior == "LARS")
    again = lars.prior_study(seeds=range(2), store=store, **small)
    assert rows.equals(again) and len(store) == 16
    gains = lars.paired_gains(rows)
    assert len(gains) == 6 and (gains.fits == 2).all()
    one = rows[(rows.table == "law") & (rows.prior.isin(["normal", "LARS"]))].pivot(index="seed", columns="prior", values="copula")
    assert gains.loc["law", 2, "()", "LARS"]["mean"] == pytest.approx((one.LARS - one.normal).mean())
    assert len(lars.plot_priors(rows).axes) == 2
    own = lars.prior_study({"mine": (tables[0], tables[1])}, {"normal": "normal", "LARS": LARS()}, seeds=[0], **small)
    assert list(own.table) == ["mine", "mine"]
    toys = lars.toy_study({"LARS": LARS(n_proposals=32), "mixture": Mixture(2)}, {"humps": TwoHumps(3)}, seeds=[0], n_rows=600,
                          max_epochs=2, progress=False)
    assert len(toys) == 2 and toys.kl.notna().all() and toys.acceptance.notna().tolist() == [True, False]


def test_a_failed_fit_is_in_the_study():
    with pytest.warns(UserWarning, match="fits failed"):
        rows = lars.toy_study({"mixture": Mixture(2)}, {"humps": TwoHumps(2)}, seeds=[0], n_rows=600, max_epochs=40, lr=1e30,
                              progress=False)
    assert rows.failure.iloc[0] != "" and "kl" not in rows


def test_validation_follows_the_weights_not_the_moving_average():
    """The loss on validation rows is -log p_T under the Z of the moment, though <Z> lags behind."""
    model = Density(LARS(n_proposals=4096, hidden=(16, 16)), margins="identity", lr=2e-2, lr_decay="constant", max_epochs=12, batch_size=64,
                    patience=100, random_state=0, progress=False, compile=False).fit(TOYS["nine Gaussians"].sample(800, 0))
    rng = torch.Generator().manual_seed(model.seed_)
    with steady(model.seed_) as rng:
        model.build(2)
        _, valid = model._split(800, rng)
    h = model.history_[model.history_.split == "validation"].set_index("epoch").value
    rows = TOYS["nine Gaussians"].sample(800, 0)[valid]
    assert h[model.best_epoch_] == pytest.approx(-model.prior_.log_prob(rows).mean(), abs=0.03)
    lag = model.state_["log_mean_z"].item() - model.state_["log_z"].item()
    assert lag > 0.1                                  # so it would have mattered


def test_a_truncation_of_one_can_be_fitted():
    spec = LARS(truncation=1, n_proposals=16, hidden=(4,)).fit(np.random.default_rng(0).standard_normal((200, 2)), compile=False, **FEW)
    assert spec.expected_proposals() == pytest.approx(1)


def test_what_is_set_later_changes_neither_the_fitted_law_nor_its_file(tables, tmp_path):
    spec = LARS(truncation=100, n_proposals=32, hidden=(8,))
    model = VAE(prior=spec, random_state=0, **SMALL).fit(tables[0])
    before, score = model.prior_.expected_proposals(), model.score(tables[1].head(20))
    kept = model.prior_
    spec.set_params(truncation=2)
    model.set_params(latent_dim=5)
    assert model.prior_.expected_proposals() == before and model.prior_.truncation == 100
    assert load(model.save(tmp_path / "m")).score(tables[1].head(20)) == score
    model.set_params(latent_dim=2, random_state=1).fit(tables[0])
    assert kept.expected_proposals() == before != model.prior_.expected_proposals()


@pytest.mark.parametrize("log_z, truncation, expected", [(-800, 100, 100), (-50, 10 ** 9, 10 ** 9), (-1000, None, math.inf), (0.0, 5, 1), (-1e-9, None, 1)])
def test_expected_proposals_at_the_ends(log_z, truncation, expected):
    assert expected_proposals(log_z, truncation) == pytest.approx(expected)


def test_a_float_of_zero_accepts_nothing():
    draws = rejection_sample(lambda z: torch.full((len(z),), -200.0), 2, 20, 10 ** 6, -200.0, torch.Generator().manual_seed(0))
    assert draws.forced.all()


def test_points_in_any_form():
    spec = LARS(n_proposals=64, hidden=(4,)).fit(np.random.default_rng(0).standard_normal((200, 2)), random_state=0, **FEW)
    z = np.array([[0.0, 1.0], [1.0, 1.0]])
    for method in (spec.log_prob, spec.log_a):
        for same in (z.astype("f4"), [[0, 1], [1, 1]]):
            assert method(same) == pytest.approx(method(z))
        with pytest.raises(ValueError, match="shape"):
            method(z[:, :1])
    for n in (0, 1e5, -3):
        with pytest.raises(ValueError, match="n_draws"):
            spec.log_z(n)
    draws = spec.draws(9, random_state=0)
    assert all(isinstance(part, np.ndarray) and len(part) == 9 for part in draws)
    assert (draws.z == spec.sample(9, random_state=0)).all()


def test_arguments_that_cannot_be(tables):
    from genmod_nb.priors import Normal
    from genmod_nb.wae import WAE, w2_divergence
    for hidden in ((-1,), (2.5,), ("a",), (True,), (0,)):
        with pytest.raises(ValueError, match="hidden"):
            VAE(prior=LARS(hidden=hidden), **SMALL).fit(tables[0])
    with pytest.raises(ValueError, match="truncation"):
        VAE(prior=LARS(truncation=10 ** 30), **SMALL).fit(tables[0])
    with pytest.raises(ValueError, match="nothing to fit"):
        Normal().fit(np.random.default_rng(0).standard_normal((200, 2)))
    for model in (WAE(prior=LARS(), **SMALL), VAE(prior=LARS(), divergence=w2_divergence, **SMALL)):
        with pytest.raises(ValueError, match="N\\(0, I\\)"):
            model.fit(tables[0])


def test_a_rate_above_one_is_not_loaded(tables, tmp_path):
    from safetensors.numpy import load_file, save_file
    folder = VAE(prior=LARS(n_proposals=16, hidden=(4,)), random_state=0, **SMALL).fit(tables[0]).save(tmp_path / "m")
    arrays = load_file(folder / "model.safetensors")
    save_file(arrays | {"state.log_z": np.array(5.0, "f4")}, folder / "model.safetensors")
    with pytest.raises(ValueError, match="log Z is positive"):
        load(folder)


def test_an_unknown_specification_names_the_known_ones(tables, tmp_path):
    from genmod_nb.files import Specification, from_json
    with pytest.raises(ValueError, match="among LARS, Mixture, Normal, (Radial, )?Vamp;") as e:
        from_json({"LARZ": {}})
    assert "genmod_nb.cli" in str(e.value) and "PriorSpec" not in Specification.registry
