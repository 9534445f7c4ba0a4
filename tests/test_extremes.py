"""A radius with a heavy tail: its density and draws, the stretched scores, and the shares of an ensemble's tails."""
import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from scipy import special, stats

from conftest import SMALL
from scipy.spatial.distance import cdist

from genmod_nb.baselines import Bootstrap, GaussianCopula, Independent, Truth
from genmod_nb.cli import load, main
from genmod_nb.data import GaussianLaw, LossLaw
from genmod_nb.evaluation import EXTREMES, extreme_study
from genmod_nb.extremes import Radial, RadialEnsemble, RadialPrior, StretchedNoise, stretched, unstretched
from genmod_nb.likelihoods import LIKELIHOODS
from genmod_nb.many import fit_many
from genmod_nb.tail_study import far_ratios, given_distance, plot_extremes, tail_score
from genmod_nb.vae import VAE

FEW = SMALL | dict(members=4, tails=(4.0, None))


@pytest.fixture(scope="module")
def radial(tables):
    return RadialEnsemble(**FEW).fit(tables[0])


@pytest.mark.parametrize("nu", [1.0, 2.5, 8.0, 100.0])
def test_stretching_and_back(nu):
    z = torch.linspace(-37, 37, 1001, dtype=torch.float64) * min(1, nu ** 0.5 / 2)
    y, log_slope = stretched(z, nu)
    assert unstretched(y, nu).numpy() == pytest.approx(z.numpy(), rel=1e-9, abs=1e-12)
    numeric = (stretched(z + 1e-6, nu)[0] - stretched(z - 1e-6, nu)[0]) / 2e-6
    assert log_slope.numpy() == pytest.approx(numeric.log().numpy(), rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("nu", [2.5, 8.0])
def test_the_radius_makes_a_multivariate_t(nu):
    """r times a standard normal vector is multivariate t."""
    z = RadialPrior(3, nu).sample(40_000, torch.Generator().manual_seed(0))
    rows = (z[:, :3] * z[:, 3:].exp()).numpy()
    assert min(stats.kstest(x, stats.t(nu).cdf).pvalue for x in rows.T) > 1e-3
    square = (rows ** 2).sum(1) / 3
    assert stats.kstest(square, stats.f(3, nu).cdf).pvalue > 1e-3
    assert stats.kstest((1.05 * rows[:, 0]), stats.t(nu).cdf).pvalue < 0.05        # an error of 5 % would show


@pytest.mark.parametrize("kind", LIKELIHOODS)
def test_a_stretched_noise_is_one_law(kind):
    """The density of one score, integrated over the other, is that of `log_prob_at`; the draws follow it."""
    inner = LIKELIHOODS[kind](4, 2).double()
    noise, g = StretchedNoise(inner, 4.0), torch.Generator().manual_seed(1)
    h, mean, log_sigma = torch.randn(1, 4, generator=g).double(), torch.tensor([[0.5, -1.0]]).double(), torch.tensor([[-0.2, 0.3]]).double()
    grid = torch.linspace(-6, 6, 4001, dtype=torch.float64)
    with torch.no_grad():
        joint = noise.log_prob(torch.stack([torch.full_like(grid, 0.8), grid], 1), h, mean, log_sigma).exp()
        alone = noise.log_prob_at(torch.tensor([0.8]).double(), [0], h, mean, log_sigma).exp().item()
        drawn = noise.draw(h.expand(20_000, -1), mean.expand(20_000, -1), log_sigma.expand(20_000, -1), g)[:, 0]
        own = torch.stack([noise.log_prob_at(v[None], [0], h, mean, log_sigma)[0] for v in grid]).exp().numpy()
    assert np.trapezoid(joint.numpy(), grid.numpy()) == pytest.approx(alone, rel=1e-3)
    cdf = np.cumsum(own) * 12 / 4000
    assert cdf[-1] == pytest.approx(1, abs=1e-3)
    assert stats.kstest(drawn.numpy(), lambda v: np.interp(v, grid.numpy(), cdf)).pvalue > 1e-3


def test_scores_near_zero_are_stretched_as_well_when_compiled(tables):
    """A compiler may take exp(w) - 1 at its word, and lose all digits of a small w."""
    nu, z = 4.0, torch.tensor([0.0, 1e-8, 1e-5, -1e-3, 0.03, 0.3])
    at_once = torch.compile(stretched)(z, nu)
    for found, exact in zip(at_once, stretched(z.double(), nu)):
        assert found.numpy() == pytest.approx(exact.numpy(), rel=1e-5, abs=1e-12)
    X = tables[0].copy()
    X.iloc[:, 0] = np.sort(X.iloc[:, 0])        # an odd number of rows: the middle one has the score 0 or nearly
    assert VAE(**SMALL | dict(max_epochs=2, compile=True), prior=Radial(nu)).fit(X).failure_ == ""


def test_one_compiled_function_serves_every_tail(tables):
    """The tail is given to the compiled step with the parameters, and no step changes it."""
    models = [VAE(**SMALL | dict(max_epochs=2, compile=True), prior=Radial(nu)) for nu in (4.0, 6.5)]
    shapes = {clone(m)._prepare(tables[0]).shape for m in models}
    assert len(shapes) == 1
    for m in models:
        kept = dict(m.fit(tables[0]).module_.named_parameters())
        assert kept["prior.nu"].item() == kept["likelihood.nu"].item() == m.prior.nu
        plain = clone(m).set_params(compile=False).fit(tables[0])
        assert m.history_.value.to_numpy() == pytest.approx(plain.history_.value.to_numpy(), rel=1e-3, abs=1e-4)


def test_density_and_sampler_are_one(radial, tables):
    other = Independent().fit(tables[0])
    points = pd.concat([radial.sample(4000, random_state=1), other.sample(4000, random_state=2)])
    own, alone = radial.score_samples(points), other.score_samples(points)
    share = 2 / (1 + np.exp(alone - own))
    halves = share[:4000], share[4000:]
    error = 0.5 * np.sqrt(sum(h.var() / len(h) for h in halves))
    assert np.mean([h.mean() for h in halves]) == pytest.approx(1, abs=4 * error) and error < 0.02


def test_shares_are_what_the_validation_rows_say(radial, tables):
    parts = radial.parts(4)
    assert [p.prior if p.prior == "normal" else p.prior.nu for p in parts] == [4.0, "normal"] * 2
    assert parts[0].random_state == parts[1].random_state != parts[2].random_state == parts[3].random_state
    fitted = [p.fit(tables[0]) for p in parts]
    last = [m.history_[(m.history_.epoch == m.best_epoch_) & (m.history_.split == "validation")].set_index("term").value for m in fitted]
    bound = np.array([v["reconstruction"] - v["divergence"] for v in last])
    held = round(SMALL.get("validation_fraction", 0.1) * len(tables[0]))
    heavy = special.expit(held * (bound[[0, 2]].mean() - bound[[1, 3]].mean()))
    assert radial.shares_.to_dict() == pytest.approx({"4.0": heavy, "None": 1 - heavy}, rel=1e-3, abs=1e-5)


def test_it_is_the_same_among_others(radial, tables):
    """The shares follow from the table's validation rows, whoever fits the members."""
    again, other = fit_many([RadialEnsemble(**FEW), RadialEnsemble(**FEW | dict(early_stopping=False, max_epochs=3))], tables[0], progress=False)
    assert again.shares_.equals(radial.shares_) and again.sample(50, random_state=0).equals(radial.sample(50, random_state=0))
    assert other.shares_.tolist() == pytest.approx([0.5, 0.5])         # no row was held out: nothing speaks for a tail


def test_a_file_keeps_it(radial, tmp_path, tables):
    radial.save(tmp_path / "m")
    again = load(tmp_path / "m")
    assert again.sample(100, random_state=0).equals(radial.sample(100, random_state=0))
    assert (again.score_samples(tables[1]) == radial.score_samples(tables[1])).all()
    assert again.shares_.equals(radial.shares_)


def test_it_draws_under_conditions(radial):
    x = float(radial.margins_.columns_[0].inverse(np.array([1.5]))[0])
    drawn = radial.sample(4000, random_state=0, given={"f1": x})
    near = radial.sample(400_000, random_state=1)
    z = radial.margins_.transform(near)
    window = near[(z.f1 - 1.5).abs() < 0.02]
    assert (drawn.f1 == x).all() and len(window) > 1000
    for c in ("f2", "f3", "f4"):
        assert stats.ks_2samp(drawn[c], window[c]).pvalue > 1e-3


@pytest.mark.parametrize("arguments", [dict(tails=()), dict(tails=(0.5,)), dict(tails=("heavy",)), dict(prior=Radial(4.0))])
def test_it_refuses(arguments, tables):
    with pytest.raises(ValueError, match="tails|prior"):
        RadialEnsemble(**FEW | arguments).fit(tables[0])
    with pytest.raises(ValueError, match="nu"):
        VAE(**SMALL, prior=Radial(0.5)).fit(tables[0])


@pytest.fixture(scope="module")
def study():
    models = {"Truth itself": Truth(), "Bootstrap": Bootstrap(), "Gaussian copula": GaussianCopula()}
    return extreme_study(models=models, seeds=range(2), n_splits=1, n_second=1, n_jobs=1, progress=False)


def test_the_study_knows_the_truth(study):
    assert study.groupby("table", sort=False).model.count().to_dict() == {"real": 3, "law": 8, "Gaussian law": 4}
    ratios = far_ratios(study).set_index(["table", "model", "seed"]).sort_index()
    own = ratios.loc["law", "Truth itself"]
    assert own["all 0.99"].to_numpy() == pytest.approx(1, abs=4 / (2 ** 18 * 7.9e-4) ** 0.5)
    assert own["es mean 0.99"].to_numpy() == pytest.approx(1, abs=0.05) and own["chi f1 f4"].to_numpy() == pytest.approx(1, abs=0.2)
    assert (ratios.loc["law", "Gaussian copula"]["all 0.99"] < 0.2).all()
    assert ratios.loc["Gaussian law", "Gaussian copula"]["all 0.99"].item() == pytest.approx(1, abs=0.6)
    assert (ratios.loc["Gaussian law", "Truth itself"]["all 0.99"] > 10).all()       # the other law
    assert set(study[study.table == "real"].dropna(axis=1).columns) >= {"tail_score", "tail_score_mean"}


def test_the_study_judges_stress(study):
    own = study[study.table == "law"].set_index("model")
    assert (own.given["Truth itself"] < 0.02).all() and (own.given["Gaussian copula"] > 2 * own.given["Truth itself"].max()).all()
    assert own.given["Bootstrap"].isna().all() and own.refused["Bootstrap"].str.contains("likelihood").all()


def test_an_error_in_a_scale_shows_in_the_stress(tables):
    class Wrong(Truth):
        def sample(self, *args, **kwargs):
            X = super().sample(*args, **kwargs)
            return X.assign(f3=1.2 * X.f3)
    rows = LossLaw().sample(720, 0)
    assert given_distance(Wrong().fit(rows), rows)["given"] > 2 * given_distance(Truth().fit(rows), rows)["given"]


def test_pictures_of_extremes(study):
    assert len(plot_extremes(study).axes) == 4
    assert len(plot_extremes(study[study.table == "real"]).axes) == 2


@pytest.mark.parametrize("d", [1, 4])
def test_the_tail_score_is_its_definition(d):
    rng = np.random.default_rng(0)
    real, fake, t = rng.standard_t(3, (150, d)) ** 2, rng.standard_t(3, (400, d)) ** 2, np.full(d, 4.0)
    x, y = (np.maximum(v / t, 1) for v in (fake, real))
    assert tail_score(real, fake, t) == pytest.approx(cdist(x, y).mean() - cdist(x, x).mean() / 2, rel=1e-12)
    if d == 1:          # the threshold-weighted CRPS, as an integral over the levels above the threshold
        grid = np.linspace(1, max(x.max(), y.max()), 400_001)
        F = np.searchsorted(np.sort(x[:, 0]), grid, side="right") / len(x)
        G = np.searchsorted(np.sort(y[:, 0]), grid, side="right") / len(y)         # the mean of 1{y <= z}
        crps = np.trapezoid(F ** 2 - 2 * F * G + G, grid)
        assert tail_score(real, fake, t) == pytest.approx(crps, rel=1e-3)


@pytest.mark.parametrize("fake", [0.1, 9.0])
def test_the_tail_score_where_nothing_or_all_is_far(fake):
    real = np.full((20, 2), 0.5)
    assert tail_score(real, np.full((30, 2), fake), [1.0, 1.0]) == pytest.approx(np.sqrt(2) * max(fake - 1, 0))


def test_the_tail_score_prefers_the_law():
    """Over many tables the law scores better than the one without joint extremes, which has the same margins."""
    good, bad = (law.sample(30_000, 1) for law in (LossLaw(), GaussianLaw()))
    t = good.quantile(0.95).to_numpy()
    apart = [tail_score(X, bad, t) - tail_score(X, good, t) for X in (LossLaw().sample(2000, i) for i in range(20, 60))]
    assert np.mean(apart) > 3 * np.std(apart) / 40 ** 0.5


def test_the_study_from_the_command_line(tmp_path, tables):
    tables[0].to_csv(tmp_path / "mine.csv")
    assert main(["study", "extremes", "--out", str(tmp_path), "--data", str(tmp_path / "mine.csv"), "--seeds", "1", "--epochs", "1", "--jobs", "1", "--quiet"]) == 0
    rows = pd.read_parquet(tmp_path / "extremes-0.parquet")
    assert set(rows.table) == {"data"} and list(rows.model) == [*EXTREMES] and (tmp_path / "extremes-0.png").is_file()
