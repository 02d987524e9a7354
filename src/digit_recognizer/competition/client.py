"""The official Kaggle client with what it lacks: time limits, retries, and errors in one plain line.

The `kaggle` package is imported inside the functions: importing it signs in over the network when a token is set, and
prints help when there is none.
"""

import contextlib
import datetime
import email.utils
import io
import json
import logging
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import requests
import tenacity
from requests.adapters import HTTPAdapter
from urllib3 import Retry

from digit_recognizer.config import COMPETITION
from digit_recognizer.errors import UserError

if TYPE_CHECKING:
    from kaggle.api.kaggle_api_extended import KaggleApi

RULES_PAGE = f"https://www.kaggle.com/competitions/{COMPETITION}/rules"
SETTINGS_PAGE = "https://www.kaggle.com/settings/api"
TIMEOUT = (10, 60)  # seconds to connect, and between two parts of an answer
ATTEMPTS = 8
RETRY_SECONDS = 120  # no attempt starts later than this after the first
# What to do about an answer of a status, for calls that are about the competition.
ADVICE = {
    403: f"accept the competition's rules at {RULES_PAGE} and run the command again",
    404: f"look whether {RULES_PAGE.removesuffix('/rules')} is still there, and open",
}
BACKOFF = tenacity.wait_exponential_jitter(max=30)  # seconds, where Kaggle does not say how long to wait

Result = TypeVar("Result")


class UploadError(Exception):
    """The client could not bring a file to Kaggle's storage, so that nothing was submitted."""


class DownloadError(Exception):
    """What came is not the file that was asked for."""


def connect(*, say: Callable[[str], None] = print) -> "KaggleApi":
    """Signs in with the credentials in the Kaggle client's own places.

    Args:
        say: takes each line of progress.

    Returns:
        The client, to be used through `call`.

    Raises:
        UserError: there are no credentials, they are wrong, or Kaggle cannot be reached.
    """
    with _guarded():
        try:
            from kaggle.api.kaggle_api_extended import KaggleApi
        except OSError as error:  # the import makes its configuration folder
            raise UserError(
                f"the Kaggle client could not make its folder {error.filename} ({error.strerror}); set HOME to a "
                "folder that can be written to"
            ) from None

    logging.getLogger("urllib3").setLevel(logging.ERROR)  # below that it shows signed addresses, with VERBOSE=1
    api = KaggleApi()
    try:
        call("the sign-in", api.authenticate, say=say)
    except SystemExit:
        if _token_place():
            raise _rejected_credentials() from None
        incomplete = f" ({api.config} has no username and key in it)" if Path(api.config).exists() else ""
        raise UserError(
            f"found no Kaggle credentials{incomplete}; create a token at {SETTINGS_PAGE} and set KAGGLE_API_TOKEN to "
            "it, or save it as ~/.kaggle/access_token, or give a legacy key as ~/.kaggle/kaggle.json or as "
            "KAGGLE_USERNAME and KAGGLE_KEY"
        ) from None
    except (OSError, ValueError) as error:
        # Such an error's text can hold the token itself: the client tries it as the name of a file.
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise UserError(
            f"the Kaggle client could not read its credentials from {_token_place() or api.config_dir} ({reason}); "
            f"save a token from {SETTINGS_PAGE} as ~/.kaggle/access_token and unset KAGGLE_API_TOKEN"
        ) from None
    # The client drops a token that Kaggle does not know, goes on with the legacy key, and then sends the token.
    if _token_place() and api.config_values.get("auth_method") == "LEGACY_API_KEY":
        raise _rejected_credentials()
    return api


def call(
    what: str,
    function: Callable[..., Result],
    *args: Any,
    say: Callable[[str], None] = print,
    retriable: Callable[[BaseException], bool] | None = None,
    advice: Mapping[int, str] = ADVICE,
    **kwargs: Any,
) -> Result:
    """Calls a method of the client, again where the failure may pass, within limits of time.

    Args:
        what: the call, as a noun for the messages.
        function: the method.
        *args: of the method.
        say: takes each line of progress.
        retriable: whether to try again after an exception; `is_transient` unless given.
        advice: what to do when Kaggle answers with a status, by that status.
        **kwargs: of the method.

    Raises:
        UserError: the call failed, or went on failing; its cause is the client's exception.
    """

    def attempt() -> Result:
        with _guarded(say):
            return function(*args, **kwargs)

    def announce(state: tenacity.RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        say(f"{describe(error, what)}; trying again in {state.upcoming_sleep:.0f} s")

    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception(retriable or is_transient),
        wait=_wait_seconds,
        stop=tenacity.stop_after_attempt(ATTEMPTS) | tenacity.stop_before_delay(RETRY_SECONDS),
        before_sleep=announce,
        reraise=True,
    )
    started = time.monotonic()
    try:
        return retrying(attempt)
    except (requests.RequestException, json.JSONDecodeError, UploadError, DownloadError) as error:
        tries = retrying.statistics["attempt_number"]
        raise _explain(error, what, advice, tries, time.monotonic() - started) from error


def is_transient(error: BaseException) -> bool:
    """Whether a failed call may succeed when it is made again."""
    if isinstance(error, requests.HTTPError):
        return status_of(error) == requests.codes.too_many_requests or status_of(error) >= 500
    if isinstance(error, requests.exceptions.SSLError):
        return False
    broken = requests.exceptions.ChunkedEncodingError | UploadError | DownloadError
    # No JSON under status 200 is the page of a gateway.
    return isinstance(error, requests.ConnectionError | requests.Timeout | json.JSONDecodeError | broken)


