"""A token server for tests: client credentials in, signed JSON Web Tokens out, and its public keys for the broker."""

import asyncio
import base64
import functools
import json
import ssl
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote_plus

from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256

from service.localkafka.properties import OAUTH_AUDIENCE, OAUTH_ISSUER

_KEY_ID = "test-key"


class TokenServer:
    """An async context manager. ``clients`` are names with their secrets; a name becomes the token's ``sub``.

    ``life_s`` is how long tokens are good; ``script`` are answers that come first. ``asked`` are the names of the
    clients that were asked for, in order.
    """

    def __init__(self, clients: dict[str, str], *, life_s: float = 300, tls: ssl.SSLContext | None = None) -> None:
        self.clients = clients
        self.life_s = life_s
        self.script: list[web.Response] = []
        self.asked: list[str] = []
        self.forms: list[dict[str, Any]] = []
        self.hang = False
        self._tls = tls
        self._key = _key()
        self._runner: web.AppRunner | None = None
        self.url = ""

    def write_keys(self, file: Path) -> Path:
        """The public key as a JSON Web Key Set."""
        public = self._key.public_key().public_numbers()
        key = {
            "kty": "RSA",
            "alg": "RS256",
            "use": "sig",
            "kid": _KEY_ID,
            "n": _number(public.n),
            "e": _number(public.e),
        }
        file.write_text(json.dumps({"keys": [key]}))
        return file

    def token(self, subject: str, **claims: Any) -> str:
        """A token that names ``subject``."""
        now = int(time.time())
        body = {"sub": subject, "iss": OAUTH_ISSUER, "aud": OAUTH_AUDIENCE, "iat": now, "exp": now + int(self.life_s)}
        head = {"alg": "RS256", "kid": _KEY_ID, "typ": "JWT"}
        signed = f"{_part(json.dumps(head).encode())}.{_part(json.dumps(body | claims).encode())}"
        return f"{signed}.{_part(self._key.sign(signed.encode(), padding.PKCS1v15(), SHA256()))}"

    async def __aenter__(self) -> Self:
        application = web.Application()
        application.router.add_post("/token", self._answer)
        self._runner = web.AppRunner(application, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=self._tls)
        await site.start()
        port = self._runner.addresses[0][1]
        self.url = f"{'https' if self._tls else 'http'}://127.0.0.1:{port}/token"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.Response:
        self.forms.append(dict(await request.post()))
        scheme, _, pair = request.headers.get("authorization", "").partition(" ")
        name, _, secret = base64.b64decode(pair).decode().partition(":")
        self.asked.append(unquote_plus(name))
        while self.hang:  # noqa: ASYNC110 - until the client gives up
            await asyncio.sleep(0.05)
        if self.script:
            return self.script.pop(0)
        if scheme != "Basic" or self.clients.get(unquote_plus(name)) != unquote_plus(secret):
            return web.json_response({"error": "invalid_client", "echo": secret}, status=401)
        return web.json_response(
            {"access_token": self.token(unquote_plus(name)), "token_type": "Bearer", "expires_in": self.life_s}
        )


@functools.cache
def _key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65_537, key_size=2048)


def _part(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _number(value: int) -> str:
    return _part(value.to_bytes((value.bit_length() + 7) // 8, "big"))
