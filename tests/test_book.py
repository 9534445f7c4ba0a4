"""What stock Quarto would refuse, or print as it stands, in the processed notebooks; without Quarto."""
import json
import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.xdist_group("book")     # processed once, by one worker

# https://quarto.org/docs/reference/cells/cells-jupyter.html
# "in-test" is our own, see nbs/_book.py
CELL_OPTIONS = {"label", "classes", "tags", "echo", "eval", "output", "warning", "error", "include", "code-fold", "code-summary", "code-overflow",
                "code-line-numbers", "lst-label", "lst-cap", "fig-width", "fig-height", "fig-cap", "fig-subcap", "fig-alt", "fig-align", "fig-link",
                "tbl-cap", "tbl-subcap", "tbl-colwidths", "in-test", "layout", "layout-ncol", "layout-nrow", "layout-align", "column", "fig-column", "tbl-column"}
CALLOUTS = {"callout-note", "callout-tip", "callout-warning", "callout-important", "callout-caution"}
CODE = re.compile(r"^(`{3,}|~{3,}).*?^\1[ \t]*$|(?<!`)`[^`\n]+`(?!`)", flags=re.M | re.S)
KINDS = "fig|tbl|eq|sec"


@pytest.fixture(scope="session")
def processed(book):
    return book / "_proc"


def config():
    return yaml.safe_load((ROOT / "_quarto.yml").read_text(encoding="utf-8"))


def cells(path):
    """(kind, source, outputs) of what Quarto reads; a .qmd page is one piece of markdown."""
    if path.suffix == ".qmd":
        return [("markdown", path.read_text(encoding="utf-8"), [])]
    return [(c["cell_type"], "".join(c["source"]), c.get("outputs", [])) for c in json.loads(path.read_text(encoding="utf-8"))["cells"]]


def front_matter(path):
    m = re.match(r"---\n(.+?)\n---\s*(?:\n|$)", cells(path)[0][1].strip() + "\n", flags=re.S)
    return yaml.safe_load(m[1]) if m else {}


def prose(path):
    """The markdown of a page, without front matter and code."""
    texts = [source for kind, source, _ in cells(path) if kind == "markdown"]
    text = "\n\n".join(texts)
    return CODE.sub("", re.sub(r"\A\s*---\n.+?\n---\n", "", text, flags=re.S))


def options(source):
    """The lines of a cell that Quarto reads as its options."""
    lines = []
    for line in source.splitlines():
        if not line.startswith("#|"):
            break
        lines.append(line[2:])
    return lines


def pages(processed):
    return [p for p in sorted(processed.iterdir()) if p.suffix in (".ipynb", ".qmd")]


def labels(path):
    """What can be referred to on a page: labels of cells, and identifiers in the text."""
    coded = [m[1] for kind, source, _ in cells(path) if kind == "code" for m in re.finditer(r"^ label: ([\w-]+)$", "\n".join(options(source)), flags=re.M)]
    return coded + re.findall(rf"\{{#((?:{KINDS})-[\w-]+)", prose(path) + str(front_matter(path).get("title", "")))


def test_every_chapter_exists(processed):
    book = config()["book"]
    parts = [c["chapters"] if isinstance(c, dict) else [c] for c in book["chapters"]] + [book["appendices"]]
    names = [n for part in parts for n in part]
    assert names[0] == "index.ipynb" and len(names) == len(set(names))
    assert sorted(names) == sorted(p.name for p in pages(processed))
    assert (processed / config()["bibliography"]).is_file()


def test_nothing_is_fetched(processed):
    html = config()["format"]["html"]
    assert html["html-math-method"] == {"method": "katex", "url": "katex/"} and config()["project"]["resources"] == ["katex/**/*"]
    for themes in html["theme"].values():
        scss = processed / themes[-1]
        assert scss.suffix == ".scss" and "$web-font-path: false;" in scss.read_text()


def test_front_matter(processed):
    for path in pages(processed):
        front = front_matter(path)
        assert isinstance(front, dict), path.name
        if path.suffix == ".ipynb":
            assert cells(path)[0][0] == "raw" and front["title"] and front["description"], path.name
        else:
            assert ("title" in front) != bool(re.match(r"\s*# ", prose(path))), path.name
        levels = [len(h) for h in re.findall(r"^(#+) ", prose(path), flags=re.M)]
        assert levels.count(1) == (0 if "title" in front else 1), f"{path.name}: a second title"
        assert all(b - a <= 1 for a, b in zip(levels, levels[1:])), f"{path.name}: a level of headings is left out"


