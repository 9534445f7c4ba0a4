"""The offline edition: renders the processed notebooks with pandoc, from the same _quarto.yml as the Quarto book.

    python nbs/_offline/render.py            # the stored outputs, into _docs/
    python nbs/_offline/render.py --execute  # run every notebook first, in a copy under _report/

A renderer for one book: it knows the Quarto syntax that this book uses, and no other.
"""
import argparse
import base64
import html
import json
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from string import Template

import pypandoc
import yaml
from tqdm import tqdm

HERE, ROOT = Path(__file__).parent, Path(__file__).parents[2]
KINDS = {"fig": "Figure", "tbl": "Table", "eq": "Equation", "sec": "Section"}
LABEL = re.compile(r"\{#((?:fig|tbl|eq|sec)-[\w-]+)\}")
REFERENCE = re.compile(r"(?<![\w\\\[`@])@((?:fig|tbl|eq|sec)-[\w-]+)")


# ------------------------------------------------------------------ one notebook as markdown
def directives(source):
    """The `#| key: value` lines of a cell, and the rest of it."""
    found, rest = {}, []
    for line in source.splitlines():
        m = re.match(r"#\|\s*([\w-]+)\s*(?::\s*(.*))?$", line)
        if m and not any(l.strip() for l in rest):
            found[m[1]] = (m[2] or "").strip().strip('"')
        else:
            rest.append(line)
    return found, "\n".join(rest).strip("\n")


def text_of(value):
    return "".join(value) if isinstance(value, list) else value


def output_markdown(output, stem, images, caption, alt):
    """One output of a cell as markdown; an image is written to a file."""
    if output["output_type"] == "stream":
        if output["name"] != "stdout":
            return ""
        return f"```{{.output}}\n{text_of(output['text']).rstrip()}\n```"
    data = output.get("data", {})
    if "application/vnd.jupyter.widget-view+json" in data:     # a progress bar
        return ""
    if "image/png" in data:
        images.mkdir(parents=True, exist_ok=True)
        (images / f"{stem}.png").write_bytes(base64.b64decode(text_of(data["image/png"])))
        picture = f'<img src="{images.name}/{stem}.png" alt="{html.escape(alt or caption)}" loading="lazy">'
        return f"```{{=html}}\n{picture}\n```"
    if "text/html" in data:
        table = re.sub(r"<style.*?</style>", "", text_of(data["text/html"]), flags=re.S)
        table = table.replace(' border="1"', "")
        return f'```{{=html}}\n<div class="table" tabindex="0">{table}</div>\n```'
    if "text/markdown" in data:
        return text_of(data["text/markdown"])
    if "text/plain" in data and not re.match(r"<Figure|\[?<matplotlib", text_of(data["text/plain"])):
        return f"```{{.output}}\n{text_of(data['text/plain'])}\n```"
    return ""


def cell_markdown(cell, number, images):
    """One cell as markdown."""
    source = text_of(cell["source"])
    if cell["cell_type"] == "raw":
        front = yaml.safe_load(source.strip().strip("-")) if source.strip().startswith("---") else {}
        return f"# {front['title']}\n\n::: {{.description}}\n{front.get('description', '')}\n:::" if front else ""
    if cell["cell_type"] == "markdown":
        return re.sub(r"^# (.+)\n+> (.+)$", r"# \1\n\n::: {.description}\n\2\n:::", source, flags=re.M)
    found, code = directives(source)
    parts = [f"```python\n{code}\n```"] if code and found.get("echo") != "false" else []
    label, caption = found.get("label", ""), found.get("fig-cap", found.get("tbl-cap", ""))
    stem = label or f"cell-{number}"
    shown = [output_markdown(o, f"{stem}-{i}" if i else stem, images, caption, found.get("fig-alt", ""))
             for i, o in enumerate(cell.get("outputs", []))]
    shown = "\n\n".join(s for s in shown if s)
    if shown and label:
        shown = f":::: {{.figure #{label}}}\n{shown}\n\n::: {{.caption}}\n[[caption {label}]] {caption}\n:::\n::::"
    return "\n\n".join(parts + [shown])


def chapter_markdown(path, images):
    """A processed notebook, or a .qmd page, as markdown."""
    if path.suffix == ".qmd":
        return path.read_text(encoding="utf-8")
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return "\n\n".join(cell_markdown(c, i, images) for i, c in enumerate(cells))


# ------------------------------------------------------------------ numbers and references
def outside_code(text, edit):
    """Apply an edit to the parts of a markdown text that are neither code blocks nor code spans."""
    parts = re.split(r"(^(`{3,}|~{3,}).*?^\2[ \t]*$|(?<!`)`[^`\n]+`(?!`))", text, flags=re.M | re.S)
    return "".join(part if i % 3 == 1 else edit(part) for i, part in enumerate(parts) if i % 3 != 2)


