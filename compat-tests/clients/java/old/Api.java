// The calls of ../new/Api.java as the oldest Java client has them.

import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.admin.AdminClient;
import org.apache.kafka.clients.admin.Config;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.TopicDescription;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;

final class Api {
    /** Its admin client lists no offsets; its consumer does. */
    static Map<TopicPartition, long[]> listOffsets(AdminClient admin, KafkaConsumer<byte[], byte[]> consumer,
                                                   Collection<TopicPartition> partitions, String at) {
        Map<TopicPartition, long[]> found = new HashMap<>();
        switch (at) {
            case "earliest" -> consumer.beginningOffsets(partitions).forEach((p, offset) -> found.put(p, new long[] {offset, -1}));
            case "latest" -> consumer.endOffsets(partitions).forEach((p, offset) -> found.put(p, new long[] {offset, -1}));
            default -> {
                Map<TopicPartition, Long> asked = new HashMap<>();
                partitions.forEach(p -> asked.put(p, Long.parseLong(at)));
                consumer.offsetsForTimes(asked).forEach((p, info) ->
                    found.put(p, info == null ? new long[] {-1, -1} : new long[] {info.offset(), info.timestamp()}));
            }
        }
        return found;
    }

    static Map<TopicPartition, OffsetAndMetadata> committed(KafkaConsumer<byte[], byte[]> consumer, Collection<TopicPartition> asked) {
        Map<TopicPartition, OffsetAndMetadata> found = new HashMap<>();
        asked.forEach(p -> found.put(p, consumer.committed(p)));
        return found;
    }

    static NewTopic newTopic(String name, int partitions, short replication) {
        return new NewTopic(name, partitions, replication);
    }

    static TopicDescription describeTopic(AdminClient admin, String name) throws Exception {
        return admin.describeTopics(List.of(name)).all().get().get(name);
    }

    /** It knows the call alone that replaces all settings. */
    static void alterConfigs(AdminClient admin, ConfigResource resource, Collection<ConfigEntry> entries) throws Exception {
        admin.alterConfigs(Map.of(resource, new Config(entries))).all().get();
    }

    static void deleteOffset(AdminClient admin, String group, TopicPartition partition) {
        throw new UnsupportedOperationException("there is no such call");
    }

    static void sendOffsets(KafkaProducer<byte[], byte[]> producer, KafkaConsumer<byte[], byte[]> consumer,
                            Map<TopicPartition, OffsetAndMetadata> offsets, String group) {
        producer.sendOffsetsToTransaction(offsets, group);
    }

    private Api() {}
}
