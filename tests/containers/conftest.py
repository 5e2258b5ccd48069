"""compose.yaml, brought up as a user does, with the images that DSPEX_IMAGE and DSPEX_NATS_IMAGE name, or built."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

import dspex

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="session")
def engine() -> Any:
    """The Docker engine. Where none answers the tests skip, but where one is required they fail."""
    import docker

    try:
        client = docker.from_env(timeout=60)
        client.ping()
    except docker.errors.DockerException as error:
        why = f"no container engine answers: {error}"
        if os.environ.get("DSPEX_REQUIRE_ENGINE") or os.environ.get("CI") == "true":
            pytest.fail(why)
        pytest.skip(why)
    return client


class Stack:
    """The running services: by container, and as a client sees them."""

    def __init__(self, compose: Any, engine: Any, port: int) -> None:
        self.url = f"nats://127.0.0.1:{port}"
        self._compose = compose
        self._engine = engine

    def containers(self, service: str) -> list[Any]:
        found = [
            container.ID for container in self._compose.get_containers(include_all=True) if container.Service == service
        ]
        return [self._engine.containers.get(id) for id in found]

    def one(self, service: str) -> Any:
        (container,) = self.containers(service)
        return container

    def run(self, *command: str) -> None:
        """A command of compose's."""
        self._compose._run_command(cmd=[*self._compose.compose_command_property, *command])

    def down(self) -> None:
        """``compose down``, volumes kept. What else is in the network is put out of it, or it would stay: containers
        that others added, and what the engine forgot there of one that was killed."""
        (network,) = self.one("router").attrs["NetworkSettings"]["Networks"]
        self.run("stop")
        self.run("rm", "--force")
        left = self._engine.networks.get(network)
        for endpoint in left.attrs["Containers"].values():
            left.disconnect(endpoint["Name"], force=True)
        self.run("down")

    def scale(self, service: str, count: int) -> None:
        self.run("up", "--detach", "--wait", "--no-recreate", "--scale", f"{service}={count}", service)

    async def until_healthy(self, *services: str) -> None:
        with anyio.fail_after(60):
            while not all(health(container) == "healthy" for name in services for container in self.containers(name)):
                await anyio.sleep(0.1)


def health(container: Any) -> str:
    container.reload()
    return str(container.attrs["State"].get("Health", {}).get("Status", container.status))


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


@contextmanager
def composed(engine: Any, **more: str) -> Iterator[Stack]:
    """A stack of its own, with ``more`` in the environment."""
    from testcontainers.compose import DockerCompose

    port = free_port()
    settings = {
        "COMPOSE_PROJECT_NAME": f"dspex-{secrets.token_hex(3)}",
        "DSPEX_PORT": str(port),
        "DSPEX_HEALTH_INTERVAL": "1s",
        "DSPEX_DSPY_SIZE": "1",
        **more,
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(name, value)
        with DockerCompose(ROOT, compose_file_name="compose.yaml", build="DSPEX_IMAGE" not in os.environ) as compose:
            yield Stack(compose, engine, port)


@pytest.fixture(scope="module")
def stack(engine: Any) -> Iterator[Stack]:
    with composed(engine) as started:
        yield started


@pytest.fixture
async def client(stack: Stack) -> AsyncIterator[dspex.Client]:
    async with dspex.connect(stack.url) as connected:
        yield connected
