"""The `facemargin` command: a dispatcher that finds each package's sub-commands by entry point."""

from __future__ import annotations

import importlib.metadata
from typing import Any

import click


class PluginGroup(click.Group):
    """Lists sub-commands without importing them, and imports only the one that is called.

    plugins: the entry points' group.
    """

    def __init__(self, *arguments: Any, plugins: str, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._plugins = plugins

    def list_commands(self, context: click.Context) -> list[str]:
        """Names of all installed sub-commands."""
        return sorted(entry.name for entry in importlib.metadata.entry_points(group=self._plugins))

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        """Import one sub-command; a missing extra is named with its remedy."""
        found = importlib.metadata.entry_points(group=self._plugins, name=name)
        if not found:
            return None
        try:
            command: Any = next(iter(found)).load()
        except ModuleNotFoundError as error:
            extra = next(iter(found)).module.split(".")[0].replace("training", "train").replace("service", "serve")
            raise click.UsageError(
                f"`{context.command_path} {name}` needs the package {error.name!r}: pip install 'facemargin[{extra}]'"
            ) from error
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """One line a command, from the commands that this installation can import."""
        rows = []
        for name in self.list_commands(context):
            try:
                command = self.get_command(context, name)
            except click.UsageError as error:
                rows.append((name, f"(not installed: {error.message.rsplit(': ', 1)[-1]})"))
            else:
                rows.append((name, command.get_short_help_str(70) if command else ""))
        with formatter.section("Commands"):
            formatter.write_dl(rows)


@click.group(cls=PluginGroup, plugins="facemargin.commands")
@click.version_option(package_name="facemargin")
def main() -> None:
    """Face recognition with margin-softmax embeddings: train, evaluate, serve."""
