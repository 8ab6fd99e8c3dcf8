"""Wraps aiokafka behind the contract of ../README.md. Each command has an event loop of its own."""

import asyncio
import sys
import time

import aiokafka
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener, OffsetAndMetadata, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.errors import BrokerResponseError, KafkaError

import contract
from contract import LOCAL_ERROR, Acks, Failed, event, of_transaction, on_stop, records, write_record

ASSIGNORS = {"range": RangePartitionAssignor, "roundrobin": RoundRobinPartitionAssignor}


def code_of(error):
    return error.errno if isinstance(error, BrokerResponseError) and error.errno >= 0 else LOCAL_ERROR


def hello(command):
    return {"client": "aiokafka", "version": aiokafka.__version__}


async def produce(command):
    codec = command.get("codec", "none")
    acks_wanted = {"0": 0, "1": 1, "all": "all"}[command.get("acks", "all")]
    # Its request timeout is also how long a record may wait for its acknowledgement.
    producer = AIOKafkaProducer(
        bootstrap_servers=command["bootstrap"],
        acks=acks_wanted,
        compression_type=None if codec == "none" else codec,
        enable_idempotence=command.get("idempotent", False) or "transactional_id" in command,
        linger_ms=command.get("linger_ms", 5),
        max_batch_size=command.get("batch_bytes", 16384),
        request_timeout_ms=command.get("delivery_timeout_ms", 60_000),
        max_request_size=command.get("max_request_bytes", 2097152),
        transactional_id=command.get("transactional_id"),
    )
    acks = Acks(command)
    stopped = on_stop(command["id"])
    await producer.start()
    if "transactional_id" in command:
        await producer.begin_transaction()
    waiting = set()

    def told(index, partition):
        def done(future):
            waiting.discard(future)
            if future.exception() is not None:
                print("not produced:", repr(future.exception()), file=sys.stderr)
                acks.refused(index, code_of(future.exception()))
            elif future.result() is None:
                acks.acknowledged(index, -1 if partition is None else partition, -1, -1)
            else:
                acks.acknowledged(index, future.result().partition, future.result().offset, future.result().timestamp or -1)

        return done

    try:
        for record in records(command):
            if stopped.is_set():
                break
            while not acks.window.acquire(blocking=False):
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            index = acks.sent
            acks.sent += 1
            partition = None if record.partition < 0 else record.partition
            try:
                future = await producer.send(
                    record.topic, value=record.value, key=record.key, headers=record.headers, partition=partition,
                    timestamp_ms=None if record.timestamp < 0 else record.timestamp,
                )
                waiting.add(future)
                future.add_done_callback(told(index, partition))
            except (KafkaError, AssertionError) as error:
                print("not sent:", repr(error), file=sys.stderr)
                acks.refused(index, code_of(error))
        if waiting:
            await asyncio.wait(waiting)
        if "transactional_id" in command:
            await end_transaction(producer, command)
    finally:
        await producer.stop()
    return acks.close()


async def end_transaction(producer, command):
    commits, offsets = of_transaction(command)
    if offsets:
        sent = {TopicPartition(topic, p): OffsetAndMetadata(offset, "") for topic, p, offset in offsets}
        await producer.send_offsets_to_transaction(sent, command["group"])
    await (producer.commit_transaction() if commits else producer.abort_transaction())


def consumer(command, **more):
    return AIOKafkaConsumer(
        bootstrap_servers=command["bootstrap"],
        group_id=command.get("group"),
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        fetch_max_wait_ms=100,
        max_partition_fetch_bytes=2097152,
        isolation_level=command.get("isolation", "read_uncommitted"),
        **more,
    )


def write(output, record):
    write_record(
        output, record.topic, record.partition, record.offset, record.timestamp, record.timestamp_type,
        record.key, record.value, record.headers,
    )


async def partitions_of(command, topics):
    admin = AIOKafkaAdminClient(bootstrap_servers=command["bootstrap"])
    await admin.start()
    try:
        found = await admin.describe_topics(topics)
    finally:
        await admin.close()
    return [TopicPartition(topic["topic"], p) for topic in found for p in sorted(p["partition"] for p in topic["partitions"])]


