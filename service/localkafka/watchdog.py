"""Kills a process when its own standard input ends, which is when whoever held the other end died.

Run as a script where the kernel cannot watch a parent: ``python watchdog.py PID``. A line on standard input
means that the process ended in good order and that nothing is to be done.
"""

import contextlib
import os
import signal
import sys

if not sys.stdin.buffer.readline():
    with contextlib.suppress(ProcessLookupError):
        os.kill(int(sys.argv[1]), signal.SIGKILL)
