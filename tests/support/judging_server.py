"""A server that answers each PUT as a test decides, by the patients that are in it."""

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

Verdict = tuple[int, bytes]
"""Status and body."""

SUCCESS: Verdict = (200, b'{"message": "Success"}')


class JudgingServer:
    """Accepts what `judge` returns SUCCESS for.

    :param judge: codes of a request -> verdict.
    """

    def __init__(self, judge: Callable[[list[str]], Verdict]) -> None:
        self.accepted: set[str] = set()
        self.requests: list[list[str]] = []
        self._judge = judge
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *failure: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, body: Any) -> Verdict:
        codes = [patient["code"] for patient in body["patients"]]
        verdict = self._judge(codes)
        with self._lock:
            self.requests.append(codes)
            if verdict[0] == 200:
                self.accepted |= {*codes}
        return verdict

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        answer = self._answer

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_PUT(self) -> None:
                length = int(self.headers["Content-Length"])
                status, content = answer(json.loads(self.rfile.read(length)))
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *args: object) -> None:
                pass

        return Handler
