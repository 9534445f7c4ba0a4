"""A processed notebook, or a .qmd page, as the markdown that pandoc reads, with the numbers and references that Quarto would give it."""
import base64
import html
import json
import re
import struct
import textwrap

import yaml

KINDS = {"fig": "Figure", "tbl": "Table", "eq": "Equation", "sec": "Section"}
LABEL = re.compile(r"\{#((?:fig|tbl|eq|sec)-[\w-]+)")
REFERENCE = re.compile(r"(?<![\w\\\[`@])@((?:fig|tbl|eq|sec)-[\w-]+)")


# ------------------------------------------------------------------ one notebook as markdown
def directives(source):
    """The `#| key: value` lines of a cell, and the rest of it."""
    found, rest = {}, []
    for line in source.splitlines():
        m = re.match(r"#\|\s*([\w-]+)\s*(?::\s*(.*))?$", line)
        if m and not any(l.strip() for l in rest):
            found.setdefault(m[1], (m[2] or "").strip().strip('"'))
        else:
            rest.append(line)
    return found, "\n".join(rest).strip("\n")


def text_of(value):
    return "".join(value) if isinstance(value, list) else value


def raw(markup):
    return f"```{{=html}}\n{markup}\n```"


def picture(data, name, images, alt):
    """Write a PNG and return the image; its size, from the file's header, keeps the page still while it loads."""
    images.mkdir(parents=True, exist_ok=True)
    (images / name).write_bytes(data)
    width, height = struct.unpack(">II", data[16:24])
    return raw(f'<div class="scroll plot{" wide" * (width > 700)}"><img src="{images.name}/{name}" alt="{html.escape(alt)}" width="{width}" height="{height}"'
               f' style="--width: {width}px" loading="lazy"></div>')


def whole_labels(table):
    """A DataFrame's HTML whose labels are not broken at every blank beside cells that are not broken at all."""
    def pieces(m):
        width = 20 if "<td" in m[0] else 10     # a row has cells, the head of a column has not
        def label(n):
            lines = textwrap.wrap(html.unescape(n[2]).replace(" %", "\u00a0%"), width, break_long_words=False, break_on_hyphens=False)
            return n[1] + " ".join(f"<span>{html.escape(line, quote=False)}</span>" for line in lines) + "</th>"
        return re.sub(r"(<th[^>]*>)([^<]*[ -][^<]*)</th>", label, m[0])
    return re.sub(r"<tr.*?</tr>", pieces, table, flags=re.S)


def output_markdown(output, stem, images, alt):
    """One output of a cell as markdown; an image is written to a file."""
    if output["output_type"] == "stream":
        if output["name"] != "stdout":
            return ""
        return f"```{{.output}}\n{text_of(output['text']).rstrip()}\n```"
    data = output.get("data", {})
    if "application/vnd.jupyter.widget-view+json" in data:     # a progress bar
        return ""
    if "image/png" in data:
        return picture(base64.b64decode(text_of(data["image/png"])), f"{stem}.png", images, alt)
    table = text_of(data.get("text/html", ""))
    if table and "<script" not in table:     # an estimator's HTML is a page of its own: its text will do
        table = re.sub(r"<style.*?</style>", "", table, flags=re.S)
        return raw(whole_labels(table.replace(' border="1"', "")))
    if "text/markdown" in data:
        return text_of(data["text/markdown"])
    if "text/plain" in data and not re.match(r"<Figure|\[?<matplotlib", text_of(data["text/plain"])):
        return f"```{{.output}}\n{text_of(data['text/plain'])}\n```"
    return ""


def code_markdown(code, found):
    """The source of a cell, behind a summary if it asks for one as Quarto's cells do."""
    block = f"```python\n{code}\n```"
    fold = found.get("code-fold", "false")
    if fold == "false":
        return block
    summary = html.escape(found.get("code-summary", "Code"))
    return "\n\n".join([raw(f'<details class="fold"{" open" * (fold == "show")}><summary>{summary}</summary>'), block, raw("</details>")])


def cell_markdown(cell, number, images):
    """One cell as markdown."""
    source = text_of(cell["source"])
    if cell["cell_type"] != "code":
        return source
    found, code = directives(source)
    if found.get("include") == "false":
        return ""
    parts = [code_markdown(code, found)] if code and found.get("echo") != "false" else []
    label, caption = found.get("label", ""), found.get("fig-cap", found.get("tbl-cap", ""))
    stem = label or f"cell-{number}"
    shown = [output_markdown(o, f"{stem}-{i}" if i else stem, images, found.get("fig-alt", caption))
             for i, o in enumerate(cell.get("outputs", []))]
    shown = "\n\n".join(s for s in shown if s)
    if shown and label:
        shown = f":::: {{.figure #{label}}}\n{shown}\n\n::: {{.caption}}\n[[caption {label}]] {caption}\n:::\n::::"
    return "\n\n".join(parts + [shown])


