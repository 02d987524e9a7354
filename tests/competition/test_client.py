"""The Kaggle client with time limits, retries and plain errors: the real one, against a loopback Kaggle."""

import datetime
import email.utils
import json
import os
import socket
import sys
import time

import pytest
import requests
import tenacity
from kaggle_server import KEY, TOKEN, USERNAME

from digit_recognizer.competition import client
from digit_recognizer.errors import UserError

SLUG = "digit-recognizer"
WRONG = "KGAT_wrong_and_secret"
OLD_SHAPE = {"code": 403, "message": "the older shape's reason"}


@pytest.fixture
def api(kaggle):
    return client.connect()


def failed(result):
    """Returns the one line of a command that failed as it should."""
    assert result.returncode == 1, result.stdout + result.stderr
    lines = result.stderr.splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("digit-recognizer: ")
    for secret in (WRONG, TOKEN, KEY, "signature="):
        assert secret not in result.stdout + result.stderr
    return lines[0]


def put_key(clean_environment, key):
    folder = client.Path(clean_environment["HOME"]) / ".kaggle"
    folder.mkdir()
    (folder / "kaggle.json").write_text(json.dumps({"username": USERNAME, "key": key}))
    (folder / "kaggle.json").chmod(0o600)
    return folder


def test_without_credentials_the_ways_to_give_them_are_named(kaggle, command):
    line = failed(command("download", **kaggle.environment))
    assert "found no Kaggle credentials; create a token at https://www.kaggle.com/settings/api" in line
    for way in (
        "KAGGLE_API_TOKEN",
        "~/.kaggle/access_token",
        "~/.kaggle/kaggle.json",
        "KAGGLE_USERNAME and KAGGLE_KEY",
    ):
        assert way in line
    assert kaggle.requests == []


def test_a_kaggle_json_without_a_key_is_named(kaggle, command, clean_environment):
    (put_key(clean_environment, KEY) / "kaggle.json").write_text("{}")
    assert "kaggle.json has no username and key in it" in failed(command("download", **kaggle.environment))


@pytest.mark.parametrize("status", [0, 401, 403])
def test_a_wrong_token_is_said_to_be_wrong(kaggle, command, status):
    kaggle.fail("IntrospectToken", times=2, status=status)  # at the import and at the sign-in
    line = failed(command("download", **kaggle.environment, KAGGLE_API_TOKEN=WRONG))
    assert line.endswith(
        "Kaggle does not accept the token in KAGGLE_API_TOKEN; put a new one there from "
        "https://www.kaggle.com/settings/api"
    )


def test_a_wrong_token_file_is_named(kaggle, command, clean_environment):
    folder = client.Path(clean_environment["HOME"]) / ".kaggle"
    folder.mkdir()
    (folder / "access_token").write_text(WRONG)
    assert "the token in ~/.kaggle/access_token;" in failed(command("download", **kaggle.environment))


def test_a_wrong_key_is_said_to_be_wrong(kaggle, command, clean_environment):
    put_key(clean_environment, WRONG)
    line = failed(command("download", **kaggle.environment))
    assert "Kaggle does not accept the key in " in line
    assert "kaggle.json; create a new token at" in line
    line = failed(command("download", **kaggle.environment, KAGGLE_USERNAME=USERNAME, KAGGLE_KEY=WRONG))
    assert "the key in KAGGLE_USERNAME and KAGGLE_KEY; create a new token" in line


@pytest.mark.parametrize("status", [0, 401])
def test_a_wrong_token_that_hides_a_good_key_is_said_to(kaggle, command, clean_environment, status):
    put_key(clean_environment, KEY)
    kaggle.fail("IntrospectToken", times=2, status=status)
    line = failed(command("download", **kaggle.environment, KAGGLE_API_TOKEN=WRONG))
    assert "does not accept the token in KAGGLE_API_TOKEN; it hides the key in " in line
    assert "kaggle.json, so remove it, or put a new one" in line
    assert kaggle.requests == ["IntrospectToken"] * 2


def test_a_key_is_enough_and_its_loose_permissions_are_remarked_once(kaggle, command, clean_environment):
    (put_key(clean_environment, KEY) / "kaggle.json").chmod(0o644)
    result = command("download", **kaggle.environment)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("Your Kaggle API key is readable by other users") == 1
    assert result.stderr == ""


