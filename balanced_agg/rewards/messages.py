"""Messages over a pipe: four bytes of length (big-endian), then a JSON object."""

import json
from typing import Any, BinaryIO


def read_message(stream: BinaryIO) -> dict[str, Any] | None:
    """The next message, None at the end of the stream."""
    header = stream.read(4)
    if len(header) < 4:
        return None
    return json.loads(stream.read(int.from_bytes(header)))


def encode_message(message: dict[str, Any]) -> bytes:
    """`message` as it goes over the pipe. Any str can be sent, lone surrogates too."""
    body = json.dumps(message).encode("ascii")
    return len(body).to_bytes(4) + body
