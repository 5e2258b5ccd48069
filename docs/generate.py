"""Write the parts of the docs that are made from the code: requests, error codes and messages in protocol.md, the
pipeline's JSON Schema, what of DSPy is supported, and what the execution router chooses.

python docs/generate.py            write them
python docs/generate.py --check    fail, naming the file, if one is not what the code says
"""

from __future__ import annotations

import inspect
import json
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import codes
import msgspec
from blocking import STUB, blocking_stub

from dspex_bus import subjects, wire
from dspex_router.plan import OPERATIONS
from dspex_router.plan.structure import KINDS
from dspex_router.shell.endpoints import add_all

DOCS = Path(__file__).parent
DSPY_MARKER = "<!-- generated from the pool's own handlers by docs/generate.py: edit those, then run `make docs` -->\n"
CHOOSING_MARKER = (
    "<!-- generated from the execution router's table by docs/generate.py: edit that, then run `make docs` -->\n"
)
MARKER = "<!-- generated from the wire types by docs/generate.py: edit those, then run `make docs` -->\n"

SECTIONS = {
    "Requests and replies": [
        wire.RunRequest,
        wire.RunResult,
        wire.Submitted,
        wire.CallRequest,
        wire.CallReply,
        wire.SessionRequest,
        wire.SessionView,
        wire.StepReport,
        wire.SessionListRequest,
        wire.SessionList,
        wire.SessionSummary,
        wire.ResultRequest,
        wire.EventsRequest,
        wire.EventPage,
        wire.StoredEvent,
        wire.CancelRequest,
        wire.PauseRequest,
        wire.SignalRequest,
        wire.SignalReply,
        wire.ForkRequest,
        wire.DeadListRequest,
        wire.DeadList,
        wire.DeadRequest,
        wire.DeadLetter,
        wire.PipelinePut,
        wire.PipelineRequest,
        wire.PipelineView,
        wire.PipelineList,
        wire.SchedulePut,
        wire.ScheduleRequest,
        wire.ScheduleView,
        wire.ScheduleState,
        wire.ScheduleList,
        wire.LimitPut,
        wire.LimitRequest,
        wire.LimitView,
        wire.LimitList,
        wire.PoolList,
        wire.PoolStatus,
        wire.WorkerPresence,
        wire.HandlerInfo,
        wire.ErrorInfo,
        wire.Usage,
        wire.Progress,
        wire.CacheReport,
        wire.CacheClear,
    ],
    "Definitions": [
        wire.PipelineDefinition,
        wire.StepDefinition,
        wire.CaseDefinition,
        wire.RetryPolicy,
        wire.ScheduleDefinition,
        wire.LimitDefinition,
    ],
    "Events": [
        wire.SessionAccepted,
        wire.Parent,
        wire.Origin,
        wire.Rounds,
        wire.Watched,
        wire.StepSucceeded,
        wire.Followed,
        wire.StepFailed,
        wire.StepTimedOut,
        wire.StepCancelled,
        wire.StepLost,
        wire.CancelRequested,
        wire.SessionPaused,
        wire.SessionResumed,
        wire.SignalReceived,
        wire.SessionSnapshot,
        wire.SessionEnded,
    ],
    "Tokens": [wire.TokensStarted, wire.TokenPiece, wire.TokenStatus, wire.TokensEnded],
    "Plans": [
        wire.Plan,
        wire.SequenceNode,
        wire.TaskNode,
        wire.PipelineNode,
        wire.SleepNode,
        wire.WaitNode,
        wire.ParallelNode,
        wire.Join,
        wire.MapNode,
        wire.BranchNode,
        wire.Case,
        wire.LoopNode,
    ],
}


def messages() -> str:
    kinds = [kind for section in SECTIONS.values() for kind in section]
    _, schemas = msgspec.json.schema_components(kinds, ref_template="#{name}")
    parts = []
    for title, section in SECTIONS.items():
        parts.append(f"## {title}\n")
        parts += [_message(kind, schemas[kind.__name__]) for kind in section]
    return "\n".join(parts)


def _message(kind: Any, schema: dict[str, Any]) -> str:
    lines = [f"### {kind.__name__}\n", inspect.cleandoc(_own_doc(kind)) + "\n" if _own_doc(kind) else ""]
    lines.append("| field | type | |\n|---|---|---|")
    required = schema.get("required", [])
    for name, field in schema["properties"].items():
        lines.append(f"| `{name}` | {_type(field)} | {_presence(name, field, required)} |")
    return "\n".join(line for line in lines if line) + "\n"


