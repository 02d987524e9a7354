"""The page's server: its responses, its refusals and the files it writes."""

import asyncio
import base64
import contextlib
import http.client
import queue
import re
import threading
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pages
import pytest
from hostile import HOSTILE

from digit_recognizer.errors import UserError
from digit_recognizer.handwriting import sample_digits
from digit_recognizer.handwriting.reader import Digit, Reading

server = pytest.importorskip("digit_recognizer.web.server", reason="needs the extra draw: make draw")
testclient = pytest.importorskip("starlette.testclient")

OWN = "http://127.0.0.1:8028"
PICTURE = sample_digits.draw_digits()[3]
PNG = cv2.imencode(".png", PICTURE[..., ::-1])[1].tobytes()


SCOPE = {
    "type": "http",
    "method": "POST",
    "path": "/read",
    "query_string": b"",
    "headers": [(b"host", b"127.0.0.1:8028")],
}


def three(pictures):
    """Read every picture that is not plain paper as a 3."""
    digit = Digit(np.where(np.arange(10) == 3, 0.955, 0.005), (30, 8, 50, 90), np.eye(28, dtype=np.uint8))
    return [Reading([[digit]] if (picture != picture[0, 0]).any() else []) for picture in pictures]


def guess(images):
    """Return the mean gray level of each image as the probability of every digit."""
    return np.repeat(images.mean(axis=(1, 2))[:, np.newaxis] / 255, 10, axis=1)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "handwriting"


@pytest.fixture
def client(folder):
    with testclient.TestClient(server.make_app(three, guess, folder, name="three"), base_url=OWN) as client:
        yield client


def test_read_returns_the_digits_of_a_picture(client):
    answer = client.post("/read", content=PNG).json()
    assert (answer["text"], answer["width"], answer["height"]) == ("3", 112, 112)
    (digit,) = answer["digits"]
    assert digit["digit"] == 3
    assert digit["confident"]
    assert digit["probabilities"] == [0.005] * 3 + [0.955] + [0.005] * 6
    assert digit["box"] == [30, 8, 50, 90]
    assert base64.b64decode(digit["pixels"]) == np.eye(28, dtype=np.uint8).tobytes()
    assert "preview" not in answer


def test_read_takes_the_gray_levels_of_a_drawing(client):
    drawing = np.full((30, 40), 255, np.uint8)
    blank = client.post("/read?width=40", content=drawing.tobytes()).json()
    assert (blank["text"], blank["width"], blank["height"]) == ("", 40, 30)
    drawing[10, 10] = 0
    assert client.post("/read?width=40", content=drawing.tobytes()).json()["text"] == "3"


@pytest.mark.parametrize("width", ["0", "-40", "41", "x", "", "1e3", "40000"])
def test_rows_of_another_width_are_refused(client, width):
    answer = client.post(f"/read?width={width}", content=bytes(1200))
    assert (answer.status_code, answer.json()["error"]) == (
        422,
        f"expected rows of {width!r} bytes, received 1200 bytes",
    )


def test_images_are_classified(client):
    images = np.stack([np.zeros((28, 28), np.uint8), np.full((28, 28), 255, np.uint8)])
    answer = client.post("/classify", content=images.tobytes())
    assert np.frombuffer(answer.content, "<f4").tolist() == [0.0] * 10 + [1.0] * 10
    assert client.get("/networks").json() == "three"


@pytest.mark.parametrize("size", [0, 1, 783, 785, 401 * 784])
def test_other_than_whole_images_are_not_classified(client, size):
    answer = client.post("/classify", content=bytes(size))
    assert (answer.status_code, answer.json()["error"]) == (
        422,
        f"expected 1 to 400 images of 784 bytes, received {size} bytes",
    )


@pytest.mark.parametrize("path", ["/read", "/read?preview", "/save?label=1"])
@pytest.mark.parametrize("content", [*HOSTILE.values(), b""], ids=[*HOSTILE, "empty"])
def test_files_that_are_not_pictures_are_refused_in_one_line(client, folder, path, content):
    answer = client.post(path, content=content)
    assert answer.status_code == 422
    assert re.match("expected an image|the image has more than", answer.json()["error"])
    assert "\n" not in answer.json()["error"]
    assert ("megapixels" in answer.json()["error"]) == (content == HOSTILE["bomb.png"])
    assert not folder.exists()


async def post_raw(app, receive):
    """Post a body that an ASGI function yields in parts; return the status and the text of the response."""
    sent = []

    async def send(message):
        sent.append(message)

    await app(SCOPE, receive, send)
    return sent[0]["status"], sent[1]["body"].decode()


