"""What a board needs to join an Entobot gateway: README.md beside this package.

`Board` is loaded when it is asked for: each module costs memory.
"""


def load(folder: str = "."):
    """A `Board` with the settings in `folder`/settings.json, on this machine's own network and clock."""
    from .start import load as start

    return start(folder)
