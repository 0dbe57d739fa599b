"""The events and the job that every contender of the benchmarks has in common."""

import json
import random

TOPIC = "bench.contacts"
NOTIFICATIONS = "bench.notifications"
PROFILES = "bench.profiles"
WORKFLOW = 42
MEDIA_TYPE = "application/vnd.np6.cm.workflow-v4"
RESULTS = "bench.results"
PARTITIONS = 6
_CITIES = ["Paris", "Lyon", "Utrecht", "Malmö", "Göteborg", "Lille", "Gent", "Aarhus"]


def event(n: int, contacts: int, seed: int = 7) -> tuple[bytes, bytes]:
    """Key and value of event number ``n``: a contact change of about 600 bytes."""
    rng = random.Random(seed * 1_000_003 + n)
    contact = rng.randrange(contacts)
    data = {
        "contact_id": f"c-{contact:07d}",
        "change": "updated",
        "identifiers": {"np6": f"{contact:06d}AB", "email": f"contact{contact}@example.org"},
        "attributes": {
            "first_name": "Jeanne",
            "last_name": "Dupont-Moretti",
            "city": rng.choice(_CITIES),
            "points": rng.randrange(100_000),
            "newsletter": rng.random() < 0.5,
            "score": round(rng.random(), 4),
            "note": "x" * 90,
        },
        "segments": {"join": [501 + rng.randrange(3)], "leave": []},
        "version": n,
    }
    value = {
        "specversion": "1.0",
        "id": f"evt-{n:09d}",
        "source": "urn:example:crm",
        "type": "contact.changed.v1",
        "time": f"2026-11-22T{n // 3600 % 24:02d}:{n // 60 % 60:02d}:{n % 60:02d}.{n % 1000:03d}Z",
        "datacontenttype": "application/json",
        "data": data,
    }
    return f"c-{contact:07d}".encode(), json.dumps(value, separators=(",", ":")).encode()


def profile(n: int, _: int, seed: int = 7) -> tuple[bytes, bytes]:
    """Key and value of the change of contact number ``n``: of each contact one, of about 700 bytes."""
    rng = random.Random(seed * 1_000_003 + n)
    data = {
        "contact_id": f"c-{n:07d}",
        "change": "updated",
        "identifiers": {"np6": f"{n:06d}AB", "email": f"contact{n}@example.org", "phone": f"+33 6 {n:08d}"},
        "attributes": {
            "first_name": "Jeanne",
            "last_name": "Dupont-Moretti",
            "city": rng.choice(_CITIES),
            "points": rng.randrange(100_000),
            "newsletter": rng.random() < 0.5,
            "score": round(rng.random(), 4),
            "note": "x" * 90,
        },
        "consents": [{"channel": "email", "topic": "shoes", "status": rng.choice(("opt-in", "opt-out"))}],
        "tags": ["app"],
        "version": n,
    }
    value = {
        "specversion": "1.0",
        "id": f"evt-{n:09d}",
        "source": "urn:example:crm",
        "type": "contact.changed.v1",
        "time": f"2026-11-22T{n // 3600 % 24:02d}:{n // 60 % 60:02d}:{n % 60:02d}.{n % 1000:03d}Z",
        "datacontenttype": "application/json",
        "data": data,
    }
    return f"c-{n:07d}".encode(), json.dumps(value, separators=(",", ":")).encode()


def notification(n: int, targets: int, seed: int = 7) -> tuple[bytes, bytes]:
    """Key and value of notification number ``n``: about 500 bytes; 20 of them a second."""
    rng = random.Random(seed * 1_000_003 + n)
    target = f"{rng.randrange(targets):06d}AB"
    second = n // 20
    time = f"2026-11-22T{second // 3600 % 24:02d}:{second // 60 % 60:02d}:{second % 60:02d}.{n % 20 * 50:03d}Z"
    data = {
        "notification_key": 1_000 + rng.randrange(50),
        "target": target,
        "action": "activation",
        "occurred_at": time,
        "label": f"Autumn campaign in {rng.choice(_CITIES)}",
        "contact_id": f"c-{target}",
        "context": {"channel": "web", "page": "x" * 60, "basket": round(rng.random() * 100, 2)},
    }
    value = {
        "specversion": "1.0",
        "id": f"evt-{n:09d}",
        "source": "urn:example:np6",
        "type": "notification.occurred.v1",
        "time": time,
        "datacontenttype": "application/json",
        "data": data,
    }
    return target.encode(), json.dumps(value, separators=(",", ":")).encode()
