"""`python -m entobot`, and the `entobot` command."""


def main() -> None:
    from entobot.cli import root

    root()


if __name__ == "__main__":
    main()
