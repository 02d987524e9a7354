"""Time limits, retries and error messages of the real Kaggle client, against a loopback Kaggle."""

import contextlib
import datetime
import email.utils
import errno
import json
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import requests
import tenacity
from kaggle_checks import WRONG, failed
from kaggle_server import KEY, TOKEN, USERNAME

from digit_recognizer.competition import client
from digit_recognizer.errors import UserError

SLUG = "digit-recognizer"


@pytest.fixture
def api(kaggle):
    return client.connect()


@pytest.fixture
def no_token(kaggle, monkeypatch):
    monkeypatch.delenv("KAGGLE_API_TOKEN")


@pytest.fixture
def key_file(client_home):
    """The kaggle.json of the client in this process."""
    from kaggle.api.kaggle_api_extended import KaggleApi

    path = Path(KaggleApi.config)
    yield path
    path.unlink(missing_ok=True)


def write_key(path, key):
    path.write_text(json.dumps({"username": USERNAME, "key": key}))
    path.chmod(0o600)


# Credentials


def test_error_without_credentials_lists_every_way_to_provide_them(kaggle, no_token, run_command):
    line = failed(run_command("download"))
    assert line == (
        "found no Kaggle credentials; create a token at https://www.kaggle.com/settings/api and set KAGGLE_API_TOKEN "
        "to it, or save it as ~/.kaggle/access_token, or provide a legacy key in ~/.kaggle/kaggle.json or in "
        "KAGGLE_USERNAME and KAGGLE_KEY"
    )
    assert kaggle.requests == []


@pytest.mark.parametrize("status", [0, 401, 403])
def test_error_of_a_rejected_token(kaggle, monkeypatch, run_command, status):
    monkeypatch.setenv("KAGGLE_API_TOKEN", WRONG)
    kaggle.fail("IntrospectToken", status=status)
    assert failed(run_command("download")).startswith(
        "Kaggle rejected the token in KAGGLE_API_TOKEN; replace it with a new one from "
        "https://www.kaggle.com/settings/api"
    )


def test_error_of_a_rejected_token_file(no_token, client_home, run_command):
    path = client_home / ".kaggle" / "access_token"
    path.parent.mkdir()
    path.write_text(WRONG)
    try:
        assert "rejected the token in ~/.kaggle/access_token;" in failed(run_command("download"))
    finally:
        path.unlink()
        path.parent.rmdir()  # its existence decides where the client looks for a key


def test_error_of_a_rejected_key(no_token, key_file, monkeypatch, run_command):
    write_key(key_file, WRONG)
    assert f"rejected the key in {key_file}; create a new token at" in failed(run_command("download"))
    monkeypatch.setenv("KAGGLE_USERNAME", USERNAME)
    monkeypatch.setenv("KAGGLE_KEY", WRONG)
    assert "rejected the key in KAGGLE_USERNAME and KAGGLE_KEY; create" in failed(run_command("download"))


@pytest.mark.parametrize("status", [0, 401])
def test_error_of_a_rejected_token_that_takes_precedence_over_a_key(kaggle, key_file, monkeypatch, run_command, status):
    write_key(key_file, KEY)
    monkeypatch.setenv("KAGGLE_API_TOKEN", WRONG)
    kaggle.fail("IntrospectToken", status=status)
    assert "or remove it if you have a legacy key, over which" in failed(run_command("download"))
    assert kaggle.requests == ["IntrospectToken"]


def test_key_is_enough_and_a_warning_about_its_permissions_is_passed_on(no_token, key_file, run_command):
    write_key(key_file, KEY)
    key_file.chmod(0o644)
    result = run_command("download")
    assert (result.returncode, result.stderr) == (0, "")
    warning = f"warning: {key_file} can be read by other users of this computer; run `chmod 600` on it"
    assert result.stdout.splitlines()[0] == warning


def test_credentials_of_a_wrong_form_are_not_sent(kaggle, monkeypatch, run_command):
    monkeypatch.setenv("KAGGLE_API_TOKEN", f"“{WRONG}”")
    assert failed(run_command("download")).startswith("expected the token in KAGGLE_API_TOKEN to be one word of")
    assert kaggle.requests == []


def test_error_of_a_home_that_cannot_be_written(kaggle, command, tmp_path):
    (tmp_path / "file").touch()
    line = failed(command("download", **kaggle.environment, HOME=str(tmp_path / "file"), KAGGLE_API_TOKEN=TOKEN))
    assert f"could not use its folder, {tmp_path}/file/.config (Not a directory); set HOME or KAGGLE_" in line


