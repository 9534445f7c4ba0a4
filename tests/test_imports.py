"""Imports on demand: help and early mistakes need none of the heavy packages, and whatever is asked for later is there."""
import re
import subprocess
import sys

import pytest

HEAVY = {"torch", "sklearn", "pandas", "scipy", "pyarrow", "joblib", "matplotlib"}
GENMOD = "import sys; from genmod_nb.cli import main; sys.exit(main())"


def imported(code, *arguments, **kwargs):
    """(status, stdout, what is said on stderr, the packages that a process of its own imports)."""
    done = subprocess.run([sys.executable, "-X", "importtime", "-c", code, *map(str, arguments)], capture_output=True, text=True, **kwargs)
    lines = done.stderr.splitlines()
    names = [re.fullmatch(r"import time:.*\| *([\w.]+)", l) for l in lines]
    return done.returncode, done.stdout, [l for l, name in zip(lines, names) if not name and "import time:" not in l], {n[1].split(".")[0] for n in names if n}


QUICK = {"--version": 0, "--help": 0, "fit --help": 0, "sample --help": 0, "score --help": 0, "risk --help": 0, "card --help": 0, "study --help": 0, "": 2, "dance": 2,
         "fit": 2, "fit a.csv --bogus 1": 2, "fit a.csv": 2, "fit nosuch.csv --out m": 2, "fit a.xlsx --out m": 2, "fit empty --out m": 2,
         "fit a.csv --out m --model oracle": 2, "fit a.csv --out m --seed -1": 2, "fit a.csv --out m --seed x": 2, "fit a.csv --out m --param depth": 2,
         "fit a.csv --out m --lower x": 2, "fit a.csv --out .": 2, "fit a.csv --out a.csv/m": 2, "sample nosuch --out x.csv": 2, "sample empty --out x.csv": 2,
         "sample m --out x.xlsx": 2, "sample m -n 0 --out x.csv": 2, "sample m --out a.csv/x.csv": 2, "score a.csv nosuch.csv": 2, "score a.csv a.csv --reps 0": 2,
         "score a.csv a.csv --train nosuch.csv": 2, "risk": 2, "risk nosuch": 2, "risk nosuch.csv": 2, "risk empty": 2, "risk a.xlsx": 2, "risk a.csv --levels x": 2, "risk a.csv --levels 99": 2, "risk a.csv --weights f1": 2,
         "risk a.csv -n 0": 2, "risk a.csv --seed -1": 2, "risk a.csv --out x.xlsx": 2, "risk a.csv --intervals 20": 2, "risk a.csv --data a.csv": 2, "risk a.csv --intervals 20 --data a.csv": 2,
         "card": 2, "card m": 2, "card m --out card.pdf": 2, "card m --out card.html": 2, "card m --out card.html --real a.csv": 2, "card m --out card.html --real nosuch.csv --train a.csv": 2,
         "card nosuch --out card.html --real a.csv --train a.csv": 2, "study dance": 2, "study sigma": 2, "study sigma --out s --data nosuch.csv": 2, "study sigma --out a.csv": 2}


@pytest.mark.parametrize("line", QUICK)
def test_what_needs_no_model_imports_none(line, tmp_path):
    for name in ("a.csv", "a.xlsx"):
        (tmp_path / name).touch()
    (tmp_path / "empty").mkdir()
    status, out, err, packages = imported(GENMOD, *line.split(), cwd=tmp_path)
    assert status == QUICK[line] and "fastcore" in packages, (out, err)
    assert not packages & HEAVY, sorted(packages & HEAVY)
    assert out if status == 0 else "error: " in "".join(err) and "Traceback" not in "".join(err)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.csv", "a.xlsx", "empty"]


def test_the_early_answers_are_those_of_the_rooms(tmp_path):
    """Whatever the command line says before it imports the rooms, they would have said in the same words."""
    from genmod_nb.cli import load
    from genmod_nb.tables import open_losses, read_losses
    (tmp_path / "a.xlsx").touch()
    (tmp_path / "empty").mkdir()
    for command, name, calls in (("fit", "nosuch.csv", (read_losses, open_losses)), ("fit", "a.xlsx", (read_losses, open_losses)),
                                 ("fit", "empty", (open_losses,)), ("sample", "nosuch", (load,)), ("sample", "empty", (load,))):
        _, _, err, _ = imported(GENMOD, command, tmp_path / name, "--out", tmp_path / "x.csv")
        for call in calls:
            with pytest.raises((OSError, ValueError)) as e:
                call(tmp_path / name)
            assert err == [f"genmod {command}: error: {e.value}"]


def test_names_are_known_before_anything_is_imported():
    code = ("import sys; from genmod_nb.cli import MODELS, STUDIES; names = [*MODELS, *STUDIES]; assert 'vae' in MODELS and 'oracle' not in MODELS; "
            "early = 'torch' in sys.modules; kinds = [m.__name__ for m in MODELS.values()]; print(early, kinds, [callable(f) for s in STUDIES.values() for f in s]); "
            "from genmod_nb.files import Specification; print(sorted(Specification.registry))")
    status, out, err, _ = imported(code)
    assert status == 0, err
    assert out.splitlines() == [f"False {['VAE', 'WAE', 'Density', 'GAN', 'WGANGP', 'Ensemble', 'RadialEnsemble']} {[True] * 18}", "['LARS', 'Mixture', 'Normal', 'Radial', 'Vamp']"]


def test_every_public_name_of_the_command_line_is_there():
    import genmod_nb.cli
    assert all(hasattr(genmod_nb.cli, name) for name in genmod_nb.cli.__all__) and {"MODELS", "STUDIES", "load"} <= set(genmod_nb.cli.__all__)
    with pytest.raises(KeyError):
        genmod_nb.cli.MODELS["oracle"]


def test_a_folder_with_another_chapters_prior_is_loaded_first_thing(tmp_path):
    """In a process that has imported the command line alone, `load` knows every model and prior."""
    import numpy as np
    from genmod_nb.lars import LARS
    from genmod_nb.vae import VAE
    X = np.random.default_rng(0).exponential(size=(60, 2))
    VAE(prior=LARS(n_proposals=16, hidden=(4,)), max_epochs=1, random_state=0, progress=False, compile=False).fit(X).save(tmp_path / "m")
    status, out, err, _ = imported("import sys; from genmod_nb.cli import load; print(type(load(sys.argv[1]).prior).__name__)", tmp_path / "m")
    assert (status, out) == (0, "LARS\n"), err
