import json
import os
from pathlib import Path

import jsonschema
import pytest
import yaml
from referencing.jsonschema import EMPTY_REGISTRY

from service.app import KINDS
from service.config import Kinds, configuration_schema, load, reference_markdown, schema_json

ROOT = Path(__file__).resolve().parents[4]
EXAMPLE = ROOT / "deploy" / "fanline.example.yaml"
PAGE = ROOT / "docs" / "configuration.md"


def validator(kinds: Kinds) -> jsonschema.Draft202012Validator:
    schema = configuration_schema(kinds)
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema, registry=EMPTY_REGISTRY)


def test_the_reference_page_is_up_to_date() -> None:
    """docs/configuration.md is what the types say. FANLINE_WRITE_DOCS=1 writes it anew."""
    page = reference_markdown(KINDS)
    if os.environ.get("FANLINE_WRITE_DOCS"):
        PAGE.parent.mkdir(exist_ok=True)
        PAGE.write_text(page)
    assert PAGE.read_text() == page


def test_each_key_of_the_page_has_a_meaning() -> None:
    """No row is left without its meaning."""
    rows = [line for line in reference_markdown(KINDS).splitlines() if line.startswith("| `")]
    assert len(rows) > 50
    assert not [row for row in rows if row.rstrip("| ").endswith("|") or row.endswith("|  |")]


def test_the_example_loads_and_fits_the_schema() -> None:
    """What users copy is right, by our reading and by a JSON Schema validator's."""
    config = load(EXAMPLE, KINDS)
    imports = ["apsis-profiles", "copernica-profiles", "np6-redlist"]
    assert list(config.lanes) == ["segments", "newsletter", "welcome", *imports]
    accounts = {"np6-main", "apsis-eu", "copernica"}
    assert {lane.account for lane in config.lanes.values()} == set(config.accounts) == accounts
    validator(KINDS).validate(yaml.safe_load(EXAMPLE.read_text()))


def test_the_schema_is_plain_json() -> None:
    """The exported file is read back as the schema."""
    assert json.loads(schema_json(KINDS)) == configuration_schema(KINDS)


@pytest.mark.parametrize(
    "line",
    [
        "batch: {linger: 200}",
        "batch: {lingr: 200ms}",
        "guard: {dead_letters: 0.2}",
        "on_dead: hold",
        "deleted: skip",
        "dry_run: 1",
        "weight: 0",
        "concurrency: 0",
        "deadline: 24",
        "topics: []",
        "handler: np6.workflows",
    ],
)
def test_schema_and_reading_refuse_alike(loading, kinds: Kinds, line: str) -> None:
    """What an editor marks by the schema is what the service refuses."""
    text = loading.lane(line)
    document = yaml.safe_load(text)  # the last of a repeated key counts here
    assert not validator(kinds).is_valid(document)
    assert loading.faults(text)


@pytest.mark.parametrize(
    "line",
    [
        "batch: {max_bytes: 2KiB, linger: 0ms}",
        "guard: off",
        "guard: false",
        "dedupe: 'off'",
        "dedupe: 10m",
        "start: latest",
        "start: '2026-01-31T00:00:00Z'",
        "where: true",
        "join: 501",
        "deadline: null",
        "deadline: 24h",
        "weight: 0.5",
        "workflow: 42",
        "parts: [{value: data.contact_id, as: phone}]",
    ],
)
def test_schema_and_reading_accept_alike(loading, kinds: Kinds, line: str) -> None:
    """What the service reads an editor does not mark."""
    text = loading.lane(line)
    assert validator(kinds).is_valid(yaml.safe_load(text))
    assert loading(text)


def test_written_defaults_are_accepted(loading, kinds: Kinds) -> None:
    """Each default of the schema may be written out and changes nothing."""
    lanes = configuration_schema(kinds)["properties"]["lanes"]["patternProperties"]
    (entry,) = lanes.values()
    defaults = {name: key["default"] for name, key in entry["oneOf"][0]["properties"].items() if "default" in key}
    assert defaults["batch"] == {"max_events": 500, "max_bytes": "1MiB", "linger": "200ms"}
    assert defaults["guard"] == {"dead_letters": "20%", "of_last": 200}
    text = loading.lane(*(f"{name}: {json.dumps(value)}" for name, value in defaults.items()))
    assert loading(text).lanes == loading(loading.lane()).lanes
