"""A board that asks the agent: what is typed is said, what it answers is printed. On a board: a button and a display."""

import select
import sys

import entobot_board

answers = []
talk = entobot_board.talk(answers.append, sys.argv[1] if len(sys.argv) > 1 else ".")
keys = getattr(sys.stdin.buffer, "raw", sys.stdin.buffer)  # what Python holds back no poll knows of
poll = select.poll()
poll.register(sys.stdin, select.POLLIN)
line, is_asked = b"", False

while True:
    talk.step()  # also while nobody types: it holds the connection, and feeds the watchdog
    if answers:
        sys.stdout.write(answers.pop(0) + "\n")
        is_asked = False
    if is_asked or not poll.poll(20):
        continue
    key = keys.read(1)
    if key and key not in b"\r\n":
        line += key
    elif line:
        is_asked = talk.say(line.decode())
        line = b""
    elif not key:
        break
talk.close()
