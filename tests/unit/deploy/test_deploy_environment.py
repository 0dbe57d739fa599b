"""The environment where Python came without ensurepip: pip from the index, and nothing that is not the pip we mean."""

import base64
import hashlib
import io
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from deploy import environment


def _wheel() -> bytes:
    """Something that installs itself as pip does: it says into which Python."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("pip/__main__.py", "import sys; open(sys.prefix + '/installed', 'w').write(sys.argv[-1])")
    return packed.getvalue()


WHEEL = _wheel()


class Index(BaseHTTPRequestHandler):
    """A package index under ``/simple`` whose files lie elsewhere; keeps who asked for what with which credentials."""

    asked: ClassVar[list[tuple[str, str | None]]] = []

    def do_GET(self) -> None:
        self.asked.append((self.path, self.headers["Authorization"]))
        page = f'<a href="../../files/a.whl">a</a> <a data-x="1" href="../../files/{environment.WHEEL}#sha256=0">b</a>'
        body = {"/simple/pip/": page.encode(), f"/files/{environment.WHEEL}": WHEEL}.get(self.path)
        self.send_response(200 if body else 404)
        self.send_header("Content-Length", str(len(body or b"")))
        self.end_headers()
        self.wfile.write(body or b"")

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The host and port of an index that has our wheel, for a Python without ensurepip."""
    monkeypatch.setattr(Index, "asked", [])
    monkeypatch.setattr(environment.importlib.util, "find_spec", lambda _: None)
    monkeypatch.setattr(environment.fetch, "__kwdefaults__", {"wheel": environment.WHEEL, "sha256": _sha256(WHEEL)})
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with ThreadingHTTPServer(("127.0.0.1", 0), Index) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{server.server_port}/simple")
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_pip_is_had_from_the_index(index: str, tmp_path: Path) -> None:
    """An environment in a folder with a space, in which the wheel was asked to install itself."""
    folder = tmp_path / "an environment"
    environment.make(str(folder))
    assert (folder / "installed").read_text().endswith(environment.WHEEL)
    version = subprocess.check_output([folder / "bin/python", "-c", "import sys; print(sys.version)"], text=True)
    assert version.strip() == sys.version
    assert [path for path, _ in Index.asked] == ["/simple/pip/", f"/files/{environment.WHEEL}"]


def test_another_file_of_that_name_is_not_run(
    index: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its hash is not ours: no environment, exit code 1, and what to do instead."""
    monkeypatch.setattr(environment.fetch, "__kwdefaults__", {"wheel": environment.WHEEL, "sha256": _sha256(b"ours")})
    monkeypatch.setattr(sys, "argv", ["environment.py", str(tmp_path / "v")])
    assert environment.main() == 1
    said = capsys.readouterr().err
    assert "its sha256 is wrong" in said
    assert "apt install python3-venv" in said
    assert not (tmp_path / "v").exists()


def test_an_index_that_is_not_there_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No traceback."""
    monkeypatch.setattr(environment.importlib.util, "find_spec", lambda _: None)
    monkeypatch.setenv("PIP_INDEX_URL", "http://someone:hunter2@127.0.0.1:9/simple")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(sys, "argv", ["environment.py", str(tmp_path / "v")])
    assert environment.main() == 1
    said = capsys.readouterr().err
    assert "apt install python3-venv" in said
    assert "hunter2" not in said


def test_credentials_in_the_address_go_to_that_host_alone(index: str) -> None:
    """To the index as a header; to a host that keeps its files not at all."""
    own = f"http://so%40me:one@{index}/simple"
    assert environment.fetch(own, None) == WHEEL
    told = "Basic " + base64.b64encode(b"so@me:one").decode()
    assert [credentials for _, credentials in Index.asked] == [told, told]
    assert environment.request("https://files.example/pip.whl", own).unredirected_hdrs == {}
    assert environment.request(f"https://{index}/pip.whl", own).unredirected_hdrs == {}


def test_settings_of_pip_count(tmp_path: Path) -> None:
    """The variable before the file that a variable names, that before the user's own; none is none."""
    (tmp_path / ".config/pip").mkdir(parents=True)
    (tmp_path / ".config/pip/pip.conf").write_text("[global]\nindex-url = https://user.example/%40\ncert = /user.pem\n")
    (tmp_path / "named.conf").write_text("[global]\nindex-url = https://named.example\n")
    environ = {"HOME": str(tmp_path)}
    assert environment.setting("index-url", environ) == "https://user.example/%40"
    environ["PIP_CONFIG_FILE"] = str(tmp_path / "named.conf")
    assert environment.setting("index-url", environ) == "https://named.example"
    assert environment.setting("cert", environ) == "/user.pem"
    environ["PIP_INDEX_URL"] = "https://variable.example"
    assert environment.setting("index-url", environ) == "https://variable.example"


def test_an_index_without_that_version_is_told() -> None:
    """The page is there, the wheel is not; a longer name that ends alike is another file."""
    page = (
        '<a href="/files/pip-26.3-py3-none-any.whl.metadata">m</a><a href="/files/old-pip-26.3-py3-none-any.whl">o</a>'
    )
    with pytest.raises(ValueError, match=r"the index has no pip-26\.3-py3-none-any\.whl"):
        environment.link(page, "https://index.example/simple/pip/", "pip-26.3-py3-none-any.whl")
