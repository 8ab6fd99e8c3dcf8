"""The transactional copier of ../README.md on librdkafka."""

import sys

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, Producer, TopicPartition

from contract import History, now, on_stop

# What one call may take; whoever calls goes on calling while the client says that it can be tried again.
PATIENCE = 10.0


class Copier:
    def __init__(self, command):
        self.command = command
        self.history = History(command["id"])
        self.stopped = on_stop(command["id"])
        self.producer_id = command["transactional_id"]
        self.generation = 0
        self.copies = 0
        self.txns = 0
        timeout = command.get("session_timeout_ms", 10_000)
        common = {
            "bootstrap.servers": command["bootstrap"],
            "reconnect.backoff.ms": 20,
            "reconnect.backoff.max.ms": 250,
            "retry.backoff.ms": 50,
            # Where no broker answers, it would forget all of them and start over; with the only broker killed, 2.16 was
            # seen never to connect again.
            "metadata.recovery.strategy": "none",
        }
        self.producer = Producer({
            **common,
            "transactional.id": self.producer_id,
            "transaction.timeout.ms": 60_000,
            "linger.ms": 0,
        })
        self.consumer = Consumer({
            **common,
            "group.id": command["group"],
            "group.instance.id": command["instance_id"],
            "session.timeout.ms": timeout,
            "heartbeat.interval.ms": max(timeout // 5, 100),
            "partition.assignment.strategy": "range",
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "fetch.wait.max.ms": 100,
            "fetch.error.backoff.ms": 50,
        })

    def run(self):
        op = self.history.begin("init", producer=self.producer_id)
        patiently(lambda: self.producer.init_transactions(PATIENCE))
        self.history.end(op, "ok")
        self.consumer.subscribe([self.command["topic"]], on_assign=self.assigned, on_lost=lambda *_: None)
        while not self.stopped.is_set():
            self.step()
        self.consumer.close()
        return {"copies": self.copies}

    def assigned(self, consumer, partitions):
        self.generation += 1
        consumer.assign(self.committed(partitions))

    def committed(self, partitions):
        """Where the group stands."""
        begun = now()
        found = patiently(lambda: self.consumer.committed(partitions, timeout=PATIENCE))
        for p in found:
            if p.error:
                raise KafkaException(p.error)
            self.history.told(
                "fetch_offset", begun, group=self.command["group"], topic=p.topic, partition=p.partition, offset=max(p.offset, -1)
            )
        return [TopicPartition(p.topic, p.partition, p.offset if p.offset >= 0 else OFFSET_BEGINNING) for p in found]

    def step(self):
        """Copies one batch, if there is one."""
        begun = now()
        batch = []
        for message in self.consumer.consume(self.command["batch"], timeout=0.2):
            if message.error():
                print("fetch:", message.error(), file=sys.stderr)
            else:
                batch.append(message)
        if not batch:
            return
        self.txns += 1
        txn = f"{self.producer_id}#{self.command['process']}.{self.txns}"
        read = {}
        for message in batch:
            read.setdefault(message.partition(), []).append([message.offset(), message.value().decode()])
        for partition, records in sorted(read.items()):
            self.history.told(
                "poll", begun, topic=self.command["topic"], partition=partition, isolation="read_committed",
                mode="subscribe", generation=self.generation, records=records, txn=txn,
            )
        self.producer.begin_transaction()
        ended = None
        try:
            for message in batch:
                self.send(txn, message)
            self.offsets(txn, {partition: records[-1][0] + 1 for partition, records in read.items()})
            ended = self.history.begin("end", txn=txn, commit=True, producer=self.producer_id)
            patiently(lambda: self.producer.commit_transaction(PATIENCE))
            self.history.end(ended, "ok")
        except KafkaException as error:
            if not error.args[0].txn_requires_abort():
                raise
            print("aborting:", error, file=sys.stderr)
            self.abort(txn)

    def abort(self, txn):
        op = self.history.begin("end", txn=txn, commit=False, producer=self.producer_id)
        patiently(lambda: self.producer.abort_transaction(PATIENCE))
        self.history.end(op, "ok")
        # Where it goes on is where it was before.
        self.generation += 1
        for p in self.committed(self.consumer.assignment()):
            self.consumer.seek(p)

    def send(self, txn, message):
        self.copies += 1
        to = self.copies % self.command["output_partitions"]
        made_of = message.value().decode()
        value = f"{made_of}~{self.command['process']}.{self.copies}"
        op = self.history.begin(
            "send", topic=self.command["output"], partition=to, value=value, txn=txn, producer=self.producer_id, input=made_of
        )

        def told(error, sent):
            if error is None:
                self.history.end(op, "ok", offset=sent.offset())
            else:
                print("not produced:", error, file=sys.stderr)
                self.history.end(op, "info")

        self.producer.produce(self.command["output"], value.encode(), message.key(), partition=to, on_delivery=told)
        self.producer.poll(0)

    def offsets(self, txn, following):
        group, topic = self.command["group"], self.command["topic"]
        ops = [
            self.history.begin("commit_offset", group=group, topic=topic, partition=partition, offset=offset, txn=txn)
            for partition, offset in sorted(following.items())
        ]
        offsets = [TopicPartition(topic, partition, offset) for partition, offset in following.items()]
        member = self.consumer.consumer_group_metadata()
        patiently(lambda: self.producer.send_offsets_to_transaction(offsets, member, PATIENCE))
        for op in ops:
            self.history.end(op, "ok")


def patiently(call):
    """Calls again for as long as the client says that it may be."""
    while True:
        try:
            return call()
        except KafkaException as error:
            if not error.args[0].retriable():
                raise
            print("again:", error, file=sys.stderr)


def copy(command):
    return Copier(command).run()
