"""The options of ``dspex router`` and the fields of its configuration."""

from __future__ import annotations

import click
from click.testing import CliRunner

from dspex.cli.parts import router
from dspex.cli.routing import routing_options, settings
from dspex_router import RouterConfig

NOT_OFFERED = {"call_timeout_s", "sweep_s", "store_tries", "purge_s", "stray_s"}
"""Of no use to anybody who does not know the router from inside."""


def _given(*arguments: str) -> RouterConfig:
    found: list[RouterConfig] = []

    @click.command()
    @routing_options
    def command(**options: object) -> None:
        found.append(RouterConfig(**settings(**options)))  # type: ignore[arg-type]

    done = CliRunner().invoke(command, list(arguments))
    assert done.exit_code == 0, done.output
    return found[0]


def test_without_options_a_router_is_as_its_configuration_says() -> None:
    assert _given() == RouterConfig()


def test_each_setting_has_an_option() -> None:
    other = _given(
        *("--retention-days", "1", "--largest-mb", "1", "--run-timeout", "60", "--pool-queue", "9", "--queue-mb", "2"),
        *("--sessions", "8", "--requests", "7", "--park-after", "0", "--compact-events", "512", "--compact-grace", "1"),
        *("--workers-grace", "0", "--tasks", "file", "--partitions", "4", "--replicas", "3"),
    )
    plain = RouterConfig()
    same = {name for name in RouterConfig.__dataclass_fields__ if getattr(other, name) == getattr(plain, name)}
    assert same == NOT_OFFERED
    assert (other.retention_s, other.largest_bytes, other.task_bytes) == (86_400.0, 1 << 20, 2 << 20)


def test_what_a_router_does_not_take_is_refused() -> None:
    done = CliRunner().invoke(router, ["--compact-events", "10"])
    assert (done.exit_code, "256" in done.output) == (2, True)
