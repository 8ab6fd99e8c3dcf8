// The calls that three consoles make, in their order and with the options that they give, each printed as
// `name<TAB>what came of it`: the essential of the answer, or the class of the error. The broker is expected to hold a
// topic of three partitions with ten records in each, and a group without members at the end of all of them.
//
// Arguments: which console, bootstrap address, the name of topic and group.

import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Properties;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutionException;
import java.util.function.Function;
import java.util.stream.Collectors;
import org.apache.kafka.clients.admin.AdminClient;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.Config;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.DeleteTopicsOptions;
import org.apache.kafka.clients.admin.DescribeClusterOptions;
import org.apache.kafka.clients.admin.DescribeClusterResult;
import org.apache.kafka.clients.admin.DescribeConfigsOptions;
import org.apache.kafka.clients.admin.ListConsumerGroupOffsetsSpec;
import org.apache.kafka.clients.admin.ListTopicsOptions;
import org.apache.kafka.clients.admin.NewPartitionReassignment;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.admin.TopicDescription;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.Node;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.TopicPartitionReplica;
import org.apache.kafka.common.acl.AccessControlEntry;
import org.apache.kafka.common.acl.AccessControlEntryFilter;
import org.apache.kafka.common.acl.AclBinding;
import org.apache.kafka.common.acl.AclBindingFilter;
import org.apache.kafka.common.acl.AclOperation;
import org.apache.kafka.common.acl.AclPermissionType;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.quota.ClientQuotaAlteration;
import org.apache.kafka.common.quota.ClientQuotaEntity;
import org.apache.kafka.common.quota.ClientQuotaFilter;
import org.apache.kafka.common.resource.PatternType;
import org.apache.kafka.common.resource.ResourcePattern;
import org.apache.kafka.common.resource.ResourcePatternFilter;
import org.apache.kafka.common.resource.ResourceType;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

public final class Consoles {
    private static final int PARTITIONS = 3;

    private final AdminClient admin;
    private final String name;
    private final String bootstrap;
    private int broker;

    private Consoles(String bootstrap, String name) {
        this.bootstrap = bootstrap;
        this.name = name;
        Properties settings = new Properties();
        settings.put("bootstrap.servers", bootstrap);
        admin = AdminClient.create(settings);
    }

    public static void main(String[] args) {
        Consoles consoles = new Consoles(args[1], args[2]);
        switch (args[0]) {
            case "kafbat": consoles.kafbat(); break;
            case "akhq": consoles.akhq(); break;
            case "kafdrop": consoles.kafdrop(); break;
            default: throw new IllegalArgumentException(args[0]);
        }
        System.out.println("end\tok");
        Runtime.getRuntime().halt(0);
    }

    private void step(String name, Callable<Object> call) {
        String result;
        try {
            result = "ok " + call.call();
        } catch (Throwable error) {
            Throwable cause = error;
            while (cause instanceof ExecutionException && cause.getCause() != null) {
                cause = cause.getCause();
            }
            result = cause.getClass().getSimpleName();
            if (cause instanceof RuntimeException && !cause.getClass().getName().contains("kafka")) {
                result += " " + cause.getMessage();
            }
        }
        System.out.println(name + "\t" + result);
    }

    private List<TopicPartition> partitions() {
        List<TopicPartition> partitions = new ArrayList<>();
        for (int i = 0; i < PARTITIONS; i++) {
            partitions.add(new TopicPartition(name, i));
        }
        return partitions;
    }

    private <T> Map<TopicPartition, T> each(Function<TopicPartition, T> value) {
        return partitions().stream().collect(Collectors.toMap(Function.identity(), value));
    }

    private static ConfigResource topic(String name) {
        return new ConfigResource(ConfigResource.Type.TOPIC, name);
    }

    private KafkaConsumer<byte[], byte[]> consumer(String... more) {
        Properties settings = new Properties();
        settings.put("bootstrap.servers", bootstrap);
        settings.put("enable.auto.commit", "false");
        settings.put("auto.offset.reset", "earliest");
        for (int i = 0; i < more.length; i += 2) {
            settings.put(more[i], more[i + 1]);
        }
        return new KafkaConsumer<>(settings, new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    private static int read(KafkaConsumer<byte[], byte[]> consumer, int wanted) {
        int count = 0;
        for (int polls = 0; count < wanted && polls < 20; polls++) {
            for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(500))) {
                count += record.value().length > 0 ? 1 : 0;
            }
        }
        return count;
    }

