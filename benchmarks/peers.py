"""Training loops of other packages, each timed in a process of its own.

One network everywhere (4-64-64-2-64-64-4, ELU), batches of 128, 720 rows of the simulated law, Adam, on the CPU.
`keyboard.py` and `training.py` call them, with whatever interpreter has the packages.

    pip install -r benchmarks/requirements.txt         # best in an environment of their own
    python benchmarks/peers.py NAME EPOCHS THREADS     # steps per second without the set-up, and the peak of the memory (MB)
"""
import functools
import json
import math
import sys
import tempfile
import time

N, BATCH = 720, 128


def losses(n=N):
    from genmod_nb.data import simulate_losses
    return simulate_losses(n, random_state=0)


def scores(n=N):
    import torch
    from genmod_nb.margins import Margins
    X = losses(n)
    return torch.tensor(Margins().fit(X).transform(X).to_numpy(), dtype=torch.float32)


def module():
    from genmod_nb.vae import VAE
    return VAE().build(4)


def plain(epochs, n=N):
    """The loop of a tutorial: DataLoader, module, optimiser."""
    import torch
    from torch.utils.data import DataLoader, TensorDataset
    net, Z = module(), scores(n)
    optimiser, rng = torch.optim.Adam(net.parameters(), lr=1e-3), torch.Generator()
    loader, start = DataLoader(TensorDataset(Z), batch_size=BATCH, shuffle=True), time.perf_counter()
    for _ in range(epochs):
        for x, in loader:
            optimiser.zero_grad()
            loss = net.terms(x, net.noise(len(x), rng), {}, {})[0]["loss"]
            loss.backward()
            optimiser.step()
    return time.perf_counter() - start, epochs * len(loader)


