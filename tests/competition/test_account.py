"""Checks of the account, by the real client against a loopback Kaggle."""

import json

import pytest
from kaggle_checks import WRONG
from kaggle_server import KEY, TOKEN, USERNAME

from digit_recognizer.competition import account, client
from digit_recognizer.errors import UserError


@pytest.fixture(autouse=True)
def one_attempt(kaggle, monkeypatch):
    """Make one attempt, as doctor does, and sign in anew."""
    monkeypatch.setattr(client, "ATTEMPTS", 1)
    account._connect.cache_clear()
    account._get_limits.cache_clear()


@pytest.fixture
def key_file(client_home):
    """The valid kaggle.json of the client in this process."""
    from kaggle.api.kaggle_api_extended import KaggleApi

    path = client_home / KaggleApi.config
    path.write_text(json.dumps({"username": USERNAME, "key": KEY}))
    path.chmod(0o600)
    yield path
    path.unlink()


def fault(check):
    with pytest.raises(UserError) as raised:
        check()
    for secret in (WRONG, TOKEN, KEY):
        assert secret not in str(raised.value)
    return str(raised.value)


def test_credentials_are_named_and_not_shown():
    assert account.check_credentials() == "token in KAGGLE_API_TOKEN"


def test_missing_credentials_are_a_fault(monkeypatch):
    monkeypatch.delenv("KAGGLE_API_TOKEN")
    assert fault(account.check_credentials).startswith("found no Kaggle credentials; create a token at https://")
    assert fault(account.check_sign_in) == "not tried without usable credentials; see the line of the credentials"
    assert account.check_permissions() == "none"


def test_a_folder_that_the_client_cannot_create_is_a_fault(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(tmp_path / "file" / "kaggle"))
    assert fault(account.check_credentials) == (
        f"the Kaggle client cannot write into {tmp_path}/file/kaggle (Not a directory); set HOME or KAGGLE_CONFIG_DIR "
        "to a folder that you can write to"
    )


def test_credentials_that_others_can_read_are_reported_with_the_command(monkeypatch, key_file):
    monkeypatch.delenv("KAGGLE_API_TOKEN")
    assert account.check_permissions() == "not readable by others"
    key_file.chmod(0o644)
    assert fault(account.check_permissions) == (
        f"{key_file} can be read by other users of this computer; chmod 600 {key_file}"
    )
    monkeypatch.setenv("KAGGLE_API_TOKEN", str(key_file))
    assert fault(account.check_permissions).endswith('of this computer; chmod 600 "$KAGGLE_API_TOKEN"')


def test_the_service_answers_without_credentials(kaggle, monkeypatch):
    monkeypatch.delenv("KAGGLE_API_TOKEN")
    assert account.check_service().startswith("answers in ")
    assert kaggle.requests == ["IntrospectToken"]


def test_a_failing_service_is_a_fault(kaggle):
    kaggle.fail("IntrospectToken", status=503)
    assert fault(account.check_service) == "Kaggle returned 503; make doctor, in a few minutes"


def test_a_refused_connection_is_a_fault_without_retries(kaggle, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert fault(account.check_service) == (
        "a request to Kaggle failed: no connection to the proxy; gave up after 1 attempt; check your connection and "
        "run the command again"
    )


def test_the_page_of_a_gateway_is_not_taken_for_kaggle(kaggle, monkeypatch):
    monkeypatch.setattr("kaggle_server._JSON_HEADERS", {"Content-Type": "text/html"})
    kaggle.fail("IntrospectToken", status=403)
    assert fault(account.check_service).startswith("expected JSON from Kaggle, found another response with status 403;")


def test_accepted_credentials():
    assert account.check_sign_in() == "Kaggle accepts the token in KAGGLE_API_TOKEN"


def test_a_rejected_token_that_hides_a_key_is_named_with_the_command_that_removes_it(monkeypatch, key_file):
    monkeypatch.setenv("KAGGLE_API_TOKEN", WRONG)
    assert fault(account.check_sign_in) == (
        f"Kaggle rejected the token in KAGGLE_API_TOKEN, which takes precedence over the key in {key_file}; "
        "unset KAGGLE_API_TOKEN"
    )
    monkeypatch.delenv("KAGGLE_API_TOKEN")
    assert account.check_sign_in() == f"Kaggle accepts the key in {key_file}"


def test_a_rejected_key_is_a_fault(monkeypatch, key_file):
    monkeypatch.delenv("KAGGLE_API_TOKEN")
    key_file.write_text(json.dumps({"username": USERNAME, "key": WRONG}))
    assert fault(account.check_sign_in).startswith(f"Kaggle rejected the key in {key_file}; create a new token at")


def test_rules_are_checked_by_a_download_that_is_not_read(kaggle):
    assert account.check_rules() == "accepted"
    kaggle.rules_accepted = False
    assert fault(account.check_rules).endswith(
        "accept the competition's rules at https://www.kaggle.com/competitions/digit-recognizer/rules and run the "
        "command again"
    )


def test_submissions_left_today(kaggle):
    assert account.check_daily_limit() == "10 submissions left today"
    account._get_limits.cache_clear()
    kaggle.rules_accepted = False  # no team yet
    assert account.check_daily_limit() == "no submission made yet"
    account._get_limits.cache_clear()
    kaggle.rules_accepted, kaggle.daily_limit = True, 1
    kaggle.submissions.append({"date": "9999", "ref": 1})
    kaggle._count_today = lambda: 1
    assert fault(account.check_daily_limit) == (
        "no submissions are left today (1 made); run `make submit` after 00:00 UTC"
    )


def test_hours_of_gpu_left(kaggle):
    assert account.check_gpu_hours() == "30.0 left this week"
    kaggle.gpu_hours = 0.5
    assert fault(account.check_gpu_hours) == "0.5 left this week; run `make push` after 2026-11-28 00:00:00 UTC"
    kaggle.fail("GetAcceleratorQuotaStatistics", status=404)
    assert fault(account.check_gpu_hours).endswith("see https://www.kaggle.com/settings")


def test_hours_of_gpu_are_unknown_to_an_old_client(monkeypatch):
    from kaggle.api.kaggle_api_extended import KaggleApi

    monkeypatch.delattr(KaggleApi, "quota_view")
    assert account.check_gpu_hours() == "unknown"
