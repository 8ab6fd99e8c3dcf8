// Wraps Kafka's own Java client behind the contract of ../README.md. One process serves many commands, because
// starting a JVM costs more than most scenarios.

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.BufferedInputStream;
import java.io.BufferedOutputStream;
import java.io.BufferedReader;
import java.io.ByteArrayOutputStream;
import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.EOFException;
import java.io.FileInputStream;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Properties;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Semaphore;
import org.apache.kafka.clients.admin.AdminClient;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.ConsumerGroupDescription;
import org.apache.kafka.clients.admin.DescribeClusterResult;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.consumer.OffsetAndTimestamp;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.Node;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.WakeupException;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.protocol.Errors;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

public final class Driver {
    private static final ObjectMapper JSON = new ObjectMapper();
    private static final int LOCAL_ERROR = -1000;
    private static final Map<Long, Runnable> STOPS = new ConcurrentHashMap<>();

    public static void main(String[] args) throws Exception {
        BufferedReader commands = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        String line;
        while ((line = commands.readLine()) != null) {
            JsonNode command = JSON.readTree(line);
            new Thread(() -> answer(command)).start();
        }
        Runtime.getRuntime().halt(0);
    }

    private static void answer(JsonNode command) {
        long id = command.get("id").asLong();
        ObjectNode reply = JSON.createObjectNode();
        reply.put("id", id);
        try {
            reply.set("ok", run(id, command));
        } catch (Throwable error) {
            Throwable cause = error;
            while (cause instanceof ExecutionException && cause.getCause() != null) {
                cause = cause.getCause();
            }
            ObjectNode told = reply.putObject("error");
            told.put("code", code(cause));
            told.put("message", String.valueOf(cause));
            if (code(cause) == LOCAL_ERROR) {
                cause.printStackTrace();
            }
        }
        print(reply);
    }

    private static ObjectNode run(long id, JsonNode command) throws Exception {
        switch (command.get("op").asText()) {
            case "hello": return hello();
            case "produce": return produce(id, command);
            case "consume": return consume(command);
            case "group": return group(id, command);
            case "copy": return copy(id, command);
            case "stop": return stop(command);
            case "list_offsets": return listOffsets(command);
            case "commit": return commit(command);
            case "committed": return committed(command);
            case "create_topics": return createTopics(command);
            case "delete_topics": return deleteTopics(command);
            case "list_topics": return listTopics(command);
            case "describe_topics": return describeTopics(command);
            case "describe_configs": return describeConfigs(command);
            case "describe_cluster": return describeCluster(command);
            case "create_partitions": return change(command, Driver::createPartitions);
            case "delete_records": return change(command, Driver::deleteRecords);
            case "alter_configs": return change(command, Driver::alterConfigs);
            case "list_groups": return change(command, Driver::listGroups);
            case "describe_group": return change(command, Driver::describeGroup);
            case "delete_group": return change(command, Driver::deleteGroup);
            case "delete_offset": return change(command, Driver::deleteOffset);
            default: throw new IllegalArgumentException("unknown op " + command.get("op"));
        }
    }

    private static ObjectNode hello() throws IOException {
        Properties version = new Properties();
        version.load(KafkaProducer.class.getResourceAsStream("/kafka/kafka-version.properties"));
        return JSON.createObjectNode().put("client", "java").put("version", version.getProperty("version"));
    }

    private static void print(ObjectNode line) {
        synchronized (JSON) {
            System.out.println(line);
            System.out.flush();
        }
    }

    private static ObjectNode event(long id, String name) {
        return JSON.createObjectNode().put("id", id).put("event", name);
    }

    private static int code(Throwable error) {
        Errors known = Errors.forException(error);
        return known == Errors.UNKNOWN_SERVER_ERROR ? LOCAL_ERROR : known.code();
    }

    // Records and their file.

    private record Input(String topic, Integer partition, Long timestamp, byte[] key, byte[] value, List<Header> headers) {}

    private interface Source {
        /** The next record, or null at the end. */
        Input next() throws IOException;
    }

