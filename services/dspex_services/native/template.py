"""Jinja2 templates for text from anyone: sandboxed, strict about undefined names, compiled once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

import jinja2
from jinja2 import meta
from jinja2.lexer import Lexer
from jinja2.sandbox import ImmutableSandboxedEnvironment

from .errors import TemplateError, TemplateFailed

MAX_LENGTH = 262_144
"""Characters in a template's source."""
MAX_RENDERED = 4_194_304
"""Characters a template may render to, and items in anything it multiplies."""
_MAX_POWER = 1024
_INLINE = "<template>"


class Place(int):
    """A line, from 1, that knows the column, from 1. Jinja2 hands lines on from tokens to nodes and to errors."""

    column: int

    def __new__(cls, line: int, column: int) -> Place:
        place = super().__new__(cls, line)
        place.column = column
        return place


class _PlacedLexer(Lexer):
    """Jinja2's lexer, with columns."""

    def tokeniter(
        self, source: str, name: str | None, filename: str | None = None, state: str | None = None
    ) -> Iterator[tuple[int, str, str]]:
        at = 0
        try:
            for _, token, value in super().tokeniter(source, name, filename, state):
                # White space that a minus sign takes away is in the source and in no token.
                at = max(at, source.find(value, at))
                yield _place(source, at), token, value
                at += len(value)
        except jinja2.TemplateSyntaxError as error:
            error.lineno = _place(source, at)
            raise


def _place(source: str, at: int) -> Place:
    return Place(source.count("\n", 0, at) + 1, at - source.rfind("\n", 0, at))


class Sandbox(ImmutableSandboxedEnvironment):
    """The sandbox, with bounds on the two operators that most easily turn a few characters into all of the memory."""

    intercepted_binops = frozenset({"*", "**"})

    def __init__(self, loader: jinja2.BaseLoader | None = None) -> None:
        super().__init__(undefined=jinja2.StrictUndefined, autoescape=False, keep_trailing_newline=True, loader=loader)
        self._lexer = _PlacedLexer(self)

    @property
    def lexer(self) -> Lexer:
        return self._lexer

    def call_binop(self, context: jinja2.runtime.Context, operator: str, left: Any, right: Any) -> Any:
        if operator == "**" and (abs(right) > _MAX_POWER or abs(left) > 1_000_000):
            raise jinja2.exceptions.SecurityError(f"{left!r} ** {right!r} is too large")
        if operator == "*":
            for many, times in ((left, right), (right, left)):
                if isinstance(many, str | list | tuple) and isinstance(times, int) and len(many) * times > MAX_RENDERED:
                    raise jinja2.exceptions.SecurityError(f"a result of more than {MAX_RENDERED} items is too large")
        return super().call_binop(context, operator, left, right)


_environment = Sandbox()


class Template:
    """A compiled template. ``variables`` are the names it reads from its values, ``includes`` those of the templates it
    includes, extends or imports, both sorted; None among the latter is one that only rendering can tell."""

    __slots__ = ("_template", "includes", "variables")

    def __init__(self, source: str, *, name: str = "", environment: Sandbox = _environment) -> None:
        check_length(source, name)
        try:
            tree = environment.parse(normalized(source), name or None, name or None)
            code = environment.compile(tree, name or None, name or _INLINE)
        except jinja2.TemplateSyntaxError as error:
            raise syntax_error(error) from error
        except RecursionError as error:
            raise TemplateError("it is nested too deep", name=name) from error
        self._template = jinja2.Template.from_code(environment, code, environment.make_globals(None))
        self.variables = tuple(sorted(meta.find_undeclared_variables(tree)))
        found = set(meta.find_referenced_templates(tree))
        self.includes: tuple[str | None, ...] = (
            *sorted(one for one in found if one),
            *([None] if None in found else ()),
        )

    def render(self, values: Mapping[str, Any]) -> str:
        """The text with the values filled in. TemplateFailed for an undefined name, an operation the sandbox
        forbids, or anything that goes wrong inside the template."""
        pieces: list[str] = []
        size = 0
        try:
            for piece in self._template.generate(values):
                size += len(piece)
                if size > MAX_RENDERED:
                    raise TemplateFailed(f"it renders to more than {MAX_RENDERED} characters")
                pieces.append(piece)
        except TemplateError:
            raise
        except jinja2.TemplateSyntaxError as error:  # of one that it includes
            raise syntax_error(error) from error
        except jinja2.TemplateNotFound as error:
            raise _failed(f"there is no template {error.message!r} to include", error) from error
        except jinja2.UndefinedError as error:
            raise _failed(str(error.message), error) from error
        except Exception as error:
            raise _failed(f"{type(error).__name__}: {error}", error) from error
        return "".join(pieces)


@lru_cache(maxsize=1024)
def compile_template(source: str) -> Template:
    """The compiled template; raises TemplateError with line and column. Equal sources give the same object."""
    return Template(source)


def render(source: str, values: Mapping[str, Any]) -> str:
    """``compile_template(source).render(values)``."""
    return compile_template(source).render(values)


def check_length(source: str, name: str = "") -> None:
    if len(source) > MAX_LENGTH:
        raise TemplateError(f"it has {len(source)} characters, more than {MAX_LENGTH}", name=name)


def normalized(source: str) -> str:
    """With the line ends that Jinja2 counts in."""
    return source.replace("\r\n", "\n").replace("\r", "\n")


def syntax_error(error: jinja2.TemplateSyntaxError) -> TemplateError:
    column = error.lineno.column if isinstance(error.lineno, Place) else None
    return TemplateError(str(error.message), line=int(error.lineno), column=column, name=error.name or "")


def _failed(reason: str, error: BaseException) -> TemplateFailed:
    """With the template and line where it arose: Jinja2 puts frames of its own, named so, into the traceback."""
    line, name = None, ""
    trace = error.__traceback__
    while trace is not None:
        if "__jinja_exception__" in trace.tb_frame.f_globals or trace.tb_frame.f_code.co_filename == _INLINE:
            line, name = trace.tb_lineno, trace.tb_frame.f_code.co_filename
        trace = trace.tb_next
    return TemplateFailed(reason, line=line, name="" if name == _INLINE else name)
