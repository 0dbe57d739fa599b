"""What an import lane is given of the configuration: its slots, and where its files may go."""

from collections.abc import Iterable
from urllib.parse import urlsplit

from handlers.imports.rows import ImportHandler
from service.config import Account, Configuration
from service.config import Lane as LaneConfig
from service.config.accounts import ApsisAccount
from service.config.checks import is_loopback
from service.imports.pace import create_every_s, turn_s
from service.imports.policy import ImportPolicy, Turns
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
    most_open = getattr(limits, "max_open_imports", None)
    # An account without such a bound has one import at a time of each lane.
    shares = {} if most_open is None else shared_slots(_sharing(config.lanes.values(), lane.account), most_open)
    called_s = _called_s(config.accounts[lane.account].timeouts.total_s)
    every_s, turns, most = None, None, handler.creates_per_minute
    if most is not None and limits.requests_per_second is not None:
        if (slots := max(1, sum(shares.values()))) <= most:
            every_s = create_every_s(most, slots)
        else:
            # By name: processes whose files list the lanes otherwise take the same turns.
            first = sum(count for name, count in shares.items() if name < lane.name)
            turns = Turns(first, slots, turn_s(most, called_s))
    # The entry is written before.
    under_way_s = 2 * JournalPolicy().call_within_s + called_s
    life_s = getattr(limits, "orphan_life_s", 3_600.0)
    return ImportPolicy(shares.get(lane.name, 1), life_s, handler.max_file_bytes, under_way_s, every_s, turns)


def _called_s(total_s: float) -> float:
    """The call starts, is refused for its token, asks for another one, and is made again."""
    return 3 * (total_s + _LATE_S)


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
