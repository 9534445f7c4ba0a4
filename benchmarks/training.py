"""How fast a study trains: this package against a plain PyTorch loop, pythae and ctgan's TVAE.

The peers' loops are in `peers.py`; network, batches and rows are theirs.

    pip install -r benchmarks/requirements.txt
    python benchmarks/training.py study     # steps per second with both cores, each peer in its faster arrangement
    python benchmarks/training.py rows      # one epoch on 720 to a million rows
    python benchmarks/training.py growth    # with members, and with width

The tables go to benchmarks/results, where the book reads them. Figures of `study` are medians of three runs. Peers are timed without their set-up: a long run less a short one.
"""
import ctypes
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from peers import BATCH, N, losses, peak, plain

CORES, STEPS = 2, 2_000
PEERS = "plain PyTorch loop", "pythae", "ctgan TVAE"


def arrangement(name, processes, threads, epochs=60, **arguments):
    """Steps per second of several processes at once, and the largest peak of memory (MB)."""
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    command = [sys.executable, Path(__file__).with_name("peers.py"), name, str(epochs), str(threads), json.dumps(arguments)]
    running = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) for _ in range(processes)]
    seen = [p.communicate()[0].split()[-2:] for p in running]
    return sum(float(rate) for rate, _ in seen), max(float(peak) for _, peak in seen)


def bound(**arguments):
    """Member-steps per second that the matrix products alone would allow on all cores."""
    return median(lambda: arrangement("products", CORES, 1, **arguments)[0])


# ---------------------------------------------------------------- ours
def models(count, steps=STEPS, **arguments):
    from genmod_nb.vae import VAE
    return [VAE(**dict(early_stopping=False, max_epochs=steps // (N // BATCH), random_state=s, compile=True, progress=False) | arguments)
            for s in range(count)]


def ours(count, steps=STEPS, **arguments):
    """Member-steps per second of a study, from unfitted to fitted models, the shapes compiled before; and the workers' peak memory."""
    from genmod_nb.many import fit_many
    from joblib import Parallel, delayed
    X, jobs = losses(), min(CORES, count)
    fit_many(models(count, 10, **arguments), X, n_jobs=jobs, progress=False)
    start = time.perf_counter()
    fit_many(models(count, steps, **arguments), X, n_jobs=jobs, progress=False)
    seconds = time.perf_counter() - start
    return count * steps / seconds, max(Parallel(jobs)(delayed(peak)() for _ in range(jobs)))


def median(f, times=3):
    return statistics.median(f() for _ in range(times))


def keep(name, rows):
    """Print a table and keep it where the book reads it."""
    import pandas as pd
    folder = Path(__file__).parent / "results"
    folder.mkdir(exist_ok=True)
    table = pd.DataFrame(rows)
    table.to_csv(folder / f"training_{name}.csv", index=False)
    print(table.to_string(index=False), flush=True)


def study():
    mine, memory = sorted(ours(64) for _ in range(3))[1]
    rows = [dict(what="the matrix products alone", processes=CORES, threads=1, rate=bound()),
            dict(what="genmod_nb, 64 members", processes=CORES, threads=1, rate=mine, peak_mb=memory)]
    for name in PEERS:
        both = {p: sorted(arrangement(name, *p) for _ in range(3))[1] for p in ((1, CORES), (CORES, 1))}
        (processes, threads), (best, memory) = max(both.items(), key=lambda kv: kv[1][0])
        rows.append(dict(what=name, processes=processes, threads=threads, rate=best, peak_mb=memory))
    keep("study", [r | dict(ours_is_faster=mine / r["rate"]) for r in rows])


def epoch(n, epochs):
    """Seconds an epoch on n rows, compiled, and the memory that the fit has added (MB)."""
    import torch
    from genmod_nb.engine import train_members
    from genmod_nb.surroundings import steady
    from genmod_nb.vae import VAE
    torch.set_num_threads(1)
    model, X, ticks = VAE(early_stopping=False, max_epochs=epochs + 1, random_state=0, progress=False), losses(n), []
    before = resident()
    member, held = model._prepare(X), []

    def tick(stack):
        ticks.append(time.perf_counter())
        held.append(resident())
    with steady(0):
        list(train_members([member], "compiled", 1, tick=tick))
    return (ticks[-1] - ticks[0]) / epochs, max(held) - before


def resident():
    """The memory that this process holds now, what it has freed given back first (MB; Linux)."""
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def rows():
    table = []
    for n, epochs in ((720, 400), (10_000, 30), (100_000, 3), (1_000_000, 2)):
        epoch(n, 1)          # compiles, if this machine has not
        command = [sys.executable, __file__, "epoch", str(n), str(epochs)]
        mine, grown = map(float, subprocess.check_output(command, text=True, stderr=subprocess.DEVNULL).split()[-2:])
        seconds, steps = plain(max(epochs // 10, 1), n)
        peer = seconds / steps * -(-n // BATCH)
        table.append(dict(rows=n, seconds_an_epoch=mine, plain_loop=peer, ratio=peer / mine, memory_grown_mb=grown, table_mb=n * 32 / 1e6))
    keep("rows", table)


def growth():
    keep("members", [dict(members=count, rate=ours(count, steps)[0]) for count, steps in
                     ((1, 2_000), (4, 2_000), (16, 2_000), (64, 2_000), (256, 500), (1_024, 250))])
    table = []
    for width, steps in ((16, 2_000), (32, 2_000), (64, 1_000), (128, 300), (256, 100), (512, 50)):
        rate, limit = ours(32, steps, encoder=(width, width), decoder=(width, width))[0], bound(width=width)
        table.append(dict(width=width, rate=rate, products=limit, share=rate / limit))
    keep("width", table)


if __name__ == "__main__":
    what = sys.argv[1] if len(sys.argv) > 1 else "study"
    if what == "epoch":
        print(*epoch(int(sys.argv[2]), int(sys.argv[3])))
    else:
        {"study": study, "rows": rows, "growth": growth}[what]()
