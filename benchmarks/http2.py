"""Just enough HTTP/2 to send one gRPC request again and again, at little cost to the sender.

A general client in Python costs as much per call as the server that it measures; this one sends
bytes prepared once and reads no more of an answer than its length and its end (RFC 9113; headers
are sent as literals, RFC 7541, and those of answers are not decoded). It is a load generator, not a
client: an answer is good when it carries data of the length asked for.
"""

from __future__ import annotations

import socket
import struct
from collections import deque
from dataclasses import dataclass, field

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, ACK, END_HEADERS, PADDED = 0x1, 0x1, 0x4, 0x8
FRAME_HEADER_BYTES = 9
MAX_FRAME_BYTES = 16_384
MAX_HEADER_BYTES = 126
DEFAULT_WINDOW_BYTES = 65_535
MAX_WINDOW_BYTES = 2**31 - 1
# Told to the server again before it could run out of what it may send.
REPLENISH_BYTES = 2**29
SETTING_ENABLE_PUSH, SETTING_MAX_STREAMS, SETTING_INITIAL_WINDOW_SIZE = 2, 3, 4


class ConnectionLostError(Exception):
    """The server closed the connection or broke the protocol."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The end of one stream; ``data_bytes`` counts the gRPC frame: 0 is an error's reply."""

    stream: int
    data_bytes: int


