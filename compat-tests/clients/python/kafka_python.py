"""Wraps kafka-python behind the contract of ../README.md."""

import re
import time

import kafka
from kafka import ConsumerRebalanceListener, KafkaAdminClient, KafkaConsumer, KafkaProducer, OffsetAndMetadata, OffsetSpec, TopicPartition
from kafka.admin import ConfigResource
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.coordinator.assignors.range import RangePartitionAssignor
from kafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from kafka.errors import BrokerResponseError, KafkaConnectionError, KafkaError

import contract
from contract import LOCAL_ERROR, Acks, Failed, event, of_transaction, on_stop, records, write_record

ASSIGNORS = {
    "range": RangePartitionAssignor,
    "roundrobin": RoundRobinPartitionAssignor,
    "cooperative-sticky": CooperativeStickyAssignor,
}


def code_of(error):
    return error.errno if isinstance(error, BrokerResponseError) and error.errno >= 0 else LOCAL_ERROR


def hello(command):
    return {"client": "kafka-python", "version": kafka.__version__}


def produce(command):
    codec = command.get("codec", "none")
    timeout = command.get("delivery_timeout_ms", 60_000)
    producer = KafkaProducer(
        bootstrap_servers=command["bootstrap"],
        acks={"0": 0, "1": 1, "all": "all"}[command.get("acks", "all")],
        compression_type=None if codec == "none" else codec,
        enable_idempotence=command.get("idempotent", False) or "transactional_id" in command,
        linger_ms=command.get("linger_ms", 5),
        batch_size=command.get("batch_bytes", 16384),
        delivery_timeout_ms=timeout,
        request_timeout_ms=min(timeout - 1000, 10_000),
        max_block_ms=timeout,
        max_request_size=command.get("max_request_bytes", 2097152),
        reconnect_backoff_max_ms=250,
        transactional_id=command.get("transactional_id"),
    )
    if "transactional_id" in command:
        producer.init_transactions()
        producer.begin_transaction()
    acks = Acks(command)
    stopped = on_stop(command["id"])

    def told(index):
        def good(metadata):
            acks.acknowledged(index, metadata.partition, metadata.offset, metadata.timestamp or -1)

        return good, lambda error: acks.refused(index, code_of(error))

    try:
        for record in records(command):
            if stopped.is_set():
                break
            acks.window.acquire()
            index = acks.sent
            acks.sent += 1
            good, bad = told(index)
            try:
                future = producer.send(
                    record.topic, value=record.value, key=record.key, headers=record.headers,
                    partition=None if record.partition < 0 else record.partition,
                    timestamp_ms=None if record.timestamp < 0 else record.timestamp,
                )
                future.add_callback(good).add_errback(bad)
            except (KafkaError, AssertionError) as error:
                acks.refused(index, code_of(error))
        producer.flush()
        if "transactional_id" in command:
            end_transaction(producer, command)
    finally:
        producer.close()
    return acks.close()


def end_transaction(producer, command):
    commits, offsets = of_transaction(command)
    if offsets:
        sent = {TopicPartition(topic, p): OffsetAndMetadata(offset, "", -1) for topic, p, offset in offsets}
        producer.send_offsets_to_transaction(sent, command["group"])
    if commits:
        producer.commit_transaction()
    else:
        producer.abort_transaction()


def consumer(command, **more):
    return KafkaConsumer(
        bootstrap_servers=command["bootstrap"],
        group_id=command.get("group"),
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        fetch_max_wait_ms=100,
        max_partition_fetch_bytes=2097152,
        reconnect_backoff_max_ms=250,
        max_poll_records=5000,
        isolation_level=command.get("isolation", "read_uncommitted"),
        allow_auto_create_topics=command.get("auto_create", False),
        **more,
    )


def write(output, record):
    write_record(
        output, record.topic, record.partition, record.offset, record.timestamp, record.timestamp_type,
        record.key, record.value, record.headers,
    )


