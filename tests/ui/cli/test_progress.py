"""Progress on a terminal and without one."""

import io
from contextlib import suppress

import pytest
from rich.console import Console

from ui.cli.progress import progress_on


def console(terminal: bool) -> Console:
    return Console(file=io.StringIO(), force_terminal=terminal, width=200)


def said(shown: Console) -> str:
    assert isinstance(shown.file, io.StringIO)
    return shown.file.getvalue()


def test_without_a_terminal_each_tenth_is_a_line():
    shown = console(terminal=False)
    with progress_on(shown) as bar:
        task = bar.add_task("training", total=None, note="")
        for step in range(1, 41):
            bar.update(task, completed=step, total=40, note=f"loss {step}")
    lines = said(shown).splitlines()
    assert lines[0] == "training 4/40 loss 4"
    assert lines[-1] == "training 40/40 loss 40"
    assert len(lines) == 10


def test_two_tasks_of_one_bar_are_both_told():
    shown = console(terminal=False)
    with progress_on(shown) as bar:
        task = bar.add_task("generating class images", total=1, note="")
        bar.advance(task)
        bar.reset(task, description="training", total=1)
        bar.advance(task)
    assert said(shown).splitlines() == ["generating class images 1/1", "training 1/1"]


@pytest.mark.parametrize("terminal", [True, False])
def test_nothing_is_left_where_an_error_comes_first(terminal: bool):
    shown = console(terminal)
    with suppress(KeyError), progress_on(shown) as bar:
        bar.add_task("generating", total=4, note="")
        raise KeyError
    assert said(shown).endswith("\x1b[2K" if terminal else "")
    assert ("generating" in said(shown)) == terminal
