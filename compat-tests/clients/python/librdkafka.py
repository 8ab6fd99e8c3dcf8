"""Wraps confluent-kafka (librdkafka) behind the contract of ../README.md."""

import time

import confluent_kafka
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import (
    AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewPartitions, NewTopic, OffsetSpec,
)

import contract
from contract import LOCAL_ERROR, Acks, Failed, event, of_transaction, on_stop, records, write_record
from copier import copy


def code_of(error):
    """librdkafka's own errors are negative; a handful of them have a code of Kafka's."""
    if isinstance(error, KafkaException):
        error = error.args[0]
    if not isinstance(error, KafkaError):
        return LOCAL_ERROR
    local = {KafkaError._UNKNOWN_TOPIC: 3, KafkaError._UNKNOWN_PARTITION: 3, KafkaError._TIMED_OUT: 7, KafkaError._MSG_TIMED_OUT: 7}
    code = error.code()
    return code if code > 0 else local.get(code, LOCAL_ERROR)


def hello(command):
    return {"client": "librdkafka", "version": f"{confluent_kafka.version()} on {confluent_kafka.libversion()[0]}"}


def produce(command):
    producer = Producer({
        "bootstrap.servers": command["bootstrap"],
        "acks": command.get("acks", "all"),
        "compression.type": command.get("codec", "none"),
        "enable.idempotence": command.get("idempotent", False) or "transactional_id" in command,
        "linger.ms": command.get("linger_ms", 5),
        "batch.size": command.get("batch_bytes", 16384),
        "delivery.timeout.ms": command.get("delivery_timeout_ms", 60_000),
        "request.timeout.ms": min(command.get("delivery_timeout_ms", 60_000), 10_000),
        "message.max.bytes": command.get("max_request_bytes", 2097152),
        "partitioner": "murmur2_random",
        "queue.buffering.max.kbytes": 262144,
        "queue.buffering.max.messages": 1_000_000,
        "reconnect.backoff.max.ms": 250,
        "topic.metadata.refresh.interval.ms": 1000,
        **({"transactional.id": command["transactional_id"]} if "transactional_id" in command else {}),
    })
    if "transactional_id" in command:
        producer.init_transactions(30)
        producer.begin_transaction()
    acks = Acks(command)
    stopped = on_stop(command["id"])

    def told(index):
        def callback(error, message):
            if error is None:
                acks.acknowledged(index, message.partition(), _or_unknown(message.offset()), message.timestamp()[1])
            else:
                acks.refused(index, code_of(error))

        return callback

    for record in records(command):
        if stopped.is_set():
            break
        while not acks.window.acquire(blocking=False):
            producer.poll(0.1)
        index = acks.sent
        acks.sent += 1
        more = {} if record.partition < 0 else {"partition": record.partition}
        if record.timestamp >= 0:
            more["timestamp"] = record.timestamp
        if record.headers:
            more["headers"] = record.headers
        try:
            while True:
                try:
                    producer.produce(record.topic, record.value, record.key, on_delivery=told(index), **more)
                    break
                except BufferError:
                    producer.poll(0.1)
        except KafkaException as error:
            acks.refused(index, code_of(error))
        producer.poll(0)
    producer.flush()
    if "transactional_id" in command:
        end_transaction(producer, command)
    return acks.close()


def end_transaction(producer, command):
    commits, offsets = of_transaction(command)
    if offsets:
        member = consumer(command, command["group"])
        producer.send_offsets_to_transaction([TopicPartition(*o) for o in offsets], member.consumer_group_metadata(), 30)
        member.close()
    if commits:
        producer.commit_transaction(30)
    else:
        producer.abort_transaction(30)


def _or_unknown(offset):
    return -1 if offset is None or offset < 0 else offset


def consumer(command, group=None, **more):
    return Consumer({
        "bootstrap.servers": command["bootstrap"],
        "group.id": group or "unused",
        "enable.auto.commit": False,
        "auto.offset.reset": "earliest",
        "fetch.wait.max.ms": 100,
        "fetch.error.backoff.ms": 50,
        "reconnect.backoff.max.ms": 250,
        "allow.auto.create.topics": command.get("auto_create", False),
        "enable.partition.eof": False,
        **more,
    })


