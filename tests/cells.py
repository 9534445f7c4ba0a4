"""The figures of the notebooks' cells: how long they are, what follows a definition, how much is said. `python tests/cells.py` prints them."""
import ast
import json
import re
import statistics
import sys
from pathlib import Path

NBS = Path(__file__).parents[1] / "nbs"
NUMBERED = sorted(NBS.glob("[0-9]*.ipynb"))
STORY = [p for p in NUMBERED if int(p.stem[:2]) < 20]


def filled(source):
    """Lines that are not blank."""
    return [l for l in source.splitlines() if l.strip()]


def lines(source):
    """What is code or comment: neither blank nor a directive."""
    return [l for l in filled(source) if not l.startswith("#|")]


def is_exported(kind, source):
    return kind == "code" and re.match(r"#\| exports?i?\b", source) is not None


def only_imports(source):
    """Such a cell is folded on the page."""
    return not re.search(r"^[%!]", source, flags=re.M) and all(isinstance(n, (ast.Import, ast.ImportFrom)) for n in ast.parse(source).body)


def is_definition(kind, source):
    """An exported cell that defines something: not the imports."""
    return is_exported(kind, source) and not only_imports(source)


def shows(cell):
    """Does a cell show or assert something?"""
    source = "".join(cell["source"])
    if cell["cell_type"] != "code" or is_exported("code", source):
        return False
    return bool(cell["outputs"]) or bool(re.search(r"^\s*(assert|test_\w+\(|with pytest|test_fail)", source, flags=re.M))


def figures(path):
    """Of one notebook: exported cells (imports too), their median and longest, the share that is shown at work, words for each line of code (hidden cells, imports and directives too)."""
    content = json.loads(path.read_text(encoding="utf-8"))["cells"]
    kinds = [(c["cell_type"], "".join(c["source"])) for c in content]
    own = [i for i, (kind, source) in enumerate(kinds) if is_definition(kind, source)]
    sizes = [len(lines(source)) for kind, source in kinds if is_exported(kind, source)]
    names = [sum(isinstance(n, (ast.FunctionDef, ast.ClassDef, ast.Assign)) for n in ast.parse(kinds[i][1]).body) for i in own]
    shown = [any(map(shows, content[i + 1:i + 3])) for i in own]
    words = sum(len(source.split()) for kind, source in kinds if kind == "markdown")
    told = sum(len(filled(source)) for kind, source in kinds if kind == "code")
    return dict(cells=len(sizes), median=statistics.median_high(sizes) if sizes else 0, longest=max(sizes, default=0),
                long=[source.splitlines()[1] for i in own if len(lines(source := kinds[i][1])) > 30],
                shown=sum(n for n, s in zip(names, shown) if s), names=sum(names), words=words, lines=told, sizes=sizes,
                outputs=sum(bool(c.get("outputs")) for c in content))


def table():
    rows = {p.stem: figures(p) for p in NUMBERED}
    print(f"{'notebook':20} {'cells':>5} {'median':>6} {'longest':>7} {'>30':>4} {'shown':>6} {'words/line':>10}")
    for name, f in rows.items():
        share = f"{f['shown'] / f['names']:.0%}" if f["names"] else ""
        print(f"{name:20} {f['cells']:5} {f['median']:6} {f['longest']:7} {len(f['long']):4} {share:>6} {f['words'] / f['lines']:10.1f}")
    sizes = [s for f in rows.values() for s in f["sizes"]]
    shown, names = (sum(f[k] for f in rows.values()) for k in ("shown", "names"))
    print(f"{'all':20} {len(sizes):5} {statistics.median(sizes):6} {max(sizes):7} {sum(s > 30 for s in sizes):4} {shown / names:6.0%} "
          f"{sum(f['words'] for f in rows.values()) / sum(f['lines'] for f in rows.values()):10.1f}")


if __name__ == "__main__":
    sys.exit(table())
