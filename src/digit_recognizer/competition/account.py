"""Checks of the account at Kaggle: what `make download submit` needs there, without downloading or submitting.

Each returns what it found, or raises a `UserError`.
"""

import functools
import os
import shlex
from functools import partial
from typing import Any

import requests

from digit_recognizer.competition import client
from digit_recognizer.competition.credentials import SETTINGS_PAGE, find_client_folder, find_credentials
from digit_recognizer.config import COMPETITION
from digit_recognizer.errors import UserError
from digit_recognizer.files import find_existing, find_write_fault

_call = partial(client.call, say=lambda _: None)


def check_credentials() -> str:
    """Report which credentials the client will use, after checking their form and the client's folder."""
    found, folder = find_credentials(), find_client_folder()
    if found.faults:
        raise UserError(found.faults[0])
    if fault := find_write_fault(folder):  # the client creates it
        text = f"the Kaggle client cannot write into {folder} ({fault})"
        raise UserError(f"{text}; set HOME or KAGGLE_CONFIG_DIR to a folder that you can write to")
    return f"{found.kind} in {found.source}"


def check_permissions() -> str:
    """Check that no other user can read the credentials."""
    found = find_credentials()
    if found.warnings:
        path = found.source if found.source.startswith("~") else shlex.quote(found.source)
        path = '"$KAGGLE_API_TOKEN"' if "KAGGLE_API_TOKEN" in found.source else path  # it names the file
        raise UserError(f"{found.source} can be read by other users of this computer; chmod 600 {path}")
    return "not readable by others" if found.source else "none"


def check_service() -> str:
    """Send Kaggle a token that is none; anything but JSON is the answer of a gateway in between."""
    from kagglesdk.kaggle_env import get_endpoint, get_env

    address = f"{get_endpoint(get_env())}/api/v1/security.OAuthService/IntrospectToken"
    answer = _call("a request to Kaggle", requests.post, address, json={"token": "none"})
    if answer.status_code >= 500:
        raise UserError(f"Kaggle returned {answer.status_code}; make doctor, in a few minutes")
    if "json" not in answer.headers.get("Content-Type", ""):
        found = f"expected JSON from Kaggle, found another response with status {answer.status_code}"
        raise UserError(f"{found}; log in to your network or change its proxy, until a browser opens {SETTINGS_PAGE}")
    return f"answers in {answer.elapsed.total_seconds():.1f} s"


@functools.cache
def _connect() -> client.Api:
    if not (folder := find_client_folder()).exists():  # the client would create it
        os.environ["KAGGLE_CONFIG_DIR"] = str(find_existing(folder))
    return client.connect(say=lambda _: None)


@functools.cache
def _get_limits() -> Any:
    return _call("the check of the daily limit", _connect().competition_get_submission_limits, COMPETITION)


def check_sign_in() -> str:
    """Sign in, and send a request, because only that shows whether a legacy key is valid."""
    found = find_credentials()
    if found.faults:
        raise UserError("not tried without usable credentials; see the line of the credentials")
    try:
        _get_limits()
    except UserError as error:
        if found.hides and "rejected" in str(error):
            text = f"Kaggle rejected the token in {found.source}, which takes precedence over the key in {found.hides}"
            remedy = f"rm {found.source}" if found.source.startswith("~") else "unset KAGGLE_API_TOKEN"
            raise UserError(f"{text}; {remedy}") from None
        raise
    return f"Kaggle accepts the {found.kind} in {found.source}"


def check_rules() -> str:
    """Request the data, as the download does, and read none of them."""
    from kagglesdk.competitions.types.competition_api_service import ApiDownloadDataFilesRequest

    def look() -> None:
        request = ApiDownloadDataFilesRequest()
        request.competition_name = COMPETITION
        with _connect().build_kaggle_client() as service:
            service.competitions.competition_api_client.download_data_files(request).close()

    _call("the request for the data", look)
    return "accepted"


def check_gpu_hours() -> str:
    """Request the hours of GPU that are left for `make push`; some versions of the client cannot."""
    request = getattr(_connect(), "quota_view", lambda: None)
    answer = _call("the request for the quota", request, advice={404: "see https://www.kaggle.com/settings"})
    quota = answer and answer.gpu_quota
    if not (quota and quota.total_time_allowed and quota.time_used is not None):
        return "unknown"
    left = (quota.total_time_allowed - quota.time_used).total_seconds() / 3600
    if left < 1:
        raise UserError(f"{max(0.0, left):.1f} left this week; run `make push` after {answer.quota_refresh_time} UTC")
    return f"{left:.1f} left this week"


def check_daily_limit() -> str:
    """Request how many submissions are left today; an account has no limit before its first one."""
    left, made = _get_limits().num_allowed_now, _get_limits().num_today
    if made and not left:
        raise UserError(f"no submissions are left today ({made} made); run `make submit` after 00:00 UTC")
    return f"{left} submissions left today" if left else "no submission made yet"
