"""Configurations of accounts that are called by hand, without Kafka."""

import re
from pathlib import Path

KEY_VARIABLE = "FANLINE_TEST_KEY"
KEY = "np6-key-that-nobody-may-read"

CONFIGURATION = """\
kafka: {{bootstrap_servers: ["127.0.0.1:1"]}}
accounts:
{accounts}
lanes:
  vip: {{handler: np6.segments, account: main, topics: [t], target: data.identifiers.np6, join: data.segments.join}}
"""


def account(base_url: str, name: str = "main", more: str = "") -> str:
    """An entry of ``accounts``."""
    timeouts = "timeouts: {connect: 1s, total: 1s}"
    return f'  {name}: {{platform: np6, base_url: "{base_url}", api_key: {{env: {KEY_VARIABLE}}}, {timeouts}{more}}}'


def write_configuration(file: Path, *accounts: str) -> Path:
    """A configuration with these accounts, one of them ``main``."""
    file.write_text(CONFIGURATION.format(accounts="\n".join(accounts)))
    return file


def without_request(text: str) -> str:
    """Without the platform's name of the request."""
    return re.sub(r" \(the platform calls the request \S+\)", "", text)
