"""Find the credentials that the Kaggle client will use, without the client. No text here contains a secret."""

import os
import re
import sys
from pathlib import Path
from typing import Any, NamedTuple

from digit_recognizer.errors import UserError
from digit_recognizer.files import read_json

SETTINGS_PAGE = "https://www.kaggle.com/settings/api"
NONE = (
    f"found no Kaggle credentials; create a token at {SETTINGS_PAGE} and set KAGGLE_API_TOKEN to it, or save it as "
    "~/.kaggle/access_token, or provide a legacy key in ~/.kaggle/kaggle.json or in KAGGLE_USERNAME and KAGGLE_KEY"
)
WORD = re.compile(r"[!#-&(-_a-~]{1,250}")  # ASCII without spaces and quotes; the client fails on a longer token


class Credentials(NamedTuple):
    """Where the credentials of the client are."""

    kind: str  # "token", "key" (a legacy user name and key) or "login" (of `kaggle auth login`)
    source: str  # environment variables, or the path of a file
    is_public: bool  # other users of this computer can read the file


def find_credentials() -> Credentials:
    """Return the credentials that the client will use, which prefers a token to a key and a key to a login.

    Raises:
        UserError: There are none, or they have a form that Kaggle's never have.
    """
    home, token = Path(os.path.expanduser("~"), ".kaggle"), os.environ.get("KAGGLE_API_TOKEN")  # noqa: PTH111 - no HOME
    if token and not os.path.exists(token):  # noqa: PTH110 - no error for a long name
        return _check("token", "KAGGLE_API_TOKEN", token)
    for path in [Path(token)] if token else [home / "access_token", home / "access_token.txt"]:
        if path.exists() and (text := path.read_text(errors="replace").strip()):
            return _check("token", path, text)
    is_elsewhere = sys.platform == "linux" and not home.exists()
    folder = Path(os.environ.get("XDG_CONFIG_HOME") or home.parent / ".config", "kaggle") if is_elsewhere else home
    path = Path(os.environ.get("KAGGLE_CONFIG_DIR") or folder, "kaggle.json")
    values = _read_object(path)
    username, key = (os.environ.get(f"KAGGLE_{name.upper()}", values.get(name)) for name in ("username", "key"))
    if username is not None and key is not None:
        source = "KAGGLE_USERNAME and KAGGLE_KEY" if "KAGGLE_KEY" in os.environ else path
        return _check("key", source, username, key)
    path = home / "credentials.json"
    if token := _read_object(path).get("refresh_token"):
        return _check("login", path, token)
    raise UserError(NONE)


def describe_rejection() -> str:
    """Return the message that Kaggle rejected the credentials that the client uses."""
    kind, source, _ = find_credentials()
    return f"Kaggle rejected the {kind} in {source}; remove it, and create a token at {SETTINGS_PAGE}"


def _check(kind: str, source: str | Path, *secrets: Any) -> Credentials:
    if not all(isinstance(secret, str) and WORD.fullmatch(secret) for secret in secrets):
        expected = f"expected the {kind} in {source} as ASCII letters, digits and punctuation without spaces and quotes"
        raise UserError(f"{expected}; write it again, or create a token at {SETTINGS_PAGE}")
    is_public = isinstance(source, Path) and bool(source.stat().st_mode & 0o044)
    return Credentials(kind, str(source), is_public)


def _read_object(path: Path) -> dict[str, Any]:
    """Return the JSON object of a file, {} if there is none."""
    remedy = f"download it again from {SETTINGS_PAGE}, or remove it"
    values = read_json(path, "credentials", remedy) if path.exists() else {}
    if not isinstance(values, dict):
        raise UserError(f"expected credentials as a JSON object in {path}, found other JSON; {remedy}")
    return values
