"""A thousand message groups, one of which is stuck: the others go on, each in its order.

stuck.py API
"""

import collections
import sys

from braid import Broker, text

TOPIC, GROUP, GROUPS, EACH, STUCK = "fifo", "orderly", 1000, 5, "group-0007"

broker = Broker(sys.argv[1])
broker.create_topic(TOPIC, 4, "FIFO")
broker.configure(GROUP, delivery_order="message-group")
for turn in range(EACH):
    for first in range(0, GROUPS, 100):
        broker.send(TOPIC, *(
            {"payload": f"group-{group:04}:{turn}", "messageGroup": f"group-{group:04}"}
            for group in range(first, first + 100)
        ))

got = collections.defaultdict(list)
held = []
while True:
    messages = broker.receive(GROUP, TOPIC, max=32, invisibleMs=600_000, waitMs=1000)
    if not messages:
        break
    done = []
    for message in messages:
        group, turn = text(message).split(":")
        got[group].append(int(turn))
        (held if group == STUCK else done).append(message)
    if done:
        broker.ack(GROUP, done)
expected = list(range(EACH))
late = {group: turns for group, turns in got.items() if group != STUCK and turns != expected}
assert not late and len(got) == GROUPS, (late, len(got))
# What one answer gave of the group came in order, and nothing behind it.
assert got[STUCK] == expected[:len(got[STUCK])], got[STUCK]
broker.ack(GROUP, held)
while got[STUCK] != expected:
    messages = broker.receive(GROUP, TOPIC, max=32, waitMs=5000)
    assert messages, got[STUCK]
    got[STUCK].extend(int(text(message).split(":")[1]) for message in messages)
    broker.ack(GROUP, messages)
print("ok")
