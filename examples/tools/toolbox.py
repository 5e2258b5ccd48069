# Scenario: ReAct whose tools are native handlers called over the bus, here those of a small shop.
# On a running system (dspex up), in this folder: dspex serve toolbox:handlers, and beside it: dspex run agent.yaml
import ast
import operator

import msgspec

import dspex

handlers = dspex.Handlers()

STOCK = {"lamp": (12, 30.0), "chair": (0, 85.0)}
OPERATORS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}


class Expression(msgspec.Struct, frozen=True, kw_only=True):
    expression: str


class Result(msgspec.Struct, frozen=True, kw_only=True):
    result: float


class Article(msgspec.Struct, frozen=True, kw_only=True):
    query: str


class Stock(msgspec.Struct, frozen=True, kw_only=True):
    article: str
    in_stock: int
    price: float


@handlers.handler("shop.calculate")
def calculate(request: Expression) -> Result:
    """Calculate the value of an arithmetic expression."""
    return Result(result=value_of(ast.parse(request.expression, mode="eval").body))


@handlers.handler("shop.stock")
async def stock(request: Article, step: dspex.Step) -> Stock:
    """Look up how many of an article, such as a lamp, are in stock, and its price."""
    for article, (in_stock, price) in STOCK.items():
        if article in request.query.lower():
            return Stock(article=article, in_stock=in_stock, price=price)
    raise dspex.StepError(f"no such article: {request.query}", code="unknown_article")


def value_of(node: ast.AST) -> float:
    match node:
        case ast.Constant(value=int() | float() as value):
            return float(value)
        case ast.BinOp(left=left, op=operation, right=right) if type(operation) in OPERATORS:
            return float(OPERATORS[type(operation)](value_of(left), value_of(right)))
    raise dspex.StepError("only numbers and + - * / can be calculated", code="invalid_expression")
