"""What can go wrong in a native step, by what the caller can do.

    InvalidRequest
    ├── UnsupportedNatively   the signature needs DSPy: use ``implementation="dspy"``, or ``"auto"``
    ├── TemplateError         the template does not compile; ``line`` and ``column`` say where
    │   └── TemplateFailed    the template does not render with these values
    ├── TemplateNotAllowed    the file lies outside of the operator's folder of templates
    └── TemplatesNotConfigured  the operator has named no such folder
    DspexError
    └── ReplyError            the model's reply is not what the prompt asked for; another try may be

All data lives in ``details``, so that an error rebuilt from the wire has the same properties.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from dspex_bus.errors import DspexError, InvalidRequest

_SHOWN = 400
"""Characters of a reply that a message quotes; ``raw`` holds more."""
_KEPT = 20_000


class ReplyError(DspexError):
    """Carries the ``raw`` reply (at most 20,000 characters), the ``missing`` fields and ``faults``: field -> reason."""

    code = "reply_malformed"
    retryable = True
    status = 502

    def __init__(
        self, layout: str, raw: str, *, missing: Iterable[str] = (), faults: Mapping[str, str] | None = None
    ) -> None:
        lacking = list(missing)
        said = [f"`{name}` is missing" for name in lacking]
        said += [f"`{name}`: {why}" for name, why in (faults or {}).items()]
        why = "; ".join(said) or "it is empty"
        shown = raw if len(raw) <= _SHOWN else raw[:_SHOWN] + "…"
        super().__init__(
            f"the model's reply does not fit the {layout} layout: {why}. It said: {shown!r}",
            details={"layout": layout, "raw": raw[:_KEPT], "missing": lacking, "faults": dict(faults or {})},
        )

    @property
    def layout(self) -> str:
        return str(self.details["layout"])

    @property
    def raw(self) -> str:
        return str(self.details["raw"])

    @property
    def missing(self) -> tuple[str, ...]:
        return tuple(self.details["missing"])

    @property
    def faults(self) -> dict[str, str]:
        return dict(self.details["faults"])


class UnsupportedNatively(InvalidRequest):
    """``types`` are the names in the signature that only DSPy can handle."""

    code = "unsupported_natively"

    def __init__(self, types: Iterable[str]) -> None:
        names = list(dict.fromkeys(types))
        super().__init__(f"only DSPy can handle {', '.join(names)}: run this step in DSPy", details={"types": names})

    @property
    def types(self) -> tuple[str, ...]:
        return tuple(self.details["types"])


class TemplateError(InvalidRequest):
    """``line`` and ``column``, from 1, say where in the template, or are None where that is not known. ``name`` is the
    file's or the stored template's, '' for one in the request."""

    code = "invalid_template"

    def __init__(self, reason: str, *, line: int | None = None, column: int | None = None, name: str = "") -> None:
        place = [f"line {line}"] if line else []
        place += [f"column {column}"] if column else []
        where = f"{', '.join(place)}: " if place else ""
        which = f"the template {name}" if name else "the template"
        super().__init__(
            f"{which} is wrong: {where}{reason}",
            details={"reason": reason, "line": line, "column": column, "template": name},
        )

    @property
    def line(self) -> int | None:
        value = self.details["line"]
        return None if value is None else int(value)

    @property
    def column(self) -> int | None:
        value = self.details.get("column")
        return None if value is None else int(value)


class TemplateFailed(TemplateError):
    code = "template_failed"


class TemplateNotAllowed(InvalidRequest):
    code = "template_not_allowed"
    status = 403


class TemplatesNotConfigured(InvalidRequest):
    code = "templates_not_configured"
