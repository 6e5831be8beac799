"""A small local page on which a person labels, one text after the other. Standard library only.

It listens on 127.0.0.1 and answers only under a secret path, and only to a browser that asks for that host:
another site that the browser has open can neither read nor post. Texts are data: they are escaped, and the
page runs one script, its own.
"""

from __future__ import annotations

import hmac
import html
import secrets
import threading
import urllib.parse
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headwater.errors import HeadwaterError, UsageError
from headwater.lineage import open_optional
from headwater.scoring.choose import open_tasks
from headwater.scoring.labels import DOCUMENTS, LABELS, Annotator, Answer, add_labels, find_documents
from headwater.scoring.rubric import Rubric, judged_part

if TYPE_CHECKING:
    from headwater.lake import Lake

HOST = "127.0.0.1"
MAX_BODY = 20_000
_SCORES = ("nothing", "little", "pieces", "one thing", "textbook", "print it")
"""The shipped rubric's scores in a word."""


class LabelPage:
    """The server. ``url`` is where it answers; every label is in the lake before the next text is shown."""

    def __init__(
        self, lake: Lake, annotator: Annotator, rubric: Rubric, *, port: int = 0, documents: str = DOCUMENTS
    ) -> None:
        self._lake, self._annotator, self._rubric = lake, annotator, rubric
        self._base = lake.table(documents)
        tasks = open_tasks(lake).to_pylist()
        known = find_documents(self._base, [row["text_hash"] for row in tasks])
        self.tasks = [row for row in tasks if row["text_hash"] in known]
        self.num_missing = len(tasks) - len(self.tasks)
        if not self.tasks:
            raise UsageError(
                "the lake holds none of the chosen texts any more", hint="headwater label choose again"
            )
        self._known = {h.hex(): (h, known[h].doc_id) for h in known}
        self._place = {row["text_hash"].hex(): i for i, row in enumerate(self.tasks)}
        self._done = self._labels()
        self._lock = threading.Lock()
        self.num_saved = 0
        self.token = secrets.token_urlsafe(18)
        page = self

        class Handler(_Handler):
            label_page = page

        try:
            self._server = ThreadingHTTPServer((HOST, port), Handler)
        except OSError as error:
            raise UsageError(
                f"cannot listen on {HOST}:{port}: {error.strerror}", hint="--port another"
            ) from None
        self._server.daemon_threads = True

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        """The address to open."""
        return f"http://{HOST}:{self.port}/{self.token}/"

    @property
    def num_done(self) -> int:
        """Texts of the tasks that this annotator has labeled."""
        return sum(row["text_hash"].hex() in self._done for row in self.tasks)

    def serve(self) -> None:
        """Answer until :meth:`close`."""
        self._server.serve_forever(poll_interval=0.1)

    def close(self) -> None:
        """Stop answering."""
        self._server.shutdown()
        self._server.server_close()

    def next_place(self) -> int | None:
        """The first text without a label of this annotator, or None when there is none left."""
        return next((i for i, row in enumerate(self.tasks) if row["text_hash"].hex() not in self._done), None)

    def save(self, text_hash: str, score: str, reason: str) -> str | None:
        """Write one label; what is wrong with it, if anything is."""
        with self._lock:
            if text_hash not in self._place:
                return "this text is not one of the chosen ones"
            answer = Answer(text_hash=text_hash, score=score, reason=reason, place="page")
            report = add_labels(
                self._lake, [answer], self._annotator, self._rubric.digest, replace=True, known=self._known
            )
            if not (report.added or report.replaced or report.unchanged):
                return "choose a score from 0 to 5"
            self.num_saved += 1
            self._done[text_hash] = (int(score), " ".join(reason.split()))
            return None

    def show(self, place: int, problem: str | None = None) -> str:
        """The page of one text."""
        row = self.tasks[place]
        [batch] = self._base.with_text(_ids([self._known[row["text_hash"].hex()][1]]))
        text = judged_part(batch["text"][0].as_py())
        return _page(self, row, text, place, problem)

    def label_of(self, text_hash: str) -> tuple[int, str] | None:
        """This annotator's score and reason of a text."""
        return self._done.get(text_hash)

    @property
    def rubric_text(self) -> str:
        """What a score means."""
        return self._rubric.text

    def _labels(self) -> dict[str, tuple[int, str]]:
        table = open_optional(self._lake, LABELS)
        rows = table.to_arrow().to_pylist() if table is not None else []
        return {
            row["text_hash"].hex(): (row["score"], row["reason"])
            for row in rows
            if (row["annotator_kind"], row["annotator"], row["annotator_version"]) == self._annotator.key
            and row["rubric"] == self._rubric.digest
        }


def _ids(ids: list[bytes]) -> Any:
    import pyarrow as pa

    return pa.array(ids, pa.binary(16))


