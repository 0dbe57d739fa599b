"""What the demo runs on: a directory with a configuration as a user would write it, and the names in it."""

import socket
from collections.abc import Mapping
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
  apsis-eu:
    platform: apsis
    base_url: "{apsis_url}"
    client_id: {{file: "{key_file}"}}
    client_secret: {{file: "{key_file}"}}
    upload_hosts: [localhost]
    # At the platform itself both as by default: an orphan lives for an hour, and imports are created at its pace.
    limits: {{max_open_imports: {max_open}, orphan_life: 5s, requests_per_second: null}}
  copernica:
    platform: copernica
    base_url: "{copernica_url}"
    token_url: "{copernica_url}/token"
    access_token: {{file: "{key_file}"}}
    limits: {{orphan_life: 5s}}
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
  # Keeps profiles of Apsis One in step with contacts: batches become files, one import for each, three at once.
  apsis-profiles:
    handler: apsis.imports
    account: apsis-eu
    topics: [{contacts}]
    section: usercreated.sections.shop
    keyspaces: [{{discriminator: com.apsis1.keyspaces.email, column: email, value: data.identifiers.email}}]
    attributes:
      - {{version_id: "1", column: first-name, value: data.attributes.first_name}}
      - {{version_id: "2", column: city, value: data.attributes.city}}
    consents:
      - channel: com.apsis1.channels.email
        topic: usercreated.topics.newsletter
        column: newsletter
        value: 'data.consents.exists(c, c.topic == "newsletter" && c.status == "opt-in")'
    batch: {{linger: 2s}}             # at the platform itself: 30s, as by default
    poll: {{every: 500ms}}
  # The same for Copernica: the rows go with the create.
  copernica-profiles:
    handler: copernica.imports
    account: copernica
    topics: [{contacts}]
    database: 1
    key_fields: [Email]
    fields: {{Email: data.identifiers.email, Contactpersoon: data.attributes.first_name, City: data.attributes.city}}
    batch: {{linger: 2s}}
    poll: {{every: 500ms}}
  # Whoever opts out of the newsletter goes onto NP6's redlist, by an import that is made if there is none.
  np6-redlist:
    handler: np6.imports
    account: np6-news
    topics: [{contacts}]
    where: data.consents.exists(c, c.topic == "newsletter" && c.status == "opt-out")
    import: {{definition: redlist.json}}
    columns: {{Email: data.identifiers.email}}
    batch: {{linger: 2s}}
    poll: {{every: 500ms}}
"""
# An import of NP6 as its documentation shows it, with the feature that makes a redlist of it.
_REDLIST = {
    "name": "fanline-redlist",
    "binding": 1,
    "features": [{"type": "redList", "destination": {"mail": True, "sms": False}}],
    "source": {"type": "file", "filename": "redlist.csv"},
}


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

    def write(self, bootstrap_servers: str, urls: Mapping[str, str], *, max_open: int) -> None:
        """Write the configuration, the key and the definition that it names. ``urls`` are the accounts'."""
        key_file = self.directory / "np6-api-key"
        key_file.touch(mode=0o600)
        key_file.write_text("any-key-will-do-here\n", "utf-8")
        (self.directory / "redlist.json").write_bytes(msgspec.json.encode(_REDLIST))
        self.config_file.write_text(
            _CONFIGURATION.format(
                bootstrap_servers=msgspec.json.encode(bootstrap_servers.split(",")).decode(),
                prefix=self.prefix,
                contacts=self.contacts,
                notifications=self.notifications,
                listen=f"127.0.0.1:{_free_port()}",
                main_url=urls["np6-main"],
                news_url=urls["np6-news"],
                apsis_url=urls["apsis-eu"],
                copernica_url=urls["copernica"],
                max_open=max_open,
                key_file=key_file,
            ),
            "utf-8",
        )


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
