"""`wsd completion`: the script that lets a shell complete wsd's commands."""

import os
from pathlib import Path
from typing import Annotated, Literal, get_args

import typer

Shell = Literal["bash", "zsh", "fish"]


def completion(
    context: typer.Context,
    shell: Annotated[Shell | None, typer.Argument(help="Default: that of the variable SHELL")] = None,
) -> None:
    """Print the script that completes commands in a shell.

    In bash, add `eval "$(wsd completion bash)"` to ~/.bashrc. In zsh, add `eval "$(wsd completion zsh)"` to ~/.zshrc,
    behind compinit. In fish, save the script in ~/.config/fish/completions/wsd.fish.

    `wsd --install-completion` does this for you.

    Example: wsd completion fish > ~/.config/fish/completions/wsd.fish
    """
    from typer.completion import shell_complete  # noqa: PLC0415

    name = shell or Path(os.environ.get("SHELL", "")).name
    if name not in get_args(Shell):
        raise typer.BadParameter(f'name a shell, bash, zsh or fish: SHELL is "{name}"')
    shell_complete(context.find_root().command, {}, "wsd", "_WSD_COMPLETE", f"source_{name}")