def status_of(error: BaseException | None) -> int:
    """Returns the HTTP status of a failure, 0 when there was no answer."""
    response = getattr(error, "response", None)
    if response is None:
        return 0
    code = _body(response).get("code")  # the older shape sends some errors under status 200
    return code if response.ok and isinstance(code, int) else response.status_code


def describe(error: BaseException | None, what: str) -> str:
    """Says in words what failed. The exception's own text is not used: it can hold signed addresses."""
    if isinstance(error, requests.HTTPError):
        reason = _reason(error.response)
        return f"Kaggle answered {what} with {status_of(error)}{f' ({reason})' if reason else ''}"
    words = (
        (UploadError, "the file did not reach Kaggle's storage"),
        (DownloadError, f"what came of {what} is another file"),
        (json.JSONDecodeError, f"Kaggle's answer to {what} was not JSON"),
        (requests.exceptions.SSLError, f"no secure connection to Kaggle for {what}"),
        (requests.exceptions.ProxyError, f"no connection to the proxy for {what}"),
        (requests.Timeout, f"no answer from Kaggle to {what} in time"),
    )
    return next((text for kind, text in words if isinstance(error, kind)), f"the connection failed during {what}")


def _explain(error: BaseException, what: str, advice: Mapping[int, str], attempts: int, seconds: float) -> UserError:
    """Turns the last failure of a call into a message with what to do about it."""
    status = status_of(error)
    if status == requests.codes.unauthorized:
        return _rejected_credentials()
    text = describe(error, what)
    if status in advice:
        return UserError(f"{text}; {advice[status]}")
    if is_transient(error):
        tries = f"{attempts} attempts in {seconds:.0f} s" if attempts > 1 else "1 attempt"
        asked = _retry_after(error)
        remedy = (
            f"wait {f'{asked:.0f} s, as Kaggle asks,' if asked else 'some minutes'}"
            if status
            else "look at your connection"
        )
        return UserError(f"{text}; gave up after {tries}; {remedy} and run the command again")
    if isinstance(error, requests.exceptions.SSLError):
        return UserError(f"{text}; look at the clock, the proxy, and REQUESTS_CA_BUNDLE")
    return UserError(text)


def _rejected_credentials() -> UserError:
    from kaggle.api.kaggle_api_extended import KaggleApi

    key = "KAGGLE_USERNAME and KAGGLE_KEY" if os.environ.get("KAGGLE_KEY") else KaggleApi.config
    has_key = bool(os.environ.get("KAGGLE_KEY")) or Path(KaggleApi.config).exists()
    place = _token_place()
    if place:
        hidden = f"; it hides the key in {key}, so remove it, or" if has_key else ";"
        return UserError(
            f"Kaggle does not accept the token in {place}{hidden} put a new one there from {SETTINGS_PAGE}"
        )
    if has_key:
        return UserError(f"Kaggle does not accept the key in {key}; create a new token at {SETTINGS_PAGE}")
    return UserError("Kaggle does not accept the stored login; run `kaggle auth login` again")


def _token_place() -> str | None:
    """Returns where the client takes an access token from, or None when it finds none."""
    from kagglesdk import get_access_token_from_env

    try:
        token, place = get_access_token_from_env()
    except (OSError, ValueError):
        return "KAGGLE_API_TOKEN" if os.environ.get("KAGGLE_API_TOKEN") else "~/.kaggle/access_token"
    return {"access_token": "~/.kaggle/access_token"}.get(place, place) if token else None


@contextlib.contextmanager
def _guarded(say: Callable[[str], None] | None = None) -> Iterator[None]:
    """Gives every request in the block a time limit, and keeps what the client prints to itself.

    The client makes sessions of its own for uploads and at its import, so that only their common adapter can be
    bounded. It prints exceptions, which can hold signed addresses, and with VERBOSE=1 whole requests; its one remark
    that helps is passed on.
    """
    send = HTTPAdapter.send

    def send_in_time(adapter: HTTPAdapter, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        adapter.max_retries = Retry(0, read=False)  # the upload's own ten would multiply with ours
        return send(adapter, request, **(options | {"timeout": TIMEOUT}))

    printed = io.StringIO()
    HTTPAdapter.send = send_in_time
    try:
        with contextlib.redirect_stdout(printed):
            yield
    finally:
        HTTPAdapter.send = send
        for line in printed.getvalue().splitlines():
            if say and line.startswith("Warning: Your Kaggle API key is readable"):
                say(line)


def _wait_seconds(state: tenacity.RetryCallState) -> float:
    asked = _retry_after(state.outcome.exception()) if state.outcome else None
    return BACKOFF(state) if asked is None else asked


def _retry_after(error: BaseException | None) -> float | None:
    """Returns the seconds that an answer asks to wait, given as a number or as a date."""
    response = getattr(error, "response", None)
    value = "" if response is None else response.headers.get("Retry-After", "").strip()
    if re.fullmatch(r"[0-9]+(\.[0-9]+)?", value):
        return float(value)
    try:
        until = email.utils.parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, (until.astimezone(datetime.UTC) - datetime.datetime.now(datetime.UTC)).total_seconds())


def _body(response: requests.Response | None) -> dict[str, Any]:
    if response is None:
        return {}
    try:
        body = response.json()
    except (ValueError, requests.RequestException, RuntimeError):  # RuntimeError: a stream that was read already
        return {}
    return body if isinstance(body, dict) else {}


def _reason(response: requests.Response | None) -> str:
    """Returns Kaggle's own words out of either shape of an error, in one line."""
    body = _body(response)
    inner = body.get("error")
    message = (inner if isinstance(inner, dict) else body).get("message", inner)
    return " ".join(message.split())[:300] if isinstance(message, str) else ""
