"""How fast a study trains: this package against a plain PyTorch loop, pythae and ctgan's TVAE.

One network everywhere (4-64-64-2-64-64-4, ELU), batches of 128, 720 rows of the simulated law, Adam, on the CPU.

    pip install -r benchmarks/requirements.txt
    python benchmarks/training.py study     # steps per second with both cores, each peer in its faster arrangement
    python benchmarks/training.py single    # one fit, from constructor to fitted model
    python benchmarks/training.py rows      # one epoch on a million rows
    python benchmarks/training.py growth    # with members, and with width

Each figure is the median of three runs. Peers are timed without their set-up: a long run less a short one.
"""
import os
import statistics
import subprocess
import sys
import tempfile
import time

CORES = 2
N, BATCH, STEPS = 720, 128, 2_000


def losses(n=N):
    from genmod_nb.data import simulate_losses
    return simulate_losses(n, random_state=0)


def scores(n=N):
    import torch
    from genmod_nb.data import Margins
    X = losses(n)
    return torch.tensor(Margins().fit(X).transform(X).to_numpy(), dtype=torch.float32)


# ---------------------------------------------------------------- the peers, one process each
def plain(epochs, n=N):
    """The loop of a tutorial: DataLoader, module, optimiser."""
    import torch
    from genmod_nb.vae import VAE
    from torch.utils.data import DataLoader, TensorDataset
    module, Z = VAE().build(4), scores(n)
    optimiser, generator = torch.optim.Adam(module.parameters(), lr=1e-3), torch.Generator()
    loader, start = DataLoader(TensorDataset(Z), batch_size=BATCH, shuffle=True), time.perf_counter()
    for _ in range(epochs):
        for x, in loader:
            optimiser.zero_grad()
            loss = module.terms(x, module.noise(len(x), generator), {}, {})[0]["loss"]
            loss.backward()
            optimiser.step()
    return time.perf_counter() - start, epochs * len(loader)


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


PEERS = {"plain PyTorch loop": plain, "pythae": pythae, "ctgan TVAE": tvae}


def rate(name, epochs, threads):
    """Steps per second of one process, without the set-up."""
    import torch
    torch.set_num_threads(threads)
    PEERS[name](2)
    (a, i), (b, j) = PEERS[name](2), PEERS[name](epochs)
    return (j - i) / (b - a)


def arrangement(name, processes, threads, epochs=60):
    """Steps per second of several processes at once."""
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    running = [subprocess.Popen([sys.executable, __file__, "rate", name, str(epochs), str(threads)], env=environment, stdout=subprocess.PIPE,
                                stderr=subprocess.DEVNULL, text=True) for _ in range(processes)]
    return sum(float(p.communicate()[0].split()[-1]) for p in running)


