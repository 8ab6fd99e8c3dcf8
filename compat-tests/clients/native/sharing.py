"""Two partitions, and two, seven and three consumers: each gets an even share, nothing is lost.

sharing.py API
"""

import collections
import sys
import threading

from braid import Broker, text

TOPIC, GROUP, PHASES, EACH = "shared", "sharers", (2, 7, 3), 2100

broker = Broker(sys.argv[1])
broker.create_topic(TOPIC, 2)
seen = collections.Counter()
number = 0
for consumers in PHASES:
    for _ in range(EACH // 100):
        broker.send(TOPIC, *({"payload": str(number + i)} for i in range(100)))
        number += 100
    taken = collections.Counter()
    done = threading.Event()
    start = threading.Barrier(consumers)
    guard = threading.Lock()

    def consume(name):
        mine = Broker(sys.argv[1])
        start.wait()
        while not done.is_set():
            messages = mine.receive(GROUP, TOPIC, max=5, invisibleMs=30_000, waitMs=300)
            if messages:
                mine.ack(GROUP, messages)
            with guard:
                taken[name] += len(messages)
                seen.update(text(message) for message in messages)
                if sum(taken.values()) >= EACH:
                    done.set()

    threads = [threading.Thread(target=consume, args=(n,)) for n in range(consumers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    fair = EACH / consumers
    shares = [taken[n] for n in range(consumers)]
    assert sum(shares) == EACH, shares
    assert all(fair * 0.5 <= share <= fair * 1.5 for share in shares), (fair, shares)
    print(consumers, "consumers:", shares)
assert len(seen) == EACH * len(PHASES) and set(seen.values()) == {1}, "each message once"
print("ok")
