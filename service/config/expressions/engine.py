"""``cel``, the library that compiles and evaluates expressions, without its command line.

``import cel`` imports that, too, and with it prompt_toolkit and more: about a seventh of what the start of a process
takes. While ``cel`` is imported an empty module stands in the place of ``cel.cli``; whoever imports that later gets the
real one.
"""

import sys
from types import ModuleType

_CLI = "cel.cli"


def _import() -> ModuleType:
    sys.modules.setdefault(_CLI, stand_in := ModuleType(_CLI))
    try:
        import cel
    finally:
        if sys.modules.get(_CLI) is stand_in:
            del sys.modules[_CLI]
    return cel


cel = _import()

__all__ = ["cel"]
