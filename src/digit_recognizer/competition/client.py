"""Calls to the official Kaggle client, with time limits, retries and one-line error messages.

The `kaggle` package is imported inside functions: its import signs in over the network.
"""

import contextlib
import io
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

import requests
import tenacity
from requests import exceptions
from requests.adapters import HTTPAdapter
from urllib3 import Retry
from urllib3.exceptions import InvalidHeader

from digit_recognizer.competition.credentials import SETTINGS_PAGE, find_credentials
from digit_recognizer.config import COMPETITION
from digit_recognizer.errors import UserError

COMPETITION_PAGE = f"https://www.kaggle.com/competitions/{COMPETITION}"
TIMEOUT = (10, 60)  # seconds to connect, and between two reads
ATTEMPTS = 8
RETRY_SECONDS = 120  # no attempt starts later than this after the first
BACKOFF = tenacity.wait_exponential_jitter(max=30)  # seconds, if the response has no Retry-After
ADVICE = {  # what to do about an HTTP status, in calls about the competition
    403: f"accept the competition's rules at {COMPETITION_PAGE}/rules and run the command again",
    404: f"check that {COMPETITION_PAGE} still exists and is open",
}

Api = Any  # kaggle's KaggleApi, which has no type hints
Say = Callable[[str], None]  # prints one line of progress
Result = TypeVar("Result")


class TransferError(Exception):
    """A file was not transferred correctly, for the reason in its text; nothing else was changed at Kaggle."""


class CallError(UserError):
    """A call of the Kaggle client failed; `__cause__` is the client's exception."""


class Failure(NamedTuple):
    """A failed request."""

    text: str  # what happened, without secrets
    transient: bool  # it may succeed if it is repeated
    status: int = 0  # of HTTP; 0 without a response
    retry_after: float | None = None  # seconds, if the response has a valid Retry-After


# Failures without a response, and whether they are transient. The exceptions' own texts can contain signed URLs.
FAILURES: dict[type[BaseException], tuple[str, bool]] = {
    json.JSONDecodeError: ("the response was not JSON", True),  # a gateway's HTML page
    exceptions.SSLError: (
        "no secure connection to Kaggle; check the clock, the proxy, and the certificates in the file that "
        "REQUESTS_CA_BUNDLE or CURL_CA_BUNDLE names",
        False,
    ),
    exceptions.ProxyError: ("no connection to the proxy", True),
    exceptions.Timeout: ("no response from Kaggle in time", True),
    exceptions.ConnectionError: ("the connection failed", True),
    exceptions.ChunkedEncodingError: ("the connection failed", True),
    exceptions.RequestException: ("the request failed", False),
}


def connect(*, say: Say = print) -> Api:
    """Sign in with the credentials that the Kaggle client finds; raise a UserError if that fails."""
    found = find_credentials()
    if found.faults:
        raise UserError(found.faults[0])
    for warning in found.warnings:
        say(f"warning: {warning}")
    try:
        with _bounded_requests():
            from kaggle.api.kaggle_api_extended import KaggleApi

    except OSError as error:
        raise UserError(
            f"the Kaggle client could not use its folder, {error.filename} ({error.strerror}); set HOME or "
            "KAGGLE_CONFIG_DIR to a folder that you can write to"
        ) from None
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # lower levels show signed URLs if VERBOSE=1
    api = KaggleApi()
    try:
        call("the sign-in", api.authenticate, say=say)
    except SystemExit:
        raise UserError(_describe_rejected_credentials()) from None
    # With an invalid token the client reports the legacy key as its method, but still sends the token.
    if found.kind == "token" and api.config_values.get("auth_method") == "LEGACY_API_KEY":
        raise UserError(_describe_rejected_credentials())
    return api