@pytest.mark.parametrize("error", [ValueError, TypeError, AttributeError, KeyError])
def test_any_error_in_the_client_is_one_line_without_its_text(error):
    def fail():
        raise error(WRONG)

    with pytest.raises(UserError) as caught:
        client.call("the list", fail)
    assert str(caught.value) == f"the list failed: an error in the client ({error.__name__})"


def test_header_that_cannot_be_encoded_is_an_error_in_the_client(api, kaggle):
    """What the check of the credentials does not find."""
    with pytest.raises(UserError, match=r"the list failed: an error in the client \(UnicodeEncodeError\)"):
        client.call("the list", requests.get, "http://localhost", headers={"Authorization": "Bearer “x”"})


def test_full_disk_in_the_client_stays_an_error_of_the_disk():
    def fail():
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        client.call("the list", fail)


def test_verbose_client_shows_no_secrets(kaggle, command):
    result = command("download", **kaggle.environment, KAGGLE_API_TOKEN=TOKEN, VERBOSE="1")
    assert result.returncode == 0
    for secret in (TOKEN, "signature=", "Bearer"):
        assert secret not in result.stdout + result.stderr


def test_output_of_the_client_is_hidden(capsys):
    client.call("the print", lambda: print("http://storage.example/file?signature=secret"), say=print)
    assert capsys.readouterr().out == ""


# Retries


def list_submissions(api, **options):
    return client.call("the list", api.competition_submissions, SLUG, **options)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_transient_status_is_retried(api, kaggle, status):
    kaggle.fail("ListSubmissions", status=status, headers={"Retry-After": "0"})
    lines = []
    assert list_submissions(api, say=lines.append) == []
    assert lines == [f"the list failed: Kaggle returned {status} (scripted {status}); retrying in 0 s"]


GATEWAY_PAGE = {"content": b"<html>", "headers": {"Content-Type": "text/html"}}


@pytest.mark.parametrize("fault", [{"reset": True}, {"cut": 3}, GATEWAY_PAGE], ids=["reset", "cut", "gateway"])
def test_broken_response_is_retried(api, kaggle, fault):
    kaggle.fail("ListSubmissions", **fault)
    assert list_submissions(api) == []
    assert kaggle.requests.count("ListSubmissions") == 2


def test_retry_after_is_honoured_in_seconds_and_as_a_date(api, kaggle, clock):
    kaggle.fail("ListSubmissions", status=429, headers={"Retry-After": "17"})
    list_submissions(api)
    assert clock.sleeps == [17]
    until = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=100)
    kaggle.fail("ListSubmissions", status=503, headers={"Retry-After": email.utils.format_datetime(until, usegmt=True)})
    list_submissions(api)
    assert 50 < clock.sleeps[1] <= 100


def test_invalid_retry_after_is_ignored(api, kaggle, clock, monkeypatch):
    monkeypatch.setattr(client, "BACKOFF", tenacity.wait_fixed(3))
    kaggle.fail("ListSubmissions", status=503, headers={"Retry-After": "soon"})
    list_submissions(api)
    assert clock.sleeps == [3]


def test_retry_after_beyond_the_limit_ends_the_call(api, kaggle, clock):
    kaggle.fail("ListSubmissions", status=429, headers={"Retry-After": "3600"})
    with pytest.raises(UserError, match="gave up after 1 attempt; wait 3600 s and run"):
        list_submissions(api)
    assert clock.sleeps == []


def test_pauses_grow_and_stay_within_the_limit(api, kaggle, clock, monkeypatch):
    monkeypatch.setattr(client, "BACKOFF", tenacity.wait_exponential(multiplier=10))
    kaggle.fail("ListSubmissions", status=500, times=100)
    with pytest.raises(UserError, match=r"500 \(scripted 500\); gave up after 4 attempts in 70 s; wait a few minutes"):
        list_submissions(api)
    assert clock.sleeps == [10, 20, 40]  # 80 s more would exceed 120 s


def test_attempts_are_limited(api, kaggle):
    kaggle.fail("ListSubmissions", status=500, headers={"Retry-After": "0"}, times=100)
    with pytest.raises(UserError, match=f"gave up after {client.ATTEMPTS} attempts"):
        list_submissions(api)
    assert kaggle.requests.count("ListSubmissions") == client.ATTEMPTS


