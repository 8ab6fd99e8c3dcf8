// Wraps franz-go behind the contract of ../README.md.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sort"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

var franzGo = ops{
	"hello": hello("franz-go", "github.com/twmb/franz-go"), "produce": produce, "consume": consume, "group": group, "copy": copyAll,
	"list_offsets": listOffsets, "commit": commit, "committed": committed,
	"create_topics": createTopics, "delete_topics": deleteTopics, "list_topics": listTopics,
	"describe_topics": describeTopics, "describe_configs": describeConfigs, "describe_cluster": describeCluster,
	"create_partitions": createPartitions, "delete_records": deleteRecords, "alter_configs": alterConfigs,
	"list_groups": listGroups, "describe_group": describeGroup, "delete_group": deleteGroup, "delete_offset": deleteOffset,
}

func client(c *command, more ...kgo.Opt) *kgo.Client {
	options := append([]kgo.Opt{
		kgo.SeedBrokers(c.Bootstrap),
		kgo.RetryBackoffFn(func(int) time.Duration { return 100 * time.Millisecond }),
		kgo.MetadataMinAge(100 * time.Millisecond),
	}, more...)
	made, err := kgo.NewClient(options...)
	must(err)
	return made
}

// Producing.

// chosen keeps a partition that the record names and otherwise partitions as the Java client does.
func chosen() kgo.Partitioner {
	inner := kgo.StickyKeyPartitioner(nil)
	return kgo.BasicConsistentPartitioner(func(topic string) func(*kgo.Record, int) int {
		byKey := inner.ForTopic(topic)
		return func(r *kgo.Record, n int) int {
			if r.Partition >= 0 {
				return int(r.Partition)
			}
			return byKey.Partition(r, n)
		}
	})
}

func produce(c *command) facts {
	codec := map[string]kgo.CompressionCodec{
		"": kgo.NoCompression(), "none": kgo.NoCompression(), "gzip": kgo.GzipCompression(),
		"snappy": kgo.SnappyCompression(), "lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
	}[c.Codec]
	acks := map[string]kgo.Acks{"": kgo.AllISRAcks(), "all": kgo.AllISRAcks(), "1": kgo.LeaderAck(), "0": kgo.NoAck()}[c.Acks]
	options := []kgo.Opt{
		kgo.RequiredAcks(acks), kgo.ProducerBatchCompression(codec), kgo.RecordPartitioner(chosen()),
		// No RecordDeliveryTimeout: it counts from a record's own timestamp, which may be long past.
		kgo.ProducerLinger(c.linger()),
		kgo.AllowAutoTopicCreation(), kgo.UnknownTopicRetries(3), kgo.MaxBufferedRecords(100_000),
		kgo.ProduceRequestTimeout(10 * time.Second),
	}
	if c.MaxRequestBytes > 0 {
		options = append(options, kgo.ProducerBatchMaxBytes(c.MaxRequestBytes))
	}
	if !c.Idempotent && c.TransactionalID == "" {
		options = append(options, kgo.DisableIdempotentWrite(), kgo.MaxProduceRequestsInflightPerBroker(1))
	}
	if c.TransactionalID != "" {
		options = append(options, kgo.TransactionalID(c.TransactionalID))
	}
	producer := client(c, options...)
	defer producer.Close()
	if c.TransactionalID != "" {
		must(producer.BeginTransaction())
	}
	told := newAcks(c)
	ctx, cancel := untilStopped(c)
	defer cancel()
	next := records(c)
	for ctx.Err() == nil {
		r := next()
		if r == nil {
			break
		}
		index := told.next()
		producer.Produce(context.Background(), toFranz(r), func(sent *kgo.Record, err error) {
			told.told(index, sent.Partition, sent.Offset, sent.Timestamp.UnixMilli(), err)
		})
	}
	must(producer.Flush(context.Background()))
	if c.TransactionalID != "" {
		must(producer.EndTransaction(context.Background(), kgo.TransactionEndTry(c.End == "commit")))
	}
	return told.close()
}

func toFranz(r *record) *kgo.Record {
	made := &kgo.Record{Topic: r.topic, Partition: r.partition, Key: r.key, Value: r.value}
	if r.timestamp >= 0 {
		made.Timestamp = time.UnixMilli(r.timestamp)
	}
	for _, h := range r.headers {
		made.Headers = append(made.Headers, kgo.RecordHeader{Key: h.name, Value: h.value})
	}
	return made
}

