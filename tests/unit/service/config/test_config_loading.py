from pathlib import Path

import msgspec
import pytest

from service.config import (
    ConfigurationError,
    HandlerKind,
    Kinds,
    Secret,
    Start,
    check_drain,
    config_fingerprint,
    kinds_of,
    load,
)


def test_defaults_are_filled_in(loading, good: str) -> None:
    """A file with what is required alone gives the defaults, as numbers with units in their names."""
    config = loading(good)
    lane = config.lanes["toys"]
    assert (lane.name, lane.handler, lane.account, lane.topics) == (
        "toys",
        "np6.toys",
        "main",
        ("contacts.changed",),
    )
    assert (lane.where, lane.batch.max_events, lane.batch.max_bytes, lane.batch.linger_s) == (
        "true",
        500,
        1_048_576,
        0.2,
    )
    assert (lane.retry.first_delay_s, lane.retry.max_delay_s, lane.retry.max_attempts) == (0.5, 60.0, 10)
    assert (lane.deadline_s, lane.deadline_from, lane.buffer_bytes) == (None, "record", 128 * 1024 * 1024)
    assert lane.guard is not None
    assert (lane.guard.dead_letters, lane.guard.of_last) == (0.2, 200)
    assert (lane.concurrency, lane.start, lane.on_gap, lane.other_types) == (32, Start(), "hold", "invalid")
    assert (lane.dry_run, lane.weight, lane.on_dead, lane.dedupe_s) == (False, 1.0, "continue", None)
    account = config.accounts["main"]
    assert (account.name, account.platform, account.api_key) == ("main", "np6", Secret(env="TOY_KEY"))
    assert (account.timeouts.connect_s, account.timeouts.total_s) == (5.0, 12.0)
    kafka = config.kafka
    assert (kafka.session_timeout_s, kafka.rebalance_timeout_s, kafka.transaction_timeout_s) == (30, 60, 15)
    assert (kafka.delivery, kafka.topic_prefix, config.results.topic) == (
        "exactly_once",
        "fanline",
        "fanline.results",
    )
    assert config.http is None


def test_written_values_are_read(loading) -> None:
    """Every common key of a lane is read in the file's own writing."""
    lane = loading(
        loading.lane(
            'where: data.change != "deleted"',
            "batch: {max_events: 7, max_bytes: 2KiB, linger: 0ms}",
            "concurrency: 3",
            "retry: {first_delay: 1s, max_delay: 2m, max_attempts: 4}",
            "deadline: 24h",
            "deadline_from: time",
            "buffer: 4MB",
            "on_dead: continue",
            "guard: {dead_letters: 50%, of_last: 60}",
            "dedupe: off",
            "start: 2026-01-31T01:00:00+01:00",
            "on_gap: continue",
            "other_types: skip",
            "dry_run: true",
            "weight: 2",
            "join: 501",
        )
    ).lanes["toys"]
    assert lane.where == 'data.change != "deleted"'
    assert (lane.batch.max_events, lane.batch.max_bytes, lane.batch.linger_s) == (7, 2048, 0.0)
    assert (lane.retry.first_delay_s, lane.retry.max_delay_s, lane.retry.max_attempts) == (1.0, 120.0, 4)
    assert (lane.deadline_s, lane.deadline_from, lane.buffer_bytes) == (86_400.0, "time", 4_000_000)
    assert lane.guard is not None
    assert (lane.guard.dead_letters, lane.guard.of_last) == (0.5, 60)
    assert lane.start == Start(policy="time", time_ms=1_769_817_600_000)
    assert (lane.on_gap, lane.other_types, lane.dry_run, lane.weight) == ("continue", "skip", True, 2.0)
    assert lane.options.join == "501"


def test_off_and_false_are_the_same(loading) -> None:
    """Guard and dedupe are switched off by either word, and by nothing else."""
    for word in ("off", "false"):
        lane = loading(loading.lane(f"guard: {word}", f"dedupe: {word}")).lanes["toys"]
        assert (lane.guard, lane.dedupe_s) == (None, None)
    for word in ("null", "no", "true", "on"):
        assert "or off" in loading.faults(loading.lane(f"guard: {word}"))[0]


