// The transactional copier of ../README.md on Kafka's own client.

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.TreeMap;
import java.util.concurrent.atomic.AtomicLong;
import java.util.function.Consumer;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.AuthorizationException;
import org.apache.kafka.common.errors.OutOfOrderSequenceException;
import org.apache.kafka.common.errors.ProducerFencedException;
import org.apache.kafka.common.errors.TimeoutException;
import org.apache.kafka.common.errors.UnsupportedVersionException;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

final class Copier implements AutoCloseable {
    private static final ObjectMapper JSON = new ObjectMapper();

    private final JsonNode command;
    private final Consumer<ObjectNode> print;
    private final AtomicLong last = new AtomicLong();
    private final String producerId;
    private final String group;
    private final String topic;
    private final KafkaProducer<byte[], byte[]> producer;
    private final KafkaConsumer<byte[], byte[]> consumer;
    private long generation;
    private long copies;
    private long txns;
    private volatile boolean stopped;

    Copier(JsonNode command, Consumer<ObjectNode> print) {
        this.command = command;
        this.print = print;
        producerId = command.get("transactional_id").asText();
        group = command.get("group").asText();
        topic = command.get("topic").asText();
        Properties common = new Properties();
        common.put("bootstrap.servers", command.get("bootstrap").asText());
        common.put("reconnect.backoff.ms", "20");
        common.put("reconnect.backoff.max.ms", "250");
        common.put("request.timeout.ms", "10000");
        Properties producing = new Properties();
        producing.putAll(common);
        producing.put("transactional.id", producerId);
        producing.put("transaction.timeout.ms", "60000");
        producing.put("max.block.ms", "10000");
        producing.put("delivery.timeout.ms", "60000");
        producing.put("linger.ms", "0");
        producer = new KafkaProducer<>(producing, new ByteArraySerializer(), new ByteArraySerializer());
        Properties consuming = new Properties();
        consuming.putAll(common);
        consuming.put("group.id", group);
        consuming.put("group.instance.id", command.get("instance_id").asText());
        int session = command.path("session_timeout_ms").asInt(10_000);
        consuming.put("session.timeout.ms", String.valueOf(session));
        consuming.put("heartbeat.interval.ms", String.valueOf(Math.max(session / 5, 100)));
        consuming.put("isolation.level", "read_committed");
        consuming.put("enable.auto.commit", "false");
        consuming.put("auto.offset.reset", "earliest");
        consuming.put("fetch.max.wait.ms", "100");
        consuming.put("max.poll.records", command.get("batch").asText());
        consuming.put("partition.assignment.strategy", "org.apache.kafka.clients.consumer.RangeAssignor");
        consumer = new KafkaConsumer<>(consuming, new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    void stop() {
        stopped = true;
    }

    @Override
    public void close() {
        consumer.close();
        producer.close();
    }

    ObjectNode run() {
        long op = begin("init", JSON.createObjectNode().put("producer", producerId));
        patiently(producer::initTransactions);
        end(op, "ok", JSON.createObjectNode());
        consumer.subscribe(List.of(topic), new ConsumerRebalanceListener() {
            public void onPartitionsAssigned(Collection<TopicPartition> added) {
                generation++;
                committed(added);
            }

            public void onPartitionsRevoked(Collection<TopicPartition> gone) {}
        });
        while (!stopped) {
            step();
        }
        return JSON.createObjectNode().put("copies", copies);
    }

    /** Copies one batch, if there is one. */
    private void step() {
        long begun = now();
        ConsumerRecords<byte[], byte[]> batch = consumer.poll(Duration.ofMillis(200));
        if (batch.isEmpty()) {
            return;
        }
        txns++;
        String txn = producerId + "#" + command.get("process").asText() + "." + txns;
        Map<TopicPartition, OffsetAndMetadata> next = new java.util.HashMap<>();
        for (TopicPartition p : batch.partitions()) {
            ObjectNode poll = JSON.createObjectNode().put("topic", p.topic()).put("partition", p.partition())
                .put("isolation", "read_committed").put("mode", "subscribe").put("generation", generation).put("txn", txn);
            ArrayNode records = poll.putArray("records");
            for (ConsumerRecord<byte[], byte[]> record : batch.records(p)) {
                records.addArray().add(record.offset()).add(text(record.value()));
                next.put(p, new OffsetAndMetadata(record.offset() + 1));
            }
            told("poll", begun, poll);
        }
        producer.beginTransaction();
        try {
            for (ConsumerRecord<byte[], byte[]> record : batch) {
                send(txn, record);
            }
            offsets(txn, next);
            ObjectNode end = JSON.createObjectNode().put("txn", txn).put("commit", true).put("producer", producerId);
            long ended = begin("end", end);
            patiently(producer::commitTransaction);
            end(ended, "ok", JSON.createObjectNode());
        } catch (ProducerFencedException | OutOfOrderSequenceException | AuthorizationException | UnsupportedVersionException fatal) {
            throw fatal;
        } catch (KafkaException error) {
            System.err.println("aborting: " + error);
            abort(txn);
        }
    }

    private void abort(String txn) {
        long op = begin("end", JSON.createObjectNode().put("txn", txn).put("commit", false).put("producer", producerId));
        patiently(producer::abortTransaction);
        end(op, "ok", JSON.createObjectNode());
        // Where it goes on is where it was before.
        generation++;
        committed(consumer.assignment()).forEach((p, offset) -> {
            if (offset < 0) {
                consumer.seekToBeginning(List.of(p));
            } else {
                consumer.seek(p, offset);
            }
        });
    }

    /** Where the group stands; −1 for nowhere. */
    private Map<TopicPartition, Long> committed(Collection<TopicPartition> partitions) {
        Map<TopicPartition, Long> offsets = new TreeMap<>(java.util.Comparator.comparing(TopicPartition::toString));
        long begun = now();
        Map<TopicPartition, OffsetAndMetadata> found = Api.committed(consumer, partitions);
        for (TopicPartition p : partitions) {
            long offset = found.get(p) == null ? -1 : found.get(p).offset();
            offsets.put(p, offset);
            told("fetch_offset", begun, JSON.createObjectNode().put("group", group).put("topic", p.topic())
                .put("partition", p.partition()).put("offset", offset));
        }
        return offsets;
    }

    private void send(String txn, ConsumerRecord<byte[], byte[]> record) {
        copies++;
        int to = (int) (copies % command.get("output_partitions").asInt());
        String input = text(record.value());
        String value = input + "~" + command.get("process").asText() + "." + copies;
        String output = command.get("output").asText();
        long op = begin("send", JSON.createObjectNode().put("topic", output).put("partition", to).put("value", value)
            .put("txn", txn).put("producer", producerId).put("input", input));
        producer.send(new ProducerRecord<>(output, to, record.key(), value.getBytes(StandardCharsets.UTF_8)), (metadata, error) -> {
            if (error == null) {
                end(op, "ok", JSON.createObjectNode().put("offset", metadata.offset()));
            } else {
                System.err.println("not produced: " + error);
                end(op, "info", JSON.createObjectNode());
            }
        });
    }

    private void offsets(String txn, Map<TopicPartition, OffsetAndMetadata> next) {
        List<Long> ops = new ArrayList<>();
        next.forEach((p, offset) -> ops.add(begin("commit_offset", JSON.createObjectNode().put("group", group)
            .put("topic", p.topic()).put("partition", p.partition()).put("offset", offset.offset()).put("txn", txn))));
        patiently(() -> Api.sendOffsets(producer, consumer, next, group));
        ops.forEach(op -> end(op, "ok", JSON.createObjectNode()));
    }

    /** Calls again for as long as the answer only does not come. */
    private static void patiently(Runnable call) {
        while (true) {
            try {
                call.run();
                return;
            } catch (TimeoutException late) {
                System.err.println("again: " + late);
            }
        }
    }

    private static String text(byte[] value) {
        return new String(value, StandardCharsets.UTF_8);
    }

    // The lines of the history.

    private static long now() {
        Instant now = Instant.now();
        return now.getEpochSecond() * 1_000_000 + now.getNano() / 1000;
    }

    private void line(ObjectNode line, long op, String type) {
        line.put("id", command.get("id").asLong()).put("event", "history").put("op", op).put("type", type).put("t", now());
        print.accept(line);
    }

    private long begin(String f, ObjectNode more) {
        long op = last.incrementAndGet();
        line(more.put("f", f), op, "invoke");
        return op;
    }

    private void end(long op, String type, ObjectNode more) {
        line(more, op, type);
    }

    private void told(String f, long begun, ObjectNode more) {
        line(more.put("f", f).put("t_invoke", begun), last.incrementAndGet(), "ok");
    }
}