def chapter_markdown(path, images):
    """A processed notebook, or a .qmd page, as markdown whose first line is its title, and its front matter."""
    if path.suffix == ".qmd":
        text = path.read_text(encoding="utf-8")
    else:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        text = "\n\n".join(cell_markdown(c, i, images) for i, c in enumerate(cells))
    front, m = {}, re.match(r"\s*---\n(.+?)\n---\n", text, flags=re.S)
    if m:
        front, text = yaml.safe_load(m[1]), text[m.end():]
    if "title" in front:     # as in Quarto, its attributes count only after a #
        title = front["title"]
        text = f"{title if title.startswith('#') else '# ' + title}\n\n{text}"
    return text, front


# ------------------------------------------------------------------ numbers and references
def outside_code(text, edit):
    """Apply an edit to the parts of a markdown text that are neither code blocks nor code spans."""
    parts = re.split(r"(^(`{3,}|~{3,}).*?^\2[ \t]*$|(?<!`)`[^`\n]+`(?!`))", text, flags=re.M | re.S)
    return "".join(part if i % 3 == 1 else edit(part) for i, part in enumerate(parts) if i % 3 != 2)


def headings(text):
    """(level, title) of the headings of a markdown text."""
    prose = re.sub(r"^(`{3,}).*?^\1[ \t]*$", "", text, flags=re.M | re.S)
    return [(len(hashes), title) for hashes, title in re.findall(r"^(#{1,6}) (.+)$", prose, flags=re.M)]


def name_sections(text, chapter):
    """{label: text of a reference} of the labelled sections, counted as pandoc counts them; without numbers, their titles."""
    counts, names = [0] * 6, {}
    for level, title in headings(text):
        unnumbered = not chapter or ".unnumbered" in title
        if not unnumbered:
            counts[level - 1] += 1
            counts[level:] = [0] * (6 - level)
        label = LABEL.search(title)
        if label:
            kind = "Section" if level > 1 else "Appendix" if chapter.isalpha() else "Chapter"
            names[label[1]] = title[:title.index("{")].strip() if unnumbered else f"{kind} {'.'.join([chapter, *map(str, counts[1:level])])}"
    return names


def number_labels(text, chapter, page):
    """{label: (text of a reference, address)} of everything in a chapter that can be referred to."""
    found = {label: (name, f"{page}#{label}") for label, name in name_sections(text, chapter).items()}
    for kind, pattern in (("eq", r"\$\$ *\{#(eq-[\w-]+)\}"), ("fig", r"\.figure #(fig-[\w-]+)\}"),
                          ("tbl", r"(?:\.figure |^: .*\{)#(tbl-[\w-]+)")):
        for i, label in enumerate(re.findall(pattern, text, flags=re.M), 1):
            found[label] = (f"{KINDS[kind]} {chapter}.{i}" if chapter else f"{KINDS[kind]} {i}", f"{page}#{label}")
    return found


def resolve(text, labels, page):
    """Callouts with their titles, references as links, captions and equations with their numbers, notebook links as page links."""
    def equation(m):
        number = labels[m[2]][0].split()[1]
        return f'\n::: {{.equation #{m[2]}}}\n$${m[1]}$$\n\n[({number})]{{.number}}\n:::\n'

    def table_caption(m):
        return f": [**{labels[m[2]][0]}.**]{{#{m[2]}}} {m[1]}"

    def callout(m):
        return f"::: {{.callout .{m[1]} role=note}}\n\n::: {{.callout-title}}\n{m[2] or m[1][8:].capitalize()}\n:::\n"

    def reference(m):
        if m[1] not in labels:
            raise SystemExit(f"{page}: @{m[1]} refers to nothing")
        name, address = labels[m[1]]
        return f"[{name}]({address})"

    def edit(t):
        t = re.sub(r"\$\$((?:(?!\$\$).)+)\$\$ *\{#(eq-[\w-]+)\}", equation, t, flags=re.S)     # not from an equation without a label
        t = re.sub(r"^: (.+?) *\{#(tbl-[\w-]+)[^}]*\}", table_caption, t, flags=re.M)
        t = re.sub(r'^::: *\{\.(callout-\w+)(?: +title="(.+?)")?\}$', callout, t, flags=re.M)
        t = re.sub(r"\[\[caption ([\w-]+)\]\]", lambda m: f"**{labels[m[1]][0]}.**", t)
        t = re.sub(r"(?<=\d) %", "\u00a0%", REFERENCE.sub(reference, t))
        return re.sub(r"\]\(([\w./-]+)\.(?:ipynb|qmd)(#[\w-]+)?\)", r"](\1.html\2)", t)
    return outside_code(text, edit)
