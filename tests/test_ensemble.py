"""Noise, weighted draws and decay of the VAE; the map of the margins; members averaged into one law; the studies over splits."""
import json
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, strategies as st
from scipy import special, stats
from sklearn.base import clone

import genmod_nb.ensemble as chapter
from conftest import SMALL
from genmod_nb.cli import main
from genmod_nb.data import load_losses
from genmod_nb.development import development_tables
from genmod_nb.baselines import Bootstrap, Independent, Vine
from genmod_nb.ensemble import Ensemble, fidelity_study, plot_fidelity
from genmod_nb.splines import spline, spline_inverse
from genmod_nb.evaluation import REFERENCES, REPORT, compare, evaluation_study, paired, plot_frontier, summary
from genmod_nb.extremes import RadialEnsemble
from genmod_nb.lars import LARS
from genmod_nb.store import Store
from genmod_nb.model import GenerativeModel
from genmod_nb.many import fit_many
from genmod_nb.likelihoods import MultivariateStudentNoise, StudentNoise, normal_log_prob
from genmod_nb.vae import VAE
from genmod_nb.wae import WAE

FEW = SMALL | dict(members=3)


@pytest.fixture(scope="module")
def ensemble(tables):
    return Ensemble(**FEW).fit(tables[0])


# ------------------------------------------------------------------ the decoder's noise
@pytest.mark.parametrize("d", [2, 3, 7])
def test_multivariate_t_integrates_its_parts(d):
    """With A = 0 it is the multivariate t of scipy with a diagonal scale; one feature alone is Student-t."""
    noise = MultivariateStudentNoise(5, d).double()
    torch.nn.init.zeros_(noise.regressions.weight), torch.nn.init.zeros_(noise.regressions.bias)
    g = torch.Generator().manual_seed(d)
    x, log_sigma = torch.randn(50, d, generator=g, dtype=torch.float64), torch.randn(d, generator=g, dtype=torch.float64)
    h, mean = torch.randn(50, 5, generator=g, dtype=torch.float64), torch.zeros(50, d, dtype=torch.float64)
    oracle = stats.multivariate_t(np.zeros(d), np.diag(np.exp(2 * log_sigma.numpy())), df=noise.nu().item())
    assert noise.log_prob(x, h, mean, log_sigma).detach().numpy() == pytest.approx(oracle.logpdf(x.numpy()), abs=1e-9)


@pytest.mark.parametrize("sigma", [0.5, "learned", "conditional"])
@pytest.mark.parametrize("likelihood", ["normal", "student", "multivariate_t"])
@pytest.mark.parametrize("folded", [False, True], ids=["", "folded"])
def test_every_noise_trains_draws_and_scores(sigma, likelihood, folded, tables):
    """The density is that of the draws: half of the rows from the model, half from independent columns."""
    train = tables[0]
    model = VAE(**SMALL, sigma=sigma, likelihood=likelihood, folded=folded, n_draws=3).fit(train)
    independent = Independent().fit(train)
    x = pd.concat([model.sample(3000, 0), independent.sample(3000, random_state=1)])
    ratio = 2 * special.expit(model.score_samples(x, 64) - independent.score_samples(x))
    assert ratio.mean() == pytest.approx(1, abs=4 * ratio.std() / len(x) ** 0.5)


def test_student_draws_share_one_chi2_only_where_they_should():
    zeros = torch.zeros(20_000, 2)
    g = torch.Generator().manual_seed(0)
    with torch.no_grad():
        apart = StudentNoise(3, 2).draw(None, zeros, zeros, g).numpy()
        noise = MultivariateStudentNoise(3, 2)
        torch.nn.init.zeros_(noise.regressions.weight), torch.nn.init.zeros_(noise.regressions.bias)
        together = noise.draw(torch.zeros(20_000, 3), zeros, zeros, g).numpy()
    size = lambda x: stats.spearmanr(np.abs(x)).statistic
    assert abs(size(apart)) < 0.03 < 0.06 < size(together)


