"""What nobody may read, and whether a text holds it."""

import re

from tests.support.events import CITY, EMAIL_DOMAIN
from tests.support.harness import API_KEY

# In an address or a JSON text the same could stand in another spelling.
_SECRETS = (
    API_KEY,
    EMAIL_DOMAIN,
    CITY,
    "Quimperl",
    "secret",
    "Name-",
    "33612345678",
)


def leaks(text: str) -> set[str]:
    """Which of what nobody may read stands in a text, in whatever spelling."""
    spellings = [text.lower()]
    if "\\u" in text:
        spellings.append(re.sub(r"\\u([0-9a-fA-F]{4})", lambda match: chr(int(match[1], 16)), text).lower())
    return {secret for secret in _SECRETS if any(secret.lower() in spelling for spelling in spellings)}
