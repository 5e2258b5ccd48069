"""Plans decoded once: runs of one pipeline start with the same bytes, and a plan is most of what starts a run."""

from __future__ import annotations

from functools import reduce
from operator import or_
from typing import Any, get_args

import msgspec
from msgspec import NODEFAULT, Raw

from .journal import JournalEvent, SessionAccepted
from .plan import Plan

_KEPT = 64
_KEPT_BYTES = 4 * 1024 * 1024
"""Of what is remembered, all together. A plan of more than a quarter of that is not."""


def _with_raw_plan() -> Any:
    """SessionAccepted, its plan not looked into."""
    fields: list[tuple[str, Any, Any]] = []
    for field in msgspec.structs.fields(SessionAccepted):
        kind = Raw if field.name == "plan" else field.type
        if field.default_factory is not NODEFAULT:
            default = msgspec.field(default_factory=field.default_factory)
        else:
            default = msgspec.field(default=field.default)
        fields.append((field.name, kind, default))
    config = SessionAccepted.__struct_config__
    return msgspec.defstruct(
        "SessionAccepted", fields, frozen=True, kw_only=True, tag_field=config.tag_field, tag=config.tag
    )


_Unread = _with_raw_plan()
_NAMES = SessionAccepted.__struct_fields__
_others = [kind for kind in get_args(JournalEvent) if kind is not SessionAccepted]
_event = msgspec.json.Decoder(reduce(or_, _others, _Unread))
_plan = msgspec.json.Decoder(Plan)
_kept: dict[bytes, Plan] = {}
_kept_bytes = 0


def read_event(data: bytes) -> JournalEvent:
    """The event in ``data``. Events that hold equal plans share one. Raises msgspec.DecodeError."""
    event: Any = _event.decode(data)
    if not isinstance(event, _Unread):
        return event  # type: ignore[no-any-return]
    values = {name: getattr(event, name) for name in _NAMES}
    values["plan"] = _decoded(bytes(values["plan"]))
    return SessionAccepted(**values)


def _decoded(data: bytes) -> Plan:
    plan = _kept.get(data)
    if plan is None:
        plan = _plan.decode(data)
        if len(data) <= _KEPT_BYTES // 4:
            _keep(data, plan)
    return plan


def _keep(data: bytes, plan: Plan) -> None:
    global _kept_bytes
    if len(_kept) >= _KEPT or _kept_bytes + len(data) > _KEPT_BYTES:
        _kept.clear()
        _kept_bytes = 0
    _kept[data] = plan
    _kept_bytes += len(data)
