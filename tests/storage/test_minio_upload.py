"""The upload of an import's file before a storage that is not ours and obeys its policies: MinIO, by ``make minio``.

The platform's storage is S3: forms and policies are signed here as the platform does (AWS Signature Version 4).
"""

import base64
import hashlib
import hmac
import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest

from handlers.apsis.verdicts import judge_upload
from handlers.base import Answer, Hold, Reply
from handlers.imports.verdicts import Divide, Lapsed, Opened, Upload, Uploaded
from service.clock import SystemClock
from service.transport.http import TransportPolicy
from service.uploading.sending import FileSender
from service.uploading.spool import Spool, Spools
from service.uploading.upload import FormPolicy, FormUploads, upload_problem
from tests.support.patience import patiently

MINIO = os.environ.get("MINIO", "")
pytestmark = pytest.mark.skipif(not MINIO, reason="MINIO names no MinIO: `make minio` builds one and runs this")

USER, PASSWORD, BUCKET, REGION = "fanline", "fanline-test-only", "imports", "us-east-1"
KEY = "imports/one.csv"
CONTENT = b"email,city\r\n" + 'a@example.org,"Malmö, ""syd"""\r\n'.encode() * 2_000
MOST = 1_000_000


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a MinIO with an empty bucket."""
    folder = tmp_path_factory.mktemp("minio")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        place = f"127.0.0.1:{listener.getsockname()[1]}"
    command = [MINIO, "server", str(folder), "--address", place, "--quiet"]
    environment = {**os.environ, "MINIO_ROOT_USER": USER, "MINIO_ROOT_PASSWORD": PASSWORD, "MINIO_BROWSER": "off"}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + patiently(60.0)
        while not is_there(process, f"http://{place}/{BUCKET}"):
            assert time.monotonic() < deadline, "MinIO does not answer"
            time.sleep(0.1)
        yield f"http://{place}"
    finally:
        process.terminate()
        process.wait(30)
        shutil.rmtree(folder, ignore_errors=True)


def is_there(process: subprocess.Popen[bytes], bucket: str) -> bool:
    """Whether MinIO has begun; the bucket is made then."""
    assert process.poll() is None, "MinIO has ended"
    try:
        asked("PUT", bucket)
    except urllib.error.HTTPError as error:
        if error.code == 409:
            return True
        if error.code != 503:
            raise
    except OSError:
        return False
    else:
        return True
    return False


def signed(text: str, day: str) -> str:
    key = f"AWS4{PASSWORD}".encode()
    for part in (day, REGION, "s3", "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return hmac.new(key, text.encode(), "sha256").hexdigest()


def asked(method: str, url: str) -> bytes:
    """The answer to a request of the storage's owner."""
    now = datetime.now(UTC)
    day, moment = now.strftime("%Y%m%d"), now.strftime("%Y%m%dT%H%M%SZ")
    _, _, host, path = url.split("/", 3)
    nothing = hashlib.sha256(b"").hexdigest()
    heads = {"host": host, "x-amz-content-sha256": nothing, "x-amz-date": moment}
    listed = "".join(f"{name}:{value}\n" for name, value in heads.items())
    canonical = f"{method}\n/{path}\n\n{listed}\n{';'.join(heads)}\n{nothing}"
    scope = f"{day}/{REGION}/s3/aws4_request"
    to_sign = f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    proof = f"Credential={USER}/{scope}, SignedHeaders={';'.join(heads)}, Signature={signed(to_sign, day)}"
    request = urllib.request.Request(
        url, method=method, headers={**heads, "Authorization": f"AWS4-HMAC-SHA256 {proof}"}
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        content: bytes = answer.read()
    return content


def form(*, lives_s: float = 600.0, most: int = MOST, success: str | None = "200") -> dict[str, str]:
    """The fields of a form as the platform gives them, the file's bytes bounded by ``most``."""
    now = datetime.now(UTC)
    day = now.strftime("%Y%m%d")
    fields = {
        "key": KEY,
        **({} if success is None else {"success_action_status": success}),
        "content-type": "text/csv",
        "x-amz-algorithm": "AWS4-HMAC-SHA256",
        "x-amz-credential": f"{USER}/{day}/{REGION}/s3/aws4_request",
        "x-amz-date": now.strftime("%Y%m%dT%H%M%SZ"),
    }
    policy = {
        "expiration": (now + timedelta(seconds=lives_s)).strftime("%Y-%m-%dT%H:%M:%S.000Z"),
        "conditions": [{"bucket": BUCKET}, ["content-length-range", 1, most], *({k: v} for k, v in fields.items())],
    }
    encoded = base64.b64encode(json.dumps(policy).encode()).decode()
    return {**fields, "policy": encoded, "x-amz-signature": signed(encoded, day)}


@asynccontextmanager
async def spooled(content: bytes = CONTENT) -> AsyncIterator[Spool]:
    file = await Spools(SystemClock()).write([content])
    try:
        yield file
    finally:
        file.close()


def uploads() -> FormUploads:
    return FormUploads(FileSender(TransportPolicy("http://127.0.0.1", 5.0, 30.0, 1), None), POLICY)


POLICY = FormPolicy(["127.0.0.1"], MOST, plain_loopback=True)


async def upload(storage: str, fields: Mapping[str, str], content: bytes = CONTENT) -> Reply | Hold:
    """What our transport gets for a form."""
    opened = Opened("import-1", Upload(f"{storage}/{BUCKET}", tuple(fields.items()), None))
    async with spooled(content) as file:
        return await uploads().send(opened, file)


def judged(reply: Reply | Hold, *, expired: bool = False) -> object:
    """What the answer means to the lane."""
    assert isinstance(reply, Answer)
    return judge_upload(reply, expired=expired)


def code_of(reply: Reply | Hold) -> tuple[int, str]:
    assert isinstance(reply, Answer)
    found = reply.body.decode().partition("<Code>")[2].partition("</Code>")[0]
    return reply.status, found


@pytest.mark.parametrize(("told", "status"), [("200", 200), ("201", 201), (None, 204)])
async def test_a_good_form_is_taken_and_the_file_lies_there(storage: str, told: str | None, status: int) -> None:
    """Byte for byte, whatever success the form asks for; nothing but the form proves who we are."""
    content = CONTENT + str(status).encode()
    reply = await upload(storage, form(success=told), content)
    assert code_of(reply)[0] == status
    assert judged(reply) == Uploaded()
    assert asked("GET", f"{storage}/{BUCKET}/{KEY}") == content


async def test_a_file_that_is_too_large_is_refused_there_too(storage: str) -> None:
    """The policy is obeyed before anything is sent; where it was not, the file would be divided."""
    fields = form(most=len(CONTENT) - 1)
    async with spooled() as file:
        problem = upload_problem(Upload(f"{storage}/{BUCKET}", tuple(fields.items()), None), file.size, POLICY)
    assert problem is not None
    assert f"takes {len(CONTENT) - 1} bytes" in problem
    reply = await upload(storage, fields)
    assert code_of(reply) == (400, "EntityTooLarge")
    verdict = judged(reply)
    assert isinstance(verdict, Divide)
    assert verdict.too_large


async def test_a_file_at_the_bound_is_taken(storage: str) -> None:
    """The policy counts the file alone, and not the form around it."""
    assert judged(await upload(storage, form(most=len(CONTENT)))) == Uploaded()


@pytest.mark.parametrize(
    "changes",
    [
        {"content-type": "text/plain"},
        {"key": "imports/another.csv"},
        {"x-amz-signature": "0" * 64},
        {"x-amz-meta-more": "a field that the policy does not have"},
    ],
    ids=["changed field", "changed key", "wrong signature", "extra field"],
)
async def test_a_form_that_is_not_as_it_was_given_holds_the_lane(storage: str, changes: dict[str, str]) -> None:
    """So every field goes as it was given, and none beside them; a refusal is the form's fault and no event's."""
    reply = await upload(storage, {**form(), **changes})
    assert code_of(reply)[0] == 403
    verdict = judged(reply)
    assert isinstance(verdict, Hold)
    assert "refuses the file (403" in verdict.reason


async def test_an_address_that_has_expired_takes_nothing(storage: str) -> None:
    """The import is created anew; were its time not over by our clock, the lane would hold and say so."""
    reply = await upload(storage, form(lives_s=-5.0))
    assert code_of(reply)[0] == 403
    assert judged(reply, expired=True) == Lapsed()
    assert isinstance(judged(reply), Hold)


async def test_a_file_of_many_blocks_arrives_whole(storage: str) -> None:
    """Twenty MB, sent in pieces from the disk."""
    content = b"x" * 79 + b"\n"
    content *= 250_000
    reply = await upload(storage, form(most=50_000_000), content)
    assert judged(reply) == Uploaded()
    assert hashlib.sha256(asked("GET", f"{storage}/{BUCKET}/{KEY}")).digest() == hashlib.sha256(content).digest()