    private static Source source(JsonNode command) throws IOException {
        if (command.has("numbers")) {
            JsonNode n = command.get("numbers");
            String topic = n.get("topic").asText();
            String prefix = n.get("prefix").asText();
            long count = n.get("count").asLong();
            long keys = n.get("keys").asLong();
            int size = n.get("value_bytes").asInt();
            return new Source() {
                private long at = 0;

                public Input next() {
                    if (at == count) {
                        return null;
                    }
                    StringBuilder value = new StringBuilder(prefix).append('-').append(at);
                    while (value.length() < size) {
                        value.append('.');
                    }
                    byte[] key = ("k" + at % keys).getBytes(StandardCharsets.UTF_8);
                    at++;
                    return new Input(topic, null, null, key, value.toString().getBytes(StandardCharsets.UTF_8), List.of());
                }
            };
        }
        DataInputStream in = new DataInputStream(new BufferedInputStream(new FileInputStream(command.get("input").asText()), 1 << 20));
        return () -> readRecord(in);
    }

    private static Input readRecord(DataInputStream in) throws IOException {
        try {
            in.readInt();
        } catch (EOFException end) {
            in.close();
            return null;
        }
        byte[] topic = new byte[in.readShort()];
        in.readFully(topic);
        int partition = in.readInt();
        in.readLong();
        long timestamp = in.readLong();
        in.readShort();
        byte[] key = readBytes(in);
        byte[] value = readBytes(in);
        int count = in.readInt();
        List<Header> headers = new ArrayList<>(count);
        for (int i = 0; i < count; i++) {
            String name = new String(readBytes(in), StandardCharsets.UTF_8);
            headers.add(new org.apache.kafka.common.header.internals.RecordHeader(name, readBytes(in)));
        }
        return new Input(new String(topic, StandardCharsets.UTF_8), partition < 0 ? null : partition,
            timestamp < 0 ? null : timestamp, key, value, headers);
    }

    private static byte[] readBytes(DataInputStream in) throws IOException {
        int length = in.readInt();
        if (length < 0) {
            return null;
        }
        byte[] bytes = new byte[length];
        in.readFully(bytes);
        return bytes;
    }

    private static void writeBytes(DataOutputStream out, byte[] bytes) throws IOException {
        out.writeInt(bytes == null ? -1 : bytes.length);
        if (bytes != null) {
            out.write(bytes);
        }
    }

    private static void writeRecord(DataOutputStream file, ConsumerRecord<byte[], byte[]> record) throws IOException {
        ByteArrayOutputStream body = new ByteArrayOutputStream(64 + (record.value() == null ? 0 : record.value().length));
        DataOutputStream out = new DataOutputStream(body);
        byte[] topic = record.topic().getBytes(StandardCharsets.UTF_8);
        out.writeShort(topic.length);
        out.write(topic);
        out.writeInt(record.partition());
        out.writeLong(record.offset());
        out.writeLong(record.timestamp());
        out.writeByte(record.timestampType().id);
        out.writeByte(-1);
        writeBytes(out, record.key());
        writeBytes(out, record.value());
        Header[] headers = record.headers().toArray();
        out.writeInt(headers.length);
        for (Header header : headers) {
            writeBytes(out, header.key().getBytes(StandardCharsets.UTF_8));
            writeBytes(out, header.value());
        }
        file.writeInt(body.size());
        body.writeTo(file);
    }

    private static DataOutputStream create(JsonNode path) throws IOException {
        return new DataOutputStream(new BufferedOutputStream(new FileOutputStream(path.asText()), 1 << 20));
    }

    // Producing.

