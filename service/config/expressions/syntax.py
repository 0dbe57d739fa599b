"""The syntax tree of a CEL expression.

The library compiles and evaluates but shows no tree, and paths must be checked against the contracts at start. So
the text is parsed here a second time, after the library has accepted it. What this parser does not know is refused:
it may be narrower than the library, never wider. Values of literals are the library's own.
"""

import re
from typing import Any

from msgspec import Struct

from service.config.expressions.engine import cel
from service.errors import FanlineError


class ExpressionFault(FanlineError, ValueError):
    """An expression is refused at start; the message says what is wrong and what is allowed."""


class Const(Struct, frozen=True):
    """A literal: null, bool, int, uint, double, string or bytes."""

    value: Any


class Name(Struct, frozen=True):
    """A variable: a root, or a local one of a macro."""

    name: str


class Select(Struct, frozen=True):
    """``of.field``"""

    of: "Tree"
    field: str


class Index(Struct, frozen=True):
    """``of[at]``"""

    of: "Tree"
    at: "Tree"


class Call(Struct, frozen=True):
    """``function(args)``, or ``target.function(args)``: functions and macros alike."""

    function: str
    target: "Tree | None"
    args: tuple["Tree", ...]


class Items(Struct, frozen=True):
    """A list, or the keys and values of a map one after the other."""

    items: tuple["Tree", ...]
    is_map: bool = False


class Operation(Struct, frozen=True):
    """An operator; ``?:`` has three operands, and chains of ``&&`` and ``||`` have two or more."""

    operator: str
    operands: tuple["Tree", ...]


Tree = Const | Name | Select | Index | Call | Items | Operation


def parse(text: str) -> Tree:
    """The tree of an expression that the library has accepted. Raises ExpressionFault and RecursionError."""
    parser = _Parser(_tokens(text))
    tree = parser.expression()
    parser.expect("")
    return tree


_STRING = (
    r"(?:[bB]?[rR]|[rR][bB])(?:'''.*?'''|\"\"\".*?\"\"\"|'[^'\n]*'|\"[^\"\n]*\")"
    r"|[bB]?(?:'''(?:\\.|[^\\])*?'''|\"\"\"(?:\\.|[^\\])*?\"\"\"|'(?:\\.|[^'\\\n])*'|\"(?:\\.|[^\"\\\n])*\")"
)
_TOKEN = re.compile(
    rf"""(?P<space>[ \t\r\n\f]+|//[^\n]*)
    |(?P<string>{_STRING})
    |(?P<number>0[xX][0-9a-fA-F]+[uU]?|(?:[0-9]+\.[0-9]+|\.[0-9]+|[0-9]+)(?:[eE][-+]?[0-9]+)?[uU]?)
    |(?P<name>[_a-zA-Z][_a-zA-Z0-9]*)
    |(?P<sign>\|\||&&|[=!<>]=|[-+*/%!<>?:.,()\[\]{{}}])""",
    re.VERBOSE | re.DOTALL,
)

_Token = tuple[str, str]  # (kind, text); at the end ("end", "")


def _tokens(text: str) -> list[_Token]:
    tokens: list[_Token] = []
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None or match.lastgroup is None:
            raise ExpressionFault(f'"{text[position : position + 10]}" is not supported')
        if match.lastgroup != "space":
            tokens.append((match.lastgroup, match[0]))
        position = match.end()
    return [*tokens, ("end", "")]


_LITERAL_NAMES = {"true": True, "false": False, "null": None}
_LEVELS: tuple[tuple[str, ...], ...] = (
    ("||",),
    ("&&",),
    ("<", "<=", ">=", ">", "==", "!=", "in"),
    ("+", "-"),
    ("*", "/", "%"),
)


class _Parser:
    """Recursive descent; what has the same precedence is a loop, so that long chains do not nest."""

    def __init__(self, tokens: list[_Token]) -> None:
        self._tokens = tokens
        self._at = 0

    def expression(self) -> Tree:
        condition = self._binary(0)
        if not self._accept("?"):
            return condition
        then = self._binary(0)
        self.expect(":")
        return Operation("?:", (condition, then, self.expression()))

    def expect(self, sign: str) -> None:
        if not self._accept(sign):
            found = self._peek() or "the end"
            raise ExpressionFault(f'expected {sign or "the end"}, not "{found}"')

    def _binary(self, level: int) -> Tree:
        if level == len(_LEVELS):
            return self._unary()
        tree = self._binary(level + 1)
        while (operator := self._peek()) in _LEVELS[level]:
            self._at += 1
            right = self._binary(level + 1)
            if operator in ("&&", "||") and isinstance(tree, Operation) and tree.operator == operator:
                tree = Operation(operator, (*tree.operands, right))
            else:
                tree = Operation(operator, (tree, right))
        return tree

    def _unary(self) -> Tree:
        signs: list[str] = []
        while self._peek() in ("!", "-"):
            signs.append(self._next()[1])
        if signs and signs[-1] == "-" and self._kind() == "number":
            # The smallest int is a literal only together with its sign.
            signs.pop()
            tree = self._members(Const(_value("-" + self._next()[1])))
        else:
            tree = self._members(self._primary())
        for sign in reversed(signs):
            tree = Operation(sign, (tree,))
        return tree

    def _members(self, tree: Tree) -> Tree:
        while True:
            if self._accept("."):
                field = self._name()
                tree = Call(field, tree, self._list(")")) if self._accept("(") else Select(tree, field)
            elif self._accept("["):
                tree = Index(tree, self.expression())
                self.expect("]")
            else:
                return tree

    def _primary(self) -> Tree:
        kind, text = self._next()
        if kind in ("string", "number"):
            return Const(_value(text))
        if text in _LITERAL_NAMES:
            return Const(_LITERAL_NAMES[text])
        if kind == "name":
            return Call(text, None, self._list(")")) if self._accept("(") else Name(text)
        if text == "(":
            tree = self.expression()
            self.expect(")")
            return tree
        if text == "[":
            return Items(self._list("]"))
        if text == "{":
            return Items(self._list("}", pairs=True), is_map=True)
        raise ExpressionFault(f'"{text or "the end"}" is not supported here')

    def _list(self, closing: str, *, pairs: bool = False) -> tuple[Tree, ...]:
        items: list[Tree] = []
        while not self._accept(closing):
            items.append(self.expression())
            if pairs:
                self.expect(":")
                items.append(self.expression())
            if not self._accept(","):
                self.expect(closing)
                break
        return tuple(items)

    def _name(self) -> str:
        kind, text = self._next()
        if kind != "name":
            raise ExpressionFault(f'"{text}" is not supported after a dot')
        return text

    def _peek(self) -> str:
        return self._tokens[self._at][1]

    def _kind(self) -> str:
        return self._tokens[self._at][0]

    def _next(self) -> _Token:
        token = self._tokens[self._at]
        self._at = min(self._at + 1, len(self._tokens) - 1)
        return token

    def _accept(self, sign: str) -> bool:
        if self._peek() != sign:
            return False
        self._next()
        return True


def _value(literal: str) -> Any:
    try:
        return cel.evaluate(literal)
    except ValueError:
        raise ExpressionFault(f"{literal} is not a literal") from None
