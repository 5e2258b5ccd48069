"""What is wrong with a definition whatever workers there are: kinds, attributes, paths."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator

import msgspec

from dspex_bus import subjects
from dspex_bus.errors import InvalidName, InvalidPipeline
from dspex_bus.wire import PipelineDefinition, StepDefinition

KINDS = ("native", "module", "call", "parallel", "sequence")

_CONTEXT_PATH = re.compile(r"[A-Za-z_]\w*(\.\w+)*")
_FIELD = re.compile(r"[A-Za-z_]\w*")
_DEEPEST = 32

# What each kind of group may say besides its steps; everything else is for single steps.
_GROUPS = {"parallel": {"name", "save_as", "on_error"}, "sequence": {"name"}}
_SINGLE = {
    "with_",
    "inputs",
    "outputs",
    "save_as",
    "pool",
    "timeout_s",
    "retry",
    "cache_s",
    "on_error",
    "implementation",
}

_canonical = msgspec.json.Encoder(order="deterministic")


def digest_of(definition: PipelineDefinition) -> str:
    """16 hexadecimal digits: equal for equal definitions, on every machine."""
    return hashlib.sha256(_canonical.encode(definition)).hexdigest()[:16]


def check_structure(definition: PipelineDefinition) -> None:
    """Raises InvalidPipeline with the path of the first fault."""
    for step, path, depth in _walk(definition.steps, "steps", 0):
        if depth > _DEEPEST:
            raise InvalidPipeline(f"nested more than {_DEEPEST} deep", path=path)
        _check(step, path)


def kind_of(step: StepDefinition, path: str) -> str:
    """Which of the kinds a step is; exactly one."""
    kinds = [kind for kind in KINDS if getattr(step, kind) is not None]
    if len(kinds) == 1:
        return kinds[0]
    said = f"it has {' and '.join(kinds)}" if kinds else "it has none"
    raise InvalidPipeline(f"a step is exactly one of {', '.join(KINDS)}; {said}", path=path)


def children_of(step: StepDefinition) -> tuple[StepDefinition, ...]:
    return step.parallel or step.sequence or ()


def _walk(steps: tuple[StepDefinition, ...], path: str, depth: int) -> Iterator[tuple[StepDefinition, str, int]]:
    for place, step in enumerate(steps):
        here = f"{path}[{place}]"
        yield step, here, depth
        if depth <= _DEEPEST and children_of(step):
            group = "parallel" if step.parallel else "sequence"
            yield from _walk(children_of(step), f"{here}.{group}", depth + 1)


def _check(step: StepDefinition, path: str) -> None:
    kind = kind_of(step, path)
    defaults = StepDefinition(native="x")
    said = {name for name in (*_SINGLE, "name") if getattr(step, name) != getattr(defaults, name)}
    if kind in _GROUPS:
        if not children_of(step):
            raise InvalidPipeline(f"{kind} has no steps", path=f"{path}.{kind}")
        _refuse(said - _GROUPS[kind], f"a {kind}", path)
    else:
        _refuse(said & {"on_error"}, "a single step", path)
        _refuse(said & {"implementation"} if kind != "call" else set(), "only a call; this step", path)
        _check_name(step, kind, path)
        _check_fields(step, path)
    if step.save_as is not None and not _FIELD.fullmatch(step.save_as):
        raise InvalidPipeline(f"{step.save_as!r} cannot be a field's name", path=f"{path}.save_as")


def _refuse(names: set[str], what: str, path: str) -> None:
    if names:
        raise InvalidPipeline(f"{what} has no {sorted(names)[0].rstrip('_')!r}", path=path)


def _check_name(step: StepDefinition, kind: str, path: str) -> None:
    name = getattr(step, kind).replace(":", ".")
    try:
        subjects.dotted(name, "handler")
        if step.pool is not None:
            subjects.token(step.pool, "pool")
    except InvalidName as error:
        raise InvalidPipeline(error.message, path=f"{path}.{kind}", code="invalid_name") from error


def _check_fields(step: StepDefinition, path: str) -> None:
    both = sorted(set(step.with_) & set(step.inputs))
    if both:
        raise InvalidPipeline(f"{both[0]!r} is given in 'with' and in 'inputs'; choose one", path=f"{path}.inputs")
    for field, source in step.inputs.items():
        if not _CONTEXT_PATH.fullmatch(source):
            raise InvalidPipeline(
                f"{source!r} is no path into the context, such as 'parts.0.text'", path=f"{path}.inputs.{field}"
            )
    for field, target in step.outputs.items():
        if not _FIELD.fullmatch(target):
            raise InvalidPipeline(f"{target!r} cannot be a field's name", path=f"{path}.outputs.{field}")
    if step.save_as is not None and step.outputs:
        raise InvalidPipeline(
            "'outputs' renames fields that 'save_as' keeps together; choose one", path=f"{path}.save_as"
        )