def number_sections(text, chapter):
    """{label: number} of the labelled sections of a chapter, counted as pandoc counts them."""
    counts, numbers = [0] * 6, {}
    prose = outside_code(text, lambda t: t)
    prose = re.sub(r"^(`{3,}).*?^\1[ \t]*$", "", prose, flags=re.M | re.S)
    for hashes, title in re.findall(r"^(#{1,6}) (.+)$", prose, flags=re.M):
        if ".unnumbered" in title:
            continue
        level = len(hashes)
        counts[level - 1] += 1
        counts[level:] = [0] * (6 - level)
        label = LABEL.search(title)
        if label:
            numbers[label[1]] = ".".join(map(str, [chapter] + counts[1:level]))
    return numbers


def number_labels(text, chapter, page):
    """{label: (text of a reference, address)} of everything in a chapter that can be referred to."""
    found = {label: (f"Section {n}", f"{page}#{label}") for label, n in number_sections(text, chapter).items()}
    for kind, pattern in (("eq", r"\$\$ *\{#(eq-[\w-]+)\}"), ("fig", r"\.figure #(fig-[\w-]+)\}"), ("tbl", r"\.figure #(tbl-[\w-]+)\}")):
        for i, label in enumerate(re.findall(pattern, text), 1):
            found[label] = (f"{KINDS[kind]} {chapter}.{i}", f"{page}#{label}")
    return found


def resolve(text, labels, page):
    """References as links, captions and equations with their numbers, notebook links as page links."""
    def equation(m):
        number = labels[m[2]][0].split()[1]
        return f'\n::: {{.equation #{m[2]}}}\n$${m[1]}$$\n\n[({number})]{{.number}}\n:::\n'

    def reference(m):
        if m[1] not in labels:
            raise SystemExit(f"{page}: @{m[1]} refers to nothing")
        name, address = labels[m[1]]
        return f"[{name}]({address})"

    def edit(t):
        t = re.sub(r"\$\$(.+?)\$\$ *\{#(eq-[\w-]+)\}", equation, t, flags=re.S)
        t = re.sub(r"\[\[caption ([\w-]+)\]\]", lambda m: f"**{labels[m[1]][0]}.**", t)
        t = REFERENCE.sub(reference, t)
        return re.sub(r"\]\(([\w./-]+)\.ipynb(#[\w-]+)?\)", r"](\1.html\2)", t)
    return outside_code(text, edit)


# ------------------------------------------------------------------ pages
def to_html(text, chapter, math, bibliography):
    """A chapter's markdown as an HTML fragment."""
    args = ["--citeproc", f"--bibliography={bibliography}", "--metadata=link-citations:true", math, "--wrap=none"]
    if chapter:
        args += ["--number-sections", f"--number-offset={chapter - 1}"]
    return pypandoc.convert_text(text, "html5", format="markdown+fenced_divs-smart+smart", extra_args=args)


def contents(fragment):
    """[(level, id, text)] of the headings of a fragment."""
    return [(int(level), anchor, re.sub(r"<[^>]+>", "", text).strip())
            for level, anchor, text in re.findall(r'<h([1-3])[^>]*?id="([^"]+)"[^>]*>(.*?)</h\1>', fragment, flags=re.S)]


def sidebar(chapters, here):
    """The contents at the side: all chapters, and the sections of the one at hand."""
    items = []
    for c in chapters:
        current = ' aria-current="page"' if c is here else ""
        items.append(f'<li><a href="{c["page"]}"{current}>{c["title"]}</a>')
        if c is here and len(c["contents"]) > 1:
            sections = "".join(f'<li><a href="#{a}">{t}</a></li>' for level, a, t in c["contents"] if level == 2)
            items.append(f"<ol>{sections}</ol>")
        items.append("</li>")
    return f'<ol class="chapters">{"".join(items)}</ol>'


def katex(docs):
    """Copy KaTeX beside the pages if npm has installed it, and return pandoc's math option."""
    source = ROOT / "node_modules" / "katex" / "dist"
    if not source.is_dir():
        print("KaTeX is not installed (npm install): equations are rendered by the browser's own MathML")
        return "--mathml", ""
    (docs / "katex" / "fonts").mkdir(parents=True)
    for name in ("katex.min.css", "katex.min.js"):
        shutil.copy(source / name, docs / "katex" / name)
    for font in source.glob("fonts/*.woff2"):
        shutil.copy(font, docs / "katex" / "fonts")
    head = '<link rel="stylesheet" href="katex/katex.min.css"><script src="katex/katex.min.js"></script>'
    return "--katex", head


def link(chapter, relation):
    if chapter is None:
        return "<span></span>"
    arrow = ("← ", "") if relation == "prev" else ("", " →")
    return f'<a rel="{relation}" href="{chapter["page"]}">{arrow[0]}{chapter["title"]}{arrow[1]}</a>'


