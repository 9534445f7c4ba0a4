"""The notebooks as something to read: short cells, shown at work, with words that lead. `python tests/cells.py` prints the figures."""
import json
import statistics

import pytest
from cells import NBS, NUMBERED, STORY, figures

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