def test_a_token_too_long_for_a_file_name_is_not_shown(kaggle, command):
    line = failed(command("download", **kaggle.environment, KAGGLE_API_TOKEN=WRONG * 20))
    assert "could not read its credentials from KAGGLE_API_TOKEN (File name too long)" in line


def test_a_home_that_cannot_be_written_to_is_named(kaggle, command, tmp_path):
    (tmp_path / "file").touch()
    line = failed(command("download", **kaggle.environment, HOME=str(tmp_path / "file")))
    assert "could not make its folder" in line


def test_nothing_secret_is_shown_when_the_client_is_asked_to_be_verbose(kaggle, command):
    result = command("download", **kaggle.environment, KAGGLE_API_TOKEN=TOKEN, VERBOSE="1")
    assert result.returncode == 0
    for secret in (TOKEN, "signature=", "Bearer"):
        assert secret not in result.stdout + result.stderr


def list_submissions(api, **options):
    return client.call("the list", api.competition_submissions, SLUG, **options)


@pytest.mark.parametrize("status", [429, 500, 502, 503])
def test_one_passing_failure_is_passed_over(api, kaggle, status):
    kaggle.fail("ListSubmissions", status=status, headers={"Retry-After": "0"})
    lines = []
    assert list_submissions(api, say=lines.append) == []
    assert lines == [f"Kaggle answered the list with {status} (scripted {status}); trying again in 0 s"]


GATEWAY_PAGE = {"content": b"<html>", "headers": {"Content-Type": "text/html"}}


@pytest.mark.parametrize("fault", [{"reset": True}, {"cut": 3}, GATEWAY_PAGE], ids=["reset", "cut", "gateway"])
def test_a_broken_answer_is_passed_over(api, kaggle, monkeypatch, fault):
    monkeypatch.setattr(client, "BACKOFF", tenacity.wait_none())
    kaggle.fail("ListSubmissions", **fault)
    assert list_submissions(api) == []
    assert kaggle.requests.count("ListSubmissions") == 2


def test_retry_after_is_honoured_in_seconds_and_as_a_date(api, kaggle, monkeypatch):
    monkeypatch.setattr(client, "BACKOFF", tenacity.wait_none())
    kaggle.fail("ListSubmissions", status=429, headers={"Retry-After": "1"})
    started = time.monotonic()
    list_submissions(api)
    assert 1 <= time.monotonic() - started < 2

    until = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=2)
    kaggle.fail("ListSubmissions", status=503, headers={"Retry-After": email.utils.format_datetime(until, usegmt=True)})
    started = time.monotonic()
    list_submissions(api)
    assert 0.5 <= time.monotonic() - started < 3


def test_an_asked_wait_beyond_the_limit_ends_the_call_at_once(api, kaggle):
    kaggle.fail("ListSubmissions", status=429, headers={"Retry-After": "3600"})
    started = time.monotonic()
    with pytest.raises(UserError, match="gave up after 1 attempt; wait 3600 s, as Kaggle asks, and run"):
        list_submissions(api)
    assert time.monotonic() - started < 1


def test_waits_grow_without_being_asked_to_and_stay_within_the_limit(api, kaggle, monkeypatch):
    monkeypatch.setattr(client, "BACKOFF", tenacity.wait_exponential(multiplier=0.1))
    monkeypatch.setattr(client, "RETRY_SECONDS", 1)
    kaggle.fail("ListSubmissions", status=500, times=100)
    started = time.monotonic()
    with pytest.raises(UserError, match=r"500 \(scripted 500\); gave up after 4 attempts in 1 s; wait some minutes"):
        list_submissions(api)  # 0.1 + 0.2 + 0.4 s, and not 0.8 s more
    assert 0.7 <= time.monotonic() - started < 1


