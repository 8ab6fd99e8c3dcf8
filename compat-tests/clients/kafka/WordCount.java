// Counts words with Kafka Streams: as many as it is told to, then it stops cleanly. A word is a run of
// ASCII letters, digits and underscores in lower case, whatever the bytes around it are.
//
// Arguments: bootstrap address, application id, input topic, output topic, state directory, number of words to count,
// processing guarantee.

import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Properties;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicReference;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.kstream.Repartitioned;
import org.apache.kafka.streams.state.KeyValueStore;

public final class WordCount {
    private static final int TIMEOUT_SECONDS = 60;

    public static void main(String[] args) throws Exception {
        CountDownLatch uncounted = new CountDownLatch(Integer.parseInt(args[5]));
        AtomicReference<Throwable> failure = new AtomicReference<>();
        StreamsBuilder builder = new StreamsBuilder();
        Materialized<String, Long, KeyValueStore<Bytes, byte[]>> counts = Materialized.as("counts");
        builder.stream(args[2], Consumed.with(Serdes.ByteArray(), Serdes.ByteArray()))
            .flatMapValues(WordCount::words)
            .selectKey((key, word) -> word)
            .repartition(Repartitioned.with(Serdes.String(), Serdes.String()))
            .peek((key, word) -> uncounted.countDown())
            .groupByKey(Grouped.with(Serdes.String(), Serdes.String()))
            .count(counts.withKeySerde(Serdes.String()).withValueSerde(Serdes.Long()))
            .toStream()
            .mapValues(count -> Long.toString(count))
            .to(args[3], Produced.with(Serdes.String(), Serdes.String()));
        Properties settings = new Properties();
        settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, args[0]);
        settings.put(StreamsConfig.APPLICATION_ID_CONFIG, args[1]);
        settings.put(StreamsConfig.STATE_DIR_CONFIG, args[4]);
        settings.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, args[6]);
        settings.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, 2);
        settings.put(StreamsConfig.REPLICATION_FACTOR_CONFIG, 1);
        settings.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, 500);
        settings.put(StreamsConfig.consumerPrefix("auto.offset.reset"), "earliest");
        // Streams does not leave its group, so the next life waits until the broker has missed the last one: the least.
        settings.put(StreamsConfig.consumerPrefix("session.timeout.ms"), 6000);
        settings.put(StreamsConfig.consumerPrefix("heartbeat.interval.ms"), 2000);
        try (KafkaStreams streams = new KafkaStreams(builder.build(), settings)) {
            streams.setUncaughtExceptionHandler(thrown -> {
                failure.set(thrown);
                return StreamThreadExceptionResponse.SHUTDOWN_CLIENT;
            });
            streams.start();
            boolean counted = uncounted.await(TIMEOUT_SECONDS, TimeUnit.SECONDS);
            boolean closed = streams.close(Duration.ofSeconds(TIMEOUT_SECONDS));
            if (failure.get() != null || !counted || !closed) {
                throw new IllegalStateException(uncounted.getCount() + " words were not counted", failure.get());
            }
        }
    }

    private static List<String> words(byte[] line) {
        List<String> words = new ArrayList<>();
        int begin = -1;
        for (int i = 0; i <= line.length; i++) {
            boolean inside = i < line.length
                && (line[i] == '_' || line[i] >= '0' && line[i] <= '9'
                    || (line[i] | 0x20) >= 'a' && (line[i] | 0x20) <= 'z' && line[i] > 0);
            if (inside && begin < 0) {
                begin = i;
            } else if (!inside && begin >= 0) {
                String word = new String(line, begin, i - begin, StandardCharsets.US_ASCII);
                words.add(word.toLowerCase(java.util.Locale.ROOT));
                begin = -1;
            }
        }
        return words;
    }
}