# ------------------------------------------------------------------ weighted draws, decay
def test_weighted_bound_is_the_formula_in_a_loop(tables):
    model = VAE(**SMALL, n_draws=5).fit(tables[0])
    module, scalars, state = model._double()
    x = torch.tensor(model.margins_.transform(tables[1]).to_numpy()[:20])
    noise = {k: v.double() for k, v in module.noise(20, torch.Generator().manual_seed(0)).items()}
    terms, _ = module.terms(x, noise, scalars, state)
    mu, log_s = module.encode(x)
    bounds = []
    for i in range(20):
        weights = []
        for k in range(5):
            z = mu[i] + log_s[i].exp() * noise["eps"][i, k]
            h, mean, log_sigma = module.decode(z[None], scalars)
            q = torch.distributions.Normal(mu[i], log_s[i].exp()).log_prob(z).sum()
            p = torch.distributions.Normal(0.0, 1.0).log_prob(z).sum()
            weights.append(normal_log_prob(x[i], mean[0], log_sigma).sum() + p - q)
        bounds.append(torch.stack(weights).exp().mean().log())
    assert terms["loss"].item() == pytest.approx(-torch.stack(bounds).mean().item(), abs=1e-9)
    assert (terms["reconstruction"] - terms["divergence"]).item() == pytest.approx(-terms["loss"].item(), abs=1e-9)


def test_weighted_draws_take_any_prior_but_no_other_divergence(tables):
    model = VAE(**SMALL, n_draws=4, prior=LARS(n_proposals=64)).fit(tables[0])
    assert np.isfinite(model.score(tables[1], )) and "log_z" in model.state_
    with pytest.raises(ValueError, match="n_draws=4"):
        WAE(**SMALL | dict(early_stopping=False), n_draws=4).fit(tables[0])


def test_weight_decay(tables):
    free, held = (VAE(**SMALL | dict(max_epochs=40), weight_decay=w, early_stopping=False).fit(tables[0]) for w in (0.0, 0.1))
    length = lambda m: sum((p ** 2).sum().item() for n, p in m.module_.named_parameters() if p.dim() == 2 and n.startswith("decoder"))
    assert length(held) < 0.5 * length(free)
    assert "penalty" in set(held.history_.term) and "penalty" not in set(free.history_.term)
    h = held.history_[held.history_.epoch == 40].set_index("term").value
    assert h["loss"] == pytest.approx(h["divergence"] - h["reconstruction"] + h["penalty"], abs=1e-4)


# ------------------------------------------------------------------ the map of the margins
@given(st.integers(0, 10_000), st.integers(2, 30))
def test_spline_there_and_back(seed, k):
    g = torch.Generator().manual_seed(seed)
    table = lambda: (torch.rand(2, k, generator=g, dtype=torch.float64) + 1e-3).cumsum(1) * 10 ** (4 * torch.rand(2, 1, generator=g, dtype=torch.float64) - 2)
    knots, values = table(), table()
    x = 4 * torch.randn(200, 2, generator=g, dtype=torch.float64).sort(0).values * knots[:, -1]
    y, slope = spline(x, knots, values)
    assert (y.diff(dim=0) >= 0).all() and torch.isfinite(slope).all()
    assert torch.allclose(spline_inverse(y, knots, values), x, rtol=1e-6, atol=1e-7)
    at, _ = spline(knots.T.contiguous(), knots, values)
    assert torch.allclose(at, values.T, rtol=1e-9, atol=1e-9)


# ------------------------------------------------------------------ members, averaged
def test_members_are_the_models_they_would_be_alone(ensemble, tables):
    parts = Ensemble(**FEW).parts(4)
    assert [type(p) for p in parts] == [VAE] * 3 and [p.folded for p in parts] == [False, True, False]
    assert parts[0].random_state == parts[1].random_state != parts[2].random_state          # one turn, one set of validation rows
    for i, part in enumerate(parts):
        alone = part.fit(tables[0])
        weights = ensemble.module_.members[i].state_dict()
        assert all(torch.allclose(weights[k], v, atol=1e-4) for k, v in alone.module_.state_dict().items())
    longer = [p.random_state for p in Ensemble(**FEW | dict(members=5)).parts(4)]
    assert longer[:3] == [p.random_state for p in parts]      # more members leave the first ones alone