def render(processed, docs):
    """Write the site."""
    book = yaml.safe_load((ROOT / "_quarto.yml").read_text(encoding="utf-8"))
    shutil.rmtree(docs, ignore_errors=True)
    docs.mkdir(parents=True)
    math, math_head = katex(docs)
    chapters, labels = [], {}
    for i, name in enumerate(book["book"]["chapters"], 1):
        path = processed / name
        number = i if path.suffix == ".ipynb" else 0
        text = chapter_markdown(path, docs / f"{path.stem}_files")
        page = f"{path.stem}.html"
        for label, target in number_labels(text, number, page).items():
            if label in labels:
                raise SystemExit(f"{name}: the label {label} is used twice")
            labels[label] = target
        chapters.append(dict(name=name, number=number, text=text, page=page))
    cited = sorted({k for c in chapters for k in re.findall(r"(?<![\w`])@([a-z]+\d{4})", c["text"])})
    for c in tqdm(chapters, desc="pages", disable=None):
        text = resolve(c["text"], labels, c["name"])
        if c["name"].endswith(".qmd"):     # the list of references is that of the whole book
            text = f"---\nnocite: |\n  {', '.join('@' + k for k in cited)}\n---\n\n{text}"
        fragment = to_html(text, c["number"], math, processed / book["bibliography"])
        if not c["name"].endswith(".qmd"):
            fragment = re.sub(r'<div id="refs".*\Z', "", fragment, flags=re.S)
            fragment = re.sub(r'href="#(ref-[\w-]+)"', r'href="references.html#\1"', fragment)
        c["html"], c["contents"] = fragment, contents(fragment)
        c["title"] = c["contents"][0][2]
    template = Template((HERE / "template.html").read_text(encoding="utf-8"))
    around = [None, *chapters, None]
    for before, c, after in zip(around, chapters, around[2:]):
        (docs / c["page"]).write_text(template.substitute(
            title=c["title"], book=book["book"]["title"], subtitle=book["book"]["subtitle"], math=math_head,
            contents=sidebar(chapters, c), body=c["html"], previous=link(before, "prev"), next=link(after, "next"),
            repository=book["book"]["repo-url"]), encoding="utf-8")
    shutil.copy(HERE / "style.css", docs / "style.css")
    return docs / "index.html"


# ------------------------------------------------------------------ running the notebooks
def execute(path):
    """Run one notebook in place; returns its name and seconds."""
    import time

    import nbformat
    from nbclient import NotebookClient
    start, nb = time.time(), nbformat.read(path, 4)
    client = NotebookClient(nb, timeout=3600, kernel_name="python3", resources={"metadata": {"path": str(path.parent)}})
    client.execute(stderr=subprocess.DEVNULL)     # the kernel's own notices; an error in a cell is raised
    nbformat.write(nb, path)
    return path.name, time.time() - start


def execute_all(nbs):
    """Run every notebook, two at a time, the slowest first."""
    os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    paths = sorted(nbs.glob("*.ipynb"), key=lambda p: p.stat().st_size, reverse=True)
    with ProcessPoolExecutor(2) as pool, tqdm(total=len(paths), desc="notebooks", mininterval=0) as bar:
        for job in as_completed([pool.submit(execute, p) for p in paths]):
            name, seconds = job.result()
            bar.write(f"  {name}: {seconds:.0f} s")
            bar.update()


def headline(nbs):
    """The text of the headline table."""
    for cell in json.loads((nbs / "index.ipynb").read_text(encoding="utf-8"))["cells"]:
        if "label: tbl-headline" in text_of(cell["source"]):
            return text_of(cell["outputs"][0]["data"]["text/plain"])
    raise SystemExit("index.ipynb has no cell labelled tbl-headline")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--execute", action="store_true", help="run every notebook first, in a copy under _report/")
    base, run = ROOT, parser.parse_args().execute
    if run:
        base = ROOT / "_report"
        shutil.rmtree(base, ignore_errors=True)
        shutil.copytree(ROOT / "nbs", base / "nbs", ignore=shutil.ignore_patterns("_offline", ".ipynb_checkpoints"))
        shutil.copytree(ROOT / "genmod_nb", base / "genmod_nb", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copytree(ROOT / "benchmarks" / "results", base / "benchmarks" / "results")
        for name in ("settings.ini", "_quarto.yml"):
            shutil.copy(ROOT / name, base / name)
        execute_all(base / "nbs")
    subprocess.run([sys.executable, "-c", "if __name__ == '__main__':\n from nbdev.quarto import refresh_quarto_yml\n"
                    " from nbdev.serve import proc_nbs\n refresh_quarto_yml()\n proc_nbs(n_workers=0, force=True)"],
                   cwd=base, check=True, stdout=subprocess.DEVNULL)
    page = render(base / "_proc", base / "_docs")
    if run:
        print(f"\n{headline(base / 'nbs')}\n")
    print(f"The book: {page}")


if __name__ == "__main__":
    main()
