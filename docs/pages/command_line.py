"""The page of all commands and their options, from the Typer application."""

from collections.abc import Iterator
from typing import Any

import typer

from docs.pages.markdown import code, escaped, page, paragraphs, table, type_name, wrapped
from ui.cli.main import app

INTRODUCTION = """\
Every command and option, as `studio COMMAND --help` shows them. The exit status is 0 after success, 2 after an error,
with a message on stderr, and 130 after `studio train` was interrupted by Ctrl-C or SIGTERM; `studio batch` also
exits with 2 if a training failed."""


def _blocks(command: Any, name: str) -> Iterator[str]:
    """The blocks of a command and of its subcommands."""
    subcommands: dict[str, Any] = getattr(command, "commands", {})
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option"]
    yield f"## {name}"
    yield from map(wrapped, map(escaped, paragraphs(command.help)))
    words = [name, *map(_usage, arguments), "[OPTIONS]" if options else "", "COMMAND" if subcommands else ""]
    yield f"```text\n{' '.join(word for word in words if word)}\n```"
    if arguments:
        yield table(("argument", "meaning"), ((code(p.name.upper()), escaped(p.help or "")) for p in arguments))
    if options:
        yield table(("option", "value", "default", "meaning"), map(_option, options))
    for key in sorted(subcommands):
        yield from _blocks(subcommands[key], f"{name} {key}")


def _usage(argument: Any) -> str:
    name = argument.name.upper() + ("…" if argument.nargs == -1 else "")
    return name if argument.required else f"[{name}]"


def _option(option: Any) -> tuple[str, str, str, str]:
    names = ", ".join(code(name) for name in [*option.opts, *option.secondary_opts])
    repeated = " (repeatable)" if option.multiple else ""
    value = "" if option.is_flag else escaped(type_name(option.type_descriptor.annotation)) + repeated
    return names, value.replace("list of ", ""), _default(option), _meaning(option)


def _default(option: Any) -> str:
    if option.required:
        return "required"
    return "" if option.is_flag or option.default in (None, "", (), []) else code(str(option.default))


def _meaning(option: Any) -> str:
    variable = f" Environment variable: {code(option.envvar)}." if option.envvar else ""
    return escaped(option.help or "") + variable


def page_text() -> str:
    """The whole page."""
    command = typer.main.get_command(app)
    return page(
        "Command line",
        INTRODUCTION,
        table(("command", "meaning"), _summaries(command, "studio")),
        *_blocks(command, "studio"),
    )


def _summaries(command: Any, name: str) -> Iterator[tuple[str, str]]:
    """Each command without subcommands, with the first sentence of its help."""
    subcommands: dict[str, Any] = getattr(command, "commands", {})
    if not subcommands:
        yield f"[{code(name)}](#{name.replace(' ', '-')})", escaped(paragraphs(command.help)[0])
    for key in sorted(subcommands):
        yield from _summaries(subcommands[key], f"{name} {key}")
