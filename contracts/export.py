"""The contracts for people and tools that do not read Python: AsyncAPI 3 and JSON Schemas."""

from typing import Any

from .schemas import components, json_schemas

__all__ = ["asyncapi", "json_schemas"]

CONTRACTS_VERSION = "1.0.0"

_JSON = "application/json"
_CLOUDEVENT = "application/cloudevents+json"
_KEY: dict[str, Any] = {"type": "string", "description": "The ordering key: its bytes are what orders events."}


def asyncapi() -> dict[str, Any]:
    """The AsyncAPI 3 document: source topics, results and dead letters under their default names."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Fanline",
            "version": CONTRACTS_VERSION,
            "description": "Contact changes and notifications in, one result per event and lane out. "
            "What could not be delivered lies, whole, on the lane's dead-letter topic.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": _CLOUDEVENT,
        "channels": _channels(),
        "operations": _operations(),
        "components": {"messages": _messages(), "schemas": components("#/components/schemas/")},
    }


def _channels() -> dict[str, Any]:
    return {
        "contacts": _channel(
            "contacts.changed", "Contact changes.", "ContactChangedStructured", "ContactChangedBinary"
        ),
        "notifications": _channel(
            "notifications",
            "What happened to notifications.",
            "NotificationOccurredStructured",
            "NotificationOccurredBinary",
        ),
        "results": _channel(
            "{topicPrefix}.results", "One result per event and lane.", "SyncResult", lane_parameter=False
        ),
        "deadLetters": _channel("{topicPrefix}.{lane}.dead-letters", "What a lane could not deliver.", "DeadLetter"),
    }


def _channel(address: str, description: str, *messages: str, lane_parameter: bool = True) -> dict[str, Any]:
    channel: dict[str, Any] = {
        "address": address,
        "description": description,
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
    }
    if "{" in address:
        channel["parameters"] = {
            "topicPrefix": {"default": "fanline", "description": "kafka.topic_prefix of the configuration."}
        }
        if lane_parameter:
            channel["parameters"]["lane"] = {"description": "The lane's name."}
    return channel


def _operations() -> dict[str, Any]:
    actions = {
        "receiveContacts": ("receive", "contacts"),
        "receiveNotifications": ("receive", "notifications"),
        "sendResults": ("send", "results"),
        "sendDeadLetters": ("send", "deadLetters"),
    }
    return {
        name: {"action": action, "channel": {"$ref": f"#/channels/{channel}"}}
        for name, (action, channel) in actions.items()
    }


def _messages() -> dict[str, Any]:
    return {
        "ContactChangedStructured": _structured("contact.changed.v1", "ContactChangedEvent"),
        "ContactChangedBinary": _binary("contact.changed.v1", "ContactChanged"),
        "NotificationOccurredStructured": _structured("notification.occurred.v1", "NotificationOccurredEvent"),
        "NotificationOccurredBinary": _binary("notification.occurred.v1", "NotificationOccurred"),
        "SyncResult": _structured("sync.result.v1", "SyncResult"),
        "DeadLetter": {
            "name": "dead letter",
            "summary": "The original record, byte for byte, and why it was given up.",
            "contentType": "application/octet-stream",
            "headers": {"$ref": "#/components/schemas/DeadLetterHeaders"},
            "payload": {"description": "The value of the original record; may be null."},
            "bindings": {"kafka": {"key": _KEY, "bindingVersion": "0.5.0"}},
        },
    }


def _structured(kind: str, schema: str) -> dict[str, Any]:
    header = {"type": "string", "description": f"{_CLOUDEVENT}, with or without parameters."}
    return _message(kind, "structured", _CLOUDEVENT, schema, {"content-type": header}, [])


def _binary(kind: str, schema: str) -> dict[str, Any]:
    required = ["ce_specversion", "ce_id", "ce_source", "ce_type"]
    texts = [*required, "ce_time", "ce_subject", "ce_tenant", "ce_traceparent", "ce_tracestate", "content-type"]
    headers: dict[str, Any] = {name: {"type": "string"} for name in texts}
    headers["ce_specversion"]["const"] = "1.0"
    headers["ce_type"]["const"] = kind
    return _message(kind, "binary", _JSON, schema, headers, required)


def _message(
    kind: str, mode: str, content_type: str, schema: str, headers: dict[str, Any], required: list[str]
) -> dict[str, Any]:
    return {
        "name": kind,
        "title": f"{kind} ({mode} mode)",
        "contentType": content_type,
        "headers": {"type": "object", "properties": headers, "required": required},
        "payload": {"$ref": f"#/components/schemas/{schema}"},
        "bindings": {"kafka": {"key": _KEY, "bindingVersion": "0.5.0"}},
    }
