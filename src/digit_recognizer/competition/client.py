"""Calls to the official Kaggle client, with time limits, retries and one-line error messages.

The `kaggle` package is imported inside functions: its import signs in over the network.
"""

import contextlib
import io
import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

import requests
from requests import exceptions
from requests.adapters import HTTPAdapter
from urllib3 import Retry
from urllib3.exceptions import InvalidHeader

from digit_recognizer.competition.credentials import describe_rejection, find_credentials
from digit_recognizer.config import COMPETITION
from digit_recognizer.errors import UserError

COMPETITION_PAGE = f"https://www.kaggle.com/competitions/{COMPETITION}"
TIMEOUT = (10, 60)  # seconds to connect, and between two reads
RETRY_SECONDS = 120  # no attempt starts later than this after the first
# What to do about an HTTP status, in calls about the competition.
ADVICE = {403: f"accept the competition's rules at {COMPETITION_PAGE}/rules and run the command again"}
# Failures that may not occur again. A gateway's HTML page is a JSONDecodeError.
TRANSIENT = exceptions.ConnectionError, exceptions.Timeout, exceptions.ChunkedEncodingError, json.JSONDecodeError

Api = Any  # kaggle's KaggleApi, which has no type hints
Say = Callable[[str], None]  # prints one line of progress
Result = TypeVar("Result")
ONCE: dict[str, Any] = {"may_repeat": lambda _: False}  # options of a `call` that is not repeated


class CallError(UserError):
    """A call of the Kaggle client failed; `__cause__` is the client's exception."""


class Failure(NamedTuple):
    """A failed request."""

    text: str  # what happened; without secrets, unlike the exceptions' own texts, which contain signed URLs
    transient: bool  # it may succeed if it is repeated
    status: int = 0  # of HTTP; 0 without a response
    retry_after: float = 0  # seconds, of a valid Retry-After


def connect(*, say: Say = print, **options: Any) -> Api:
    """Sign in with the client's credentials; raise a `UserError` if that fails. `options`: see `call`."""
    credentials = find_credentials()
    if credentials.is_public:
        say(f"warning: {credentials.source} can be read by other users of this computer; run `chmod 600` on it")
    with _bounded_requests():
        from kaggle.api.kaggle_api_extended import KaggleApi

    logging.getLogger("urllib3").setLevel(logging.ERROR)  # lower levels show signed URLs if VERBOSE=1
    api = KaggleApi()
    try:
        call("the sign-in", api.authenticate, say=say, **options)
    except SystemExit:
        raise UserError(describe_rejection()) from None
    return api


def read_failure(error: BaseException | None) -> Failure:
    """Return what an exception of the client, or the `CallError` made of it, means."""
    error = error.__cause__ if isinstance(error, CallError) else error
    if isinstance(error, ValueError) and isinstance(error.__context__, exceptions.HTTPError):
        error = error.__context__  # requests about kernels hide it
    if isinstance(error, exceptions.SSLError):
        remedy = "check the clock, the proxy, and the file that REQUESTS_CA_BUNDLE or CURL_CA_BUNDLE names"
        return Failure(f"no secure connection to Kaggle; {remedy}", transient=False)
    response = getattr(error, "response", None)
    if response is None:
        is_transient = isinstance(error, TRANSIENT)
        text = "no valid response from Kaggle" if is_transient else "an error in the client"
        return Failure(f"{text} ({type(error).__name__})", is_transient)
    body, retry_after = None, 0.0
    with contextlib.suppress(ValueError, exceptions.RequestException, RuntimeError):  # RuntimeError: a consumed stream
        body = response.json()  # {"error": {"code", "message"}}, or {"code", "message"}, sometimes with status 200
    body = body if isinstance(body, dict) else {}
    body = body["error"] if isinstance(body.get("error"), dict) else body
    status = body["code"] if response.ok and isinstance(body.get("code"), int) else response.status_code
    message = f" ({' '.join(str(body['message']).split())[:300]})" if body.get("message") else ""
    with contextlib.suppress(InvalidHeader):
        retry_after = Retry().parse_retry_after(response.headers.get("Retry-After", "0"))
    is_transient = status == requests.codes.too_many_requests or status >= 500
    return Failure(f"Kaggle returned {status}{message}", is_transient, status, retry_after)


def call(
    what: str,
    function: Callable[..., Result],
    *args: Any,
    say: Say = print,
    may_repeat: Callable[[BaseException], bool] = lambda _: True,
    advice: Mapping[int, str] = ADVICE,
    **kwargs: Any,
) -> Result:
    """Call a method of the client, and repeat it after transient failures, within time limits; raise a `CallError`.

    `what` names the call in messages. A call is repeated only if `may_repeat` returns True for the client's exception.
    `advice` is what to do about a failure, by HTTP status.
    """
    attempt, started = 1, time.monotonic()
    while True:
        try:
            with _bounded_requests():
                return function(*args, **kwargs)
        except Exception as error:
            if isinstance(error, OSError) and not isinstance(error, exceptions.RequestException):
                raise  # a file of this computer
            failure = read_failure(error)
            pause = max(min(2 ** (attempt - 1), 30), failure.retry_after)
            is_late = time.monotonic() - started + pause > RETRY_SECONDS
            if is_late or not failure.transient or not may_repeat(error):
                raise CallError(_describe(what, failure, attempt, advice)) from error
        say(f"{what} failed: {failure.text}; retrying in {pause:.0f} s")
        time.sleep(pause)
        attempt += 1


def _describe(what: str, failure: Failure, attempts: int, advice: Mapping[int, str]) -> str:
    """Return the message of a call that is not repeated."""
    if failure.status == requests.codes.unauthorized:
        return describe_rejection()
    remedy = f"; {advice[failure.status]}" if failure.status in advice else ""
    if failure.transient:
        wait = f"wait {failure.retry_after or 120:.0f} s" if failure.status else "check your connection"
        remedy = f"; gave up after {attempts} attempt{'s' * (attempts > 1)}; {wait} and run the command again"
    return f"{what} failed: {failure.text}{remedy}"


@contextlib.contextmanager
def _bounded_requests() -> Iterator[None]:
    """Limit the time of every request in the block, and hide what the client prints.

    The client creates its own sessions, so only their common adapter can be bounded. It prints exceptions, which can
    contain signed URLs, and whole requests if VERBOSE=1.
    """
    send = HTTPAdapter.send

    def send_in_time(adapter: HTTPAdapter, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        adapter.max_retries = Retry(0, read=False)  # the client's upload retries ten times itself
        try:
            return send(adapter, request, **(options | {"timeout": TIMEOUT}))
        except exceptions.RequestException:
            raise
        except OSError as error:  # a wrong REQUESTS_CA_BUNDLE
            raise exceptions.SSLError(error, request=request) from error

    HTTPAdapter.send = send_in_time  # type: ignore[method-assign, assignment]
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        HTTPAdapter.send = send  # type: ignore[method-assign]
