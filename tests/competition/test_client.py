"""Time limits, retries and error messages of the real Kaggle client, against a loopback Kaggle."""

import datetime
import email.utils
import json
from pathlib import Path
from unittest.mock import Mock

import pytest
import requests
from kaggle_checks import WRONG, failed
from kaggle_server import KEY, TOKEN, USERNAME

from digit_recognizer.competition import client
from digit_recognizer.errors import UserError


@pytest.fixture
def api(kaggle):
    return client.connect()


@pytest.fixture
def key_file(kaggle, client_home, monkeypatch):
    """The valid kaggle.json of the client in this process, without a token."""
    from kaggle.api.kaggle_api_extended import KaggleApi

    monkeypatch.delenv("KAGGLE_API_TOKEN")
    path = Path(KaggleApi.config)
    path.write_text(json.dumps({"username": USERNAME, "key": KEY}))
    path.chmod(0o600)
    yield path
    path.unlink()


def list_submissions(api, **options):
    return client.call("the list", api.competition_submissions, "digit-recognizer", **options)


# Credentials


def test_credentials_of_a_wrong_form_are_not_sent(kaggle, monkeypatch, run_command):
    monkeypatch.setenv("KAGGLE_API_TOKEN", f"“{WRONG}”")
    assert failed(run_command("download")).startswith("expected the token in KAGGLE_API_TOKEN as ASCII letters")
    monkeypatch.delenv("KAGGLE_API_TOKEN")
    assert failed(run_command("download")).startswith("found no Kaggle credentials; create a token at https://www.kagg")
    assert kaggle.requests == []


@pytest.mark.parametrize("status", [0, 401, 403])
def test_rejected_credentials_are_named_in_the_order_of_their_use(kaggle, key_file, monkeypatch, run_command, status):
    kaggle.fail("IntrospectToken", status=status)
    monkeypatch.setenv("KAGGLE_API_TOKEN", WRONG)  # beside a valid key
    assert failed(run_command("download")) == (
        "Kaggle rejected the token in KAGGLE_API_TOKEN; remove it, and create a token at "
        "https://www.kaggle.com/settings/api"
    )
    monkeypatch.delenv("KAGGLE_API_TOKEN")
    key_file.write_text(json.dumps({"username": USERNAME, "key": WRONG}))
    assert f"Kaggle rejected the key in {key_file}; " in failed(run_command("download"))


def test_key_is_enough_and_a_file_that_others_can_read_is_named(key_file, run_command):
    key_file.chmod(0o604)
    result = run_command("download")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.splitlines()[0] == (
        f"warning: {key_file} can be read by other users of this computer; run `chmod 600` on it"
    )


# Errors


@pytest.mark.parametrize("error", [ValueError, TypeError, AttributeError, KeyError])
def test_any_error_in_the_client_is_one_line_without_its_text(error):
    with pytest.raises(UserError, match=rf"^the list failed: an error in the client \({error.__name__}\)$"):
        client.call("the list", Mock(side_effect=error(WRONG)))


def test_error_of_a_file_in_the_client_stays_one():
    with pytest.raises(FileNotFoundError):
        client.call("the list", Path("none").read_bytes)


def test_verbose_client_shows_no_secrets(kaggle, command):
    result = command("download", **kaggle.environment, KAGGLE_API_TOKEN=TOKEN, VERBOSE="1")
    assert result.returncode == 0
    assert not [secret for secret in (TOKEN, "signature=", "Bearer") if secret in result.stdout + result.stderr]


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ({"status": 400}, "the list failed: Kaggle returned 400 (scripted 400)"),
        ({"status": 400, "body": ["no object"]}, "the list failed: Kaggle returned 400"),
        ({"status": 403}, f"403 (scripted 403); accept the competition's rules at {client.COMPETITION_PAGE}/rules and"),
        ({"status": 200, "body": {"code": 403, "message": "older format"}}, "403 (older format); accept"),
    ],
)
def test_permanent_failure_is_not_repeated_and_shows_kaggles_reason(api, kaggle, fault, message):
    kaggle.fail("ListSubmissions", **fault)
    with pytest.raises(UserError) as caught:
        list_submissions(api)
    assert message in str(caught.value)
    assert kaggle.requests.count("ListSubmissions") == 1


