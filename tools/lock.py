"""Renew the lock files: versions and hashes, no addresses, so that they serve behind any mirror."""

import subprocess
import sys

HEADER = "# Made by `make lock`. Install with --require-hashes.\n"
SERVER = [
    "--extra",
    "acme",
    "--extra",
    "acp",
    "--extra",
    "agent",
    "--extra",
    "postgres",
    "--extra",
    "nats",
    "--extra",
    "mcp",
    "--extra",
    "policy",
]
LOCKS = {
    "requirements-uv.lock": ["--no-project", "uv"],
    "requirements.lock": ["pyproject.toml", *SERVER, "--group", "pages"],
    "requirements-dev.lock": ["pyproject.toml", *SERVER, "--extra", "tracing", "--group", "pages", "--group", "dev"],
}


def main() -> int:
    for path, listed in LOCKS.items():
        command = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--universal", "--generate-hashes"]
        command += ["--python-version", "3.11", "--no-header", "--no-annotate", "--no-emit-index-url"]
        is_single = listed[0] == "--no-project"
        sources, standard_input = (["-"], listed[1]) if is_single else (listed, None)
        found = subprocess.run([*command, *sources], input=standard_input, text=True, check=True, capture_output=True)  # noqa: S603  fixed arguments
        with open(path, "w", encoding="utf-8") as lock:  # noqa: PTH123  one line
            lock.write(HEADER + found.stdout)
        print(path)  # noqa: T201  a command's answer
    return 0


if __name__ == "__main__":
    sys.exit(main())
