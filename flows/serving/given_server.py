"""The Prefect server that the user names in PREFECT_API_URL, and the proxies on the way there."""

import os
import re
from base64 import b64encode
from urllib.parse import urlsplit

from schemas.errors import UserError

ANSWER_SECONDS = 5
PROXIES = ("http_proxy", "https_proxy", "all_proxy")


def require_answer(address: str) -> None:
    """See that a Prefect API answers at the address that the user gave, and takes what the user says as a secret.

    Raises:
        UserError: nothing does, it is no address, or it does not know us.
    """
    import httpx

    where = f"PREFECT_API_URL={without_secret(address)}"
    fix = "start that server, or do without it: unset PREFECT_API_URL"
    try:
        if urlsplit(address).scheme not in ("http", "https") or not urlsplit(address).hostname:
            raise ValueError("it is no http address")
        asked = f"{address.rstrip('/')}/admin/version"
        status = httpx.get(asked, headers=_who_we_are(), timeout=ANSWER_SECONDS).status_code
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, OverflowError) as error:
        reason = str(error) or type(error).__name__
        raise UserError(f"no Prefect server answers there: {without_secret(reason)}", where, fix) from None
    if status in (401, 403):
        fix = (
            "export PREFECT_API_AUTH_STRING with its password (or PREFECT_API_KEY), or: unset PREFECT_API_URL"
        )
        raise UserError("the Prefect server there does not know us", where, fix)
    if status >= 400:
        raise UserError(f"what answers there is no Prefect server (it says {status})", where, fix)


def _who_we_are() -> dict[str, str]:
    """What Prefect's client would send."""
    if password := os.environ.get("PREFECT_API_AUTH_STRING"):
        return {"Authorization": f"Basic {b64encode(password.encode()).decode()}"}
    key = os.environ.get("PREFECT_API_KEY")
    return {"Authorization": f"Bearer {key}"} if key else {}


def require_usable_proxy() -> None:
    """See that Prefect's client can be made: it takes the proxies in, also where it will use none.

    Raises:
        UserError: it cannot, as with a SOCKS proxy without the package for it.
    """
    import httpx

    try:
        httpx.Client().close()
    except (ImportError, ValueError, httpx.InvalidURL) as error:
        found = sorted(name for name in os.environ if name.lower() in PROXIES and os.environ[name])
        reason = without_secret(str(error).split(". ")[0])
        fix = f"unset {' '.join(found)}; for a SOCKS proxy: pip install 'httpx[socks]'; or add --no-prefect to run"
        raise UserError(f"a proxy is set that cannot be used: {reason}", ", ".join(found), fix) from None


def without_secret(address: str) -> str:
    """An address as it may be printed: without the name and password that it may hold."""
    return re.sub("//[^/]*@", "//", address)
