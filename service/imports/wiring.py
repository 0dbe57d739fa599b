"""What an import lane is given of the configuration: its slots, and where its files may go."""

from collections.abc import Iterable
from urllib.parse import urlsplit

from handlers.imports.rows import ImportHandler
from service.config import Account, Configuration
from service.config import Lane as LaneConfig
from service.config.accounts import ApsisAccount
from service.config.checks import is_loopback
from service.imports.pace import create_every_s
from service.imports.policy import ImportPolicy
from service.imports.slots import SlotShare, shared_slots
from service.journal.writer import JournalPolicy
from service.transport.reaching import policy_of, tls_of
from service.uploading.sending import FileSender
from service.uploading.upload import FormPolicy, FormUploads

# A request is ended so long after its time at most.
_LATE_S = 0.25


def import_policy(config: Configuration, lane: LaneConfig, handler: ImportHandler) -> ImportPolicy:
    """The policy of a lane. Where an account has no pace of ours (``requests_per_second: null``), imports have none."""
    limits = config.accounts[lane.account].limits
    most = getattr(limits, "max_open_imports", None)
    # An account without such a bound has one import at a time of each lane.
    shares = {} if most is None else shared_slots(_sharing(config.lanes.values(), lane.account), most)
    every_s = None
    if handler.creates_per_minute is not None and limits.requests_per_second is not None:
        every_s = create_every_s(handler.creates_per_minute, max(1, sum(shares.values())))
    under_way_s = _under_way_s(config.accounts[lane.account].timeouts.total_s)
    life_s = getattr(limits, "orphan_life_s", 3_600.0)
    return ImportPolicy(shares.get(lane.name, 1), life_s, handler.max_file_bytes, under_way_s, every_s)


def _under_way_s(total_s: float) -> float:
    """The entry is written, the call starts, is refused for its token, asks for another one, and is made again."""
    return 2 * JournalPolicy().call_within_s + 3 * (total_s + _LATE_S)


def _sharing(lanes: Iterable[LaneConfig], account: str) -> list[SlotShare]:
    return [
        SlotShare(lane.name, lane.options.slots)
        for lane in lanes
        if lane.account == account and hasattr(lane.options, "slots")
    ]


def form_uploads(account: Account, max_file_bytes: int) -> FormUploads | None:
    """What uploads files of the account; None where its platform has no such addresses. Raises StartError."""
    if not isinstance(account, ApsisAccount):
        return None
    sender = FileSender(policy_of(account, max_connections=1), tls_of(account))
    policy = FormPolicy(
        account.upload_hosts, max_file_bytes, plain_loopback=is_loopback(urlsplit(account.base_url).hostname or "")
    )
    return FormUploads(sender, policy)
