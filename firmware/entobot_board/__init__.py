"""What a board needs to join an Entobot gateway: README.md beside this package.

`Board` is loaded when it is asked for: each module costs memory.
"""

from .memory import collect_often

collect_often()


def load(folder: str = "."):
    """A `Board` with the settings in `folder`/settings.json, on this machine's own network and clock."""
    from .start import load as start

    return start(folder)


def talk(on_answer, folder: str = "."):
    """A `Talk` with the agent, likewise; what it answers goes to `on_answer(text)`."""
    from .start import talk as start

    return start(folder, on_answer)
