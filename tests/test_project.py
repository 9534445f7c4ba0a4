"""The house itself: one source of truth, imports that flow one way, light imports, notebooks in order."""
import configparser
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BASH = re.compile(r"```bash\n(.+?)```", flags=re.S)
NOTEBOOKS = sorted((ROOT / "nbs").glob("*.ipynb"))
NUMBERED = [n for n in NOTEBOOKS if n.stem[:2].isdigit()]
MODULES = [p.stem for p in sorted((ROOT / "genmod_nb").glob("[!_]*.py"))]


def cells(path, kind):
    return ["".join(c["source"]) for c in json.loads(path.read_text(encoding="utf-8"))["cells"] if c["cell_type"] == kind]


def settings():
    config = configparser.ConfigParser(delimiters=["="])
    config.read(ROOT / "settings.ini")
    return config["DEFAULT"]


def rooms():
    """The modules in the order of the contract in .importlinter, highest first."""
    config = configparser.ConfigParser()
    config.read(ROOT / ".importlinter")
    return config["importlinter:contract:rooms"]["layers"].split()


def test_rooms_import_only_from_lower_rooms():
    """Which stands where is one list, and import-linter reads what the modules import, inside functions too."""
    done = subprocess.run([Path(sys.executable).parent / "lint-imports", "--no-cache"], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0 and "1 kept, 0 broken" in done.stdout, done.stdout + done.stderr
    assert sorted(rooms()) == MODULES


def test_the_contract_sees_an_import_upwards(tmp_path):
    for name in ("genmod_nb", ".importlinter"):
        (shutil.copytree if name == "genmod_nb" else shutil.copy)(ROOT / name, tmp_path / name)
    with open(tmp_path / "genmod_nb" / "frames.py", "a", encoding="utf-8") as f:
        f.write("\ndef up():\n    from .vae import VAE\n    return VAE\n")
    done = subprocess.run([Path(sys.executable).parent / "lint-imports", "--no-cache"], capture_output=True, text=True, cwd=tmp_path,
                          env=os.environ | {"PYTHONPATH": str(tmp_path)})
    assert done.returncode == 1 and "genmod_nb.frames is not allowed to import genmod_nb.vae" in done.stdout, done.stdout


def test_the_machine_room_does_not_use_the_story():
    """A room with a number from 20 stands on `data`, `margins` and `metrics`, and on no other chapter; the command line on all."""
    number = {n.stem[3:]: int(n.stem[:2]) for n in NUMBERED}
    order = rooms()[::-1]
    story = [order.index(name) for name in order if 2 < number[name] < 20]
    assert all(order.index(name) < min(story) for name in order if number[name] >= 20 and name != "cli")


def test_no_module_is_long():
    sizes = {m: len((ROOT / "genmod_nb" / f"{m}.py").read_text(encoding="utf-8").splitlines()) for m in MODULES}
    assert max(sizes.values()) < 450, max(sizes, key=sizes.get)


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_form(notebook):
    content = json.loads(notebook.read_text(encoding="utf-8"))
    first = "".join(content["cells"][0]["source"])
    assert re.fullmatch(r"# .+\n+> .+", first.strip()), first
    code = [c for c in content["cells"] if c["cell_type"] == "code"]
    assert not [o for c in code for o in c["outputs"] if o["output_type"] == "error"]
    bars = [o for c in code for o in c["outputs"] if any("widget" in kind for kind in o.get("data", {}))]
    assert not bars and "widgets" not in content["metadata"], "bars are stored, which nobody will see move"
    said = [o["text"] for c in code for o in c["outputs"] if o.get("name") == "stderr"]
    assert not said, "warnings are stored, with the paths of the machine that gave them"
    for c in code:
        source = "".join(c["source"])
        if "label: fig-" in source:
            assert "fig-cap:" in source and "fig-alt:" in source, source
            assert any("image/png" in o.get("data", {}) for o in c["outputs"]), f"no picture stored: {source[:80]}"
        if source.startswith("#| export"):
            assert len(source.splitlines()) <= 40, source.splitlines()[1]
        assert all(len(l) <= 100 for l in source.splitlines() if not l.startswith("#|")), source[:80]
        assert not re.search(r"\b(TO[D]O|FIX[M]E)\b", source)
        assert "expect_fail(lambda" not in source, "a context manager that is never entered tests nothing"
    labels = re.findall(r"#\| label: ([\w-]+)", "\n".join(cells(notebook, "code")))
    assert len(labels) == len(set(labels))


def test_version_is_that_of_settings():
    import genmod_nb
    from importlib.metadata import version
    assert genmod_nb.__version__ == settings()["version"] == version("genmod_nb")


def test_every_requirement_is_pinned():
    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name
    pins = {canonicalize_name(k): v for k, v in pins.items()}
    cfg = settings()
    for key in [k for k in cfg if k.endswith("requirements")]:
        for text in cfg[key].split():
            requirement = Requirement(text)
            assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)]), text


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


