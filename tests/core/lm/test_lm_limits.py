"""Rates, the breaker, the gate, prices, and the operator's table of models."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from dspex_bus.errors import SetupError
from dspex_services.lm import Configured, LMConfig, ModelTable, Price, Usage
from dspex_services.lm.breaker import Breaker
from dspex_services.lm.gate import Gate
from dspex_services.lm.rate import Rate


def test_a_rate_lets_a_second_of_calls_go_at_once_and_spaces_the_rest() -> None:
    rate = Rate(120)  # two a second
    assert [rate.reserve(1, 100.0) for _ in range(4)] == [0.0, 0.0, 0.5, 1.0]
    assert rate.reserve(1, 103.0) == 0.0


def test_a_slow_rate_spaces_every_call() -> None:
    rate = Rate(6)
    assert [rate.reserve(1, 0.0) for _ in range(3)] == [0.0, 10.0, 20.0]


def test_an_idle_time_saves_up_no_more_than_a_burst() -> None:
    rate = Rate(60)
    rate.reserve(1, 0.0)
    assert [rate.reserve(1, 1000.0) for _ in range(2)] == [0.0, 1.0]


def test_a_large_reservation_delays_those_after_it_and_can_be_corrected() -> None:
    rate = Rate(600)  # ten a second
    assert rate.reserve(50, 0.0) == 0.0
    assert rate.reserve(1, 0.0) == pytest.approx(4.1)
    rate.settle(-40)
    assert rate.reserve(1, 0.0) == pytest.approx(0.2)


def test_a_breaker_opens_after_failures_in_a_row_and_probes_with_one_call() -> None:
    breaker = Breaker(3, 5.0)
    for now in (0.0, 1.0):
        breaker.failed(now)
    breaker.succeeded()
    for now in (2.0, 3.0):
        breaker.failed(now)
    assert breaker.refuses(3.0) == 0
    breaker.failed(4.0)
    assert breaker.refuses(5.0) == 4.0
    assert breaker.refuses(9.0) == 0, "one call probes"
    assert breaker.refuses(9.0) > 0, "the others wait for it"
    breaker.succeeded()
    assert breaker.refuses(9.0) == 0
    assert breaker.refuses(9.0) == 0


def test_a_failed_probe_doubles_the_pause_up_to_a_minute() -> None:
    breaker, now, pauses = Breaker(1, 10.0), 0.0, []
    for _ in range(5):
        breaker.failed(now)
        pauses.append(breaker.refuses(now))
        now += pauses[-1]
        assert breaker.refuses(now) == 0
    assert pauses == [10.0, 20.0, 40.0, 60.0, 60.0]


def test_a_probe_that_was_given_up_lets_another_try() -> None:
    breaker = Breaker(1, 1.0)
    breaker.failed(0.0)
    assert breaker.refuses(1.0) == 0
    breaker.gave_up()
    assert breaker.refuses(1.0) == 0


@pytest.mark.anyio
async def test_the_gate_lets_in_as_many_as_it_says_in_order() -> None:
    gate, inside, most, order = Gate(2), 0, 0, []

    async def visit(number: int) -> None:
        nonlocal inside, most
        await gate.enter()
        inside += 1
        most = max(most, inside)
        order.append(number)
        await asyncio.sleep(0)
        inside -= 1
        gate.leave()

    await asyncio.gather(*map(visit, range(20)))
    assert most == 2
    assert order == list(range(20))


@pytest.mark.anyio
async def test_one_who_gives_up_waiting_takes_nobodys_turn() -> None:
    gate = Gate(1)
    await gate.enter()
    first, second = asyncio.create_task(gate.enter()), asyncio.create_task(gate.enter())
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    gate.leave()
    await asyncio.wait_for(second, 5)
    third = asyncio.create_task(gate.enter())
    await asyncio.sleep(0)
    gate.leave()
    third.cancel()  # its turn has come, but it has not run yet
    await asyncio.gather(third, return_exceptions=True)
    await asyncio.wait_for(gate.enter(), 5)


def test_the_gate_is_one_for_event_loops_in_several_threads() -> None:
    gate, lock, inside, most = Gate(3), threading.Lock(), 0, 0

    async def visit() -> None:
        nonlocal inside, most
        await gate.enter()
        with lock:
            inside += 1
            most = max(most, inside)
        await asyncio.sleep(0.001)
        with lock:
            inside -= 1
        gate.leave()

    async def many() -> None:
        async with asyncio.timeout(20):
            await asyncio.gather(*(visit() for _ in range(40)))

    threads = [threading.Thread(target=asyncio.run, args=(many(),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert most == 3
    assert inside == 0


def test_a_price_counts_each_kind_of_token_once() -> None:
    usage = Usage(input_tokens=1_000_000, output_tokens=500_000, cached_tokens=400_000, cache_write_tokens=100_000)
    assert Price(input=2, output=8).of(usage) == pytest.approx(2 + 4)
    price = Price(input=2, output=8, cached_input=0.5, cache_write=2.5)
    assert price.of(usage) == pytest.approx(0.5 * 2 + 0.4 * 0.5 + 0.1 * 2.5 + 4)


TABLE = """
openai/small:
  price: {input: 1.5, output: 6.0}
  max_concurrent: 4
openai/*: {timeout_s: 9, requests_per_minute: 500}
"*": {base_url: "http://gateway:1/v1", key_variable: GATEWAY_KEY}
"""


def test_the_operators_table(tmp_path: Path) -> None:
    path = tmp_path / "models.yaml"
    path.write_text(TABLE)
    configured = Configured({"DSPEX_MODELS": str(path), "DSPEX_MODEL": "openai/small"})
    small, large, other = configured.get(), configured.get("openai/large"), configured.get("anthropic/x")
    assert small is not None
    assert large is not None
    assert other is not None
    assert (small.price, small.max_concurrent, small.timeout_s) == (Price(input=1.5, output=6.0), 4, 60)
    assert (large.timeout_s, large.requests_per_minute, large.price) == (9, 500, None)
    assert (other.base_url, other.key_variable) == ("http://gateway:1/v1", "GATEWAY_KEY")
    assert configured.get("openai/large") is large


@pytest.mark.parametrize(
    "text",
    ["- a", "openai/x: 3", "openai/x: {price: {input: 1}}", "openai/x: {pricee: 1}", "a: {model: openai/y}", "{",
     "openai/x: {max_concurrent: 0}"],
)  # fmt: skip
def test_a_table_that_cannot_be_used_names_the_file(tmp_path: Path, text: str) -> None:
    path = tmp_path / "models.yaml"
    path.write_text(text)
    with pytest.raises(SetupError, match=r"models\.yaml"):
        ModelTable.from_environment({"DSPEX_MODELS": str(path)})


def test_a_table_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="DSPEX_MODELS"):
        ModelTable.from_environment({"DSPEX_MODELS": str(tmp_path / "none.yaml")})


def test_the_address_of_one_provider_is_not_anothers() -> None:
    env = {"DSPEX_MODEL": "openai/a", "DSPEX_BASE_URL": "http://mine", "ANTHROPIC_BASE_URL": "http://theirs"}
    addresses = [
        config.base_url
        for name in (None, "openai/b", "anthropic/c")
        if (config := LMConfig.from_environment(env, name))
    ]
    assert addresses == ["http://mine", "http://mine", "http://theirs"]
