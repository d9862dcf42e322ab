"""What a crowd and what strangers do to the page; slow."""

import io
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from gradio_client import Client
from PIL import Image

from concepts import Library
from concepts.samples import SAMPLES
from concepts.storage import read_file
from tests.browser.hostile import Upload, uploads
from tests.browser.visitors import Session

pytestmark = pytest.mark.slow
SESSIONS, SECONDS = 30, 180
GROWTH = 1.15
"""What the server may hold in the end of what it held after a minute."""


@pytest.fixture
def library(tmp_path) -> Library:
    return Library(tmp_path / "library")


@pytest.fixture
def page(library: Library, serve_page: Callable, tiny_folder: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    with serve_page(library.root, "--api", "--base", str(tiny_folder)) as served:
        yield served


def stored(library: Library, name: str) -> tuple[str, tuple[int, int]]:
    """Mode and size of a concept's only picture."""
    (file,) = library.concept(name).pictures
    with Image.open(io.BytesIO(read_file(file))) as picture:
        assert picture.format == "PNG"
        return picture.mode, picture.size


@pytest.mark.timeout(1800)
def test_every_malformed_upload_is_taken_rightly_or_refused(page: tuple, library: Library):
    process, address = page
    with Session(address) as session:
        taken = [is_taken(session, library, upload, f"c{number}") for number, upload in enumerate(uploads())]
        assert len(taken) == 300
        assert 120 <= sum(taken) <= 200
        assert process.poll() is None
        assert session.http.get("/").status_code == 200
    assert not (library.root.parent / "x.png").exists()


def is_taken(session: Session, library: Library, upload: Upload, name: str) -> bool:
    """Adds a concept with one file, as the page does: it is there and right, or a sentence says why it is not."""
    file = session.upload(upload.name, upload.data)
    report = session.call("inspected", [file])[0]
    good = 'class="problem"' not in report
    sentences = re.findall(r'class="problem">([^<]+)<', report)
    assert good or all(len(sentence) > 20 and sentence.endswith(".") for sentence in sentences), report
    assert "<img src=x" not in report
    session.call("add", [file], name, "thing")
    assert good == (name in [concept.name for concept in library.concepts()]), upload.name
    if upload.becomes != ():
        assert good == (upload.becomes is not None), (upload.name, report)
    if good and upload.becomes:
        assert stored(library, name) == ("RGB", upload.becomes)
    return good


def test_a_file_of_129_megabytes_is_refused(page: tuple):
    with Session(page[1]) as session:
        answer = session.http.post("/gradio_api/upload", files={"files": ("huge.png", bytes(129 * 2**20))})
        assert answer.status_code == 413


def test_nothing_outside_the_library_is_readable(page: tuple, library: Library):
    address = page[1]
    library.add_concept("rex", "dog", SAMPLES["rex"].pictures)
    picture, database = library.concept("rex").pictures[0], library.root / "studio.sqlite"
    with Session(address) as session:
        for path in ("/etc/passwd", "/proc/self/environ", database, picture, Path(__file__),
                     f"{library.root}/generated/../studio.sqlite", "/etc/./passwd", "//etc/passwd"):  # fmt: skip
            assert session.http.get(f"{address}gradio_api/file={path}").status_code in (403, 404), path
        for path in (str(database), "/etc/passwd", str(picture)):
            for marked in ({"meta": {"_type": "gradio.FileData"}}, {}):
                with pytest.raises(RuntimeError):
                    session.call("inspected", [{"path": path, **marked}])


@pytest.mark.timeout(1800)
def test_a_crowd_is_served(page: tuple, library: Library):
    process, address = page
    server, end, errors = psutil.Process(process.pid), time.monotonic() + SECONDS, []
    for number in range(SESSIONS):
        library.add_concept(f"c{number}", "thing", SAMPLES["rex"].pictures[:2])
    jobs: dict[int, str] = {}

    def visit(number: int) -> None:
        try:
            client = Client(address, analytics_enabled=False, verbose=False)
            recipe = {"adapter": "lora", "steps": 4, "batch_size": 2, "num_class_images": 2}
            jobs[number] = client.predict(f"c{number}", recipe, api_name="/train")["id"]
            asked = {"num_images": 1, "num_inference_steps": 2}
            with Session(address) as session:
                while time.monotonic() < end:
                    session.http.get("/").raise_for_status()
                    assert "c29" in session.call("shown", "")[0]
                    assert len(client.predict("a dog on the beach", asked, api_name="/generate")) == 1
            client.close()
        except Exception as error:
            errors.append(error)

    crowd = [threading.Thread(target=visit, args=(number,)) for number in range(SESSIONS)]
    for visitor in crowd:
        visitor.start()
    time.sleep(SECONDS / 3)
    warm = server.memory_info().rss
    for visitor in crowd:
        visitor.join()
    assert errors == []
    assert server.memory_info().rss < GROWTH * warm
    until = time.monotonic() + 600
    while library.jobs.unfinished() and time.monotonic() < until:
        time.sleep(1)
    assert len(jobs) == SESSIONS
    assert {library.jobs.job(job).state for job in jobs.values()} == {"done"}
