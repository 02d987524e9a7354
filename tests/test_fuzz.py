"""Damaged and malicious files by the thousand: a valid result or one line, soon, in little memory, and nothing else."""

import contextlib
import io
import json
import os
import re
import shutil
import signal
import sys
import tempfile
import urllib.parse
import zipfile
from pathlib import Path
from types import SimpleNamespace

import made
import numpy as np
import pytest
from PIL import Image

from digit_recognizer import pipeline
from digit_recognizer.competition import download, submission
from digit_recognizer.console import HOLD_MESSAGES
from digit_recognizer.data import csv_files
from digit_recognizer.errors import UserError
from digit_recognizer.handwriting import image_files, reader, sample_digits
from digit_recognizer.training import devices

pytestmark = pytest.mark.slow

SECONDS = 10  # CPU time per input
MEMORY = 600_000  # kB: by which the peak of this process exceeds what it had before the test
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
CALLS = re.compile(r"subprocess\.Popen|os\.(system|exec|posix_spawn|fork)|pickle\.find_class|socket\.connect")
PATHS = {"open": (0,), "os.rename": (0, 1), "os.remove": (0,), "os.mkdir": (0,), "os.rmdir": (0,), "os.symlink": (1,)}
seen: list[tuple] = []  # audited events, while an input is read
watching = False


@sys.addaudithook
def audit(event, arguments):
    if event == "subprocess.Popen" and HOLD_MESSAGES in arguments[1]:
        return  # hides messages of TensorFlow
    if watching and (CALLS.match(event) or (event in PATHS and (event != "open" or arguments[2] & WRITING))):
        seen.append((event, *arguments))


def read_status(name):
    """Return a value of this process in kB: VmRSS, its memory, or VmHWM, the peak of it."""
    return int(re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())[1])


class Inputs:
    """Feed inputs to a function; check what it does with each, and count them."""

    def __init__(self, folder):  # noqa: D107
        self.folder, self.valid, self.refused = folder, 0, 0
        self.before = read_status("VmRSS")

    def feed(self, name, function, *arguments):
        """Call a function that returns, or raises a `UserError` of one line; `name` is in the report of a failure."""
        global watching
        seen.clear()
        Path("/proc/self/clear_refs").write_text("5")  # a new peak of memory
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        signal.alarm(60)  # on a busy machine
        watching = True
        try:
            function(*arguments)
            self.valid += 1
        except UserError as error:
            self.refused += 1
            assert str(error).isprintable(), repr(error)
            assert len(str(error)) < 1500
        except BaseException as error:
            error.add_note(name)
            raise
        finally:
            watching = False
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.alarm(0)
        assert self.find_strays() == [], name
        assert read_status("VmHWM") - self.before < MEMORY, name

    def find_strays(self):
        """Return audited calls, and what was written outside of the folder; modules may be compiled."""
        return [
            (event, *arguments)
            for event, *arguments in seen
            if event not in PATHS or not all(self.is_inside(arguments[index]) for index in PATHS[event])
        ]

    def is_inside(self, path):  # noqa: D102
        if isinstance(path, int):  # a file that is open already
            return True
        path = Path(os.fsdecode(path)).resolve()
        return path.is_relative_to(self.folder) or path == Path("/dev/null") or "__pycache__" in path.parts


@pytest.fixture
def inputs(tmp_path, monkeypatch):
    """Feed inputs in an empty folder; afterwards check memory, and that there were both valid and refused ones."""

    def hang(*_):
        raise AssertionError(f"still busy after {SECONDS} s")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    earlier = {number: signal.signal(number, hang) for number in (signal.SIGALRM, signal.SIGPROF)}
    inputs = Inputs(tmp_path)
    yield inputs
    for number, handler in earlier.items():
        signal.signal(number, handler)
    assert inputs.valid
    assert inputs.refused