    private Object cluster(DescribeClusterOptions options) throws Exception {
        DescribeClusterResult result = admin.describeCluster(options);
        Node controller = result.controller().get();
        Collection<Node> nodes = result.nodes().get();
        broker = controller.id();
        boolean told = nodes.contains(controller) && !result.clusterId().get().isEmpty();
        return nodes.size() + " " + told + " " + (result.authorizedOperations().get() != null);
    }

    private static Object entries(Config config, String... names) {
        Map<String, String> found = new TreeMap<>();
        for (String name : names) {
            ConfigEntry entry = config.get(name);
            found.put(name, entry == null ? "absent" : entry.value() + "/" + entry.source() + "/" + entry.isSensitive()
                + "/" + entry.isReadOnly() + "/" + (entry.documentation() != null));
        }
        return found;
    }

    private Object logDirs() throws Exception {
        var dirs = admin.describeLogDirs(List.of(broker)).allDescriptions().get().get(broker);
        long sized = dirs.values().stream().flatMap(dir -> dir.replicaInfos().entrySet().stream())
            .filter(entry -> entry.getKey().topic().equals(name) && entry.getValue().size() > 0).count();
        boolean volume = dirs.values().stream().allMatch(dir -> dir.error() == null && dir.totalBytes().getAsLong() > 0);
        return dirs.size() + " " + sized + " " + volume;
    }

    private Object groups() throws Exception {
        return admin.listConsumerGroups().all().get().stream().filter(group -> group.groupId().equals(name))
            .map(group -> group.state() + " " + group.isSimpleConsumerGroup()).collect(Collectors.toList());
    }

    private Object group() throws Exception {
        var group = admin.describeConsumerGroups(List.of(name)).all().get().get(name);
        return group.state() + " " + group.members().size() + " " + (group.coordinator().id() == broker);
    }

    private void acls() {
        step("acls", () -> admin.describeAcls(AclBindingFilter.ANY).values().get());
    }

    private void createAcl() {
        step("create acl", () -> admin.createAcls(List.of(new AclBinding(
            new ResourcePattern(ResourceType.TOPIC, name, PatternType.LITERAL),
            new AccessControlEntry("User:me", "*", AclOperation.READ, AclPermissionType.ALLOW)))).all().get());
    }

    private void send(String topic, int partition) {
        step("send", () -> {
            Map<String, Object> settings = Map.of("bootstrap.servers", bootstrap);
            try (var producer = new KafkaProducer<>(settings, new ByteArraySerializer(), new ByteArraySerializer())) {
                return producer.send(new ProducerRecord<>(topic, partition, "k".getBytes(), "v".getBytes())).get().offset();
            }
        });
    }

