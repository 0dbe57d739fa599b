"""NP6's segments as the sandbox imitates them."""

from typing import Any

import msgspec
import pytest

from handlers.np6.sandbox import Np6Sandbox, RateLimit, Rules
from handlers.sandbox import KeyState, PlatformAnswer

POST = {"X-Key": "k", "Content-Length": "0"}


def ask(
    sandbox: Np6Sandbox,
    method: str,
    path: str,
    *,
    headers: dict[str, str] | None = None,
    body: bytes = b"",
    now: float = 0.0,
    account: str = "main",
) -> PlatformAnswer:
    subject = sandbox.subject(method, path)
    return sandbox.answer(account, method, subject, POST if headers is None else headers, body, now)


def with_rules(**rules: Any) -> Np6Sandbox:
    return Np6Sandbox({"main": Rules(**rules)})


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("POST", "/targets/T/segments/5", ("join", "T", "5")),
        ("DELETE", "/targets/T/segments/5", ("leave", "T", "5")),
        ("GET", "/targets/T/segments", ("get", "T", None)),
        ("POST", "/targets/a%2Fb%25/segments/5", ("join", "a/b%", "5")),
        ("PUT", "/targets/T/segments/5", ("unsupported", None, None)),
        ("POST", "/targets/T/segments", ("unsupported", None, None)),
        ("POST", "/targets/%2E%2E/segments/5", ("other", None, None)),
        ("POST", "/targets//segments/5", ("other", None, None)),
        ("POST", "/targets/T/segments/5/6", ("other", None, None)),
        ("POST", "/segments/5", ("other", None, None)),
    ],
)
def test_what_a_request_is_about(method: str, path: str, expected: tuple[str, ...]) -> None:
    """Kind, target and segment are read from method and path; what climbs the path is nothing known."""
    subject = Np6Sandbox().subject(method, path)
    assert (subject.kind, subject.target, subject.entity) == expected


def test_join_leave_and_read() -> None:
    """A join and a leave are 204 and change what the GET lists."""
    sandbox = Np6Sandbox()
    assert ask(sandbox, "POST", "/targets/T/segments/7") == PlatformAnswer(
        204, {"x-request-id": "sandbox-1"}, effect=True
    )
    ask(sandbox, "POST", "/targets/T/segments/5")
    assert ask(sandbox, "GET", "/targets/T/segments").body == b"[5,7]"
    assert ask(sandbox, "DELETE", "/targets/T/segments/7").status == 204
    assert ask(sandbox, "GET", "/targets/T/segments").body == b"[5]"
    assert ask(sandbox, "GET", "/targets/U/segments").body == b"[]"


def test_already_there_is_an_empty_409_and_a_leave_of_nobody_a_404() -> None:
    """The second join conflicts, without a word; leaving what one is not in is not found."""
    sandbox = Np6Sandbox()
    ask(sandbox, "POST", "/targets/T/segments/7")
    again = ask(sandbox, "POST", "/targets/T/segments/7")
    assert (again.status, again.body, again.effect) == (409, b"", False)
    gone = ask(sandbox, "DELETE", "/targets/T/segments/8")
    assert (gone.status, gone.effect) == (404, False)


@pytest.mark.parametrize("method", ["POST", "DELETE"])
def test_a_dynamic_segment_is_an_empty_409(method: str) -> None:
    """Nobody can be assigned to a dynamic segment, and the answer does not say so."""
    answer = ask(with_rules(dynamic_segments={9}), method, "/targets/T/segments/9")
    assert (answer.status, answer.body, answer.effect) == (409, b"", False)


@pytest.mark.parametrize(
    ("rules", "path"),
    [
        ({"unknown_targets": {"T"}}, "/targets/T/segments/5"),
        ({"targets": {"U"}}, "/targets/T/segments/5"),
        ({"unknown_segments": {5}}, "/targets/T/segments/5"),
        ({"segments": {6}}, "/targets/T/segments/5"),
        ({}, "/targets/T/segments/2147483648"),
        ({}, "/targets/T/segments/x"),
        ({}, "/targets/T/segments/²"),
        ({}, "/elsewhere"),
    ],
)
@pytest.mark.parametrize("method", ["POST", "DELETE"])
def test_unknown_is_404(method: str, rules: dict[str, Any], path: str) -> None:
    """Unknown target, unknown segment and an invalid value are one answer that does not say which."""
    answer = ask(with_rules(**rules), method, path)
    assert (answer.status, answer.effect) == (404, False)


def test_an_unknown_target_has_no_list() -> None:
    """The GET of an unknown target is a 404."""
    assert ask(with_rules(unknown_targets={"T"}), "GET", "/targets/T/segments").status == 404


@pytest.mark.parametrize(
    ("headers", "state"),
    [
        ({}, KeyState.NONE),
        ({"X-Key": ""}, KeyState.NONE),
        ({"X-Key": "wrong"}, KeyState.WRONG),
        ({"X-Key": "right"}, KeyState.RIGHT),
    ],
)
def test_the_key(headers: dict[str, str], state: KeyState) -> None:
    """Without one of the account's keys everything is 401 and nothing takes effect."""
    sandbox = with_rules(keys={"right"})
    assert sandbox.key_state("main", headers) is state
    answer = ask(sandbox, "POST", "/targets/T/segments/5", headers={**headers, "Content-Length": "0"})
    assert answer.status == (204 if state is KeyState.RIGHT else 401)
    assert sandbox.state("main")["segments"] == ({"T": [5]} if state is KeyState.RIGHT else {})


