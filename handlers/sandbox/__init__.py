"""The platforms, imitated, for tests, demonstrations and other teams' CI.

One server carries any number of accounts of any number of platforms, apart by the path: an account's base URL is
``<url>/<platform>/<account>``. What a platform answers by itself is its own (``handlers/<platform>/sandbox.py``);
prescribed answers, outages, faults by a seed and the record of every call are here, over HTTP below
``/__sandbox__`` (:class:`SandboxClient`). Not for the open internet: whoever reaches it may change it.
"""

from .buckets import Bucket
from .calls import Call, CallLog, KeyState
from .client import SandboxClient
from .faults import Fault, Faults
from .outages import Mode, Outage
from .platform import Platform, PlatformAnswer, Subject
from .prescriptions import Match, Prescription, Step
from .server import SandboxServer, serve

__all__ = [
    "Bucket",
    "Call",
    "CallLog",
    "Fault",
    "Faults",
    "KeyState",
    "Match",
    "Mode",
    "Outage",
    "Platform",
    "PlatformAnswer",
    "Prescription",
    "SandboxClient",
    "SandboxServer",
    "Step",
    "Subject",
    "serve",
]
