"""dspex: pipelines of LM programs on a message bus.

    import dspex

    qa = dspex.pipeline([
        dspex.native("template", template="Answer briefly: {{ question }}", outputs={"text": "prompt"}),
        dspex.module("dspy.ChainOfThought", signature="prompt -> answer"),
    ])

    async with dspex.connect() as dx:
        print((await dx.run(qa, {"question": "What is a pool?"})).output)

``dspex up`` starts what that needs on this machine. Importing this package imports nothing else of it: each
name is imported at its first use, and none of them imports DSPy or NumPy.
"""

from typing import TYPE_CHECKING

from dspex_bus.lazily import lazily

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

if TYPE_CHECKING:
    from dspex_bus.errors import DspexError, InvalidRequest, RunFailed, SetupError, Unavailable
    from dspex_bus.signatures import Input, Output, Signature
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
    from .signing import signature
    from .sync import connect_sync
else:
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "dspex_bus.errors": "DspexError, InvalidRequest, RunFailed, SetupError, Unavailable",
            "dspex_bus.signatures": "Input, Output, Signature",
            "dspex_bus.wire": "Budget, PipelineDefinition, RetryPolicy, RunResult, StepDefinition, StoredEvent, "
            "TokenPiece, TokensEnded, TokensStarted, TokenStatus",
            "dspex_services.errors": "StepError",
            "dspex_services.handlers": "Handlers, Step",
            "._feed": "TokenEvent",
            ".builders": "branch, call, loop, map, module, native, parallel, pipeline, sequence, sleep, "
            "subpipeline, wait",
            ".client": "Client, connect",
            ".loading": "load_pipeline, parse_pipeline",
            ".predictions": "Prediction, Predictor",
            ".sessions": "Session",
            ".signing": "signature",
            ".sync": "connect_sync",
        },
    )
