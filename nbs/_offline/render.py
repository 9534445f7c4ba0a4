"""The offline edition: renders the processed notebooks with pandoc, from the same _quarto.yml as the Quarto book.

    python nbs/_offline/render.py            # the stored outputs, into _docs/
    python nbs/_offline/render.py --execute  # run every notebook first, in a copy under _report/

A renderer for one book: it knows the Quarto syntax that this book uses, and no other.
"""
import argparse
import html
import json
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from html.parser import HTMLParser
from itertools import groupby
from pathlib import Path
from string import Template, ascii_uppercase

import pypandoc
import yaml
from tqdm import tqdm

from chapters import chapter_markdown, headings, number_labels, resolve, text_of

HERE, ROOT = Path(__file__).parent, Path(__file__).parents[2]
CITED = re.compile(r"(?<![\w`])@([a-z]+\d{4}[a-z]?)")


# ------------------------------------------------------------------ pages
def read_book(book, processed, docs):
    """The pages in reading order, numbered as Quarto numbers them: chapters that are not unnumbered, and appendices with letters."""
    groups = [(item["part"], item["chapters"]) if isinstance(item, dict) else ("", [item]) for item in book["chapters"]]
    counts, pages = {False: 0, True: 0}, []
    for part, names in groups + [("Appendices", book.get("appendices", []))]:
        for name in names:
            text, front = chapter_markdown(processed / name, docs / f"{Path(name).stem}_files")
            number, appendix = "", part == "Appendices"
            if ".unnumbered" not in headings(text)[0][1]:
                counts[appendix] += 1
                number = ascii_uppercase[counts[True] - 1] if appendix else str(counts[False])
            pages.append(dict(name=name, part=part, number=number, text=text, front=front, page=f"{Path(name).stem}.html"))
    return pages


def to_html(text, number, math, bibliography, description):
    """A chapter's markdown as an HTML fragment; everything wide in a box of its own that scrolls, a short formula or name on one line."""
    citations = ["--citeproc", f"--bibliography={bibliography}", "--metadata=link-citations:true"]
    args = [*citations * bool(CITED.search(text)), math, "--wrap=none", f"--lua-filter={bibliography.parent / 'description.lua'}"]
    if description:     # as front matter, so that it is markdown
        text = f"---\n{yaml.safe_dump({'description': description}, allow_unicode=True)}---\n\n{text}"
    if number:
        args += ["--number-sections", f"--number-offset={int(number) - 1 if number.isdigit() else 0}"]
    fragment = pypandoc.convert_text(text, "html5", format="markdown+fenced_divs-smart+smart", extra_args=args)
    if number.isalpha():
        fragment = re.sub(r'(data-number="|class="header-section-number">)1\b', rf"\g<1>{number}", fragment)
    fragment = re.sub(r'(\(?<span class="math inline">[^<]{1,24}</span>[^\s<&]{0,4})', r'<span class="whole">\1</span>', fragment)
    fragment = re.sub(r"(?<!\">)<code>(?=[^<]{1,24}</code>)(?=-|[^<]*[ (])", '<code class="whole">', fragment)

    def dots(m):     # a long name may end its line at a dot
        return re.sub(r"<code[^>]*>[\w.]+</code>", lambda n: n[0].replace(".", ".<wbr>"), m[0])
    fragment = re.sub(r"<(table|h[1-3])\b.*?</\1>", dots, fragment, flags=re.S)
    return re.sub(r"<table.*?</table>", r'<div class="scroll">\g<0></div>', fragment, flags=re.S)


class Sections(HTMLParser):
    """The sections of a page: level, anchor, title (as HTML, and as text), and text, of whose equations only the simple ones stay."""
    def __init__(self, fragment):
        super().__init__()
        self.found, self.heading, self.math = [], None, 0
        self.feed(fragment)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if tag in ("h1", "h2", "h3") and "id" in attrs:
            self.heading = tag
            self.found.append(dict(level=int(tag[1]), anchor=attrs["id"], title="", plain="", text=""))
        elif self.heading and tag in ("code", "em", "span"):
            self.found[-1]["title"] += f'<{tag} class="{attrs.get("class") or ""}">'
        elif tag in ("p", "td", "th", "li", "div", "pre", "summary") and self.found:
            self.found[-1]["text"] += " "
        if self.math or tag == "math" or "math" in (attrs.get("class") or "").split():
            self.math += 1

    def handle_endtag(self, tag):
        self.math = max(0, self.math - 1)
        if tag == self.heading:
            self.heading = None
        elif self.heading and tag in ("code", "em", "span"):
            self.found[-1]["title"] += f"</{tag}>"

    def handle_data(self, data):
        if self.heading:
            self.found[-1]["title"] += html.escape(data)
            self.found[-1]["plain"] += data
        elif self.found:
            simple = not self.math or re.fullmatch(r"[\w\s+=<>.,()|-]{1,20}", data)
            self.found[-1]["text"] += data if simple else "…"


def sidebar(pages, here):
    """The contents of the book, part by part."""
    items = []
    for part, group in groupby(pages, key=lambda p: p["part"]):
        links = "".join(f'<li><a href="{p["page"]}"{" aria-current=page" * (p is here)}>{p["title"]}</a></li>' for p in group)
        items.append(f'<li class="part"><span>{part}</span><ol>{links}</ol></li>' if part else links)
    return f"<ol>{''.join(items)}</ol>"


def page_contents(sections):
    """The sections of the page at hand, down to the third level."""
    items = "".join(f'<li class="level{s["level"]}"><a href="#{s["anchor"]}">{s["title"]}</a></li>' for s in sections[1:])
    return f'<p class="label">On this page</p>\n<ol>{items}</ol>' if items else ""