def test_a_handlers_own_keys_may_nest(loading) -> None:
    """Expressions are found and checked wherever a handler has them; bare ints and bools are texts of them."""
    lane = loading(
        loading.lane(
            "fields: {Email: data.identifiers.email, Vip: true}",
            "parts: [{value: data.attributes.city, as: phone}, {value: 5}]",
            "workflow: data.version",
            "node: null",
        )
    ).lanes["toys"]
    assert lane.options.fields == {"Email": "data.identifiers.email", "Vip": "true"}
    assert [(part.value, part.as_) for part in lane.options.parts] == [("data.attributes.city", "phone"), ("5", "text")]
    assert (lane.options.workflow, lane.options.node) == ("data.version", None)
    assert loading(loading.lane("workflow: 42")).lanes["toys"].options.workflow == 42
    assert loading(loading.lane("join: null")).lanes["toys"].options.join == "null"
    (fault,) = loading.faults(loading.lane("fields:", "  Email: data.identifires.email"))
    assert fault.startswith("f.yaml:12:7 lanes.toys.fields.Email: data.identifires: there is no field")


EVERYTHING_WRONG = """\
kafka:
  bootstrap_servers: [localhost]
  transaction_timeout: 30s
  session_timeout: 20
  instance: a
results: {key: hashed}
http: {listen: "8080"}
acounts: {}
accounts:
  main: {platform: np6, base_url: "http://api.example", api_key: s3cret, limits: {max_in_flight: 0}}
  crm: {platform: brevo}
lanes:
  Toys:
    handler: np6.toys
    account: mian
    topics: [contacts.changed, contacts.changed, fanline.results, a b]
    where: data.segmnets.join
    linger: 5s
    batch: {linger: 200}
    dry_run: yes
  second: {handler: np6.workflows, account: crm, topics: []}
  third:
    handler: np6.toys
    account: crm
    topics: [a]
"""


def test_all_faults_are_told_at_once_in_the_order_of_the_file(loading) -> None:
    """Each fault has its line, column and path, says what is wrong and what is allowed."""
    faults = loading.faults(EVERYTHING_WRONG)
    expected = [
        "f.yaml:2:3 kafka.bootstrap_servers: expected host:port",
        "f.yaml:4:3 kafka.session_timeout: expected a duration",
        'f.yaml:5:3 kafka.instance: unknown key; did you mean "instance_id"?',
        'f.yaml:6:11 results.key: expected hash or plain, not "hashed"; did you mean "hash"?',
        "f.yaml:7:8 http.listen: expected host:port",
        'f.yaml:8:1 acounts: unknown key; did you mean "accounts"?',
        "f.yaml:10:25 accounts.main.base_url: expected an https URL; http is allowed on loopback alone",
        "f.yaml:10:57 accounts.main.api_key: expected {env: NAME} or {file: PATH}",
        "f.yaml:10:83 accounts.main.limits.max_in_flight: expected a whole number, at least 1",
        'f.yaml:11:9 accounts.crm.platform: there is no platform "brevo"; platforms of this version: np6',
        "f.yaml:13:3 lanes.Toys: a lane's name has small letters",
        "f.yaml:13:3 lanes.Toys.target: is required: an expression",
        'f.yaml:15:5 lanes.Toys.account: there is no account "mian"; accounts: main, crm',
        'f.yaml:16:5 lanes.Toys.topics: "contacts.changed" stands twice',
        'f.yaml:16:5 lanes.Toys.topics: "fanline.results" is one of our own topics',
        "f.yaml:16:5 lanes.Toys.topics: a topic's name has 1 to 249 letters",
        'f.yaml:17:5 lanes.Toys.where: data.segmnets: there is no field "segmnets"; did you mean "segments"?',
        "f.yaml:18:5 lanes.Toys.linger: unknown key for np6.toys",
        "f.yaml:19:13 lanes.Toys.batch.linger: expected a duration",
        'f.yaml:20:5 lanes.Toys.dry_run: expected true or false, not "yes"',
        'f.yaml:21:12 lanes.second.handler: there is no handler "np6.workflows"; handlers of this version: np6.toys',
        "f.yaml:21:50 lanes.second.topics: expected a list with at least 1",
        'f.yaml:24:5 lanes.third.account: np6.toys needs an account on np6; "crm" is on brevo',
        "f.yaml:22:3 lanes.third.target: is required: an expression",
    ]
    missing = [start for start in expected if not any(fault.startswith(start) for fault in faults)]
    assert not missing
    assert len(faults) == len(expected)
    positions = [tuple(map(int, fault.split(" ")[0].split(":")[1:3])) for fault in faults]
    assert positions == sorted(positions)


