"""The published book, as far as it can be tried without Quarto: its configuration, its titles, and what is done to its pages afterwards.

The page below has the form of one that a stock Quarto 1.7.34 wrote: the same scripts in its head, the same elements, and of its themes the
rules that matter here. tests/browser.mjs must find on it what was wrong with such pages, and nothing once they are mended."""
import json
import os
import re
import runpy
import shutil
import subprocess
from pathlib import Path

import pypandoc
import pytest
import yaml

ROOT = Path(__file__).parents[1]
MODULES = [p.stem for p in (ROOT / "genmod_nb").glob("[!_]*.py")]
pytestmark = pytest.mark.xdist_group("book")     # the notebooks are processed once, by one worker
CONFIG = yaml.safe_load((ROOT / "_quarto.yml").read_text(encoding="utf-8"))

SCRIPTS = """
<script src="https://cdnjs.cloudflare.com/ajax/libs/require.js/2.3.6/require.min.js" integrity="sha512-of-another-file" crossorigin="anonymous"></script>
<script src="https://cdnjs.cloudflare.com/ajax/libs/jquery/3.5.1/jquery.min.js" integrity="sha512-of-another-file" crossorigin="anonymous" data-relocate-top="true"></script>
<script type="application/javascript">define('jquery', [],function() {return window.jQuery;})</script>
"""

THEME = """
* { box-sizing: border-box; } body { margin: 0; font: 17px/1.5 sans-serif; background: #fff; color: #373a3c; } a { color: #2761e3; }
@media (prefers-color-scheme: dark) { body { background: #222; color: #fff; } a { color: #00bc8c; } }
code { font: .875em monospace; color: #7d12ba; } pre { margin: 0; font-size: .875em; overflow: auto; } pre code { font-size: inherit; color: inherit; white-space: pre; }
div.sourceCode { overflow-x: auto; } .cell-output pre { overflow-x: auto; }
table { width: 100%%; border-collapse: collapse; } figure { margin: 0; text-align: center; }
.page-navigation { display: flex; justify-content: space-between; } .page-navigation a { display: flex; }
#quarto-content { display: grid; grid-template-columns: %(sidebar-width)s calc(%(body-width)s - 3em) %(margin-width)s; }
@media (max-width: 767px) { #quarto-content { display: block; padding: 0 12px; } .sidebar { display: none; } }
"""

NAME = "distance_of_every_generated_row_from_its_nearest_training_row"

BEFORE = """
<header><nav class="quarto-secondary-nav"><nav class="quarto-page-breadcrumbs"><ol><li><a href="page.html"><code>genmod_nb.data</code></a></li></ol></nav></nav></header>
<div id="quarto-content"><nav id="quarto-sidebar" class="sidebar"><ul><li><a href="page.html"><code>genmod_nb.data</code></a></li></ul></nav><main>
"""
AFTER = f"""
</main></div>
<nav class="page-navigation"><div class="nav-page"></div><div class="nav-page"><a href="page.html"><span class="nav-page-text"><code>{NAME}</code></span></a></div></nav>
"""

TEXT = f"""
## `Table.{NAME}` {{.unnumbered}}

An equation, $x^2$, and another one:

$$ \\sum_j x_j $$

```python
{"x" * 100}
```

::: {{.cell-output}}
```
{"an error that goes on and on, " * 8}
```
:::

| name | type | meaning |
|---|---|---|
| `{NAME}` | `float` | rows that are further from the training rows than one in twenty of those that were held out |

: Words in a table {{#tbl-words}}
"""


def css():
    """The rules that the book adds to Quarto's themes."""
    return (ROOT / "nbs" / "quarto.scss").read_text(encoding="utf-8").split("/*-- scss:rules --*/")[1]