def test_shares_are_of_kinds_and_from_the_rows_held_out(ensemble, tables):
    """Given fits, the shares follow from their bounds by hand; without validation rows all kinds count the same."""
    last = [m[(m.split == "validation")].pivot(index="epoch", columns="term", values="value") for _, m in ensemble.history_.groupby("member")]
    bounds = [(v.reconstruction - v.divergence).loc[p.fit(tables[0]).best_epoch_] for v, p in zip(last, ensemble.parts(4))]
    fold = special.expit(round(SMALL.get("validation_fraction", 0.1) * len(tables[0])) * (bounds[1] - bounds[0]))     # the third member's turn is broken off
    assert ensemble.shares_.to_dict() == pytest.approx({"plain": 1 - fold, "folded": fold}, rel=1e-3, abs=1e-6)
    blind = Ensemble(**FEW | dict(early_stopping=False, max_epochs=2)).fit(tables[0])
    assert blind.shares_.tolist() == pytest.approx([0.5, 0.5]) and blind.state_["shares"].tolist() == pytest.approx([0.25, 0.5, 0.25])


def test_shares_are_those_of_the_fit(tables):
    model = Ensemble(**FEW | dict(max_epochs=2)).fit(tables[0])
    before = model.shares_
    assert model.set_params(folded=True).shares_.equals(before)         # an argument changed after the fit names nobody anew


def test_a_member_without_a_share_is_asked_for_nothing(tables):
    """Draws under a condition come from members by their shares; one that has none may be of a kind that cannot draw no rows."""
    model = Ensemble(**FEW | dict(max_epochs=2), prior=LARS(hidden=(4,), n_proposals=16)).fit(tables[0])
    model.state_ = model.state_ | {"shares": torch.tensor([0.5, 0.0, 0.5])}
    drawn = model.sample(50, random_state=0, given={"f1": 0.02})
    assert len(drawn) == 50 and np.isfinite(drawn).all(axis=None) and np.isfinite(model.elbo(tables[1].head(20)))


def test_who_folds(tables, tmp_path):
    assert list(Ensemble().turns(5)) == ["plain", "folded"] and list(Ensemble().turns(6)) == list(Ensemble(folded=False).turns(4)) == ["plain"]
    wide = pd.DataFrame(np.abs(np.random.default_rng(0).standard_normal((60, 13))))
    model = Ensemble(**FEW | dict(max_epochs=2)).fit(wide)          # 13 columns: a fold would sum 8,192 terms
    assert model.shares_.to_dict() == {"plain": 1} and "shares" not in model.state_ and np.isfinite(model.score(wide))
    with pytest.raises(ValueError, match="folded"):
        Ensemble(**FEW, folded="quarter").fit(tables[0])
    with pytest.raises(ValueError, match="folded"):
        RadialEnsemble(**FEW, folded="half").fit(tables[0])
    with pytest.raises(ValueError, match="12 at most"):
        Ensemble(**FEW, folded=True).fit(wide)


def test_a_file_from_before_the_fold(tables, tmp_path):
    """A file that does not say whether its members fold was written when none did."""
    old = Ensemble(**FEW, folded=False).fit(tables[0])
    config = old.save(tmp_path / "m") / "config.json"
    kept = json.loads(config.read_text())
    del kept["params"]["folded"]
    config.write_text(json.dumps(kept))
    assert GenerativeModel.load(tmp_path / "m").sample(20, random_state=0).equals(old.sample(20, random_state=0))


def test_a_stack_of_anything(tables):
    models = [Ensemble(**FEW), VAE(**SMALL), Ensemble(**FEW | dict(members=2, random_state=7))]
    together = fit_many(models, tables[0], n_jobs=1, progress=False)
    assert [type(m) for m in together] == [type(m) for m in models] and not hasattr(models[0], "module_")
    for model, fitted in zip(models, together):
        alone = clone(model).fit(tables[0])
        assert fitted.sample(200, random_state=0).to_numpy() == pytest.approx(alone.sample(200, random_state=0).to_numpy(), rel=1e-2)


def test_margins_are_those_fitted(ensemble, tables, monkeypatch):
    drawn = ensemble.sample(100_000, random_state=0)
    scores = ensemble.margins_.transform(drawn)
    levels = [0.02, 0.5, 0.99]                          # the zeros, 1 % of a column and less, share one score
    assert (scores.quantile(levels).sub(special.ndtri(levels), axis=0).abs() < 0.06).all(axis=None)
    assert (drawn == 0).mean().to_numpy() == pytest.approx((tables[0] == 0).mean().to_numpy(), abs=0.002)
    bare = Ensemble(**FEW, calibrated=False).fit(tables[0])
    assert "knots" in ensemble.state_ and "knots" not in bare.state_
    raw = bare.margins_.transform(bare.sample(100_000, random_state=0))
    apart = lambda Z: np.abs(Z.quantile(0.99) - special.ndtri(0.99)).max()
    assert apart(raw) > 2 * apart(scores)


