"""The docstrings behind the API reference: every exported name says what it is, what goes in and what comes out."""
import ast
import inspect
import re
import textwrap
from importlib import import_module
from pathlib import Path
from runpy import run_path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = [p.stem for p in sorted((ROOT / "genmod_nb").glob("[!_]*.py"))]
reference = run_path(ROOT / "nbs" / "_reference.py")


def gives_back(function):
    """Does the function return or yield a value, in its own body?"""
    nodes, stack = [], list(ast.parse(textwrap.dedent(inspect.getsource(function))).body[0].body)
    while stack:
        node = stack.pop()
        nodes.append(node)
        if not isinstance(node, (ast.FunctionDef, ast.Lambda, ast.ClassDef)):
            stack += ast.iter_child_nodes(node)
    return any(isinstance(n, (ast.Yield, ast.YieldFrom)) or isinstance(n, ast.Return) and n.value for n in nodes)


def gaps(name, versions):
    """What one function, method or class does not say."""
    sym = reference["implementation"](versions[0])
    text, comments = reference["explained"](versions)
    if not text:
        yield f"{name}: no docstring"
    own = not inspect.isclass(sym) or getattr(sym.__init__, "__module__", "").startswith("genmod_nb") or hasattr(sym, "__dataclass_fields__")
    for parameter in inspect.signature(sym).parameters.values() if own else ():
        if parameter.name not in ("self", "cls") and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            if not comments.get(parameter.name):
                yield f"{name}: no comment on {parameter.name}"
    told = comments.get("return") or re.match(r"(Return|Yield)\b|.*\b(returns|yields) ", text)     # in a comment, or as the docstring's first words
    if not inspect.isclass(sym) and not isinstance(versions[0], property) and gives_back(sym) and not told:
        yield f"{name}: no comment on what it returns"


def all_gaps(module):
    for name, sym in reference["definitions"](import_module(f"genmod_nb.{module}")).items():
        yield from gaps(name, [sym])
        for method, versions in reference["public"](sym).items() if inspect.isclass(sym) else ():
            yield from gaps(f"{name}.{method}", versions)


@pytest.mark.parametrize("module", MODULES)
def test_everything_exported_is_documented(module):
    assert not list(all_gaps(module))
