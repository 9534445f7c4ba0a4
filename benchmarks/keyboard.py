"""What a user waits for at the keyboard: beside what is asked of it, and beside other packages.

    python benchmarks/keyboard.py                                   # every row but `make`, medians of five
    python benchmarks/keyboard.py step stack --times 3              # some rows, by their short names
    python benchmarks/keyboard.py --peers /tmp/peers/bin/python     # another interpreter that has the peers
    python benchmarks/keyboard.py --make                            # `make test` and `make report` too, in a fresh clone

Every measurement is a process of its own, held to one core or to two; those that are compared take turns. A process of one core
is told to use one thread, one of two finds the settings of a user who has set nothing. The cache of compiled code and the folder of
temporary files are the run's own: `compile` and `first` find them empty, the others as the fits of a table of 720 rows left
them. Imports are done before the clock starts, except where a command or an import is what is timed. `load` is that of the
machine before the row: below 0.5 where nothing else is at work and no row went before.

The table goes to benchmarks/results/keyboard.csv; a run of some rows leaves the others as they were, with their dates.
"""
import argparse
import functools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from datetime import date
from pathlib import Path
from typing import NamedTuple

import peers

HERE = Path(__file__).parent
ROOT = HERE.parent
THREADS = "OMP_NUM_THREADS", "MKL_NUM_THREADS"
JAX, STACKED = "JAX, whole loop", "JAX, 16 members vmapped"
PLAIN, LEAN = "plain PyTorch loop", "PyTorch, no DataLoader, fused Adam"
PEERS = {       # epochs of the long run, and packages
    JAX: (1_000, ("jax", "jaxlib")), STACKED: (100, ("jax", "jaxlib")), PLAIN: (100, ("torch",)), LEAN: (100, ("torch",)),
    "pythae": (100, ("pythae", "torch")), "ctgan TVAE": (100, ("ctgan", "torch"))}


class Setting(NamedTuple):
    """Where a run works, and which interpreter has the peers."""
    folder: Path
    python: str

    @property
    def cache(self):
        return self.folder / "cache"


class Line(NamedTuple):
    """One measurement."""
    what: str
    who: str
    value: float
    unit: str
    asked: float = None
    cores: int = 1


# ---------------------------------------------------------------- processes
def environment(cores, cache=None):
    """The variables of a process: this checkout's package, the threads, and the folder of its caches."""
    own = {k: v for k, v in os.environ.items() if k not in THREADS} | {"PYTHONPATH": f"{ROOT}{os.pathsep}{HERE}"}
    if cores == 1:
        own |= dict.fromkeys(THREADS, "1")
    if cache is not None:
        Path(cache).mkdir(exist_ok=True)
        own |= {"XDG_CACHE_HOME": str(cache), "TORCHINDUCTOR_CACHE_DIR": f"{cache}/inductor", "TMPDIR": str(cache)}
    return own


def hold(cores):
    """A function that holds the process which calls it to the last so many of its cores."""
    some = sorted(os.sched_getaffinity(0))[-cores:]
    return lambda: os.sched_setaffinity(0, some)


