"""Makes a virtual environment that has pip, with a Python that came without the parts for it.

Debian and Ubuntu keep ``ensurepip`` in a package of its own, and without it ``venv`` makes no pip. The wheel of pip
is then fetched from the package index that pip was told to use: this one version, checked against its hash. Needs the
standard library and nothing else:

    python3 deploy/environment.py .venv
"""

import base64
import configparser
import hashlib
import html
import importlib.util
import os
import re
import ssl
import subprocess
import sys
import tempfile
import urllib.parse
import urllib.request
from collections.abc import Mapping
from pathlib import Path

WHEEL = "pip-26.3-py3-none-any.whl"
SHA256 = "f3b60b20ffaadd4415ed7957212a38ac63fa4c5fa375bd0f4a797777940fad13"
MAX_BYTES = 16_000_000
TIMEOUT_S = 60


def setting(name: str, environ: Mapping[str, str]) -> str | None:
    """What pip was told of ``name`` (``index-url``, ``cert``): by its variable, else by its files, the user's first."""
    if value := environ.get("PIP_" + name.upper().replace("-", "_")):
        return value
    home = Path(environ.get("HOME", "/"))
    config = Path(environ.get("XDG_CONFIG_HOME") or home / ".config")
    found = configparser.RawConfigParser()
    found.read(["/etc/pip.conf", home / ".pip/pip.conf", config / "pip/pip.conf", environ.get("PIP_CONFIG_FILE", "")])
    return found.get("global", name, fallback=None)


def link(page: str, base: str, wheel: str) -> str:
    """The address of ``wheel`` on the index's page of its project (PEP 503). Raises ValueError if it is not there."""
    for href in re.findall(r"""href\s*=\s*["']([^"']+)["']""", page, re.IGNORECASE):
        address = urllib.parse.urljoin(base, html.unescape(href))
        if urllib.parse.unquote(urllib.parse.urlsplit(address).path).endswith("/" + wheel):
            return address.partition("#")[0]
    raise ValueError(f"the index has no {wheel}")


def request(address: str, index: str) -> urllib.request.Request:
    """For ``address``, with the credentials that the index's own address has where the host is the same."""
    parts, own = urllib.parse.urlsplit(address), urllib.parse.urlsplit(index)
    bare = urllib.parse.urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
    asked = urllib.request.Request(bare, headers={"Accept": "text/html, */*;q=0.1"})
    if own.username is not None and (parts.scheme, parts.hostname, parts.port) == (own.scheme, own.hostname, own.port):
        pair = f"{urllib.parse.unquote(own.username)}:{urllib.parse.unquote(own.password or '')}"
        asked.add_unredirected_header("Authorization", "Basic " + base64.b64encode(pair.encode()).decode())
    return asked


def fetch(index: str, cert: str | None, *, wheel: str = WHEEL, sha256: str = SHA256) -> bytes:
    """The wheel's bytes. Raises OSError where it cannot be had, ValueError where it is not what was asked for."""
    context = ssl.create_default_context(cafile=cert)
    opener = urllib.request.build_opener(urllib.request.HTTPSHandler(context=context))

    def read(address: str) -> bytes:
        with opener.open(request(address, index), timeout=TIMEOUT_S) as answer:
            return bytes(answer.read(MAX_BYTES))

    page = index.rstrip("/") + "/pip/"
    body = read(link(read(page).decode("utf-8", "replace"), page, wheel))
    if hashlib.sha256(body).hexdigest() != sha256:
        raise ValueError(f"the index's {wheel} is another file than it should be (its sha256 is wrong)")
    return body


def make(folder: str) -> None:
    """The environment, anew. Raises OSError, ValueError and CalledProcessError; whoever runs said why for the last."""
    if importlib.util.find_spec("ensurepip"):
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        return
    index = setting("index-url", os.environ)
    if index is None:
        raise ValueError("neither PIP_INDEX_URL nor a pip.conf names a package index")
    wheel = fetch(index, setting("cert", os.environ))
    subprocess.run([sys.executable, "-m", "venv", "--clear", "--without-pip", folder], check=True)
    with tempfile.TemporaryDirectory() as downloads:
        path = Path(downloads) / WHEEL
        path.write_bytes(wheel)
        pip: list[str | Path] = [Path(folder) / "bin" / "python", path / "pip", "--disable-pip-version-check"]
        subprocess.run([*pip, "install", "--quiet", "--no-index", "--no-deps", path], check=True)


def main() -> int:
    try:
        make(sys.argv[1])
    except (OSError, ValueError, configparser.Error, subprocess.CalledProcessError) as error:
        print(f"The environment {sys.argv[1]} could not be made: {error}", file=sys.stderr)
        if not importlib.util.find_spec("ensurepip"):
            print(
                "This Python has no ensurepip, so pip has to come from a package index. Either name one\n"
                "(PIP_INDEX_URL=https://…) or install what is missing, on Debian and Ubuntu: apt install python3-venv",
                file=sys.stderr,
            )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
