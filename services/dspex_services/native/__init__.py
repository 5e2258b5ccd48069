"""Native steps: what an LM pipeline does in our own Python, without DSPy."""
