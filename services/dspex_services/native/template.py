"""Jinja2 templates for text from anyone: sandboxed, strict about undefined names, compiled once."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import jinja2
from jinja2 import meta
from jinja2.sandbox import ImmutableSandboxedEnvironment

from .errors import TemplateError, TemplateFailed

MAX_LENGTH = 262_144
"""Characters in a template's source."""
MAX_RENDERED = 4_194_304
"""Characters a template may render to, and items in anything it multiplies."""
_MAX_POWER = 1024


class _Sandbox(ImmutableSandboxedEnvironment):
    """The sandbox, with bounds on the two operators that most easily turn a few characters into all of the memory."""

    intercepted_binops = frozenset({"*", "**"})

    def call_binop(self, context: jinja2.runtime.Context, operator: str, left: Any, right: Any) -> Any:
        if operator == "**" and (abs(right) > _MAX_POWER or abs(left) > 1_000_000):
            raise jinja2.exceptions.SecurityError(f"{left!r} ** {right!r} is too large")
        if operator == "*":
            for many, times in ((left, right), (right, left)):
                if isinstance(many, str | list | tuple) and isinstance(times, int) and len(many) * times > MAX_RENDERED:
                    raise jinja2.exceptions.SecurityError(f"a result of more than {MAX_RENDERED} items is too large")
        return super().call_binop(context, operator, left, right)


_environment = _Sandbox(undefined=jinja2.StrictUndefined, autoescape=False, keep_trailing_newline=True)


class Template:
    """A compiled template. ``variables`` are the names it reads from its values, sorted."""

    __slots__ = ("_template", "variables")

    def __init__(self, source: str) -> None:
        if len(source) > MAX_LENGTH:
            raise TemplateError(f"it has {len(source)} characters, more than {MAX_LENGTH}")
        try:
            tree = _environment.parse(source)
            self._template = _environment.from_string(tree)
        except jinja2.TemplateSyntaxError as error:
            raise TemplateError(str(error.message), line=error.lineno) from error
        except RecursionError as error:
            raise TemplateError("it is nested too deep") from error
        self.variables = tuple(sorted(meta.find_undeclared_variables(tree)))

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
        except jinja2.UndefinedError as error:
            raise TemplateFailed(str(error.message), line=_line(error)) from error
        except Exception as error:
            raise TemplateFailed(f"{type(error).__name__}: {error}", line=_line(error)) from error
        return "".join(pieces)


@lru_cache(maxsize=1024)
def compile_template(source: str) -> Template:
    """The compiled template; raises TemplateError with the line. Equal sources give the same object."""
    return Template(source)


def render(source: str, values: Mapping[str, Any]) -> str:
    """``compile_template(source).render(values)``."""
    return compile_template(source).render(values)


def _line(error: BaseException) -> int | None:
    """The line of the template where the error arose: Jinja2 puts it into the traceback's frame named <template>."""
    line = None
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename in ("<template>", "<unknown>"):
            line = trace.tb_lineno
        trace = trace.tb_next
    return line
