"""A library and the tiny base, for inputs to be read into, and what the library holds."""

from itertools import count
from pathlib import Path

from studio.models.base_model import Base
from ui.services.workflow import Workflow


class _Loaded(Workflow):
    """A workflow whose base is loaded already."""

    def __init__(self, root: Path, base: Base):
        super().__init__(root)
        self._loaded = base


class Workspace:
    """The base, loaded once, and a library that is new for every few inputs, so that looking at it stays quick."""

    def __init__(self, base: Base, folder: Path):
        self.base = base
        self._folder, self._numbers = folder, count()
        self.renew()

    def renew(self) -> None:
        """Another library, which is empty."""
        self.workflow = _Loaded(self._folder / f"library-{next(self._numbers)}", self.base)

    def new_name(self) -> str:
        """A concept's name that was not used before."""
        return f"concept-{next(self._numbers)}"

    def state(self) -> tuple[list[str], list[str]]:
        """The concepts, and the files beside the database."""
        library = self.workflow.library
        names = [concept.name for concept in library.concepts()]
        paths = (path.relative_to(library.local) for path in library.local.rglob("*"))
        return names, sorted(str(path) for path in paths if not path.name.startswith("studio."))
