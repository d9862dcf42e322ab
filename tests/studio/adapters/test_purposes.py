import re
from pathlib import Path

from studio.adapters import ADAPTERS
from studio.adapters.purposes import GOOD_FOR

README = Path(__file__).parents[3] / "README.md"


def test_every_method_says_what_it_is_good_for():
    assert list(GOOD_FOR) == list(ADAPTERS)


def test_the_readme_says_the_same():
    rows = dict(re.findall(r"^\| `(\w+)` \| [\d,]+ \| (.*?) \|$", README.read_text(), re.MULTILINE))
    assert {name: text.replace("`", "") for name, text in rows.items() if name in GOOD_FOR} == GOOD_FOR