def test_a_handlers_own_check_is_a_fault_of_the_lane(loading) -> None:
    """What a handler's struct refuses in its __post_init__ is told with the lane's place."""
    assert loading.faults(loading.lane("join: 7")) == ["f.yaml:6:3 lanes.toys: nobody joins 7"]


@pytest.mark.parametrize(
    ("line", "path"),
    [
        ("on_dead: hold", "lanes.toys.on_dead"),
        ("deleted: skip", "lanes.toys.deleted"),
    ],
)
def test_what_comes_later_is_not_ignored(loading, line: str, path: str) -> None:
    """A key whose function does not exist yet, or does not exist for the handler, refuses to start."""
    (fault,) = loading.faults(loading.lane(line))
    assert fault.startswith(f"f.yaml:11:5 {path}: ")
    assert "not available in this version" in fault or "unknown key for np6.toys" in fault


def test_sections_that_come_later_are_not_ignored(loading, good: str) -> None:
    """Tracing and console refuse to start; written as their defaults they do not."""
    for section in ('tracing: {otlp_endpoint: "http://localhost:4317"}', 'console: {listen: "127.0.0.1:8081"}'):
        assert "not available in this version" in loading.faults(good + section)[0]
    assert loading(good + "tracing: {otlp_endpoint: null}\nconsole: null").console is None


@pytest.mark.parametrize(
    "url",
    [
        "http://api.example",
        "https://user:secret@api.example",
        "https://secret@api.example",
        "https://api.example?key=secret",
        "https://api.example/#secret",
        "https://",
        "ftp://api.example",
        "api.example",
        "https://api.example/a/../b",
        "https://api example",
        "https://api.example:99999",
        "http://localhost.example",
        "http://127.0.0.1.example",
        "",
    ],
)
def test_addresses_that_could_leak_are_refused_and_not_repeated(loading, url: str) -> None:
    """An account's address is https, or plain on loopback, and holds no secret; the fault does not show it."""
    faults = loading.faults(loading.replaced("https://api.example", url))
    assert len(faults) == 1
    assert faults[0].startswith("f.yaml:4:25 accounts.main.base_url: ")
    assert "secret" not in faults[0]


@pytest.mark.parametrize(
    ("url", "read"),
    [
        ("https://api.example/", "https://api.example"),
        ("https://api.example/v8/", "https://api.example/v8"),
        ("http://127.0.0.1:8088/np6/a", "http://127.0.0.1:8088/np6/a"),
        ("http://localhost:1", "http://localhost:1"),
        ("http://[::1]:80", "http://[::1]:80"),
    ],
)
def test_addresses_are_read_without_the_last_slash(loading, url: str, read: str) -> None:
    """Paths of requests begin with a slash, so the address ends without."""
    assert loading(loading.replaced("https://api.example", url)).accounts["main"].base_url == read


