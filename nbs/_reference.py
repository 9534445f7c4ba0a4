"""The pages of the API reference. Each `api_<module>.qmd.py` prints one when the notebooks are processed, so none can go stale."""
import ast
import inspect
import json
import re
from importlib import import_module
from textwrap import wrap
from types import FunctionType

from fastcore.docments import docments
from nbdev.config import get_config
from nbdev.showdoc import BasicMarkdownRenderer, show_doc


def escaped(text):
    """Plain text with `code` in it as markdown, and as one cell of a table."""
    parts = re.split(r"(`[^`]+`)", text)
    return "".join(p.replace("|", r"\|") if i % 2 else re.sub(r"([\\*_$<>\[\]@#^~|{}])", r"\\\1", p) for i, p in enumerate(parts))


def shown(value):
    """A default value or an annotation as it is written."""
    if value is inspect.Parameter.empty:
        return ""
    name = getattr(value, "__name__", None)
    if isinstance(value, type) and not getattr(value, "__args__", None):
        return name
    return name if inspect.isroutine(value) else re.sub(r"\b(?:\w+\.)+(?=[A-Z])", "", inspect.formatannotation(value))


def implementation(sym):
    """The function or class behind a name: behind a property its getter, behind a decorator what it decorates."""
    return inspect.unwrap(getattr(sym, "fget", None) or getattr(sym, "__func__", sym))


def documented(cls, name):
    """The method itself, or, where it says nothing, the one that it overrides in this package."""
    ours = [vars(c)[name] for c in cls.__mro__ if name in vars(c) and c.__module__.startswith(get_config().lib_name)]
    return next((m for m in ours if implementation(m).__doc__), ours[0])


class Reference(BasicMarkdownRenderer):
    """`show_doc` as a section: signature, docstring, a table of what goes in and out, and a link to the source."""
    def call(self):
        """The signature without annotations, as it is called."""
        if not callable(self.sym) or self.sig is None:
            return self.nm
        stars = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
        given = [f"{stars.get(p.kind, '')}{p.name}{'' if p.default is p.empty else '=' + (shown(p.default) if callable(p.default) else repr(p.default))}"
                 for p in self.sig.parameters.values() if p.name not in ("self", "cls")]
        return "\n".join(wrap(f"{self.nm}({', '.join(given)})", 88, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False))

    def table(self):
        """A row for each parameter, and one for what is returned."""
        found, given = docments(self.sym, full=True), self.sig.parameters if self.sig else {}
        rows = [(f"`{name}`", shown(given[name].annotation), d.docment or "")
                for name, d in found.items() if name in given and name not in ("self", "cls")]
        back = found.get("return")
        if back and (back.docment or back.anno not in (inspect.Parameter.empty, None)) and not inspect.isclass(self.sym):
            rows.append(("*returns*", shown(back.anno), back.docment or ""))
        rows = [(name, kind and escaped(f"`{kind}`"), escaped(" ".join(meaning.split()))) for name, kind, meaning in rows]
        filled = [i for i, column in enumerate(zip(*rows)) if any(column)]
        if len(filled) < 2:
            return ""
        rows = [("name", "type", "meaning"), ("---",) * 3, *rows]
        return "\n".join(f"| {' | '.join(row[i] for i in filled)} |" for row in rows)

    def _repr_markdown_(self):
        sym = implementation(self.sym)
        line = inspect.getsourcelines(sym)[1]
        address = f"{get_config().git_url}/blob/{get_config().branch}/{sym.__module__.replace('.', '/')}.py#L{line}"
        text = "\n\n".join(escaped(p) for p in re.split(r"\n\s*\n", inspect.cleandoc(sym.__doc__ or "")))
        return "\n\n".join(s for s in [
            f"{'#' * self.title_level} `{self.nm}` {{.unnumbered}}", f'[source]({address}){{.code-link aria-label="source of {self.nm}"}}',
            f"```python\n{self.call()}\n```", text, self.table()] if s)


def public(cls):
    """The names of the public methods and properties that a class defines or overrides itself."""
    return [name for name, value in vars(cls).items()
            if not name.startswith("_") and isinstance(value, (FunctionType, classmethod, staticmethod, property))]


def constants(module, names):
    """The statements that define constants, with their comments, as they stand in the module."""
    lines = inspect.getsource(module).splitlines()
    for node in ast.parse("\n".join(lines)).body:
        targets = [t for target in getattr(node, "targets", []) for t in getattr(target, "elts", [target])]
        if any(getattr(t, "id", None) in names for t in targets):
            end = node.end_lineno
            while end < len(lines) and re.match(r"\s+#", lines[end]):
                end += 1
            yield "\n".join(lines[node.lineno - 1:end])


def page(name):
    """Print the page of a module."""
    module = import_module(f"{get_config().lib_name}.{name}")
    exported = {n: getattr(module, n) for n in module.__all__}
    defined = {n: o for n, o in exported.items() if getattr(o, "__module__", None) == module.__name__ and (inspect.isclass(o) or inspect.isfunction(o))}
    notebook = next(get_config().nbs_path.glob(f"*_{name}.ipynb"))
    title = "".join(json.loads(notebook.read_text(encoding="utf-8"))["cells"][0]["source"]).splitlines()[0].removeprefix("# ")
    print(f"What `from {module.__name__} import *` gives. The chapter [{title}]({notebook.name}) explains it, and tests it.\n")
    values = list(constants(module, exported.keys() - defined.keys()))
    if values:
        print("## Constants {.unnumbered}\n\n```python\n" + "\n".join(values) + "\n```\n")
    for n, sym in defined.items():
        print(show_doc(sym, renderer=Reference, title_level=2)._repr_markdown_(), end="\n\n")
        for method in public(sym) if inspect.isclass(sym) else ():
            print(show_doc(documented(sym, method), renderer=Reference, name=f"{n}.{method}", title_level=3)._repr_markdown_(), end="\n\n")
