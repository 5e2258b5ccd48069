"""A run as a tree in the terminal, or as lines in a pipe."""

from __future__ import annotations

from rich.text import Text
from rich.tree import Tree

from dspex_bus.wire import TaskNode

from ..progression import Progression, StepProgress, repeats

_MOST_CHARACTERS = 600
_MOST_LINES = 8

_MARKS = {
    "pending": ("·", "dim"),
    "running": ("▸", "cyan"),
    "retrying": ("↻", "yellow"),
    "succeeded": ("✓", "green"),
    "failed": ("✗", "red"),
    "timed_out": ("✗", "red"),
    "lost": ("✗", "red"),
    "cancelled": ("–", "yellow"),
}


def tree(progression: Progression) -> Tree:
    """The plan's nodes, each with its state, implementation, pool, worker and time."""
    root = Tree(_title(progression), guide_style="dim")
    branches = {-1: root}
    for step in progression.steps.values():
        branch = branches[step.depth] = branches[step.depth - 1].add(label(step))
        for name, writing in step.writing.items():
            branch.add(Text.assemble((f"{name or 'text'}  ", "dim"), _shortened(writing.text)))
    return root


def _shortened(text: str) -> str:
    """The last words, on as many lines as a terminal has room for."""
    lines = text[-_MOST_CHARACTERS:].splitlines()[-_MOST_LINES:]
    return "\n".join(lines)


def line(step: StepProgress) -> Text:
    """One step on one line, indented by its depth."""
    return Text("  " * (step.depth + 1)) + label(step)


def label(step: StepProgress) -> Text:
    mark, style = _MARKS[step.status]
    text = Text.assemble((f"{mark} ", style), (step.node.name, "bold"))
    text.append(_where(step), style="dim")
    if step.attempt > 1:
        text.append(f"  attempt {step.attempt}", style="yellow")
    if step.duration_us:
        text.append(f"  {milliseconds(step.duration_us)}", style="cyan")
    if repeats(step) and step.succeeded + step.failed:
        text.append(f"  {step.succeeded} done", style="green")
        if step.failed:
            text.append(f", {step.failed} failed", style="red")
    if step.cached:
        text.append("  from the cache", style="green")
    if step.note:
        text.append(f"  {step.note}", style="dim")
    if step.error is not None and step.status != "succeeded":
        text.append(f"  {step.error.code}: {step.error.message}", style="red")
    return text


def milliseconds(duration_us: int) -> str:
    return f"{duration_us / 1000:.1f} ms" if duration_us < 1_000_000 else f"{duration_us / 1_000_000:.2f} s"


def _where(step: StepProgress) -> str:
    if not isinstance(step.node, TaskNode):
        return f"  {step.node.__struct_config__.tag}"
    handler = "" if step.node.handler == step.node.name else f"  {step.node.handler}"
    worker = f" · {step.worker}" if step.worker else ""
    return f"{handler}  {step.node.implementation} · pool {step.node.pool}{worker}"


def _title(progression: Progression) -> Text:
    if progression.plan is None:
        return Text("waiting for the first event", style="dim")
    text = Text.assemble((progression.plan.pipeline, "bold"), (f"  session {progression.session}", "dim"))
    if progression.ended is None:
        text.append(f"  {progression.done} of {progression.total} steps", style="cyan")
    else:
        style = "green" if progression.ended.status == "succeeded" else "red"
        took = (progression.ended_ms - progression.accepted_ms) * 1000
        text.append(f"  {progression.ended.status} in {milliseconds(took)}", style=style)
    return text
