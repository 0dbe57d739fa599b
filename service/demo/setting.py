"""What the demo runs on: a directory with a configuration as a user would write it, and the names in it."""

import socket
from pathlib import Path

import msgspec

_CONFIGURATION = """\
# Written by `fanline demo`. docs/configuration.md explains every key.
kafka:
  bootstrap_servers: {bootstrap_servers}
  topic_prefix: {prefix}
  topics: {{replication: 1}}            # a demo can live with one copy
http: {{listen: "{listen}"}}
accounts:
  np6-main:
    platform: np6
    base_url: "{main_url}"
    api_key: {{file: "{key_file}"}}
    limits: {{requests_per_second: null}}
  np6-news:
    platform: np6
    base_url: "{news_url}"
    api_key: {{file: "{key_file}"}}
    limits: {{requests_per_second: null}}
lanes:
  # Puts contacts into the segments that the events name, and takes them out.
  vip-segment:
    handler: np6.segments
    account: np6-main
    topics: [{contacts}]
    where: data.change != "deleted"
    target: data.identifiers.np6
    join: data.segments.join
    leave: data.segments.leave
  # Keeps one segment in step with a consent: another account, another lane, the same events.
  newsletter:
    handler: np6.segments
    account: np6-news
    topics: [{contacts}]
    where: data.consents.exists(c, c.topic == "newsletter")
    target: data.identifiers.np6
    join: 'data.consents.exists(c, c.topic == "newsletter" && c.status == "opt-in") ? [901] : []'
    leave: 'data.consents.exists(c, c.topic == "newsletter" && c.status == "opt-in") ? [] : [901]'
  # Executes a workflow for whoever has opened a notification: in batches, none of them twice.
  welcome:
    handler: np6.workflows
    account: np6-main
    topics: [{notifications}]
    where: data.action == "activation"
    workflow: 42
    receiver: {{type: id, value: data.target}}
    data: {{label: data.label, at: data.occurred_at}}
    batch: {{max_events: 50, linger: 200ms}}
"""


class Setting(msgspec.Struct, frozen=True):
    """Where the demo's files lie, and what it calls its topics."""

    directory: Path
    prefix: str
    contacts: str
    notifications: str

    @property
    def config_file(self) -> Path:
        return self.directory / "fanline.yaml"

    @property
    def log_file(self) -> Path:
        return self.directory / "service.log"

    @property
    def sample_file(self) -> Path:
        return self.directory / "more-events.ndjson"

    def write(self, bootstrap_servers: str, main_url: str, news_url: str) -> None:
        """Write the configuration, and the key that it names."""
        key_file = self.directory / "np6-api-key"
        key_file.touch(mode=0o600)
        key_file.write_text("any-key-will-do-here\n", "utf-8")
        self.config_file.write_text(
            _CONFIGURATION.format(
                bootstrap_servers=msgspec.json.encode(bootstrap_servers.split(",")).decode(),
                prefix=self.prefix,
                contacts=self.contacts,
                notifications=self.notifications,
                listen=f"127.0.0.1:{_free_port()}",
                main_url=main_url,
                news_url=news_url,
                key_file=key_file,
            ),
            "utf-8",
        )


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
