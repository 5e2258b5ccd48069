"""What a prompt gives to answer from: the question, the passages, and the evidence that links the two."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cached_property

from .evidence import Evidence, best
from .passages import Passage, passages
from .prompt import Prompt
from .words import sentences

_QUESTION_TEXT = "question query q claim hypothesis task request problem prompt statement goal topic"
QUESTION_NAMES = tuple(_QUESTION_TEXT.split())
_LONG = 400  # characters: a lone input longer than this is material, not a question
_OBSERVATION = re.compile(r"^\[\[ ## observation_\d+ ## \]\]\n(.*?)(?=^\[\[ ## \w+_\d+ ## \]\]|\Z)", re.M | re.S)
_SHORT_WANTED = re.compile(
    r"\b(?:short|brief|concise|factoid|few words|one word|single word|\d+ (?:-|to|or) \d+ words)\b", re.IGNORECASE
)
_FIELD_MARKS = re.compile(r'\[\[ ## \w+ ## \]\]|</?\w+>|"\w+": ')
_SHORT_WORDS = 6


class Material:
    """A reading of one prompt; everything in it is derived from the prompt alone."""

    def __init__(self, prompt: Prompt) -> None:
        self.prompt = prompt
        self._question_field = _question_field(prompt.inputs)

    @cached_property
    def question(self) -> str:
        """The question, or empty text where the inputs only give material."""
        if self.prompt.style == "plain":
            return _asked_in(self.prompt.inputs["text"])
        return self.prompt.inputs.get(self._question_field or "", "")

    @cached_property
    def passages(self) -> list[Passage]:
        if self.prompt.style == "plain":
            rest = self.prompt.inputs["text"].replace(self.question, "", 1) if self.question else ""
            return passages(rest or ("" if self.question else self.prompt.inputs["text"]))
        others = (_observed(text) for name, text in self.prompt.inputs.items() if name != self._question_field)
        return [passage for text in others for passage in passages(text)]

    @cached_property
    def evidence(self) -> list[Evidence]:
        """The sentences that answer, best passage first; empty when nothing matches."""
        return best(self.question, self.passages) if self.question else []

    @cached_property
    def everything(self) -> str:
        """All that was given, as one text."""
        return "\n\n".join(self.prompt.inputs.values())

    @cached_property
    def wants_short(self) -> bool:
        """Whether the instructions, a description or the examples ask for few words."""
        said = [self.prompt.instructions, *(field.description for field in self.prompt.outputs)]
        return any(_SHORT_WANTED.search(text) for text in said) or _answers_are_short(self.prompt.examples)

    def name_of(self, index: int) -> str:
        """What a citation calls the passage ``index`` (from 0)."""
        return self.passages[index].name or str(index + 1)


def _question_field(inputs: Mapping[str, str]) -> str | None:
    for wanted in QUESTION_NAMES:
        for name in inputs:
            if name == wanted or name.endswith(f"_{wanted}"):
                return name
    candidates = [name for name in inputs if not name.startswith("trajectory")]
    shortest = min(candidates, key=lambda name: len(inputs[name]), default=None)
    return shortest if shortest is not None and len(inputs[shortest]) <= _LONG else None


def _asked_in(text: str) -> str:
    """The last sentence with a question mark; else all of a short text."""
    asked = [sentence for sentence in sentences(text) if sentence.rstrip(" \"')").endswith("?")]
    return asked[-1] if asked else (text if len(text) <= _LONG else "")


def _observed(text: str) -> str:
    """Of an agent's trajectory what its tools returned; any other text as it is."""
    if "[[ ## thought_0 ## ]]" not in text:
        return text
    found = (one.strip() for one in _OBSERVATION.findall(text))
    return "\n\n".join(one for one in found if one not in ("Completed.", "") and not one.startswith("Execution error"))


def _answers_are_short(examples: tuple[str, ...]) -> bool:
    """Of each example the last value is what a metric looks at."""
    lengths = [len(_last_value(example).split()) for example in examples]
    return bool(lengths) and max(lengths) <= _SHORT_WORDS


def _last_value(example: str) -> str:
    found = [part for part in _FIELD_MARKS.split(example) if part.strip(' \n{}",:')]
    return found[-1] if found else ""
