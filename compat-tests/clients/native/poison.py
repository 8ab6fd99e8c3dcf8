"""A message that nobody can handle: every retry of the table, then one dead letter, then again.

poison.py API
"""

import sys
import time

from braid import Broker, text

# RocketMQ's table at a thousandth, but for the first: gaps below that are noise.
TABLE_MS = [30, 30, 60, 120, 180, 240, 300, 360, 420, 480, 540, 600, 1200, 1800, 3600, 7200]
TOPIC, GROUP = "poison", "poisoned"

broker = Broker(sys.argv[1])
broker.create_topic(TOPIC, 1)
broker.configure(GROUP, delivery_backoff_ms=",".join(map(str, TABLE_MS)))
broker.send(TOPIC, {"payload": "poison", "key": "k", "headers": [{"name": "h", "value": "v"}]})

nacked_at = None
for attempt in range(1, len(TABLE_MS) + 2):
    messages = broker.receive(GROUP, TOPIC, max=10, invisibleMs=30_000, waitMs=20_000)
    now = time.monotonic()
    assert len(messages) == 1, messages
    assert messages[0]["attempt"] == attempt, messages
    if nacked_at is not None:
        gap_ms = (now - nacked_at) * 1000
        due_ms = TABLE_MS[attempt - 2]
        assert gap_ms >= due_ms - 5, (attempt, gap_ms, due_ms)
        assert gap_ms <= due_ms + 2000, (attempt, gap_ms, due_ms)
    nacked_at = time.monotonic()
    broker.nack(GROUP, messages[0])

assert broker.receive(GROUP, TOPIC, max=10, waitMs=500) == []
dead = broker.dead_letters(GROUP)
assert len(dead) == 1, dead
letter = dead[0]
assert text(letter) == "poison" and letter["key"] == {"text": "k"}, letter
assert letter["origin"]["topic"] == TOPIC and letter["origin"]["offset"] == 0, letter
assert letter["attempts"] == len(TABLE_MS) + 1, letter
assert {"name": "h", "value": {"text": "v"}} in letter["headers"], letter

path = f"/api/v1/groups/{GROUP}/dead-letters/re-drive"
assert broker.call("POST", path, {"all": True})["count"] == 1
assert broker.dead_letters(GROUP) == []
again = broker.receive(GROUP, TOPIC, max=10, waitMs=20_000)
assert [text(message) for message in again] == ["poison"], again
assert again[0]["attempt"] == 1, again
broker.ack(GROUP, again)
assert broker.call("POST", path, {"all": True})["count"] == 0
print("ok")