    // ReactiveAdminClient of kafbat UI, in the order of its start, its background refresh and its pages.
    private void kafbat() {
        step("start: cluster", () -> cluster(new DescribeClusterOptions().includeAuthorizedOperations(false)));
        step("start: broker settings", () -> {
            ConfigResource resource = new ConfigResource(ConfigResource.Type.BROKER, Integer.toString(broker));
            Config config = admin.describeConfigs(List.of(resource)).all().get().get(resource);
            return entries(config, "delete.topic.enable", "num.partitions");
        });
        step("start: features", () -> {
            var version = admin.describeFeatures().featureMetadata().get().finalizedFeatures().get("metadata.version");
            return version.maxVersionLevel() >= 7;
        });
        acls();
        step("cluster with operations", () -> cluster(new DescribeClusterOptions().includeAuthorizedOperations(true)));
        step("topics", () -> admin.listTopics(new ListTopicsOptions().listInternal(true)).names().get().contains(name));
        step("describe topics", () -> {
            Set<String> names = admin.listTopics(new ListTopicsOptions().listInternal(true)).names().get();
            Map<String, TopicDescription> all = new HashMap<>();
            for (var entry : admin.describeTopics(names).topicNameValues().entrySet()) {
                all.put(entry.getKey(), entry.getValue().get());
            }
            TopicDescription told = all.get(name);
            return told.partitions().size() + " " + told.isInternal() + " " + told.topicId().toString().isEmpty();
        });
        step("topic settings", () -> {
            var options = new DescribeConfigsOptions().includeSynonyms(true).includeDocumentation(true);
            Config config = admin.describeConfigs(List.of(topic(name)), options).values().get(topic(name)).get();
            int synonyms = config.get("max.message.bytes").synonyms().size();
            return synonyms + " " + entries(config, "cleanup.policy", "retention.ms", "max.message.bytes", "segment.bytes");
        });
        step("settings of no topic", () -> admin.describeConfigs(List.of(topic("console.none"))).values()
            .get(topic("console.none")).get());
        step("log dirs", this::logDirs);
        for (OffsetSpec spec : List.of(OffsetSpec.earliest(), OffsetSpec.latest(), OffsetSpec.maxTimestamp(),
                OffsetSpec.forTimestamp(1))) {
            step("offsets " + spec.getClass().getSimpleName(), () -> {
                var result = admin.listOffsets(each(partition -> spec));
                List<Long> offsets = new ArrayList<>();
                for (TopicPartition partition : partitions()) {
                    offsets.add(result.partitionResult(partition).get().offset());
                }
                return offsets;
            });
        }
        step("groups", this::groups);
        step("group", this::group);
        step("group offsets", () -> new TreeMap<>(admin.listConsumerGroupOffsets(
            Map.of(name, new ListConsumerGroupOffsetsSpec().topicPartitions(null), "console.nobody",
                new ListConsumerGroupOffsetsSpec().topicPartitions(null))).all().get().entrySet().stream()
            .collect(Collectors.toMap(Map.Entry::getKey, entry -> entry.getValue().values().stream()
                .map(OffsetAndMetadata::offset).sorted().collect(Collectors.toList())))));
        step("move group", () -> admin.alterConsumerGroupOffsets(name, each(p -> new OffsetAndMetadata(3))).all().get());
        step("delete group offsets",
            () -> admin.deleteConsumerGroupOffsets(name, Set.of(new TopicPartition(name, 2))).all().get());
        step("quotas", () -> admin.describeClientQuotas(ClientQuotaFilter.all()).entities().get());
        step("quorum", () -> {
            var quorum = admin.describeMetadataQuorum().quorumInfo().get();
            return (quorum.leaderId() == broker) + " " + quorum.voters().size() + " " + quorum.observers().size();
        });
        step("producers", () -> admin.describeProducers(partitions()).all().get().values().stream()
            .mapToInt(state -> state.activeProducers().size()).sum() > 0);
        step("read", () -> {
            try (var consumer = consumer()) {
                consumer.assign(partitions());
                var begins = consumer.beginningOffsets(partitions());
                var ends = consumer.endOffsets(partitions());
                begins.forEach(consumer::seek);
                return ends.values().stream().mapToLong(Long::longValue).sum() + " " + read(consumer, 30);
            }
        });
        step("read from a time", () -> {
            try (var consumer = consumer()) {
                consumer.assign(partitions());
                consumer.offsetsForTimes(each(partition -> 1L)).forEach((p, at) -> consumer.seek(p, at.offset()));
                return read(consumer, 30);
            }
        });
        String made = name + ".made";
        step("create topic", () -> admin.createTopics(List.of(new NewTopic(made, Optional.of(2), Optional.of((short) 1))
            .configs(Map.of("cleanup.policy", "delete", "retention.ms", "604800000")))).all().get());
        step("create topic again", () -> admin.createTopics(List.of(new NewTopic(made, 2, (short) 1))).all().get());
        step("add partitions", () -> admin.createPartitions(Map.of(made, NewPartitions.increaseTo(3))).all().get());
        step("change settings", () -> admin.incrementalAlterConfigs(Map.of(topic(made), List.of(
            new AlterConfigOp(new ConfigEntry("retention.ms", "1000"), AlterConfigOp.OpType.SET),
            new AlterConfigOp(new ConfigEntry("cleanup.policy", ""), AlterConfigOp.OpType.DELETE)))).all().get());
        step("changed settings", () -> entries(admin.describeConfigs(List.of(topic(made))).all().get().get(topic(made)),
            "retention.ms", "cleanup.policy"));
        // What it does where it does not know the broker's version.
        step("change settings, the older way", () -> alterConfigs(made, "retention.ms", "2000"));
        step("changed settings", () -> entries(admin.describeConfigs(List.of(topic(made))).all().get().get(topic(made)),
            "retention.ms", "cleanup.policy"));
        step("reassign", () -> admin.alterPartitionReassignments(Map.of(new TopicPartition(made, 0),
            Optional.of(new NewPartitionReassignment(List.of(broker))))).all().get());
        step("reassign to nobody", () -> admin.alterPartitionReassignments(Map.of(new TopicPartition(made, 0),
            Optional.of(new NewPartitionReassignment(List.of(4711))))).all().get());
        step("reassignments", () -> admin.listPartitionReassignments(Set.of(new TopicPartition(made, 0))).reassignments().get());
        step("move to no dir", () -> admin.alterReplicaLogDirs(Map.of(new TopicPartitionReplica(made, 0, broker), "/none"))
            .all().get());
        send(made, 1);
        step("delete records", () -> admin.deleteRecords(Map.of(new TopicPartition(made, 1), RecordsToDelete.beforeOffset(-1)))
            .lowWatermarks().get(new TopicPartition(made, 1)).get().lowWatermark());
        step("delete topic", () -> admin.deleteTopics(List.of(made)).all().get());
        step("delete no topic", () -> admin.deleteTopics(List.of("console.none")).all().get());
        step("delete no group", () -> admin.deleteConsumerGroups(List.of("console.nobody")).all().get());
        step("delete group", () -> admin.deleteConsumerGroups(List.of(name)).all().get());
        step("groups", this::groups);
        createAcl();
        step("delete acl", () -> admin.deleteAcls(Set.of(AclBindingFilter.ANY)).all().get());
        step("change quotas", () -> {
            var client = new ClientQuotaEntity(Map.of(ClientQuotaEntity.CLIENT_ID, name));
            var limit = new ClientQuotaAlteration.Op("producer_byte_rate", 1e6);
            return admin.alterClientQuotas(List.of(new ClientQuotaAlteration(client, List.of(limit)))).all().get();
        });
    }

