import errno
import sys
from importlib import metadata
from pathlib import Path

import pytest

from ui.services import doctor
from ui.services.doctor import Finding, findings


@pytest.fixture
def found(tmp_path: Path):
    def run() -> dict[str, Finding]:
        return {each.topic: each for each in findings(str(tmp_path / "library"))}

    return run


def test_versions_devices_and_places_are_told(found, tmp_path):
    facts = found()
    assert facts["torch"].value == metadata.version("torch")
    assert facts["Python"].value.startswith(f"{sys.version_info.major}.{sys.version_info.minor}.")
    assert {"processor", "memory", "GPU", "cache", "temporary files", "working folder", "extra masks"} <= {*facts}
    assert facts["library"].value.startswith(str(tmp_path / "library"))
    assert not (tmp_path / "library").exists()


def test_what_is_missing_is_told_with_what_mends_it(found, monkeypatch):
    needed = ["no-such-package>=2", "torch>=99", "numpy", 'other; python_version < "3"', 'ray<3; extra == "ray"']
    monkeypatch.setattr(doctor.metadata, "requires", lambda _: needed)
    monkeypatch.setattr(doctor, "find_spec", lambda module: None if module == "rembg" else object())
    facts = found()
    assert facts["no-such-package"] == Finding("no-such-package", "none, needs >=2", "problem", "Run uv sync.")
    assert facts["torch"].state == "problem"
    assert facts["torch"].value.endswith("needs >=99")
    assert not {"numpy", "other", "ray"} & {*facts}
    assert facts["extra masks"].advice.endswith("uv sync --extra masks")
    assert (facts["extra masks"].state, facts["extra ray"].state) == ("note", "ok")


def test_a_folder_that_cannot_be_written_and_a_full_disk_are_problems(found, monkeypatch, tmp_path):
    def check(folder: Path) -> None:
        if folder == tmp_path / "library":
            raise OSError(errno.EROFS, "Read-only file system", str(folder))

    monkeypatch.setattr(doctor, "check_writable", check)
    monkeypatch.setattr(doctor, "_free_disk", lambda folder: 2**20 if folder == Path.cwd() else 2**40)
    facts = found()
    assert facts["library"].state == facts["working folder"].state == "problem"
    assert "read-only disk" in facts["library"].advice
    assert facts["cache"].state == "ok"


def test_proxies_and_databases_are_told_without_passwords_and_the_home_by_a_tilde(found, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("HTTPS_PROXY", "http://ada:secret@proxy.example:3128")
    monkeypatch.setenv("STUDIO_DATABASE", "postgresql://studio:secret@db.example/studio")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "models"))
    facts = found()
    assert facts["https_proxy"].value == "http://***@proxy.example:3128"
    assert facts["STUDIO_DATABASE"].value == "postgresql://***@db.example/studio"
    assert facts["HF_HOME"].value == "~/models"
    assert facts["library"].value.startswith("~/library")
    assert not any("secret" in str(each) for each in facts.values())


def test_torch_that_cannot_be_imported_is_a_problem(found, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    problem = [each for each in findings("library") if each.topic == "torch" and each.state == "problem"]
    assert problem[0].advice == "Install it again: uv sync --reinstall"


@pytest.mark.parametrize(
    ("name", "value", "shown", "said"),
    [
        ("all_proxy", "socks5://ada:secret@127.0.0.1:9", "socks5://***@127.0.0.1:9", "uv pip install socksio"),
        ("HTTP_PROXY", "ftp://127.0.0.1:9", "ftp://127.0.0.1:9", "names no proxy that can be used"),
        ("https_proxy", "http://ada:secret@[::1", "http://***@[::1", "names no proxy that can be used"),
        ("no_proxy", "[::1", "[::1", "has an entry that is no host"),
    ],
)
def test_a_proxy_that_cannot_be_used_is_a_problem(found, monkeypatch, name: str, value: str, shown: str, said: str):
    for each in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(each, raising=False)
        monkeypatch.delenv(each.upper(), raising=False)
    monkeypatch.setenv(name, value)
    fact = found()[name.lower()]
    assert (fact.state, fact.value, said in fact.advice) == ("problem", shown, True)


def test_the_home_folder_is_a_tilde(found, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert found()["working folder"].value.startswith("~, ")