def _own_doc(kind: Any) -> str:
    return kind.__dict__.get("__doc__") or ""


def _presence(name: str, field: dict[str, Any], required: list[str]) -> str:
    if name in required:
        return "required"
    default = field.get("default")
    return "" if default in (None, [], {}, "") else f"default `{json.dumps(default)}`"


def _type(field: dict[str, Any]) -> str:
    if "$ref" in field:
        name = field["$ref"].removeprefix("#")
        return f"[{name}](#{name.lower()})"
    if "enum" in field:
        return " or ".join(f"`{json.dumps(value)}`" for value in field["enum"])
    if "anyOf" in field:
        return " or ".join(_type(option) for option in field["anyOf"])
    if field.get("type") == "array":
        items = field.get("items", {})
        return f"list of {_type(items)}" if items else "list"
    if field.get("type") == "object":
        values = field.get("additionalProperties")
        return f"object of {_type(values)}" if isinstance(values, dict) and values else "object"
    return str(field.get("type", "any"))


def pipeline_schema() -> str:
    schema = msgspec.json.schema(wire.PipelineDefinition)
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "dspex pipeline", **schema}
    step = schema["$defs"]["StepDefinition"]
    step["oneOf"] = [{"required": [kind]} for kind in KINDS]
    return json.dumps(schema, indent=2) + "\n"


def dspy_page() -> str:
    from dspex_services.dspy.support import table

    prose = (DOCS / "dspy.md").read_text("utf-8").partition(DSPY_MARKER)[0]
    return f"{prose}{DSPY_MARKER}\n{table()}\n"


def choosing_page() -> str:
    prose = (DOCS / "choosing.md").read_text("utf-8").partition(CHOOSING_MARKER)[0]
    return f"{prose}{CHOOSING_MARKER}\n{choices()}"


def choices() -> str:
    lines = ["| operation | `auto` takes | because | DSPy's form | take that for |", "|---|---|---|---|---|"]
    for name, entry in OPERATIONS.items():
        dspy = f"`{entry.dspy}`" if entry.dspy else ""
        lines.append(f"| `{name}` | {'native' if entry.native else 'DSPy'} | {entry.why} | {dspy} | {entry.when} |")
    return "\n".join(lines) + "\n"


class Asked:
    """Stands where the router's endpoints do, and remembers the table's rows."""

    def __init__(self) -> None:
        self.rows: list[str] = []

    def add(self, _name: str, subject: str, kind: Any, reply: Any, _answer: Any) -> None:
        body = f"[{kind.__name__}](#{kind.__name__.lower()})" if kind else "empty"
        self.rows.append(f"| `{subject}` | {body} | [{reply.__name__}](#{reply.__name__.lower()}) |")


def requests() -> str:
    asked = Asked()
    add_all(asked, mock.Mock())  # type: ignore[arg-type]
    told = [row for row in asked.rows if not row.startswith(tuple(f"| `{subjects.ROOT}.{verb}." for verb in _TOLD))]
    return "\n".join(["| subject | body | reply |", "|---|---|---|", *told])


_TOLD = ("run", "submit", "call")  # in sections of their own


def filled(prose: str, name: str, made: str) -> str:
    """``prose`` with what was made between the two marks of that name."""
    begin, end = f"<!-- {name}: written by docs/generate.py -->\n", f"<!-- end of {name} -->"
    before, _, rest = prose.partition(begin)
    _, found, after = rest.partition(end)
    if not found:
        raise SystemExit(f"protocol.md has no place for its {name}")
    return f"{before}{begin}\n{made}\n\n{end}{after}"


def protocol_page() -> str:
    prose = (DOCS / "protocol.md").read_text("utf-8").partition(MARKER)[0]
    prose = filled(filled(prose, "requests", requests()), "error codes", codes.table())
    return f"{prose}{MARKER}\n{messages()}"


def generated() -> dict[Path, str]:
    return {
        DOCS / "protocol.md": protocol_page(),
        DOCS / "pipeline.schema.json": pipeline_schema(),
        DOCS / "dspy.md": dspy_page(),
        DOCS / "choosing.md": choosing_page(),
        STUB: blocking_stub(),
    }


def main() -> None:
    stale = {path: text for path, text in generated().items() if not path.exists() or path.read_text("utf-8") != text}
    if "--check" in sys.argv:
        for path in stale:
            print(f"{path.name} is not what the code says; run: make docs")
        sys.exit(1 if stale else 0)
    for path, text in stale.items():
        path.write_text(text, "utf-8")
        print(f"wrote {path.name}")


if __name__ == "__main__":
    main()
