"""The types of the blocking client, from those of the one with an event loop: the same methods, each of which waits."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
STUB = ROOT / "sdk" / "dspex" / "_blocking.pyi"

CLASSES = {
    "Client": ("client", "_operations", "_runs", "_managing", "_asking"),
    "Session": ("sessions",),
    "Predictor": ("predictions",),
    "OptimizationJob": ("optimizing",),
    "ProgramStore": ("dspex_services.programs.store",),
    "TemplateStore": ("dspex_services.templates.store",),
    "TenantStore": ("dspex_services.tenants.store",),
    "ThreadStore": ("dspex_services.threads.store",),
}
"""What blocks, and the modules whose classes it is made of."""

PARTS = {"Client": ("Client", "Operations", "Runs", "Managing", "Asking")}
LEFT_OUT = {"__init__", "__aenter__", "__aexit__"}
LENT = {"bus": "Any"}
"""Attributes that are not what they are without a loop."""

HEAD = '''"""The types of the blocking client: written by docs/generate.py."""

# ruff: noqa
# fmt: off
# mypy: disable-error-code="override"

import builtins
'''

Function = ast.FunctionDef | ast.AsyncFunctionDef


class _Blocking(ast.NodeTransformer):
    """An annotation as it is where calls wait; ``used`` are the names in it."""

    def __init__(self) -> None:
        self.used: set[str] = set()

    def visit_Name(self, node: ast.Name) -> ast.expr:
        if node.id in CLASSES:
            return ast.Name(f"Blocking{node.id}")
        if node.id in ("AsyncIterator", "AsyncIterable"):
            node = ast.Name("Iterator")
        if node.id in ("list", "set", "dict", "type"):
            return ast.Attribute(ast.Name("builtins"), node.id)
        self.used.add(node.id)
        return node


def blocking_stub() -> str:
    imports: dict[str, str] = {"Iterator": "collections.abc"}
    made: list[str] = []
    kinds = _Blocking()
    for name, modules in CLASSES.items():
        body: dict[str, str] = {}
        for module in modules:
            tree, package = _parsed(module)
            imports |= _imported(tree, package)
            for found in tree.body:
                if isinstance(found, ast.ClassDef) and found.name in PARTS.get(name, (name,)):
                    for part, text in _members(found, kinds):
                        body.setdefault(part, text)
        made.append(f"class Blocking{name}:\n" + "\n".join(body.values()))
    lines = sorted(f"from {imports[used]} import {used}" for used in kinds.used if used in imports)
    return HEAD + "\n".join(lines) + "\n\n" + "\n\n".join(made) + "\n"


def _parsed(module: str) -> tuple[ast.Module, str]:
    """Its tree and the package it is in."""
    dotted = module if "." in module else f"dspex.{module}"
    package, _, name = dotted.rpartition(".")
    folder = ROOT / ("services" if package.startswith("dspex_services") else "sdk") / package.replace(".", "/")
    return ast.parse((folder / f"{name}.py").read_text("utf-8")), dotted


def _imported(tree: ast.Module, dotted: str) -> dict[str, str]:
    """Where each name of a module is from: another one, or itself."""
    package, found = dotted.rpartition(".")[0], dict[str, str]()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            up = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            source = ".".join([*up, *([node.module] if node.module else [])])
            found |= {alias.asname or alias.name: source for alias in node.names}
    for node in tree.body:
        match node:
            case ast.ClassDef(name=name):
                found[name] = dotted
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                found[name] = dotted
    return found


def _members(found: ast.ClassDef, kinds: _Blocking) -> list[tuple[str, str]]:
    made = []
    for node in found.body:
        if isinstance(node, Function) and (node.name == "__call__" or not node.name.startswith("_")):
            made.append((node.name, _method(node, kinds)))
        elif isinstance(node, Function) and node.name == "__init__":
            made += _attributes(node, kinds)
    return made


def _attributes(init: Function, kinds: _Blocking) -> list[tuple[str, str]]:
    """Those that are public and are given as they are, or are annotated."""
    given = {argument.arg: argument.annotation for argument in (*init.args.args, *init.args.kwonlyargs)}
    made = []
    for node in init.body:
        match node:
            case ast.Assign(targets=[ast.Attribute(attr=name)], value=ast.Name(id=source)):
                kind = given.get(source)
            case ast.AnnAssign(target=ast.Attribute(attr=name), annotation=kind):
                pass
            case _:
                continue
        if not name.startswith("_") and kind is not None:
            made.append((name, f"    {name}: {LENT.get(name) or ast.unparse(kinds.visit(kind))}"))
    return made


def _method(node: Function, kinds: _Blocking) -> str:
    decorators = {ast.unparse(decorator) for decorator in node.decorator_list}
    arguments = node.args
    for argument in (*arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg):
        if argument is not None and argument.annotation is not None:
            argument.annotation = kinds.visit(argument.annotation)
    for defaults in (arguments.defaults, arguments.kw_defaults):
        defaults[:] = [
            value if value is None or isinstance(value, ast.Constant) else ast.Constant(...) for value in defaults
        ]
    returns = ast.unparse(kinds.visit(node.returns)) if node.returns is not None else "None"
    said = ast.get_docstring(node, clean=False)
    lines = ["    @property"] if decorators & {"cached_property", "property"} else []
    lines.append(f"    def {node.name}({ast.unparse(arguments)}) -> {returns}:" + ("" if said else " ..."))
    if said:
        lines.append(f'        """{said}"""')
    return "\n".join(lines)


def _told(default: ast.expr) -> ast.expr:
    """Its value, where that needs no name."""
    return default if isinstance(default, ast.Constant) else ast.Constant(...)