def mutate(content, random):
    """Damage bytes in one of the ways that disks, transfers and people do."""
    start, end = np.sort(random.integers(0, len(content) + 1, 2))
    before, after, length = content[:start], content[end:], int(end - start)
    damaged = [
        b"",
        before,
        random.bytes(int(random.integers(1, 2000))),
        before + after,
        content[:end] + content[start:],
    ]
    damaged += [before + random.bytes(length) + after, before + bytes(length) + after]
    if (kind := random.integers(9)) < len(damaged):
        return damaged[kind]
    changed = np.frombuffer(content, np.uint8).copy()
    places = random.integers(0, len(content), random.choice([1, 2, 5, 50])) if content else []
    changed[places] ^= (1 << random.integers(0, 8, len(places))).astype(np.uint8)
    return changed.tobytes()


ODD = [None, True, -1, 0, 2**70, 10**400, 1e308, float("nan"), float("inf"), "", "../../x", "a\x1b[2J\n", "\ud800"]
ODD += [[], {}, [[1]], {"a": None}, "9" * 5000, "\u0663"]


def mutate_json(text, random):
    """Replace or delete a random value of a JSON document."""
    value = json.loads(text)
    places = [({"": value}, "")]
    for parent, key in places:
        child = parent[key]
        items = child.items() if isinstance(child, dict) else enumerate(child) if isinstance(child, list) else ()
        places += [(child, key) for key, _ in items]
    root = places[0][0]
    parent, key = places[random.integers(min(1, len(places) - 1), len(places))]
    if random.random() < 0.2:
        del parent[key]
    else:
        parent[key] = ODD[random.integers(len(ODD))]
    return json.dumps(root.get("")).encode()


FIELDS = ["", "-1", "256", "1e9", "nan", "\u0663", '"', '"a\nb"', "=1+1", "\x00"]
FIELDS += ["a" * 300, " 7", "0x1", "9" * 400, "../../x"]


def mutate_csv(content, random):
    """Replace, delete or repeat a random field or line of a CSV file."""
    lines = [line.split(",") for line in content.decode().splitlines()]
    line = random.integers(len(lines))
    field, kind, value = random.integers(len(lines[line])), random.integers(5), FIELDS[random.integers(len(FIELDS))]
    if kind == 0:
        lines[line][field] = value
    elif kind == 1:
        del lines[line][field]
    elif kind == 2:
        lines[line].insert(field, value)
    elif kind == 3:
        lines.insert(line, lines[random.integers(len(lines))])
    else:
        del lines[line]
    end = ["\n", "\r\n", "\r"][random.integers(3)]
    return (end.join(map(",".join, lines)) + end * random.integers(3)).encode("utf-8", "surrogateescape")


