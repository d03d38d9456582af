"""How the download of a release ends, where it does not end well."""


class Unfit(Exception):  # noqa: N818  it says what happened
    """This release is not for this board, and will not become so."""


class Gone(Exception):  # noqa: N818  it says what happened
    """The gateway does not give it any more, or not now: it will say so when it does."""
