"""``tenantkv completion``: completion scripts for bash, zsh and fish, made from the parser."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tenantkv.cli import output

_EPILOG = """\
examples:
  source <(tenantkv completion bash)
  tenantkv completion zsh > ~/.zfunc/_tenantkv
  tenantkv completion fish > ~/.config/fish/completions/tenantkv.fish
"""


@dataclass(frozen=True, slots=True)
class Option:
    """An option or positional: its spellings, what it is for and what may follow."""

    names: tuple[str, ...]
    help: str
    choices: tuple[str, ...]
    has_value: bool


@dataclass(frozen=True, slots=True)
class CommandShape:
    """A command as the shells need to know it."""

    name: str
    summary: str
    options: tuple[Option, ...]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``completion``."""
    parser.description = "Print a script that lets a shell complete tenantkv's commands."
    parser.epilog = _EPILOG
    parser.add_argument("shell", choices=sorted(SHELLS), help="for which shell")


def run(arguments: argparse.Namespace) -> int:
    """Run ``completion``."""
    # Only here, because main imports this module.
    from tenantkv.cli.main import build_parser

    output.print_text(SHELLS[arguments.shell](shapes(build_parser())))
    return 0


def shapes(parser: argparse.ArgumentParser) -> list[CommandShape]:
    """Return the commands of a parser, with their options."""
    # argparse has no public way to walk a parser; these attributes are as old as itself.
    commands = next(action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    summaries = {choice.dest: choice.help or "" for choice in commands._choices_actions}
    return [
        CommandShape(name, summaries.get(name, ""), _options(subparser))
        for name, subparser in commands.choices.items()
    ]


def _options(parser: argparse.ArgumentParser) -> tuple[Option, ...]:
    """Return a command's options, with those of its actions (``key reseal``), each once."""
    found = list(_own_options(parser))
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for subparser in action.choices.values():
                found += [option for option in _own_options(subparser) if option.names]
    positional = [option for option in found if not option.names]
    return (*{option.names: option for option in reversed(found) if option.names}.values(), *positional)


def _own_options(parser: argparse.ArgumentParser) -> tuple[Option, ...]:
    return tuple(
        Option(
            names=tuple(action.option_strings),
            help=(action.help or "").replace("\n", " "),
            choices=tuple(str(choice) for choice in action.choices or ()),
            has_value=action.nargs != 0,
        )
        for action in parser._actions
    )


def _bash(commands: Sequence[CommandShape]) -> str:
    names = " ".join(command.name for command in commands)
    values, words = [], []
    for command in commands:
        offered = [name for option in command.options for name in option.names]
        offered += [choice for option in command.options if not option.names for choice in option.choices]
        words.append(f"    {command.name}) words='{' '.join(offered)}' ;;")
        for option in command.options:
            if option.names and option.choices:
                spelled = "|".join(f"{command.name}:{name}" for name in option.names)
                values.append(f"    {spelled}) words='{' '.join(option.choices)}' ;;")
    return "\n".join(
        [
            "_tenantkv() {",
            "  local current=${COMP_WORDS[COMP_CWORD]} words=''",
            '  if [ "$COMP_CWORD" -eq 1 ]; then',
            f"    words='{names} --help --version'",
            "  else",
            '    case "${COMP_WORDS[1]}" in',
            *words,
            "    esac",
            '    case "${COMP_WORDS[1]}:${COMP_WORDS[COMP_CWORD-1]}" in',
            *values,
            "    esac",
            "  fi",
            '  COMPREPLY=($(compgen -W "$words" -- "$current"))',
            "}",
            "complete -o default -F _tenantkv tenantkv",
        ]
    )


def _zsh(commands: Sequence[CommandShape]) -> str:
    described = " ".join(_quote(f"{command.name}:{command.summary}") for command in commands)
    cases = []
    for command in commands:
        arguments = " ".join(_zsh_option(option) for option in command.options)
        cases.append(f"    {command.name}) _arguments {arguments} ;;")
    return "\n".join(
        [
            "#compdef tenantkv",
            "_tenantkv() {",
            f"  local -a commands=({described})",
            "  if (( CURRENT == 2 )); then",
            "    _describe command commands",
            "    return",
            "  fi",
            "  local command=$words[2]",
            "  shift words; (( CURRENT-- ))",
            "  case $command in",
            *cases,
            "  esac",
            "}",
            'if [ "$funcstack[1]" = _tenantkv ]; then _tenantkv "$@"; else compdef _tenantkv tenantkv; fi',
        ]
    )


def _zsh_option(option: Option) -> str:
    values = f"({' '.join(option.choices)})" if option.choices else ""
    if not option.names:
        return _quote(f"*:value:{values or '_files'}")
    text = "".join("\\" + letter if letter in "[]:\\" else letter for letter in option.help)
    suffix = f":value:{values or '_files'}" if option.has_value else ""
    return " ".join(_quote(f"{name}[{text}]{suffix}") for name in option.names)


def _fish(commands: Sequence[CommandShape]) -> str:
    lines = ["complete -c tenantkv -n __fish_use_subcommand -l version"]
    for command in commands:
        summary = _quote(command.summary)
        lines.append(f"complete -c tenantkv -f -n __fish_use_subcommand -a {command.name} -d {summary}")
        for option in command.options:
            lines.append(_fish_option(command, option))
    return "\n".join(lines)


def _fish_option(command: CommandShape, option: Option) -> str:
    parts = [f"complete -c tenantkv -n '__fish_seen_subcommand_from {command.name}'"]
    for name in option.names:
        parts.append(f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}")
    if option.choices:
        parts.append(f"-f -a {_quote(' '.join(option.choices))}")
    if option.names and option.has_value:
        parts.append("-r")
    return " ".join([*parts, f"-d {_quote(option.help)}"])


def _quote(text: str) -> str:
    """Quote for any of the three shells."""
    return "'" + text.replace("\\", "\\\\").replace("'", "'\\''") + "'"


SHELLS: Mapping[str, Callable[[Sequence[CommandShape]], str]] = {
    "bash": _bash,
    "zsh": _zsh,
    "fish": _fish,
}
