"""The Wasserstein variant: λ in a stack, controllers, and what happens when a forecast fails."""
import math

import numpy as np
import pytest
import torch

from genmod_nb import wae as chapter
from genmod_nb.store import Checkpoint
from genmod_nb.many import fit_many
from genmod_nb.vae import VAE
from genmod_nb.wae import DELTA, TARGETS, WAE, arima_forecast, imq_kernel, mmd, w2_gaussian

SMALL = dict(encoder=(8,), decoder=(8,), max_epochs=60, early_stopping=False, progress=False, random_state=0)


def lam_of(model):
    h = model.history_
    return h[(h.split == "train") & (h.term == "lam")].set_index("epoch").value


def schedule_of(model, term):
    h = model.history_
    return h[(h.split == "schedule") & (h.term == term)].set_index("epoch").value


def test_lambda_weighs_the_divergence(tables):
    for lam in (0.0, 0.3, 1e6):
        h = WAE(**SMALL | dict(max_epochs=2), lam=lam).fit(tables[0]).history_
        term = h[h.epoch == 1].set_index("term").value
        assert term["loss"] == pytest.approx(lam * term["divergence"] - term["reconstruction"], rel=1e-4)


def test_a_grid_of_lambdas_side_by_side_is_each_alone(tables):
    models = [WAE(**SMALL | dict(max_epochs=6, compile=False), lam=lam) for lam in (0.01, 1.0, 10.0, 1e12)]
    for model, together in zip(models, fit_many(models, tables[0], n_jobs=1, progress=False)):
        alone = fit_many([model, model], tables[0], n_jobs=1, progress=False)[0]
        for p, q in zip(together.module_.parameters(), alone.module_.parameters()):
            assert p.detach() == pytest.approx(q.detach(), abs=1e-6)


@pytest.mark.parametrize("schedule", ["arima", "plain"])
def test_decisions_follow_their_forecasts(tables, schedule):
    model = WAE(**SMALL, schedule=schedule).fit(tables[0])
    forecast, decision, lam = schedule_of(model, "forecast"), schedule_of(model, "decision"), lam_of(model)
    assert list(forecast.dropna().index) == list(range(6, 60, 6))
    target = TARGETS["w2"] * 2
    for epoch in range(6, 60, 6):
        assert decision[epoch] == np.sign(forecast[epoch] - target)
        assert lam[epoch + 1] == pytest.approx(lam[epoch] * (1 + DELTA) ** decision[epoch], rel=1e-6)
    still = [e for e in range(1, 60) if e % 6]
    assert all(lam[e + 1] == lam[e] and decision[e] == 0 for e in still)


def test_a_schedule_does_not_depend_on_the_stack(tables):
    models = [WAE(**SMALL | dict(random_state=s, compile=False), schedule="arima", lam=lam) for s, lam in ((0, 1.0), (1, 0.1))]
    together = fit_many(models, tables[0], n_jobs=1, progress=False)
    alone = fit_many(models[:1] * 2, tables[0], n_jobs=1, progress=False)[0]
    assert together[0].history_.value.to_numpy() == pytest.approx(alone.history_.value.to_numpy(), rel=1e-5, abs=1e-6, nan_ok=True)
    assert not lam_of(together[0]).equals(lam_of(together[1]))


@pytest.mark.parametrize("how", [ValueError("no"), np.linalg.LinAlgError("no"), math.nan])
def test_a_failed_forecast_keeps_lambda_and_is_recorded(tables, monkeypatch, how):
    def fail(y, horizon):
        if isinstance(how, float):
            return how
        raise how
    monkeypatch.setitem(chapter.FORECASTS, "arima", fail)
    model = WAE(**SMALL, schedule="arima").fit(tables[0])
    assert (lam_of(model) == 1.0).all() and schedule_of(model, "failed").sum() == 9