def read_failure(error: BaseException | None) -> Failure:
    """Return what an exception of the client, or the `CallError` made of it, means.

    The body of a response is {"error": {"code", "message"}}, or in an older format {"code", "message"}, sometimes with
    status 200.
    """
    error = error.__cause__ if isinstance(error, CallError) else error
    if isinstance(error, TransferError):
        return Failure(str(error), transient=True)
    response = getattr(error, "response", None)
    if response is None:
        known = (Failure(*failure) for kind, failure in FAILURES.items() if isinstance(error, kind))
        return next(known, Failure(f"an error in the client ({type(error).__name__})", transient=False))
    body = None
    with contextlib.suppress(ValueError, exceptions.RequestException, RuntimeError):  # RuntimeError: a consumed stream
        body = response.json()
    body = body if isinstance(body, dict) else {}
    code, inner = body.get("code"), body.get("error")
    status = code if response.ok and isinstance(code, int) else response.status_code
    reason = (inner if isinstance(inner, dict) else body).get("message", inner)
    shown = f" ({' '.join(reason.split())[:300]})" if isinstance(reason, str) else ""
    retry_after = None
    with contextlib.suppress(InvalidHeader):
        retry_after = Retry().parse_retry_after(response.headers.get("Retry-After", ""))
    transient = status == requests.codes.too_many_requests or status >= 500
    return Failure(f"Kaggle returned {status}{shown}", transient, status, retry_after)


def call(
    what: str,
    function: Callable[..., Result],
    *args: Any,
    say: Say = print,
    may_repeat: Callable[[BaseException], bool] = lambda _: True,
    advice: Mapping[int, str] = ADVICE,
    **kwargs: Any,
) -> Result:
    """Call a method of the client, and repeat it after transient failures, within time limits; raise a CallError.

    `what` names the call in messages. A call is repeated only if `may_repeat` returns True for the client's exception.
    `advice` is what to do about a failure, by HTTP status.
    """

    def failure_of(state: tenacity.RetryCallState) -> Failure:
        return read_failure(state.outcome.exception() if state.outcome else None)

    def wait(state: tenacity.RetryCallState) -> float:
        asked = failure_of(state).retry_after
        return BACKOFF(state) if asked is None else asked

    def announce(state: tenacity.RetryCallState) -> None:
        say(f"{what} failed: {failure_of(state).text}; retrying in {state.upcoming_sleep:.0f} s")

    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception(lambda error: read_failure(error).transient and may_repeat(error)),
        wait=wait,
        stop=tenacity.stop_after_attempt(ATTEMPTS) | tenacity.stop_before_delay(RETRY_SECONDS),
        before_sleep=announce,
        reraise=True,
    )
    try:
        return retrying(_bounded_requests()(function), *args, **kwargs)
    except Exception as error:
        if isinstance(error, OSError) and not isinstance(error, exceptions.RequestException):
            raise  # a file of this computer
        failure = read_failure(error)
        text = f"{what} failed: {failure.text}"
        if failure.status == requests.codes.unauthorized:
            text = _describe_rejected_credentials()
        elif failure.status in advice:
            text += f"; {advice[failure.status]}"
        elif failure.transient:
            attempts, seconds = (retrying.statistics[key] for key in ("attempt_number", "delay_since_first_attempt"))
            pause = f"wait {f'{failure.retry_after:.0f} s' if failure.retry_after else 'a few minutes'}"
            text += f"; gave up after {f'{attempts} attempts in {seconds:.0f} s' if attempts > 1 else '1 attempt'}"
            text += f"; {pause if failure.status else 'check your connection'} and run the command again"
        raise CallError(text) from error


def poll(look: Callable[[], Result | None], wait: Any, stop: Any) -> Result | None:
    """Call `look` until it returns something, and return that; return None when tenacity's `stop` is reached."""
    retry = tenacity.retry_if_result(lambda result: result is None)
    return tenacity.Retrying(retry=retry, wait=wait, stop=stop, retry_error_callback=lambda _: None)(look)


def _describe_rejected_credentials() -> str:
    source, kind, *_ = find_credentials()
    if kind == "token":
        return (
            f"Kaggle rejected the token in {source}; replace it with a new one from {SETTINGS_PAGE}, or remove it if "
            "you have a legacy key, over which a token takes precedence"
        )
    if kind == "key":
        return f"Kaggle rejected the key in {source}; create a new token at {SETTINGS_PAGE}"
    return "Kaggle rejected the stored login; run `kaggle auth login` again"


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