def test_a_post_without_length_is_411() -> None:
    """A POST says how long its body is, even if there is none."""
    assert ask(Np6Sandbox(), "POST", "/targets/T/segments/5", headers={"X-Key": "k"}).status == 411
    assert ask(Np6Sandbox(), "GET", "/targets/T/segments", headers={"X-Key": "k"}).status == 200


@pytest.mark.parametrize(("media_type", "status"), [("text/plain", 415), ("application/json; charset=x", 204)])
def test_a_body_of_another_media_type_is_415(media_type: str, status: int) -> None:
    """A body is JSON or refused."""
    headers = {"X-Key": "k", "Content-Length": "2", "Content-Type": media_type}
    assert ask(Np6Sandbox(), "POST", "/targets/T/segments/5", headers=headers, body=b"{}").status == status


def test_another_method_is_405() -> None:
    """A known path does not take every method."""
    assert ask(Np6Sandbox(), "PUT", "/targets/T/segments/5").status == 405


@pytest.mark.parametrize(("reading", "reset"), [("seconds", "2"), ("epoch", "1700000002")])
def test_the_rate_limit_in_both_readings_of_reset(reading: Any, reset: str) -> None:
    """So many calls per window, the rest 429; the headers count down and say when it ends."""
    limit = RateLimit(requests=2, window_s=2.0, reset=reading, retry_after=True)
    sandbox = with_rules(limit=limit)
    answers = [ask(sandbox, "POST", f"/targets/T/segments/{n}", now=1_700_000_000.0) for n in range(3)]
    assert [answer.status for answer in answers] == [204, 204, 429]
    assert [answer.headers["X-RateLimit-Remaining"] for answer in answers] == ["1", "0", "0"]
    assert answers[2].headers["X-RateLimit-Limit"] == "2"
    assert answers[2].headers["X-RateLimit-Reset"] == reset
    assert answers[2].headers["Retry-After"] == "2"
    assert "Retry-After" not in answers[1].headers
    assert not answers[2].effect
    assert ask(sandbox, "POST", "/targets/T/segments/9", now=1_700_000_002.0).status == 204


def test_a_rate_limit_can_be_silent() -> None:
    """The headers may be missing: the platform says only that they may be sent."""
    sandbox = with_rules(limit=RateLimit(requests=0, headers=False))
    answer = ask(sandbox, "POST", "/targets/T/segments/5")
    assert (answer.status, list(answer.headers)) == (429, ["x-request-id", "Content-Type"])


@pytest.mark.parametrize(
    ("form", "body"),
    [
        ("ExceptionMessage", b'{"ExceptionMessage":"Target or segment unknown"}'),
        ("Message", b'{"Message":"Target or segment unknown"}'),
        ("errorType", b'{"errorType":"404","errorData":[{"value":"Target or segment unknown"}]}'),
        ("text", b"Target or segment unknown"),
        ("empty", b""),
    ],
)
def test_errors_in_each_form_that_was_seen(form: Any, body: bytes) -> None:
    """What form errors have today is not known, so that each can be asked for."""
    answer = ask(with_rules(errors=form, unknown_targets={"T"}), "POST", "/targets/T/segments/5")
    assert answer.body == body


def test_accounts_are_apart() -> None:
    """What one account does is not seen in another."""
    sandbox = Np6Sandbox()
    ask(sandbox, "POST", "/targets/T/segments/5", account="a")
    assert ask(sandbox, "GET", "/targets/T/segments", account="b").body == b"[]"
    assert sandbox.state(None)["accounts"]["a"] == {
        "targets": 1,
        "assignments": 1,
        "executions": 0,
        "imports": 0,
    }


def test_rules_change_one_by_one_and_survive_a_reset() -> None:
    """configure replaces the named rules alone; reset empties the segments alone; state never shows a key."""
    sandbox = with_rules(keys={"secret-key"}, unknown_targets={"X"})
    ask(sandbox, "POST", "/targets/T/segments/5", headers={"X-Key": "secret-key", "Content-Length": "0"})
    sandbox.configure("main", {"dynamic_segments": [9], "limit": {"requests": 5}})
    sandbox.reset()
    state = sandbox.state("main")
    assert state["segments"] == {}
    assert state["rules"]["dynamic_segments"] == [9]
    assert state["rules"]["unknown_targets"] == ["X"]
    assert state["rules"]["limit"]["requests"] == 5
    assert b"secret-key" not in msgspec.json.encode(state)
    with pytest.raises(ValueError, match="unknown field"):
        sandbox.configure("main", {"dynamic": [9]})


def test_forgetful_for_benchmarks() -> None:
    """With remember off every join is 204 and nothing is kept; the key still counts."""
    sandbox = Np6Sandbox({"main": Rules(keys={"k"})}, remember=False)
    assert [ask(sandbox, "POST", "/targets/T/segments/5").status for _ in range(2)] == [204, 204]
    assert ask(sandbox, "POST", "/targets/T/segments/5", headers={"Content-Length": "0"}).status == 401
    assert sandbox.state("main")["segments"] == {}
