"""Calls to the official Kaggle client, with time limits, retries and one-line error messages.

The `kaggle` package is imported inside functions: its import signs in over the network.
"""

import contextlib
import io
import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import requests
import tenacity
from requests.adapters import HTTPAdapter
from urllib3 import Retry
from urllib3.exceptions import InvalidHeader

from digit_recognizer.config import COMPETITION
from digit_recognizer.errors import UserError

if TYPE_CHECKING:
    from kaggle.api.kaggle_api_extended import KaggleApi

COMPETITION_PAGE = f"https://www.kaggle.com/competitions/{COMPETITION}"
SETTINGS_PAGE = "https://www.kaggle.com/settings/api"
TIMEOUT = (10, 60)  # seconds to connect, and between two reads
ATTEMPTS = 8
RETRY_SECONDS = 120  # no attempt starts later than this after the first
BACKOFF = tenacity.wait_exponential_jitter(max=30)  # seconds, if the response has no Retry-After
# What to do about an HTTP status, in calls about the competition.
ADVICE = {
    403: f"accept the competition's rules at {COMPETITION_PAGE}/rules and run the command again",
    404: f"check that {COMPETITION_PAGE} still exists and is open",
}

Say = Callable[[str], None]  # prints one line of progress
Result = TypeVar("Result")


class UploadError(Exception):
    """The client could not upload a file to Kaggle's storage, so that nothing was submitted."""


class DownloadError(Exception):
    """The downloaded content is not the expected file."""


class Failure(NamedTuple):
    """A failed request."""

    status: int  # of HTTP; 0 without a response
    text: str  # what happened, without secrets
    transient: bool  # it may succeed if it is repeated
    retry_after: float | None = None  # seconds, if the response has a valid Retry-After


class CallError(UserError):
    """A call of the Kaggle client failed; `__cause__` is the client's exception."""

    def __init__(self, message: str, failure: Failure) -> None:
        """Keep the failure for callers that handle it."""
        super().__init__(message)
        self.failure = failure


# Failures without a response. The exceptions' own texts can contain signed URLs and are not shown.
FAILURES: dict[type[Exception], Failure] = {
    UploadError: Failure(0, "the file did not reach Kaggle's storage", transient=True),
    DownloadError: Failure(0, "the downloaded content is not the expected file", transient=True),
    json.JSONDecodeError: Failure(0, "the response was not JSON", transient=True),  # a gateway's HTML page
    requests.exceptions.SSLError: Failure(
        0, "no secure connection to Kaggle; check the clock, the proxy and REQUESTS_CA_BUNDLE", transient=False
    ),
    requests.exceptions.ProxyError: Failure(0, "no connection to the proxy", transient=True),
    requests.Timeout: Failure(0, "no response from Kaggle in time", transient=True),
    requests.ConnectionError: Failure(0, "the connection failed", transient=True),
    requests.exceptions.ChunkedEncodingError: Failure(0, "the connection failed", transient=True),
    requests.RequestException: Failure(0, "the request failed", transient=False),
}


def connect(*, say: Say = print) -> "KaggleApi":
    """Sign in with the credentials found by the Kaggle client.

    Args:
        say: prints one line of progress.

    Returns:
        The client; call its methods through `call`.

    Raises:
        UserError: there are no credentials, they are rejected, or Kaggle cannot be reached.
    """
    try:
        with _bounded_requests():
            from kaggle.api.kaggle_api_extended import KaggleApi

        logging.getLogger("urllib3").setLevel(logging.ERROR)  # lower levels show signed URLs if VERBOSE=1
        api = KaggleApi()
        call("the sign-in", api.authenticate, say=say)
    except SystemExit:
        if _token_source():
            raise UserError(_describe_rejected_credentials()) from None
        incomplete = f" ({api.config} contains no username and key)" if Path(api.config).exists() else ""
        raise UserError(
            f"found no Kaggle credentials{incomplete}; create a token at {SETTINGS_PAGE} and set KAGGLE_API_TOKEN to "
            "it, or save it as ~/.kaggle/access_token, or provide a legacy key in ~/.kaggle/kaggle.json or in "
            "KAGGLE_USERNAME and KAGGLE_KEY"
        ) from None
    except (OSError, ValueError) as error:
        # The error's text can contain the token, which the client also tries as a file name.
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise UserError(
            f"the Kaggle client could not read its credentials from KAGGLE_API_TOKEN or ~/.kaggle ({reason}); save a "
            f"token from {SETTINGS_PAGE} as ~/.kaggle/access_token, in a HOME that you can write to, and unset "
            "KAGGLE_API_TOKEN"
        ) from None
    # With an invalid token the client reports the legacy key as its method, but still sends the token.
    if _token_source() and api.config_values.get("auth_method") == "LEGACY_API_KEY":
        raise UserError(_describe_rejected_credentials())
    return api


def read_failure(error: BaseException | None) -> Failure:
    """Return what a client's exception means.

    The body of a response is {"error": {"code", "message"}}, or in an older format {"code", "message"}, sometimes with
    status 200.
    """
    response = getattr(error, "response", None)
    if response is None:
        unknown = Failure(0, "an error in the client", transient=False)
        return next((failure for kind, failure in FAILURES.items() if isinstance(error, kind)), unknown)
    try:
        body = response.json()
    except (ValueError, requests.RequestException, RuntimeError):  # RuntimeError: the stream was consumed
        body = None
    body = body if isinstance(body, dict) else {}
    code, inner = body.get("code"), body.get("error")
    status = code if response.ok and isinstance(code, int) else response.status_code
    reason = (inner if isinstance(inner, dict) else body).get("message", inner)
    shown = f" ({' '.join(reason.split())[:300]})" if isinstance(reason, str) else ""
    retry_after = None
    with contextlib.suppress(InvalidHeader):
        retry_after = Retry().parse_retry_after(response.headers.get("Retry-After", ""))
    transient = status == requests.codes.too_many_requests or status >= 500
    return Failure(status, f"Kaggle returned {status}{shown}", transient, retry_after)


