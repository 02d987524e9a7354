"""The browser, for tests of the page."""

import shutil

import pytest

ARGUMENTS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
]


@pytest.fixture(scope="session")
def browser():
    """Debian's Chromium."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs Playwright: make test-browser")
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def open_address(browser):
    """Open a page; at the end check that it sent requests to its server only and logged no error."""
    contexts, own, requests, errors = [], ["data:image/"], [], []

    def open_address(address, **settings):
        contexts.append(browser.new_context(**({"viewport": {"width": 1100, "height": 760}} | settings)))
        page = contexts[-1].new_page()
        own.append(address)
        page.on("request", lambda request: requests.append(request.url))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda message: errors.append(message.text))
        page.goto(address)
        return page

    yield open_address
    for context in contexts:
        context.close()
    assert requests
    assert [url for url in requests if not url.startswith(tuple(own))] == []
    refused = "the server responded with a status of 422"  # Chromium's own line in the console
    assert [line for line in errors if refused not in line] == []