def test_no_noise_leaves_ties_that_the_map_survives(tables):
    model = Ensemble(**FEW, decoder_noise=False).fit(tables[0])
    drawn = model.sample(1000, random_state=0)
    assert np.isfinite(drawn).all(axis=None) and np.isfinite(model.score(tables[1]))


def test_a_failed_member_fails_the_whole(tables):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(FloatingPointError, match="member 0.*not finite"):
            Ensemble(**FEW | dict(lr=1e30, max_epochs=50)).fit(tables[0])
        failed, fine = fit_many([Ensemble(**FEW | dict(lr=1e30, max_epochs=50)), VAE(**SMALL)], tables[0], n_jobs=1, progress=False)
    assert "member 0" in failed.failure_ and fine.failure_ == ""


def test_store_keeps_members(tables, tmp_path, monkeypatch):
    store = Store(tmp_path / "fits.db")
    first, = fit_many([Ensemble(**FEW)], tables[0], n_jobs=1, store=store, progress=False)
    assert len(store) == 3
    monkeypatch.setattr("genmod_nb.many.train_members", lambda *given: pytest.fail("fitted again"))
    again, = fit_many([Ensemble(**FEW)], tables[0], n_jobs=1, store=store, progress=False)
    pd.testing.assert_frame_equal(first.sample(20, random_state=0), again.sample(20, random_state=0))


def test_checkpoint_keeps_finished_members(tables, tmp_path, monkeypatch):
    first = Ensemble(**FEW).fit(tables[0], checkpoint=tmp_path / "place")
    monkeypatch.setattr("genmod_nb.many.train_members", lambda *given: pytest.fail("fitted again"))
    again = Ensemble(**FEW).fit(tables[0], checkpoint=tmp_path / "place")
    pd.testing.assert_frame_equal(first.sample(20, random_state=0), again.sample(20, random_state=0))


def test_history_and_its_picture(ensemble):
    assert set(ensemble.history_.member) == {0, 1, 2}
    figure = ensemble.plot_history()
    lines = [l for l in figure.axes[0].lines if len(l.get_xdata())]
    assert len(lines) >= 6                              # two splits of three members, and the best epoch


def test_what_belongs_to_a_member_is_not_the_whole_s(ensemble):
    for name in ("prior_", "plot_architecture"):
        with pytest.raises(AttributeError, match="each member"):
            getattr(ensemble, name)


@pytest.mark.parametrize("change, says", [(lambda v: v[:, ::-1], "do not increase"), (lambda v: v[:, :5], "state"), (lambda v: v[:2], "state")])
def test_damaged_knots(ensemble, tmp_path, change, says):
    from safetensors.numpy import load_file, save_file
    folder = ensemble.save(tmp_path / "model")
    arrays = load_file(folder / "model.safetensors")
    arrays["state.knots"] = np.ascontiguousarray(change(arrays["state.knots"]))
    save_file(arrays, folder / "model.safetensors")
    with pytest.raises(ValueError, match=says):
        GenerativeModel.load(folder)


@pytest.mark.parametrize("code", [99, -1])
def test_damaged_history(ensemble, tmp_path, code):
    from safetensors.numpy import load_file, save_file
    folder = ensemble.save(tmp_path / "model")
    arrays = load_file(folder / "model.safetensors")
    arrays["history"][0, 3] = code
    save_file(arrays, folder / "model.safetensors")
    with pytest.raises(ValueError, match="cannot be loaded"):
        GenerativeModel.load(folder)


# ------------------------------------------------------------------ studies over splits
FAST = {"Bootstrap": Bootstrap(), "Vine": Vine(), "Ensemble": Ensemble(members=2)}


@pytest.fixture(scope="module")
def study():
    return evaluation_study(models=FAST, seeds=range(2), n_law=1, n_tables=3, n_jobs=1, max_epochs=2, progress=False)


