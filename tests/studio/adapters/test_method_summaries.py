import re
from pathlib import Path

from studio.adapters import ADAPTERS
from studio.adapters.method_summaries import GOOD_FOR

README = Path(__file__).parents[3] / "README.md"


def test_every_method_has_a_description():
    assert list(GOOD_FOR) == list(ADAPTERS)


def test_the_readme_has_the_same_descriptions():
    rows = dict(re.findall(r"^\| `(\w+)` \| [\d,]+ \| (.*?) \|$", README.read_text(), re.MULTILINE))
    assert {name: text.replace("`", "") for name, text in rows.items() if name in GOOD_FOR} == GOOD_FOR
