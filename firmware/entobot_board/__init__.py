"""What a board needs to join an Entobot gateway: README.md beside this package.

`Board` is loaded when it is asked for: each module costs memory.
"""

from .memory import collect_often

collect_often()


def load(folder: str = "."):
    """A `Board` with the settings in `folder`/settings.json, on this machine's own network and clock."""
    if not _is_loading(folder):
        from . import board, buffer, commands  # noqa: F401  the largest first, while memory is in one piece
    from .start import load as start

    return start(folder)


def talk(on_answer, folder: str = "."):
    """A `Talk` with the agent, likewise; what it answers goes to `on_answer(text)`."""
    from .start import talk as start

    return start(folder, on_answer)


def _is_loading(folder: str) -> bool:
    """This start is for an update's download. Then there is no memory for a board beside it, and none is made."""
    try:
        with open(folder + "/update.json") as file:
            return '"is_told": true' in file.read()
    except OSError:
        return False
