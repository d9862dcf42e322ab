"""Each file that cannot be read is refused for its own reason."""

from pathlib import Path

import pytest

from concepts.errors import StudioError
from studio.formats.importing import import_concept
from studio.models.base_model import Base
from tests.studio.formats.refused_files import REFUSED


@pytest.mark.parametrize("case", REFUSED)
def test_the_reason(base: Base, case: str, tmp_path: Path):
    make, reason = REFUSED[case]
    with pytest.raises(StudioError, match=reason) as refused:
        import_concept(base, make(tmp_path), {})
    said = str(refused.value)
    assert said.isprintable()
    assert len(said) < 400
    assert said.endswith(".")
    assert "base of the file's family" not in said
