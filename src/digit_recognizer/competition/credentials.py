"""Find the credentials that the Kaggle client will use, and what is wrong with them, without the client."""

import json
import os
import sys
from pathlib import Path
from typing import Any, NamedTuple

SETTINGS_PAGE = "https://www.kaggle.com/settings/api"
ADVICE = (
    f"create a token at {SETTINGS_PAGE} and set KAGGLE_API_TOKEN to it, or save it as ~/.kaggle/access_token, or "
    "provide a legacy key in ~/.kaggle/kaggle.json or in KAGGLE_USERNAME and KAGGLE_KEY"
)
QUOTES = "\"'`´«»‹›‘’‚‛“”„‟"  # noqa: RUF001


class Credentials(NamedTuple):
    """The credentials that the client will use; no text contains a token, a user name or a key."""

    source: str  # where they are: an environment variable or a file; "" if there are none
    kind: str  # "token", "key" (a legacy user name and key) or "login" (of `kaggle auth login`); "" if there are none
    faults: list[str]  # why they cannot work, each with what to do
    warnings: list[str]  # what should be changed although they may work


def find_credentials() -> Credentials:
    """Return the credentials that the client will use, which prefers a token to a key and a key to a login.

    Only their form is checked: Kaggle may still reject them.
    """
    home = Path(os.path.expanduser("~"))  # noqa: PTH111 - without a HOME, Path.home() raises an error
    folder = home / ".kaggle"
    config = os.environ.get("KAGGLE_CONFIG_DIR") or folder
    if config == folder and sys.platform == "linux" and not os.path.exists(folder):  # noqa: PTH110 - raises no error
        config = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config") / "kaggle"
    key_file = Path(config) / "kaggle.json"
    values, fault = _read_json(key_file)
    if not isinstance(values, dict):  # the client fails on it even if it has a token
        return Credentials(str(key_file), "key", [fault], [])
    token, key = _find_token(folder), _find_key(key_file, values, fault)
    if token and token.faults and key and not key.faults:
        token.faults[0] += f", or remove it: then the key in {key.source} is used"
    if found := token or key or _find_login(folder / "credentials.json"):
        return found
    incomplete = f" ({key_file} contains no username and key)" if key_file.exists() else ""
    return Credentials("", "", [f"found no Kaggle credentials{incomplete}; {ADVICE}"], [])


def _find_token(folder: Path) -> Credentials | None:
    files = {path: f"~/.kaggle/{path.name}" for path in (folder / "access_token", folder / "access_token.txt")}
    if given := os.environ.get("KAGGLE_API_TOKEN"):  # a token, or the name of a file
        try:
            is_file = Path(given).exists()
        except OSError as error:  # the client fails in the same way
            fault = f"the client cannot use the token in KAGGLE_API_TOKEN ({error.strerror})"
            remedy = "unset it, and save the token as ~/.kaggle/access_token"
            return Credentials("KAGGLE_API_TOKEN", "token", [f"{fault}; {remedy}"], [])
        if not is_file:
            return _check("KAGGLE_API_TOKEN", "token", {"token": given})
        files = {Path(given): "the file that KAGGLE_API_TOKEN names"}
    for path, source in files.items():
        text, fault = _read_text(path, source)
        if text.strip() or fault:
            return _check(source, "token", {"token": text.strip()}, path, fault)
    return None


def _find_key(path: Path, values: dict[str, Any], fault: str) -> Credentials | None:
    given = {name: os.environ.get(f"KAGGLE_{name.upper()}", values.get(name)) for name in ("username", "key")}
    missing = [name for name, value in given.items() if value is None]
    if len(missing) == len(given) and not fault:
        return None
    in_file = "KAGGLE_KEY" not in os.environ
    source = str(path) if in_file else "KAGGLE_USERNAME and KAGGLE_KEY"
    if missing:
        fault = fault or f"expected a username and a key in {source}, found no {missing[0]}; {ADVICE}"
        return Credentials(source, "key", [fault], [])
    return _check(source, "key", given, path if in_file else None)


def _find_login(path: Path) -> Credentials | None:
    values, fault = _read_json(path)
    return _check(str(path), "login", {}, path, fault) if fault or values.get("refresh_token") else None


def _check(source: str, kind: str, values: dict[str, Any], path: Path | None = None, fault: str = "") -> Credentials:
    """Return credentials with the faults of their form, or a fault of their file, and a warning about the file."""
    if fault:
        return Credentials(source, kind, [fault], [])
    faults = [text for name, value in values.items() if (text := _find_fault(source, name, value))]
    readable = path and path.stat().st_mode & 0o044
    warning = f"{source} can be read by other users of this computer; run `chmod 600` on it"
    return Credentials(source, kind, faults, [warning] if readable else [])


def _find_fault(source: str, name: str, value: Any) -> str | None:
    """Return what is wrong with the form of a token, user name or key."""
    if not isinstance(value, str):
        return f"expected the {name} in {source} as text in quotes, found another type of JSON; write it again"
    for found, is_fault in (
        ("nothing", not value.strip()),
        ("a byte order mark before it", value.startswith("\ufeff")),
        ("several lines", len(value.strip().splitlines()) > 1),
        ("quotes", any(quote in value for quote in QUOTES)),
        ("spaces", any(character.isspace() for character in value)),
        ("characters outside of ASCII", not value.isascii()),
        ("characters that cannot be printed", not value.isprintable()),
    ):
        if is_fault:
            expected = f"expected the {name} in {source} to be one word of letters, digits and ASCII punctuation"
            return f"{expected}, found {found}; write it again, or create a new token at {SETTINGS_PAGE}"
    return None


def _read_text(path: Path, source: str) -> tuple[str, str]:
    """Return the text of a file, "" if it is missing, and why it cannot be read, or ""."""
    try:
        return path.read_bytes().decode("utf-8"), ""
    except (FileNotFoundError, NotADirectoryError):
        return "", ""
    except OSError as error:
        return "", f"{source} could not be read ({error.strerror}); make it a file that you can read, or move it away"
    except UnicodeDecodeError:
        return "", f"expected UTF-8 text in {source}, found another encoding; save it again as UTF-8, or remove it"


def _read_json(path: Path) -> tuple[Any, str]:
    """Return the JSON value of a file, {} if there is none, and why it is no object, or ""."""
    text, fault = _read_text(path, str(path))
    if fault or not text:
        return {}, fault
    expected = f'expected {path} to be a JSON object, such as {{"username": ..., "key": ...}}'
    remedy = f"download it again from {SETTINGS_PAGE}, or remove it"
    if text.startswith("\ufeff"):
        return {}, f"{expected}, found a byte order mark before it; save it again as UTF-8 without one, or {remedy}"
    try:
        values = json.loads(text) or {}
    except ValueError as error:  # its text does not contain the file's
        return {}, f"{expected}, found other text ({error}); {remedy}"
    return values, "" if isinstance(values, dict) else f"{expected}, found other JSON; {remedy}"