    private static ObjectNode produce(long id, JsonNode command) throws Exception {
        Properties config = new Properties();
        config.put("bootstrap.servers", command.get("bootstrap").asText());
        config.put("acks", command.path("acks").asText("all"));
        config.put("compression.type", command.path("codec").asText("none"));
        config.put("enable.idempotence", String.valueOf(command.path("idempotent").asBoolean(false)));
        config.put("linger.ms", command.path("linger_ms").asText("5"));
        config.put("batch.size", command.path("batch_bytes").asText("16384"));
        long timeout = command.path("delivery_timeout_ms").asLong(60_000);
        config.put("delivery.timeout.ms", String.valueOf(timeout));
        config.put("request.timeout.ms", String.valueOf(Math.min(timeout - 1000, 10_000)));
        config.put("max.block.ms", String.valueOf(timeout));
        config.put("max.request.size", command.path("max_request_bytes").asText("2097152"));
        config.put("reconnect.backoff.max.ms", "250");
        boolean[] stopped = {false};
        STOPS.put(id, () -> stopped[0] = true);
        Semaphore window = new Semaphore(command.path("window").asInt(100_000));
        boolean transactional = command.has("transactional_id");
        if (transactional) {
            config.put("transactional.id", command.get("transactional_id").asText());
            config.put("enable.idempotence", "true");
        }
        long[] counts = new long[3]; // sent, acked, failed
        Source source = source(command);
        try (DataOutputStream acks = create(command.get("acks_output"));
             KafkaProducer<byte[], byte[]> producer = new KafkaProducer<>(config, new ByteArraySerializer(), new ByteArraySerializer())) {
            if (transactional) {
                producer.initTransactions();
                producer.beginTransaction();
            }
            Input input;
            while (!stopped[0] && (input = source.next()) != null) {
                window.acquire();
                long index = counts[0]++;
                ProducerRecord<byte[], byte[]> record = new ProducerRecord<>(
                    input.topic, input.partition, input.timestamp, input.key, input.value, input.headers);
                producer.send(record, (metadata, error) -> {
                    boolean failed = error != null;
                    try {
                        acks.writeLong(index);
                        acks.writeInt(failed ? -1 : metadata.partition());
                        acks.writeLong(failed || !metadata.hasOffset() ? -1 : metadata.offset());
                        acks.writeLong(failed || !metadata.hasTimestamp() ? -1 : metadata.timestamp());
                        acks.writeShort(failed ? code(error) : 0);
                    } catch (IOException broken) {
                        throw new IllegalStateException(broken);
                    }
                    long done;
                    synchronized (counts) {
                        done = ++counts[failed ? 2 : 1];
                    }
                    if (!failed && done % 1000 == 0) {
                        print(event(id, "acked").put("count", done));
                    }
                    window.release();
                });
            }
            producer.flush();
            if (transactional) {
                endTransaction(producer, command);
            }
        }
        return JSON.createObjectNode().put("sent", counts[0]).put("acked", counts[1]).put("failed", counts[2]);
    }

    /** With the group's offsets that the command names, if it names any. */
    private static void endTransaction(KafkaProducer<byte[], byte[]> producer, JsonNode command) {
        if (command.has("offsets")) {
            try (KafkaConsumer<byte[], byte[]> member = consumer(command)) {
                Api.sendOffsets(producer, member, offsetsOf(command), command.get("group").asText());
            }
        }
        if (command.get("end").asText().equals("commit")) {
            producer.commitTransaction();
        } else {
            producer.abortTransaction();
        }
    }

    private static ObjectNode copy(long id, JsonNode command) {
        try (Copier copier = new Copier(command, Driver::print)) {
            STOPS.put(id, copier::stop);
            return copier.run();
        }
    }

    // Consuming.

    private static KafkaConsumer<byte[], byte[]> consumer(JsonNode command) {
        Properties config = new Properties();
        config.put("bootstrap.servers", command.get("bootstrap").asText());
        config.put("enable.auto.commit", "false");
        config.put("auto.offset.reset", "earliest");
        config.put("fetch.max.wait.ms", "100");
        config.put("max.poll.records", "5000");
        config.put("isolation.level", command.path("isolation").asText("read_uncommitted"));
        config.put("reconnect.backoff.max.ms", "250");
        config.put("default.api.timeout.ms", "60000");
        config.put("allow.auto.create.topics", command.path("auto_create").asText("false"));
        if (command.has("group")) {
            config.put("group.id", command.get("group").asText());
            config.put("session.timeout.ms", command.path("session_timeout_ms").asText("10000"));
            config.put("heartbeat.interval.ms", String.valueOf(Math.max(command.path("session_timeout_ms").asInt(10_000) / 5, 100)));
            String assignor = command.path("assignor").asText("range");
            config.put("partition.assignment.strategy", "org.apache.kafka.clients.consumer." + switch (assignor) {
                case "range" -> "RangeAssignor";
                case "roundrobin" -> "RoundRobinAssignor";
                case "cooperative-sticky" -> "CooperativeStickyAssignor";
                default -> throw new IllegalArgumentException("unknown assignor " + assignor);
            });
        }
        if (command.has("instance_id")) {
            config.put("group.instance.id", command.get("instance_id").asText());
        }
        return new KafkaConsumer<>(config, new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    private static ObjectNode consume(JsonNode command) throws Exception {
        long deadline = System.nanoTime() + command.path("timeout_ms").asLong(60_000) * 1_000_000;
        long records = 0;
        try (KafkaConsumer<byte[], byte[]> consumer = consumer(command); DataOutputStream output = create(command.get("output"))) {
            List<TopicPartition> partitions = new ArrayList<>();
            for (JsonNode topic : command.get("topics")) {
                consumer.partitionsFor(topic.asText()).forEach(p -> partitions.add(new TopicPartition(p.topic(), p.partition())));
            }
            consumer.assign(partitions);
            Map<TopicPartition, Long> ends = consumer.endOffsets(partitions);
            seek(consumer, command, partitions, ends);
            Set<TopicPartition> open = new HashSet<>(partitions);
            open.removeIf(p -> consumer.position(p) >= ends.get(p));
            while (!open.isEmpty()) {
                if (System.nanoTime() > deadline) {
                    throw new IllegalStateException("timed out after " + records + " records, unread: " + open);
                }
                for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(500))) {
                    if (record.offset() < ends.get(new TopicPartition(record.topic(), record.partition()))) {
                        writeRecord(output, record);
                        records++;
                    }
                }
                open.removeIf(p -> consumer.position(p) >= ends.get(p));
            }
        }
        return JSON.createObjectNode().put("records", records);
    }