func ofFranz(r *kgo.Record) *record {
	read := &record{
		topic: r.Topic, partition: r.Partition, offset: r.Offset, timestamp: r.Timestamp.UnixMilli(),
		timestampType: r.Attrs.TimestampType(), codec: int8(r.Attrs.CompressionType()), key: r.Key, value: r.Value,
	}
	for _, h := range r.Headers {
		read.headers = append(read.headers, header{h.Key, h.Value})
	}
	return read
}

// Consuming.

func consume(c *command) facts {
	ctx, cancel := context.WithTimeout(context.Background(), c.timeout())
	defer cancel()
	topics := c.topicNames()
	asking := client(c)
	admin := kadm.NewClient(asking)
	starts, err := admin.ListStartOffsets(ctx, topics...)
	must(err)
	must(starts.Error())
	if c.FromTimestamp != nil {
		starts, err = admin.ListOffsetsAfterMilli(ctx, *c.FromTimestamp, topics...)
		must(err)
		must(starts.Error())
	}
	ends, err := admin.ListEndOffsets(ctx, topics...)
	must(err)
	must(ends.Error())
	asking.Close()

	left := map[string]map[int32]int64{}
	from := map[string]map[int32]kgo.Offset{}
	open := 0
	starts.Each(func(start kadm.ListedOffset) {
		end, _ := ends.Lookup(start.Topic, start.Partition)
		offset := start.Offset
		if c.FromOffset != nil {
			offset = *c.FromOffset
		}
		if offset >= end.Offset {
			return
		}
		if left[start.Topic] == nil {
			left[start.Topic], from[start.Topic] = map[int32]int64{}, map[int32]kgo.Offset{}
		}
		left[start.Topic][start.Partition] = end.Offset
		from[start.Topic][start.Partition] = kgo.NewOffset().At(offset)
		open++
	})
	file, output := create(c.Output)
	count := 0
	if open > 0 {
		isolation := kgo.ReadUncommitted()
		if c.Isolation == "read_committed" {
			isolation = kgo.ReadCommitted()
		}
		consumer := client(c, kgo.ConsumePartitions(from), kgo.FetchMaxWait(100*time.Millisecond), kgo.FetchIsolationLevel(isolation))
		defer consumer.Close()
		for open > 0 {
			fetches := consumer.PollFetches(ctx)
			if ctx.Err() != nil {
				panic(fmt.Errorf("timed out after %d records, unread: %v", count, left))
			}
			fetches.EachError(func(topic string, partition int32, err error) {
				fmt.Fprintln(os.Stderr, "fetch:", topic, partition, err)
			})
			fetches.EachRecord(func(r *kgo.Record) {
				end, wanted := left[r.Topic][r.Partition]
				if !wanted {
					return
				}
				if r.Offset < end {
					write(output, ofFranz(r))
					count++
				}
				if r.Offset+1 >= end {
					delete(left[r.Topic], r.Partition)
					open--
				}
			})
		}
	}
	must(output.Flush())
	must(file.Close())
	return facts{"records": count}
}

func changed(c *command, name string) func(context.Context, *kgo.Client, map[string][]int32) {
	return func(_ context.Context, _ *kgo.Client, topics map[string][]int32) {
		partitions := [][2]any{}
		for topic, list := range topics {
			for _, p := range list {
				partitions = append(partitions, [2]any{topic, p})
			}
		}
		event(c.ID, name, facts{"partitions": partitions})
	}
}