def test_a_large_upload_is_refused_while_it_is_read(folder):
    taken = []

    async def receive():
        taken.append(1)
        return {"type": "http.request", "body": bytes(1_000_000), "more_body": True}

    status, text = asyncio.run(post_raw(server.make_app(three, guess, folder), receive))
    assert (status, len(taken)) == (413, 21)
    assert "at most 20 MB" in text


def test_an_upload_that_takes_too_long_is_refused(folder, monkeypatch):
    monkeypatch.setattr(server, "BODY_SECONDS", 0.01)
    app = server.make_app(three, guess, folder)
    status, text = asyncio.run(post_raw(app, lambda: asyncio.sleep(60)))
    assert status == 408
    assert "expected the whole picture within" in text


def test_only_a_few_uploads_are_in_memory_at_a_time(folder):
    begun = []

    async def post_many():
        app, release = server.make_app(three, guess, folder, name="three"), asyncio.Event()

        async def receive():
            begun.append(1)
            await release.wait()
            return {"type": "http.request", "body": PNG, "more_body": False}

        async with asyncio.TaskGroup() as group:
            posts = [group.create_task(post_raw(app, receive)) for _ in range(server.BODIES + 3)]
            for _ in range(100):  # until every task waits
                await asyncio.sleep(0)
            assert len(begun) == server.BODIES
            release.set()
        return [post.result()[0] for post in posts]

    assert asyncio.run(post_many()) == [200] * (server.BODIES + 3)


def test_more_connections_than_the_limit_are_refused(folder, monkeypatch):
    monkeypatch.setattr(server, "CONNECTIONS", 3)
    servers, addresses = [], queue.Queue()

    class Server(server.uvicorn.Server):
        def __init__(self, settings):
            super().__init__(settings)
            servers.append(self)

    monkeypatch.setattr(server.uvicorn, "Server", Server)
    thread = threading.Thread(
        target=server.serve,
        args=(lambda: (three, guess), folder),
        kwargs={"name": "three", "port": 0, "browser": False, "say": addresses.put},
    )
    thread.start()
    try:
        port = int(re.search(r":(\d+)/", addresses.get(timeout=30))[1])
        statuses = []
        with contextlib.ExitStack() as stack:
            for _ in range(4):
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
                stack.callback(connection.close)
                connection.request("GET", "/")
                statuses.append(connection.getresponse().status)
    finally:
        servers[0].should_exit = True
        thread.join(30)
    assert statuses == [200, 200, 503, 503]


def test_script_and_server_have_the_same_upload_limit():
    script = (server.STATIC / "backend.js").read_text()
    assert int(re.search(r"UPLOAD_LIMIT = ([\d_]+)", script)[1]) == server.UPLOAD_LIMIT


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "192.168.0.1:8028", "[::1]"])
@pytest.mark.parametrize("path", ["/", "/read"])
def test_other_hosts_are_refused(client, path, host):
    assert client.request("POST" if path == "/read" else "GET", path, headers={"Host": host}).status_code == 400


@pytest.mark.parametrize(
    "origin",
    ["http://evil.example", "https://127.0.0.1:8028", "http://127.0.0.1:9000", "http://localhost:8028", "null"],
)
def test_other_origins_are_refused(client, folder, origin):
    answer = client.post("/save?label=1", content=PNG, headers={"Origin": origin})
    assert answer.status_code == 403
    assert not folder.exists()


@pytest.mark.parametrize("host", ["127.0.0.1:8028", "localhost:8028"])
def test_requests_from_the_page_are_accepted(client, host):
    assert client.post("/read", content=PNG, headers={"Host": host, "Origin": f"http://{host}"}).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", "/", {}, 200),
        ("GET", "/page.js", {}, 200),
        ("GET", "/nothing", {}, 404),
        ("POST", "/", {}, 405),
        ("POST", "/read", {}, 422),
        ("GET", "/", {"Host": "evil.example"}, 400),
        ("GET", "/", {"Origin": "http://evil.example"}, 403),
    ],
)
def test_every_response_has_the_security_headers(client, method, path, headers, status):
    answer = client.request(method, path, headers=headers)
    assert answer.status_code == status
    policy = answer.headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert "access-control-allow-origin" not in answer.headers


