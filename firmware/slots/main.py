"""Starts what is in one of two slots, `app_a` or `app_b`, and goes back to the other where a new one does not come up.

Copy it to the board as main.py. It is never updated itself, so it is small. The program of a slot is its main.py;
settings.json and what the board keeps lie beside the slots.
"""

import json
import os
import sys

TRIES = 3
FOLDER = sys.argv[1] if len(sys.argv) > 1 else "."
MARKER = FOLDER + "/slot.json"


def read() -> dict:
    try:
        with open(MARKER) as file:
            found = json.load(file)
        if found["slot"] in ("a", "b") and (found["good"] or found["from"] in ("a", "b")):
            return found
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return {"slot": "a", "good": True}


def write(found: dict) -> None:
    try:
        with open(MARKER + ".new", "w") as file:
            json.dump(found, file)
        os.rename(MARKER + ".new", MARKER)
    except OSError:
        pass  # the flash is full: what starts makes room, and what does not start at all never would


def choose() -> dict:
    """Count a start of what is on trial; after some that led nowhere the earlier one is good again."""
    found = read()
    if found["good"]:
        return found
    found["tries"] = found.get("tries", 0) + 1
    if found["tries"] > TRIES:
        reason = found.get("error", "it did not stay connected")
        back = {"release_id": found.get("release_id", ""), "reason": reason}
        found = {"slot": found["from"], "good": True, "counter": found.get("counter", 0), "back": back}
    write(found)
    return found


def restart() -> None:
    try:
        from machine import reset
    except ImportError:
        sys.exit(75)  # whoever started this starts it again
    reset()


def fail(slot: str, why: str) -> bool:
    """Count it against what is on trial there. It may have become good since it was started: then nothing is changed."""
    found = read()
    if found["good"] or found["slot"] != slot:
        return False
    found["error"] = why[:100]
    write(found)
    return True


chosen = choose()["slot"]
sys.path.insert(0, FOLDER + "/app_" + chosen)
try:
    __import__("main")
except Exception as error:
    if not fail(chosen, "{}: {}".format(type(error).__name__, error)):
        raise
    print("on trial:", type(error).__name__, error)  # noqa: T201  for whoever looks at the console
    restart()
if fail(chosen, "it ended by itself"):
    print("on trial: it ended by itself")  # noqa: T201  likewise
    restart()
