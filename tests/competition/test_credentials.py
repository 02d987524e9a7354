"""The credentials that the client will use, and the faults of their form."""

import errno
import json
import sys
from pathlib import Path

import pytest

from digit_recognizer.competition.credentials import find_credentials

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


def write(path, content):
    """Write a file that only its owner can read: text, bytes, or anything else as JSON."""
    if not isinstance(content, bytes | str):
        content = json.dumps(content)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    path.chmod(0o600)


def find_fault():
    """Return the only fault, after checking that it shows no value and is one line."""
    (fault,) = find_credentials().faults
    assert "secret" not in fault
    assert len(fault.splitlines()) == 1
    return fault


def test_client_prefers_a_token_to_a_key_and_a_key_to_a_login(folder, monkeypatch):
    assert find_credentials()[:2] == ("", "")
    write(folder / "credentials.json", {"refresh_token": "secret"})
    assert find_credentials() == (f"{folder}/credentials.json", "login", [], [])
    write(folder / "kaggle.json", KEY)
    assert find_credentials() == (f"{folder}/kaggle.json", "key", [], [])
    monkeypatch.setenv("KAGGLE_USERNAME", "secretuser")
    monkeypatch.setenv("KAGGLE_KEY", "secretkey")
    assert find_credentials() == ("KAGGLE_USERNAME and KAGGLE_KEY", "key", [], [])
    write(folder / "access_token.txt", TOKEN)
    assert find_credentials() == ("~/.kaggle/access_token.txt", "token", [], [])
    write(folder / "access_token", TOKEN + "\n")
    assert find_credentials() == ("~/.kaggle/access_token", "token", [], [])
    monkeypatch.setenv("KAGGLE_API_TOKEN", TOKEN)
    assert find_credentials() == ("KAGGLE_API_TOKEN", "token", [], [])
    monkeypatch.setenv("KAGGLE_API_TOKEN", str(folder / "access_token"))
    assert find_credentials() == ("the file that KAGGLE_API_TOKEN names", "token", [], [])


def test_key_file_is_where_the_client_looks_for_it(folder, tmp_path, monkeypatch):
    folder.rmdir()
    elsewhere = tmp_path / ".config" / "kaggle" if sys.platform == "linux" else folder
    elsewhere.mkdir(parents=True)
    write(elsewhere / "kaggle.json", KEY)
    assert find_credentials().source == f"{elsewhere}/kaggle.json"
    monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(tmp_path))
    write(tmp_path / "kaggle.json", KEY)
    assert find_credentials().source == f"{tmp_path}/kaggle.json"


FORMS = {
    "typographic quotes": (f"“{TOKEN}”", "quotes"),
    "quotes": (f'"{TOKEN}"', "quotes"),
    "byte order mark": (f"\ufeff{TOKEN}", "a byte order mark before it"),
    "two lines": (f"{TOKEN}\n{TOKEN}", "several lines"),
    "spaces": (f"{TOKEN} {TOKEN}", "spaces"),
    "letters": (f"{TOKEN}é", "characters outside of ASCII"),
    "control": (f"{TOKEN}\x07", "characters that cannot be printed"),
}


@pytest.mark.parametrize(("value", "found"), FORMS.values(), ids=FORMS)
def test_form_of_a_token_user_name_and_key_is_checked(folder, monkeypatch, value, found):
    write(folder / "kaggle.json", KEY | {"key": value})
    assert f"expected the key in {folder}/kaggle.json to be one word of" in find_fault()
    write(folder / "kaggle.json", KEY | {"username": value})
    assert f", found {found}; write it again" in find_fault()
    (folder / "kaggle.json").unlink()
    one_word = f"to be one word of letters, digits and ASCII punctuation, found {found}; write it again"
    write(folder / "access_token", value)
    assert f"expected the token in ~/.kaggle/access_token {one_word}" in find_fault()
    monkeypatch.setenv("KAGGLE_API_TOKEN", value)
    assert f"expected the token in KAGGLE_API_TOKEN {one_word}" in find_fault()


