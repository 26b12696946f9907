"""A page and what computes for it, served to this machine alone.

    GET  /          the page: no secret and nothing of a user's is in it
    POST /NAME      JSON in, JSON out: answers[NAME](the object that came)

It listens on 127.0.0.1. A page of a stranger's in the same browser can send requests to it too, so: the Host must be this address (a name
of a stranger's that is made to point here, DNS rebinding, is refused), no other page is allowed to read or to frame anything (no CORS,
frame-ancestors), and whatever computes wants a token that only the printed address holds, behind its #, which browsers send to nobody.
Bodies are bounded before they are read, computing is one at a time, and a client that dawdles is dropped.
"""

import hmac
import json
import secrets
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from bertlab.errors import BertlabError

LARGEST_BODY = 2**18  # bytes: some hundred contexts of a word
SECONDS_TO_SEND = 10
TOKEN_HEADER = "X-Bertlab-Token"

Answer = Callable[[dict[str, Any]], Any]

_HEADERS = {
    "Content-Security-Policy": "frame-ancestors 'none'",  # the rest of the policy stands in the page
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Server(ThreadingHTTPServer):
    """Attributes: token, and address, which a person opens. Raises OSError for a port that is taken; 0 is any that is free."""

    daemon_threads = True

    def __init__(self, page: str, answers: Mapping[str, Answer], port: int = 0) -> None:
        self.page, self.answers = page.encode(), answers
        self.token = secrets.token_urlsafe(32)
        self.turn = threading.Lock()
        super().__init__(("127.0.0.1", port), _Handler)

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}/#{self.token}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is no error."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class _Refused(Exception):
    """A request that is answered by a status and a line alone."""

    def __init__(self, status: HTTPStatus, line: str) -> None:
        super().__init__(line)
        self.status = status


class _Handler(BaseHTTPRequestHandler):
    server: Server
    timeout = SECONDS_TO_SEND
    server_version, sys_version = "bertlab", ""

    def do_GET(self) -> None:
        self._guarded(self._page)

    def do_POST(self) -> None:
        self._guarded(self._answer)

    def _guarded(self, reply: Callable[[], None]) -> None:
        try:
            self._refuse_strangers()
            reply()
        except _Refused as refusal:
            self.close_connection = True  # what was sent may not have been read
            self._send(refusal.status, {"error": str(refusal)})

    def _refuse_strangers(self) -> None:
        """Another Host means a name that somebody pointed at this address; another Origin, a page from elsewhere."""
        ours = {f"127.0.0.1:{self.server.port}", f"localhost:{self.server.port}"}
        if len(self.headers.get_all("Host", [])) != 1 or self.headers["Host"] not in ours:
            raise _Refused(HTTPStatus.MISDIRECTED_REQUEST, "this server answers at the address that was printed, and to no other name")
        origin = self.headers.get("Origin")
        if origin is not None and origin not in {f"http://{name}" for name in ours}:
            raise _Refused(HTTPStatus.FORBIDDEN, "this server answers its own page alone")

    def _page(self) -> None:
        if self.path != "/":
            raise _Refused(HTTPStatus.NOT_FOUND, "there is one page: /")
        self._send(HTTPStatus.OK, self.server.page)

    def _answer(self) -> None:
        given = self.headers.get(TOKEN_HEADER, "")
        if not hmac.compare_digest(given.encode(), self.server.token.encode()):
            raise _Refused(HTTPStatus.FORBIDDEN, "the token is missing or another one: open the address that was printed, with all of it")
        answer = self.server.answers.get(self.path.removeprefix("/"))
        if answer is None:
            raise _Refused(HTTPStatus.NOT_FOUND, "nothing is computed under this name")
        asked = self._body()
        try:
            with self.server.turn:
                found = answer(asked)
        except BertlabError as error:
            raise _Refused(HTTPStatus.UNPROCESSABLE_ENTITY, str(error)) from None
        except Exception:  # a bug of ours, or no memory: the server goes on
            traceback.print_exc()
            raise _Refused(HTTPStatus.INTERNAL_SERVER_ERROR, "this failed; the terminal shows why") from None
        self._send(HTTPStatus.OK, found)

    def _body(self) -> dict[str, Any]:
        if self.headers.get_content_type() != "application/json":
            raise _Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "send application/json")
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit()) or "Transfer-Encoding" in self.headers:
            raise _Refused(HTTPStatus.LENGTH_REQUIRED, "say how long the body is")
        if len(length) > 9 or int(length) > LARGEST_BODY:
            raise _Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"at most {LARGEST_BODY:,} bytes are read: shorten the text")
        try:
            asked = json.loads(self.rfile.read(int(length)))
        except (ValueError, RecursionError):
            raise _Refused(HTTPStatus.BAD_REQUEST, "the body is not JSON") from None
        if not isinstance(asked, dict):
            raise _Refused(HTTPStatus.BAD_REQUEST, "the body is not a JSON object")
        return asked

    def _send(self, status: HTTPStatus, what: Any) -> None:
        page = isinstance(what, bytes)
        body = what if page else json.dumps(what, allow_nan=False).encode()
        self.send_response(status)
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        self.send_header("Content-Type", f"{'text/html' if page else 'application/json'}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What http.server refuses by itself (another method, a line too long), without a page that repeats what was sent."""
        self.close_connection = True
        self._send(HTTPStatus(code), {"error": HTTPStatus(code).phrase})

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: a log of a person's clicks is nobody's."""
