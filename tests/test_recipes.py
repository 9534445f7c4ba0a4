"""The four additions that CONTRIBUTING names, each made as it says: a divergence, a prior, a metric and a model."""
import numpy as np
import pytest
import torch
from sklearn.base import clone
from torch import nn

from genmod_nb.metrics import DISTANCES, scorecard
from genmod_nb.model import GenerativeModel
from genmod_nb.priors import DIVERGENCES, Prior, PriorSpec, kl_divergence
from genmod_nb.seam import GenerativeModule
from genmod_nb.vae import VAE

SMALL = dict(max_epochs=3, random_state=0, progress=False)


def test_a_divergence(tables, monkeypatch):
    """Twice the KL: by its name, and as a function."""
    def twice(prior, mu, log_s, z, context):
        kl, state = kl_divergence(prior, mu, log_s, z, context)
        return 2 * kl, state
    monkeypatch.setitem(DIVERGENCES, "twice", twice)
    named, given, once = (VAE(divergence=d, max_epochs=1, batch_size=10 ** 6, early_stopping=False, random_state=0, progress=False).fit(tables[0])
                          for d in ("twice", twice, "kl"))
    first = [m.history_.query("term == 'divergence'").value.iloc[0] for m in (named, given, once)]
    assert first[0] == first[1] == pytest.approx(2 * first[2], rel=1e-6)


class Wide(Prior):
    """N(0, s^2 I) with a learned s."""
    def __init__(self, latent_dim):
        super().__init__(latent_dim)
        self.log_s = nn.Parameter(torch.zeros(()))

    def log_prob(self, z, context):
        return torch.distributions.Normal(0.0, self.log_s.exp(), validate_args=False).log_prob(z).sum(-1)

    def sample(self, n, rng, context):
        return self.log_s.exp().cpu() * torch.randn(n, self.latent_dim, generator=rng)


def test_a_prior(tables, tmp_path):
    class WideSpec(PriorSpec):
        def build(self, latent_dim, n_features):
            return Wide(latent_dim)

    model = VAE(prior=WideSpec(), **SMALL).fit(tables[0])
    z = model.prior_.sample(20_000, random_state=0)
    assert model.module_.prior.log_s.item() != 0 and z.std() == pytest.approx(model.module_.prior.log_s.exp().item(), rel=0.02)
    again = VAE.load(model.save(tmp_path / "m"))
    assert again.sample(5, random_state=0).equals(model.sample(5, random_state=0))
    del WideSpec.registry["WideSpec"]


def test_a_metric(tables, monkeypatch):
    gap = lambda real, fake, random_state=0: float(np.abs(np.mean(real, axis=0) - np.mean(fake, axis=0)).sum())
    monkeypatch.setitem(DISTANCES, "mean_gap", gap)
    card = scorecard(tables[1], tables[0], reps=20, progress=False)
    row = card.loc["mean_gap"]
    assert row.value > 0 and 0 < row.floor < row.floor_95 and row.met in (True, False)


def test_a_model(tables, tmp_path):
    """One that learns the mean of the normal scores, and draws around it."""
    class CentreModule(GenerativeModule):
        def __init__(self, d):
            super().__init__()
            self.mean = nn.Parameter(torch.ones(d))

        def terms(self, x, noise, scalars, state):
            return {"loss": ((x - self.mean) ** 2).sum(1).mean()}, state

        def draw(self, n, rng, scalars, state):
            return self.mean + torch.randn(n, len(self.mean), generator=rng)

    class Centre(GenerativeModel):
        def build(self, n_features):
            return CentreModule(n_features)

    model = Centre(lr=0.05, max_epochs=200, early_stopping=False, random_state=0, progress=False).fit(tables[0])
    scores = model.margins_.transform(tables[0]).to_numpy()
    assert np.allclose(model.module_.mean.detach(), scores.mean(0), atol=0.05)
    assert clone(model).get_params() == model.get_params() and (model.sample(100, random_state=1) >= 0).all(axis=None)
    assert GenerativeModel.load(model.save(tmp_path / "m")).sample(5, random_state=0).equals(model.sample(5, random_state=0))
    del Centre.registry["Centre"]