def run(command, cores, status=0, **arguments):
    """What a command prints; it must end with the status."""
    done = subprocess.run(command, preexec_fn=hold(cores), capture_output=True, text=True, **arguments)
    if done.returncode != status:
        raise RuntimeError(f"{command}: exit status {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    return done.stdout


def fresh(f, *args, cores=1, cache=None, python=sys.executable):
    """What a function of this file, or of `peers`, returns in a process of its own."""
    module = Path(sys.modules[f.__module__].__file__).stem
    code = f"import json, {module}; print(json.dumps({module}.{f.__name__}(*{args!r})))"
    return json.loads(run([python, "-c", code], cores, env=environment(cores, cache)).splitlines()[-1])


def empty(f, *args, **arguments):
    """The same, all caches empty."""
    with tempfile.TemporaryDirectory() as folder:
        return fresh(f, *args, cache=folder, **arguments)


# ---------------------------------------------------------------- what the processes do
def seconds(f, *args, **arguments):
    start = time.perf_counter()
    f(*args, **arguments)
    return time.perf_counter() - start


def model(kind, **arguments):
    from genmod_nb import ensemble
    return getattr(ensemble, kind)(**arguments)


def table(n=720, seed=0):
    from genmod_nb.data import simulate_losses
    return simulate_losses(n, random_state=seed)


def member_step(members, short, long):
    """Milliseconds of a member's step: fits of `long` epochs less fits of `short` ones."""
    from genmod_nb.many import fit_many
    X = table()

    def fit(epochs):
        """(Seconds, steps)."""
        models = [model("VAE", max_epochs=epochs, early_stopping=False, compile=True, random_state=s, progress=False)
                  for s in range(members)]
        start = time.perf_counter()
        fitted = fit_many(models, X, n_jobs=1, progress=False) if members > 1 else [models[0].fit(X)]
        return time.perf_counter() - start, int(fitted[0].history_.step.max()) * members
    fit(short)          # compiles, and loads
    (a, i), (b, j) = fit(short), fit(long)
    return 1_000 * (b - a) / (j - i)


def arithmetic(n=2_048):
    """Milliseconds of the products of a VAE's step, forward and backward, at the pace of this core's largest products."""
    import torch
    layers = [(4, 64), (64, 64), (64, 2), (64, 2), (2, 64), (64, 64), (64, 4)]
    products = sum(3 * a * b for a, b in layers) - 4 * 64       # nothing is asked of the gradient of the rows
    A = torch.randn(n, n)
    A @ A
    pace = 2 * n ** 3 / min(seconds(torch.mm, A, A) for _ in range(5))
    return 1_000 * 2 * peers.BATCH * products / pace


def fit(kind, n, seed, arguments=None):
    """Seconds of one fit."""
    new, X = model(kind, random_state=seed, **arguments or {}), table(n, seed)
    return seconds(new.fit, X)


def keep(kind, folder):
    """Compile what a fit of a model needs, and save the model."""
    model(kind, compile=True, random_state=0, progress=False).fit(table()).save(folder)


def draw(folder):
    from genmod_nb.cli import load
    return seconds(load(folder).sample, 1_000_000, random_state=0)


def own_import():
    import torch        # noqa: F401
    start = time.perf_counter()
    import genmod_nb.vae    # noqa: F401
    return time.perf_counter() - start


# ---------------------------------------------------------------- the rows
def saved(at, kind):
    """The folder of a fitted model; its code is compiled by then."""
    folder = at.folder / kind
    if not folder.exists():
        fresh(keep, kind, str(folder), cores=2, cache=at.cache)
    return str(folder)


def peer(at, name):
    """Milliseconds of a member's step of a peer."""
    return 1_000 / fresh(peers.rate, name, PEERS[name][0], 1, python=at.python)


def step(at, k):
    line = functools.partial(Line, "a VAE's step", unit="ms")
    yield line("genmod_nb", fresh(member_step, 1, 100, 1_100, cache=at.cache), asked=0.17)
    for name in BESIDE["step"]:
        yield line(name, peer(at, name))
    yield line("arithmetic alone", fresh(arithmetic))


def stack(at, k):
    line = functools.partial(Line, "a member's step in a stack of 16", unit="ms")
    yield line("genmod_nb", fresh(member_step, 16, 20, 220, cache=at.cache), asked=0.167)
    yield line(STACKED, peer(at, STACKED))
    yield line("arithmetic alone", fresh(arithmetic))


def compilation(at, k):
    line = functools.partial(Line, "first compilation of a VAE, with one epoch", unit="s", cores=2)
    yield line("genmod_nb", empty(fit, "VAE", 720, k, dict(compile=True, max_epochs=1), cores=2), asked=8)
    yield line(JAX, fresh(peers.jax_first, cores=2, python=at.python))


def fit_vae(at, k):
    saved(at, "VAE")
    yield Line("VAE().fit, a new table", "genmod_nb", fresh(fit, "VAE", 701 + 7 * k, 100 + k, cache=at.cache), "s", 0.8)


def fit_ensemble(at, k):
    saved(at, "Ensemble")
    yield Line("Ensemble().fit, a new table", "genmod_nb",
               fresh(fit, "Ensemble", 701 + 7 * k, 100 + k, cores=2, cache=at.cache), "s", 6, 2)


def first_ensemble(at, k):
    yield Line("Ensemble().fit, the first of a machine", "genmod_nb", empty(fit, "Ensemble", 720, k, cores=2), "s", 20, 2)


def sample(at, k):
    for kind in ("VAE", "Ensemble"):
        yield Line(f"{kind}: sample(1_000_000)", "genmod_nb", fresh(draw, saved(at, kind), cache=at.cache), "s", 1)


def genmod(at, *words):
    """The command, as it is installed beside this interpreter."""
    return dict(args=[Path(sys.executable).with_name("genmod"), *words], env=environment(2, at.cache), cwd=at.folder)


def memory(process):
    """Bytes that a process holds; none once it has ended."""
    import psutil
    with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
        return process.memory_info().rss
    return 0


def watched(cores, **command):
    """Seconds of a command, and the most that its processes have held together (MB)."""
    import psutil
    start, most = time.perf_counter(), 0
    with psutil.Popen(**command, preexec_fn=hold(cores)) as process:
        while process.poll() is None:
            with suppress(psutil.NoSuchProcess):
                most = max(most, sum(map(memory, [process, *process.children(recursive=True)])))
            time.sleep(0.02)
    if process.returncode:
        raise RuntimeError(f"{command['args']}: exit status {process.returncode}")
    return time.perf_counter() - start, most / 1e6


def write(at, k, n=10_000_000):
    for kind in ("VAE", "Ensemble"):
        out = at.folder / "rows.parquet"
        took, most = watched(2, **genmod(at, "sample", saved(at, kind), "-n", str(n), "--out", out, "--quiet"))
        out.unlink()
        what = f"{kind}: genmod sample -n {n} to parquet"
        yield Line(what, "genmod_nb", n / took, "rows/s", 1_000_000, 2)
        yield Line(f"{what}, peak memory", "genmod_nb", most, "MB", 1_000, 2)


def commands(at, k):
    for words, status in (("--version", 0), ("--help", 0), ("fit --help", 0), ("fit absent.csv --out model", 2)):
        given = genmod(at, *words.split())
        yield Line(f"genmod {words}", "genmod_nb", seconds(run, given.pop("args"), 2, status, **given), "s", 0.3, 2)


def imports(at, k):
    yield Line("import genmod_nb.vae, after torch", "genmod_nb", fresh(own_import), "s", 0.3)


def make(at, k):
    """Once: in a fresh clone of what is committed, installed before."""
    if k:
        return
    clone = at.folder / "clone"
    own = {k: v for k, v in os.environ.items() if k not in (*THREADS, "PYTHONPATH")}
    run(["git", "clone", "--quiet", ROOT, clone], 2)
    run(["make", "install"], 2, cwd=clone, env=own)
    for target, asked in (("test", 6), ("report", 5)):
        yield Line(f"make {target}", "genmod_nb", seconds(run, ["make", target], 2, cwd=clone, env=own) / 60, "min", asked, 2)


ROWS = {"step": step, "stack": stack, "compile": compilation, "fit": fit_vae, "ensemble": fit_ensemble, "first": first_ensemble,
        "sample": sample, "write": write, "commands": commands, "import": imports, "make": make}
BESIDE = {"step": [JAX, PLAIN, LEAN, "pythae", "ctgan TVAE"], "stack": [STACKED], "compile": [JAX]}


# ---------------------------------------------------------------- the table
def versions(python, packages):
    """{package: version} of an interpreter; ends the program where one is not installed."""
    code = ("import json, sys; from importlib.metadata import distributions\n"
            "has = {d.metadata['Name'].lower(): d.version for d in distributions()}\n"
            "print(json.dumps({p: has.get(p) for p in sys.argv[1:]}))")
    found = json.loads(run([python, "-c", code, *packages], 1))
    if absent := [p for p, v in found.items() if v is None]:
        sys.exit(f"{', '.join(absent)}: not installed for {python}, and a row needs it: pip install -r benchmarks/requirements.txt, "
                 "or name the interpreter that has it by --peers")
    return found


def told(names, python):
    """{whose: the versions that the table tells}, after a look whether the rows' peers are there, and whether JAX's loss is ours."""
    who = sorted({name for row in names for name in BESIDE.get(row, [])})
    found = versions(python, sorted({p for name in who for p in PEERS[name][1]}))
    if {JAX, STACKED} & {*who} and (apart := fresh(peers.agreement, python=python)) > 1e-4:
        sys.exit(f"JAX's loss is {apart} nats from the package's")
    state = run(["git", "-C", ROOT, "describe", "--always", "--dirty"], 1).strip()
    torch = versions(sys.executable, ["torch"])["torch"]
    return {name: ", ".join(f"{p} {found[p]}" for p in PEERS[name][1]) for name in who} | {
        "genmod_nb": f"commit {state}, torch {torch}", "arithmetic alone": f"torch {torch}"}


def card():
    """The machine: its processor and how many cores a process may use."""
    names = [l.partition(":")[2].strip() for l in Path("/proc/cpuinfo").read_text().splitlines() if l.startswith("model name")]
    return f"{names[0]}, {len(os.sched_getaffinity(0))} cores"


def summary(row, lines, known, load):
    """The lines of a row's table, from its measurements."""
    taken, shown = {}, []
    for line in lines:
        taken.setdefault(line._replace(value=None), []).append(line.value)
    for line, values in taken.items():
        median = statistics.median(values)
        met = None if line.asked is None else median >= line.asked if line.unit == "rows/s" else median <= line.asked
        shown.append(dict(row=row, what=line.what, who=line.who, median=median, low=min(values), high=max(values), unit=line.unit,
                          asked=line.asked, met=met, times=len(values), cores=line.cores, versions=known[line.who],
                          machine=card(), load=load, date=date.today().isoformat()))
    return shown


def store(row, shown):
    """Put a row's lines into the table in the place of older ones, in the order of `ROWS`; returns them."""
    import pandas as pd
    file, new = HERE / "results" / "keyboard.csv", pd.DataFrame(shown)
    old = pd.read_csv(file) if file.exists() else new[:0]
    parts = {name: part for name, part in old.groupby("row")} | {row: new}
    pd.concat([parts[name] for name in ROWS if name in parts]).to_csv(file, index=False)
    return new


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rows", nargs="*", metavar="row", help=f"which rows, of {', '.join(ROWS)} (default: all but make)")
    parser.add_argument("--peers", default=sys.executable, metavar="PYTHON", help="interpreter that has the peers (default: this one)")
    parser.add_argument("--times", type=int, default=5, help="measurements behind a median")
    parser.add_argument("--make", action="store_true", help="time make test and make report too")
    given = parser.parse_args()
    if unknown := [row for row in given.rows if row not in ROWS]:
        parser.error(f"{unknown[0]}: no row; there are {', '.join(ROWS)}")
    asked = {*(given.rows or set(ROWS) - {"make"})} | ({"make"} if given.make else set())
    names = [row for row in ROWS if row in asked]
    known = told(names, given.peers)
    with tempfile.TemporaryDirectory() as folder:
        at = Setting(Path(folder), given.peers)
        for row in names:
            load = round(os.getloadavg()[0], 1)
            lines = [line for k in range(given.times) for line in ROWS[row](at, k)]
            new = store(row, summary(row, lines, known, load))
            columns = ["what", "who", "median", "low", "high", "unit", "asked", "met"]
            print(new[columns].to_string(index=False, float_format="{:.3g}".format), flush=True)


if __name__ == "__main__":
    main()
