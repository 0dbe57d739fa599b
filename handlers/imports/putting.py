"""An import whose file is put in its place first, and which is begun by another call: where the platform has no import
to be opened, but one that stands there and is executed again and again.

Neither looking nor putting changes anything; the start does. What an unanswered start has done the next look tells, as
long as what was begun still runs.
"""

from typing import Protocol, runtime_checkable

import msgspec

from handlers.base import Hold, Reply, Request, Retry
from handlers.imports.verdicts import Divide, Uploaded


class Free(msgspec.Struct, frozen=True, gc=False):
    """Nothing runs there: a file may be put, and its import begun."""


class Begun(msgspec.Struct, frozen=True, gc=False):
    """What was put is not there any more: its start was made, or nobody can tell."""


LookVerdict = Free | Retry | Hold
WithdrawVerdict = Free | Begun | Retry | Hold
PutVerdict = Uploaded | Divide | Retry | Hold


@runtime_checkable
class PutsFirst(Protocol):
    """What such a handler has beside ``handlers.imports.rows.ImportHandler``.

    Before anything else :meth:`missing` is asked and answered until nothing is: what the platform alone can say of the
    import. ``elsewhere``: looking, putting, starting and polling are no calls to the account's platform but to a server
    of the lane's own.
    """

    @property
    def elsewhere(self) -> bool: ...

    def import_id(self) -> str:
        """The import's id, once nothing is missing."""

    def missing(self) -> Request | None:
        """What is to be asked of the platform; None: nothing any more."""

    def learn(self, reply: Reply) -> Retry | Hold | None:
        """Take the answer in; None: it was one."""

    def look(self) -> Request:
        """Whether something runs."""

    def judge_look(self, reply: Reply) -> LookVerdict:
        """What the answer says."""

    def put(self, name: str) -> Request:
        """Puts the file in its place; the file itself is the request's body. ``name`` is of this delivery alone."""

    def judge_put(self, reply: Reply) -> PutVerdict:
        """What the answer says. Unanswered, it is put again."""

    def start(self, name: str) -> Request:
        """Begins the import of the file that was put under the name; ``judge_create`` judges the answer."""

    def withdraw(self, name: str) -> Request | None:
        """Takes away what was put under the name and not begun: it never can be then, by nobody. None: no request
        proves that here."""

    def judge_withdraw(self, reply: Reply) -> WithdrawVerdict:
        """What the answer says. Unanswered, it is asked again."""