# Retries


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        ({"status": 429}, "Kaggle returned 429 (scripted 429)"),
        ({"status": 500}, "Kaggle returned 500 (scripted 500)"),
        ({"reset": True}, "no valid response from Kaggle (ProxyError)"),
        ({"cut": 3}, "no valid response from Kaggle (ChunkedEncodingError)"),
        ({"content": b"<html>"}, "no valid response from Kaggle (JSONDecodeError)"),
    ],
)
def test_transient_failure_is_repeated_with_a_message(api, kaggle, fault, text):
    kaggle.fail("ListSubmissions", **fault)
    lines = []
    assert list_submissions(api, say=lines.append) == []
    assert lines == [f"the list failed: {text}; retrying in 1 s"]
    assert kaggle.requests.count("ListSubmissions") == 2


def test_pauses_grow_and_no_attempt_starts_after_the_time_limit(api, kaggle, clock):
    kaggle.fail("ListSubmissions", status=500, times=8)
    with pytest.raises(UserError, match=r"500 \(scripted 500\); gave up after 8 attempts; wait 120 s and run"):
        list_submissions(api)
    assert clock.sleeps == [1, 2, 4, 8, 16, 30, 30]
    kaggle.fail("ListSubmissions", status=429, headers={"Retry-After": "3600"})
    with pytest.raises(UserError, match="gave up after 1 attempt; wait 3600 s and run"):
        list_submissions(api)


def test_retry_after_is_honoured_in_seconds_and_as_a_date_and_otherwise_ignored(api, kaggle, clock):
    until = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=100)
    for value in ("17", email.utils.format_datetime(until, usegmt=True), "soon"):
        kaggle.fail("ListSubmissions", status=503, headers={"Retry-After": value})
        list_submissions(api)
    assert clock.sleeps[::2] == [17, 1]
    assert 50 < clock.sleeps[1] <= 100


# Time limits and connections


@pytest.mark.parametrize("name", ["ListSubmissions", "upload"])
def test_silent_server_is_given_up(api, kaggle, monkeypatch, tmp_path, name):
    monkeypatch.setattr(client, "TIMEOUT", (1, 0.1))
    monkeypatch.setattr(client, "RETRY_SECONDS", 1)
    kaggle.fail(name, delay=5, times=100)
    (tmp_path / "file").write_text("content")
    if name == "ListSubmissions":
        with pytest.raises(UserError, match=r"no valid response from Kaggle \(ReadTimeout\); gave up after 2 attempts"):
            list_submissions(api)
    else:  # the client catches this exception, and returns a message
        arguments = str(tmp_path / "file"), "message", "digit-recognizer"
        answer = client.call("the upload", api.competition_submit, *arguments)
        assert answer.message == api.COMPETITION_SUBMIT_UPLOAD_FAILED_MESSAGE
        assert kaggle.requests.count("upload") == 1  # the client's own session would retry ten times


def test_untrusted_certificate_is_not_retried(clock):
    untrusted = Mock(side_effect=requests.exceptions.SSLError("https://storage.example/file?signature=secret"))
    with pytest.raises(UserError, match=r"^the list failed: no secure connection to Kaggle; check the clock[^:]*$"):
        client.call("the list", untrusted)
    assert clock.sleeps == []


def test_wrong_certificate_bundle_is_not_taken_for_a_full_disk(command):
    variables = {"https_proxy": "http://127.0.0.1:1", "REQUESTS_CA_BUNDLE": "missing.pem"}
    line = failed(command("download", KAGGLE_API_TOKEN=TOKEN, **variables))
    assert line.startswith("the sign-in failed: no secure connection to Kaggle; check the clock, the proxy, and the f")