def lean(epochs):
    """The same without what a tutorial spends: batches are slices of a permutation, and Adam is one fused kernel."""
    import torch
    net, Z = module(), scores()
    optimiser, rng, start = torch.optim.Adam(net.parameters(), lr=1e-3, fused=True), torch.Generator(), time.perf_counter()
    for _ in range(epochs):
        for rows in torch.randperm(N)[:N // BATCH * BATCH].split(BATCH):
            optimiser.zero_grad()
            net.terms(Z[rows], net.noise(BATCH, rng), {}, {})[0]["loss"].backward()
            optimiser.step()
    return time.perf_counter() - start, epochs * (N // BATCH)


def pythae(epochs):
    import logging
    import torch
    from pythae.data.datasets import BaseDataset
    from pythae.models import VAE, VAEConfig
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder
    from pythae.trainers import BaseTrainer, BaseTrainerConfig
    from torch import nn
    logging.disable(logging.CRITICAL)

    class Encoder(BaseEncoder):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.Linear(4, 64), nn.ELU(), nn.Linear(64, 64), nn.ELU())
            self.mu, self.log_var = nn.Linear(64, 2), nn.Linear(64, 2)

        def forward(self, x):
            h = self.body(x)
            return ModelOutput(embedding=self.mu(h), log_covariance=self.log_var(h))

    class Decoder(BaseDecoder):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.Linear(2, 64), nn.ELU(), nn.Linear(64, 64), nn.ELU(), nn.Linear(64, 4))

        def forward(self, z):
            return ModelOutput(reconstruction=self.body(z))

    Z = scores()
    with tempfile.TemporaryDirectory() as folder:
        model = VAE(VAEConfig(input_dim=(4,), latent_dim=2), encoder=Encoder(), decoder=Decoder())
        config = BaseTrainerConfig(output_dir=folder, num_epochs=epochs, per_device_train_batch_size=BATCH, learning_rate=1e-3, no_cuda=True)
        trainer = BaseTrainer(model, BaseDataset(Z, torch.ones(len(Z))), training_config=config)
        start = time.perf_counter()
        trainer.train()
    return time.perf_counter() - start, epochs * -(-N // BATCH)


def tvae(epochs):
    from ctgan import TVAE
    model = TVAE(embedding_dim=2, compress_dims=(64, 64), decompress_dims=(64, 64), batch_size=BATCH, epochs=epochs, enable_gpu=False)
    X, start = losses(), time.perf_counter()
    model.fit(X)
    return time.perf_counter() - start, epochs * -(-N // BATCH)


# ---------------------------------------------------------------- JAX
MOST = 10_000       # epochs that a compiled loop has room to record


def bound(p, x, eps):
    """The loss of the default VAE and its two terms, as `VAEModule.bound` has them."""
    import jax
    import jax.numpy as jnp
    linear = lambda name, x: x @ p[f"{name}.weight"].T + p[f"{name}.bias"]
    hidden = lambda name, x: jax.nn.elu(linear(f"{name}.2", jax.nn.elu(linear(f"{name}.0", x))))
    h = hidden("encoder", x)
    mu, log_s, log_sigma = linear("mu", h), linear("log_s", h), p["scale.log_sigma"]
    mean = linear("mean", hidden("decoder", mu + jnp.exp(log_s) * eps))
    log_prob = -0.5 * ((x - mean) * jnp.exp(-log_sigma)) ** 2 - log_sigma - 0.5 * math.log(2 * math.pi)
    reconstruction = log_prob.sum(-1).mean()
    divergence = 0.5 * (mu ** 2 + jnp.exp(2 * log_s) - 1 - 2 * log_s).sum(-1).mean()
    return divergence - reconstruction, (reconstruction, divergence)


def fit(p, Z, seed, epochs):
    """Train from the parameters p: what the engine does in an epoch without validation rows, in one program.

    Every epoch permutes the rows; every step draws its noise and makes a step of Adam with the defaults of `VAE`; the rate
    falls along a cosine; the terms of each epoch are recorded."""
    import jax
    import jax.numpy as jnp
    from jax import lax, random
    steps, each = N // BATCH, jax.tree.map
    gradient = jax.value_and_grad(bound, has_aux=True)

    def step(rate, at, given):
        (p, m, v, t), (rows, key) = at, given
        (loss, terms), g = gradient(p, Z[rows], random.normal(key, (BATCH, 2)))
        t = t + 1
        m = each(lambda m, g: m + (1 - 0.9) * (g - m), m, g)
        v = each(lambda v, g: v + (1 - 0.999) * (g * g - v), v, g)
        new = lambda p, m, v: p - rate / (1 - 0.9 ** t) * m / (jnp.sqrt(v / (1 - 0.999 ** t)) + 1e-8)
        return (each(new, p, m, v), m, v, t), jnp.stack([loss, *terms])

    def epoch(i, at):
        state, key, record = at
        key, order, noise = random.split(key, 3)
        rows = random.permutation(order, N)[:steps * BATCH].reshape(steps, BATCH)
        rate = 5e-3 * 0.5 * (1 + jnp.cos(jnp.pi * i / epochs))
        state, terms = lax.scan(functools.partial(step, rate), state, (rows, random.split(noise, steps)))
        return state, key, record.at[i].set(terms.mean(0))

    zeros = each(jnp.zeros_like, p)
    state, _, record = lax.fori_loop(0, epochs, epoch, ((p, zeros, zeros, 0.0), random.key(seed), jnp.zeros((MOST, 3))))
    return state[0], record


@functools.cache
def initial(members):
    """(Parameters, scores, seeds) that the loop starts from, as numpy has them: those of one member, or of several stacked."""
    import numpy as np
    nets = [dict(module().named_parameters()) for _ in range(members)]
    p = {k: np.stack([net[k].detach().numpy() for net in nets]) for k in nets[0]}
    if members == 1:
        return {k: v[0] for k, v in p.items()}, scores().numpy(), 0
    return p, scores().numpy(), np.arange(members)


@functools.cache
def program(members):
    """The compiled loop: for one member, or for several that vmap takes side by side."""
    import jax
    whole = fit if members == 1 else jax.vmap(fit, (0, None, 0, None))
    return jax.jit(whole).lower(*initial(members), 1).compile()


def jax_loop(epochs, members=1):
    import jax
    run, begun = program(members), time.perf_counter()
    jax.block_until_ready(run(*initial(members), epochs))
    return time.perf_counter() - begun, members * epochs * (N // BATCH)


def jax_first():
    """Seconds in which JAX traces and compiles the loop and makes one epoch; the imports are done, and the table is there."""
    import jax      # noqa: F401
    initial(1)
    begun = time.perf_counter()
    jax_loop(1)
    return time.perf_counter() - begun


def agreement():
    """The largest difference of a term, in nats per row, between JAX's loss and the package's on one batch."""
    import torch
    net, Z = module(), scores()[:BATCH]
    noise = net.noise(BATCH, torch.Generator().manual_seed(0))
    p = {k: v.detach().numpy() for k, v in net.named_parameters()}
    loss, (reconstruction, divergence) = bound(p, Z.numpy(), noise["eps"].numpy())
    with torch.no_grad(): ours = net.terms(Z, noise, {}, {})[0]
    theirs = dict(loss=loss, reconstruction=reconstruction, divergence=divergence)
    return max(abs(float(ours[k]) - float(v)) for k, v in theirs.items())


# ---------------------------------------------------------------- timing
def products(seconds, size=16, width=64):
    """The matrix products of a stack's step alone: forward, and twice that backward."""
    import torch
    sizes = [(4, width), (width, width), (width, 4), (2, width), (width, width), (width, 4)]
    pairs = [(torch.randn(size, BATCH, a), torch.randn(size, a, b), torch.randn(size, BATCH, b)) for a, b in sizes]
    start = end = time.perf_counter()
    steps = 0
    while end - start < seconds / 20:
        for x, w, g in pairs:
            torch.bmm(x, w), torch.bmm(x.transpose(1, 2), g), torch.bmm(g, w.transpose(1, 2))
        steps, end = steps + size, time.perf_counter()
    return end - start, steps


LOOPS = {"plain PyTorch loop": plain, "PyTorch, no DataLoader, fused Adam": lean, "pythae": pythae, "ctgan TVAE": tvae,
         "JAX, whole loop": jax_loop, "JAX, 16 members vmapped": functools.partial(jax_loop, members=16), "products": products}


def rate(name, epochs, threads, **arguments):
    """Steps per second of one process, without the set-up: a long run less a short one."""
    import torch
    torch.set_num_threads(threads)
    f = LOOPS[name]
    f(2, **arguments)
    (a, i), (b, j) = f(2, **arguments), f(epochs, **arguments)
    return (j - i) / (b - a)


def peak():
    """The peak of this process's memory so far (MB)."""
    import resource
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    name, epochs, threads, *arguments = sys.argv[1:]
    print(rate(name, int(epochs), int(threads), **json.loads(*arguments or ["{}"])), peak())
