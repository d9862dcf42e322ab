"""The progress of a command, on stderr."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

_LINES = 10


class LinesProgress(Progress):
    """Progress where there is no terminal: a line for each tenth of a task, and none before its first step."""

    def __init__(self, console: Console):
        super().__init__(console=console, disable=True)
        self._told: dict[TaskID, tuple[str, int]] = {}

    def update(self, task_id: TaskID, *args: Any, **fields: Any) -> None:
        """As `Progress.update`, and tells it."""
        super().update(task_id, *args, **fields)
        self._tell(task_id)

    def advance(self, task_id: TaskID, advance: float = 1) -> None:
        """As `Progress.advance`, and tells it."""
        super().advance(task_id, advance)
        self._tell(task_id)

    def _tell(self, task_id: TaskID) -> None:
        task = self._tasks[task_id]
        if not task.total or not task.completed:
            return
        now = (task.description, int(task.completed * _LINES / task.total))
        if self._told.get(task_id, (task.description, 0)) != now:
            self._told[task_id] = now
            text = f"{task.description} {task.completed:g}/{task.total:g} {task.fields.get('note', '')}"
            self.console.print(text.strip(), markup=False, soft_wrap=True)


@contextmanager
def progress_on(console: Console) -> Iterator[Progress]:
    """A progress bar with the time that is left, which disappears where an error comes before any progress; without a
    terminal, lines.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    bar = Progress(*columns, TextColumn("{task.fields[note]}"), console=console)
    with bar if console.is_terminal else LinesProgress(console) as shown:
        try:
            yield shown
        except BaseException:
            shown.live.transient = not any(task.completed for task in shown.tasks)
            raise
