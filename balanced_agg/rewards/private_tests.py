"""LiveCodeBench's test cases as its data files hold them."""

import base64
import json
import pickletools
import zlib

MAX_BYTES = 2**30
_TEXT_OPCODES = {
    *["PROTO", "FRAME", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"],
    *["PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE", "STOP"],
}


def decode_tests(text: str, max_bytes: int = MAX_BYTES) -> list[dict]:
    """The test cases in `text`: JSON, or base64 of zlib of a pickle of a JSON string (as the private tests are).

    ValueError for anything else, for a pickle of anything but one string, and for more than `max_bytes` unpacked.
    """
    if not text.lstrip().startswith("["):
        text = _unpickle_text(_decompress(base64.b64decode(text, validate=True), max_bytes))
    try:
        tests = json.loads(text)
    except RecursionError as error:
        raise ValueError("the test cases are nested too deeply") from error
    if not isinstance(tests, list) or not all(isinstance(test, dict) for test in tests):
        raise ValueError("the test cases are not a JSON list of objects")
    return tests


def _decompress(data: bytes, max_bytes: int) -> bytes:
    unpacker = zlib.decompressobj()
    try:
        unpacked = unpacker.decompress(data, max_bytes)
    except zlib.error as error:
        raise ValueError(f"the test cases are neither JSON nor zlib data: {error}") from error
    if not unpacker.eof:
        raise ValueError(f"the test cases are cut off or unpack to more than {max_bytes} bytes")
    return unpacked


def _unpickle_text(data: bytes) -> str:
    """The one string that `data` pickles. Its opcodes are read, never executed: nothing is imported or called."""
    texts = []
    for opcode, argument, _ in pickletools.genops(data):
        if opcode.name not in _TEXT_OPCODES:
            raise ValueError(f"the test cases are a pickle of more than one string: it has {opcode.name}")
        if isinstance(argument, str):
            texts.append(argument)
    if len(texts) != 1:
        raise ValueError(f"the test cases are a pickle of {len(texts)} strings, not of one")
    return texts[0]
