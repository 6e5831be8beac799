"""What generating costs beside the model: requests against the openai client, batches against one by one.

    python benchmarks/generate.py requests [--prompts 2000] [--delay 0.02]
    python benchmarks/generate.py local [--prompts 32] [--max-tokens 64]

``requests``: a stub on loopback, in a process of its own, answers each request after ``--delay`` seconds with 200
words. Compared are the plain loop over the openai client, the same client in as many threads as there are requests at
once here, our client alone, and a whole run (cache, a file forced to the disk for each answer, commits, documents).
Processor time is that of this process.

``local``: SmolLM2-135M-Instruct, the same prompts and seeds one by one and in batches.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa

from headwater.lake import Lake
from headwater.synthesis.generate import Prompt, open_generator
from headwater.synthesis.generate.run import generate

CONCURRENCY = 16
ANSWER = json.dumps(
    {
        "id": "x", "object": "chat.completion", "created": 0, "model": "stub",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "word " * 200}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 20, "completion_tokens": 200, "total_tokens": 220},
    }
).encode()  # fmt: skip


async def serve(delay: float) -> None:
    """The least that HTTP asks of a server, so that the clients are what is measured."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(
                    int(x.split(b":")[1])
                    for x in head.split(b"\r\n")
                    if x.lower().startswith(b"content-length")
                )
                await reader.readexactly(length)
                await asyncio.sleep(delay)
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n")
                writer.write(b"Content-Length: %d\r\n\r\n" % len(ANSWER) + ANSWER)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def measure(name: str, work: Callable[[], int]) -> None:
    wall, cpu = time.perf_counter(), time.process_time()
    done = work()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(f"| {name} | {done:,} | {done / wall:,.0f} | {1e3 * cpu / done:.2f} |", flush=True)


def requests(prompts: int, delay: float) -> None:
    from openai import OpenAI

    stub = subprocess.Popen(
        [sys.executable, __file__, "serve", "--delay", str(delay)], stdout=subprocess.PIPE, text=True
    )
    assert stub.stdout is not None
    url = f"http://127.0.0.1:{int(stub.stdout.readline())}/v1"
    client = OpenAI(base_url=url, api_key="none")
    texts = [f"Write a text, number {i}." for i in range(prompts)]

    def ask(text: str) -> str:
        answer = client.chat.completions.create(
            model="stub", messages=[{"role": "user", "content": text}], max_tokens=512
        )
        return str(answer.choices[0].message.content)

    def plain(texts: list[str]) -> int:
        return len([ask(text) for text in texts])

    def threads() -> int:
        with ThreadPoolExecutor(CONCURRENCY) as pool:
            return len(list(pool.map(ask, texts)))

    def ours() -> int:
        generator = open_generator(f"{url}#stub", concurrency=CONCURRENCY)
        done = list(generator.complete(Prompt.chat(str(i), text) for i, text in enumerate(texts)))
        assert all(each.text for each in done)
        return len(done)

    def whole() -> int:
        with tempfile.TemporaryDirectory() as folder:
            lake = Lake(Path(folder) / "lake")
            lake.write("prompts", pa.table({"prompt_id": [str(i) for i in range(prompts)], "prompt": texts}))
            generator = open_generator(f"{url}#stub", concurrency=CONCURRENCY)
            report = generate(lake, "prompts", generator, folder=Path(folder) / "runs")
            assert report.documents is not None and report.answered == report.documents.new == prompts
            return prompts

    try:
        plain(texts[:20])
        print(f"stub answers after {1e3 * delay:g} ms; {CONCURRENCY} requests at once\n")
        print("| | prompts | prompts/s | processor ms a prompt |\n|---|---|---|---|")
        measure("openai, one by one", lambda: plain(texts[: max(prompts // 10, 50)]))
        measure(f"openai, {CONCURRENCY} threads", threads)
        ours()
        measure("headwater, the client", ours)
        measure("headwater, the whole run", whole)
    finally:
        stub.kill()


def local(prompts: int, max_tokens: int) -> None:
    topics = [
        "rivers",
        "loops in Python",
        "the moon",
        "sorting",
        "bread",
        "a lost key",
        "prime numbers",
        "rain",
    ]
    asked = [
        Prompt.chat(str(i), f"Explain {topics[i % len(topics)]} in {3 + i // len(topics)} sentences.")
        for i in range(prompts)
    ]
    texts = []
    print("| prompts in a batch | tokens | tokens/s | tokens a processor second |\n|---|---|---|---|")
    sizes = [size for size in (1, 4, 16, 32) if size <= prompts]
    for batch_size in sizes:
        parameters = {"max_tokens": max_tokens, "temperature": 0.8, "seed": 1}
        with open_generator("local:smollm2", batch_size=batch_size, parameters=parameters) as generator:
            list(generator.complete([Prompt.chat("warm", "Hello.", max_tokens=2)]))
            began, cpu = time.perf_counter(), time.process_time()
            done = {each.prompt_id: each for each in generator.complete(asked)}
            seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
        tokens = sum(each.completion_tokens or 0 for each in done.values())
        texts.append([done[prompt.prompt_id].text for prompt in asked])
        print(f"| {batch_size} | {tokens:,} | {tokens / seconds:.1f} | {tokens / cpu:.1f} |", flush=True)
    for size, found in zip(sizes[1:], texts[1:], strict=True):
        equal = sum(a == b for a, b in zip(texts[0], found, strict=True))
        print(f"texts equal to those one by one, {size} in a batch: {equal} of {prompts}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["requests", "local", "serve"])
    parser.add_argument("--prompts", type=int)
    parser.add_argument("--delay", type=float, default=0.02)
    parser.add_argument("--max-tokens", type=int, default=64)
    given = parser.parse_args()
    if given.what == "serve":
        asyncio.run(serve(given.delay))
    elif given.what == "requests":
        requests(given.prompts or 2_000, given.delay)
    else:
        local(given.prompts or 32, given.max_tokens)


if __name__ == "__main__":
    main()