OLD_FORMAT = {"code": 403, "message": "reason in the older format"}


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ({"status": 400}, "the list failed: Kaggle returned 400 (scripted 400)"),
        ({"status": 400, "body": ["no object"]}, "the list failed: Kaggle returned 400"),
        ({"status": 403}, f"403 (scripted 403); accept the competition's rules at {client.COMPETITION_PAGE}/rules and"),
        ({"status": 403, "body": OLD_FORMAT}, "403 (reason in the older format); accept"),
        ({"status": 200, "body": OLD_FORMAT}, "403 (reason in the older format); accept"),
        ({"status": 404}, f"404 (scripted 404); check that {client.COMPETITION_PAGE} still exists"),
    ],
)
def test_permanent_failure_is_not_retried_and_shows_kaggles_reason(api, kaggle, fault, message):
    kaggle.fail("ListSubmissions", **fault)
    with pytest.raises(UserError) as caught:
        list_submissions(api)
    assert message in str(caught.value)
    assert kaggle.requests.count("ListSubmissions") == 1


# Time limits and connections


@pytest.mark.parametrize("name", ["ListSubmissions", "upload"])
def test_silent_server_is_given_up(api, kaggle, monkeypatch, tmp_path, name):
    monkeypatch.setattr(client, "TIMEOUT", (1, 0.1))
    monkeypatch.setattr(client, "ATTEMPTS", 2)
    kaggle.fail(name, delay=5, times=100)
    (tmp_path / "file").write_text("content")
    if name == "ListSubmissions":
        with pytest.raises(UserError, match="no response from Kaggle in time; gave up after 2 attempts"):
            list_submissions(api)
    else:  # the client catches this exception, and returns a message
        answer = client.call("the upload", api.competition_submit, str(tmp_path / "file"), "message", SLUG)
        assert answer.message == api.COMPETITION_SUBMIT_UPLOAD_FAILED_MESSAGE
        assert kaggle.requests.count("upload") == 1  # the client's own session would retry ten times


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a full queue refuses connections")
def test_host_that_does_not_accept_connections_is_given_up(api, monkeypatch):
    monkeypatch.setattr(client, "TIMEOUT", (0.2, 60))
    monkeypatch.setattr(client, "ATTEMPTS", 1)
    with socket.socket() as full, socket.socket() as first, socket.socket() as second:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for waiting in (first, second):
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{full.getsockname()[1]}")
        with pytest.raises(UserError, match=r"the list failed: no .*; gave up after 1 attempt; check your connection"):
            list_submissions(api)


def test_error_of_an_unreachable_proxy(api, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    with pytest.raises(UserError, match="the list failed: no connection to the proxy; gave up after 8 attempts"):
        list_submissions(api)


def test_untrusted_certificate_is_not_retried():
    calls = []

    def untrusted():
        calls.append(1)
        raise requests.exceptions.SSLError("https://storage.example/file?signature=secret")

    with pytest.raises(UserError) as caught:
        client.call("the list", untrusted)
    assert len(calls) == 1
    assert str(caught.value) == (
        "the list failed: no secure connection to Kaggle; check the clock, the proxy, and the certificates in the file "
        "that REQUESTS_CA_BUNDLE or CURL_CA_BUNDLE names"
    )


@pytest.fixture
def tunnel():
    """The address of a proxy that answers every request for a tunnel, and has nothing behind it."""

    def serve():
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection:
                    connection.recv(4096)
                    connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
@pytest.mark.parametrize("bundle", ["missing.pem", "text.pem"])
def test_wrong_certificate_bundle_is_not_taken_for_a_full_disk(command, tunnel, tmp_path, variable, bundle):
    (tmp_path / "text.pem").write_text("no certificate")
    line = failed(command("download", KAGGLE_API_TOKEN=TOKEN, https_proxy=tunnel, **{variable: bundle}))
    assert line.startswith("the sign-in failed: no secure connection to Kaggle; check the clock, the proxy, and the c")


def test_requests_are_bounded_only_during_a_call(api):
    send = requests.adapters.HTTPAdapter.send
    list_submissions(api)
    assert requests.adapters.HTTPAdapter.send is send


def test_importing_the_module_does_not_import_the_client():
    program = "import sys; from digit_recognizer.competition import client; sys.exit('kaggle' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)
