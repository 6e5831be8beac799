"""An OpenAI-compatible endpoint on loopback that answers as it was told to, and logs what it was sent."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


def answer(text: str, *, finish: str = "stop", usage: dict[str, Any] | None = None, **more: Any) -> bytes:
    """The body of a chat answer."""
    usage = usage if usage is not None else {"prompt_tokens": 10, "completion_tokens": 5}
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": text},
        "text": text,
        "finish_reason": finish,
    }
    return json.dumps({"id": "x", "model": "stub", "choices": [choice], "usage": usage, **more}).encode()


class FaultEndpoint:
    """``script(request, number of this prompt's request, handler)`` says what happens.

    It returns a body (200), ``(status, headers, body)``, or None when it has written to ``handler`` itself.
    """

    def __init__(self, script: Callable[[dict[str, Any], int, Any], Any] | None = None) -> None:
        self.script = script or (
            lambda request, nth, handler: answer("an answer to " + content(request)[-40:])
        )
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.answered: list[str] = []
        self._lock = threading.Lock()
        self._seen: dict[str, int] = {}
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                pass

            def do_POST(self) -> None:
                outer._handle(self)

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

            def handle_error(self, *_: Any) -> None:
                pass

        self.server = Server(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        self._thread = threading.Thread(
            target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )
        self._thread.start()

    @property
    def spec(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1#stub"

    @property
    def contents(self) -> list[str]:
        """The prompts in the order they came in."""
        return [content(request) for request in self.requests]

    def _handle(self, handler: Any) -> None:
        request = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
        request["_path"] = handler.path
        with self._lock:
            nth = self._seen[content(request)] = self._seen.get(content(request), 0) + 1
            self.requests.append(request)
            self.headers.append({k.lower(): v for k, v in handler.headers.items()})
        found = self.script(request, nth, handler)
        if found is None:
            handler.close_connection = True
            return
        status, headers, body = (200, {}, found) if isinstance(found, bytes) else found
        if status == 200:  # noted first: who has the answer may look here at once
            with self._lock:
                self.answered.append(content(request))
        handler.send_response(status)
        headers = {"Content-Type": "application/json", "Content-Length": str(len(body)), **headers}
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(body)
        handler.wfile.flush()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def __enter__(self) -> FaultEndpoint:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def content(request: dict[str, Any]) -> str:
    """The prompt of a request."""
    return request["prompt"] if "prompt" in request else request["messages"][-1]["content"]


def drip(handler: Any, seconds: float, piece: bytes = b" ", every: float = 0.02) -> None:
    """A body that never ends."""
    handler.send_response(200)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", "1000000000")
    handler.end_headers()
    until = time.monotonic() + seconds
    try:
        while time.monotonic() < until:
            handler.wfile.write(piece)
            handler.wfile.flush()
            if every:
                time.sleep(every)
    except OSError:
        pass
