"""An agent that keeps to no protocol, run as a process of its own. Its argument says how."""

import json
import signal
import sys
from typing import Any


def say(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    sys.stdout.flush()


def tell(session: str, text: str) -> None:
    update = {"sessionUpdate": "agent_message_chunk", "content": {"type": "text", "text": text}}
    say({"method": "session/update", "params": {"sessionId": session, "update": update}})


def before_speaking(how: str) -> None:
    while how == "garbage":
        sys.stdout.write("Welcome! Type /help for help.\n")
    while how == "endless":
        sys.stdout.write("x" * 65536)
    if how == "gone":
        sys.stderr.write("no key: set EXAMPLE_KEY\n")
        sys.exit(2)
    if how == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.stdout.write('a greeting\n[1, 2]\n7\n{"id": []}\n')


def main(how: str) -> None:
    before_speaking(how)
    for line in sys.stdin:
        asked = json.loads(line)
        method = asked.get("method")
        if how != "silent" and method == "initialize":
            say({"id": asked["id"], "result": {"protocolVersion": 9 if how == "newer" else 1}})
        elif method == "session/new":
            say({"id": asked["id"], "result": {"sessionId": "one"}})
        elif method == "session/prompt":
            answer(how, asked)
    while how == "stubborn":
        signal.pause()


def answer(how: str, asked: dict[str, Any]) -> None:
    while how == "flood":
        tell("one", "all work and no play " * 100)
    if how == "mumble":
        for wrong in ({"sessionId": "one"}, [], {"sessionId": "one", "update": {"sessionUpdate": "no"}}, None):
            say({"method": "session/update", "params": wrong})
        say({"method": "session/update", "params": {"sessionId": "another", "update": {}}})
        tell("another", "not for here")
        say({"id": 99, "method": "session/request_permission", "params": {"sessionId": "one"}})
        say({"id": 98, "method": "fs/read_text_file", "params": {"sessionId": "one", "path": "/etc/passwd"}})
        tell("one", "fine")
    if how in ("deaf", "stubborn"):
        tell("one", "hm")
        return
    if how == "error":
        say({"id": asked["id"], "error": {"code": -32000, "message": "secret of the agent"}})
        return
    say({"id": asked["id"], "result": {"stopReason": "end_turn"}})


if __name__ == "__main__":
    main(sys.argv[1])
