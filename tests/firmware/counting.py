"""What runs on the board in the stories: it counts. Arguments: the folder with settings.json, and where to begin."""

import sys

import entobot_board

board = entobot_board.load(sys.argv[1])
board.firmware = "1.0.0"
count = int(sys.argv[2])


@board.reading("count", every_s=0.1)
def next_count() -> int:
    global count  # noqa: PLW0603  a board has one
    count += 1
    print(count)  # noqa: T201  what the story reads
    return count


@board.command("count_from")
def count_from(args: dict[str, int]) -> dict[str, int]:
    global count
    was, count = count, args["value"]
    return {"was": was}


board.run()