    private static void seek(KafkaConsumer<byte[], byte[]> consumer, JsonNode command, List<TopicPartition> partitions,
                             Map<TopicPartition, Long> ends) {
        if (command.has("from_offset")) {
            partitions.forEach(p -> consumer.seek(p, command.get("from_offset").asLong()));
        } else if (command.has("from_timestamp")) {
            Map<TopicPartition, Long> times = new HashMap<>();
            partitions.forEach(p -> times.put(p, command.get("from_timestamp").asLong()));
            Map<TopicPartition, OffsetAndTimestamp> found = consumer.offsetsForTimes(times);
            partitions.forEach(p -> consumer.seek(p, found.get(p) == null ? ends.get(p) : found.get(p).offset()));
        } else {
            consumer.seekToBeginning(partitions);
        }
    }

    private static ObjectNode group(long id, JsonNode command) throws Exception {
        boolean[] stopped = {false};
        boolean commits = command.path("commit").asBoolean(true);
        List<String> topics = new ArrayList<>();
        command.get("topics").forEach(topic -> topics.add(topic.asText()));
        long records = 0;
        try (DataOutputStream output = create(command.get("output")); KafkaConsumer<byte[], byte[]> consumer = consumer(command)) {
            STOPS.put(id, () -> {
                stopped[0] = true;
                consumer.wakeup();
            });
            consumer.subscribe(topics, new ConsumerRebalanceListener() {
                public void onPartitionsAssigned(Collection<TopicPartition> added) {
                    rebalanced("assigned", added);
                }

                public void onPartitionsRevoked(Collection<TopicPartition> gone) {
                    rebalanced("revoked", gone);
                }

                private void rebalanced(String name, Collection<TopicPartition> changed) {
                    ObjectNode event = event(id, name);
                    ArrayNode list = event.putArray("partitions");
                    changed.forEach(p -> list.addArray().add(p.topic()).add(p.partition()));
                    print(event);
                }
            });
            while (!stopped[0]) {
                ConsumerRecords<byte[], byte[]> batch;
                try {
                    batch = consumer.poll(Duration.ofSeconds(1));
                } catch (WakeupException wakeup) {
                    continue;
                }
                for (ConsumerRecord<byte[], byte[]> record : batch) {
                    writeRecord(output, record);
                    records++;
                }
                if (!batch.isEmpty()) {
                    output.flush();
                    print(event(id, "received").put("count", records));
                    if (commits) {
                        commitOrGoOn(consumer);
                    }
                }
            }
        }
        return JSON.createObjectNode().put("records", records);
    }

    /** A commit that fails for a rebalance or a dead broker only means that records come twice. */
    private static void commitOrGoOn(KafkaConsumer<byte[], byte[]> consumer) {
        try {
            consumer.commitSync(Duration.ofSeconds(5));
        } catch (WakeupException stopping) {
            consumer.commitSync(Duration.ofSeconds(5));
        } catch (org.apache.kafka.common.KafkaException lost) {
            System.err.println("commit failed: " + lost);
        }
    }

    private static ObjectNode stop(JsonNode command) {
        Runnable stop = STOPS.remove(command.get("target").asLong());
        if (stop == null) {
            throw new IllegalArgumentException("nothing to stop: " + command.get("target"));
        }
        stop.run();
        return JSON.createObjectNode();
    }

    // Offsets.

