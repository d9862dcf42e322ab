"""The page behind a reverse proxy, on a machine with a proxy of its own and another user's folder of Gradio."""

from pathlib import Path

from playwright.sync_api import expect

from tests.browser.reverse_proxy import proxied, unused_port


def test_the_page_works_behind_proxies_and_beside_anothers_temporary_folder(
    tmp_path: Path, tiny_folder: Path, serve_page, browser, monkeypatch
):
    (tmp_path / "gradio").write_text("of another user: nothing can be written below it")
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nothing answers there
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.delenv("GRADIO_TEMP_DIR", raising=False)
    port = unused_port()
    outside = f"http://127.0.0.1:{port}/studio"
    options = ("--base", str(tiny_folder), "--port", "0", "--root-path", outside)
    with serve_page(tmp_path / "library", *options) as (_, address), proxied(address, port):
        page = browser.new_page()
        refused: list[str] = []
        page.on("response", lambda answer: refused.append(answer.url) if answer.status >= 400 else None)
        page.goto(f"{outside}/")
        page.get_by_role("tab", name="Generate").click()
        page.locator("#prompt textarea").fill("a photo of a dog")
        page.get_by_role("button", name="Generate", exact=True).click()
        expect(page.locator("#generated .grid-container button img").first).to_be_visible(timeout=60_000)
        page.close()
    assert [url for url in refused if "favicon" not in url] == []
