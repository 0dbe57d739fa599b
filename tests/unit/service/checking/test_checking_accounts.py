"""What the reply to the trial call says of an account."""

import pytest

from handlers.base import Answer, Failure, FailureKind
from service.app import PLATFORMS
from service.checking.accounts import judge
from service.config import Np6Account, Secret
from service.findings import Severity

ACCOUNT = Np6Account(name="main", platform="np6", base_url="https://np6.example.org", api_key=Secret(text="k-e-y-4711"))


@pytest.mark.parametrize(
    ("status", "severity", "told"),
    [
        (200, Severity.FINE, "accepted"),
        (404, Severity.FINE, "accepted"),
        (401, Severity.ERROR, "accounts.main.api_key"),
        (403, Severity.ERROR, "right"),
        (302, Severity.ERROR, "accounts.main.base_url"),
        (405, Severity.ERROR, "accounts.main.base_url"),
        (429, Severity.WARNING, "try again"),
        (503, Severity.WARNING, "try again"),
        (500, Severity.WARNING, "hold"),
        (418, Severity.WARNING, "unusual"),
    ],
)
def test_each_status_is_judged(status: int, severity: Severity, told: str) -> None:
    """Only what proves that the key was accepted is fine; each other one says what to do."""
    finding = judge(ACCOUNT, PLATFORMS["np6"], Answer(status, {}, b"somebody@example.org"))
    assert finding.severity is severity
    assert told in str(finding)
    assert str(status) in finding.problem
    assert "somebody" not in str(finding)


def test_copernica_says_400_of_what_is_not_there() -> None:
    """And of a token that it does not take; the message tells which, and no other platform's 400 is fine."""
    unknown = Answer(400, {}, b'{"error": {"message": "No import with this id"}}')
    refused = Answer(400, {}, b'{"error": {"message": "Invalid access token"}}')
    assert judge(ACCOUNT, PLATFORMS["copernica"], unknown).severity is Severity.FINE
    assert judge(ACCOUNT, PLATFORMS["copernica"], refused).severity is Severity.ERROR
    assert judge(ACCOUNT, PLATFORMS["apsis"], unknown).severity is Severity.WARNING


@pytest.mark.parametrize("kind", FailureKind)
def test_without_an_answer_the_account_fails(kind: FailureKind) -> None:
    """With the address, what happened, and the key of the configuration to look at."""
    finding = judge(ACCOUNT, PLATFORMS["np6"], Failure(kind, "what happened"))
    assert finding.severity is Severity.ERROR
    assert "https://np6.example.org: what happened" in finding.problem
    assert "accounts.main." in (finding.remedy or "")
