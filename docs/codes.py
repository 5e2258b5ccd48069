"""Every error code, what it means and whether the same may be tried again; and those that the code says, for the test
that holds one against the other."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGES = ("bus/dspex_bus", "router/dspex_router", "services/dspex_services", "sdk/dspex")
PRIVATE = {"home_busy", "home_leaving"}
"""Said among workers, and never told to a client."""

CODES: dict[str, dict[str, tuple[str, str]]] = {
    "Requests": {
        "malformed_message": ("the body is not the message that belongs there; says where", "no"),
        "invalid_request": ("a value cannot be used", "no"),
        "invalid_name": ("a name has letters that names may not have, or is too long, taken or reserved", "no"),
        "invalid_input": ("a constant or a field of a step has the wrong form", "no"),
        "missing_field": ("a step, or a request, lacks a field; says which there are", "no"),
        "payload_too_large": ("more than the system carries; `details` has `size` and `limit`", "no"),
        "object_gone": ("the object that holds a message's body is not there any more", "no"),
        "unknown_object": ("an input refers to an object that is not in the store", "no"),
        "not_permitted": ("the server does not let this user say or hear that", "no"),
        "not_found": ("what was asked for is not there", "no"),
        "unknown_pipeline": ("no pipeline of that name is stored", "no"),
        "unknown_session": ("no such session; it may have been purged", "no"),
        "unknown_step": ("a fork names a step that the session has not come to", "no"),
        "unknown_schedule": ("no such schedule", "no"),
        "unknown_limit": ("no such limit", "no"),
        "unknown_letter": ("no such dead letter", "no"),
        "unknown_thread": ("no such conversation", "no"),
        "session_exists": ("the id is taken by another run", "no"),
        "session_ended": ("the session is over", "no"),
        "session_not_failed": ("a retry of a session that has not ended, or has succeeded", "no"),
        "conflict": ("somebody else was first; read what they decided", "no"),
        "unavailable": ("something does not answer just now", "yes"),
        "overloaded": ("too much at once; `details.retry_after_s`", "yes"),
        "newer_journal": (
            "the session was started by a release newer than the router that answers; `details.release` is what it "
            "takes. A `cancel` is stored all the same",
            "yes",
        ),
        "deadline_exceeded": ("time ran out: of the request, or of the run", "sometimes"),
        "store_failed": ("the server did not store a message", "sometimes"),
        "internal": ("a fault of dspex's own", "no"),
    },
    "Definitions": {
        "invalid_pipeline": ("the definition is wrong; `details.path` names the place", "no"),
        "invalid_condition": ("a condition does not compile, or names a field that nothing writes", "no"),
        "invalid_signature": ("a signature does not compile; says the place", "no"),
        "unknown_operation": ("neither an operation nor a handler that a live worker offers", "no"),
        "unknown_handler": ("no live worker offers the handler; says which there are", "no"),
        "ambiguous_pool": ("several pools offer the handler; say which with `pool`", "no"),
        "implementation_unavailable": ("the operation has no such implementation", "no"),
        "unsupported_natively": ("`implementation: native` cannot do what the step asks for", "no"),
        "output_conflict": ("two branches write the same field", "no"),
        "recursive_pipeline": ("a pipeline would run itself", "no"),
        "needs_stored_run": ("a step that only a stored run can have, with `durability: none`", "no"),
        "no_workers": ("no live worker in the pool; says how to start one", "yes"),
    },
    "Steps and runs": {
        "handler_error": ("the handler raised; the message has the type and text", "no"),
        "step_failed": ("the handler said that it failed, and no more", "no"),
        "step_timed_out": ("the step took longer than it may", "yes"),
        "worker_lost": ("two workers died of the attempt", "no"),
        "cancelled": ("the run was cancelled, or the step is not needed any more", "sometimes"),
        "invalid_output": ("a handler's output is no object, or not of the type it says", "no"),
        "condition_failed": ("a condition could not be decided on what is there", "no"),
        "join_failed": ("fewer branches succeeded than the join takes", "no"),
        "join_timed_out": ("the branches were not joined in time", "no"),
        "wait_timed_out": ("the signal did not come in time", "no"),
        "too_much_at_once": ("a map or a loop would begin too many steps at once", "no"),
        "cannot_remember": ("the step has `remember`, and its handler takes part in no conversation", "no"),
        "turn_too_large": ("one turn is larger than a conversation may be", "no"),
        "broken_journal": ("a journal that no router can have written; the session is left alone", "no"),
    },
    "Models": {
        "invalid_fields": ("inputs do not fit the signature; names each field", "no"),
        "reply_malformed": ("the model's reply does not fit the signature's outputs", "yes"),
        "assertion_failed": ("the outputs did not become what was asked for", "no"),
        "lm_not_configured": ("the worker's environment names no model", "no"),
        "lm_auth": ("the key is missing, or refused", "no"),
        "lm_quota": ("the account has nothing left", "no"),
        "lm_bad_request": ("the model's service refuses the request", "no"),
        "lm_context_too_long": ("the prompt is longer than the model takes", "no"),
        "lm_rate_limited": ("the service's limit, or one of our own; `details.retry_after_s`", "yes"),
        "lm_unavailable": ("the service cannot be reached, or failed", "yes"),
        "lm_circuit_open": ("the service failed often, and is left alone for a moment", "yes"),
        "lm_timeout": ("the service did not answer in time", "yes"),
        "lm_bad_reply": ("the service's answer is no answer", "yes"),
        "lm_failed": ("anything else about a model", "no"),
        "budget_exceeded": ("the run or its tenant has nothing left", "no"),
        "price_unknown": ("a budget of cost, and a model without a price", "no"),
    },
    "DSPy and tools": {
        "dspy_failed": ("DSPy raised an error of its own", "no"),
        "unknown_module": ("the pool lists no such module", "no"),
        "sandbox_not_configured": ("the step runs code that a model writes, and the operator has not said where", "no"),
        "unknown_tool": ("no live worker offers the tool", "yes"),
        "tool_failed": ("an MCP server says that its tool failed", "no"),
        "tool_timed_out": ("an MCP server did not answer in time", "yes"),
        "tool_unavailable": ("an MCP server is gone", "yes"),
    },
    "Documents, searches and templates": {
        "folder_not_found": ("no such folder", "no"),
        "folder_not_allowed": ("a path that leads out of what the operator opened", "no"),
        "folder_empty": ("the folder has no documents", "no"),
        "document_unreadable": ("a document cannot be read", "no"),
        "unknown_embedder": ("no such embedder", "no"),
        "search_not_configured": ("the worker's environment names no such service", "no"),
        "search_unavailable": ("the service does not answer, or refuses", "yes"),
        "invalid_template": ("the template does not compile; line and column", "no"),
        "template_failed": ("the template could not be filled in; the line", "no"),
        "unknown_template": ("no such template, or no such version of it", "no"),
        "template_not_allowed": ("a path that leads out of the operator's folder of templates", "no"),
        "templates_not_configured": ("the operator named no folder of templates", "no"),
        "damaged_template": ("a stored template is not what was stored", "no"),
    },
    "Programs, evaluations and optimizers": {
        "unknown_program": ("no such program, version or tag", "no"),
        "invalid_program": ("the program cannot be used here", "no"),
        "program_mismatch": ("the program is another module's, or of a signature with other fields", "no"),
        "damaged_program": ("a stored program is not what was stored", "no"),
        "pickle_refused": ("a program in a pickle: loading one runs whatever it says", "no"),
        "unknown_dataset": ("no such data set in the store", "no"),
        "invalid_dataset": ("the data set cannot be used", "no"),
        "damaged_dataset": ("a stored data set is not what was stored", "no"),
        "unknown_metric": ("no such metric", "no"),
        "invalid_metric": ("the metric cannot be used, or its score is none", "no"),
        "metric_failed": (
            "a metric raised: one that the client serves, or, at every try, an optimizer's or a reward",
            "no",
        ),
        "caller_gone": ("the client that serves the metric is gone", "yes"),
        "invalid_job": ("the job cannot be run; says what to change", "no"),
        "unknown_optimizer": ("no such optimizer", "no"),
        "invalid_option": ("an option of the optimizer cannot be used; `details.option`", "no"),
        "conflicting_options": ("options that do not go together", "no"),
        "optimizer_lost": ("the job's workers were lost again and again without anything new", "no"),
    },
    "On the client's side": {
        "disconnected": ("there is no connection to the server", "yes"),
        "no_router": ("no router answers on the server", "yes"),
        "no_responders": ("nobody answers on a subject", "yes"),
        "no_jetstream": ("the server has no JetStream, or is still starting it", "yes"),
        "slow_consumer": ("messages came faster than they were taken, and some are lost", "yes"),
        "run_failed": ("a run ended without success, and said no more", "no"),
        "file_unreadable": ("a file cannot be read", "no"),
        "not_installed": ("a package is missing; says which to install", "no"),
        "setup": ("this machine lacks something; says how to get it", "no"),
        "port_in_use": ("the port is taken", "no"),
        "data_in_use": ("another server has the data directory", "no"),
    },
}


def table() -> str:
    parts = []
    for title, codes in CODES.items():
        parts.append(f"### {title}\n\n| code | meaning | again? |\n|---|---|---|")
        parts += [f"| `{code}` | {meaning} | {again} |" for code, (meaning, again) in codes.items()]
        parts.append("")
    return "\n".join(parts).rstrip()


def said() -> dict[str, set[str]]:
    """Each code that the packages say, and the files that say it: as ``code=``, as a class's ``code``, as what the
    router's core gives to ``failure``, and in the table of DSPy's errors."""
    found: dict[str, set[str]] = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                for code in _codes(node):
                    found.setdefault(code, set()).add(str(path.relative_to(ROOT)))
    return found


def _codes(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.Call(func=ast.Name(id="failure"), args=[_, code, *_]):
            yield from _texts(code)
        case ast.keyword(arg="code", value=code):
            yield from _texts(code)
        case ast.ClassDef(body=body):
            for line in body:
                match line:
                    case ast.Assign(targets=[ast.Name(id="code")], value=code):
                        yield from _texts(code)
                    case ast.AnnAssign(target=ast.Name(id="code"), value=ast.expr() as code):
                        yield from _texts(code)
        case ast.AnnAssign(target=ast.Name(id="_CODES"), value=ast.Tuple(elts=rows)):
            for row in rows:
                if isinstance(row, ast.Tuple):
                    yield from _texts(row.elts[1])


def _texts(value: ast.expr) -> Iterator[str]:
    match value:
        case ast.Constant(value=str() as text) if text:
            yield text
        case ast.IfExp(body=body, orelse=orelse):
            yield from _texts(body)
            yield from _texts(orelse)