def write(folder, rules="", grid={"sidebar-width": "250px", "body-width": "800px", "margin-width": "250px"}):
    """The page, as Quarto leaves it, in a folder."""
    if not (ROOT / "node_modules" / "katex").is_dir():
        (pytest.fail if os.environ.get("CI") else pytest.skip)("KaTeX is missing: install npm, and run 'make install'")
    shutil.copytree(ROOT / "node_modules" / "katex" / "dist", folder / "katex")
    parts = {"head": f"<style>{THEME % grid}{rules}</style>{SCRIPTS}", "before": BEFORE, "after": AFTER}
    for name, text in parts.items():
        (folder / name).write_text(text, encoding="utf-8")
    args = ["--standalone", "--katex=katex/", "--metadata=pagetitle:Page", "--metadata=document-css:false", f"--include-in-header={folder / 'head'}",
            f"--include-before-body={folder / 'before'}", f"--include-after-body={folder / 'after'}"]
    page = pypandoc.convert_text(TEXT, "html5", format="markdown", extra_args=args)
    assert page.count("cdnjs") == 2 and "define('jquery'" in page and 'src="katex/katex.min.js"' in page
    page = page.replace('<table', '<figure class="quarto-float"><table').replace("</table>", "</table></figure>")
    (folder / "page.html").write_text(re.sub("<caption>", "<caption>Table 1: ", page), encoding="utf-8")


def mend(folder, monkeypatch):
    """What Quarto runs after rendering."""
    monkeypatch.setenv("QUARTO_PROJECT_OUTPUT_DIR", str(folder))
    runpy.run_path(str(ROOT / "_proc" / CONFIG["project"]["post-render"]), run_name="__main__")


def found(folder):
    """What tests/browser.mjs finds on the page: {check: [problem, ...]}."""
    node = shutil.which("node")
    if node is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("node is missing")
    done = subprocess.run([node, ROOT / "tests" / "browser.mjs", folder, "--quarto"], capture_output=True, text=True)
    if done.returncode == 3:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("no chromium on the PATH")
    assert done.returncode in (0, 1), done.stderr
    return json.loads(done.stdout)["page.html"]


def test_what_was_wrong_is_found(tmp_path):
    """As rendered, in Quarto's own grid and colours: the equations fail on the internet only."""
    write(tmp_path)
    problems = found(tmp_path)
    assert len(problems["equations"]) == 2 and not any("without a network" in p for p in problems["equations"])
    assert [("require" in p, "jquery" in p) for p in problems["requests"][:2]] == [(True, False), (False, True)]
    assert len(problems["code"]) == 2 and all("cut off" in p for p in problems["code"])
    assert any(p.startswith("at 390 px") for p in problems["width"])
    assert {p.split(",")[0] for p in problems["contrast"]} == {"dark"} and "quarto-sidebar" in str(problems["contrast"])
    assert "favicon" not in str(problems)


def test_the_mended_page_passes(tmp_path, monkeypatch):
    """On the internet and without a network, in light and dark, at 390 and at 1440 pixels."""
    write(tmp_path, css(), CONFIG["format"]["html"]["grid"])
    mend(tmp_path, monkeypatch)
    assert found(tmp_path) == {}


@pytest.mark.parametrize("script", [
    SCRIPTS.strip().splitlines()[0], SCRIPTS.strip().splitlines()[1], SCRIPTS.strip().splitlines()[2],
    "<script type='text/javascript' async src='//unpkg.com/a.js'></script>", '<SCRIPT SRC="http://example.org/a.js">\n</SCRIPT>',
    '<script data-relocate-top="true">\ndefine("jquery", [], function() { return 1; })</script>'])
def test_scripts_from_elsewhere_go(tmp_path, monkeypatch, script):
    kept = '<script src="site_libs/quarto.js"></script>\n<script>let x = undefined; // see https://quarto.org\n</script>\n<a href="https://example.org">é</a>'
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "page.html").write_text(f"<head>{script}{kept}</head>", encoding="utf-8")
    mend(tmp_path, monkeypatch)
    assert (tmp_path / "deep" / "page.html").read_text(encoding="utf-8") == f"<head>{kept}</head>"


# ------------------------------------------------------------------ configuration
def test_configuration():
    html = CONFIG["format"]["html"]
    assert html["html-math-method"] == {"method": "katex", "url": "katex/"} and CONFIG["project"]["resources"] == ["katex/**/*"]
    assert CONFIG["filters"] == ["description.lua"] and (ROOT / "nbs" / "description.lua").is_file()
    assert sum(int(v.removesuffix("px")) for v in html["grid"].values()) <= 1440
    assert not re.search(r"^\s*//", css(), flags=re.M)


