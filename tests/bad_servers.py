"""Servers that no client should meet, by names: `bad_servers.py KIND DESCRIPTOR ...`, as `servers.py` starts them.

The descriptor is a listening socket. Nothing but the standard library is used, so that they start at once.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import http.server
import itertools
import os
import random
import select
import socket
import ssl
import struct
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

ADVERTISED = "application/x-git-upload-pack-advertisement"
TIP = "1" * 40
HUGE = 2**32
"""How large the state is that a bomb inflates to: `{}`, and spaces."""
HUGE_BLOB = "a3d111aba685d9a1c9791538476cd49e0732d49f"
"""The hash of that blob; it takes some seconds to find."""

Serve = Callable[[socket.socket], None]


# -- the protocol --------------------------------------------------------------------------------------------------


def packet(line: bytes) -> bytes:
    """A line as Git frames it."""
    return b"%04x" % (len(line) + 4) + line


def advertisement(tip: str) -> bytes:
    """What a server says that has one branch."""
    line = f"{tip} refs/heads/main\0ofs-delta agent=git/2.39.5\n"
    return packet(line.encode()) + b"0000"


def endless_advertisement() -> Iterator[bytes]:
    """What one says that never has done with telling its refs."""
    yield packet(f"{TIP} refs/heads/main\0ofs-delta report-status\n".encode())
    for number in itertools.count():
        refs = (f"{TIP} refs/backups/{number}-{each}\n".encode() for each in range(100))
        yield b"".join(map(packet, refs))


def request(client: socket.socket) -> bytes:
    """What a client asks of `git daemon`."""
    length = int(client.recv(4, socket.MSG_WAITALL), 16)
    return client.recv(length - 4, socket.MSG_WAITALL)


def haves(client: socket.socket) -> None:
    """Listens until the client has said what it wants, and has, and that it has done."""
    heard = b""
    while b"done" not in heard:
        more = client.recv(65536)
        if not more:
            return
        heard += more


# -- packs that inflate --------------------------------------------------------------------------------------------


def hashed(kind: str, content: bytes) -> str:
    """The name of an object."""
    return hashlib.sha1(f"{kind} {len(content)}\0".encode() + content).hexdigest()


def history(blob: str) -> tuple[str, bytes, bytes]:
    """A history of one version with that blob as its state: the id of the commit, the commit, its tree."""
    tree = b"100644 pipeline.json\0" + bytes.fromhex(blob)
    commit = (
        f"tree {hashed('tree', tree)}\n"
        f"author mallory <mallory@example.org> 1772357400 +0000\n"
        f"committer mallory <mallory@example.org> 1772357400 +0000\n\n"
        f"write: phase1\n\nOperation: write\nSerial: 1\nTime: 2026-03-01T09:30:00.123456+00:00\n"
        f'Changed-Keys: ["phase1"]\nPid: 4711\nHost: worker-3\n'
    ).encode()
    return hashed("commit", commit), commit, tree


def entry(kind: int, size: int, deflated: bytes, base: str = "") -> bytes:
    """An object as a pack holds it; `base` is what a delta is against."""
    head = bytearray([kind << 4 | size & 15])
    size >>= 4
    while size:
        head[-1] |= 128
        head.append(size & 127)
        size >>= 7
    return bytes(head) + bytes.fromhex(base) + deflated


def pack(entries: list[bytes]) -> bytes:
    """A whole pack."""
    content = struct.pack(">4sII", b"PACK", 2, len(entries)) + b"".join(entries)
    return content + hashlib.sha1(content).digest()


def _varint(number: int) -> bytes:
    content = bytearray()
    while number > 127:
        content.append(number & 127 | 128)
        number >>= 7
    return bytes([*content, number])


def _delta(base: int, size: int, start: bytes = b"") -> bytes:
    """A delta that begins with `start`, and goes on with its base, over and over."""
    step = min(base, 0x800000)
    copy = b"\xf0" + step.to_bytes(3, "little")
    last = b"\xf0" + (size % step).to_bytes(3, "little") if size % step else b""
    return b"".join(
        (
            *(_varint(base), _varint(len(start) + size)),
            *((bytes([len(start)]), start) if start else ()),
            *(copy * (size // step), last),
        )
    )


def delta_bomb() -> tuple[str, bytes]:
    """A pack of some kilobytes with a state of `HUGE` bytes, by deltas against deltas; and its commit."""
    tip, commit, tree = history(HUGE_BLOB)
    sizes = [2**16, 2**20, 2**24]
    names = [hashed("blob", b" " * size) for size in sizes]
    entries = [
        entry(1, len(commit), zlib.compress(commit)),
        entry(2, len(tree), zlib.compress(tree)),
        entry(3, sizes[0], zlib.compress(b" " * sizes[0])),
    ]
    deltas = [_delta(base, size) for base, size in itertools.pairwise(sizes)]
    deltas.append(_delta(sizes[-1], HUGE - 2, b"{}"))
    entries += [
        entry(7, len(delta), zlib.compress(delta), base)
        for delta, base in zip(deltas, names, strict=True)
    ]
    return tip, pack(entries)


def stream_bomb() -> tuple[str, list[tuple[str, bytes]]]:
    """A commit, and the objects with their names, as a pack holds them: the state is a stream that goes on for long."""
    tip, commit, tree = history(HUGE_BLOB)
    squeeze = zlib.compressobj(9, wbits=-15)
    start = squeeze.compress(b"{}") + squeeze.flush(zlib.Z_FULL_FLUSH)
    squeeze = zlib.compressobj(9, wbits=-15)
    piece = squeeze.compress(b" " * 2**24) + squeeze.flush(zlib.Z_FULL_FLUSH)
    squeeze = zlib.compressobj(9, wbits=-15)
    rest = squeeze.compress(b" " * (2**24 - 2)) + squeeze.flush(zlib.Z_FINISH)
    stream = b"\x78\xda" + start + piece * (HUGE // 2**24 - 1) + rest
    state = stream + _adler().to_bytes(4, "big")
    return tip, [
        (tip, entry(1, len(commit), zlib.compress(commit))),
        (hashed("tree", tree), entry(2, len(tree), zlib.compress(tree))),
        (HUGE_BLOB, entry(3, HUGE, state)),
    ]


def _adler() -> int:
    """The checksum of `{}` and spaces: what it sums up is the same 32, so often, and its own sums."""
    low = sum(b"{}") + 1
    high = sum((ord("{") + 1, low))
    count, modulus = HUGE - 2, 65521
    high += count * low + 32 * (count * (count + 1) // 2)
    return high % modulus << 16 | (low + 32 * count) % modulus


# -- bad servers ---------------------------------------------------------------------------------------------------


def silent(client: socket.socket) -> None:
    """Listens, and never says a word."""
    while client.recv(65536):
        pass
    time.sleep(3600)


def closing(_client: socket.socket) -> None:
    """Hangs up at once."""


def garbage(client: socket.socket) -> None:
    """Says what is no protocol at all."""
    client.recv(65536)
    client.sendall(random.Random(7).randbytes(4096))


def trickle(client: socket.socket, scheme: str) -> None:
    """Says the right thing, a byte a second."""
    answer = advertisement(TIP)
    if scheme == "http":
        service = packet(b"# service=git-upload-pack\n") + b"0000"
        answer = (
            f"HTTP/1.1 200 OK\r\nContent-Type: {ADVERTISED}\r\n\r\n".encode() + service + answer
        )
    for number in answer:
        client.sendall(bytes([number]))
        time.sleep(1)


def endless(client: socket.socket) -> None:
    """Tells refs, and does not end."""
    request(client)
    for lines in endless_advertisement():
        client.sendall(lines)


def says(client: socket.socket, words: str) -> None:
    """Answers a request with what a file holds, and waits."""
    request(client)
    client.sendall(Path(words).read_bytes())
    client.recv(65536)


def bomb(client: socket.socket) -> None:
    """Gives a pack that fills the memory of who unpacks it."""
    tip, content = delta_bomb()
    request(client)
    client.sendall(advertisement(tip))
    haves(client)
    client.sendall(packet(b"NAK\n") + content)


class Web(http.server.BaseHTTPRequestHandler):
    """What `kind` of server it is; `words` is what that one wants to know."""

    protocol_version = "HTTP/1.1"
    kind = ""
    words: tuple[str, ...] = ()

    def do_GET(self) -> None:
        """Answers a request for the refs, or any other."""
        getattr(self, self.kind)()

    do_POST = do_GET  # noqa: N815 - the base class calls it so

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""

    def status(self) -> None:
        """Says no, by a number."""
        self._answer(int(self.words[0]), "text/plain", b"no such luck\n")

    def redirect(self) -> None:
        """Sends everybody elsewhere."""
        self.send_response(302)
        self.send_header("Location", self.words[0] + self.path)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def witness(self) -> None:
        """Writes down what it is asked, word for word."""
        with Path(self.words[0]).open("a") as file:
            file.write(f"{self.requestline}\n{self.headers}")
        self._answer(404, "text/plain", b"")

    def web_garbage(self) -> None:
        """Says the right thing in its head, and nonsense behind it."""
        self._answer(200, ADVERTISED, random.Random(7).randbytes(4096))

    def web_endless(self) -> None:
        """Tells refs, and does not end."""
        service = self.path.rpartition("=")[2]
        self.send_response(200)
        self.send_header("Content-Type", f"application/x-{service}-advertisement")
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(packet(f"# service={service}\n".encode()) + b"0000")
        for lines in endless_advertisement():
            self.wfile.write(lines)

    def web_bomb(self) -> None:
        """Gives a pack that fills the memory of who unpacks it."""
        tip, content = delta_bomb()
        if self.command == "GET":
            service = packet(b"# service=git-upload-pack\n") + b"0000"
            self._answer(200, ADVERTISED, service + advertisement(tip))
        else:
            self.rfile.read(int(self.headers["Content-Length"]))
            self._answer(200, "application/x-git-upload-pack-result", packet(b"NAK\n") + content)

    def _answer(self, status: int, kind: str, content: bytes) -> None:
        self.send_response(status)
        if status == 401:
            self.send_header("WWW-Authenticate", 'Basic realm="git"')
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", f"{len(content)}")
        self.end_headers()
        self.wfile.write(content)


# -- in front of a good one ----------------------------------------------------------------------------------------


class Cut:
    """How many bytes may pass, as the file of orders says, and a file that tells how many have."""

    def __init__(self, orders: str, report: str) -> None:
        self._orders, self._report = Path(orders), Path(report)
        self._order, self._passed = "", 0
        self._lock = threading.Lock()

    def begin(self) -> None:
        """A connection begins: by new orders counting does, too."""
        with self._lock:
            order = self._orders.read_text()
            if order != self._order:
                self._order, self._passed = order, 0

    def allowed(self, wanted: int) -> int:
        """How many of these bytes may still pass."""
        limit = int(self._order.split()[1])
        with self._lock:
            allowed = wanted if limit < 0 else min(wanted, limit - self._passed)
            self._passed += allowed
            scratch = self._report.with_suffix(".new")
            scratch.write_text(f"{self._passed}")
            scratch.rename(self._report)
        return allowed


def relay(
    client: socket.socket, port: str, allowed: Callable[[int], int] = lambda wanted: wanted
) -> None:
    """Lets both sides talk to each other, as far as is allowed; then neither hears of the other again.

    By one thread: TLS does not stand two.
    """
    with socket.create_connection(("127.0.0.1", int(port))) as server:
        other = {client: server, server: client}
        while True:
            pending = isinstance(client, ssl.SSLSocket) and client.pending()
            for source in [client] if pending else select.select([client, server], [], [])[0]:
                content = source.recv(16384)
                passing = content[: allowed(len(content))]
                other[source].sendall(passing)
                if not content:
                    return
                if len(passing) < len(content):
                    for each in other:
                        each.setsockopt(
                            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
                        )
                    return


def main(kind: str, descriptor: str, *words: str) -> None:
    """Serves for ever."""
    listener = socket.socket(fileno=int(descriptor))
    if hasattr(Web, kind):
        handler = type("Handler", (Web,), {"kind": kind, "words": words})
        with http.server.ThreadingHTTPServer(
            listener.getsockname(), handler, bind_and_activate=False
        ) as web:
            web.socket.close()
            web.socket = listener
            web.server_name, web.server_port = listener.getsockname()
            web.serve_forever()
    plain = {each.__name__: each for each in (silent, closing, garbage, endless, bomb)}
    serve: Serve
    if kind == "trickle":
        serve = functools.partial(trickle, scheme=words[0])
    elif kind == "says":
        serve = functools.partial(says, words=words[0])
    elif kind == "tls":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*words[1:])

        def serve(client: socket.socket) -> None:
            relay(context.wrap_socket(client, server_side=True), words[0])

    elif kind == "cut":
        cut = Cut(*words[1:])

        def serve(client: socket.socket) -> None:
            cut.begin()
            relay(client, words[0], cut.allowed)

    else:
        serve = plain[kind]

    def one(client: socket.socket) -> None:
        with client, contextlib.suppress(OSError, ValueError):
            serve(client)

    while True:
        client, _ = listener.accept()
        threading.Thread(target=one, args=(client,), daemon=True).start()


if __name__ == "__main__":
    sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - clients that hang up are what this is for
    main(*sys.argv[1:])
