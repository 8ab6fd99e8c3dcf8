// The calls of the Java client that its oldest version has otherwise (../old/Api.java) or not at all.

import java.util.Collection;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import org.apache.kafka.clients.admin.AdminClient;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.TopicDescription;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;

final class Api {
    /** Offset and timestamp of each partition. */
    static Map<TopicPartition, long[]> listOffsets(AdminClient admin, KafkaConsumer<byte[], byte[]> consumer,
                                                   Collection<TopicPartition> partitions, String at) throws Exception {
        OffsetSpec spec = switch (at) {
            case "earliest" -> OffsetSpec.earliest();
            case "latest" -> OffsetSpec.latest();
            case "max-timestamp" -> OffsetSpec.maxTimestamp();
            default -> OffsetSpec.forTimestamp(Long.parseLong(at));
        };
        Map<TopicPartition, OffsetSpec> asked = new HashMap<>();
        partitions.forEach(p -> asked.put(p, spec));
        Map<TopicPartition, long[]> found = new HashMap<>();
        admin.listOffsets(asked).all().get().forEach((p, info) -> found.put(p, new long[] {info.offset(), info.timestamp()}));
        return found;
    }

    static Map<TopicPartition, OffsetAndMetadata> committed(KafkaConsumer<byte[], byte[]> consumer, Collection<TopicPartition> asked) {
        return consumer.committed(new HashSet<>(asked));
    }

    /** A negative number is left to the broker. */
    static NewTopic newTopic(String name, int partitions, short replication) {
        return new NewTopic(name, partitions < 0 ? Optional.empty() : Optional.of(partitions),
            replication < 0 ? Optional.empty() : Optional.of(replication));
    }

    static TopicDescription describeTopic(AdminClient admin, String name) throws Exception {
        return admin.describeTopics(List.of(name)).allTopicNames().get().get(name);
    }

    static void alterConfigs(AdminClient admin, ConfigResource resource, Collection<ConfigEntry> entries) throws Exception {
        List<AlterConfigOp> set = entries.stream().map(e -> new AlterConfigOp(e, AlterConfigOp.OpType.SET)).toList();
        admin.incrementalAlterConfigs(Map.of(resource, set)).all().get();
    }

    static void deleteOffset(AdminClient admin, String group, TopicPartition partition) throws Exception {
        admin.deleteConsumerGroupOffsets(group, Set.of(partition)).all().get();
    }

    static void sendOffsets(KafkaProducer<byte[], byte[]> producer, KafkaConsumer<byte[], byte[]> consumer,
                            Map<TopicPartition, OffsetAndMetadata> offsets, String group) {
        producer.sendOffsetsToTransaction(offsets, consumer.groupMetadata());
    }

    private Api() {}
}
