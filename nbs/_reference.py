"""The pages of the API reference. `api.qmd.py` prints the first, and writes one for each module, when the notebooks are processed, so none can go stale."""
import ast
import inspect
import json
import re
import textwrap
from functools import partial
from importlib import import_module
from types import FunctionType

from fastcore.docments import docments
from fastcore.script import Param
import yaml
from nbdev.config import get_config
from nbdev.showdoc import BasicMarkdownRenderer, show_doc


# ------------------------------------------------------------------ what the code says of itself
def implementation(sym):
    """The function or class behind a name: behind a property its getter, behind a decorator what it decorates."""
    return inspect.unwrap(getattr(sym, "fget", None) or getattr(sym, "__func__", sym))


def definitions(module):
    """{name: function or class} of what a module exports and defines."""
    exported = {n: getattr(module, n) for n in module.__all__}
    return {n: o for n, o in exported.items() if inspect.isclass(o) or inspect.isfunction(o)
            if o.__module__ == module.__name__}


def lineage(cls):
    """The class and those of this package that it derives from, the nearest first."""
    return [c for c in cls.__mro__ if c.__module__.split(".")[0] == cls.__module__.split(".")[0]]


def public(cls):
    """{name: versions} of the public methods and properties that a class defines itself, each with what it overrides in this package."""
    kinds = FunctionType, classmethod, staticmethod, property
    names = [n for n, value in vars(cls).items() if not n.startswith("_") and isinstance(value, kinds)]
    # a property may override a plain value, which says nothing of itself
    return {n: [vars(c)[n] for c in lineage(cls) if isinstance(vars(c).get(n), kinds)] for n in names}


def returned(sym):
    """The comment after the signature of a function, with or without an annotation."""
    source = textwrap.dedent(inspect.getsource(sym))
    body = ast.parse(source).body[0].body[0].lineno
    header = "\n".join(source.splitlines()[:body - 1]) or source.splitlines()[0]
    comment = re.search(r"\)(?: *->[^\n#]*)?: *# *(.+)$", header)
    alone = "\n" in header.strip().split("def ", 1)[-1] or re.search(r"\((self|cls)?[^,]*\)", header)
    return comment[1] if comment and alone else None


def shared(sym, comments):
    """The comments of parameters that stand on one line: what is said at its end is said of all of them."""
    function = sym.__init__ if inspect.isclass(sym) else sym
    if not inspect.isfunction(function) or function.__code__.co_filename.startswith("<"):     # made by a decorator
        return {}
    definition = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
    arguments = definition.args.args + definition.args.kwonlyargs
    return {a.arg: comments[b.arg] for a in arguments for b in arguments
            if a.lineno == b.lineno and b.lineno < definition.body[0].lineno and comments.get(b.arg)}


def defaults(sym):
    """{parameter: its default value as the code states it} of a function."""
    arguments = ast.parse(textwrap.dedent(inspect.getsource(sym))).body[0].args
    last = arguments.args[len(arguments.args) - len(arguments.defaults):]
    return {a.arg: ast.unparse(value) for a, value in zip(last, arguments.defaults)}


def fields(sym):
    """The comments of the fields of a named tuple."""
    source = textwrap.dedent(inspect.getsource(sym)).splitlines() if hasattr(sym, "_fields") else []
    stated = ast.parse("\n".join(source)).body[0].body if source else []
    comments = {n.target.id: re.search("# *(.+)$", source[n.end_lineno - 1]) for n in stated if isinstance(n, ast.AnnAssign)}
    return {name: comment[1] for name, comment in comments.items() if comment}


def explained(versions):
    """(docstring, {parameter: comment}) of a function, method or class; what it does not say, what it overrides may.

    A class speaks for itself, but not its constructor: of a parameter's meaning, a base class may tell."""
    symbols, comments = list(map(implementation, versions)), {}
    text = next((inspect.cleandoc(sym.__doc__) for sym in symbols if sym.__doc__), "")
    for sym in lineage(symbols[0]) if inspect.isclass(symbols[0]) else symbols:
        # the command line's parameters tell their help in the annotation
        helps = {} if inspect.isclass(sym) else {n: a.help for n, a in sym.__annotations__.items() if isinstance(a, Param)}
        found = dict(docments(sym, args_kwargs=True)) | helps | fields(sym)
        found = shared(sym, found) | {name: comment for name, comment in found.items() if comment}
        found["return"] = None if inspect.isclass(sym) else found.get("return") or returned(sym)
        comments = {name: comment for name, comment in found.items() if comment} | comments
    return text, comments


def constants(module):
    """The statements that define what else a module exports, with their comments, as they stand in it."""
    names, lines = set(module.__all__) - set(definitions(module)), inspect.getsource(module).splitlines()
    for node in ast.parse("\n".join(lines)).body:
        given = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        targets = [t for target in given for t in getattr(target, "elts", [target])]
        if any(getattr(t, "id", None) in names for t in targets):
            end = node.end_lineno
            while end < len(lines) and re.match(r"\s+#", lines[end]):
                end += 1
            yield "\n".join(lines[node.lineno - 1:end])