# ---------------------------------------------------------------- ours
def models(count, **arguments):
    from genmod_nb.vae import VAE
    return [VAE(**dict(early_stopping=False, max_epochs=STEPS // (N // BATCH), random_state=s, progress=False) | arguments) for s in range(count)]


def ours(count, **arguments):
    """Member-steps per second of a study, from unfitted to fitted models, the shapes compiled before."""
    from genmod_nb.training import fit_many
    X, studied = losses(), models(count, compile=True, **arguments)
    fit_many([m.set_params(max_epochs=2) for m in models(count, compile=True, **arguments)], X, n_jobs=CORES, progress=False)
    start = time.perf_counter()
    fit_many(studied, X, n_jobs=CORES, progress=False)
    return count * STEPS / (time.perf_counter() - start)


def bound(size=32, width=64):
    """Member-steps per second that the matrix products alone would allow on all cores: forward, and twice that backward."""
    import torch
    torch.set_num_threads(1)
    sizes = [(4, width), (width, width), (width, 4), (2, width), (width, width), (width, 4)]
    pairs = [(torch.randn(size, BATCH, a), torch.randn(size, a, b), torch.randn(size, BATCH, b)) for a, b in sizes]
    best = float("inf")
    for _ in range(30):
        start = time.perf_counter()
        for x, w, g in pairs:
            torch.bmm(x, w), torch.bmm(x.transpose(1, 2), g), torch.bmm(g, w.transpose(1, 2))
        best = min(best, time.perf_counter() - start)
    return CORES * size / best


def median(f, times=3):
    return statistics.median(f() for _ in range(times))


def study():
    mine, limit = median(lambda: ours(64)), bound()
    print("| | member-steps per second | ours is faster by |\n|---|---|---|")
    print(f"| the matrix products alone | {limit:,.0f} | {mine / limit:.2f} |")
    print(f"| genmod_nb, 64 members | {mine:,.0f} | 1 |")
    for name in PEERS:
        both = {p: median(lambda: arrangement(name, *p)) for p in ((1, CORES), (CORES, 1))}
        (processes, threads), best = max(both.items(), key=lambda kv: kv[1])
        print(f"| {name} ({processes} x {threads} threads) | {best:,.0f} | {mine / best:.1f} |", flush=True)


def fit_seconds(steps, cold, compile="auto"):
    """Path and seconds of one fit in a fresh process, imports done."""
    code = ("import time, torch; from genmod_nb.vae import VAE; from genmod_nb.data import simulate_losses; X = simulate_losses(720, random_state=0);"
            f"start = time.perf_counter(); m = VAE(early_stopping=False, max_epochs={steps // 5}, random_state=0, progress=False, compile={compile!r}).fit(X);"
            "print(m.path_, time.perf_counter() - start)")
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | ({"TORCHINDUCTOR_CACHE_DIR": folder} if cold else {})
        return subprocess.check_output([sys.executable, "-c", code], env=environment, text=True, stderr=subprocess.DEVNULL).split()


def single():
    print("| steps | cache | path | ours, seconds | pythae, seconds | plain loop, seconds |\n|---|---|---|---|---|---|")
    for steps in (2_000, 15_000):
        peers = [steps / median(lambda: arrangement(name, 1, CORES)) for name in ("pythae", "plain PyTorch loop")]
        fit_seconds(10, False, compile=True)       # warms PyTorch's cache on disk
        for cold in (True, False):
            runs = [fit_seconds(steps, cold) for _ in range(1 if cold else 3)]
            print(f"| {steps:,} | {'cold' if cold else 'warm'} | {runs[0][0]} | {statistics.median(float(r[1]) for r in runs):.1f} "
                  f"| {peers[0]:.1f} | {peers[1]:.1f} |", flush=True)


def rows(n=1_000_000):
    import resource
    import torch
    from genmod_nb import training
    from genmod_nb.vae import VAE
    torch.set_num_threads(1)
    model, X = VAE(early_stopping=False, max_epochs=3, random_state=0, progress=False, compile=True), losses(n)
    member, ticks = model._prepare(X), []
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with training.steady(0):
        list(training.train_members([member], "compiled", 1, tick=lambda stack: ticks.append(time.perf_counter())))
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    mine = ticks[2] - ticks[1]
    peer, _ = plain(1, n)
    print(f"| rows | ours, seconds an epoch | plain loop | ratio | memory grown by (MB; the table has {n * 32 / 1e6:.0f}) |\n|---|---|---|---|---|")
    print(f"| {n:,} | {mine:.1f} | {peer:.1f} | {peer / mine:.1f} | {grown / 1024:.0f} |")


def growth():
    print("| members | member-steps per second |\n|---|---|")
    for count in (1, 4, 16, 64, 256):
        print(f"| {count} | {ours(count):,.0f} |", flush=True)
    print("\n| width | member-steps per second | share of the bound |\n|---|---|---|")
    for width in (16, 64, 256):
        mine = ours(32, encoder=(width, width), decoder=(width, width))
        print(f"| {width} | {mine:,.0f} | {mine / bound(16, width):.2f} |", flush=True)


if __name__ == "__main__":
    what = sys.argv[1] if len(sys.argv) > 1 else "study"
    if what == "rate":
        print(rate(sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
    else:
        {"study": study, "single": single, "rows": rows, "growth": growth}[what]()