    private static ObjectNode listOffsets(JsonNode command) throws Exception {
        String topic = command.get("topic").asText();
        List<TopicPartition> asked = new ArrayList<>();
        command.get("partitions").forEach(p -> asked.add(new TopicPartition(topic, p.asInt())));
        ObjectNode reply = JSON.createObjectNode();
        ArrayNode offsets = reply.putArray("offsets");
        try (AdminClient admin = admin(command); KafkaConsumer<byte[], byte[]> consumer = consumer(command)) {
            Map<TopicPartition, long[]> found = Api.listOffsets(admin, consumer, asked, command.get("at").asText());
            for (TopicPartition p : asked) {
                long[] one = found.get(p);
                offsets.addObject().put("partition", p.partition()).put("offset", one[0]).put("timestamp", one[1]);
            }
        }
        return reply;
    }

    private static Map<TopicPartition, OffsetAndMetadata> offsetsOf(JsonNode command) {
        Map<TopicPartition, OffsetAndMetadata> offsets = new HashMap<>();
        for (JsonNode o : command.get("offsets")) {
            offsets.put(new TopicPartition(o.get("topic").asText(), o.get("partition").asInt()),
                new OffsetAndMetadata(o.get("offset").asLong(), Optional.empty(), o.path("metadata").asText("")));
        }
        return offsets;
    }

    private static ObjectNode commit(JsonNode command) {
        try (KafkaConsumer<byte[], byte[]> consumer = consumer(command)) {
            consumer.commitSync(offsetsOf(command));
        }
        return JSON.createObjectNode();
    }

    private static ObjectNode committed(JsonNode command) {
        String topic = command.get("topic").asText();
        Set<TopicPartition> asked = new HashSet<>();
        command.get("partitions").forEach(p -> asked.add(new TopicPartition(topic, p.asInt())));
        ObjectNode reply = JSON.createObjectNode();
        ArrayNode offsets = reply.putArray("offsets");
        try (KafkaConsumer<byte[], byte[]> consumer = consumer(command)) {
            Map<TopicPartition, OffsetAndMetadata> found = Api.committed(consumer, asked);
            for (JsonNode p : command.get("partitions")) {
                OffsetAndMetadata info = found.get(new TopicPartition(topic, p.asInt()));
                offsets.addObject().put("partition", p.asInt()).put("offset", info == null ? -1 : info.offset())
                    .put("metadata", info == null ? "" : info.metadata());
            }
        }
        return reply;
    }

    // Administration.

    private static AdminClient admin(JsonNode command) {
        Properties config = new Properties();
        config.put("bootstrap.servers", command.get("bootstrap").asText());
        config.put("default.api.timeout.ms", command.path("timeout_ms").asText("30000"));
        config.put("request.timeout.ms", "10000");
        return AdminClient.create(config);
    }

    private interface Action {
        void run() throws Exception;
    }

    private static int outcome(Action action) throws Exception {
        try {
            action.run();
            return 0;
        } catch (ExecutionException error) {
            return code(error.getCause());
        }
    }

    private static ObjectNode createTopics(JsonNode command) throws Exception {
        ObjectNode reply = JSON.createObjectNode();
        ObjectNode results = reply.putObject("results");
        try (AdminClient admin = admin(command)) {
            for (JsonNode t : command.get("topics")) {
                NewTopic topic = Api.newTopic(t.get("name").asText(), t.path("partitions").asInt(-1), (short) t.path("replication").asInt(-1));
                Map<String, String> configs = new HashMap<>();
                t.path("configs").properties().forEach(e -> configs.put(e.getKey(), e.getValue().asText()));
                topic.configs(configs);
                results.put(topic.name(), outcome(() -> admin.createTopics(List.of(topic)).all().get()));
            }
        }
        return reply;
    }

    private static ObjectNode deleteTopics(JsonNode command) throws Exception {
        ObjectNode reply = JSON.createObjectNode();
        ObjectNode results = reply.putObject("results");
        try (AdminClient admin = admin(command)) {
            for (JsonNode t : command.get("topics")) {
                results.put(t.asText(), outcome(() -> admin.deleteTopics(List.of(t.asText())).all().get()));
            }
        }
        return reply;
    }

    private static ObjectNode listTopics(JsonNode command) throws Exception {
        ObjectNode reply = JSON.createObjectNode();
        ArrayNode topics = reply.putArray("topics");
        try (AdminClient admin = admin(command)) {
            admin.listTopics().names().get().stream().sorted().forEach(topics::add);
        }
        return reply;
    }