@pytest.mark.xdist_group("study")
def test_evaluation_study(study):
    assert list(study.groupby("table", sort=False).size()) == [6, 5] and (study.failure == "").all()
    assert set(study[study.table == "law"].model) == {*FAST, *REFERENCES}
    row = study[(study.model == "Bootstrap") & (study.seed == 0) & (study.table == "real")].iloc[0]
    from genmod_nb.data import load_losses
    from genmod_nb.metrics import anderson_darling
    train, test = load_losses(random_state=0)
    model, rng = Bootstrap().fit(train), np.random.RandomState(0)
    fakes = [model.sample(len(test), 0), model.sample(len(test), rng), model.sample(len(test), rng)]
    assert row.anderson_darling == pytest.approx(anderson_darling(test, fakes[0]))
    assert row.expected_anderson_darling == pytest.approx(np.mean([anderson_darling(test, f) for f in fakes]))


@pytest.mark.xdist_group("study")
def test_paired_widens_where_tables_share_rows(study):
    gap = paired(study, "Vine", "copula")
    assert set(gap.index.get_level_values("model")) <= {"Ensemble", *REFERENCES}
    narrow = paired(study, "Vine", "copula", overlap={}).loc["real", "Ensemble"]
    wide = gap.loc["real", "Ensemble"]
    own = study[study.table == "real"].pivot(index="seed", columns="model", values="copula")
    apart = own.Ensemble - own.Vine
    assert wide["mean"] == pytest.approx(apart.mean())
    assert wide.high - wide["mean"] == pytest.approx(stats.t.ppf(0.975, 1) * apart.std() * np.sqrt(1 / 2 + 537 / 720))
    assert narrow.high - narrow["mean"] == pytest.approx(stats.t.ppf(0.975, 1) * apart.std() * np.sqrt(1 / 2))


@pytest.mark.xdist_group("study")
def test_summary_marks_the_report(study):
    table = summary(study[study.table == "real"], report=True)
    lines = [f"report: {name} †" for name in REPORT]
    assert list(table.index) == [*FAST, *lines]
    assert table.anderson_darling[lines[0]] == "2.13" and table.kendall_error[lines[0]] == "0.25" and table.copula[lines[0]] == ""


@pytest.mark.xdist_group("study")
def test_pictures(study):
    assert len(plot_frontier(study).axes) == 4


def test_what_chooses_settings_judges_nothing():
    """No row of the development tables is one of the real table's, and no law of theirs is the book's."""
    real = {(day, *row) for day, *row in pd.concat(load_losses()).itertuples()}
    tables = development_tables()
    assert len(tables) == 6 and not any(real & {(day, *row) for day, *row in X.itertuples()} for own in tables.values() for X in own)
    prices = {name.split(":")[0] for name in tables}
    assert fidelity_study.__defaults__[0] is development_tables and "law" in prices
    for train, test in tables.values():
        assert not {*train.itertuples(index=False, name=None)} & {*test.itertuples(index=False, name=None)}


def test_fidelity_is_a_gain_over_the_vine(tables):
    train, test = (X.iloc[:200] for X in tables)
    rows = fidelity_study(lambda seed: {"own": (train, test)}, {"a": {}}, seeds=range(1), n_jobs=1, members=2, max_epochs=2, progress=False)
    assert list(rows) == ["table", "variant", "seed", "failure", "single", "average", "calibrated"] and rows.average[0] >= rows.single[0]
    whole = Ensemble(members=2, max_epochs=2, random_state=0, progress=False).fit(train)
    assert rows.calibrated[0] == pytest.approx(whole.copula_score(test, 128) - Vine().fit(train).copula_score(test), abs=1e-6)
    plot_fidelity(rows)


def test_the_best_model_from_the_command_line(tmp_path, tables):
    tables[0].to_csv(tmp_path / "mine.csv")
    assert main(["fit", str(tmp_path / "mine.csv"), "--model", "ensemble", "--epochs", "2", "--param", "members=2", "--out", str(tmp_path / "m"), "--quiet"]) == 0
    assert main(["sample", str(tmp_path / "m"), "-n", "5", "--out", str(tmp_path / "new.csv"), "--quiet"]) == 0
    assert pd.read_csv(tmp_path / "new.csv").shape == (5, 4)


def test_compare_takes_an_ensemble(tables):
    rows = compare({"Ensemble": Ensemble(**FEW)}, *tables, n_jobs=1, progress=False)
    assert rows.failure.item() == "" and np.isfinite(rows.copula.item())
