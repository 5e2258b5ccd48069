"""Every command as a user meets it: what it prints, for a person and for a program, and how it ends."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from dspex.cli import COMMANDS, cli

from .conftest import RunningSystem, command
from .processes import dspex, dspex_here, offline_environment

NOBODY = "nats://127.0.0.1:1"
HELLO = """
name: hello
steps:
  - native: template
    with: {template: "Hello {{ name }}"}
"""


@pytest.fixture
def hello(tmp_path: Path) -> str:
    file = tmp_path / "hello.yaml"
    file.write_text(HELLO)
    return str(file)


class Ask:
    """Commands against the running system."""

    def __init__(self, running: RunningSystem) -> None:
        self._environment = running.environment

    def __call__(self, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        return dspex_here(*arguments, environment=self._environment, **options)

    def process(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return dspex(*arguments, environment=self._environment)

    def json(self, *arguments: str, code: int = 0, **options: Any) -> Any:
        """What a command prints with ``--json``: one document and nothing else."""
        done = self(*arguments, "--json", **options)
        assert done.returncode == code, done.stderr
        return json.loads(done.stdout)

    def starts(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "dspex", *arguments],
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


@pytest.fixture
def ask(running: RunningSystem) -> Ask:
    return Ask(running)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_says_what_each_command_and_option_does(name: str) -> None:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    assert CliRunner().invoke(command, ["--help"]).exit_code == 0
    commands = list(command.commands.values()) if isinstance(command, click.Group) else [command]
    for one in commands:
        assert one.help
        assert one.short_help
        options = [option for option in one.params if isinstance(option, click.Option)]
        undescribed = [option.name for option in options if not option.help and option.default is None]
        assert not undescribed, one.name


def test_unknown_command_and_option() -> None:
    done = dspex("frobnicate")
    assert (done.returncode, done.stdout) == (2, "")
    assert "frobnicate" in done.stderr
    assert dspex("run", "x.yaml", "--tiemout", "1").returncode == 2


class TestRun:
    def test_yaml_file(self, ask: Ask, hello: str) -> None:
        done = ask.process("run", hello, "name=Ada")
        assert done.returncode == 0
        assert json.loads(done.stdout.splitlines()[-1]) == {"text": "Hello Ada"}
        assert "✓ template  native · pool native" in done.stdout
        assert "\x1b" not in done.stdout

    def test_json_file_with_input_from_standard_input(self, ask: Ask, tmp_path: Path) -> None:
        file = tmp_path / "hello.json"
        file.write_text(
            json.dumps({"steps": [{"native": "template", "with": {"template": "{{ name }}: {{ n + 1 }}"}}]})
        )
        result = ask.json("run", str(file), "n=2", "--input", "-", input='{"name": "Ada", "n": 7}')
        assert result["output"] == {"text": "Ada: 3"}

    def test_input_from_a_file(self, ask: Ask, hello: str, tmp_path: Path) -> None:
        (tmp_path / "input.json").write_text('{"name": "Ada"}')
        assert ask.json("run", hello, "--input", f"@{tmp_path / 'input.json'}")["output"] == {"text": "Hello Ada"}

    def test_a_field_is_what_a_file_holds(self, ask: Ask, tmp_path: Path) -> None:
        (tmp_path / "note.txt").write_text("7 lines of it")
        (tmp_path / "more.json").write_text('{"n": 7}')
        (tmp_path / "broken.json").write_text('{"n": 7')
        template = "template={{ note }}, {{ more.n + 1 }}, {{ handle }}"
        asked = ("call", "template", "--with", template, f"note=@{tmp_path / 'note.txt'}", "handle=@@ada")
        found = ask.json(*asked, f"more=@{tmp_path / 'more.json'}")
        assert found["outputs"] == {"text": "7 lines of it, 8, @ada"}
        lost = ask(*asked, "more=@nowhere")
        assert lost.returncode == 2
        assert "cannot read nowhere: No such file" in lost.stderr
        assert "@@nowhere" in lost.stderr
        broken = ask(*asked, f"more=@{tmp_path / 'broken.json'}")
        assert (broken.returncode, "is not JSON" in broken.stderr) == (2, True)

    def test_detached_it_prints_the_id_alone(self, ask: Ask, hello: str) -> None:
        done = ask("run", hello, "name=Ada", "--session", "left-alone", "--detach")
        assert (done.returncode, done.stdout) == (0, "left-alone\n")
        assert "dspex watch left-alone" in done.stderr

    def test_a_file_is_an_input_by_reference(self, ask: Ask, tmp_path: Path) -> None:
        (tmp_path / "note.txt").write_text("The lease lasts 10 seconds.")
        signed = "signature=note: dspy.File, question -> answer"
        asked = ("call", "predict", "question=How long does the lease last?", "--with", signed)
        found = ask.json(*asked, "--file", f"note={tmp_path / 'note.txt'}")
        assert "10 seconds" in found["outputs"]["answer"]
        assert found["implementation"] == "dspy"
        lost = ask(*asked, "--file", f"note={tmp_path / 'no.txt'}")
        assert (lost.returncode, "No such file" in lost.stderr) == (2, True)

    def test_run_that_fails_says_why_and_exits_with_1(self, ask: Ask, tmp_path: Path) -> None:
        file = tmp_path / "bad.yaml"
        file.write_text("steps: [{native: rough.raise}]")
        result = ask.json("run", str(file), "text=boom [/]", code=1)
        assert (result["status"], result["error"]["code"]) == ("failed", "handler_error")
        done = ask.process("run", str(file), "text=boom [/]")
        assert done.returncode == 1
        assert "handler_error" in done.stderr
        assert "dspex watch" in done.stderr

    @pytest.mark.parametrize(
        ("arguments", "code", "said"),
        [
            (["nowhere.yaml"], 1, "No such file"),
            (["nowhere"], 1, "no pipeline 'nowhere'"),
            (["HELLO"], 1, "'name' is undefined"),
            (["HELLO", "name"], 2, "'name' is not field=value"),
            (["HELLO", "--input", "{"], 2, "not JSON"),
            (["HELLO", "--input", "[1]"], 2, "must be a JSON object"),
            (["HELLO", "--input", "@nowhere"], 2, "nowhere"),
            (["HELLO", "--timeout", "0"], 2, "--timeout"),
            (["HELLO", "name=x", "--session", "a b"], 1, "session"),
        ],
    )
    def test_wrong_arguments(self, ask: Ask, hello: str, arguments: list[str], code: int, said: str) -> None:
        done = ask("run", *(hello if one == "HELLO" else one for one in arguments))
        assert done.returncode == code
        assert said in done.stderr
        assert "Traceback" not in done.stderr

    def test_the_same_session_id_is_one_session(self, ask: Ask, hello: str) -> None:
        first = ask.json("run", hello, "name=Ada", "--session", "only-once")
        assert ask.json("run", hello, "name=Ada", "--session", "only-once") == first

    def test_interrupted_it_leaves_the_session_running(self, ask: Ask, tmp_path: Path) -> None:
        gate, file = tmp_path / "gate", tmp_path / "gated.yaml"
        file.write_text(f"steps: [{{native: template, with: {{template: x}}}}, {GATED.format(path=gate)}]")
        with ask.starts("run", str(file)) as process:
            assert process.stdout is not None
            assert "template" in process.stdout.readline()
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=20)
        assert process.returncode == 130
        session = said.split()[1]
        assert f"dspex watch {session}" in said
        gate.touch()
        assert "succeeded" in ask("watch", session).stdout


GATED = "{{native: rough.wait_for_file, with: {{path: '{path}', text: done}}}}"


class TestWatch:
    def test_during_the_run_and_after_it(self, ask: Ask, tmp_path: Path) -> None:
        gate, file = tmp_path / "gate", tmp_path / "gated.yaml"
        file.write_text(f"steps: [{{native: template, with: {{template: x}}}}, {GATED.format(path=gate)}]")
        session = ask.json("run", str(file), "--detach")["session"]
        with ask.starts("watch", session, "--json") as live:
            assert live.stdout is not None
            before = [json.loads(live.stdout.readline()) for _ in range(2)]
            gate.touch()
            rest = [json.loads(line) for line in live.stdout]
            assert live.wait(20) == 0
        events = before + rest
        types = ["session.accepted", "step.succeeded", "step.succeeded", "session.ended"]
        assert [one["event"]["type"] for one in events] == types

        after = ask("watch", session, "--json", "--after", str(events[1]["sequence"]))
        assert [json.loads(line) for line in after.stdout.splitlines()] == events[2:]
        drawn = ask("watch", session).stdout
        assert "└── ✓ rough.wait_for_file  native · pool rough" in drawn

    def test_unknown_session(self, ask: Ask) -> None:
        done = ask("watch", "nobody")
        assert done.returncode == 1
        assert "unknown_session" in done.stderr
        assert ask.json("watch", "nobody", code=1)["error"]["code"] == "unknown_session"


class TestSessions:
    def test_listed_newest_first(self, ask: Ask, hello: str) -> None:
        made = [ask.json("run", hello, f"name={n}")["session"] for n in range(2)]
        listed = [one["session"] for one in ask.json("sessions", "--limit", "2")["sessions"]]
        assert listed == made[::-1]
        assert made[0] in ask("sessions").stdout

    def test_signal_that_a_run_waits_for(self, ask: Ask, tmp_path: Path) -> None:
        file = tmp_path / "approval.yaml"
        file.write_text("steps: [{wait: approval}]")
        session = ask.json("run", str(file), "--detach")["session"]
        assert ask.json("sessions", "--live")["sessions"][0]["session"] == session
        sent = ask.json("signal", session, "approval", "approved=true", "--id", "one")
        assert sent == {"session": session, "name": "approval", "created": True}
        assert ask("watch", session).stdout.count("succeeded") >= 1
        done = ask("signal", session, "approval", "--id", "two")
        assert done.returncode == 1
        assert "session_ended" in done.stderr

    def test_pause_resume_and_cancel(self, ask: Ask, tmp_path: Path) -> None:
        file = tmp_path / "long.yaml"
        file.write_text("steps: [{wait: never}]")
        session = ask.json("run", str(file), "--detach")["session"]
        assert "dspex resume" in ask("pause", session).stdout
        assert "goes on" in ask("resume", session).stdout
        assert "cancel requested" in ask("cancel", session, "--reason", "enough").stdout
        assert "cancelled" in ask("watch", session).stdout

    def test_retry_keeps_what_succeeded(self, ask: Ask, tmp_path: Path) -> None:
        gate, file = tmp_path / "gate", tmp_path / "gated.yaml"
        step = GATED.format(path=gate).replace("native:", "timeout_s: 0.2, retry: {attempts: 1}, native:")
        file.write_text(f"steps: [{{native: template, with: {{template: x}}}}, {step}]")
        failed = ask.json("run", str(file), code=1)
        gate.touch()
        again = ask.json("retry", failed["session"])["session"]
        assert again != failed["session"]
        done = ask("watch", again)
        assert "succeeded" in done.stdout
        assert done.stdout.endswith('{"text":"done"}\n')
        assert f"go on from there: dspex retry {failed['session']}" in ask("watch", failed["session"]).stderr

    @pytest.mark.parametrize("verb", ["cancel", "pause", "resume", "retry"])
    def test_unknown_session(self, ask: Ask, verb: str) -> None:
        assert ask.json(verb, "nobody", code=1)["error"]["code"] == "unknown_session"


class TestCall:
    def test_prints_the_outputs_and_what_ran(self, ask: Ask) -> None:
        done = ask("call", "template", "--with", "template=Hello {{ name }}", "name=Ada")
        first, second = done.stdout.splitlines()
        assert json.loads(first) == {"text": "Hello Ada"}
        assert second.startswith("template · native · pool native · ")

    def test_as_json(self, ask: Ask) -> None:
        signature = "signature=question -> answer"
        native = ask.json("call", "predict", "--with", signature, "question=What is 17 plus 25?")
        assert (native["outputs"], native["implementation"]) == ({"answer": "42"}, "native")
        dspy = ask.json(
            "call", "predict", "--with", signature, "question=What is 17 plus 25?", "--implementation", "dspy"
        )
        assert (dspy["outputs"], dspy["handler"]) == ({"answer": "42"}, "dspy.Predict")

    @pytest.mark.parametrize(
        ("arguments", "code"),
        [
            (["divine"], "unknown_operation"),
            (["predict", "question=x"], "invalid_input"),
            (["predict", "--with", "signature=a -> b -> c", "a=x"], "invalid_signature"),
            (["rough.hang", "--timeout", "0.3"], "deadline_exceeded"),
            (["react", "--implementation", "native"], "implementation_unavailable"),
        ],
    )
    def test_errors(self, ask: Ask, arguments: list[str], code: str) -> None:
        assert ask.json("call", *arguments, code=1)["error"]["code"] == code


class TestPipelines:
    def test_put_list_show_run_delete(self, ask: Ask, hello: str, tmp_path: Path) -> None:
        (stored,) = ask.json("pipelines", "put", hello)["pipelines"]
        assert stored["name"] == "hello"
        listed = {one["name"]: one["version"] for one in ask.json("pipelines", "list")["pipelines"]}
        assert listed["hello"] == stored["version"]
        assert ask.json("run", "hello", "name=Ada")["output"] == {"text": "Hello Ada"}

        shown = tmp_path / "shown.yaml"
        shown.write_text(ask("pipelines", "show", "hello").stdout)
        assert ask.json("pipelines", "put", str(shown))["pipelines"] == [stored]

        assert "deleted hello" in ask("pipelines", "delete", "hello").stdout
        assert ask.json("run", "hello", "name=Ada", code=1)["error"]["code"] == "unknown_pipeline"

    def test_earlier_versions_stay(self, ask: Ask, hello: str) -> None:
        (first,) = ask.json("pipelines", "put", hello)["pipelines"]
        Path(hello).write_text(HELLO.replace("Hello", "Good day"))
        (second,) = ask.json("pipelines", "put", hello)["pipelines"]
        earlier = ask.json("pipelines", "show", "hello", "--version", first["version"])
        assert earlier["definition"]["steps"][0]["with"] == {"template": "Hello {{ name }}"}
        assert ask.json("pipelines", "delete", "hello", "--version", second["version"], code=1)["error"]["message"]
        ask.json("pipelines", "delete", "hello")

    def test_bad_file_stores_nothing(self, ask: Ask, hello: str, tmp_path: Path) -> None:
        bad = tmp_path / "bad.yaml"
        bad.write_text("steps: [{native: 7}]")
        error = ask.json("pipelines", "put", hello, str(bad), code=1)["error"]
        assert error["code"] == "invalid_pipeline"
        assert "$.steps[0].native" in error["message"]
        assert "hello" not in {one["name"] for one in ask.json("pipelines", "list")["pipelines"]}


def test_schedules(ask: Ask, hello: str, tmp_path: Path) -> None:
    assert ask("pipelines", "put", hello).returncode == 0
    set_ = ask("schedules", "set", "yearly", "hello", "--cron", "0 0 1 1 *", "--timezone", "Asia/Tokyo", "name=Ann")
    assert set_.stdout.startswith("yearly runs 0 0 1 1 * (Asia/Tokyo); next: "), set_.stderr
    shown = ask("schedules", "show", "yearly").stdout
    assert "input:\n  name: Ann\n" in shown
    file = tmp_path / "again.yaml"
    file.write_text(shown.replace("yearly", "again"))
    assert ask("schedules", "put", str(file)).returncode == 0
    assert ask("schedules", "pause", "again").returncode == 0
    listed = {view["definition"]["name"]: view for view in ask.json("schedules", "list")["schedules"]}
    assert "next_ms" not in listed["again"]
    assert [tick % 1000 for tick in listed["yearly"]["next_ms"]] == [0] * 5
    assert "paused" in ask("schedules", "list").stdout
    assert ask("schedules", "resume", "again").returncode == 0
    for name in ("yearly", "again"):
        assert ask.json("schedules", "delete", name) == {"deleted": name}
    assert "no schedules; make one" in ask("schedules", "list").stdout
    assert ask.json("schedules", "show", "yearly", code=1)["error"]["code"] == "unknown_schedule"


def test_a_schedule_that_cannot_be(ask: Ask, tmp_path: Path) -> None:
    assert "Bad hour" in ask("schedules", "set", "bad", "hello", "--cron", "0 25 * * *").stderr
    file = tmp_path / "bad.yaml"
    file.write_text("name: bad\ncorn: 0 0 * * *\n")
    assert "`corn`" in ask("schedules", "put", str(file)).stderr


def test_limits(ask: Ask) -> None:
    set_ = ask("limits", "set", "gpt", "--concurrency", "8", "--per-second", "20", "--burst", "5")
    assert set_.stdout == "gpt: 8 at once, 20 a second, 5 of them in a burst\n", set_.stderr
    assert ask.json("limits", "set", "tenant.*", "--concurrency", "2")["definition"]["name"] == "tenant.*"
    assert [view["definition"]["name"] for view in ask.json("limits", "list")["limits"]] == ["gpt", "tenant.*"]
    assert "8 at once" in ask("limits", "list").stdout
    assert "limits nothing" in ask("limits", "set", "none").stderr
    assert "is no limit" in ask("limits", "set", "a b", "--concurrency", "1").stderr
    for name in ("gpt", "tenant.*"):
        assert ask.json("limits", "delete", name) == {"deleted": name}
    assert "no limits; set one" in ask("limits", "list").stdout
    assert ask.json("limits", "delete", "gpt", code=1)["error"]["code"] == "unknown_limit"


def test_pools(ask: Ask) -> None:
    pools = {pool["pool"]: pool for pool in ask.json("pools")["pools"]}
    assert {"native", "dspy", "rough"} <= set(pools)
    assert "rough.echo" in {handler["name"] for handler in pools["rough"]["workers"][0]["handlers"]}
    table = ask("pools").stdout
    assert "1 worker " in table
    columns = "pool worker busy done memory queued oldest running again late model"
    assert " ".join(table.partition("\n")[0].split()) == columns


def test_pools_watched(running: RunningSystem) -> None:
    with command("pools", "--watch", "--json", environment=running.environment) as watching:
        assert watching.stdout is not None
        for _ in range(2):
            assert "native" in {pool["pool"] for pool in json.loads(watching.stdout.readline())["pools"]}
        watching.send_signal(signal.SIGINT)
        assert watching.wait(10) == 130


def test_a_misspelt_command_is_told_the_nearest() -> None:
    done = dspex_here("optimise", environment=offline_environment())
    assert (done.returncode, "Did you mean 'optimize'?" in done.stderr) == (2, True)


class TestDoctor:
    def test_says_what_is_here(self, ask: Ask) -> None:
        checks = {check["name"]: check["status"] for check in ask.json("doctor")}
        assert {name: checks[name] for name in ("python", "server", "router", "pool native")} == dict.fromkeys(
            ("python", "server", "router", "pool native"), "ok"
        )
        assert checks["model"] == "missing"

    def test_without_a_server_it_says_what_to_start(self) -> None:
        done = dspex_here("doctor", "--timeout", "1", "--server", NOBODY, environment=offline_environment())
        assert done.returncode == 0
        assert "nothing listens" in done.stdout
        assert "dspex up" in done.stdout

    @pytest.mark.parametrize(
        ("environment", "status", "said"),
        [
            ({"DSPEX_MODEL": "openai/some"}, "missing", "set OPENAI_API_KEY"),
            ({"DSPEX_MODEL": "some"}, "failed", "names no known provider"),
            ({"DSPEX_MODEL": "openai/some", "OPENAI_API_KEY": "k"}, "ok", "openai/some"),
        ],
    )
    def test_a_model_without_its_key(self, environment: dict[str, str], status: str, said: str) -> None:
        environment = {**offline_environment(), **environment}
        done = dspex_here("doctor", "--json", "--server", NOBODY, environment=environment)
        (model,) = (check for check in json.loads(done.stdout) if check["name"] == "model")
        assert model["status"] == status
        assert said in model["found"]

    @pytest.mark.parametrize(("part", "code"), [("pool:native", 0), ("pool:nowhere", 1)])
    def test_health_check(self, ask: Ask, part: str, code: int) -> None:
        done = ask("doctor", "--require", "router", "--require", part)
        assert done.returncode == code
        assert "python" not in done.stdout


@pytest.mark.parametrize("server", [NOBODY, "nats://localhost:1", f"{NOBODY},nats://127.0.0.1:2"])
def test_where_nothing_listens_it_says_so_at_once(server: str) -> None:
    began = time.monotonic()
    done = dspex_here("pools", "--server", server, "--json", environment=offline_environment())
    assert done.returncode == 1
    error = json.loads(done.stdout)["error"]
    assert error["code"] == "disconnected"
    assert server.split(",")[0] in error["message"]
    assert "dspex up" in error["message"]
    assert time.monotonic() - began < 3, "a server that might be starting is waited for longer"


def test_a_budget_ends_a_run_and_a_tenant_s_use_is_told(ask: Ask, tmp_path: Path) -> None:
    file = tmp_path / "twice.yaml"
    step = "{call: lm, with: {prompt: 'What is 17 plus 25?'}}"
    file.write_text(f"name: twice\nsteps: [{step}, {step}]\n")
    result = ask.json("run", str(file), "--tokens", "1", "--tenant", "other", code=1)
    assert (result["error"]["code"], result["error"]["details"]["limit"]) == ("budget_exceeded", 1)
    assert result["usage"]["calls"] == 1
    limited = ask.json("tenants", "limit", "frugal", "--tokens", "1")
    assert limited["limit"]["budget"] == {"tokens": 1}
    while "budget_exceeded" not in ask("run", str(file), "--tenant", "frugal").stderr:
        pass  # a worker knows within a second what another has counted
    while not any((one["used"] or {}).get("calls") for one in ask.json("tenants", "list")["tenants"]):
        pass  # it is counted beside the step, not before its outcome
    assert "frugal" in ask("tenants", "list").stdout
    assert ask.json("tenants", "limit", "frugal", "--none")["limit"] is None
    assert ask("tenants", "limit", "frugal").returncode == 2
    assert ask.json("tenants", "reset", "frugal") == {"tenant": "frugal"}
    whole = ask.json("run", str(file), "--tenant", "generous", "--tokens", "100000")
    assert whole["usage"]["calls"] == 2


def test_explaining_a_file_an_operation_and_a_stored_pipeline(ask: Ask, hello: str) -> None:
    (step,) = ask.json("explain", hello)["steps"]
    assert (step["handler"], step["implementation"], step["pool"]) == ("template", "native", "native")
    assert "template (native)" in ask("explain", hello).stdout
    (step,) = ask.json("explain", "predict", "--with", "signature=image: dspy.Image -> caption")["steps"]
    assert (step["handler"], step["why"]) == ("dspy.Predict", "only DSPy handles dspy.Image")
    called = ask("call", "predict", "--with", "signature=q -> a", "--explain")
    assert "predict (native)" in called.stdout
    refused = ask.json("explain", "predict", "--with", "signature=q -> a", "--implementation", "native", code=0)
    assert refused["steps"][0]["why"] == "asked for"
    unknown = ask("explain", "predcit")
    assert (unknown.returncode, "did you mean 'predict'?" in unknown.stderr) == (1, True)
    ask("pipelines", "put", hello)
    assert ask.json("explain", "hello")["steps"] == ask.json("explain", hello)["steps"]
