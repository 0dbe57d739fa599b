"""What imports read of platforms, of their storage and of FTP servers, as functions of an answer."""

from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from yarl import URL

from contracts.journal import Delivery, DeliveryKey, DeliveryState, ImportEntry, decode_entry, encode_entry
from handlers.apsis import client as apsis
from handlers.apsis import verdicts as of_apsis
from handlers.base import Answer, Failure, Hold, Refusal, Request, Retry
from handlers.copernica import client as copernica
from handlers.copernica import verdicts as of_copernica
from handlers.imports.form import is_named
from handlers.imports.putting import Free
from handlers.imports.verdicts import Completed, Divide, Failed, Lapsed, MayBeOpen, Opened, Pending, Unclear, Uploaded
from handlers.np6 import client as np6
from handlers.np6 import import_verdicts as of_np6
from handlers.np6.import_definitions import Definition, Finding, Standing, place_problem
from service.imports.judging import judge_end
from service.uploading.upload import FormPolicy, upload_problem

# Of a success, of what is told as no effect, and of nothing else an import is created once more.
_NOTHING_OPENED = frozenset({401, 409, 429, 503})
_NO_EFFECT = (Retry, Hold)


def check_import_answers(answer: Answer) -> None:
    """Each platform's answer to each step: a verdict of that step, which promises no more than the answer says."""
    _check_create(of_apsis.judge_create(answer), answer, lambda number: apsis.import_status("section", number))
    for repeatable in (True, False):
        created = of_copernica.judge_create(answer, repeatable=repeatable)
        _check_create(created, answer, lambda number: copernica.import_status(number, 4))
    for started in (of_np6.judge_start(answer, "23"), of_np6.judge_ftp_start(answer, "23")):
        _check_create(started, answer, lambda number: np6.import_of(int(number)))
    assert not isinstance(of_copernica.judge_create(answer, repeatable=False), Retry) or _says_no_effect(answer)
    assert not isinstance(of_apsis.judge_create(answer), Retry) or _says_no_effect(answer)
    for expired in (True, False):
        uploaded = of_apsis.judge_upload(answer, expired=expired)
        assert isinstance(uploaded, Uploaded | Unclear | Lapsed | Divide | Retry | Hold)
        assert not isinstance(uploaded, Uploaded) or _is_success(answer)
    for polled in (
        of_apsis.judge_poll(answer),
        of_copernica.judge_poll(answer, 3),
        of_np6.judge_state(answer),
        of_np6.judge_ftp_poll(answer),
    ):
        _check_poll(polled, answer)
    for looked in (of_np6.judge_look(answer), of_np6.judge_ftp_look(answer)):
        assert isinstance(looked, Free | Retry | Hold)
    for put in (of_np6.judge_put(answer), of_np6.judge_ftp_put(answer)):
        assert isinstance(put, Uploaded | Divide | Retry | Hold)
        assert not isinstance(put, Uploaded) or _is_success(answer)
    for finding in (Finding(23), Finding(Definition("n", b"{}"))):
        _check_finding(finding, answer)


def _is_success(answer: Answer) -> bool:
    return 200 <= answer.status < 300


def _says_no_effect(answer: Answer) -> bool:
    return answer.status in _NOTHING_OPENED


def _check_create(verdict: Any, answer: Answer, status_of: Callable[[str], Request]) -> None:
    assert not isinstance(verdict, Failure | Refusal)
    if not isinstance(verdict, Opened):
        assert not isinstance(verdict, Uploaded | Completed | Free)
        _check_line(verdict, answer)
        return
    assert _is_success(answer)
    path = status_of(verdict.import_id).path
    assert path.isascii()
    assert not {".", "..", ""} & set(path.split("/")[1:]), "it leads elsewhere"
    upload = verdict.upload
    if upload is None:
        return
    # It lies in the journal until the file is there, and is believed after a restart.
    entry = ImportEntry(0, url=upload.url, fields=upload.fields, expires_at_ms=upload.expires_at_ms)
    written = Delivery("apsis.imports", DeliveryState.CREATED, {}, 1, verdict.import_id, entry)
    assert decode_entry(DeliveryKey("b.1"), encode_entry(written)) == written
    for hosts in (["*.amazonaws.com"], [_host(upload.url)]):
        policy = FormPolicy(hosts, 50_000_000)
        if upload_problem(upload, 100, policy) is None:
            assert upload.url.lower().startswith("https://")
            is_named(upload.url, hosts)
            address = URL(upload.url, encoded=True)
            assert address.host == _host(upload.url)
            assert address.origin().scheme == "https"
            assert address.raw_path_qs.startswith("/")


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or "nowhere"
    except ValueError:
        return "nowhere"


def _check_poll(verdict: Any, answer: Answer) -> None:
    assert isinstance(verdict, Pending | Completed | Failed | Retry | Hold)
    if isinstance(verdict, Completed | Failed):
        judge_end(verdict, 3, divides=True)
    if isinstance(verdict, Completed):
        # A file that is gone from a folder has been fetched; nothing else is complete without a success.
        assert _is_success(answer) or answer.status in (404, 410)
        assert (verdict.found or 0) >= 0 <= (verdict.failed or 0)
    _check_line(verdict, answer)


def _check_finding(finding: Finding, answer: Answer) -> None:
    told = finding.learn(answer)
    assert told is None or isinstance(told, _NO_EFFECT)
    assert told is None or finding.found is None
    if isinstance(finding.found, Standing):
        assert _is_success(answer)
        place_problem(finding.found.folder, finding.found.file_name)
    if told is not None:
        _check_line(told, answer)


def _check_line(verdict: Any, answer: Answer) -> None:
    """One line, no longer than what was said."""
    text = verdict.reason if isinstance(verdict, Hold) else getattr(verdict, "detail", None)
    if text is not None and not isinstance(verdict, MayBeOpen | Divide):
        assert "\n" not in text
        assert len(text) <= 1_000 + 2 * len(answer.body)
