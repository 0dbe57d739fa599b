"""Starts a program that the kernel kills when its parent dies (Linux). Run as a script, never imported.

Usage: ``python parent_death.py PARENT_PID PROGRAM ARGUMENT…``. The setting survives ``exec``, so that the
program takes this process's place and pid. The kernel watches the parent's *thread*: it must be one that
lives on.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1

if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
    raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
if os.getppid() != int(sys.argv[1]):
    # The parent died before the kernel was told to watch it.
    sys.exit(1)
os.execv(sys.argv[2], sys.argv[2:])
