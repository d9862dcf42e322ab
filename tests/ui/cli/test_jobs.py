from concepts import Order


def queued(library, *names: str) -> list[str]:
    orders = [Order(name, "none", "abc", {"steps": 3}, priority=4) for name in names]
    return [job.id for job in library.jobs.queue(orders)]


def test_the_queue_from_order_to_result(studio, library, tiny_folder):
    place = ("--library", library.root)
    options = ("--base", tiny_folder, "--rank", 4, "--steps", 2, "--set", "num_class_images=2", "--set", "batch_size=2")
    added = studio("jobs", "add", "idle", *options, *place, "--json")
    assert added.status == 0, added.err
    (job,) = added.document
    assert (job["concept"], job["state"], job["first_column"]) == ("idle", "queued", 8)
    refused = studio("train", "idle", *options, *place)
    assert refused.status == 2
    assert "is already in the queue" in refused.err
    ended = studio("worker", "--until-empty", *place)
    assert ended.status == 0, ended.err
    assert "idle: done" in ended.err
    shown = studio("jobs", "show", job["id"][:10], *place, "--json").document
    assert (shown["state"], shown["step"], len(shown["losses"]), shown["recipe"]["rank"]) == ("done", 2, 2, 4)
    assert library.concept("idle").result is not None


def test_list_cancel_and_retry(studio, library):
    place = ("--library", library.root)
    first, second = queued(library, "rex", "Milo")
    assert studio("jobs", "cancel", first[:8], *place).status == 0
    listed = studio("jobs", "list", "--state", "cancelled", *place, "--json").document
    assert [(job["id"], job["priority"]) for job in listed] == [(first, 4)]
    page = studio("jobs", "list", "--limit", 1, *place, "--json").document
    rest = studio("jobs", "list", "--after", page[0]["id"], *place, "--json").document
    assert [job["id"] for job in [*page, *rest]] == [second, first]
    assert "cancelled" in studio("jobs", "list", *place).out
    assert studio("jobs", "retry", first[:8], *place, "--json").document["state"] == "queued"
    assert studio("jobs", "retry", first[:8], *place).status == 2


def test_what_is_wrong_is_said(studio, library, monkeypatch):
    monkeypatch.setenv("STUDIO_DATABASE", "")  # so that what --database sets does not outlast the test
    place = ("--library", library.root)
    assert "No jobs; queue one" in studio("jobs", "list", *place).out
    assert "no --state 'lost'" in studio("jobs", "list", "--state", "lost", *place).err
    assert 'No job begins with "ff"' in studio("jobs", "cancel", "ff", *place).err
    for url in ("mysql://here/there", "no url"):
        refused = studio("--database", url, "jobs", "list", *place)
        assert refused.status == 2
        assert "postgresql://" in refused.err


def test_a_library_in_postgresql(studio, tmp_path, pictures, postgresql, monkeypatch):
    monkeypatch.setenv("STUDIO_DATABASE", postgresql)
    place = ("--library", tmp_path / "library")
    assert studio("concept", "add", "rex", pictures, "--class", "dog", *place).status == 0
    assert [c["name"] for c in studio("concept", "list", *place, "--json").document] == ["rex"]
    assert not (tmp_path / "library" / "studio.sqlite").exists()
