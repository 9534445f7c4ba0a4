"""The adversarial models: players and their numbers, the average, one result on every path, and what is refused."""
import math

import numpy as np
import pandas as pd
import pytest
import torch

from genmod_nb.gan import (GAN, WGANGP, GANModule, gan_study, gradient_penalty, last_weights, logistic_game, logistic_losses, mean_tau, plot_gan,
                           wasserstein_game)
from genmod_nb.metrics import anderson_darling, kendall_error
from genmod_nb.surroundings import steady
from genmod_nb.model import GenerativeModel
from genmod_nb.engine import train_members
from genmod_nb.many import fit_many
from genmod_nb.vae import VAE

SMALL = dict(generator=(8,), critic=(8,), latent_dim=3, max_epochs=6, progress=False, random_state=0)
BOTH = pytest.mark.parametrize("game", [GAN, WGANGP])


def last(model, term):
    h = model.history_
    return h[(h.epoch == h.epoch.max()) & (h.term == term)].value.item()


@BOTH
def test_terms_of_the_history(game, tables):
    history = game(**SMALL).fit(tables[0]).history_
    extra = {"wasserstein", "penalty"} if game is WGANGP else set()
    assert set(history.term) == {"critic_loss", "generator_loss"} | extra and set(history.split) == {"train"}


@BOTH
def test_one_result_on_every_path(game, tables, full):
    """By the backward pass, in a stack by functional gradients, compiled: the penalty is differentiated twice on each.

    Compiling takes twenty seconds: here the game with the penalty, whose two players take turns as the other's do; with --full both."""
    eager, stacked = (game(**SMALL | dict(compile=False, random_state=0)) for _ in range(2))
    eager.fit(tables[0])
    with steady(0):
        stacked._learn(next(train_members([stacked._prepare(tables[0])], "stacked")), "stacked")
    others = [stacked]
    if game is WGANGP or full:
        others.append(game(**SMALL | dict(compile=True)).fit(tables[0]))
    assert [m.path_ for m in (eager, *others)] == ["eager", "stacked", "compiled"][:1 + len(others)]
    for other in others:
        assert other.history_.value.to_numpy() == pytest.approx(eager.history_.value.to_numpy(), abs=1e-4)
        for k, v in eager.state_.items():
            assert other.state_[k].numpy() == pytest.approx(v.numpy(), abs=1e-4)


@BOTH
def test_numbers_differ_within_a_stack(game, tables):
    numbers = [dict(lr=1e-3, lr_critic=1e-3), dict(lr=1e-3, lr_critic=8e-3), dict(lr=5e-3, lr_critic=1e-3)]
    models = [game(**SMALL | dict(compile=False) | n) for n in numbers]
    for model, together in zip(models, fit_many(models, tables[0], n_jobs=1, progress=False)):
        alone = fit_many([model, model], tables[0], n_jobs=1, progress=False)[0]
        for p, q in zip(together.module_.parameters(), alone.module_.parameters()):
            assert p.detach().numpy() == pytest.approx(q.detach().numpy(), abs=1e-6)


def test_each_player_moves_its_own_network(tables):
    frozen = dict(lr=1e-30), dict(lr_critic=1e-30)
    for numbers, still, moved in zip(frozen, ("generator", "critic"), ("critic", "generator")):
        model = GAN(**SMALL | numbers).fit(tables[0])
        with steady(0):
            fresh = dict(model.build(4).named_parameters())
        for name, p in model.module_.named_parameters():
            assert torch.equal(p, fresh[name]) == name.startswith(still), (name, moved)


@pytest.mark.parametrize("n_critic, rounds", [(1, 2), (4, 1), (9, 1)])
def test_steps_in_a_round(tables, n_critic, rounds):
    model = GAN(**SMALL, n_critic=n_critic).fit(tables[0])      # 720 rows: five batches of 128 an epoch
    assert model.history_.step.max() == 6 * rounds
    assert model.state_["steps"].item() == pytest.approx(6 * rounds + 1, rel=1e-5)    # and the last weights