def test_the_page_loads_only_its_own_files(client):
    html = client.get("/").text
    elements = pages.read(html).elements
    links = [value for _, attributes in elements for name, value in attributes.items() if name in ("src", "href")]
    assert sorted(links) == ["icon.svg", "manifest.webmanifest", "page.css", "page.js"]
    assert all(
        client.get(f"/{link}").status_code == 200
        for link in [*links, "backend.js", "explain.js", "vendor/signature_pad.min.js"]
    )
    assert not [name for _, attributes in elements for name in attributes if name == "style" or name.startswith("on")]
    for name in ("page.css", "page.js", "backend.js", "explain.js", "manifest.webmanifest"):
        text = (server.STATIC / name).read_text().replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?:|url\(|@import", text)


@pytest.mark.parametrize(
    "path", ["/../server.py", "/%2e%2e/server.py", "/vendor/..%2f..%2fserver.py", "//etc/passwd", "/%00"]
)
def test_files_outside_of_static_are_not_served(client, path):
    assert client.get(path).status_code == 404


def test_a_labelled_drawing_is_saved(client, folder):
    paths = [client.post(f"/save?label={label}", content=PNG).json()["path"] for label in ("3", "203 5")]
    assert len(set(paths)) == 2
    first, second = (folder / path.removeprefix(f"{folder}/") for path in paths)
    assert (cv2.imread(first, cv2.IMREAD_COLOR_RGB) == PICTURE).all()
    assert (folder / "labels.csv").read_text() == f"path,label\n{first.name},3\n{second.name},203 5\n"
    assert {path.name for path in folder.iterdir()} == {first.name, second.name, "labels.csv"}


@pytest.mark.parametrize(
    "label", ["", " ", "-1", "x", "../../x", "1&label=x", "%31%00", "1%0a", "=1", "%D9%A3", "1" * 21, " 1"]
)
def test_invalid_labels_are_refused(client, folder, label):
    answer = client.post(f"/save?label={label}", content=PNG)
    assert answer.status_code == 422
    assert answer.json()["error"].startswith("expected a label of 1 to 20 digits, received ")
    assert not folder.exists()


def test_drawings_saved_concurrently_all_get_a_row(folder):
    with ThreadPoolExecutor(8) as pool:
        paths = list(pool.map(lambda label: server.save_labelled(PICTURE, str(label), folder), range(40)))
    lines = (folder / "labels.csv").read_text().splitlines()
    assert lines[0] == "path,label"
    assert sorted(lines[1:]) == sorted(f"{path.name},{index}" for index, path in enumerate(paths))


def test_rows_are_appended_to_a_table_with_more_columns(folder):
    folder.mkdir()
    (folder / "labels.csv").write_text("kind,path,label\nphoto,a.jpg,1")
    path = server.save_labelled(PICTURE, "3", folder)
    assert (folder / "labels.csv").read_text() == f"kind,path,label\nphoto,a.jpg,1\n,{path.name},3\n"


def test_a_table_without_the_columns_is_refused_and_unchanged(folder):
    folder.mkdir()
    (folder / "labels.csv").write_text("name,digit\n")
    with pytest.raises(UserError, match=r"expected the columns path and label in .*, found 'name,digit'; move it away"):
        server.save_labelled(PICTURE, "3", folder)
    assert [path.name for path in folder.iterdir()] == ["labels.csv"]


def test_a_folder_that_cannot_be_written_is_reported_in_one_line(client, folder):
    folder.write_text("a file")
    answer = client.post("/save?label=3", content=PNG)
    reason = f"could not read or write {folder}: File exists; move away what is in its place"
    assert (answer.status_code, answer.json()["error"]) == (500, reason)


def test_pictures_are_read_one_at_a_time_without_blocking_the_page(folder):
    asked, release, under_way = threading.Event(), threading.Event(), []

    def slow(pictures):
        under_way.append(1)
        asked.set()
        assert release.wait(30)
        assert len(under_way) == 1
        under_way.pop()
        return three(pictures)

    app = server.make_app(slow, guess, folder)
    with testclient.TestClient(app, base_url=OWN) as client, ThreadPoolExecutor(3) as pool:
        answers = [pool.submit(client.post, "/read", content=PNG) for _ in range(3)]
        assert asked.wait(30)
        assert client.get("/").status_code == 200
        release.set()
        assert [answer.result().json()["text"] for answer in answers] == ["3"] * 3


def test_a_port_in_use_is_refused_before_the_reader_is_loaded(tmp_path):
    with server.listen(0) as first:
        port = first.getsockname()[1]
        assert first.getsockname()[0] == "127.0.0.1"
        with pytest.raises(
            UserError,
            match=f"^port {port} is not available \\(Address already .*\\); choose another --port$",
        ):
            server.listen(port)
        with pytest.raises(UserError, match="is not available"):
            server.serve(pytest.fail, tmp_path, name="", port=port, browser=False, say=pytest.fail)
