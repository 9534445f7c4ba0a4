"""The notebooks as something to read: short cells, shown at work, with words that lead. `python tests/cells.py` prints the figures."""
import ast
import json
import runpy
import shutil
import statistics
import subprocess
import sys

import matplotlib as mpl
import pytest
from cells import NBS, NUMBERED, STORY, figures

with mpl.rc_context():      # it sets the look of figures
    small = runpy.run_path(str(NBS / "_book.py"))["small"]
FIGURES = {p.stem: figures(p) for p in NUMBERED}
# Longer than 30 lines because cutting them would hurt; at most ten.
LONG = ()


def test_cells_are_short():
    assert statistics.median([n for f in FIGURES.values() for n in f["sizes"]]) <= 12
    assert [line for f in FIGURES.values() for line in f["long"]] == list(LONG) and len(LONG) <= 10


def test_definitions_are_shown_at_work():
    shown, names = (sum(f[k] for f in FIGURES.values()) for k in ("shown", "names"))
    assert shown >= 0.6 * names, (shown, names)


@pytest.mark.parametrize("chapter", [p.stem for p in STORY])
def test_a_chapter_of_the_story(chapter):
    f = FIGURES[chapter]
    assert f["median"] <= 12 and f["shown"] >= 0.6 * f["names"] and f["words"] >= 4 * f["lines"], f


@pytest.mark.parametrize("room", [p.stem for p in NUMBERED])
def test_a_room(room):
    """Short cells, and something to see."""
    assert FIGURES[room]["median"] <= 12 and FIGURES[room]["outputs"], FIGURES[room]


@pytest.mark.parametrize("path", sorted(NBS.glob("*.ipynb")), ids=lambda p: p.stem)
def test_sizes_of_tests_are_not_on_the_page(path):
    """They stand in directives (nbs/_book.py), and every notebook begins with what reads them."""
    sources = [(c["cell_type"], "".join(c["source"])) for c in json.loads(path.read_text(encoding="utf-8"))["cells"]]
    code = [s for kind, s in sources if kind == "code"]
    assert not [s for s in code if "IN_TEST" in s]
    assert [s for s in code[:2] if s == "#| hide\nimport _book"]
    assert not [s for s in code if s.startswith("#| hide") and ("from " in s or "train" in s)], "what readers need is hidden"


@pytest.mark.parametrize("path", sorted(NBS.glob("*.ipynb")), ids=lambda p: p.stem)
def test_directives_fit_their_cells(path):
    """What a test makes of a cell is Python, and not the cell as it was; also where the notebooks run at full size only."""
    for c in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        if c["cell_type"] == "code" and "#| in-test" in "".join(c["source"]):
            made = "".join(small(c["source"]))
            ast.parse(made)
            assert made != "".join(l for l in c["source"] if not l.startswith("#|"))


def test_every_notebook_of_a_process_is_small(tmp_path):
    """nbdev_test runs several notebooks in one process; IN_TEST changes the cells of each, and a directive that does not fit is an error."""
    cell = lambda source: dict(cell_type="code", source=source, metadata={}, outputs=[], execution_count=None)
    notebooks = {"a": ["n = 1 -> n = 2"] * 2, "b": ["n = 1 -> n = 2", "skip"], "c": ["n = 3 -> n = 2"] * 2}
    for name, directives in notebooks.items():
        cells = ["#| hide\nimport _book", f"#| in-test: {directives[0]}\nn = 1", "assert n == 2", f"#| in-test: {directives[1]}\nassert n == 1"]
        content = dict(cells=list(map(cell, cells)), metadata={}, nbformat=4, nbformat_minor=5)
        (tmp_path / f"{name}.ipynb").write_text(json.dumps(content), encoding="utf-8")
    shutil.copy(NBS / "_book.py", tmp_path)
    code = "import sys; from pathlib import Path; from nbdev.test import test_nb; print([test_nb(Path(p).resolve(), showerr=False)[0] for p in sys.argv[1:]])"
    paths = [tmp_path / f"{name}.ipynb" for name in "bbac"]
    done = subprocess.run([sys.executable, "-c", code, *paths], capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout == "[True, True, False, False]\n", done.stdout + done.stderr