func group(c *command) facts {
	session := c.sessionTimeout()
	balancer := map[string]kgo.GroupBalancer{
		"": kgo.RangeBalancer(), "range": kgo.RangeBalancer(), "roundrobin": kgo.RoundRobinBalancer(),
		"cooperative-sticky": kgo.CooperativeStickyBalancer(),
	}[c.Assignor]
	options := []kgo.Opt{
		kgo.ConsumerGroup(c.Group), kgo.ConsumeTopics(c.topicNames()...), kgo.Balancers(balancer),
		kgo.SessionTimeout(session), kgo.HeartbeatInterval(max(session/5, 100*time.Millisecond)),
		kgo.DisableAutoCommit(), kgo.BlockRebalanceOnPoll(), kgo.FetchMaxWait(100 * time.Millisecond),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.OnPartitionsAssigned(changed(c, "assigned")),
		kgo.OnPartitionsRevoked(changed(c, "revoked")),
		kgo.OnPartitionsLost(changed(c, "revoked")),
	}
	if c.InstanceID != "" {
		options = append(options, kgo.InstanceID(c.InstanceID))
	}
	consumer := client(c, options...)
	ctx, cancel := untilStopped(c)
	defer cancel()
	file, output := create(c.Output)
	count := 0
	for ctx.Err() == nil {
		fetches := consumer.PollFetches(ctx)
		fetches.EachError(func(topic string, partition int32, err error) {
			if !errors.Is(err, context.Canceled) {
				fmt.Fprintln(os.Stderr, "fetch:", topic, partition, err)
			}
		})
		fetches.EachRecord(func(r *kgo.Record) {
			write(output, ofFranz(r))
			count++
		})
		if fetches.NumRecords() > 0 {
			must(output.Flush())
			event(c.ID, "received", facts{"count": count})
			if c.Commit == nil || *c.Commit {
				bounded, done := context.WithTimeout(context.Background(), 5*time.Second)
				if err := consumer.CommitUncommittedOffsets(bounded); err != nil {
					fmt.Fprintln(os.Stderr, "commit failed:", err)
				}
				done()
			}
		}
		consumer.AllowRebalance()
	}
	consumer.CloseAllowingRebalance()
	must(file.Close())
	return facts{"records": count}
}

// Offsets.

// admin makes a client for one command; done closes it.
func admin(c *command) (made *kadm.Client, ctx context.Context, done func()) {
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	made = kadm.NewClient(client(c))
	return made, ctx, func() {
		made.Close()
		cancel()
	}
}

func listOffsets(c *command) facts {
	a, ctx, done := admin(c)
	defer done()
	var listed kadm.ListedOffsets
	var err error
	switch c.At {
	case "earliest":
		listed, err = a.ListStartOffsets(ctx, c.Topic)
	case "latest":
		listed, err = a.ListEndOffsets(ctx, c.Topic)
	case "max-timestamp":
		listed, err = a.ListMaxTimestampOffsets(ctx, c.Topic)
	default:
		var at int64
		at, err = strconv.ParseInt(c.At, 10, 64)
		must(err)
		listed, err = a.ListOffsetsAfterMilli(ctx, at, c.Topic)
	}
	must(err)
	must(listed.Error())
	offsets := []facts{}
	for _, p := range c.Partitions {
		found, _ := listed.Lookup(c.Topic, p)
		offsets = append(offsets, facts{"partition": p, "offset": found.Offset, "timestamp": found.Timestamp})
	}
	return facts{"offsets": offsets}
}

func commit(c *command) facts {
	a, ctx, done := admin(c)
	defer done()
	offsets := kadm.Offsets{}
	for _, o := range c.Offsets {
		offsets.Add(kadm.Offset{Topic: o.Topic, Partition: o.Partition, At: o.Offset, LeaderEpoch: -1, Metadata: o.Metadata})
	}
	must(a.CommitAllOffsets(ctx, c.Group, offsets))
	return facts{}
}

func committed(c *command) facts {
	a, ctx, done := admin(c)
	defer done()
	found, err := a.FetchOffsets(ctx, c.Group)
	must(err)
	must(found.Error())
	offsets := []facts{}
	for _, p := range c.Partitions {
		one, ok := found.Lookup(c.Topic, p)
		if !ok {
			one.At = -1
		}
		offsets = append(offsets, facts{"partition": p, "offset": one.At, "metadata": one.Metadata})
	}
	return facts{"offsets": offsets}
}

// Administration.

func createTopics(c *command) facts {
	a, ctx, done := admin(c)
	defer done()
	var topics []newTopic
	must(json.Unmarshal(c.Topics, &topics))
	results := facts{}
	for _, t := range topics {
		partitions, replication := int32(-1), int16(-1)
		if t.Partitions != nil {
			partitions = *t.Partitions
		}
		if t.Replication != nil {
			replication = *t.Replication
		}
		_, err := a.CreateTopic(ctx, partitions, replication, t.Configs, t.Name)
		results[t.Name] = codeOf(err)
	}
	return facts{"results": results}
}

