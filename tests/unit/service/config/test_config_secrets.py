import os
import pickle
from pathlib import Path

import msgspec
import pytest

from service.config import Secret, SecretError, check_secrets
from service.config.secrets import MAX_BYTES

VALUE = "hunter2-hunter2"


def test_a_secret_of_the_environment_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """The value is the variable's; unset or empty is an error that names the variable."""
    secret = Secret(env="TOY_KEY")
    monkeypatch.setenv("TOY_KEY", VALUE)
    assert secret.read() == VALUE
    assert not secret.changed()
    monkeypatch.setenv("TOY_KEY", "")
    with pytest.raises(SecretError, match="TOY_KEY is empty"):
        secret.read()
    monkeypatch.delenv("TOY_KEY")
    with pytest.raises(SecretError, match="TOY_KEY is not set"):
        secret.read()


def test_one_line_break_at_the_end_of_a_file_is_stripped(tmp_path: Path) -> None:
    """Editors end files with a line break; anything more is part of no secret."""
    path = tmp_path / "key"
    for content in (VALUE, VALUE + "\n", VALUE + "\r\n"):
        path.write_bytes(content.encode())
        assert Secret(file=path).read() == VALUE
    path.write_text(VALUE + " \n")
    assert Secret(file=path).read() == VALUE + " "


@pytest.mark.parametrize("content", [b"a\nb\n", b"a\n\n", b"\n", b"", b"\xff", b"a\x00b", b"x" * (MAX_BYTES + 1)])
def test_files_that_hold_no_secret_are_refused_without_their_content(tmp_path: Path, content: bytes) -> None:
    """Several lines, nothing, other bytes, too much: the message names the file and shows nothing of it."""
    path = tmp_path / "key"
    path.write_bytes(content)
    with pytest.raises(SecretError, match="key") as caught:
        Secret(file=path).read()
    assert caught.value.__cause__ is None
    assert "x" * 50 not in str(caught.value)


def test_a_changed_file_is_noticed(tmp_path: Path) -> None:
    """Until the first reading, and after each change, there is something new; an unreadable file is nothing new."""
    path = tmp_path / "key"
    path.write_text("one")
    secret = Secret(file=path)
    assert secret.changed()
    secret.read()
    assert not secret.changed()
    path.write_text("two\n")
    assert secret.changed()
    path.unlink()
    assert not secret.changed()
    with pytest.raises(SecretError, match="cannot be read"):
        secret.read()


def test_a_secret_never_shows_its_value(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither text nor any encoding of a secret holds the value that was read."""
    monkeypatch.setenv("TOY_KEY", VALUE)
    secret = Secret(env="TOY_KEY")
    secret.read()
    shown = [repr(secret), str(secret), f"{secret}", f"{[secret]}", secret.source]
    assert all(VALUE not in text and "TOY_KEY" in text for text in shown)
    with pytest.raises(TypeError):
        msgspec.json.encode(secret)
    assert VALUE.encode() not in pickle.dumps(secret)


def test_secrets_are_equal_by_their_source() -> None:
    """Two entries that name one source are one secret."""
    assert Secret(env="A") == Secret(env="A")
    assert Secret(env="A") != Secret(file="A")
    assert len({Secret(env="A"), Secret(env="A"), Secret(env="B")}) == 2
    with pytest.raises(ValueError, match="one source"):
        Secret(env="A", file="B")


def test_unreadable_secrets_are_faults_with_their_place(loading, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every secret is tried; each that fails is told with its line."""
    text = loading.replaced(
        "[localhost:9092]",
        "[localhost:9092]\n  security: {protocol: SASL_SSL, mechanism: PLAIN, username: u, password: {file: none}}",
    )
    monkeypatch.delenv("TOY_KEY", raising=False)
    config = loading(text)
    assert [str(fault).split(": ")[0] for fault in check_secrets(config)] == [
        "f.yaml:3:65 kafka.security.password",
        "f.yaml:5:58 accounts.main.api_key",
    ]
    monkeypatch.setenv("TOY_KEY", VALUE)
    assert len(check_secrets(config)) == 1
    assert VALUE not in repr(config)
    assert "TOY_KEY" in os.environ