def test_attempts_are_counted_where_kaggle_asks_for_no_wait(api, kaggle):
    kaggle.fail("ListSubmissions", status=500, headers={"Retry-After": "0"}, times=100)
    with pytest.raises(UserError, match=f"gave up after {client.ATTEMPTS} attempts"):
        list_submissions(api)
    assert kaggle.requests.count("ListSubmissions") == client.ATTEMPTS


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ({"status": 400}, r"Kaggle answered the list with 400 \(scripted 400\)$"),
        ({"status": 400, "body": ["no object"]}, "Kaggle answered the list with 400$"),
        (
            {"status": 403},
            rf"403 \(scripted 403\); accept the .* rules at https://www.kaggle.com/competitions/{SLUG}/rules",
        ),
        ({"status": 403, "body": OLD_SHAPE}, r"403 \(the older shape's reason\); accept"),
        ({"status": 200, "body": OLD_SHAPE}, r"403 \(the older shape's reason\); accept"),
        ({"status": 404}, f"404 .*; look whether https://www.kaggle.com/competitions/{SLUG} is still there"),
    ],
)
def test_a_final_failure_gives_kaggles_reason_and_is_not_repeated(api, kaggle, fault, words):
    kaggle.fail("ListSubmissions", **fault)
    with pytest.raises(UserError, match=words):
        list_submissions(api)
    assert kaggle.requests.count("ListSubmissions") == 1


@pytest.mark.parametrize("name", ["ListSubmissions", "upload"])
def test_a_silent_server_does_not_hold_up_any_call(api, kaggle, monkeypatch, tmp_path, name):
    monkeypatch.setattr(client, "TIMEOUT", (1, 0.2))
    monkeypatch.setattr(client, "BACKOFF", tenacity.wait_none())
    monkeypatch.setattr(client, "ATTEMPTS", 2)
    kaggle.fail(name, delay=5, times=100)
    (tmp_path / "file").write_text("content")
    started = time.monotonic()
    if name == "ListSubmissions":
        with pytest.raises(UserError, match="no answer from Kaggle to the list in time; gave up after 2 attempts"):
            list_submissions(api)
    else:  # the client catches this one, and makes it a text
        answer = client.call("the upload", api.competition_submit, str(tmp_path / "file"), "message", SLUG)
        assert answer.message == api.COMPETITION_SUBMIT_UPLOAD_FAILED_MESSAGE
    assert time.monotonic() - started < 2


def test_a_download_that_stalls_goes_on_where_it_stopped(api, kaggle, make_archive, monkeypatch, tmp_path):
    kaggle.archive = make_archive(extra={"padding": os.urandom(3 << 20)})
    kaggle.fail("download", cut=5 << 19, stall=30)
    monkeypatch.setattr(client, "TIMEOUT", (1, 0.2))
    monkeypatch.setattr(sys.modules["kaggle.api.kaggle_api_extended"].time, "sleep", lambda _: None)
    started = time.monotonic()
    client.call("the download", api.competition_download_files, SLUG, path=str(tmp_path))
    assert time.monotonic() - started < 3
    assert kaggle.ranges == [None, f"bytes={2 << 20}-"]  # the client writes whole mebibytes
    assert (tmp_path / f"{SLUG}.zip").read_bytes() == kaggle.archive


@pytest.mark.skipif(sys.platform != "linux", reason="only there a full queue leaves a connection unanswered")
def test_a_host_that_does_not_answer_does_not_hold_up_any_call(api, monkeypatch):
    monkeypatch.setattr(client, "TIMEOUT", (0.3, 60))
    monkeypatch.setattr(client, "ATTEMPTS", 1)
    with socket.socket() as full, socket.socket() as first, socket.socket() as second:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for waiting in (first, second):
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{full.getsockname()[1]}")
        started = time.monotonic()
        with pytest.raises(UserError, match=r"the list( in time)?; gave up after 1 attempt; look at"):
            list_submissions(api)
        assert time.monotonic() - started < 2


def test_a_host_that_is_not_there_is_said_to_be(api, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setattr(client, "BACKOFF", tenacity.wait_none())
    with pytest.raises(UserError, match="no connection to the proxy for the list; gave up after 8 attempts"):
        list_submissions(api)


def test_a_certificate_that_is_not_trusted_is_not_tried_again():
    calls = []

    def untrusted():
        calls.append(1)
        raise requests.exceptions.SSLError("https://storage.example/file?signature=secret")

    with pytest.raises(UserError, match="no secure connection to Kaggle for the list; look at the clock") as caught:
        client.call("the list", untrusted)
    assert len(calls) == 1
    assert "signature" not in str(caught.value)


def test_requests_are_bounded_only_while_the_client_is_called(api):
    send = requests.adapters.HTTPAdapter.send
    list_submissions(api)
    assert requests.adapters.HTTPAdapter.send is send


def test_what_the_client_prints_stays_away(api, capsys):
    client.call("the print", lambda: print("http://storage.example/file?signature=secret"), say=print)
    assert capsys.readouterr().out == ""