func deleteTopics(c *command) facts {
	a, ctx, done := admin(c)
	defer done()
	answers, err := a.DeleteTopics(ctx, c.topicNames()...)
	must(err)
	results := facts{}
	for name, answer := range answers {
		results[name] = codeOf(answer.Err)
	}
	return facts{"results": results}
}

func listTopics(c *command) facts {
	a, ctx, done := admin(c)
	defer done()
	found, err := a.ListTopics(ctx)
	must(err)
	names := found.Names()
	sort.Strings(names)
	return facts{"topics": names}
}

func describeTopics(c *command) facts {
	a, ctx, done := admin(c)
	defer done()
	topics := facts{}
	for _, name := range c.topicNames() {
		found, err := a.ListTopics(ctx, name)
		must(err)
		partitions := []facts{}
		for _, p := range found[name].Partitions.Sorted() {
			partitions = append(partitions, facts{"partition": p.Partition, "leader": p.Leader, "replicas": p.Replicas, "isr": p.ISR})
		}
		topics[name] = facts{"error": codeOf(found[name].Err), "partitions": partitions}
	}
	return facts{"topics": topics}
}

func describeConfigs(c *command) facts {
	a, ctx, done := admin(c)
	defer done()
	var found kadm.ResourceConfigs
	var err error
	if c.Kind == "topic" {
		found, err = a.DescribeTopicConfigs(ctx, c.Name)
	} else {
		var id int
		id, err = strconv.Atoi(c.Name)
		must(err)
		found, err = a.DescribeBrokerConfigs(ctx, int32(id))
	}
	must(err)
	configs := facts{}
	for _, resource := range found {
		must(resource.Err)
		for _, config := range resource.Configs {
			configs[config.Key] = config.Value
		}
	}
	return facts{"configs": configs}
}

func describeCluster(c *command) facts {
	a, ctx, done := admin(c)
	defer done()
	found, err := a.BrokerMetadata(ctx)
	must(err)
	brokers := []facts{}
	for _, b := range found.Brokers {
		brokers = append(brokers, facts{"id": b.NodeID, "host": b.Host, "port": b.Port})
	}
	return facts{"cluster_id": found.Cluster, "controller": found.Controller, "brokers": brokers}
}

func createPartitions(c *command) facts {
	a, ctx, done := admin(c)
	defer done()
	told, err := a.UpdatePartitions(ctx, int(c.Count), c.Topic)
	must(err)
	must(told[c.Topic].Err)
	return facts{}
}

func deleteRecords(c *command) facts {
	a, ctx, done := admin(c)
	defer done()
	before := kadm.Offsets{}
	before.Add(kadm.Offset{Topic: c.Topic, Partition: c.Partition, At: c.Before})
	told, err := a.DeleteRecords(ctx, before)
	must(err)
	one, _ := told.Lookup(c.Topic, c.Partition)
	must(one.Err)
	return facts{"low": one.LowWatermark}
}

func alterConfigs(c *command) facts {
	a, ctx, done := admin(c)
	defer done()
	var wanted []kadm.AlterConfig
	for name, value := range c.Set {
		wanted = append(wanted, kadm.AlterConfig{Op: kadm.SetConfig, Name: name, Value: &value})
	}
	told, err := a.AlterTopicConfigs(ctx, wanted, c.Topic)
	must(err)
	must(told[0].Err)
	return facts{}
}

func listGroups(c *command) facts {
	a, ctx, done := admin(c)
	defer done()
	told, err := a.ListGroups(ctx)
	must(err)
	return facts{"groups": told.Groups()}
}

func describeGroup(c *command) facts {
	a, ctx, done := admin(c)
	defer done()
	told, err := a.DescribeGroups(ctx, c.Group)
	must(err)
	must(told[c.Group].Err)
	return facts{"state": told[c.Group].State, "members": len(told[c.Group].Members)}
}

func deleteGroup(c *command) facts {
	a, ctx, done := admin(c)
	defer done()
	told, err := a.DeleteGroups(ctx, c.Group)
	must(err)
	must(told[c.Group].Err)
	return facts{}
}

func deleteOffset(c *command) facts {
	a, ctx, done := admin(c)
	defer done()
	var partition kadm.TopicsSet
	partition.Add(c.Topic, c.Partition)
	told, err := a.DeleteOffsets(ctx, c.Group, partition)
	must(err)
	must(told[c.Topic][c.Partition])
	return facts{}
}
