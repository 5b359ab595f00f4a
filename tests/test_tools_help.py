"""The help of the tools and of each of their commands can be shown."""

from __future__ import annotations

import argparse
from collections.abc import Callable

import pytest

from tools.evidence.__main__ import main_parser as evidence
from tools.harm.__main__ import main_parser as harm
from tools.redteam.__main__ import main_parser as redteam
from tools.zoo.__main__ import main_parser as zoo


@pytest.mark.parametrize("parser", [evidence, harm, redteam, zoo])
def test_help_names_every_command_and_every_option_of_it(parser: Callable[[], argparse.ArgumentParser]) -> None:
    whole = parser()
    shown, commands = whole.format_help(), dict[str, argparse.ArgumentParser]()
    for action in whole._actions:
        if isinstance(action, argparse._SubParsersAction):
            commands |= action.choices
    assert commands
    for name, command in commands.items():
        assert name in shown
        help_text = command.format_help()
        assert all(option in help_text for action in command._actions for option in action.option_strings)
