"""A model's tokens on their way to whoever watches: told apart by output field, and said on the bus."""

from .fields import FieldReader, Layout, Piece, reader_of
from .tokens import Call, Tokens

__all__ = ["Call", "FieldReader", "Layout", "Piece", "Tokens", "reader_of"]
