"""The offline edition, built from the stored outputs: complete, resolved, and without a request to anywhere."""
import ast
import json
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from importlib import import_module
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
MODULES = [p.stem for p in sorted((ROOT / "genmod_nb").glob("[!_]*.py"))]


pytestmark = pytest.mark.xdist_group("book")     # rendered once, by one worker


@pytest.fixture(scope="session")
def site(book):
    return book / "_docs"


def reading_order():
    """The files of the book, in the order of _quarto.yml."""
    book = yaml.safe_load((ROOT / "_quarto.yml").read_text())["book"]
    parts = [item["chapters"] if isinstance(item, dict) else [item] for item in book["chapters"]]
    return [name for part in parts for name in part] + book["appendices"]


class Page(HTMLParser):
    """Identifiers, links, resources and visible text outside code of one page."""
    def __init__(self, path):
        super().__init__()
        self.ids, self.links, self.resources, self.images, self.text, self.inside = [], [], [], [], [], []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        a = dict(attrs)
        if a.get("id"):
            self.ids.append(a["id"])
        if tag == "a":
            self.links.append(a.get("href", ""))
        elif a.get("src") or a.get("href"):
            self.resources.append(a.get("src") or a["href"])
        if tag == "img":
            self.images.append(a)
        if tag in ("code", "pre", "script", "style"):
            self.inside.append(tag)
        if "math" in (a.get("class") or "").split() or tag == "math":
            self.inside.append(tag)

    def handle_endtag(self, tag):
        if self.inside and self.inside[-1] == tag:
            self.inside.pop()

    def handle_data(self, data):
        if not self.inside:
            self.text.append(data)


@pytest.fixture(scope="module")
def pages(site):
    return {p.name: Page(p) for p in sorted(site.glob("*.html"))}


def test_every_chapter_in_order(site, pages):
    order = reading_order()
    names = [Path(c).stem + ".html" for c in order]
    assert sorted(pages) == sorted(names)
    notebooks = [p.name for p in (ROOT / "nbs").glob("*.ipynb")]
    assert {*notebooks, *(p.name for p in (ROOT / "nbs").glob("*.qmd")), "api.qmd", *(f"api_{m}.qmd" for m in MODULES)} == set(order)
    for before, name in zip(names, names[1:]):
        assert f'rel="next" href="{name}"' in (site / before).read_text()
        assert f'rel="prev" href="{before}"' in (site / name).read_text()


def test_links_and_anchors(site, pages):
    for name, page in pages.items():
        assert len(page.ids) == len(set(page.ids)), name
        for href in page.links:
            if re.match(r"https?://", href):
                continue
            target, _, anchor = href.partition("#")
            assert (target or name) in pages, f"{name}: {href}"
            assert not anchor or anchor in pages[target or name].ids, f"{name}: {href}"


def test_no_request_leaves(site, pages):
    for name, page in pages.items():
        for address in page.resources:
            assert address.startswith("data:") or (site / address).is_file(), f"{name}: {address}"
    assert not re.search(r"url\(\s*['\"]?https?:", (site / "style.css").read_text())


def test_nothing_raw_is_visible(pages):
    for name, page in pages.items():
        text = "".join(page.text)
        for raw in ("$$", ":::", "#|", "?@", "@fig-", "@eq-", "@sec-", "@tbl-", "[[caption", "{#", "{.callout", "(???)", "ipynb)"):
            assert raw not in text, f"{name}: {raw}"


def test_figures_have_captions_and_alternative_text(site, pages):
    figures = 0
    for name, page in pages.items():
        for image in page.images:
            assert len(image.get("alt", "")) > 20, f"{name}: {image['src']}"
        html = (site / name).read_text()
        for label in re.findall(r'id="(fig-[\w-]+)"', html):
            figures += 1
            assert re.search(rf'id="{label}".*?class="caption">\s*<p><strong>Figure [\d.]+</strong> \S', html, flags=re.S), label
    assert figures >= 10


def test_equations_and_citations(site):
    html = (site / "02_metrics.html").read_text()
    assert re.search(r'id="eq-ad".*?\(4\.1\)', html, flags=re.S)
    assert 'href="references.html#ref-genest1993"' in html
    references = (site / "references.html").read_text()
    bib = (ROOT / "nbs" / "references.bib").read_text()
    for key in re.findall(r'id="ref-([a-z]+\d{4})"', references):
        assert f"{{{key}," in bib


def test_reference_lists_every_exported_name(site):
    for name in MODULES:
        module = import_module(f"genmod_nb.{name}")
        text = (site / f"api_{name}.html").read_text()
        assert [n for n in module.__all__ if not re.search(rf"\b{n}\b", text)] == []
    assert re.search(r'id="load_losses".*?data\.py#L\d+".*?rows in the training part', (site / "api_data.html").read_text(), flags=re.S)


