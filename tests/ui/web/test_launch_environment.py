import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from concepts.errors import StudioError
from ui.web.launch_environment import bypass_proxies, free_port, without_proxies

_TEMPORARY = """
from ui.web.launch_environment import private_folder
folder = private_folder()
assert private_folder() == folder
assert folder.stat().st_mode & 0o077 == 0
from gradio.utils import get_upload_folder
import tempfile
print(folder, get_upload_folder(), tempfile.gettempdir())
"""


def test_a_port_is_free_or_another_is_named():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(StudioError, match=f"Port {port} is taken .* --port"):
            free_port("127.0.0.1", port)
    assert free_port("127.0.0.1", port) == port
    assert free_port("127.0.0.1", 0) > 1023
    assert 7860 <= free_port("127.0.0.1", None) <= 7959


@pytest.mark.parametrize(
    ("host", "message"),
    [("203.0.113.7", "is not an address of this machine"), ("no host", "cannot be listened on"), ("é.", "--host")],
)
def test_an_address_of_another_machine_is_refused(host, message):
    for port in (0, None):
        with pytest.raises(StudioError, match=message):
            free_port(host, port)


def test_loopback_stays_off_the_proxy(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "intern.example")
    monkeypatch.delenv("no_proxy", raising=False)
    bypass_proxies("192.0.2.1")
    bypass_proxies("0.0.0.0")
    assert os.environ["NO_PROXY"] == "intern.example,127.0.0.1,localhost,::1,192.0.2.1"
    assert os.environ["no_proxy"] == "127.0.0.1,localhost,::1,192.0.2.1"


def test_gradio_takes_the_private_folder_which_is_removed_at_the_end():
    ran = subprocess.run([sys.executable, "-c", _TEMPORARY], capture_output=True, text=True, check=True)
    folder, uploads, temporary = ran.stdout.split()
    assert Path(folder).parent == Path(tempfile.gettempdir())
    assert Path(uploads).parent == Path(temporary) == Path(folder)
    assert not Path(folder).exists()


def test_the_page_starts_whatever_the_proxies_are(monkeypatch):
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "[::1")
    with without_proxies():
        assert not {"ALL_PROXY", "NO_PROXY"} & {*os.environ}
    assert (os.environ["ALL_PROXY"], os.environ["NO_PROXY"]) == ("socks5://127.0.0.1:9", "[::1")
    code = "from ui.web.launch_environment import without_proxies\nwith without_proxies():\n    import gradio"
    subprocess.run([sys.executable, "-c", code], check=True)
