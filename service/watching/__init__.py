"""Whether lanes still move: a silent stall is found, named, and mended by a restart of the lane, once."""

from service.watching.stalls import StallPolicy
from service.watching.watchdog import watching

__all__ = ["StallPolicy", "watching"]