@dataclass(slots=True)
class Connection:
    """One connection that sends one prepared request on stream after stream."""

    port: int
    method: str
    body: bytes
    timeout_ms: int | None = None
    connection: socket.socket = field(init=False)
    _headers: bytes = field(init=False)
    _next_stream: int = 1
    _window: int = DEFAULT_WINDOW_BYTES
    _max_streams: int = 100  # until the server says otherwise
    _received: int = 0
    _open: dict[int, int] = field(default_factory=dict)
    _waiting: deque[int] = field(default_factory=deque)
    _out: bytearray = field(default_factory=bytearray)
    _in: bytearray = field(default_factory=bytearray)

    def __post_init__(self) -> None:
        if len(self.body) > DEFAULT_WINDOW_BYTES:
            raise ValueError(f"A request of {len(self.body)} bytes is over one stream's window.")
        self._headers = _header_block(self.port, self.method, self.timeout_ms)
        self.connection = socket.create_connection(("127.0.0.1", self.port), timeout=10)
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.connection.setblocking(False)  # noqa: FBT003
        settings = struct.pack(
            ">HIHI", SETTING_ENABLE_PUSH, 0, SETTING_INITIAL_WINDOW_SIZE, MAX_WINDOW_BYTES
        )
        self._out += PREFACE + _frame(SETTINGS, 0, 0, settings)
        self._grant(MAX_WINDOW_BYTES - DEFAULT_WINDOW_BYTES)
        self.flush()

    @property
    def wants_to_write(self) -> bool:
        """Whether bytes wait for the socket."""
        return bool(self._out)

    def send(self) -> int:
        """Send the request on a new stream, as soon as the server's window lets it; the stream."""
        stream = self.put()
        self.flush()
        return stream

    def put(self) -> int:
        """Have the request sent on a new stream by the next `flush`; the stream."""
        stream = self._next_stream
        self._next_stream += 2
        self._open[stream] = 0
        self._waiting.append(stream)
        return stream

    def flush(self) -> None:
        """Hand to the socket what it takes."""
        while (
            self._waiting
            and self._window >= len(self.body)
            and len(self._open) - len(self._waiting) < self._max_streams
        ):
            self._put(self._waiting.popleft())
        while self._out:
            try:
                sent = self.connection.send(self._out)
            except BlockingIOError:
                return
            del self._out[:sent]

    def receive(self) -> list[Answer]:
        """Read what there is; the streams that ended.

        Raises:
            ConnectionLostError: the server closed the connection.
        """
        try:
            chunk = self.connection.recv(1 << 20)
        except BlockingIOError:
            return []
        if not chunk:
            raise ConnectionLostError("The server closed the connection.")
        self._in += chunk
        answers = [answer for frame in self._frames() if (answer := self._take(*frame))]
        self.flush()
        return answers

    def close(self) -> None:
        """Close the socket."""
        self.connection.close()

    def _put(self, stream: int) -> None:
        self._window -= len(self.body)
        self._out += _frame(HEADERS, END_HEADERS, stream, self._headers)
        for first in range(0, len(self.body), MAX_FRAME_BYTES):
            part = self.body[first : first + MAX_FRAME_BYTES]
            last = first + MAX_FRAME_BYTES >= len(self.body)
            self._out += _frame(DATA, END_STREAM if last else 0, stream, part)

    def _frames(self) -> list[tuple[int, int, int, bytes]]:
        """Cut whole frames off what was read: kind, flags, stream, payload."""
        found = []
        place, buffer = 0, bytes(self._in)
        while place + FRAME_HEADER_BYTES <= len(buffer):
            high, low, kind, flags, stream = struct.unpack_from(">HBBBI", buffer, place)
            end = place + FRAME_HEADER_BYTES + (high << 8 | low)
            if end > len(buffer):
                break
            found.append((kind, flags, stream, buffer[place + FRAME_HEADER_BYTES : end]))
            place = end
        del self._in[:place]
        return found

    def _take(self, kind: int, flags: int, stream: int, payload: bytes) -> Answer | None:
        if kind == DATA:
            self._count(flags, stream, payload)
        elif kind == GOAWAY:
            raise ConnectionLostError(f"The server said goodbye: {payload[8:]!r}")
        elif kind == RST_STREAM:
            if stream not in self._open:  # it had ended, and its other half was not needed
                return None
            self._open[stream] = 0
            return self._end(stream)
        elif kind not in {HEADERS, DATA}:
            self._control(kind, flags, stream, payload)
        ends = kind in {DATA, HEADERS} and flags & END_STREAM
        return self._end(stream) if ends else None

    def _count(self, flags: int, stream: int, payload: bytes) -> None:
        padding = payload[0] + 1 if flags & PADDED else 0
        self._open[stream] += len(payload) - padding
        self._received += len(payload)
        if self._received >= REPLENISH_BYTES:
            self._grant(self._received)
            self._received = 0

    def _control(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == WINDOW_UPDATE and stream == 0:
            self._window += struct.unpack(">I", payload)[0] & MAX_WINDOW_BYTES
        elif kind == PING and not flags & ACK:
            self._out += _frame(PING, ACK, 0, payload)
        elif kind == SETTINGS and not flags & ACK:
            for name, value in struct.iter_unpack(">HI", payload):
                if name == SETTING_MAX_STREAMS:
                    self._max_streams = value
            self._out += _frame(SETTINGS, ACK, 0, b"")

    def _end(self, stream: int) -> Answer:
        return Answer(stream, self._open.pop(stream))

    def _grant(self, count: int) -> None:
        self._out += _frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", count))


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def _header_block(port: int, method: str, timeout_ms: int | None) -> bytes:
    """Indexed ``:method: POST`` and ``:scheme: http``, the rest literal and never indexed."""
    named = [(b"\x04", method), (b"\x01", f"127.0.0.1:{port}")]
    block = b"\x83\x86" + b"".join(index + _string(value) for index, value in named)
    more = [("content-type", "application/grpc"), ("te", "trailers")]
    if timeout_ms is not None:
        more.append(("grpc-timeout", f"{timeout_ms}m"))
    for name, value in more:
        block += b"\x00" + _string(name) + _string(value)
    return block


def _string(value: str) -> bytes:
    """A string of HPACK: its length, in the one byte that a short one takes, then its bytes."""
    encoded = value.encode()
    if len(encoded) > MAX_HEADER_BYTES:
        raise ValueError(f"{value!r} is over {MAX_HEADER_BYTES} bytes.")
    return bytes([len(encoded)]) + encoded