def libraries(docs):
    """Copy KaTeX and MiniSearch beside the pages if npm has installed them; returns pandoc's math option and the page's head."""
    modules = ROOT / "node_modules"
    if not (modules / "katex").is_dir() or not (modules / "minisearch").is_dir():
        print("KaTeX and MiniSearch are not installed (npm install): equations are MathML, and there is no search")
        return "--mathml", ""
    source = modules / "katex" / "dist"
    (docs / "katex" / "fonts").mkdir(parents=True)
    for name in ("katex.min.css", "katex.min.js", *(f"fonts/{f.name}" for f in source.glob("fonts/*.woff2"))):
        shutil.copy(source / name, docs / "katex" / name)
    minified = re.sub(r"\n//# sourceMappingURL=.*", "", (modules / "minisearch" / "dist" / "umd" / "index.js").read_text(encoding="utf-8"))
    (docs / "minisearch.js").write_text(minified, encoding="utf-8")
    return "--katex", '<link rel="stylesheet" href="katex/katex.min.css">\n<script defer src="katex/katex.min.js"></script>'


def link(page, relation):
    if page is None:
        return "<span></span>"
    arrow = ("←\u00a0", "") if relation == "prev" else ("", "\u00a0→")
    return f'<a rel="{relation}" href="{page["page"]}">{arrow[0]}{page["title"]}{arrow[1]}</a>'


def source_link(page, book):
    """The link to the notebook on the repository; a page may say that it has none, as in Quarto."""
    if page["front"].get("repo-actions") is False:
        return ""
    address = f'{book["repo-url"]}/blob/{book["repo-branch"]}/{book["repo-subdir"]}/{page["name"]}'
    return f'<p class="source"><a href="{address}">Source of this page</a></p>'


def render(processed, docs):
    """Write the site."""
    config = yaml.safe_load((ROOT / "_quarto.yml").read_text(encoding="utf-8"))
    book = config["book"]
    shutil.rmtree(docs, ignore_errors=True)
    docs.mkdir(parents=True)
    math, head = libraries(docs)
    pages, labels = read_book(book, processed, docs), {}
    for p in pages:
        for label, target in number_labels(p["text"], p["number"], p["page"]).items():
            if label in labels:
                raise SystemExit(f"{p['name']}: the label {label} is used twice")
            labels[label] = target
    cited = sorted({k for p in pages for k in CITED.findall(p["text"])})

    def complete(p):
        text = resolve(p["text"], labels, p["name"])
        if "{#refs}" in text:     # the list of references is that of the whole book
            text = f"---\nnocite: |\n  {', '.join('@' + k for k in cited)}\n---\n\n{text}"
        fragment = to_html(text, p["number"], math, processed / config["bibliography"], p["front"].get("description"))
        if "{#refs}" not in text:
            fragment = re.sub(r'<div id="refs".*\Z', "", fragment, flags=re.S)
            fragment = re.sub(r'href="#(ref-[\w-]+)"', r'href="references.html#\1"', fragment)
        p["html"], p["sections"] = fragment, Sections(fragment).found
        p["title"] = p["sections"][0]["title"]
    with ThreadPoolExecutor(2) as pool:     # of pandoc
        list(tqdm(pool.map(complete, pages), total=len(pages), desc="pages", disable=None))
    template = Template((HERE / "template.html").read_text(encoding="utf-8"))
    around = [None, *pages, None]
    for before, p, after in zip(around, pages, around[2:]):
        (docs / p["page"]).write_text(template.substitute(
            title=html.escape(p["sections"][0]["plain"]), book=book["title"], subtitle=book["subtitle"], head=head,
            search="" if head else "hidden", contents=sidebar(pages, p), sections=page_contents(p["sections"]), body=p["html"],
            previous=link(before, "prev"), next=link(after, "next"), source=source_link(p, book), repository=book["repo-url"]), encoding="utf-8")
    entries = [dict(url=f'{p["page"]}#{s["anchor"]}', title=s["plain"], chapter=p["sections"][0]["plain"], text=re.sub(r"\s+", " ", s["text"]).strip())
               for p in pages for s in p["sections"]]
    (docs / "search.js").write_text(f"window.SECTIONS = {json.dumps(entries, ensure_ascii=False)};\n", encoding="utf-8")
    for name in ("style.css", "site.js"):
        shutil.copy(HERE / name, docs / name)
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


# Those that take longest, by their seconds, which every run prints; the others follow by size.
SLOWEST = ["09_extremes", "02_metrics", "03_vae", "06_lars", "05_wae", "10_evaluation", "07_gan", "own_table", "04_sigma", "08_ensemble", "60_copulas", "28_scale", "00_data", "index"]


def execute_all(nbs):
    """Run every notebook, two at a time, the slowest first: both workers are busy until the end."""
    os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    paths = sorted(nbs.glob("*.ipynb"), key=lambda p: (SLOWEST.index(p.stem) if p.stem in SLOWEST else len(SLOWEST), -p.stat().st_size))
    with ProcessPoolExecutor(2) as pool, tqdm(total=len(paths), desc="notebooks", mininterval=0) as bar:
        for job in as_completed([pool.submit(execute, p) for p in paths]):
            if job.exception(): pool.shutdown(wait=False, cancel_futures=True)      # not after the other notebooks
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
        shutil.copytree(ROOT / "nbs", base / "nbs", ignore=shutil.ignore_patterns("_offline", ".ipynb_checkpoints", "katex"))
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