async def consume(command):
    deadline = time.monotonic() + command.get("timeout_ms", 60_000) / 1000
    partitions = await partitions_of(command, command["topics"])
    client = consumer(command)
    await client.start()
    count = 0
    with open(command["output"], "wb", buffering=1 << 20) as output:
        try:
            client.assign(partitions)
            ends = await client.end_offsets(partitions)
            if "from_offset" in command:
                starts = {p: command["from_offset"] for p in partitions}
            elif "from_timestamp" in command:
                found = await client.offsets_for_times({p: command["from_timestamp"] for p in partitions})
                starts = {p: found[p].offset if found.get(p) else ends[p] for p in partitions}
            else:
                starts = await client.beginning_offsets(partitions)
            for p in partitions:
                client.seek(p, starts[p])
            left = {p for p in partitions if starts[p] < ends[p]}
            while left:
                if time.monotonic() > deadline:
                    raise TimeoutError(f"after {count} records, unread: {sorted(left)}")
                for p, batch in (await client.getmany(timeout_ms=500)).items():
                    for record in batch:
                        if record.offset < ends[p]:
                            write(output, record)
                            count += 1
                    if batch and batch[-1].offset + 1 >= ends[p]:
                        left.discard(p)
        finally:
            await client.stop()
    return {"records": count}


