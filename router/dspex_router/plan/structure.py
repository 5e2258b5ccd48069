"""What is wrong with a definition whatever workers there are: kinds, attributes, names, paths."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator

import msgspec

from dspex_bus import subjects
from dspex_bus.conditions import ConditionError, names
from dspex_bus.errors import InvalidName, InvalidPipeline
from dspex_bus.names import dotted, token
from dspex_bus.wire import PipelineDefinition, RetryPolicy, StepDefinition

KINDS = (
    "native",
    "module",
    "call",
    "pipeline",
    "parallel",
    "sequence",
    "map",
    "branch",
    "loop",
    "sleep_s",
    "wait",
)

_CONTEXT_PATH = re.compile(r"[A-Za-z_]\w*(\.\w+)*")
_FIELD = re.compile(r"[A-Za-z_]\w*")
_CODE = re.compile(r"[\w.:/-]+")
_DEEPEST = 32

MOST_STEPS = 20_000
"""In a plan, those of the pipelines within it counted each time: it is in the journal of every run."""

_TASK = {"with_", "inputs", "outputs", "save_as", "pool", "timeout_s", "retry", "cache_s"}
_TASK |= {"stream", "remember", "affinity", "limits", "fuse"}
_JOIN = {"save_as", "on_error", "join", "quorum", "timeout_s"}

# What each kind of step may say besides its kind and its name.
_SAYS: dict[str, set[str]] = {
    "native": _TASK,
    "module": _TASK,
    "call": {*_TASK, "implementation"},
    "pipeline": {"with_", "inputs", "outputs", "save_as", "timeout_s", "retry", "version"},
    "parallel": _JOIN,
    "sequence": set(),
    "map": {*_JOIN, "do", "item", "limit"},
    "branch": {"otherwise"},
    "loop": {"until", "at_most"},
    "sleep_s": set(),
    "wait": {"timeout_s", "default", "outputs", "save_as"},
}
_ANY = set().union(*_SAYS.values())

_canonical = msgspec.json.Encoder(order="deterministic")


def digest_of(definition: PipelineDefinition) -> str:
    """16 hexadecimal digits: equal for equal definitions, on every machine."""
    return hashlib.sha256(_canonical.encode(definition)).hexdigest()[:16]


def check_structure(definition: PipelineDefinition, at: str = "") -> None:
    """Raises InvalidPipeline with the path of the first fault; ``at`` is the path of the definition itself."""
    for number, (step, path, depth) in enumerate(_walk(definition.steps, f"{at}steps", 0), 1):
        too_many_steps(number, path)
        if depth > _DEEPEST:
            raise InvalidPipeline(f"nested more than {_DEEPEST} deep", path=path)
        _check(step, path)
    _check_retry(definition.retry, f"{at}retry")
    for place, name in enumerate(definition.output or ()):
        _check_field(name, f"{at}output[{place}]")


def too_many_steps(number: int, path: str) -> None:
    """Raises InvalidPipeline where it is."""
    if number > MOST_STEPS:
        raise InvalidPipeline(
            f"more than {MOST_STEPS:,} steps, those of pipelines within counted; maps and loops repeat steps", path=path
        )


def kind_of(step: StepDefinition, path: str) -> str:
    """Which of the kinds a step is; exactly one."""
    kinds = [kind for kind in KINDS if getattr(step, kind) is not None]
    if len(kinds) == 1:
        return kinds[0]
    said = f"it has {' and '.join(kinds)}" if kinds else "it has none"
    raise InvalidPipeline(f"a step is exactly one of {', '.join(KINDS)}; {said}", path=path)


def bodies(step: StepDefinition) -> Iterator[tuple[str, tuple[StepDefinition, ...]]]:
    """The lists of steps below a step, each with its path from it."""
    if step.parallel is not None:
        yield "parallel", step.parallel
    if step.sequence is not None:
        yield "sequence", step.sequence
    if step.do is not None:
        yield "do", step.do
    for place, case in enumerate(step.branch or ()):
        yield f"branch[{place}].do", case.do
    if step.otherwise is not None:
        yield "otherwise", step.otherwise
    if step.loop is not None:
        yield "loop", step.loop


def _walk(steps: tuple[StepDefinition, ...], path: str, depth: int) -> Iterator[tuple[StepDefinition, str, int]]:
    for place, step in enumerate(steps):
        here = f"{path}[{place}]"
        yield step, here, depth
        for name, below in bodies(step):
            yield from _walk(below, f"{here}.{name}", depth + 1)


def _check(step: StepDefinition, path: str) -> None:
    kind = kind_of(step, path)
    defaults = StepDefinition()
    said = {name for name in _ANY if getattr(step, name) != getattr(defaults, name)}
    _refuse(said - _SAYS[kind], f"a {kind.removesuffix('_s')} step", path)
    for name, below in bodies(step):
        if not below:
            raise InvalidPipeline(f"{name} has no steps", path=f"{path}.{name}")
    _CHECKS.get(kind, _check_nothing)(step, path)
    _check_fields(step, path)
    _check_retry(step.retry, f"{path}.retry")


def _check_nothing(step: StepDefinition, path: str) -> None:
    pass


def _check_handler(step: StepDefinition, path: str) -> None:
    kind = kind_of(step, path)
    try:
        dotted(getattr(step, kind).replace(":", "."), "handler")
    except InvalidName as error:
        raise InvalidPipeline(error.message, path=f"{path}.{kind}", code="invalid_name") from error
    if step.pool is not None:
        _check_token(step.pool, "pool", f"{path}.pool")
        if step.pool == subjects.ROUTER_POOL:
            raise InvalidPipeline(f"the pool {step.pool!r} is the router's own", path=f"{path}.pool")


def _check_pipeline(step: StepDefinition, path: str) -> None:
    assert step.pipeline is not None
    _check_token(step.pipeline, "pipeline", f"{path}.pipeline")
    if step.version is not None:
        _check_token(step.version, "version", f"{path}.version")


def _check_join(step: StepDefinition, path: str) -> None:
    if (step.join == "quorum") != (step.quorum is not None):
        raise InvalidPipeline("'join: quorum' and 'quorum', how many, go together", path=f"{path}.quorum")
    if step.join != "all" and step.on_error != "fail":
        raise InvalidPipeline("'on_error' is for a join of all; the others do not fail by one", path=f"{path}.on_error")
    if step.parallel is not None and (step.quorum or 0) > len(step.parallel):
        raise InvalidPipeline(f"a quorum of {step.quorum} out of {len(step.parallel)} branches", path=f"{path}.quorum")


def _check_map(step: StepDefinition, path: str) -> None:
    _check_join(step, path)
    if step.do is None:
        raise InvalidPipeline("a map needs 'do', the steps for each item", path=f"{path}.do")
    if step.map is None or not _CONTEXT_PATH.fullmatch(step.map):
        raise InvalidPipeline(f"{step.map!r} is no path into the context, such as 'parts'", path=f"{path}.map")
    _check_field(step.item, f"{path}.item")


def _check_branch(step: StepDefinition, path: str) -> None:
    if not step.branch:
        raise InvalidPipeline("branch has no cases", path=f"{path}.branch")
    for place, case in enumerate(step.branch):
        _check_condition(case.when, f"{path}.branch[{place}].when")


def _check_loop(step: StepDefinition, path: str) -> None:
    if step.until is None:
        raise InvalidPipeline("a loop needs 'until', the condition that ends it", path=f"{path}.until")
    _check_condition(step.until, f"{path}.until")


def _check_wait(step: StepDefinition, path: str) -> None:
    assert step.wait is not None
    _check_token(step.wait, "signal", f"{path}.wait")
    if step.default is not None and step.timeout_s is None:
        raise InvalidPipeline("'default' is for a wait with a 'timeout_s'", path=f"{path}.default")


_CHECKS: dict[str, Callable[[StepDefinition, str], None]] = {
    "native": _check_handler,
    "module": _check_handler,
    "call": _check_handler,
    "pipeline": _check_pipeline,
    "parallel": _check_join,
    "map": _check_map,
    "branch": _check_branch,
    "loop": _check_loop,
    "wait": _check_wait,
}


def _check_condition(text: str, path: str) -> None:
    try:
        names(text)
    except ConditionError as error:
        raise InvalidPipeline(str(error), path=path, code="invalid_condition") from error


def _check_token(value: str, what: str, path: str) -> None:
    try:
        token(value, what)
    except InvalidName as error:
        raise InvalidPipeline(error.message, path=path, code="invalid_name") from error


def _refuse(names: set[str], what: str, path: str) -> None:
    if names:
        raise InvalidPipeline(f"{what} has no {sorted(names)[0].rstrip('_')!r}", path=path)


def _check_fields(step: StepDefinition, path: str) -> None:
    if step.save_as is not None:
        _check_field(step.save_as, f"{path}.save_as")
    both = sorted(set(step.with_) & set(step.inputs))
    if both:
        raise InvalidPipeline(f"{both[0]!r} is given in 'with' and in 'inputs'; choose one", path=f"{path}.inputs")
    for field, source in step.inputs.items():
        if not _CONTEXT_PATH.fullmatch(source):
            raise InvalidPipeline(
                f"{source!r} is no path into the context, such as 'parts.0.text'", path=f"{path}.inputs.{field}"
            )
    for field, target in step.outputs.items():
        _check_field(target, f"{path}.outputs.{field}")
    if len(set(step.outputs.values())) < len(step.outputs):
        raise InvalidPipeline("two outputs get one name", path=f"{path}.outputs", code="output_conflict")
    if step.save_as is not None and step.outputs:
        raise InvalidPipeline(
            "'outputs' renames fields that 'save_as' keeps together; choose one", path=f"{path}.save_as"
        )


def _check_retry(policy: RetryPolicy | None, path: str) -> None:
    """A pattern, or a sentence, would match no error, and nobody would notice."""
    for place, code in enumerate(policy.codes or () if policy else ()):
        if not _CODE.fullmatch(code):
            raise InvalidPipeline(f"{code!r} cannot be an error's code", path=f"{path}.codes[{place}]")


def _check_field(name: str, path: str) -> None:
    if not _FIELD.fullmatch(name):
        raise InvalidPipeline(f"{name!r} cannot be a field's name", path=path)
