"""How an account of the configuration is reached: its transport's policy, and what certificates are checked against."""

import ssl

from service.config import Account
from service.errors import StartError
from service.transport.http import MAX_BODY_BYTES, TransportPolicy


def policy_of(
    account: Account, *, max_connections: int, max_body_bytes: int = MAX_BODY_BYTES, base_url: str | None = None
) -> TransportPolicy:
    """The policy, with the account's address (unless another is given), timeouts and proxy."""
    return TransportPolicy(
        base_url=base_url or account.base_url,
        connect_s=account.timeouts.connect_s,
        total_s=account.timeouts.total_s,
        max_connections=max_connections,
        proxy=account.proxy,
        max_body_bytes=max_body_bytes,
    )


def tls_of(account: Account) -> ssl.SSLContext | None:
    """The account's own authorities; None: the system's. Raises StartError."""
    if account.ca_file is None:
        return None
    try:
        return ssl.create_default_context(cafile=str(account.ca_file))
    except (OSError, ssl.SSLError) as error:
        raise StartError(f"accounts.{account.name}.ca_file: {error}") from error