PAGES = {
    "index.qmd": "# A small book {.unnumbered}\n\n> Its front page.\n\nSee @sec-one, @tbl-one, @eq-one, @sec-own and @sec-last. [@known1999]\n",
    "first.qmd": """---
title: "# First {#sec-own}"
description: "The *first* of two."
---

## A section {#sec-one}

| a | b |
|---|---|
| 1 | 2 |

: Two numbers {#tbl-one tbl-colwidths="[30,70]"}

$$
x = 1
$$ {#eq-one}

::: {.callout-tip title="A *tip*"}
As in [the last](last.qmd#sec-last), not in `@sec-code`.
:::
""",
    "last.qmd": "# Last {#sec-last}\n\n## Aside {.unnumbered}\n\n## Under {#sec-under}\n\n@sec-under\n",
    "references.qmd": "# References {.unnumbered}\n\n::: {#refs}\n:::\n",
}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A book of .qmd pages and one notebook, rendered from a configuration with parts and an appendix."""
    root = tmp_path_factory.mktemp("small")
    shutil.copytree(ROOT / "nbs" / "_offline", root / "nbs" / "_offline")
    (root / "_proc").mkdir()
    shutil.copy(ROOT / "nbs" / "description.lua", root / "_proc")
    for name, text in PAGES.items():
        (root / "_proc" / name).write_text(text)
    code = [dict(cell_type="code", source=f"#| code-fold: {fold}\n#| code-summary: Behind\n1 + 1", outputs=[]) for fold in ("true", "show")]
    (root / "_proc" / "note.ipynb").write_text(json.dumps(dict(cells=[dict(cell_type="raw", source="---\ntitle: Note\n---"), *code])))
    (root / "_proc" / "references.bib").write_text("@book{known1999, author = {Known, A.}, title = {Known}, year = {1999}}")
    (root / "_quarto.yml").write_text(yaml.safe_dump(dict(bibliography="references.bib", book=dict(
        title="Small", subtitle="", **{"repo-url": "https://example.org", "repo-branch": "main", "repo-subdir": "nbs"},
        chapters=["index.qmd", dict(part="The part", chapters=["first.qmd", "note.ipynb"]), "references.qmd"], appendices=["last.qmd"]))))
    subprocess.run([sys.executable, "-c", "import render; render.render(render.ROOT / '_proc', render.ROOT / '_docs')"],
                   check=True, cwd=root / "nbs" / "_offline")
    return {p.stem: p.read_text() for p in (root / "_docs").glob("*.html")}


def test_numbers_are_those_of_quarto(small):
    for text in ("Section 1.1", "Table 1.1", "Equation 1.1", "Chapter 1", "Appendix A", "references.html#ref-known1999"):
        assert text in small["index"], text
    assert '<span class="header-section-number">' not in small["index"].split("<main", 1)[1].split("around", 1)[0]
    assert "Section A.1" in small["last"] and re.search(r'header-section-number">A</span> Last', small["last"])
    assert "<strong>Table 1.1.</strong>" in small["first"]
    assert re.search(r'<div class="callout callout-tip" role="note">.*?callout-title">\s*<p>A <em>tip</em></p>', small["first"], flags=re.S)
    assert 'href="last.html#sec-last"' in small["first"] and "<code>@sec-code</code>" in small["first"]
    assert re.search(r'class="part"><span>The part</span>.*First.*Note.*References.*class="part"><span>Appendices</span>.*Last', small["index"])


def test_descriptions_are_below_the_titles(small):
    assert re.search(r'First</h1>\s*<div class="description">\s*<p>The <em>first</em> of two.</p>\s*</div>', small["first"])
    assert 'class="description"' not in small["last"]


def test_code_folds(small):
    assert '<details class="fold"><summary>Behind</summary>' in small["note"]
    assert '<details class="fold" open><summary>Behind</summary>' in small["note"]


@pytest.fixture(scope="session")
def browser(site):
    """{page: {check: [problem, ...]}}, as tests/browser.mjs finds it; without Chromium a test is skipped, unless CI is set."""
    command, missing = [shutil.which("node"), ROOT / "tests" / "browser.mjs", site], None
    if not command[0] or not (ROOT / "node_modules" / "playwright-core").is_dir():
        missing = "node and its packages are missing: install npm, and run 'npm install'"
    else:
        done = subprocess.run(command, capture_output=True, text=True)
        missing = "no chromium on the PATH" if done.returncode == 3 else None
    if missing:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(missing)
    assert done.returncode in (0, 1), done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("check", ["console", "requests", "links", "raw syntax", "equations", "figures", "code", "width", "accessibility", "keyboard"])
def test_in_the_browser(browser, pages, check):
    assert sorted(browser) == sorted(pages)
    assert {page: found[check] for page, found in browser.items() if found.get(check)} == {}


def test_renderer_is_small():
    files = [*(ROOT / "nbs" / "_offline").iterdir()]
    assert sorted(f.name for f in files if f.is_file()) == ["chapters.py", "render.py", "site.js", "style.css", "template.html"]
    assert all(len(f.read_text().splitlines()) <= 250 for f in files if f.is_file())


def test_the_slowest_notebooks_exist():
    names = ast.literal_eval(re.search(r"^SLOWEST = (\[.+\])$", (ROOT / "nbs" / "_offline" / "render.py").read_text(encoding="utf-8"), flags=re.M)[1])
    assert len(names) >= 10 and set(names) <= {p.stem for p in (ROOT / "nbs").glob("*.ipynb")}