def write(output, message):
    kind, timestamp = message.timestamp()
    write_record(
        output, message.topic(), message.partition(), message.offset(), timestamp,
        {confluent_kafka.TIMESTAMP_CREATE_TIME: 0, confluent_kafka.TIMESTAMP_LOG_APPEND_TIME: 1}.get(kind, -1),
        message.key(), message.value(), message.headers() or [],
    )


def partitions_of(client, topic):
    found = client.list_topics(topic, timeout=30).topics[topic]
    if found.error is not None:
        raise KafkaException(found.error)
    return sorted(found.partitions)


def consume(command):
    deadline = time.monotonic() + command.get("timeout_ms", 60_000) / 1000
    client = consumer(command, **{"isolation.level": command.get("isolation", "read_committed")})
    count = 0
    with open(command["output"], "wb", buffering=1 << 20) as output:
        try:
            ends, starts = {}, []
            for topic in command["topics"]:
                for partition in partitions_of(client, topic):
                    low, high = client.get_watermark_offsets(TopicPartition(topic, partition), timeout=30)
                    ends[topic, partition] = high
                    starts.append(TopicPartition(topic, partition, command.get("from_offset", low)))
            if "from_timestamp" in command:
                asked = [TopicPartition(p.topic, p.partition, command["from_timestamp"]) for p in starts]
                starts = client.offsets_for_times(asked, timeout=30)
                for p in starts:
                    if p.offset < 0:
                        p.offset = ends[p.topic, p.partition]
            left = {(p.topic, p.partition) for p in starts if p.offset < ends[p.topic, p.partition]}
            client.assign(starts)
            while left:
                if time.monotonic() > deadline:
                    raise TimeoutError(f"after {count} records, unread: {sorted(left)}")
                for message in client.consume(1000, timeout=0.5):
                    if message.error():
                        raise KafkaException(message.error())
                    where = message.topic(), message.partition()
                    if message.offset() < ends[where]:
                        write(output, message)
                        count += 1
                    if message.offset() + 1 >= ends[where]:
                        left.discard(where)
        finally:
            client.close()
    return {"records": count}