    // AbstractKafkaWrapper and RecordRepository of AKHQ.
    private void akhq() {
        step("cluster", () -> cluster(new DescribeClusterOptions()));
        step("topics", () -> admin.listTopics(new ListTopicsOptions().listInternal(true)).listings().get().stream()
            .filter(listing -> listing.name().equals(name)).map(listing -> listing.isInternal()).collect(Collectors.toList()));
        step("describe topic", () -> admin.describeTopics(List.of(name)).allTopicNames().get().get(name).partitions().size());
        step("topic offsets", () -> {
            try (var consumer = consumer()) {
                // It asks for time 0 where others ask for the beginning.
                var begins = consumer.offsetsForTimes(each(partition -> 0L));
                long sum = begins.values().stream().mapToLong(at -> at.offset()).sum();
                return sum + " " + new TreeSet<>(consumer.endOffsets(partitions()).values());
            }
        });
        step("log dirs", this::logDirs);
        step("groups", this::groups);
        step("group", this::group);
        step("group offsets", () -> admin.listConsumerGroupOffsets(name).partitionsToOffsetAndMetadata().get().values().stream()
            .map(OffsetAndMetadata::offset).sorted().collect(Collectors.toList()));
        step("broker settings", () -> {
            ConfigResource resource = new ConfigResource(ConfigResource.Type.BROKER, Integer.toString(broker));
            return entries(admin.describeConfigs(List.of(resource)).all().get().get(resource), "num.partitions");
        });
        step("topic settings", () -> entries(admin.describeConfigs(List.of(topic(name))).all().get().get(topic(name)),
            "cleanup.policy", "retention.ms"));
        step("acls", () -> admin.describeAcls(new AclBindingFilter(ResourcePatternFilter.ANY, AccessControlEntryFilter.ANY))
            .values().get());
        step("tail", () -> {
            try (var consumer = consumer("max.poll.records", "50")) {
                consumer.assign(partitions());
                consumer.endOffsets(consumer.assignment()).forEach((p, end) -> consumer.seek(p, Math.max(0, end - 2)));
                return read(consumer, 6);
            }
        });
        step("move group", () -> {
            // It commits as a member of the group would, without joining.
            try (var consumer = consumer("group.id", name)) {
                consumer.commitSync(each(partition -> new OffsetAndMetadata(4)));
                return "";
            }
        });
        step("delete group offsets",
            () -> admin.deleteConsumerGroupOffsets(name, Set.of(new TopicPartition(name, 2))).all().get());
        String made = name + ".made";
        step("create topic", () -> admin.createTopics(Set.of(new NewTopic(made, 2, (short) 1).configs(Map.of()))).all().get());
        step("add partitions", () -> admin.createPartitions(Map.of(made, NewPartitions.increaseTo(4))).all().get());
        step("change settings", () -> alterConfigs(made, "retention.ms", "1000"));
        step("changed settings", () -> entries(admin.describeConfigs(List.of(topic(made))).all().get().get(topic(made)),
            "retention.ms"));
        step("change to nonsense", () -> alterConfigs(made, "retention.ms", "soon"));
        send(made, 0);
        step("empty topic", () -> admin.deleteRecords(Map.of(new TopicPartition(made, 0), RecordsToDelete.beforeOffset(1)))
            .lowWatermarks().get(new TopicPartition(made, 0)).get().lowWatermark());
        step("delete topic", () -> admin.deleteTopics(Set.of(made)).all().get());
        step("delete no group", () -> admin.deleteConsumerGroups(Set.of("console.nobody")).all().get());
        step("delete group", () -> admin.deleteConsumerGroups(Set.of(name)).all().get());
        step("groups", this::groups);
    }

