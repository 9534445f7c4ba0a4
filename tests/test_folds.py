"""Folded noise: single precision, compilation, the term-by-term sum, and what cannot be."""
import numpy as np
import pandas as pd
import pytest
import torch
from scipy import special, stats

from genmod_nb.copulas import FoldedT
from genmod_nb.data import simulate_losses
from genmod_nb.ensemble import Ensemble
from genmod_nb.extremes import Radial, StretchedNoise
from genmod_nb.folds import FoldedNoise, folded, unfolded
from genmod_nb.likelihoods import MultivariateStudentNoise, Noise, NormalNoise, StudentNoise, signs
from genmod_nb.vae import VAE

SMALL = dict(encoder=(8,), decoder=(8,), max_epochs=4, progress=False, random_state=0)


@pytest.mark.parametrize("way", ["eager", "compiled"])
def test_single_precision_keeps_the_digits_of_far_scores(way):
    """torch's own normal distribution function is one and an error function: beyond -5 it has no digits."""
    z = torch.linspace(-12, 40, 2_001)
    q, log_slope = (torch.compile(folded) if way == "compiled" else folded)(z)
    exact = stats.halfnorm.isf(special.ndtr(-z[z < 30].double().numpy()))
    assert q[z < 30].numpy() == pytest.approx(exact, rel=2e-5, abs=1e-6)
    assert q.isfinite().all() and log_slope.isfinite().all() and (q.diff() >= 0).all()


def test_gradients_are_finite_everywhere():
    """Where one branch of a choice is not taken, its infinite slope must not come back as NaN."""
    z = torch.tensor([-40.0, -12, -5, 0, 5, 11.9, 12, 13, 40], requires_grad=True)
    q, log_slope = folded(z)
    (q.sum() + log_slope.sum()).backward()
    assert z.grad.isfinite().all()


def test_there_and_back():
    z = torch.linspace(-6, 40, 2_001, dtype=torch.float64)
    assert unfolded(folded(z)[0]).numpy() == pytest.approx(z.numpy(), abs=1e-5)
    assert unfolded(torch.tensor([0.0, -0.0])).isfinite().all()
    assert unfolded(torch.tensor([-1.5])) == unfolded(torch.tensor([1.5]))


@pytest.mark.parametrize("d", [1, 2, 5])
@pytest.mark.parametrize("kind", [NormalNoise, StudentNoise, MultivariateStudentNoise])
def test_the_short_sums_are_the_long_one(kind, d):
    torch.manual_seed(d)
    inner = kind(3, d).double()
    h, mean, log_sigma = torch.randn(4, 1, 3).double(), torch.randn(4, 1, d).double(), torch.randn(4, 1, d).double()
    x = torch.randn(6, d).double().abs()
    for noise in (inner, StretchedNoise(inner, 5.0)):
        with torch.no_grad():
            terms = [noise.log_prob(x * s, h, mean, log_sigma) for s in signs(d)]
            assert noise.log_prob_folded(x, h, mean, log_sigma).numpy() == pytest.approx(torch.stack(terms).logsumexp(0).numpy(), abs=1e-9)


def test_every_set_of_signs_is_there_once():
    assert len({tuple(s.tolist()) for s in signs(5)}) == 32 and (signs(5).abs() == 1).all()


def test_a_fold_knows_a_pair_that_lost_its_signs():
    """|Y| of a correlated normal pair is a noise with one number to a fold; without, the same network stays behind."""
    def pairs(n, seed):
        Y = np.random.default_rng(seed).multivariate_normal([0, 0], [[1, 0.9], [0.9, 1]], n)
        return pd.DataFrame(np.abs(Y), columns=["a", "b"])
    X, test = pairs(720, 0), pairs(4000, 1)
    noise = dict(latent_dim=1, encoder=(8,), decoder=(), likelihood="multivariate_t", max_epochs=100, progress=False, random_state=0)
    plain, fold, best = (m.fit(X).copula_score(test) for m in (VAE(**noise), VAE(**noise, folded=True), FoldedT()))
    assert fold > plain + 0.03 and fold > best - 0.03


@pytest.mark.parametrize("model", [VAE(folded=True, compile=True, **SMALL), VAE(folded=True, likelihood="multivariate_t", sigma="conditional", compile=True, n_draws=2, **SMALL),
                                   VAE(folded=True, prior=Radial(6.0), **SMALL), Ensemble(folded=True, members=2, **SMALL)],
                         ids=["normal", "multivariate t", "radial", "ensemble"])
def test_saved_and_loaded(model, tmp_path):
    X = simulate_losses(300, 0)
    model.fit(X).save(tmp_path / "m")
    again = type(model).load(tmp_path / "m")
    assert again.folded is True
    pd.testing.assert_frame_equal(again.sample(50, random_state=1), model.sample(50, random_state=1))
    assert (again.score_samples(X[:20]) == model.score_samples(X[:20])).all()


@pytest.mark.parametrize("prior", [Radial(4.0), "normal"])
@pytest.mark.parametrize("fold", [False, True])
def test_without_noise_the_mean_comes_back_in_losses(prior, fold):
    """A decoder without noise gives its mean in the scale of the scores, whatever the noise was stretched or folded to."""
    X = simulate_losses(720, 0)
    model = VAE(prior=prior, folded=fold, decoder_noise=False, **SMALL | dict(max_epochs=60)).fit(X)
    drawn = model.sample(4_000, random_state=0)
    module, scalars, _ = model._double()
    mean = torch.full((1, 4), 3.0).double()
    assert (module.likelihood.centre(mean).abs() <= 3).all()
    assert drawn.max().max() < 3 * X.max().max()


def test_too_many_columns_for_all_signs_are_an_error():
    X = pd.DataFrame(np.random.default_rng(0).exponential(size=(200, 13)))
    with pytest.raises(ValueError, match="13 columns: a folded multivariate_t sums 2.13 signs"):
        VAE(folded=True, likelihood="multivariate_t", **SMALL).fit(X)
    assert VAE(folded=True, **SMALL).fit(X).failure_ == ""
