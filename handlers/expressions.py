"""How a handler's configuration marks the keys whose values are expressions.

``service/config`` checks each value so marked when the configuration is read, and turns a bare int or bool of the
file into its text. The handler itself is given compiled expressions (``handlers.base.Expression``).
"""

from typing import Annotated, Any

import msgspec

# The text of a CEL expression over ``data``, ``event`` and ``key``; it may give any value.
Expr = Annotated[str, msgspec.Meta(extra={"expression": "value"})]

# As ``Expr``, with the variable ``row`` too: an element of the list that the lane's ``rows`` gives.
RowExpr = Annotated[str, msgspec.Meta(extra={"expression": "value", "row": True})]

# The text of a CEL expression that must give a bool; a missing field makes it false.
Condition = Annotated[str, msgspec.Meta(extra={"expression": "bool"})]

# Objects and lists, nested at will, whose leaves are expressions like ``Expr``; or one expression for the whole.
# Read as dicts, tuples and the expressions' texts; null stays None. ``handlers.templates`` fills them in.
ObjectTemplate = Annotated[Any, msgspec.Meta(extra={"template": "object"})]
ListTemplate = Annotated[Any, msgspec.Meta(extra={"template": "list"})]
Template = Annotated[Any, msgspec.Meta(extra={"template": "value"})]
