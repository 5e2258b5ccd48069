# Scenario: a custom module made of two predictors, named by import path and served by a pool of its own.
# On a running system (dspex up), in this folder: dspex serve twohops:TwoHops --pool hops --offline
# It asks the model that the environment names; --offline is for one that names none.
import dspy


class TwoHops(dspy.Module):
    """Finds out who or what the question is about, then answers with that at hand."""

    def __init__(self) -> None:
        self.hop = dspy.Predict("facts: list[str], question -> bridge: str")
        self.answer = dspy.ChainOfThought("facts: list[str], question, bridge -> answer")

    def forward(self, facts: list[str], question: str) -> dspy.Prediction:
        bridge = self.hop(facts=facts, question=question).bridge
        answered = self.answer(facts=facts, question=question, bridge=bridge)
        return dspy.Prediction(bridge=bridge, reasoning=answered.reasoning, answer=answered.answer)