    private static ObjectNode describeTopics(JsonNode command) throws Exception {
        ObjectNode reply = JSON.createObjectNode();
        ObjectNode topics = reply.putObject("topics");
        try (AdminClient admin = admin(command)) {
            for (JsonNode t : command.get("topics")) {
                ObjectNode told = topics.putObject(t.asText());
                ArrayNode partitions = told.putArray("partitions");
                told.put("error", outcome(() -> Api.describeTopic(admin, t.asText()).partitions().forEach(p -> {
                        ObjectNode one = partitions.addObject().put("partition", p.partition()).put("leader", p.leader().id());
                        p.replicas().stream().map(Node::id).forEach(one.putArray("replicas")::add);
                        p.isr().stream().map(Node::id).forEach(one.putArray("isr")::add);
                    })));
            }
        }
        return reply;
    }

    private static ObjectNode describeConfigs(JsonNode command) throws Exception {
        ConfigResource.Type kind = command.get("kind").asText().equals("topic") ? ConfigResource.Type.TOPIC : ConfigResource.Type.BROKER;
        ConfigResource resource = new ConfigResource(kind, command.get("name").asText());
        ObjectNode reply = JSON.createObjectNode();
        ObjectNode configs = reply.putObject("configs");
        try (AdminClient admin = admin(command)) {
            for (ConfigEntry entry : admin.describeConfigs(List.of(resource)).all().get().get(resource).entries()) {
                configs.put(entry.name(), entry.value());
            }
        }
        return reply;
    }

    private static ObjectNode describeCluster(JsonNode command) throws Exception {
        ObjectNode reply = JSON.createObjectNode();
        try (AdminClient admin = admin(command)) {
            DescribeClusterResult cluster = admin.describeCluster();
            reply.put("cluster_id", cluster.clusterId().get());
            reply.put("controller", cluster.controller().get() == null ? -1 : cluster.controller().get().id());
            ArrayNode brokers = reply.putArray("brokers");
            for (Node node : cluster.nodes().get()) {
                brokers.addObject().put("id", node.id()).put("host", node.host()).put("port", node.port());
            }
        }
        return reply;
    }

    // Changes: each is told by its answer alone, and a refusal is the answer's error.

    private interface Change {
        void make(AdminClient admin, JsonNode command, ObjectNode reply) throws Exception;
    }

    private static ObjectNode change(JsonNode command, Change change) throws Exception {
        ObjectNode reply = JSON.createObjectNode();
        try (AdminClient admin = admin(command)) {
            change.make(admin, command, reply);
        }
        return reply;
    }

    private static TopicPartition partition(JsonNode command) {
        return new TopicPartition(command.get("topic").asText(), command.get("partition").asInt());
    }

    private static void createPartitions(AdminClient admin, JsonNode command, ObjectNode reply) throws Exception {
        NewPartitions wanted = NewPartitions.increaseTo(command.get("count").asInt());
        admin.createPartitions(Map.of(command.get("topic").asText(), wanted)).all().get();
    }

    private static void deleteRecords(AdminClient admin, JsonNode command, ObjectNode reply) throws Exception {
        TopicPartition partition = partition(command);
        RecordsToDelete wanted = RecordsToDelete.beforeOffset(command.get("before").asLong());
        reply.put("low", admin.deleteRecords(Map.of(partition, wanted)).lowWatermarks().get(partition).get().lowWatermark());
    }

    private static void alterConfigs(AdminClient admin, JsonNode command, ObjectNode reply) throws Exception {
        List<ConfigEntry> entries = new ArrayList<>();
        command.get("set").properties().forEach(e -> entries.add(new ConfigEntry(e.getKey(), e.getValue().asText())));
        Api.alterConfigs(admin, new ConfigResource(ConfigResource.Type.TOPIC, command.get("topic").asText()), entries);
    }

    private static void listGroups(AdminClient admin, JsonNode command, ObjectNode reply) throws Exception {
        ArrayNode groups = reply.putArray("groups");
        admin.listConsumerGroups().all().get().forEach(group -> groups.add(group.groupId()));
    }

    private static void describeGroup(AdminClient admin, JsonNode command, ObjectNode reply) throws Exception {
        String group = command.get("group").asText();
        ConsumerGroupDescription told = admin.describeConsumerGroups(List.of(group)).all().get().get(group);
        reply.put("state", told.state().toString()).put("members", told.members().size());
    }

    private static void deleteGroup(AdminClient admin, JsonNode command, ObjectNode reply) throws Exception {
        admin.deleteConsumerGroups(List.of(command.get("group").asText())).all().get();
    }

    private static void deleteOffset(AdminClient admin, JsonNode command, ObjectNode reply) throws Exception {
        Api.deleteOffset(admin, command.get("group").asText(), partition(command));
    }

    private Driver() {}
}
