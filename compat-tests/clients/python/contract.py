"""The contract of ../README.md, shared by the Python programs: command loop, record files, acks files."""

import json
import os
import struct
import sys
import threading
import time
import traceback

LOCAL_ERROR = -1000

_print_lock = threading.Lock()
_stops = {}


class Failed(Exception):
    """An error with a code of Kafka's."""

    def __init__(self, code, message):
        super().__init__(message)
        self.code = code


def say(line):
    text = json.dumps(line)
    with _print_lock:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()


def event(id, name, **facts):
    say({"id": id, "event": name, **facts})


def now():
    """Microseconds since 1970."""
    return time.time_ns() // 1000


class History:
    """Tells what a command does, as lines of a history."""

    def __init__(self, id):
        self.id = id
        self.last = 0
        self.lock = threading.Lock()

    def _next(self):
        with self.lock:
            self.last += 1
            return self.last

    def begin(self, f, **more):
        """Tells that an operation begins, and gives its number."""
        op = self._next()
        event(self.id, "history", op=op, type="invoke", t=now(), f=f, **more)
        return op

    def end(self, op, type, **more):
        """Tells how it ended."""
        event(self.id, "history", op=op, type=type, t=now(), **more)

    def told(self, f, begun, **more):
        """Tells of something that began at a time and has ended now."""
        event(self.id, "history", op=self._next(), type="ok", t_invoke=begun, t=now(), f=f, **more)


def of_transaction(command):
    """Whether it is committed, and offsets to send with it: [(topic, partition, offset)]."""
    offsets = [(o["topic"], o["partition"], o["offset"]) for o in command.get("offsets", [])]
    return command["end"] == "commit", offsets


def on_stop(id):
    """An event that is set when the command `id` is told to stop."""
    return _stops.setdefault(id, threading.Event())


def serve(ops, code_of):
    """Runs every command of stdin on a thread of its own, until stdin ends."""

    def answer(command):
        id = command["id"]
        try:
            if command["op"] == "stop":
                on_stop(command["target"]).set()
                say({"id": id, "ok": {}})
            else:
                say({"id": id, "ok": ops[command["op"]](command)})
        except Exception as error:
            code = error.code if isinstance(error, Failed) else code_of(error)
            if code == LOCAL_ERROR:
                traceback.print_exc()
            say({"id": id, "error": {"code": code, "message": f"{type(error).__name__}: {error}"}})

    for line in sys.stdin:
        threading.Thread(target=answer, args=(json.loads(line),), daemon=True).start()
    os._exit(0)


class Record:
    __slots__ = ("topic", "partition", "offset", "timestamp", "timestamp_type", "key", "value", "headers")

    def __init__(self, topic, partition, offset, timestamp, timestamp_type, key, value, headers):
        self.topic = topic
        self.partition = partition
        self.offset = offset
        self.timestamp = timestamp
        self.timestamp_type = timestamp_type
        self.key = key
        self.value = value
        self.headers = headers


def records(command):
    """The records that a produce command names."""
    return _numbers(command["numbers"]) if "numbers" in command else _records_of(command["input"])


def _numbers(n):
    size = n["value_bytes"]
    for i in range(n["count"]):
        value = f"{n['prefix']}-{i}".ljust(size, ".").encode()
        yield Record(n["topic"], -1, -1, -1, -1, f"k{i % n['keys']}".encode(), value, [])


def _records_of(path):
    with open(path, "rb", buffering=1 << 20) as file:
        while size := file.read(4):
            yield _record(file.read(struct.unpack(">I", size)[0]))


def _record(body):
    at = 0

    def take(layout):
        nonlocal at
        (value,) = struct.unpack_from(layout, body, at)
        at += struct.calcsize(layout)
        return value

    def take_bytes(length):
        nonlocal at
        if length < 0:
            return None
        at += length
        return body[at - length : at]

    topic = take_bytes(take(">h")).decode()
    partition, offset, timestamp, timestamp_type, _ = take(">i"), take(">q"), take(">q"), take(">b"), take(">b")
    key = take_bytes(take(">i"))
    value = take_bytes(take(">i"))
    headers = []
    for _ in range(take(">i")):
        name = take_bytes(take(">i")).decode()
        headers.append((name, take_bytes(take(">i"))))
    return Record(topic, partition, offset, timestamp, timestamp_type, key, value, headers)


def _sized(bytes):
    return b"\xff\xff\xff\xff" if bytes is None else struct.pack(">I", len(bytes)) + bytes


def write_record(file, topic, partition, offset, timestamp, timestamp_type, key, value, headers):
    name = topic.encode()
    parts = [
        struct.pack(">h", len(name)),
        name,
        struct.pack(">iqqbb", partition, offset, timestamp, timestamp_type, -1),
        _sized(key),
        _sized(value),
        struct.pack(">i", len(headers)),
    ]
    for header, content in headers:
        parts += (_sized(header.encode()), _sized(content))
    body = b"".join(parts)
    file.write(struct.pack(">I", len(body)) + body)


class Acks:
    """Writes the acks file and counts; safe from any thread."""

    def __init__(self, command):
        self.id = command["id"]
        self.file = open(command["acks_output"], "wb", buffering=1 << 20)
        self.lock = threading.Lock()
        self.window = threading.Semaphore(command.get("window", 100_000))
        self.sent = self.acked = self.failed = 0

    def acknowledged(self, index, partition, offset, timestamp):
        with self.lock:
            self.file.write(struct.pack(">qiqqh", index, partition, offset, timestamp, 0))
            self.acked += 1
            count = self.acked
        if count % 1000 == 0:
            event(self.id, "acked", count=count)
        self.window.release()

    def refused(self, index, code):
        with self.lock:
            self.file.write(struct.pack(">qiqqh", index, -1, -1, -1, code))
            self.failed += 1
        self.window.release()

    def close(self):
        self.file.close()
        return {"sent": self.sent, "acked": self.acked, "failed": self.failed}
