"""An OpenAI-compatible chat server that streams one short answer after a fixed delay: `PORT DELAY_S`."""

import asyncio
import json
import sys

WORDS = ["Hello", " from", " the", " model."]


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay_s: float) -> None:
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(
                (
                    int(line.split(b":")[1])
                    for line in head.split(b"\r\n")
                    if line.lower().startswith(b"content-length")
                ),
                0,
            )
            await reader.readexactly(length)
            await asyncio.sleep(delay_s)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
            for event in (*(chunk(word) for word in WORDS), chunk(None), "[DONE]"):
                data = f"data: {event}\n\n".encode()
                writer.write(b"%x\r\n%s\r\n" % (len(data), data))
            writer.write(b"0\r\n\r\n")
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


def chunk(word: str | None) -> str:
    choice: dict[str, object] = {"index": 0, "delta": {} if word is None else {"role": "assistant", "content": word}}
    choice["finish_reason"] = "stop" if word is None else None
    return json.dumps(
        {"id": "c", "object": "chat.completion.chunk", "created": 0, "model": "instant", "choices": [choice]}
    )


async def main(port: int, delay_s: float) -> None:
    server = await asyncio.start_server(lambda r, w: answer(r, w, delay_s), "127.0.0.1", port)
    print("ready", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), float(sys.argv[2])))