def group(command):
    id = command["id"]
    stopped = on_stop(id)
    timeout = command.get("session_timeout_ms", 10_000)
    more = {"group.instance.id": command["instance_id"]} if "instance_id" in command else {}
    client = consumer(
        command, command["group"],
        **{
            "session.timeout.ms": timeout,
            "heartbeat.interval.ms": max(timeout // 5, 100),
            "partition.assignment.strategy": command.get("assignor", "range"),
            **more,
        },
    )

    def rebalanced(name):
        return lambda client, changed: event(id, name, partitions=[[p.topic, p.partition] for p in changed])

    client.subscribe(command["topics"], on_assign=rebalanced("assigned"), on_revoke=rebalanced("revoked"), on_lost=rebalanced("revoked"))
    count = 0
    with open(command["output"], "wb", buffering=1 << 20) as output:
        while not stopped.is_set():
            batch = client.consume(5000, timeout=0.2)
            good = [message for message in batch if message.error() is None]
            for message in good:
                write(output, message)
            if good:
                count += len(good)
                output.flush()
                event(id, "received", count=count)
                if command.get("commit", True):
                    try:
                        client.commit(asynchronous=False)
                    except KafkaException as lost:
                        print("commit failed:", lost, file=contract.sys.stderr)
        client.close()
    return {"records": count}


def list_offsets(command):
    at = command["at"]
    spec = {"earliest": OffsetSpec.earliest, "latest": OffsetSpec.latest, "max-timestamp": OffsetSpec.max_timestamp}
    wanted = spec[at]() if at in spec else OffsetSpec.for_timestamp(int(at))
    asked = {TopicPartition(command["topic"], p): wanted for p in command["partitions"]}
    client = admin(command)
    found = client.list_offsets(asked, request_timeout=30)
    results = {p.partition: future.result() for p, future in found.items()}
    return {"offsets": [
        {"partition": p, "offset": results[p].offset, "timestamp": results[p].timestamp} for p in command["partitions"]
    ]}


def commit(command):
    client = consumer(command, command["group"])
    offsets = [TopicPartition(o["topic"], o["partition"], o["offset"], o.get("metadata") or "") for o in command["offsets"]]
    try:
        for done in client.commit(offsets=offsets, asynchronous=False):
            if done.error:
                raise KafkaException(done.error)
    finally:
        client.close()
    return {}


def committed(command):
    client = consumer(command, command["group"])
    try:
        found = client.committed([TopicPartition(command["topic"], p) for p in command["partitions"]], timeout=30)
    finally:
        client.close()
    for p in found:
        if p.error:
            raise KafkaException(p.error)
    return {"offsets": [
        {"partition": p.partition, "offset": _or_unknown(p.offset), "metadata": p.metadata or ""} for p in found
    ]}


def admin(command):
    """The caller holds it until its futures are done: its end is theirs."""
    return AdminClient({"bootstrap.servers": command["bootstrap"]})


def outcome(future):
    try:
        future.result()
        return 0
    except KafkaException as error:
        return code_of(error)


def create_topics(command):
    client = admin(command)
    results = {}
    for topic in command["topics"]:
        new = NewTopic(topic["name"], topic.get("partitions", -1), topic.get("replication", -1), config=topic.get("configs", {}))
        try:
            results[topic["name"]] = outcome(client.create_topics([new])[topic["name"]])
        except ValueError as refused:
            raise Failed(LOCAL_ERROR, str(refused)) from refused
    return {"results": results}


def delete_topics(command):
    client = admin(command)
    return {"results": {name: outcome(future) for name, future in client.delete_topics(command["topics"]).items()}}


def list_topics(command):
    return {"topics": sorted(admin(command).list_topics(timeout=30).topics)}


def describe_topics(command):
    client = admin(command)
    topics = {}
    for name in command["topics"]:
        future = client.describe_topics(confluent_kafka.TopicCollection([name]))[name]
        error = outcome(future)
        topics[name] = {"error": error, "partitions": [] if error else [
            {"partition": p.id, "leader": p.leader.id, "replicas": [n.id for n in p.replicas], "isr": [n.id for n in p.isr]}
            for p in future.result().partitions
        ]}
    return {"topics": topics}


def describe_configs(command):
    resource = ConfigResource(command["kind"], command["name"])
    client = admin(command)
    (future,) = client.describe_configs([resource]).values()
    return {"configs": {entry.name: entry.value for entry in future.result().values()}}


def describe_cluster(command):
    client = admin(command)
    cluster = client.describe_cluster(request_timeout=30).result()
    return {
        "cluster_id": cluster.cluster_id,
        "controller": cluster.controller.id if cluster.controller else -1,
        "brokers": [{"id": n.id, "host": n.host, "port": n.port} for n in cluster.nodes],
    }


def create_partitions(command):
    client = admin(command)
    client.create_partitions([NewPartitions(command["topic"], command["count"])])[command["topic"]].result()
    return {}


def delete_records(command):
    client = admin(command)
    (future,) = client.delete_records([TopicPartition(command["topic"], command["partition"], command["before"])]).values()
    return {"low": future.result().low_watermark}


def alter_configs(command):
    client = admin(command)
    entries = [
        ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET) for name, value in command["set"].items()
    ]
    resource = ConfigResource("topic", command["topic"], incremental_configs=entries)
    (future,) = client.incremental_alter_configs([resource]).values()
    future.result()
    return {}


def list_groups(command):
    client = admin(command)
    return {"groups": [group.group_id for group in client.list_consumer_groups().result().valid]}


def describe_group(command):
    client = admin(command)
    told = client.describe_consumer_groups([command["group"]])[command["group"]].result()
    return {"state": told.state.name, "members": len(told.members)}


def delete_group(command):
    client = admin(command)
    client.delete_consumer_groups([command["group"]])[command["group"]].result()
    return {}


OPS = [
    hello, produce, consume, group, copy, list_offsets, commit, committed, create_topics, delete_topics, list_topics,
    describe_topics, describe_configs, describe_cluster, create_partitions, delete_records, alter_configs, list_groups,
    describe_group, delete_group,
]

if __name__ == "__main__":
    contract.serve({op.__name__: op for op in OPS}, code_of)