def test_imports_are_light():
    heavy = ("matplotlib", "seaborn", "statsmodels", "skfolio", "pyvinecopulib", "zuko", "optuna", "dask", "nbdev", "clevercsv", "filelock")
    everything = ", ".join(f"genmod_nb.{m}" for m in MODULES)
    done = run(f"import sys, {everything}; print([m for m in {heavy} if m in sys.modules])")
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_without_extras():
    hide = "import sys; [sys.modules.__setitem__(m, None) for m in ('skfolio', 'skfolio.datasets', 'pyvinecopulib', 'zuko', 'optuna', 'dask', 'distributed')]\n"
    modules = "\n".join(f"import genmod_nb.{m}" for m in MODULES)
    done = run(hide + modules + "\nfrom genmod_nb.data import load_losses\ntry: load_losses()\nexcept ImportError as e: print(e)")
    assert done.returncode == 0 and "pip install 'genmod_nb[data]'" in done.stdout, done.stderr


def test_readme_python_runs(tmp_path):
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.+?)```", readme, flags=re.S)
    runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path) for code in blocks]
    assert [r.returncode for r in runs] == [0, 0], [r.stderr for r in runs]
    assert "kendall_error" in runs[0].stdout and (tmp_path / "model" / "config.json").is_file() and (tmp_path / "study.db").is_file()


def test_readme_commands_run(tmp_path, tables):
    from genmod_nb.cli import main
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    commands = [l.split()[1:] for block in BASH.findall(readme) for l in block.splitlines() if l.startswith("genmod ")]
    assert len(commands) == 5
    tables[0].to_csv(tmp_path / "losses.csv")
    tables[1].to_csv(tmp_path / "heldout.csv")
    here = os.getcwd()
    os.chdir(tmp_path)
    try:
        assert [main(c) for c in commands] == [0, 0, 0, 0, 0]
    finally:
        os.chdir(here)


def test_readme_targets_exist():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    commands = [l.split("#")[0].split() for block in BASH.findall(readme) for l in block.splitlines() if l.startswith("make ")]
    assert commands == [["make", "report"], ["make", "test"]]
    for command in commands:
        done = subprocess.run([*command, "--dry-run"], capture_output=True, text=True, cwd=ROOT)
        assert done.returncode == 0, done.stderr


def test_the_ci_tests_every_cell_that_has_a_size_for_tests():
    """The other notebooks' cells are the same in `make report`, which runs before."""
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    lines = [l for l in script.splitlines() if l.startswith(("make ", "sized="))]
    assert lines.index("make report") < len(lines) - 1 and lines[-1].startswith("make test ")
    done = subprocess.run(["bash", "-euo", "pipefail", "-c", "\n".join(['make() { printf "%s\n" "$*"; }', *lines])], capture_output=True, text=True, cwd=ROOT)
    *_, option, pattern = shlex.split(done.stdout.split("CELLS=")[1])
    sized = {n.name for n in NOTEBOOKS if any("#| in-test: " in source for source in cells(n, "code"))}
    assert option == "--file_re" and {n.name for n in NOTEBOOKS if re.search(pattern, n.name)} == sized and len(sized) < len(NOTEBOOKS)


def test_readme_shows_the_front_page():
    """The rows of its table are those of the stored headline, its picture is there, its extras exist."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    content = json.loads((ROOT / "nbs" / "index.ipynb").read_text(encoding="utf-8"))["cells"]
    cell = next(c for c in content if "label: tbl-headline" in "".join(c.get("source", "")))
    table = {re.split(r"  +", l.strip())[0]: re.split(r"  +", l.strip())[1:] for l in cell["outputs"][0]["data"]["text/plain"]}
    rows = {l.split("|")[1].strip(): [v.strip() for v in l.split("|")[2:-1] if v.strip()] for l in readme.splitlines() if "±" in l and l.startswith("|")}
    pairs = {"the report's settings": "its settings, our table", "`Ensemble()`": "Ensemble()", "vine copula": "vine copula",
             "folded t copula, seven numbers": "folded t copula"}
    assert rows == {ours: table[theirs] for ours, theirs in pairs.items()}
    assert all(v in readme for v in table["floor"])
    pictures = re.findall(r"!\[[^]]+\]\(([^)]+)\)", readme)
    assert pictures and all((ROOT / f).stat().st_size > 10_000 for f in pictures)
    wanted = re.search(r'pip install "\.\[(.+?)\]"', readme).group(1).split(",")
    assert set(wanted) <= {k.removesuffix("_requirements") for k in re.findall(r"^(\w+_requirements)", (ROOT / "settings.ini").read_text(encoding="utf-8"), flags=re.M)}


def test_every_block_is_of_a_kind_that_is_run():
    """Code cells run as tests of their notebooks; blocks in the text must be among those that run here."""
    texts = {"README.md": (ROOT / "README.md").read_text(encoding="utf-8")}
    texts |= {n: "\n\n".join(cells(ROOT / "nbs" / n, "markdown")) for n in ("index.ipynb", "own_table.ipynb")}
    kinds = {name: re.findall(r"^```(.*)$", text, flags=re.M)[::2] for name, text in texts.items()}
    assert kinds == {"README.md": ["bash", "bash", "python", "python", "bash"], "index.ipynb": [], "own_table.ipynb": ["bash", "bash", "bash"]}


