"""What the pages print is what the code prints: the stored outputs against those of the last `make report`."""
import json
import re
from pathlib import Path

import pytest

NBS = Path(__file__).parents[1] / "nbs"
REPORT = NBS.parent / "_report" / "nbs"
# Nothing is trained in these, and no clock is read that is not named below; elsewhere another processor may give other numbers.
FIXED = ["00_data", "01_margins", "02_metrics", "31_estimators", "32_frames", "33_dialect", "34_columns", "35_screening", "42_families", "43_tilt",
         "44_atoms", "45_tails", "46_margin", "47_dominance", "64_development", "65_standing"]
NUMBER = re.compile(r"[-+]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?")


def printed(path):
    """The text of every cell that prints, by the cell's name."""
    texts = {}
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        said = [o for o in cell.get("outputs", []) if o.get("name") != "stderr" and not any("widget" in kind for kind in o.get("data", {}))]
        parts = [o.get("text") or o.get("data", {}).get("text/plain", "") for o in said]
        text = "".join(line for part in parts for line in part)
        if text and "perf_counter" not in "".join(cell["source"]): texts[cell["id"]] = text
    return texts


def differ(stored, now, share=2e-2, least=2e-3):
    """The first number or word in which two texts differ by more than another processor's rounding, or None."""
    if NUMBER.split(stored) != NUMBER.split(now): return "words"
    for pair in zip(NUMBER.findall(stored), NUMBER.findall(now)):
        a, b = (float(x.replace(",", "")) for x in pair)
        if abs(a - b) > least + share * max(abs(a), abs(b)): return pair


def test_a_difference_is_found():
    assert differ("tau 0.50 of 720", "tau 0.50 of 720") is None
    assert differ("tau 0.500", "tau 0.501") is None
    assert differ("tau 0.50", "tau 0.60") == ("0.50", "0.60")
    assert differ("tau 0.50", "rho 0.50") == "words"
    assert differ("1,000 rows", "2,000 rows") == ("1,000", "2,000")


@pytest.mark.skipif(not REPORT.exists(), reason="`make report` has not run here")
@pytest.mark.parametrize("name", FIXED)
def test_stored_outputs_are_what_is_printed_now(name):
    stored, now = (printed(folder / f"{name}.ipynb") for folder in (NBS, REPORT))
    assert stored and stored.keys() == now.keys()
    assert {k: differ(v, now[k]) for k, v in stored.items() if differ(v, now[k])} == {}