@pytest.mark.parametrize(
    ("security", "problems"),
    [
        ("{protocol: SASL_SSL}", ["mechanism"]),
        ("{protocol: SASL_SSL, mechanism: PLAIN}", ["username", "password"]),
        ("{protocol: SASL_SSL, mechanism: OAUTHBEARER}", ["token_url", "client_id", "client_secret"]),
        ("{username: a}", ["username"]),
        ("{mechanism: PLAIN, username: a, password: {env: P}}", ["mechanism"]),
        ("{ca_file: ca.pem}", ["ca_file"]),
        ("{protocol: SSL, cert_file: c.pem}", ["cert_file"]),
        (
            "{protocol: SASL_SSL, mechanism: OAUTHBEARER, token_url: 'http://a.b', client_id: a, "
            "client_secret: {env: S}}",
            ["token_url"],
        ),
        ("{protocol: SSL, ca_file: ca.pem, cert_file: c.pem, key_file: k.pem}", []),
        ("{protocol: SASL_PLAINTEXT, mechanism: SCRAM-SHA-512, username: {env: U}, password: {file: p}}", []),
    ],
)
def test_security_keys_that_contradict_each_other_are_refused(loading, security: str, problems: list[str]) -> None:
    """Each protocol and mechanism has its own keys: one too few or too many is told."""
    text = loading.replaced("[localhost:9092]", f"[localhost:9092]\n  security: {security}")
    if not problems:
        assert loading(text).kafka.security.protocol
        return
    paths = {fault.split(" ")[1].removesuffix(":") for fault in loading.faults(text)}
    assert paths == {f"kafka.security.{name}" for name in problems}


def test_timeouts_must_be_in_order(loading) -> None:
    """The transaction ends before the session, and connecting before the whole."""
    text = loading.replaced("[localhost:9092]", "[localhost:9092]\n  transaction_timeout: 30s")
    assert "transaction_timeout: must be shorter than session_timeout" in loading.faults(text)[0]
    text = loading.replaced("api_key:", "timeouts: {connect: 13s}, api_key:")
    assert "timeouts.connect: must not be longer than total" in loading.faults(text)[0]
    assert "first_delay" in loading.faults(loading.lane("retry: {first_delay: 2m}"))[0]
    assert "buffer" in loading.faults(loading.lane("buffer: 1kB"))[0]


def test_the_drain_is_checked_against_kafka_and_the_accounts(loading, good: str) -> None:
    """Shorter than half the rebalance timeout; at least 10 s longer than an account's time-out."""
    config = loading(good)
    assert check_drain(config, 25) == []
    assert [fault.path for fault in check_drain(config, 30)] == ["kafka.rebalance_timeout"]
    assert [fault.path for fault in check_drain(config, 21.9)] == ["accounts.main.timeouts.total"]
    assert check_drain(config, 22) == []
    assert str(check_drain(config, 30)[0]).startswith("f.yaml:1:1 kafka.rebalance_timeout: ")


@pytest.mark.parametrize("name", ["Toys", "-a", "a_b", "a.b", "é", '"a b"', '"a\\n"', '""'])
def test_lanes_names_must_be_parts_of_topics(loading, name: str) -> None:
    """Small letters, digits and dashes alone."""
    assert "a lane's name" in loading.faults(loading.replaced("toys:\n", f"{name}:\n"))[0]


def test_topics_of_a_lane_fit_into_kafkas_bound(loading) -> None:
    """The longest of a lane's own topics may have 249 characters."""
    room = 249 - len("fanline..dead-letters.log")
    assert loading(loading.replaced("toys:\n", "a" * room + ":\n")).lanes
    assert "too long" in loading.faults(loading.replaced("toys:\n", "a" * (room + 1) + ":\n"))[0]


@pytest.mark.parametrize(
    "topic",
    [
        "fanline.results",
        "fanline.control",
        "fanline.status",
        "fanline.toys.replay",
        "fanline.toys.dead-letters",
        "fanline.other.journal",
        "fanline.other.dead-letters.log",
    ],
)
def test_a_lane_does_not_read_what_we_write(loading, topic: str) -> None:
    """Our own topics are no sources, also those of lanes that this file does not name."""
    assert "one of our own topics" in loading.faults(loading.replaced("[contacts.changed]", f"[{topic}]"))[0]
    assert loading(loading.replaced("[contacts.changed]", "[fanline.contacts]"))


