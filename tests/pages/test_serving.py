"""The server: this machine's page alone, computing for whoever has the token, bounded, and alive after anything that is sent to it."""

import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from bertlab.errors import ConfigError, DataError
from bertlab.pages import serving
from bertlab.pages.serving import LARGEST_BODY, TOKEN_HEADER, Server

CALLS: list[dict[str, Any]] = []


def echo(asked: dict[str, Any]) -> dict[str, Any]:
    CALLS.append(asked)
    return {"got": asked}


def refuse(asked: dict[str, Any]) -> None:
    raise DataError("context 2 is without the word: mend it")


def fail(asked: dict[str, Any]) -> None:
    raise RuntimeError("a bug, with a place of this machine in it")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server("<!doctype html><title>page</title>", {"echo": echo, "refuse": refuse, "fail": fail}) as made:
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def send(server: Server, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, dict[str, str], str]:
    """Status, headers and body; `headers` change those of a request as the page makes it, an empty one takes it away."""
    text = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    usual = {"Host": f"127.0.0.1:{server.port}"}
    if method == "POST":
        usual |= {"Content-Type": "application/json", "Content-Length": str(len(text)), TOKEN_HEADER: server.token}
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
    for name, value in (usual | {name.replace("_", "-"): value for name, value in headers.items()}).items():
        if value:
            connection.putheader(name, value)
    connection.endheaders(text)
    reply = connection.getresponse()
    found = reply.status, dict(reply.getheaders()), reply.read().decode()
    connection.close()
    return found


def test_it_listens_on_this_machine_alone_at_an_address_with_a_long_token_behind_its_hash(server: Server) -> None:
    assert server.server_address[0] == "127.0.0.1" and server.port > 0
    address, _, token = server.address.partition("#")
    assert address == f"http://127.0.0.1:{server.port}/" and token == server.token and len(token) >= 40
    assert Server("", {}).token != Server("", {}).token


def test_the_page_comes_without_a_token_and_holds_none(server: Server) -> None:
    status, headers, body = send(server, "GET", "/")
    assert status == 200 and body == "<!doctype html><title>page</title>" and headers["Content-Type"] == "text/html; charset=utf-8"
    assert server.token not in body + str(headers)


def test_every_reply_forbids_frames_guesses_copies_and_readers_from_elsewhere(server: Server) -> None:
    for reply in (send(server, "GET", "/"), send(server, "POST", "/echo", {}), send(server, "GET", "/x"), send(server, "PUT", "/")):
        headers = reply[1]
        assert headers["Content-Security-Policy"] == "frame-ancestors 'none'" and headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cache-Control"] == "no-store" and headers["Referrer-Policy"] == "no-referrer"
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert not [name for name in headers if name.lower().startswith("access-control-")]
        assert "Python" not in str(headers)


def test_what_is_asked_with_the_token_is_answered(server: Server) -> None:
    status, headers, body = send(server, "POST", "/echo", {"text": "héllo </script>"}, Origin=f"http://127.0.0.1:{server.port}")
    assert (status, json.loads(body)) == (200, {"got": {"text": "héllo </script>"}})
    assert headers["Content-Type"] == "application/json; charset=utf-8"


@pytest.mark.parametrize("token", ["", "x", "é", "A" * 43, "A" * 9000])
def test_nothing_is_computed_without_the_token(token: str, server: Server) -> None:
    before = len(CALLS)
    status, _, body = send(server, "POST", "/echo", {}, **{TOKEN_HEADER: token})
    assert status == 403 and "token" in json.loads(body)["error"] and len(CALLS) == before
    assert send(server, "POST", "/nothing", {}, **{TOKEN_HEADER: token})[0] == 403, "which names there are is nobody's either"


def test_the_token_in_the_path_is_no_token(server: Server) -> None:
    assert send(server, "POST", f"/echo?{server.token}", {}, **{TOKEN_HEADER: ""})[0] == 403


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:PORT", "127.0.0.1", "127.0.0.1:1", "127.0.0.1.evil.example:PORT", "[::1]:PORT", ""]
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_strangers_name_for_this_address_is_refused(method: str, host: str, server: Server) -> None:
    before = len(CALLS)
    status, _, body = send(server, method, "/" if method == "GET" else "/echo", {}, Host=host.replace("PORT", str(server.port)))
    assert status == 421 and "doctype" not in body and len(CALLS) == before