    @SuppressWarnings("deprecation")
    private Object alterConfigs(String topic, String key, String value) throws Exception {
        return admin.alterConfigs(Map.of(topic(topic), new Config(List.of(new ConfigEntry(key, value))))).all().get();
    }

    // KafkaHighLevelAdminClient and KafkaHighLevelConsumer of Kafdrop.
    private void kafdrop() {
        step("cluster", () -> cluster(new DescribeClusterOptions()));
        step("topics", () -> {
            try (var consumer = consumer("client.id", "kafdrop-consumer", "isolation.level", "read_committed")) {
                return consumer.listTopics().get(name).size();
            }
        });
        step("topic settings", () -> entries(admin.describeConfigs(List.of(topic(name))).all().get().get(topic(name)),
            "cleanup.policy", "retention.ms"));
        step("groups", () -> admin.listConsumerGroups().valid().get().stream().anyMatch(g -> g.groupId().equals(name)));
        step("group offsets", () -> admin.listConsumerGroupOffsets(name).partitionsToOffsetAndMetadata().get().values().stream()
            .map(OffsetAndMetadata::offset).sorted().collect(Collectors.toList()));
        acls();
        step("sizes", () -> {
            try (var consumer = consumer("client.id", "kafdrop-consumer", "isolation.level", "read_committed")) {
                consumer.assign(partitions());
                return new TreeSet<>(consumer.beginningOffsets(partitions()).values()) + " "
                    + new TreeSet<>(consumer.endOffsets(partitions()).values());
            }
        });
        step("read", () -> {
            try (var consumer = consumer("client.id", "kafdrop-consumer", "isolation.level", "read_committed",
                    "max.poll.records", "100")) {
                List<TopicPartition> one = List.of(new TopicPartition(name, 0));
                consumer.assign(one);
                consumer.seek(one.get(0), 4);
                return read(consumer, 6);
            }
        });
        step("search from a time", () -> {
            try (var consumer = consumer("isolation.level", "read_committed")) {
                List<TopicPartition> all = consumer.partitionsFor(name).stream()
                    .map(told -> new TopicPartition(told.topic(), told.partition())).collect(Collectors.toList());
                consumer.assign(all);
                consumer.offsetsForTimes(each(partition -> 1L)).forEach((p, at) -> consumer.seek(p, at.offset()));
                return read(consumer, 30);
            }
        });
        String made = name + ".made";
        step("create topic", () -> admin.createTopics(List.of(new NewTopic(made, 2, (short) 1))).all().get());
        send(made, 0);
        step("delete topic", () -> admin.deleteTopics(List.of(made), new DeleteTopicsOptions().timeoutMs(5000)).all().get());
        createAcl();
    }
}