def test_the_workflow_has_the_quarto_that_was_tried():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "publish.yml").read_text(encoding="utf-8"))
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    version, = [step["with"]["version"] for step in steps if "quarto-actions" in step.get("uses", "")]
    assert f"tried with {version})" in (ROOT / "_quarto.yml").read_text() and f"Quarto {version}" in (ROOT / "CONTRIBUTING.md").read_text()
    assert any(step.get("run") == "node tests/browser.mjs book --quarto" for step in steps)


@pytest.mark.parametrize("katex", [True, False])
def test_without_katex_nothing_is_deleted(tmp_path, katex):
    """`make docs` with Quarto, and without npm."""
    for name in ("Makefile", "settings.ini", "setup.py", "constraints.txt", "package.json"):
        shutil.copy(ROOT / name, tmp_path)
    files = ["_proc/old", ".venv/bin/nbdev_docs", ".venv/bin/quarto", ".venv/.installed"] + ["nbs/katex/katex.min.css"] * katex
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("#!/bin/sh\necho rendered")
        (tmp_path / name).chmod(0o755)
    tools = tmp_path / "tools"
    tools.mkdir()
    for tool in ("make", "sh", "rm", "touch"):
        (tools / tool).symlink_to(shutil.which(tool))
    done = subprocess.run([tools / "make", "docs"], cwd=tmp_path, capture_output=True, text=True, env={"PATH": f"{tools}:{tmp_path / '.venv/bin'}"})
    assert (done.returncode == 0) == katex and (tmp_path / "_proc" / "old").exists() != katex
    assert ("rendered" if katex else "needs KaTeX") in done.stdout, done.stdout + done.stderr


# ------------------------------------------------------------------ titles
def title(path):
    """The title of a processed page, and the attributes that Quarto sees."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        text = "".join(json.loads(text)["cells"][0]["source"])
    front = re.match(r"\s*---\n(.+?)\n---", text, flags=re.S)
    line = yaml.safe_load(front[1]).get("title") if front else None
    heading = line or re.search(r"^# .+", text, flags=re.M)[0]
    attributes = re.fullmatch(r"#+ (?:.* )?\{(.*)\}", heading)
    return heading, attributes[1] if attributes else ""


def test_chapters_are_numbered_from_the_first_after_the_front_page(book):
    titles = {p.name: title(p) for p in sorted((book / "_proc").iterdir()) if p.suffix in (".ipynb", ".qmd")}
    assert [name for name, (_, attributes) in titles.items() if ".unnumbered" in attributes] == [*sorted(f"api_{m}.qmd" for m in MODULES), "glossary.qmd", "index.ipynb", "references.qmd"]
    for name, (heading, attributes) in titles.items():
        assert bool(attributes) == ("{" in heading), f"{name}: attributes count only after a #: {heading}"
    names = [n for item in CONFIG["book"]["chapters"] for n in (item["chapters"] if isinstance(item, dict) else [item])]
    numbered = [n for n in names if ".unnumbered" not in titles[n][1]]
    for number, name in enumerate(numbered, 1):
        page = (book / "_docs" / f"{Path(name).stem}.html").read_text(encoding="utf-8")
        assert re.search(rf'<h1 [^>]*data-number="{number}"', page), name


def test_the_front_page_has_one_title():
    cells = json.loads((ROOT / "nbs" / "index.ipynb").read_text(encoding="utf-8"))["cells"]
    heading, raw = ("".join(c["source"]) for c in cells[:2])
    assert yaml.safe_load(raw.strip("-\n"))["title"] == f"{heading.splitlines()[0]} {{.unnumbered}}"


def test_every_chapter_shows_its_description(book):
    for path in sorted((ROOT / "nbs").glob("*.ipynb")):
        first = "".join(json.loads(path.read_text(encoding="utf-8"))["cells"][0]["source"])
        plain = re.sub(r"<[^>]+>|\W", "", first.split("> ", 1)[1])
        page = (book / "_docs" / f"{path.stem}.html").read_text(encoding="utf-8")
        shown, = re.findall(r'<div class="description">(.+?)</div>', page, flags=re.S)
        assert re.sub(r"<[^>]+>|\W", "", shown) == plain, path.name