def option_problems(source, outputs):
    """What Quarto would not understand in the options and outputs of a code cell."""
    lines = options(source)
    try:
        given = yaml.safe_load("\n".join(lines)) or {}
        assert isinstance(given, dict)
    except (yaml.YAMLError, AssertionError):
        yield "options that are not YAML"
        return
    if set(given) - CELL_OPTIONS:
        yield f"unknown options {set(given) - CELL_OPTIONS}"
    if re.search(r"^#\| ?\w", "\n".join(source.splitlines()[len(lines):]), flags=re.M):
        yield "an option below the code"
    label = given.get("label", "")
    for kind in ("fig", "tbl"):
        if (f"{kind}-cap" in given) != label.startswith(kind):
            yield f"{kind}-cap and the label {label!r}"
    if label and not (re.fullmatch(rf"(?:{KINDS})-[a-z0-9-]+", label) and outputs):
        yield f"a label of another form, or without output: {label}"
    for output in outputs:
        data = output.get("data", {})
        if "application/vnd.jupyter.widget-view+json" in data or re.search(r"<script[^>]* src=", "".join(data.get("text/html", ""))):
            yield "an output that loads scripts"


def test_directives_are_quartos(processed):
    found = [(path.name, problem, source[:120]) for path in pages(processed) for kind, source, outputs in cells(path) if kind == "code"
             for problem in option_problems(source, outputs)]
    assert found == []


def test_labels_are_unique(processed):
    found = [(l, p.name) for p in pages(processed) for l in labels(p)]
    names = [l for l, _ in found]
    assert [f for f in found if names.count(f[0]) > 1] == []


def test_references_resolve(processed):
    known = {l for p in pages(processed) for l in labels(p)}
    keys = set(re.findall(r"^@\w+\{([\w-]+),", (processed / "references.bib").read_text(encoding="utf-8"), flags=re.M))
    for path in pages(processed):
        text = prose(path)
        for label in re.findall(rf"(?<![\w\\])@((?:{KINDS})-[\w-]+)", text):
            assert label in known, f"{path.name}: @{label}"
        assert not re.search(rf"\[[^\]]*@(?:{KINDS})-", text), f"{path.name}: a reference in brackets"
        for key in re.findall(r"(?<![\w\\.])@([a-zA-Z][\w]*)", re.sub(rf"@(?:{KINDS})-[\w-]+", "", text)):
            assert key in keys, f"{path.name}: @{key} is not in references.bib"


def test_links_between_notebooks(processed):
    anchors = {p.name: labels(p) for p in pages(processed)}
    for path in pages(processed):
        for name, anchor in re.findall(r"\]\(([\w.-]+\.(?:ipynb|qmd))(?:#([\w.-]+))?\)", prose(path)):
            assert name in anchors and (not anchor or anchor in anchors[name]), f"{path.name}: {name}#{anchor}"


def test_divs_are_balanced(processed):
    for path in pages(processed):
        depth = 0
        for line in re.findall(r"^ *:::+.*$", prose(path), flags=re.M):
            attributes = line.strip(" :")
            depth += 1 if attributes else -1
            assert depth >= 0, f"{path.name}: {line} closes nothing"
            assert not attributes or re.fullmatch(r"\{[.#][^{}]+\}|[\w-]+", attributes), f"{path.name}: {line}"
            for kind in re.findall(r"callout-\w+", attributes):
                assert kind in CALLOUTS, f"{path.name}: {line}"
        assert depth == 0, f"{path.name}: a div is left open"


def test_equations_and_code_are_closed(processed):
    for path in pages(processed):
        text = prose(path)
        assert text.count("$$") % 2 == 0, path.name
        assert len(re.findall(r"\{#eq-", text)) == len(re.findall(r"\$\$ \{#eq-[\w-]+\}$", text, flags=re.M)), f"{path.name}: a label that is not after its equation"
        assert not re.search(r"^(`{3,}|~{3,})", text, flags=re.M), f"{path.name}: a code block is left open"
