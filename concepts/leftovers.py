"""What a process that was killed left in the library's folder: temporary files, and folders that no row names."""

import re
import time
from contextlib import suppress
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from concepts.records import ConceptRecord, ResultRecord
from concepts.storage import TEMPORARY, remove

AGE_SECONDS = 24 * 3600
"""What is younger may belong to a process that is still at work."""
_IDENTIFIER = re.compile(r"[0-9a-f]{32}")
_OF_ROWS = {"pictures": ConceptRecord, "results": ResultRecord, "checkpoints": ConceptRecord}


def sweep(root: Path, session: Session) -> None:
    """Removes leftovers that nothing has touched for a day.

    The rows are read after the folders were seen, so that a folder whose row came in between stays.
    """
    found = {name: _old(root / name, _IDENTIFIER) for name in _OF_ROWS}
    for name, table in _OF_ROWS.items():
        known = set(session.scalars(select(table.id))) if found[name] else set()
        for folder in found[name]:
            if folder.name not in known:
                remove(folder)
    for folder in (root, *_entries(root)):
        for temporary in _old(folder, TEMPORARY):
            remove(temporary)


def _old(folder: Path, names: re.Pattern[str]) -> list[Path]:
    """What lies in a folder under such a name and was last changed long ago."""
    return [path for path in _entries(folder) if names.fullmatch(path.name) and _age(path) > AGE_SECONDS]


def _age(path: Path) -> float:
    """Seconds since the last change; 0 where another process has taken it away."""
    with suppress(OSError):
        return time.time() - path.lstat().st_mtime
    return 0.0


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:  # no folder, or one that another process has taken away
        return []
