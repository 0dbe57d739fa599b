"""Accounts of Apsis One and Copernica: what is taken, and what is refused."""

import pytest

from service.config import ApsisAccount, CopernicaAccount

TOYS = '  main: {platform: np6, base_url: "https://api.example", api_key: {env: TOY_KEY}}\n'
APSIS = (
    'platform: apsis, base_url: "https://api.apsis.one", client_id: {env: A}, client_secret: {env: B}, '
    'upload_hosts: ["s3.eu-west-1.amazonaws.com"]'
)
COPERNICA = 'platform: copernica, base_url: "https://api.copernica.com/", access_token: {env: C}'


def test_accounts_with_their_defaults(loading, good) -> None:
    """Three open imports of Apsis One, four of Copernica; an orphan lives for an hour."""
    config = loading(good.replace(TOYS, f"{TOYS}  apsis: {{{APSIS}}}\n  copernica: {{{COPERNICA}}}\n"))
    apsis, copernica = config.accounts["apsis"], config.accounts["copernica"]
    assert isinstance(apsis, ApsisAccount)
    assert isinstance(copernica, CopernicaAccount)
    assert (apsis.limits.max_open_imports, apsis.limits.orphan_life_s) == (3, 3_600)
    assert (copernica.limits.max_open_imports, copernica.api_version) == (4, 4)
    assert copernica.base_url == "https://api.copernica.com"
    assert copernica.token_url == "https://authenticate.copernica.com"


@pytest.mark.parametrize(
    ("account", "fault"),
    [
        (f"{APSIS}, api_key: {{env: D}}", "unknown key"),
        (APSIS.replace("client_id: {env: A}, ", ""), "client_id: is required"),
        (APSIS.replace('["s3.eu-west-1.amazonaws.com"]', "[]"), "at least 1"),
        (APSIS.replace("s3.eu-west-1.amazonaws.com", "https://x.example"), "is no host"),
        (APSIS.replace("s3.eu-west-1.amazonaws.com", "*.com"), "half of the world"),
        (APSIS.replace("s3.eu-west-1.amazonaws.com", "a.example:0"), "is no host"),
        (APSIS.replace("s3.eu-west-1.amazonaws.com", "a.example:99999"), "is no host"),
        (f"{APSIS}, limits: {{max_open_imports: 0}}", "at least 1"),
        (f"{COPERNICA}, api_version: 3", "needs i_know: true"),
        (f"{COPERNICA}, api_version: 2", "expected 3 or 4"),
        (f'{COPERNICA}, token_url: "http://authenticate.copernica.com"', "expected an https URL"),
        (f'{COPERNICA}, token_url: "http://127.0.0.1:9"', "where base_url is on loopback alone"),
    ],
)
def test_what_is_refused(loading, good, account: str, fault: str) -> None:
    """With what is allowed instead."""
    faults = loading.faults(good.replace(TOYS, f"{TOYS}  other: {{{account}}}\n"))
    assert any("accounts.other" in one and fault in one for one in faults), faults


@pytest.mark.parametrize("host", ["*.uploads.example", "a.example:8443", "10.0.0.1"])
def test_hosts_that_take_uploads(loading, good, host: str) -> None:
    """Exact, below a suffix, with a port."""
    account = APSIS.replace("s3.eu-west-1.amazonaws.com", host)
    config = loading(good.replace(TOYS, f"{TOYS}  apsis: {{{account}}}\n"))
    apsis = config.accounts["apsis"]
    assert isinstance(apsis, ApsisAccount)
    assert apsis.upload_hosts == (host,)


def test_version_3_is_taken_by_who_knows(loading, good) -> None:
    """``i_know: true``."""
    text = good.replace(TOYS, f"{TOYS}  other: {{{COPERNICA}, api_version: 3, i_know: true}}\n")
    account = loading(text).accounts["other"]
    assert isinstance(account, CopernicaAccount)
    assert account.api_version == 3