def test_a_diverging_fit_under_a_schedule_is_a_failed_fit(tables):
    models = [WAE(**SMALL | dict(random_state=s), schedule="arima", lr=lr) for s, lr in ((0, 5e-3), (1, 1e30))]
    with pytest.warns(UserWarning, match="1 of 2 fits failed"):
        good, bad = fit_many(models, tables[0], n_jobs=1, progress=False)
    assert not good.failure_ and "not finite" in bad.failure_
    member = good._prepare(tables[0])
    member.names, member.epoch, member.record = ["divergence", "lam"], 6, [[math.inf, 1.0]]
    assert member.control(member) == {"lam": 1.0} and member.record[0][2:] == [pytest.approx(math.nan, nan_ok=True), 0.0, 1.0]


def test_a_defect_in_a_forecast_is_not_swallowed(tables, monkeypatch):
    monkeypatch.setitem(chapter.FORECASTS, "arima", lambda y, horizon: y.no_such_attribute)
    with pytest.raises(AttributeError):
        WAE(**SMALL, schedule="arima").fit(tables[0])


def test_a_moving_lambda_survives_a_kill(tables, tmp_path, monkeypatch):
    """Stopped in the middle, gone on from the checkpoint: the same λ, the same weights."""
    quiet = WAE(**SMALL | dict(compile=False), schedule="arima").fit(tables[0])
    monkeypatch.setattr("genmod_nb.store.CHECKPOINT_SECONDS", 0)
    original, count = Checkpoint.save, []

    def stop(self, stack, path):
        original(self, stack, path)
        count.append(1)
        if len(count) == 33:
            raise KeyboardInterrupt
    with monkeypatch.context() as once:
        once.setattr(Checkpoint, "save", stop)
        with pytest.raises(KeyboardInterrupt):
            WAE(**SMALL | dict(compile=False), schedule="arima").fit(tables[0], checkpoint=tmp_path)
    resumed = WAE(**SMALL | dict(compile=False), schedule="arima").fit(tables[0], checkpoint=tmp_path)
    assert np.array_equal(resumed.history_.value, quiet.history_.value, equal_nan=True)
    for p, q in zip(resumed.module_.parameters(), quiet.module_.parameters()):
        assert torch.equal(p, q)


def test_saved_and_loaded_with_its_schedule(tables, tmp_path):
    model = WAE(**SMALL, schedule="plain").fit(tables[0])
    back = WAE.load(model.save(tmp_path / "m"))
    assert back.history_.equals(model.history_) and back.schedule == "plain"
    assert back.sample(20, random_state=1).equals(model.sample(20, random_state=1))
    with pytest.raises(ValueError, match="not a WAE"):
        WAE.load(VAE(**SMALL | dict(max_epochs=2)).fit(tables[0]).save(tmp_path / "v"))


@pytest.mark.parametrize("arguments, says", [(dict(lam=-0.1), "lam"), (dict(lam=math.nan), "lam"), (dict(lam=math.inf), "lam"),
                                             (dict(schedule="arima", max_epochs=49), "max_epochs"), (dict(divergence="kl"), "divergence"),
                                             (dict(schedule="arima", early_stopping=True), "early_stopping"), (dict(target=0), "target"), (dict(schedule="plain", lam=0.0), "lam")])
def test_refused(tables, arguments, says):
    with pytest.raises(ValueError, match=says):
        WAE(**SMALL | arguments).fit(tables[0])


def test_the_kernel_is_positive_definite_and_mmd_sees_a_shift():
    z = torch.randn(60, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert torch.linalg.eigvalsh(imq_kernel(z, z)).min() > 0
    assert mmd(z, z + 1) > 10 * abs(mmd(z, torch.randn(60, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)))


def test_forecast_of_a_line_goes_on():
    y = np.linspace(1, 2, 60) + 0.001 * np.random.default_rng(0).normal(size=60)
    assert arima_forecast(y, 1, order=(1, 1, 0)) == pytest.approx(2 + 1 / 59, abs=0.03)


def test_w2_is_zero_only_at_the_prior():
    assert w2_gaussian(torch.zeros(2), torch.ones(2)) == 0 and w2_gaussian(torch.zeros(2), torch.zeros(2)) == 2