def mutate_arrays(content, random):
    """Write an .npz file again with other arrays, which may be pickled objects."""
    with np.load(io.BytesIO(content)) as file:
        arrays = dict(file)
    name = list(arrays)[random.integers(len(arrays))]
    array = arrays[name]
    if array.dtype.kind in "iuf":
        changed = [array[:-1], array[..., np.newaxis], array[:0], array.ravel().astype("U5"), array.astype(complex)]
        changed += [np.array(3), array.ravel().astype(object), -1.0 * np.ones_like(array)]
        changed += [np.atleast_1d(array).repeat(2, axis=0), np.full(array.shape, np.nan), np.full(array.shape, 10**9)]
    else:
        changed = [np.array([1]), np.array(["a", "b"]), np.array({}, object)]
    arrays[name] = changed[random.integers(len(changed))]
    if random.random() < 0.1:
        del arrays[name]
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def mutate_zip(content, random):
    """Write an archive again with malicious members, or change fields of its headers."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = [(info.filename, archive.read(info)) for info in archive.infolist()]
    kind, index = random.integers(8), random.integers(len(members))
    name, text = members[index]
    if kind == 0:
        outside = ["../../escaped", "/root/escaped", "a/../../../escaped", "..\\escaped"]
        members.append((str(random.choice(outside)), text))
    elif kind == 1:
        members.append(members[index])
    elif kind == 2:
        members[index] = name, bytes(50_000_000)
    elif kind == 3:
        members[index] = name, mutate(text, random)
    elif kind == 4:
        del members[index]
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED if random.random() < 0.5 else zipfile.ZIP_STORED) as archive:
        for name, text in members:
            repeats = name in archive.namelist()
            with pytest.warns(UserWarning, match="Duplicate name") if repeats else contextlib.nullcontext():
                archive.writestr(name, text)
    written = bytearray(file.getvalue())
    if kind > 4:  # a directory entry, PK\1\2: version, flags (encrypted), method, time, CRC, sizes, ..., offset
        entry = [match.start() for match in re.finditer(rb"PK\x01\x02", written)][index]
        place = int(random.choice([8, 10, 16, 20, 24, 42]))
        written[entry + place] ^= int(random.integers(1, 256))
    return bytes(written)


def head(path, rows):
    """Return the first lines of a file."""
    return b"".join(path.read_bytes().splitlines(keepends=True)[:rows])


def test_damaged_csv_files(inputs, tmp_path, demo_dir):
    random = np.random.default_rng(0)
    labels = b"path,label,kind\na.png,3,photo\nb.png,203 5,scan\n"
    ledger = ",".join(submission.LEDGER_COLUMNS) + "\nsingle,2026,7,hello,0.99,0.991,complete,ab,cd\n"
    predictions = io.BytesIO(b"ImageId,Label\r\n" + b"".join(b"%d,%d\r\n" % (i, i % 10) for i in range(1, 28_001)))
    kinds = {
        "train.csv": (head(demo_dir / "train.csv", 4), 150, lambda path: csv_files.load_train(path.parent)),
        "test.csv": (head(demo_dir / "test.csv", 3), 100, csv_files.load_test),
        "labels.csv": (labels, 150, image_files.read_table),
        "ledger.csv": (ledger.encode(), 150, submission.read_ledger),
        "submission.csv": (predictions.getvalue(), 20, submission.check_submission),
    }
    for name, (content, count, read) in kinds.items():
        path = tmp_path / name
        for index in range(count):
            damage = mutate_csv if random.random() < 0.6 else mutate
            path.write_bytes(damage(content, random) if index else content)
            inputs.feed(f"{name} {index}", read, path)


def test_damaged_archives(inputs, tmp_path, monkeypatch):
    random = np.random.default_rng(1)
    monkeypatch.setattr(download, "EXPECTED", {name: (header, 2) for name, (header, _) in download.EXPECTED.items()})
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, (header, _) in download.EXPECTED.items():
            archive.writestr(name, f"{header}\r\n1,2\r\n3,4\r\n")

    def fetch(_what, _function, _competition, folder, **_):
        Path(folder).mkdir(parents=True, exist_ok=True)
        (Path(folder) / "digit-recognizer.zip").write_bytes(content)

    monkeypatch.setattr(download, "connect", lambda **_: SimpleNamespace(competition_download_files=None))
    monkeypatch.setattr(download, "call", fetch)
    for index in range(150):
        content = file.getvalue()
        if index:
            content = mutate_zip(content, random) if random.random() < 0.7 else mutate(content, random)
        inputs.feed(f"archive {index}", lambda: download.download(tmp_path / "data", say=lambda _: None))
        allowed = {*download.EXPECTED, ".lock", ".lock.txt", ".download"}
        assert {path.name for path in (tmp_path / "data").iterdir()} <= allowed
        shutil.rmtree(tmp_path / "data")


def encode_pictures():
    """Return files of every format and mode that `decode` reads."""
    picture = Image.fromarray(sample_digits.draw_digits()[3])
    modes = {"PNG": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"), "JPEG": ("L", "RGB", "CMYK"), "GIF": ("P",)}
    modes |= {"TIFF": ("1", "L", "RGB", "RGBA", "I;16", "F", "CMYK"), "WEBP": ("RGB", "RGBA"), "BMP": ("1", "L", "RGB")}
    files = []
    for kind, names in modes.items():
        for mode in names:
            file, options = io.BytesIO(), {"exif": Image.Exif()} if kind in ("JPEG", "PNG", "WEBP") else {}
            if options:
                options["exif"][274] = 6  # orientation
            source = picture.convert("L") if mode == "I;16" else picture
            source.convert(mode).save(file, kind, **options)
            files.append((f"{kind} {mode}", file.getvalue()))
    return files


@pytest.fixture(scope="module")
def read(trained):
    return reader.make_reader(reader.load_classifier(trained))


def test_damaged_pictures(inputs, tmp_path, read):
    random, files = np.random.default_rng(2), encode_pictures()
    for index in range(350):
        name, content = files[index % len(files)]
        if index >= len(files):
            content = mutate(content, random)
            if random.random() < 0.3:  # in the header
                content = mutate(content[:64], random) + content[64:]
        path = tmp_path / "picture"
        path.write_bytes(content)
        inputs.feed(f"{name} {index}", lambda path: read([image_files.read_picture(path).pixels]), path)


@pytest.fixture(scope="module")
def folder(demo_dir, tmp_path_factory):
    """A folder with data, two runs, their predictions and submissions, a ledger and a picture."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "data").mkdir()
    for name, rows in {"train.csv": 401, "test.csv": 41}.items():
        (folder / "data" / name).write_bytes(head(demo_dir / name, rows))
    for name, settings in {"a": {"folds": 2}, "b": {"epochs": 3, "validation": 0.3, "seed": 1}}.items():
        run_dir = made.write_run(folder / "models" / name, folder / "data", networks=True, **settings)
        pipeline.write_submission(run_dir, folder / "data", folder / "submissions", lambda *_: None)
    (folder / "submissions" / "ledger.csv").write_text(
        ",".join(submission.LEDGER_COLUMNS) + "\na,2026,7,,0.9,0.9,complete,,\n"
    )
    Image.fromarray(sample_digits.draw_digits()[3]).save(folder / "picture.png")
    return folder