# ------------------------------------------------------------------ as markdown
def escaped(text):
    """Plain text with `code` in it as markdown, and as one cell of a table."""
    parts = re.split(r"(`[^`]+`)", text)
    return "".join(p.replace("|", r"\|") if i % 2 else re.sub(r"([\\*_$<>\[\]@#^~|{}])", r"\\\1", p) for i, p in enumerate(parts))


def shown(value):
    """A default value or an annotation as it is written."""
    if value is inspect.Parameter.empty:
        return ""
    if isinstance(value, Param):
        value = value.type
    if inspect.isroutine(value) or isinstance(value, type) and not getattr(value, "__args__", None):
        return value.__name__
    return re.sub(r"\b(?:\w+\.)+(?=[A-Z])", "", inspect.formatannotation(value))


class Reference(BasicMarkdownRenderer):
    """`show_doc` as a section: a link to the source, the call, the docstring, and a table of what goes in and comes out."""
    def __init__(self, sym, name=None, title_level=2, versions=None):
        super().__init__(sym, name=name, title_level=title_level)
        self.versions = versions or [sym]

    def call(self):
        """The signature without annotations. A long default, such as a table of models, goes by the name that the code gives it."""
        if isinstance(self.versions[0], property) or self.sig is None:
            return self.nm
        function = implementation(self.versions[0])
        stated = defaults(function) if inspect.isfunction(function) else {}
        stars = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
        # an object without a text of its own is written as its class, not as its place in memory
        written = lambda value: shown(value) if callable(value) else re.sub(r"<(?:\w+\.)*(\w+) object at 0x\w+>", r"\1()", repr(value))
        values = {n: written(p.default) for n, p in self.sig.parameters.items() if p.default is not p.empty}
        values = {n: "=" + (stated.get(n, value) if len(value) > 60 else value) for n, value in values.items()}
        given = [f"{stars.get(p.kind, '')}{p.name}{values.get(p.name, '')}" for p in self.sig.parameters.values() if p.name not in ("self", "cls")]
        return "\n".join(textwrap.wrap(f"{self.nm}({', '.join(given)})", 88, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False))

    def table(self, comments):
        """A row for each parameter and for what is returned; a column that says nothing is left out."""
        given = self.sig.parameters if self.sig else {}
        rows = [(f"`{name}`", shown(p.annotation), comments.get(name, "")) for name, p in given.items()
                if name not in ("self", "cls") and (name in comments or p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD))]
        if "return" in comments:
            rows.append(("*returns*", shown(self.sig.return_annotation), comments["return"]))
        rows = [(name, kind and escaped(f"`{kind}`"), escaped(" ".join(meaning.split()))) for name, kind, meaning in rows]
        filled = [i for i, column in enumerate(zip(*rows)) if any(column)]
        if len(filled) < 2:
            return ""
        return "\n".join(f"| {' | '.join(row[i] for i in filled)} |" for row in [("name", "type", "meaning"), ("---",) * 3, *rows])

    def _repr_markdown_(self):
        sym = implementation(self.versions[0])
        address = f"{get_config().git_url}/blob/{get_config().branch}/{sym.__module__.replace('.', '/')}.py#L{inspect.getsourcelines(sym)[1]}"
        text, comments = explained(self.versions)
        return "\n\n".join(s for s in [
            f"{'#' * self.title_level} `{self.nm}` {{.unnumbered}}", f'[source]({address}){{.code-link aria-label="source of {self.nm}"}}',
            f"```python\n{self.call()}\n```", *map(escaped, re.split(r"\n\s*\n", text)), self.table(comments)] if s)


def page(name):
    """The page of a module, as markdown, and the first line of its notebook's description."""
    module = import_module(f"{get_config().lib_name}.{name}")
    notebook = next(get_config().nbs_path.glob(f"*_{name}.ipynb"))
    title, about = "".join(json.loads(notebook.read_text(encoding="utf-8"))["cells"][0]["source"]).strip().split("\n", 1)
    parts = [f"The names that `{module.__name__}` exports. The chapter [{title.removeprefix('# ')}]({notebook.name}) explains and tests them."]
    values = list(constants(module))
    if values:
        parts.append("## Constants {.unnumbered}\n\n```python\n" + "\n".join(values) + "\n```")
    for n, sym in definitions(module).items():
        parts.append(show_doc(sym, renderer=Reference, title_level=2)._repr_markdown_())
        for method, versions in public(sym).items() if inspect.isclass(sym) else ():
            section = show_doc(versions[0], renderer=partial(Reference, versions=versions), name=f"{n}.{method}", title_level=3)
            parts.append(section._repr_markdown_())
    return "\n\n".join(parts) + "\n", about.strip().removeprefix("> ")


def pages():
    """Write the pages of all modules that the book lists, in its order, and print the page that leads to them."""
    config = get_config()
    book = yaml.safe_load((config.config_path / "_quarto.yml").read_text(encoding="utf-8"))["book"]
    print("One page for each room of the package, the lowest first: a room imports only from those above it in this list.\n")
    for name in book["appendices"]:
        if module := re.fullmatch(r"api_(\w+)\.qmd", name):
            text, about = page(module[1])
            head = f"---\nrepo-actions: false\n---\n\n# `{config.lib_name}.{module[1]}` {{.unnumbered}}\n\n"
            (config.config_path / "_proc" / name).write_text(head + text, encoding="utf-8")
            print(f"- [`{module[1]}`]({name}): {about}")