async def group(command):
    id = command["id"]
    stopped = on_stop(id)
    timeout = command.get("session_timeout_ms", 10_000)
    client = consumer(
        command,
        session_timeout_ms=timeout,
        rebalance_timeout_ms=max(timeout, 10_000),
        heartbeat_interval_ms=max(timeout // 5, 100),
        group_instance_id=command.get("instance_id"),
        partition_assignment_strategy=(ASSIGNORS[command.get("assignor", "range")],),
    )

    class Told(ConsumerRebalanceListener):
        def on_partitions_assigned(self, assigned):
            event(id, "assigned", partitions=[[p.topic, p.partition] for p in assigned])

        def on_partitions_revoked(self, revoked):
            event(id, "revoked", partitions=[[p.topic, p.partition] for p in revoked])

    client.subscribe(topics=command["topics"], listener=Told())
    await client.start()
    count = 0
    with open(command["output"], "wb", buffering=1 << 20) as output:
        while not stopped.is_set():
            try:
                batches = await client.getmany(timeout_ms=200)
            except KafkaError as lost:
                print("poll failed:", repr(lost), file=sys.stderr)
                await asyncio.sleep(0.1)
                continue
            for batch in batches.values():
                for record in batch:
                    write(output, record)
                count += len(batch)
            if batches:
                output.flush()
                event(id, "received", count=count)
                if command.get("commit", True):
                    try:
                        await client.commit()
                    except KafkaError as lost:
                        print("commit failed:", repr(lost), file=sys.stderr)
        await client.stop()
    return {"records": count}


async def list_offsets(command):
    partitions = [TopicPartition(command["topic"], p) for p in command["partitions"]]
    client = consumer(command)
    await client.start()
    try:
        if command["at"] == "earliest":
            found = {p: (offset, -1) for p, offset in (await client.beginning_offsets(partitions)).items()}
        elif command["at"] == "latest":
            found = {p: (offset, -1) for p, offset in (await client.end_offsets(partitions)).items()}
        else:
            times = await client.offsets_for_times({p: int(command["at"]) for p in partitions})
            found = {p: (times[p].offset, times[p].timestamp) if times.get(p) else (-1, -1) for p in partitions}
    finally:
        await client.stop()
    return {"offsets": [{"partition": p.partition, "offset": found[p][0], "timestamp": found[p][1]} for p in partitions]}


async def commit(command):
    client = consumer(command)
    await client.start()
    try:
        partitions = {TopicPartition(o["topic"], o["partition"]): o for o in command["offsets"]}
        client.assign(list(partitions))
        await client.commit({p: OffsetAndMetadata(o["offset"], o.get("metadata") or "") for p, o in partitions.items()})
    finally:
        await client.stop()
    return {}


async def committed(command):
    admin = AIOKafkaAdminClient(bootstrap_servers=command["bootstrap"])
    await admin.start()
    try:
        partitions = [TopicPartition(command["topic"], p) for p in command["partitions"]]
        found = await admin.list_consumer_group_offsets(command["group"], partitions=partitions)
    finally:
        await admin.close()
    return {"offsets": [
        {"partition": p.partition, "offset": found[p].offset, "metadata": found[p].metadata or ""} for p in partitions
    ]}


def administer(use):
    """Gives `use` an admin client for one command."""

    async def run(command):
        admin = AIOKafkaAdminClient(bootstrap_servers=command["bootstrap"])
        await admin.start()
        try:
            return await use(admin, command)
        finally:
            await admin.close()

    run.__name__ = use.__name__
    return run


@administer
async def create_topics(admin, command):
    results = {}
    for topic in command["topics"]:
        new = NewTopic(
            name=topic["name"], num_partitions=topic.get("partitions", -1), replication_factor=topic.get("replication", -1),
            topic_configs=topic.get("configs", {}),
        )
        reply = await admin.create_topics([new])
        results[topic["name"]] = reply.topic_errors[0][1]
    return {"results": results}


@administer
async def delete_topics(admin, command):
    reply = await admin.delete_topics(command["topics"])
    return {"results": {name: code for name, code in reply.topic_error_codes}}


@administer
async def list_topics(admin, command):
    return {"topics": sorted(await admin.list_topics())}


@administer
async def describe_topics(admin, command):
    found = await admin.describe_topics(command["topics"])
    return {"topics": {
        topic["topic"]: {"error": topic["error_code"], "partitions": [
            {"partition": p["partition"], "leader": p["leader"], "replicas": p["replicas"], "isr": p["isr"]}
            for p in sorted(topic["partitions"], key=lambda p: p["partition"])
        ]}
        for topic in found
    }}


@administer
async def describe_configs(admin, command):
    kind = ConfigResourceType.TOPIC if command["kind"] == "topic" else ConfigResourceType.BROKER
    (reply,) = await admin.describe_configs([ConfigResource(kind, command["name"])])
    return {"configs": {entry[0]: entry[1] for entry in reply.resources[0][4]}}


@administer
async def describe_cluster(admin, command):
    found = await admin.describe_cluster()
    return {
        "cluster_id": found["cluster_id"],
        "controller": found["controller_id"],
        "brokers": [{"id": b["node_id"], "host": b["host"], "port": b["port"]} for b in found["brokers"]],
    }


@administer
async def create_partitions(admin, command):
    await admin.create_partitions({command["topic"]: NewPartitions(command["count"])})
    return {}


@administer
async def delete_records(admin, command):
    partition = TopicPartition(command["topic"], command["partition"])
    return {"low": (await admin.delete_records({partition: RecordsToDelete(command["before"])}))[partition]}


@administer
async def alter_configs(admin, command):
    (reply,) = await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, command["topic"], command["set"])])
    code, message = reply.resources[0][:2]
    if code:
        raise Failed(code, message)
    return {}


@administer
async def list_groups(admin, command):
    return {"groups": [group[0] for group in await admin.list_consumer_groups()]}


@administer
async def describe_group(admin, command):
    (reply,) = await admin.describe_consumer_groups([command["group"]])
    code, _, state, _, _, members = reply.groups[0][:6]
    if code:
        raise Failed(code, "the group is not described")
    return {"state": state, "members": len(members)}


OPS = [
    produce, consume, group, list_offsets, commit, committed, create_topics, delete_topics, list_topics,
    describe_topics, describe_configs, describe_cluster, create_partitions, delete_records, alter_configs, list_groups,
    describe_group,
]


def blocking(op):
    return lambda command: asyncio.run(op(command))


if __name__ == "__main__":
    contract.serve({"hello": hello, **{op.__name__: blocking(op) for op in OPS}}, code_of)