NETWORKS = "models/a/*/*.keras"
COMMANDS = [  # how often, the command, and the files that it reads
    (10, ["evaluate"], ["models/latest.json", "models/b/run.json", "models/b/*/[hv]*"]),
    (8, ["compare", "a", "b"], ["models/*/run.json", "models/*/*/[hv]*"]),
    (10, ["submission", "--run=a"], ["models/a/run.json", "models/a/*/[0-9a-f]*.npz", "submissions/a/*", NETWORKS]),
    (7, ["predict", "--run=a", "picture.png"], [NETWORKS, "models/a/*/v*"]),
    (5, ["report", "--run=a"], ["models/a/run.json", "models/a/*/*", "submissions/ledger.csv"]),
]


def damage_file(path, other, random):
    """Damage a file in a way that fits its kind, or replace it by another run's, or by a folder."""
    content, kind = path.read_bytes(), random.random()
    path.unlink()
    if kind < 0.06:
        path.mkdir()
    elif kind < 0.1:
        path.symlink_to(path.name)
    elif kind < 0.2 and other.exists():
        shutil.copy(other, path)
    elif kind < 0.4:
        path.write_bytes(mutate(content, random))
    else:
        damage = {".json": mutate_json, ".csv": mutate_csv, ".npz": mutate_arrays, ".keras": mutate_zip}[path.suffix]
        path.write_bytes(damage(content, random))


