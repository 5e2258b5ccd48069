"""dspex: pipelines of LM programs on a message bus.

    import dspex

    qa = dspex.pipeline([
        dspex.native("template", template="Answer briefly: {{ question }}", outputs={"text": "prompt"}),
        dspex.module("dspy.ChainOfThought", signature="prompt -> answer"),
    ])

    async with dspex.connect() as dx:
        print((await dx.run(qa, {"question": "What is a pool?"})).output)

``dspex up`` starts what that needs on this machine. Importing this package imports neither DSPy nor NumPy.
"""

from dspex_bus.errors import DspexError, InvalidRequest, RunFailed, SetupError, Unavailable
from dspex_bus.signatures import Input, Output, Signature
from dspex_bus.signatures import signature_of as signature
from dspex_bus.wire import (
    Budget,
    PipelineDefinition,
    RetryPolicy,
    RunResult,
    StepDefinition,
    StoredEvent,
    TokenPiece,
    TokensEnded,
    TokensStarted,
    TokenStatus,
)
from dspex_services.errors import StepError
from dspex_services.handlers import Handlers, Step

from ._feed import TokenEvent
from .builders import (
    branch,
    call,
    loop,
    map,
    module,
    native,
    parallel,
    pipeline,
    sequence,
    sleep,
    subpipeline,
    wait,
)
from .client import Client, connect
from .loading import load_pipeline, parse_pipeline
from .predictions import Prediction, Predictor
from .sessions import Session
from .sync import connect_sync

__all__ = [
    "Budget",
    "Client",
    "DspexError",
    "Handlers",
    "Input",
    "InvalidRequest",
    "Output",
    "PipelineDefinition",
    "Prediction",
    "Predictor",
    "RetryPolicy",
    "RunFailed",
    "RunResult",
    "Session",
    "SetupError",
    "Signature",
    "Step",
    "StepDefinition",
    "StepError",
    "StoredEvent",
    "TokenEvent",
    "TokenPiece",
    "TokenStatus",
    "TokensEnded",
    "TokensStarted",
    "Unavailable",
    "branch",
    "call",
    "connect",
    "connect_sync",
    "load_pipeline",
    "loop",
    "map",
    "module",
    "native",
    "parallel",
    "parse_pipeline",
    "pipeline",
    "sequence",
    "signature",
    "sleep",
    "subpipeline",
    "wait",
]