def test_own_table_commands_run(tmp_path):
    """As they stand in the chapter, on the file that its cells have written by then."""
    import pandas as pd
    from genmod_nb.cli import load
    content = json.loads((ROOT / "nbs" / "own_table.ipynb").read_text(encoding="utf-8"))["cells"]
    sources = [(c["cell_type"], "".join(c["source"])) for c in content]
    end = next(i for i, (_, s) in enumerate(sources) if "{#sec-own-fit}" in s)
    python = "\n".join(s for kind, s in sources[:end] if kind == "code" and not s.startswith("#| hide"))
    done = subprocess.run([sys.executable, "-c", python], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    block = "\n".join(b for kind, s in sources if kind == "markdown" for b in BASH.findall(s))
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(["bash", "-euo", "pipefail", "-c", block], capture_output=True, text=True, cwd=tmp_path, env=os.environ | {"PATH": path})
    assert done.returncode == 0, done.stderr
    rows = {n: len((tmp_path / f"{n}.csv").read_text().splitlines()) - 1 for n in ("claims", "train", "heldout", "generated", "risk", "stress", "severe")}
    assert rows == {"claims": 899, "train": 599, "heldout": 300, "generated": 300, "risk": 10, "stress": 1000, "severe": 1000}
    assert set(pd.read_csv(tmp_path / "stress.csv").storm) == {67} and pd.read_csv(tmp_path / "severe.csv").storm.min() >= 67
    scores = pd.read_csv(tmp_path / "scores.csv", index_col="score")
    assert scores.value["anderson_darling"] < scores.training_95["anderson_darling"] and scores.value["novelty_copies"] == 0
    assert "Model card: Ensemble" in (tmp_path / "card.html").read_text() and (tmp_path / "card.json").is_file()
    assert "kendall_error" in done.stdout and load(tmp_path / "model").get_params()["members"] == 2
