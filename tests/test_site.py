"""The offline edition, built from the stored outputs: complete, resolved, and without a request to anywhere."""
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The book, rendered in a copy of the project."""
    root = tmp_path_factory.mktemp("project")
    for name in ("nbs", "genmod_nb"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("settings.ini", "_quarto.yml"):
        shutil.copy(ROOT / name, root / name)
    if (ROOT / "node_modules").is_dir():
        (root / "node_modules").symlink_to(ROOT / "node_modules")
    subprocess.run([sys.executable, root / "nbs" / "_offline" / "render.py"], check=True, capture_output=True)
    return root / "_docs"


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
    chapters = yaml.safe_load((ROOT / "_quarto.yml").read_text())["book"]["chapters"]
    names = [Path(c).stem + ".html" for c in chapters]
    assert sorted(pages) == sorted(names)
    assert {p.stem for p in (ROOT / "nbs").glob("*.ipynb")} <= {Path(c).stem for c in chapters}
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
            assert re.search(rf'id="{label}".*?class="caption">\s*<p><strong>Figure \d+\.\d+\.</strong> \S', html, flags=re.S), label
    assert figures >= 10


def test_equations_and_citations(site):
    html = (site / "01_metrics.html").read_text()
    assert re.search(r'id="eq-ad".*?\(3\.1\)', html, flags=re.S)
    assert 'href="references.html#ref-genest1993"' in html
    references = (site / "references.html").read_text()
    bib = (ROOT / "nbs" / "references.bib").read_text()
    for key in re.findall(r'id="ref-([a-z]+\d{4})"', references):
        assert f"{{{key}," in bib


def test_renderer_is_small():
    assert len((ROOT / "nbs" / "_offline" / "render.py").read_text().splitlines()) <= 400