def test_localhost_is_this_machine_too(server: Server) -> None:
    assert send(server, "GET", "/", Host=f"localhost:{server.port}")[0] == 200


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "https://127.0.0.1:PORT", "http://127.0.0.1:1"])
def test_a_page_from_elsewhere_is_refused_even_with_the_token(origin: str, server: Server) -> None:
    before = len(CALLS)
    assert send(server, "POST", "/echo", {}, Origin=origin.replace("PORT", str(server.port)))[0] == 403 and len(CALLS) == before


def test_a_form_of_a_strangers_page_cannot_say_json(server: Server) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
        assert send(server, "POST", "/echo", {}, Content_Type=kind)[0] == 415


def test_a_body_that_is_too_large_is_refused_before_it_is_read(server: Server) -> None:
    fits = {"text": "a" * (LARGEST_BODY - 12)}
    assert len(json.dumps(fits)) == LARGEST_BODY and send(server, "POST", "/echo", fits)[0] == 200
    for length in (LARGEST_BODY + 1, 10**12, 10**40):
        began = time.monotonic()
        status, _, body = send(server, "POST", "/echo", b"", Content_Length=str(length))  # nothing follows: reading would wait for it
        assert status == 413 and "bytes are read" in json.loads(body)["error"] and time.monotonic() - began < 5


@pytest.mark.parametrize("length", ["", "-1", "1e3", "٣", "0x10"])
def test_a_body_without_a_length_is_refused(length: str, server: Server) -> None:
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=20)
    lines = ["POST /echo HTTP/1.1", f"Host: 127.0.0.1:{server.port}", "Content-Type: application/json", f"{TOKEN_HEADER}: {server.token}"]
    lines += [f"Content-Length: {length}"] if length else []
    connection.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
    assert b" 411 " in connection.recv(4096).split(b"\r\n")[0] + b" "
    connection.close()


@pytest.mark.parametrize("body", [b"", b"{", b"[1]", b"\xff", b"3", b"[" * 100_000])
def test_a_body_that_is_no_object_of_json_is_refused(body: bytes, server: Server) -> None:
    assert send(server, "POST", "/echo", body)[0] == 400


def test_what_a_user_can_mend_is_said_and_what_is_a_bug_is_not_shown(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    status, _, body = send(server, "POST", "/refuse", {})
    assert (status, json.loads(body)) == (422, {"error": "context 2 is without the word: mend it"})
    status, _, body = send(server, "POST", "/fail", {})
    assert status == 500 and "place of this machine" not in body and "place of this machine" in capsys.readouterr().err
    assert send(server, "GET", "/")[0] == 200, "it goes on"


@pytest.mark.parametrize("method", ["PUT", "DELETE", "OPTIONS", "HEAD", "TRACE", "<script>alert(1)</script>"])
def test_other_methods_are_refused_without_a_page_that_repeats_them(method: str, server: Server) -> None:
    status, _, body = send(server, method, "/")
    assert status == 501 and "<" not in body


def test_other_paths_are_no_files(server: Server) -> None:
    for path in ("/explore.js", "/../../etc/passwd", "/?", "/%2e%2e/"):
        assert send(server, "GET", path)[0] == 404
    assert send(server, "POST", "/__class__", {})[0] == 404


def test_a_client_that_dawdles_is_dropped_and_holds_nobody_up(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving._Handler, "timeout", 0.5)
    slow = socket.create_connection(("127.0.0.1", server.port), timeout=20)
    slow.sendall(b"POST /echo HTTP/1.1\r\nHost: 127.0.0")
    assert send(server, "GET", "/")[0] == 200
    assert slow.recv(4096) == b"", "closed without an answer"
    slow.close()


def test_requests_are_not_logged(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    send(server, "GET", "/")
    send(server, "POST", "/echo", {"text": "a private text"})
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


def test_a_port_that_is_taken_is_said_in_one_line(server: Server) -> None:
    from bertlab.verbs.explore import serve

    with pytest.raises(ConfigError, match=rf"port {server.port} cannot be used .*give another --port"):
        serve({}, server.port)
