#!/usr/bin/env bash
# Since it carries its own copy of click, no exception of typer is one of click's: with standalone_mode=False,
# "except click.ClickException" misses typer's usage errors and typer.BadParameter, although click is installed and its
# classes have the same names. The command of typer.main.get_command is no click.Command either.
# Versions: typer 0.25.1 and 0.29.0, click 8.3.1.
# Seen: 0.25.1: caught by click.ClickException; 0.29.0: not caught, the class is typer._click.exceptions.BadParameter.
# Why it matters: a tool that turns a wrong option into one clear line shows a traceback instead after an update, and
# nothing fails at import, since click is still there for other packages.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
cat > "$folder/check.py" <<'PYTHON'
import sys

import click
import typer
from typer.main import get_command

app = typer.Typer()


@app.command()
def train(epochs: int):
    raise typer.BadParameter("too many epochs")


same = sys.argv[1] == "same"
for arguments in (["ten"], ["10"], ["--bogus"]):
    try:
        app(arguments, standalone_mode=False)
    except click.ClickException as error:
        caught, kind = True, type(error)
    except Exception as error:
        caught, kind = False, type(error)
    print(f"typer {typer.__version__} {arguments}: {kind.__module__}.{kind.__name__}, caught by click's class: {caught}")
    assert caught == same
assert isinstance(get_command(app), click.Command) == same
assert issubclass(typer.BadParameter, click.BadParameter) == same
PYTHON
"$folder/env/bin/pip" install --quiet typer==0.25.1 click==8.3.1
"$folder/env/bin/python" "$folder/check.py" same
"$folder/env/bin/pip" install --quiet typer==0.29.0 click==8.3.1
"$folder/env/bin/python" "$folder/check.py" another
