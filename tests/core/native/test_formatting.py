"""An answer with its sources: nothing of a document becomes markup."""

from __future__ import annotations

from dspex_services.native.formatting import markdown, sources_of
from dspex_services.native.retrieval import Passage


def made(title: str, text: str, source: str = "a.md") -> str:
    passage = Passage(id="1", text=text, source=source, title=title)
    return markdown("Is *this* a <b>question</b>?", "Yes, **it is**.", sources_of([passage], [1]))


def test_titles_quotes_and_questions_are_escaped_and_the_answer_is_the_models() -> None:
    shown = made("A [link](http://x) and `code`", "# Not a heading | <script> ![x](y) snake_case ~~gone~~")
    assert r"## Is \*this\* a \<b\>question\</b\>?" in shown
    assert "Yes, **it is**." in shown
    assert r"1. **A \[link\](http://x) and \`code\`** (`a.md`): # Not a heading \| \<script\> !\[x\](y)" in shown
    assert r"snake\_case \~\~gone\~\~" in shown


def test_a_source_with_backticks_stays_code() -> None:
    assert "(`` a`b.md ``)" in made("t", "x", "a`b.md")
    assert "(``` a``b.md ```)" in made("t", "x", "a``b.md")