def by_hand(model, table, epochs):
    "The game with torch.optim and loss.backward(), from the same start and the same draws"
    member = model._prepare(table)
    module, scalars, g = member.module, member.scalars, member.rng
    critic, generator = module.players
    steps = {p.prefix: torch.optim.Adam(getattr(module, p.prefix).parameters(), lr=scalars[p.lr], betas=p.betas) for p in module.players}
    weights = [[p.detach().clone() for p in module.generator.parameters()]]
    for _ in range(epochs):
        need = member.rounds * (critic.steps + 1)
        passes = [member.train[torch.randperm(len(member.train), generator=g)[:5 * 128]] for _ in range(-(-need // 5))]
        batches = iter(torch.cat(passes)[:need * 128].view(need, 128))
        for _ in range(member.rounds):
            for player in [critic] * critic.steps + [generator]:
                noise = module.noise(128, g)
                x, fake = member.table[next(batches)], module.generator(noise["z"])
                if player.loss == "generator_loss":
                    loss = torch.nn.functional.softplus(-module.critic(fake)).mean() if "gp" not in scalars else -module.critic(fake).mean()
                elif "gp" not in scalars:
                    c = torch.cat([module.critic(x), module.critic(fake)])
                    loss = 2 * torch.nn.functional.binary_cross_entropy_with_logits(c, torch.arange(256).lt(128).float())
                else:
                    between = (noise["u"] * x + (1 - noise["u"]) * fake).detach().requires_grad_()
                    slope, = torch.autograd.grad(module.critic(between).sum(), between, create_graph=True)
                    loss = module.critic(fake).mean() - module.critic(x).mean() + scalars["gp"] * ((slope.norm(dim=1) - 1) ** 2).mean()
                module.zero_grad()
                loss.backward()
                steps[player.prefix].step()
            weights.append([p.detach().clone() for p in module.generator.parameters()])
    return module, weights


@BOTH
def test_training_is_the_game_written_out(game, tables):
    model = game(**SMALL | dict(compile=False), n_critic=2, average=0.8)
    module, weights = by_hand(game(**SMALL, n_critic=2, average=0.8), tables[0], 6)
    model.fit(tables[0])
    for p, q in zip(model.module_.parameters(), module.parameters()):
        assert p.detach().numpy() == pytest.approx(q.detach().numpy(), abs=1e-4)
    share = 0.8 ** np.arange(len(weights) - 1, -1, -1)
    averages = [sum(s * w[i].numpy() for s, w in zip(share / share.sum(), weights)) for i in range(len(weights[0]))]
    own = [v.numpy() for k, v in model.state_.items() if k.startswith("average.")]
    for a, b in zip(own, averages):
        assert a == pytest.approx(b, abs=1e-4)


@BOTH
def test_the_average_does_not_feed_back(game, tables):
    smooth, rough = (game(**SMALL, average=a).fit(tables[0]) for a in (0.99, 0.0))
    assert smooth.history_.equals(rough.history_)
    draw = lambda m: m.sample(30, random_state=1)
    assert draw(rough).equals(draw(last_weights(smooth))) and not draw(rough).equals(draw(smooth))
    assert draw(smooth).equals(draw(smooth))                # `last_weights` gave a copy


def test_a_shorter_training_is_the_beginning_of_a_longer_one(tables):
    short, long = (WGANGP(**SMALL | dict(max_epochs=n, compile=False)).fit(tables[0]) for n in (3, 6))
    assert long.history_.value[:len(short.history_)].equals(short.history_.value)


def test_the_penalty_at_a_flat_critic_has_a_gradient():
    flat = torch.zeros(3, requires_grad=True)
    loss = gradient_penalty(lambda x: x @ flat, torch.randn(10, 3), torch.randn(10, 3), torch.rand(10, 1))
    loss.backward()
    assert loss.item() == pytest.approx(1, abs=1e-5) and torch.isfinite(flat.grad).all()


def test_losses_of_extreme_logits_are_finite():
    huge = torch.tensor([1e4, -1e4])
    assert logistic_losses(huge, huge)[0].item() == pytest.approx(1e4) and math.isfinite(logistic_losses(huge, -huge)[1])


def test_the_weight_of_the_penalty(tables):
    for gp in (0.0, 0.3, 100.0):
        model = WGANGP(**SMALL | dict(max_epochs=1), gp=gp).fit(tables[0])
        assert last(model, "critic_loss") == pytest.approx(gp * last(model, "penalty") - last(model, "wasserstein"), rel=1e-4, abs=1e-5)


def test_critic_sees_rows_one_by_one():
    with steady(0):
        module = GANModule(4, 3, (8,), (8,), "elu", wasserstein_game, 1, (0.0, 0.9), 0.9)
        x = torch.randn(20, 4)
        assert torch.allclose(module.critic(x), torch.cat([module.critic(row[None]) for row in x]))
        assert module.critic(x[:1]).shape == (1,)


@pytest.mark.parametrize("arguments, says", [
    (dict(early_stopping=True), "early_stopping"), (dict(average=1.0), "average"), (dict(average=-0.1), "average"), (dict(n_critic=0), "n_critic"),
    (dict(lr_critic=0.0), "lr_critic"), (dict(latent_dim=0), "latent_dim"), (dict(generator=(0,)), "generator"), (dict(critic=("a",)), "critic"),
    (dict(activation="step"), "activation")])
@BOTH
def test_refused_before_anything_is_trained(game, tables, arguments, says):
    for fit in (lambda m: m.fit(tables[0]), lambda m: fit_many([VAE(max_epochs=10 ** 9), m], tables[0], n_jobs=1, progress=False)):
        with pytest.raises(ValueError, match=says):
            fit(game(**SMALL | arguments))


@pytest.mark.parametrize("gp", [-1.0, math.nan, math.inf])
def test_bad_gp(tables, gp):
    with pytest.raises(ValueError, match="gp"):
        WGANGP(**SMALL, gp=gp).fit(tables[0])


@BOTH
def test_no_likelihood_before_and_after_a_fit(game, tables):
    for model in (game(**SMALL), game(**SMALL).fit(tables[0])):
        for name in ("score_samples", "score", "copula_score"):
            assert not hasattr(model, name)
            with pytest.raises(AttributeError, match="no likelihood"):
                getattr(model, name)


@BOTH
def test_saved_with_its_average(game, tables, tmp_path):
    model = game(**SMALL).fit(tables[0])
    back = game.load(model.save(tmp_path / "m"))
    for twin, own in ((back, model), (last_weights(back), last_weights(model))):
        assert twin.sample(20, random_state=1).equals(own.sample(20, random_state=1))
    if game is GAN:
        with pytest.raises(ValueError, match="not a WGANGP"):
            WGANGP.load(tmp_path / "m")
    assert type(GenerativeModel.load(tmp_path / "m")) is game


@BOTH
def test_linear_networks_and_no_map(game, tables):
    Y = game(**SMALL | dict(generator=(), critic=(), margins="identity")).fit(tables[0]).sample(50, random_state=0)
    assert np.isfinite(Y).all(axis=None) and np.linalg.matrix_rank(Y - Y.mean(), tol=1e-4) == 3     # a plane of latent_dim dimensions


def test_a_gan_learns(tables):
    model = GAN(random_state=0, progress=False, max_epochs=200).fit(tables[0])
    start = GAN(random_state=0, progress=False, max_epochs=1).fit(tables[0])
    scores = [[d(tables[1], m.sample(537, random_state=0)) for d in (anderson_darling, kendall_error)] for m in (model, start)]
    assert scores[0][0] < 0.2 * scores[1][0] and scores[0][1] < 0.5 * scores[1][1]


def test_study(tables, tmp_path):
    rows = gan_study({"own": tables}, seeds=range(2), max_epochs=4, n_jobs=1, progress=False)
    assert (rows.failure == "").all() and rows.groupby("model").size().to_dict() == {
        "GAN, rates 1:4": 16, "GAN, rates 1:1": 16, "WGAN-GP, rates 1:4": 16, "WGAN-GP, rates 1:1": 16, "VAE": 2}
    assert sorted(rows.epochs.unique()) == [1, 2, 3, 4] and set(rows.weights) == {"average", "last"}
    fig = plot_gan(rows, {"own": tables})
    assert len(fig.axes) == 8
    fig.savefig(tmp_path / "p.png")


def test_a_failed_fit_is_a_row_of_the_study(tables):
    with pytest.warns(UserWarning, match="2 of 4 fits failed"):
        rows = gan_study({"own": tables}, {"bad": GAN(lr=1e30), "good": GAN(), }, seeds=[0], shares=(0.5, 1.0), max_epochs=20, n_jobs=1,
                         progress=False)
    bad = rows[rows.model == "bad"]
    assert bad.failure.str.contains("not finite").all() and bad.anderson_darling.isna().all()
    assert rows[rows.model == "good"].anderson_darling.notna().all()


def test_mean_tau():
    x = np.arange(30.0)
    assert mean_tau(np.column_stack([x, x, x])) == pytest.approx(1)
    assert mean_tau(pd.DataFrame(dict(a=x, b=-x))) == pytest.approx(-1)


def test_games_are_written_for_any_critic():
    x, y, u = torch.randn(2, 5), torch.randn(2, 5), torch.rand(2, 1)
    critic = lambda v: v.sum(1)
    assert set(logistic_game(critic, x, y, u, {})) == {"critic_loss", "generator_loss"}
    assert wasserstein_game(critic, x, y, u, {"gp": 1.0})["penalty"].item() == pytest.approx((5 ** 0.5 - 1) ** 2, abs=1e-5)
