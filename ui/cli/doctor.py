"""`studio doctor`: what this machine has and lacks."""

from dataclasses import asdict

import typer

from ui.cli.options import DEFAULT_LIBRARY, JsonOption, LibraryOption, report

_MARKS = {"ok": "    ", "note": " -  ", "problem": "!!  "}


def doctor(library: LibraryOption = DEFAULT_LIBRARY, as_json: JsonOption = False) -> None:
    """Show versions, devices, memory, disks, folders and proxies, what is missing, and what mends it.

    Nothing is installed, written or sent. The text can be pasted into a bug report: it has no passwords, and ~ in place
    of the home folder. Ends with status 1 if something must be mended.
    """
    from ui.services.doctor import findings

    found = list(findings(library))
    problems = [each for each in found if each.state == "problem"]

    def show() -> None:
        for each in found:
            advice = f"  ({each.advice})" if each.state != "ok" else ""
            typer.echo(f"{_MARKS[each.state]}{each.topic}: {each.value}{advice}")
        typer.echo(f"\n{len(problems)} to mend, marked !!" if problems else "\nNothing to mend.")

    report([asdict(each) for each in found], as_json, show)
    if problems:
        raise typer.Exit(1)
