"""The credentials that the client will use."""

import json
import sys

import pytest

from digit_recognizer.competition.credentials import find_credentials
from digit_recognizer.errors import UserError

TOKEN = "KGAT_secret"  # noqa: S105
KEY = {"username": "secretuser", "key": "secretkey"}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """An empty ~/.kaggle."""
    for name in ("API_TOKEN", "USERNAME", "KEY", "CONFIG_DIR"):
        monkeypatch.delenv(f"KAGGLE_{name}", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".kaggle").mkdir()
    return tmp_path / ".kaggle"


def write(path, content, mode=0o600):
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    path.chmod(mode)


def find_message():
    """Return the message of an error, after checking that it shows no secret and is one line."""
    with pytest.raises(UserError) as caught:
        find_credentials()
    assert "secret" not in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def test_client_prefers_a_token_to_a_key_and_a_key_to_a_login(folder, monkeypatch):
    assert find_message() == (
        "found no Kaggle credentials; create a token at https://www.kaggle.com/settings/api and set KAGGLE_API_TOKEN "
        "to it, or save it as ~/.kaggle/access_token, or provide a legacy key in ~/.kaggle/kaggle.json or in "
        "KAGGLE_USERNAME and KAGGLE_KEY"
    )
    write(folder / "credentials.json", {"refresh_token": "secret"})
    assert find_credentials() == ("login", f"{folder}/credentials.json", False)
    write(folder / "kaggle.json", KEY)
    assert find_credentials() == ("key", f"{folder}/kaggle.json", False)
    monkeypatch.setenv("KAGGLE_USERNAME", "secretuser")
    monkeypatch.setenv("KAGGLE_KEY", "secretkey")
    assert find_credentials() == ("key", "KAGGLE_USERNAME and KAGGLE_KEY", False)
    write(folder / "access_token.txt", TOKEN)
    assert find_credentials() == ("token", f"{folder}/access_token.txt", False)
    write(folder / "access_token", TOKEN + "\n")
    assert find_credentials() == ("token", f"{folder}/access_token", False)
    monkeypatch.setenv("KAGGLE_API_TOKEN", TOKEN)
    assert find_credentials() == ("token", "KAGGLE_API_TOKEN", False)
    monkeypatch.setenv("KAGGLE_API_TOKEN", str(folder / "access_token.txt"))
    assert find_credentials() == ("token", f"{folder}/access_token.txt", False)


def test_key_file_is_where_the_client_looks_for_it(folder, tmp_path, monkeypatch):
    folder.rmdir()
    elsewhere = tmp_path / ".config" / "kaggle" if sys.platform == "linux" else folder
    elsewhere.mkdir(parents=True)
    write(elsewhere / "kaggle.json", KEY)
    assert find_credentials().source == f"{elsewhere}/kaggle.json"
    monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(tmp_path))
    write(tmp_path / "kaggle.json", KEY)
    assert find_credentials().source == f"{tmp_path}/kaggle.json"


FORMS = ["“secret”", '"secret"', "\ufeffsecret", "secret\nsecret", "sec ret", "secreté", "secret\x07", "s" * 300]


@pytest.mark.parametrize("value", FORMS, ids=ascii)
def test_form_of_a_token_user_name_and_key_is_checked(folder, monkeypatch, value):
    write(folder / "kaggle.json", KEY | {"key": value})
    expected = "as ASCII letters, digits and punctuation without spaces and quotes; write it"
    assert f"expected the key in {folder}/kaggle.json {expected}" in find_message()
    write(folder / "access_token", value)
    assert f"expected the token in {folder}/access_token {expected}" in find_message()
    monkeypatch.setenv("KAGGLE_API_TOKEN", value)
    assert f"expected the token in KAGGLE_API_TOKEN {expected}" in find_message()


def test_spaces_around_a_variable_are_an_error_because_the_client_sends_them(monkeypatch):
    monkeypatch.setenv("KAGGLE_API_TOKEN", f" {TOKEN}")
    assert "expected the token in KAGGLE_API_TOKEN" in find_message()


FILES = {
    "list": ([KEY], "expected credentials as a JSON object in"),
    "no JSON": ("secret", "found something else (Expecting value: line 1 column 1 (char 0)); download it again from"),
    "byte order mark": ("\ufeff" + json.dumps(KEY), "found something else (Unexpected UTF-8 BOM"),
    "number as key": (KEY | {"key": 5}, "expected the key in"),
    "empty key": (KEY | {"key": ""}, "expected the key in"),
    "no key": ({"username": "secretuser"}, "found no Kaggle credentials"),
}


@pytest.mark.parametrize(("content", "message"), FILES.values(), ids=FILES)
def test_content_of_a_key_file_is_checked(folder, content, message):
    write(folder / "kaggle.json", content)
    assert message in find_message()