class _Handler(BaseHTTPRequestHandler):
    label_page: LabelPage
    server_version, sys_version = "headwater", ""
    timeout = 30

    def do_GET(self) -> None:
        """The next text, or the one whose place is asked for."""
        path, query = self._asked()
        if path is None:
            return
        page = self.label_page
        if path != "/":
            self._send(HTTPStatus.NOT_FOUND, "not found")
            return
        at = query.get("at", [""])[0]
        place = (
            int(at) if at.isascii() and at.isdigit() and int(at[:9]) < len(page.tasks) else page.next_place()
        )
        self._send(HTTPStatus.OK, _finished(page) if place is None else page.show(place))

    def do_POST(self) -> None:
        """Save a label and go on."""
        path, _ = self._asked()
        if path is None:
            return
        length = self.headers.get("Content-Length") or ""
        if path != "/label" or not (length.isascii() and length.isdigit()) or int(length[:9]) > MAX_BODY:
            self.close_connection = True
            self._send(HTTPStatus.BAD_REQUEST, "expected a label")
            return
        body = self.rfile.read(int(length)).decode("utf-8", "replace")
        try:
            form = urllib.parse.parse_qs(body, keep_blank_values=True, max_num_fields=10)
        except ValueError:
            self._send(HTTPStatus.BAD_REQUEST, "expected a label")
            return
        given = {name: form.get(name, [""])[0] for name in ("text_hash", "score", "reason")}
        page = self.label_page
        try:
            problem = page.save(**given)
        except HeadwaterError as error:
            problem = error.message
        if problem is not None:
            place = page._place.get(given["text_hash"])
            shown = page.show(place, problem) if place is not None else html.escape(problem)
            self._send(HTTPStatus.BAD_REQUEST, shown)
            return
        self.send_response(HTTPStatus.SEE_OTHER)
        self.send_header("Location", f"/{page.token}/")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _asked(self) -> tuple[str | None, dict[str, list[str]]]:
        """The path under the secret one, and the query; (None, …) when the request was refused."""
        page = self.label_page
        hosts = {f"{HOST}:{page.port}", f"localhost:{page.port}"}
        parts = urllib.parse.urlsplit(self.path)
        token, _, rest = parts.path.lstrip("/").partition("/")
        origin = self.headers.get("Origin")
        is_ours = origin is None or origin == "null" or origin in {f"http://{host}" for host in hosts}
        if self.headers.get("Host") not in hosts or not is_ours:
            self._send(HTTPStatus.FORBIDDEN, "forbidden")
        elif not hmac.compare_digest(token.encode(), page.token.encode()):
            self._send(HTTPStatus.NOT_FOUND, "not found")
        else:
            return f"/{rest}", urllib.parse.parse_qs(parts.query)
        self.close_connection = True
        return None, {}

    def _send(self, status: HTTPStatus, body: str) -> None:
        nonce = secrets.token_urlsafe(12)
        content = body.replace(_NONCE, nonce).encode("utf-8", "replace")
        self.send_response(status)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.send_header(
            "Content-Security-Policy",
            f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; form-action 'self'; "
            "base-uri 'none'; frame-ancestors 'none'",
        )
        for name, value in (
            ("Cache-Control", "no-store"),
            ("Referrer-Policy", "no-referrer"),
            ("X-Content-Type-Options", "nosniff"),
            ("Cross-Origin-Opener-Policy", "same-origin"),
        ):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: the path holds the secret."""


_NONCE = secrets.token_hex(16)  # stands for the nonce of a response until it is sent; no text can know it

_STYLE = Path(__file__).with_name("label_page.css").read_text("utf-8")

_SCRIPT = """
addEventListener("keydown", (event) => {
  if (event.target.matches("input[name=reason]") || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key >= "0" && event.key <= "5" && event.key.length === 1) {
    document.getElementById("s" + event.key).checked = true;
    document.querySelector("input[name=reason]").focus();
    event.preventDefault();
  }
});
"""


def _page(page: LabelPage, row: dict[str, Any], text: str, place: int, problem: str | None) -> str:
    key = row["text_hash"].hex()
    before = page.label_of(key)
    title = "/".join(part for part in (row["source"], row["path"]) if part) or key[:12]
    words = _SCORES if page.rubric_text == Rubric.read().text else [""] * len(_SCORES)
    scores = "".join(
        f'<label><input type="radio" name="score" id="s{i}" value="{i}" required'
        f"{' checked' if before and before[0] == i else ''}>{i} <span class=dim>{word}</span></label>"
        for i, word in enumerate(words)
    )
    links = " · ".join(
        f'<a href="?at={at}">{word}</a>'
        for word, at in (("back", place - 1), ("skip", place + 1))
        if 0 <= at < len(page.tasks)
    )
    body = f"""<main>
<h1>{html.escape(title)}</h1>
<p class="dim">text {place + 1:,} of {len(page.tasks):,} · {page.num_done:,} labeled · {links}</p>
<details><summary>The rubric</summary><pre>{html.escape(page.rubric_text)}</pre></details>
<pre id="text">{html.escape(text)}</pre>
</main>
<form method="post" action="/{page.token}/label" accept-charset="utf-8"><div class="in">
{f'<p class="bad" role="alert">{html.escape(problem)}</p>' if problem else ""}
<input type="hidden" name="text_hash" value="{key}">
<fieldset class="scores">{scores}</fieldset>
<div class="row"><input name="reason" maxlength="300" autocomplete="off" placeholder="why, in one line"
 aria-label="reason" value="{html.escape(before[1] if before else "")}"><button>Save</button></div>
</div></form>
<script nonce="{_NONCE}">{_SCRIPT}</script>"""
    return _document(title, body)


def _finished(page: LabelPage) -> str:
    total = len(page.tasks)
    return _document(
        "all labeled",
        f'<main><h1>All {total:,} texts are labeled</h1><p class="dim">They are in {LABELS}. '
        f'<a href="?at={total - 1}">Back to the last one</a>.</p></main>',
    )


def _document(title: str, body: str) -> str:
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<title>{html.escape(title)} · label</title><style nonce="{_NONCE}">{_STYLE}</style></head>'
        f"<body>{body}</body></html>"
    )
