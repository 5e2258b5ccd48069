# Scenario: a user's own native handlers, in their own package, typed with msgspec Structs, served by one command.
# On a running system (dspex up), in this folder: dspex serve wordcount:handlers
import re
from collections import Counter

import msgspec

import dspex

handlers = dspex.Handlers()


class Text(msgspec.Struct, frozen=True, kw_only=True):
    text: str
    top: int = 3


class Words(msgspec.Struct, frozen=True, kw_only=True):
    count: int
    most_common: list[str]


# Cheap, without side effects, no model: where such steps follow each other, they travel as one task.
@handlers.handler("words.count", pure=True)
def count(request: Text) -> Words:
    """Count the words of a text and name the most common ones."""
    words = re.findall(r"\w+", request.text.lower())
    return Words(count=len(words), most_common=[word for word, _ in Counter(words).most_common(request.top)])


@handlers.handler("words.shout")
async def shout(request: Text, step: dspex.Step) -> dict[str, str]:
    """The text in capitals; an empty one is refused, as an error that retrying does not mend."""
    if not request.text:
        raise dspex.StepError("there is nothing to shout", code="empty_text")
    await step.progress("shouting")
    return {"text": request.text.upper()}
