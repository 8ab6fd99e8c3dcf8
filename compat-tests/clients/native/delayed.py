"""Delayed messages by a Kafka producer, read by a Kafka consumer, both librdkafka.

delayed.py BOOTSTRAP TOPIC COUNT SECONDS

Prints a line `received N` at each tenth of them, by which the one who runs it kills the broker, and
at the end how late they were. A message that came early, twice or never is an error.
"""

import sys
import threading
import time

from confluent_kafka import Consumer, Producer

bootstrap, topic, count, seconds = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
FIRST_MS = 8000

failed = []


def produce(begin_ms):
    producer = Producer({
        "bootstrap.servers": bootstrap,
        "enable.idempotence": True,
        "queue.buffering.max.messages": 1_000_000,
        "message.timeout.ms": 120_000,
        "linger.ms": 20,
    })

    def delivered(error, _message):
        if error is not None:
            failed.append(str(error))

    for number in range(count):
        due_ms = begin_ms + FIRST_MS + int(number * seconds * 1000 / count)
        headers = [("TIMER_DELIVER_MS", str(due_ms).encode())]
        while True:
            try:
                producer.produce(
                    topic, f"{number}:{due_ms}", headers=headers, on_delivery=delivered)
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
    left = producer.flush(120)
    if left:
        failed.append(f"{left} messages were not taken")


consumer = Consumer({
    "bootstrap.servers": bootstrap,
    "group.id": f"{topic}-readers",
    "auto.offset.reset": "earliest",
    "enable.auto.commit": False,
    "fetch.wait.max.ms": 500,
})
consumer.subscribe([topic])
begin_ms = int(time.time() * 1000)
producing = threading.Thread(target=produce, args=(begin_ms,))
producing.start()

received, late_ms, early = set(), [], 0
deadline = time.monotonic() + FIRST_MS / 1000 + seconds + 90
while len(received) < count and time.monotonic() < deadline and not failed:
    for message in consumer.consume(1000, 0.005):
        now_ms = time.time() * 1000
        if message.error():
            continue
        number, due_ms = map(int, message.value().decode().split(":"))
        early += now_ms < due_ms
        assert number not in received, f"{number} came twice"
        received.add(number)
        late_ms.append(now_ms - due_ms)
        if len(received) % (count // 10) == 0:
            print("received", len(received), flush=True)
producing.join()
# Nothing comes after the last.
extra = [message for message in consumer.consume(100, 2.0) if not message.error()]
consumer.close()
assert not failed, failed[:3]
assert len(received) == count, f"{count - len(received)} of {count} never came"
assert early == 0, f"{early} came early"
assert not extra, f"{len(extra)} came twice"
late_ms.sort()
at = lambda share: late_ms[min(count - 1, int(count * share))]
print(f"late by ms: p50 {at(.5):.1f} p99 {at(.99):.1f} p99.9 {at(.999):.1f} max {late_ms[-1]:.1f}")
