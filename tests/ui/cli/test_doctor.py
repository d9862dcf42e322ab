from pathlib import Path


def test_the_doctor_prints_facts_and_ends_with_status_1_if_something_must_be_mended(studio, tmp_path: Path):
    outcome = studio("doctor", "--library", tmp_path / "library")
    assert outcome.status == 0, outcome.out
    assert "torch: " in outcome.out
    assert outcome.out.endswith("Nothing to mend.\n")
    (tmp_path / "file").touch()
    at = ("doctor", "--library", tmp_path / "file" / "library")
    told = studio(*at)
    assert told.status == 1
    assert f"!!  library: {tmp_path / 'file' / 'library'}  (" in told.out
    assert told.out.endswith("1 to mend, marked !!\n")
    (problem,) = [each for each in studio(*at, "--json").document if each["state"] == "problem"]
    assert problem["topic"] == "library"
