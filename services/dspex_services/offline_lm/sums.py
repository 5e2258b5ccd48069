"""Small arithmetic found in a question: ``What is 12 * (3 + 4)?``, ``15% of 80``, ``seven`` it does not read."""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable

_PHRASES = (
    (r"(?:sum|total) of (-?[\d.]+) and (-?[\d.]+)", r"(\1+\2)"),
    (r"product of (-?[\d.]+) and (-?[\d.]+)", r"(\1*\2)"),
    (r"difference (?:between|of) (-?[\d.]+) and (-?[\d.]+)", r"(\1-\2)"),
    (r"([\d.]+) ?(?:%|percent) of ([\d.]+)", r"(\1/100*\2)"),
    (r"\bplus\b", "+"),
    (r"\bminus\b", "-"),
    (r"\b(?:times|multiplied by)\b|[×·]", "*"),
    (r"\b(?:divided by|over)\b|÷", "/"),
    (r"\bto the power of\b|\^", "**"),
    (r"\bsquared\b", "**2"),
    (r"(?<=\d),(?=\d{3})", ""),
)
_EXPRESSION = re.compile(r"[-+(]*\d[\d.\s()+*/-]*")
_OPERATORS: dict[type[ast.AST], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}
_LARGEST_EXPONENT = 64


def expression(text: str) -> str | None:
    """The longest arithmetic expression with an operator in ``text``, or None."""
    for pattern, replacement in _PHRASES:
        text = re.sub(pattern, replacement, text, flags=re.IGNORECASE)
    found = [match.group().strip().rstrip("+-*/(. ") for match in _EXPRESSION.finditer(text)]
    return max(
        (one for one in found if _value(one) is not None and re.search(r"\d.*[+*/-]", one)), key=len, default=None
    )


def solve(text: str) -> int | float | None:
    """The value of the arithmetic in ``text``, whole where it is whole, or None when there is none."""
    found = expression(text)
    value = None if found is None else _value(found)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return round(value, 10) if isinstance(value, float) else value


def _value(text: str) -> int | float | None:
    try:
        return _evaluate(ast.parse(text, mode="eval").body)
    except (SyntaxError, ValueError, ArithmeticError, RecursionError):
        return None


def _evaluate(node: ast.expr) -> int | float:
    match node:
        case ast.Constant(value=int() | float() as number):
            return number
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_evaluate(operand)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            a, b = _evaluate(left), _evaluate(right)
            if isinstance(op, ast.Pow) and abs(b) > _LARGEST_EXPONENT:
                raise ValueError("exponent too large")
            result = _OPERATORS[type(op)](a, b)
            if isinstance(result, complex):
                raise ValueError("not real")
            return result
    raise ValueError("not arithmetic")