def consume(command):
    deadline = time.monotonic() + command.get("timeout_ms", 60_000) / 1000
    client = consumer(command)
    count = 0
    with open(command["output"], "wb", buffering=1 << 20) as output:
        try:
            partitions = [
                TopicPartition(topic, p) for topic in command["topics"] for p in sorted(client.partitions_for_topic(topic))
            ]
            client.assign(partitions)
            ends = client.end_offsets(partitions)
            if "from_offset" in command:
                for p in partitions:
                    client.seek(p, command["from_offset"])
            elif "from_timestamp" in command:
                found = client.offsets_for_times({p: command["from_timestamp"] for p in partitions})
                for p in partitions:
                    client.seek(p, found[p].offset if found.get(p) else ends[p])
            else:
                client.seek_to_beginning(*partitions)
            left = {p for p in partitions if client.position(p) < ends[p]}
            while left:
                if time.monotonic() > deadline:
                    raise TimeoutError(f"after {count} records, unread: {sorted(left)}")
                for p, batch in client.poll(timeout_ms=500).items():
                    for record in batch:
                        if record.offset < ends[p]:
                            write(output, record)
                            count += 1
                left = {p for p in left if client.position(p) < ends[p]}
        finally:
            client.close()
    return {"records": count}


def group(command):
    id = command["id"]
    stopped = on_stop(id)
    timeout = command.get("session_timeout_ms", 10_000)
    client = consumer(
        command,
        session_timeout_ms=timeout,
        heartbeat_interval_ms=max(timeout // 5, 100),
        group_instance_id=command.get("instance_id"),
        partition_assignment_strategy=[ASSIGNORS[command.get("assignor", "range")]],
    )

    class Told(ConsumerRebalanceListener):
        def on_partitions_assigned(self, assigned):
            event(id, "assigned", partitions=[[p.topic, p.partition] for p in assigned])

        def on_partitions_revoked(self, revoked):
            event(id, "revoked", partitions=[[p.topic, p.partition] for p in revoked])

    # The answer to the metadata request it begins with clears what a subscription made meanwhile asks for, and the topics
    # would be asked for five minutes later. After a call that has waited for metadata none is under way.
    client.topics()
    client.subscribe(topics=command["topics"], listener=Told())
    count = 0
    with open(command["output"], "wb", buffering=1 << 20) as output:
        while not stopped.is_set():
            try:
                batches = client.poll(timeout_ms=200)
            except KafkaConnectionError as lost:
                # It gives a lost connection to the caller, who is to go on.
                print("poll failed:", lost, file=contract.sys.stderr)
                stopped.wait(0.1)
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
                        client.commit()
                    except KafkaError as lost:
                        print("commit failed:", lost, file=contract.sys.stderr)
        client.close()
    return {"records": count}


def list_offsets(command):
    specs = {"earliest": OffsetSpec.EARLIEST, "latest": OffsetSpec.LATEST, "max-timestamp": OffsetSpec.MAX_TIMESTAMP}
    at = command["at"]
    asked = {TopicPartition(command["topic"], p): specs[at] if at in specs else int(at) for p in command["partitions"]}
    with closing_admin(command) as client:
        found = client.list_partition_offsets(asked)
    return {"offsets": [{"partition": p.partition, "offset": found[p].offset, "timestamp": found[p].timestamp} for p in asked]}


def commit(command):
    client = consumer(command)
    try:
        client.commit({
            TopicPartition(o["topic"], o["partition"]): OffsetAndMetadata(o["offset"], o.get("metadata") or "", -1)
            for o in command["offsets"]
        })
    finally:
        client.close()
    return {}


def committed(command):
    client = consumer(command)
    offsets = []
    try:
        for p in command["partitions"]:
            found = client.committed(TopicPartition(command["topic"], p), metadata=True)
            offsets.append({
                "partition": p, "offset": found.offset if found else -1, "metadata": found.metadata if found else "",
            })
    finally:
        client.close()
    return {"offsets": offsets}


class closing_admin:
    def __init__(self, command):
        self.client = KafkaAdminClient(bootstrap_servers=command["bootstrap"])

    def __enter__(self):
        return self.client

    def __exit__(self, *error):
        self.client.close()


def create_topics(command):
    results = {}
    with closing_admin(command) as client:
        for topic in command["topics"]:
            wanted = {"configs": topic.get("configs", {})}
            if "partitions" in topic:
                wanted["num_partitions"] = topic["partitions"]
            if "replication" in topic:
                wanted["replication_factor"] = topic["replication"]
            reply = client.create_topics({topic["name"]: wanted}, raise_errors=False)
            results[topic["name"]] = reply["topics"][0]["error_code"]
    return {"results": results}


def delete_topics(command):
    with closing_admin(command) as client:
        reply = client.delete_topics(command["topics"], raise_errors=False)
    return {"results": {topic["name"]: topic["error_code"] for topic in reply["topics"]}}


def list_topics(command):
    with closing_admin(command) as client:
        return {"topics": sorted(client.list_topics())}


def describe_topics(command):
    with closing_admin(command) as client:
        found = client.describe_topics(command["topics"])
    return {"topics": {
        topic["name"]: {"error": topic["error_code"], "partitions": [
            {"partition": p["partition_index"], "leader": p["leader_id"], "replicas": p["replica_nodes"], "isr": p["isr_nodes"]}
            for p in topic["partitions"]
        ]}
        for topic in found
    }}


def describe_configs(command):
    with closing_admin(command) as client:
        found = client.describe_configs([ConfigResource(command["kind"], command["name"])], config_filter="all")
    return {"configs": {key: config["value"] for key, config in found[command["kind"]][command["name"]].items()}}


def describe_cluster(command):
    with closing_admin(command) as client:
        cluster = client.describe_cluster()
    return {
        "cluster_id": cluster["cluster_id"],
        "controller": cluster["controller_id"],
        "brokers": [{"id": b["broker_id"], "host": b["host"], "port": b["port"]} for b in cluster["brokers"]],
    }


def create_partitions(command):
    with closing_admin(command) as client:
        client.create_partitions({command["topic"]: command["count"]})
    return {}


def delete_records(command):
    partition = TopicPartition(command["topic"], command["partition"])
    with closing_admin(command) as client:
        told = client.delete_records({partition: command["before"]})
    return {"low": told[partition]["low_watermark"]}


def alter_configs(command):
    with closing_admin(command) as client:
        resource = ConfigResource("topic", command["topic"], command["set"])
        told = client.alter_configs([resource])["topic"][command["topic"]]
    if told != "OK":
        # It has read the code, and tells it in words only.
        code = re.search(r"\[Error (\d+)\]", told)
        raise Failed(int(code[1]) if code else LOCAL_ERROR, told)
    return {}


def list_groups(command):
    with closing_admin(command) as client:
        return {"groups": [group["group_id"] for group in client.list_groups()]}


def describe_group(command):
    with closing_admin(command) as client:
        told = client.describe_groups([command["group"]])[command["group"]]
    return {"state": told["group_state"], "members": len(told["members"])}


def delete_group(command):
    with closing_admin(command) as client:
        told = client.delete_groups([command["group"]])[command["group"]]
    if told != "OK":
        raise getattr(kafka.errors, told)()
    return {}


def delete_offset(command):
    partition = TopicPartition(command["topic"], command["partition"])
    with closing_admin(command) as client:
        told = client.delete_group_offsets(command["group"], [partition])[partition]
    if told.errno != 0:
        raise told()
    return {}


OPS = [
    hello, produce, consume, group, list_offsets, commit, committed, create_topics, delete_topics, list_topics,
    describe_topics, describe_configs, describe_cluster, create_partitions, delete_records, alter_configs, list_groups,
    describe_group, delete_group, delete_offset,
]

if __name__ == "__main__":
    contract.serve({op.__name__: op for op in OPS}, code_of)