def is_transient(error: BaseException) -> bool:
    """Return whether a failed call may succeed if it is repeated."""
    return read_failure(error).transient


def call(
    what: str,
    function: Callable[..., Result],
    *args: Any,
    say: Say = print,
    retry_if: Callable[[BaseException], bool] = is_transient,
    advice: Mapping[int, str] = ADVICE,
    **kwargs: Any,
) -> Result:
    """Call a method of the client, and repeat it after transient failures, within time limits.

    Args:
        what: a noun for the call in messages.
        function: the method.
        *args: arguments of the method.
        say: prints one line of progress.
        retry_if: whether to retry after an exception.
        advice: what to do about a failure, by HTTP status.
        **kwargs: arguments of the method.

    Raises:
        CallError: the call failed.
    """

    def failure_of(state: tenacity.RetryCallState) -> Failure:
        return read_failure(state.outcome.exception() if state.outcome else None)

    def wait(state: tenacity.RetryCallState) -> float:
        asked = failure_of(state).retry_after
        return BACKOFF(state) if asked is None else asked

    def announce(state: tenacity.RetryCallState) -> None:
        say(f"{what} failed: {failure_of(state).text}; retrying in {state.upcoming_sleep:.0f} s")

    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception(retry_if),
        wait=wait,
        stop=tenacity.stop_after_attempt(ATTEMPTS) | tenacity.stop_before_delay(RETRY_SECONDS),
        before_sleep=announce,
        reraise=True,
    )
    try:
        return retrying(_bounded_requests(say)(function), *args, **kwargs)
    except tuple(FAILURES) as error:
        failure, text = read_failure(error), f"{what} failed: {read_failure(error).text}"
        if failure.status == requests.codes.unauthorized:
            text = _describe_rejected_credentials()
        elif failure.status in advice:
            text += f"; {advice[failure.status]}"
        elif failure.transient:
            attempts, seconds = (retrying.statistics[key] for key in ("attempt_number", "delay_since_first_attempt"))
            pause = f"wait {f'{failure.retry_after:.0f} s' if failure.retry_after else 'a few minutes'}"
            text += f"; gave up after {f'{attempts} attempts in {seconds:.0f} s' if attempts > 1 else '1 attempt'}"
            text += f"; {pause if failure.status else 'check your connection'} and run the command again"
        raise CallError(text, failure) from error


def poll(look: Callable[[], Result | None], wait: Any, stop: Any) -> Result | None:
    """Call a function until it returns something else than None; return that, or None after giving up.

    Args:
        look: the function.
        wait: the pause between two calls, one of tenacity's wait strategies.
        stop: when to give up, one of tenacity's stop strategies.
    """
    return tenacity.Retrying(
        retry=tenacity.retry_if_result(lambda result: result is None),
        wait=wait,
        stop=stop,
        retry_error_callback=lambda _: None,
    )(look)


def _describe_rejected_credentials() -> str:
    from kaggle.api.kaggle_api_extended import KaggleApi

    if source := _token_source():
        return (
            f"Kaggle rejected the token in {source}; replace it with a new one from {SETTINGS_PAGE}, or remove it if "
            "you have a legacy key, over which a token takes precedence"
        )
    key = "KAGGLE_USERNAME and KAGGLE_KEY" if os.environ.get("KAGGLE_KEY") else KaggleApi.config
    if os.environ.get("KAGGLE_KEY") or Path(key).exists():
        return f"Kaggle rejected the key in {key}; create a new token at {SETTINGS_PAGE}"
    return "Kaggle rejected the stored login; run `kaggle auth login` again"


def _token_source() -> str | None:
    """Return where the client finds an access token, None if there is none."""
    from kagglesdk import get_access_token_from_env

    token, source = get_access_token_from_env()
    return {"access_token": "~/.kaggle/access_token"}.get(source, source) if token else None


@contextlib.contextmanager
def _bounded_requests(say: Say | None = None) -> Iterator[None]:
    """Limit the time of every request in the block, and capture what the client prints.

    The client creates its own sessions, so only their common adapter can be bounded. It prints exceptions, which can
    contain signed URLs, and whole requests if VERBOSE=1; only its warning about file permissions is passed on.
    """
    send = HTTPAdapter.send

    def send_in_time(adapter: HTTPAdapter, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        adapter.max_retries = Retry(0, read=False)  # the client's upload retries ten times itself
        try:
            return send(adapter, request, **(options | {"timeout": TIMEOUT}))
        except requests.RequestException:
            raise
        except OSError as error:  # a wrong REQUESTS_CA_BUNDLE
            raise requests.exceptions.SSLError(error, request=request) from error

    printed = io.StringIO()
    HTTPAdapter.send = send_in_time  # type: ignore[method-assign, assignment]
    try:
        with contextlib.redirect_stdout(printed):
            yield
    finally:
        HTTPAdapter.send = send  # type: ignore[method-assign]
        for line in printed.getvalue().splitlines():
            if say and line.startswith("Warning: Your Kaggle API key is readable"):
                say(line)
