"""The outputs of a study: a report in one HTML file, and a page with its figures for the documentation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from concepts import atomic_write
from training.reporting.html_report import Section, as_csv, shown, table, write_report


@dataclass(frozen=True)
class Page:
    """A study's title, its sections, and all of its rows."""

    name: str
    title: str
    sections: Sequence[Section]
    rows: Sequence[Mapping[str, Any]]

    def write(self, folder: Path) -> Path:
        """Writes report.html and NAME.csv into the study's folder; returns the report's path."""
        atomic_write(folder / f"{self.name}.csv", as_csv(self.rows).encode())
        return write_report(folder / "report.html", self.title, self.sections)

    def publish(self, folder: Path, command: str) -> Path:
        """Writes NAME.md, its pictures and NAME.csv into a folder; the page's path. `command` reproduces them."""
        folder.mkdir(parents=True, exist_ok=True)
        parts = [f"# {self.title}", f"Made by `{command}`; all rows are in [{self.name}.csv]({self.name}.csv)."]
        for number, section in enumerate(self.sections, 1):
            parts += [f"## {section.heading}", section.text]
            for place, picture in enumerate(section.pictures, 1):
                file = f"{self.name}-{number}-{place}.png"
                picture.save(folder / file, optimize=True)
                parts += [f"![{section.heading}]({file})", f"Made again by `{command}`."]
            if section.rows:
                parts.append(_markdown(section.rows))
        atomic_write(folder / f"{self.name}.csv", as_csv(self.rows).encode())
        page = folder / f"{self.name}.md"
        atomic_write(page, ("\n\n".join(part for part in parts if part) + "\n").encode())
        return page.resolve()


def _markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    heading = [key.replace("_", " ") for key in rows[0]]
    return table(heading, [[shown(value) for value in row.values()] for row in rows])