@pytest.mark.parametrize("value", [" ", f" {TOKEN}", f"{TOKEN}\n"])
def test_spaces_around_a_variable_are_a_fault_because_the_client_sends_them(monkeypatch, value):
    monkeypatch.setenv("KAGGLE_API_TOKEN", value)
    assert f"found {'spaces' if value.strip() else 'nothing'};" in find_fault()


FILES = {
    "list": ([KEY], 'to be a JSON object, such as {"username": ..., "key": ...}, found other JSON; download it again'),
    "text": ('"secret"', "found other JSON; download"),
    "number": (5, "found other JSON; download"),
    "no JSON": ("secret", "found other text (Expecting value: line 1 column 1 (char 0)); download"),
    "byte order mark": (
        "\ufeff" + json.dumps(KEY),
        "found a byte order mark before it; save it again as UTF-8 without",
    ),
    "UTF-16": (json.dumps(KEY).encode("utf-16"), "found another encoding; save it again as UTF-8, or remove it"),
    "number as key": (KEY | {"key": 5}, "kaggle.json as text in quotes, found another type of JSON; write it again"),
    "empty key": (KEY | {"key": ""}, "found nothing; write it again"),
    "no key": ({"username": "secretuser"}, "kaggle.json, found no key; create a token at"),
    "null": ("null", "kaggle.json contains no username and key); create a token"),
    "empty object": ({}, "kaggle.json contains no username and key); create a token"),
}


@pytest.mark.parametrize(("content", "found"), FILES.values(), ids=FILES)
def test_content_of_a_key_file_is_checked(folder, content, found):
    write(folder / "kaggle.json", content)
    assert found in find_fault()


def test_key_file_on_which_the_client_fails_is_a_fault_beside_a_good_token_and_others_are_not(folder, monkeypatch):
    monkeypatch.setenv("KAGGLE_API_TOKEN", TOKEN)
    write(folder / "kaggle.json", "no JSON")
    assert find_credentials().faults == []
    write(folder / "kaggle.json", "[5]")
    assert "found other JSON" in find_fault()


def test_stored_login_is_a_json_object(folder):
    write(folder / "credentials.json", [5])
    assert f"expected {folder}/credentials.json to be a JSON object" in find_fault()


@pytest.mark.parametrize("name", ["access_token", "kaggle.json", "credentials.json"])
def test_folder_in_place_of_a_file_is_a_fault(folder, name):
    (folder / name).mkdir()
    assert f".kaggle/{name} could not be read (Is a directory); make it a file that you can read" in find_fault()


def test_file_that_cannot_be_read_is_a_fault(folder, monkeypatch):
    def read_bytes(path):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    assert find_fault().startswith("~/.kaggle/access_token could not be read (Permission denied); make it a file that")


def test_token_that_is_too_long_for_the_client_is_a_fault(monkeypatch):
    """The client looks for a file of that name first."""
    monkeypatch.setenv("KAGGLE_API_TOKEN", TOKEN * 50)
    assert "cannot use the token in KAGGLE_API_TOKEN (File name too long); unset it, and save" in find_fault()


def test_bad_token_that_shadows_a_good_key_is_named_with_it(folder, monkeypatch):
    write(folder / "kaggle.json", KEY)
    monkeypatch.setenv("KAGGLE_API_TOKEN", f"“{TOKEN}”")
    assert find_fault().endswith(f", or remove it: then the key in {folder}/kaggle.json is used")
    write(folder / "kaggle.json", KEY | {"key": ""})
    assert "then the key" not in find_fault()


@pytest.mark.parametrize(("mode", "warned"), [(0o600, 0), (0o640, 1), (0o604, 1)])
def test_file_that_others_can_read_is_a_warning(folder, mode, warned):
    for name, content in (("credentials.json", {"refresh_token": "x"}), ("kaggle.json", KEY), ("access_token", TOKEN)):
        write(folder / name, content)
        (folder / name).chmod(mode)
        found = find_credentials()
        assert (len(found.warnings), found.faults) == (warned, [])
        assert all(
            f"{name} can be read by other users of this computer; run `chmod 600`" in text for text in found.warnings
        )
