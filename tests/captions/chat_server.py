"""A chat endpoint in the OpenAI wire format, on a real socket, that can be told to misbehave."""

import contextlib
import json
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

DROP = "drop the connection in the middle of the answer"


class Endpoint:
    """What the server saw; `behave(prompt, times)` says what to do.

    It gets the last user message and how often these very messages were asked before, and returns
    (status, headers, body as text) or DROP; `content` wraps a model's answer.
    """

    def __init__(self, behave: Callable[[str, int], object]):
        self.behave = behave
        self.lock = threading.Lock()
        self.asked: Counter = Counter()  # requests by messages (as JSON)
        self.answered: Counter = Counter()  # those that got a whole answer with status 200
        self.arrivals: dict[str, list[float]] = defaultdict(list)
        self.requests: list[dict] = []
        self.keys: set[str] = set()
        self.url = ""

    def take(self, body: dict, key: str) -> tuple[str, str, int]:
        messages = json.dumps(body["messages"])
        with self.lock:
            times = self.asked[messages]
            self.asked[messages] += 1
            self.arrivals[messages].append(time.monotonic())
            self.requests.append(body)
            self.keys.add(key)
        return messages, body["messages"][-1]["content"], times


def content(text: str) -> tuple[int, dict, str]:
    """A well-formed completion with this answer of the model."""
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "finish_reason": "stop", "message": message}
    reply = {"id": "1", "object": "chat.completion", "created": 0, "model": "m"}
    return 200, {}, json.dumps(reply | {"choices": [choice]})


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        endpoint = self.server.endpoint
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path != "/v1/chat/completions":
            self.send_error(404)
            return
        key = self.headers["Authorization"]
        messages, prompt, times = endpoint.take(body, key)
        done = endpoint.behave(prompt, times)
        if done == DROP:
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b'{"choices": [')
            self.close_connection = True
            return
        status, headers, text = done
        data = text.encode()
        self.send_response(status)
        for name, value in ({"Content-Type": "application/json"} | headers).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
        if status == 200:
            with endpoint.lock:
                endpoint.answered[messages] += 1

    def log_message(self, *_):
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, *_):
        """A client that went away is part of the tests."""


@contextlib.contextmanager
def serve(behave: Callable[[str, int], object]) -> Iterator[Endpoint]:
    """Runs the endpoint; its address is `endpoint.url`."""
    server = _Server(("127.0.0.1", 0), _Handler)
    server.endpoint = Endpoint(behave)
    server.endpoint.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server.endpoint
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