def test_the_results_topic_may_be_named(loading, good: str) -> None:
    """A name of one's own stands in the model, and is no source either."""
    text = good + "results: {topic: outcomes}\n"
    assert loading(text).results.topic == "outcomes"
    faults = loading.faults(text.replace("[contacts.changed]", "[outcomes]"))
    assert "one of our own topics" in faults[0]


def test_an_instance_id_may_come_from_the_environment(loading, monkeypatch: pytest.MonkeyPatch) -> None:
    """One file serves every pod: the pod's name is read at start, and must be there."""
    text = loading.replaced("[localhost:9092]", "[localhost:9092]\n  instance_id: {env: TOY_POD}")
    monkeypatch.setenv("TOY_POD", "fanline-0")
    assert loading(text).kafka.instance_id == "fanline-0"
    monkeypatch.delenv("TOY_POD")
    assert "TOY_POD is not set" in loading.faults(text)[0]


@pytest.mark.parametrize("text", ["[]", "a", "5", "lanes: []", "kafka:", "{}"])
def test_files_of_another_shape_are_refused(loading, text: str) -> None:
    """What is no mapping of sections gives faults, never anything else."""
    assert loading.faults(text)


def test_files_are_read_from_disk_with_paths_of_their_folder(tmp_path: Path, kinds: Kinds, good: str) -> None:
    """Relative paths in a file are relative to it, wherever the service is started."""
    path = tmp_path / "fanline.yaml"
    path.write_text(good.replace("{env: TOY_KEY}", "{file: key}"))
    (tmp_path / "key").write_text("secret")
    config = load(path, kinds)
    assert config.accounts["main"].api_key.read() == "secret"
    assert config.place("lanes.toys.target") == "fanline.yaml:10:5 lanes.toys.target"
    assert config.place("lanes.toys.where") == "fanline.yaml:6:3 lanes.toys.where"
    path.write_text("lanes: {}")
    with pytest.raises(ConfigurationError, match=r"fanline\.yaml:1:1 kafka: is required"):
        load(path, kinds)


def test_the_fingerprint_tells_configurations_apart(loading, good: str) -> None:
    """Key order, comments and written defaults do not change it; every value does."""
    fingerprint = config_fingerprint(loading(good).lanes["toys"])
    assert len(fingerprint) == 8
    assert int(fingerprint, 16) >= 0
    entries = good.split("  toys:\n")[1].splitlines(keepends=True)
    reordered = good.split("  toys:\n")[0] + "  # a comment\n  toys:\n" + "".join(reversed(entries))
    assert config_fingerprint(loading(reordered).lanes["toys"]) == fingerprint
    assert config_fingerprint(loading(loading.lane("batch: {linger: 200ms}")).lanes["toys"]) == fingerprint
    one, other = (
        config_fingerprint(loading(loading.lane(f"fields: {fields}")).lanes["toys"])
        for fields in ("{a: 1, b: 2}", "{b: 2, a: 1}")
    )
    assert one == other != fingerprint
    others = [
        config_fingerprint(loading(loading.lane(line)).lanes["toys"])
        for line in ("batch: {linger: 201ms}", "dry_run: true", "join: 5", "fields: {a: 1}", "guard: off")
    ]
    assert len({fingerprint, *others}) == 6


def test_the_model_is_frozen(loading, good: str) -> None:
    """What the operator chose cannot be changed by code."""
    config = loading(good)
    for value in (config, config.kafka, config.lanes["toys"], config.lanes["toys"].batch, config.accounts["main"]):
        with pytest.raises(AttributeError):
            setattr(value, value.__struct_fields__[0], None)


def test_a_handler_cannot_claim_a_common_key() -> None:
    """A key of a handler that all lanes have would be read twice."""
    config = msgspec.defstruct("Greedy", [("batch", int)], frozen=True)
    with pytest.raises(ValueError, match="batch"):
        kinds_of([HandlerKind("np6.greedy", "np6", config)])
