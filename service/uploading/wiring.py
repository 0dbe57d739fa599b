"""How an import lane's files get to where its platform wants them, from the configuration."""

from collections.abc import Callable
from typing import Any

from handlers.imports.putting import PutsFirst
from handlers.imports.rows import StreamsRows
from service.config import Account
from service.imports.seams import FileWay
from service.transport.account import Transport
from service.transport.reaching import policy_of, tls_of
from service.uploading.ftp import FtpPolicy, FtpTransport
from service.uploading.sending import FileSender
from service.uploading.ways import AccountWay, FtpWay


def file_way(
    account: Account,
    handler: object,
    options: Any,
    *,
    proven: Callable[[Transport], Transport],
    keep_secret: Callable[[str], None],
) -> FileWay | None:
    """The way of a lane with such a handler and ``options`` of its own; None where no call has a file as its body.

    ``proven`` adds how the account proves who calls. Raises StartError for certificates that cannot be read.
    """
    if isinstance(handler, PutsFirst) and handler.elsewhere:
        server = options.via.ftp
        policy = FtpPolicy(
            server.host, server.port, server.tls != "none", account.timeouts.connect_s, account.timeouts.total_s
        )
        return FtpWay(FtpTransport(policy, tls_of(account)), server.username, server.password, keep_secret)
    if isinstance(handler, PutsFirst | StreamsRows):
        sender = FileSender(policy_of(account, max_connections=1), tls_of(account))
        return AccountWay(sender, account.base_url, proven)
    return None