def test_damaged_run_folders(inputs, tmp_path, folder, run, monkeypatch):
    random = np.random.default_rng(3)
    monkeypatch.setattr(devices, "count_cores", lambda: 1)

    def call(*arguments):
        answer = run(*arguments)
        lines = [line for line in answer.stderr.splitlines() if not line.startswith("warning: ")]
        assert (answer.returncode, len(lines)) in ((0, 0), (1, 1)), answer.stderr
        if answer.returncode:
            raise UserError(lines[0])

    for times, command, patterns in COMMANDS:
        for index in range(times):
            copy = tmp_path / "copy"
            shutil.copytree(folder, copy, symlinks=True)
            monkeypatch.chdir(copy)
            if index:
                files = sorted(path for pattern in patterns for path in copy.glob(pattern))
                path = files[random.integers(len(files))]
                damage_file(path, Path(str(path).replace("/a/", "/b/")), random)
            inputs.feed(f"{command} {index}: {path if index else ''}", call, *command)
            shutil.rmtree(copy)


PATHS_OF_REQUESTS = ["/read", "/read?preview", "/read?width=1", "/classify", "/save?label=3", "/", "/page.js"]
PATHS_OF_REQUESTS += ["/../server.py", "/%2e%2e/%2e%2e/etc/passwd", "/vendor/..%2f..%2fserver.py", "//etc/passwd"]
PATHS_OF_REQUESTS += ["/%00", "/page.js%0d%0aX: y", "/" + "a/" * 2000, "/*"]
HEADERS = {
    "Host": ["evil.example", "127.0.0.1:8028.evil.example", "", "127.0.0.1:8028", "[::1]", "a" * 5000],
    "Origin": ["null", "http://evil.example", "http://127.0.0.1:8028", "http://127.0.0.1:9000", "\xe9"],
    "Content-Type": ["application/json", "multipart/form-data; boundary=x", "text/html", "image/png", "\xe9;;;"],
    "Content-Length": ["-1", "0", "99999999999", "x"],
    "Accept-Encoding": ["gzip", "*"],
    "Range": ["bytes=0-0,-1", "bytes=99999999999-", "x"],
    "If-Modified-Since": ["x", "Thu, 01 Jan 1970 00:00:00 GMT"],
}


def test_requests_to_the_page(inputs, tmp_path, read):
    server = pytest.importorskip("digit_recognizer.web.server", reason="needs the extra draw: make draw")
    testclient = pytest.importorskip("starlette.testclient")
    random, files = np.random.default_rng(4), encode_pictures()
    labels = ["3", "12 5", "../../x", "\x00", "9" * 21, "\u0663", "=1+1", "\n"]

    def request(client, method, path, headers, content):
        answer = client.request(method, path, headers=headers, content=content)
        if answer.status_code >= 400:
            assert answer.status_code < 500
            raise UserError(f"status {answer.status_code}: {answer.text[:300]}".replace("\n", " "))

    with testclient.TestClient(
        server.make_app(read, lambda images: np.zeros((len(images), 10)), tmp_path / "saved"),
        base_url="http://127.0.0.1:8028",
    ) as client:
        inputs.feed("a drawing", request, client, "POST", "/save?label=3", {}, files[0][1])
        for index in range(350):
            method = str(random.choice(["POST", "POST", "POST", "GET", "HEAD", "PUT", "OPTIONS", "DELETE"]))
            path = PATHS_OF_REQUESTS[min(random.geometric(0.2), len(PATHS_OF_REQUESTS)) - 1]
            if path.startswith("/save"):
                path = "/save?" + urllib.parse.urlencode({"label": labels[random.integers(len(labels))]})
            names = random.choice(list(HEADERS), random.integers(3), replace=False)
            headers = {name: HEADERS[name][random.integers(len(HEADERS[name]))].encode("latin-1") for name in names}
            _, content = files[random.integers(len(files))]
            if random.random() < 0.6:
                content = mutate(content, random)
            if random.random() < 0.02:
                content = bytes(25_000_000)
            inputs.feed(f"{index}: {method} {path[:80]} {headers}", request, client, method, path, headers, content)
    assert {path.suffix for path in (tmp_path / "saved").iterdir()} == {".png", ".csv"}
