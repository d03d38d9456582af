"""A board that asks the agent: what is typed is said, what it answers is printed. On a board: a button and a display."""

import sys

import entobot_board

answers = []
talk = entobot_board.talk(answers.append, sys.argv[1] if len(sys.argv) > 1 else ".")

while True:
    line = sys.stdin.readline().strip()
    if not line:
        break
    talk.say(line)
    while not answers:
        talk.step()
    sys.stdout.write(answers.pop(0) + "\n")
talk.close()
