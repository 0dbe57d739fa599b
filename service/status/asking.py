"""Asks a process for its status."""

import aiohttp
import msgspec

from service.errors import FanlineError
from service.status.document import StatusDocument, decode_status

_WITHIN_S = 10.0
_MAX_BYTES = 64 * 1024 * 1024


class NoStatusError(FanlineError):
    """No status could be had. The message says from where, and why."""


async def ask_status(url: str) -> StatusDocument:
    """The status of the process whose HTTP server is at ``url``. Raises NoStatusError."""
    address = url.rstrip("/").removesuffix("/status") + "/status"
    timeout = aiohttp.ClientTimeout(total=_WITHIN_S)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.get(address, allow_redirects=False) as answer,
        ):
            content, status = await _read(answer), answer.status
    except (aiohttp.ClientConnectorError, OSError) as error:
        raise NoStatusError(f"{address}: nobody answers; is the service running, with http.listen there?") from error
    except (TimeoutError, aiohttp.ClientError, ValueError) as error:
        raise NoStatusError(f"{address}: no answer ({type(error).__name__})") from error
    if status != 200:
        raise NoStatusError(f"{address}: answered {status}; is that a Fanline service?")
    try:
        return decode_status(content)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise NoStatusError(f"{address}: the answer is no status; is that a Fanline service?") from error


async def _read(answer: aiohttp.ClientResponse) -> bytes:
    content = bytearray()
    async for chunk in answer.content.iter_any():
        content += chunk
        if len(content) > _MAX_BYTES:
            raise ValueError("too long for a status")
    return bytes(content)
