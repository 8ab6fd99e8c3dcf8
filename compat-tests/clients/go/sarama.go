// Wraps sarama behind the contract of ../README.md.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"sort"
	"strconv"
	"sync"
	"time"

	"github.com/IBM/sarama"
)

var ofSarama = ops{
	"hello": hello("sarama", "github.com/IBM/sarama"), "produce": saramaProduce, "consume": saramaConsume,
	"group": saramaGroup, "list_offsets": saramaListOffsets, "commit": saramaCommit, "committed": saramaCommitted,
	"create_topics": saramaCreateTopics, "delete_topics": saramaDeleteTopics, "list_topics": saramaListTopics,
	"describe_topics": saramaDescribeTopics, "describe_configs": saramaDescribeConfigs,
	"describe_cluster": saramaDescribeCluster, "create_partitions": saramaCreatePartitions,
	"delete_records": saramaDeleteRecords, "alter_configs": saramaAlterConfigs, "list_groups": saramaListGroups,
	"describe_group": saramaDescribeGroup, "delete_group": saramaDeleteGroup, "delete_offset": saramaDeleteOffset,
}

func saramaConfig() *sarama.Config {
	config := sarama.NewConfig()
	config.Version = sarama.MaxVersion
	config.ApiVersionsRequest = true
	config.Metadata.Retry.Backoff = 100 * time.Millisecond
	config.Metadata.AllowAutoTopicCreation = false
	config.Consumer.MaxWaitTime = 100 * time.Millisecond
	config.Consumer.Fetch.Default = 2 << 20
	config.Consumer.Retry.Backoff = 100 * time.Millisecond
	config.Consumer.Offsets.AutoCommit.Enable = false
	config.Consumer.Offsets.Initial = sarama.OffsetOldest
	return config
}

func saramaAdmin(c *command) sarama.ClusterAdmin {
	admin, err := sarama.NewClusterAdmin([]string{c.Bootstrap}, saramaConfig())
	must(err)
	return admin
}

// Producing.

// keeping keeps a partition that the record names and otherwise partitions by key.
type keeping struct{ sarama.Partitioner }

func (k keeping) Partition(m *sarama.ProducerMessage, count int32) (int32, error) {
	if wanted := m.Metadata.(sending).partition; wanted >= 0 {
		return wanted, nil
	}
	return k.Partitioner.Partition(m, count)
}

func (keeping) RequiresConsistency() bool { return true }

type sending struct {
	index     int64
	partition int32
}

func saramaProduce(c *command) facts {
	config := saramaConfig()
	config.Metadata.AllowAutoTopicCreation = true
	config.Producer.Partitioner = func(topic string) sarama.Partitioner {
		return keeping{sarama.NewHashPartitioner(topic)}
	}
	config.Producer.RequiredAcks = map[string]sarama.RequiredAcks{
		"": sarama.WaitForAll, "all": sarama.WaitForAll, "1": sarama.WaitForLocal, "0": sarama.NoResponse,
	}[c.Acks]
	config.Producer.Compression = map[string]sarama.CompressionCodec{
		"": sarama.CompressionNone, "none": sarama.CompressionNone, "gzip": sarama.CompressionGZIP,
		"snappy": sarama.CompressionSnappy, "lz4": sarama.CompressionLZ4, "zstd": sarama.CompressionZSTD,
	}[c.Codec]
	config.Producer.Flush.Frequency = c.linger()
	config.Producer.Return.Successes = true
	config.Producer.Retry.Backoff = 250 * time.Millisecond
	config.Producer.Retry.Max = max(3, int(c.deliveryTimeout()/config.Producer.Retry.Backoff))
	config.Producer.MaxMessageBytes = 1_000_000
	if c.MaxRequestBytes > 0 {
		config.Producer.MaxMessageBytes = int(c.MaxRequestBytes)
	}
	config.Producer.Idempotent = c.Idempotent
	config.Net.MaxOpenRequests = 1
	if c.TransactionalID != "" {
		config.Producer.Idempotent = true
		config.Producer.Transaction.ID = c.TransactionalID
	}
	producer, err := sarama.NewAsyncProducer([]string{c.Bootstrap}, config)
	must(err)
	if c.TransactionalID != "" {
		must(producer.BeginTxn())
	}
	told := newAcks(c)
	var listening sync.WaitGroup
	listening.Go(func() {
		for m := range producer.Successes() {
			told.told(m.Metadata.(sending).index, m.Partition, m.Offset, m.Timestamp.UnixMilli(), nil)
		}
	})
	listening.Go(func() {
		for failure := range producer.Errors() {
			told.told(failure.Msg.Metadata.(sending).index, -1, -1, -1, failure.Err)
		}
	})
	ctx, cancel := untilStopped(c)
	defer cancel()
	next := records(c)
	for ctx.Err() == nil {
		r := next()
		if r == nil {
			break
		}
		producer.Input() <- toSarama(r, told.next())
	}
	if c.TransactionalID != "" {
		saramaEnd(producer, c)
	}
	producer.AsyncClose()
	listening.Wait()
	return told.close()
}

// saramaEnd ends a transaction; what is under way is waited for.
func saramaEnd(producer sarama.AsyncProducer, c *command) {
	offsets := map[string][]*sarama.PartitionOffsetMetadata{}
	for _, o := range c.Offsets {
		offsets[o.Topic] = append(offsets[o.Topic], &sarama.PartitionOffsetMetadata{Partition: o.Partition, Offset: o.Offset, LeaderEpoch: -1})
	}
	if len(offsets) > 0 {
		must(producer.AddOffsetsToTxn(offsets, c.Group))
	}
	if c.End == "commit" {
		must(producer.CommitTxn())
	} else {
		must(producer.AbortTxn())
	}
}

func toSarama(r *record, index int64) *sarama.ProducerMessage {
	made := &sarama.ProducerMessage{Topic: r.topic, Metadata: sending{index, r.partition}}
	if r.key != nil {
		made.Key = sarama.ByteEncoder(r.key)
	}
	if r.value != nil {
		made.Value = sarama.ByteEncoder(r.value)
	}
	if r.timestamp >= 0 {
		made.Timestamp = time.UnixMilli(r.timestamp)
	}
	for _, h := range r.headers {
		made.Headers = append(made.Headers, sarama.RecordHeader{Key: []byte(h.name), Value: h.value})
	}
	return made
}

func fromSarama(m *sarama.ConsumerMessage) *record {
	read := &record{
		topic: m.Topic, partition: m.Partition, offset: m.Offset, timestamp: m.Timestamp.UnixMilli(),
		timestampType: -1, codec: -1, key: m.Key, value: m.Value,
	}
	for _, h := range m.Headers {
		read.headers = append(read.headers, header{string(h.Key), h.Value})
	}
	return read
}

// Consuming.

func saramaConsume(c *command) facts {
	expired := time.After(c.timeout())
	config := saramaConfig()
	if c.Isolation == "read_committed" {
		config.Consumer.IsolationLevel = sarama.ReadCommitted
	}
	client, err := sarama.NewClient([]string{c.Bootstrap}, config)
	must(err)
	defer client.Close()
	consumer, err := sarama.NewConsumerFromClient(client)
	must(err)
	defer consumer.Close()
	file, output := create(c.Output)
	count := 0
	for _, topic := range c.topicNames() {
		partitions, err := client.Partitions(topic)
		must(err)
		for _, partition := range partitions {
			end, err := client.GetOffset(topic, partition, sarama.OffsetNewest)
			must(err)
			start, err := client.GetOffset(topic, partition, sarama.OffsetOldest)
			must(err)
			if c.FromOffset != nil {
				start = *c.FromOffset
			}
			if c.FromTimestamp != nil {
				start, err = client.GetOffset(topic, partition, *c.FromTimestamp)
				must(err)
			}
			if start < 0 || start >= end {
				continue
			}
			reading, err := consumer.ConsumePartition(topic, partition, start)
			must(err)
			for last := int64(-1); last+1 < end; {
				select {
				case m := <-reading.Messages():
					last = m.Offset
					if last < end {
						write(output, fromSarama(m))
						count++
					}
				case <-expired:
					panic(fmt.Errorf("timed out after %d records, in %s/%d before %d", count, topic, partition, end))
				}
			}
			must(reading.Close())
		}
	}
	must(output.Flush())
	must(file.Close())
	return facts{"records": count}
}

type saramaMember struct {
	c      *command
	lock   sync.Mutex
	output *bufio.Writer
	count  int
}

func (*saramaMember) Setup(sarama.ConsumerGroupSession) error   { return nil }
func (*saramaMember) Cleanup(sarama.ConsumerGroupSession) error { return nil }

func (m *saramaMember) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	mine := [][2]any{{claim.Topic(), claim.Partition()}}
	event(m.c.ID, "assigned", facts{"partitions": mine})
	defer event(m.c.ID, "revoked", facts{"partitions": mine})
	for first := range claim.Messages() {
		m.take(session, claim, first)
	}
	return nil
}

// take writes down what is there and commits it.
func (m *saramaMember) take(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim, read *sarama.ConsumerMessage) {
	m.lock.Lock()
	defer m.lock.Unlock()
	for read != nil {
		write(m.output, fromSarama(read))
		m.count++
		session.MarkMessage(read, "")
		select {
		case read = <-claim.Messages():
		default:
			read = nil
		}
	}
	must(m.output.Flush())
	event(m.c.ID, "received", facts{"count": m.count})
	if m.c.Commit == nil || *m.c.Commit {
		session.Commit()
	}
}

func saramaGroup(c *command) facts {
	config := saramaConfig()
	config.Consumer.Group.Session.Timeout = c.sessionTimeout()
	config.Consumer.Group.Heartbeat.Interval = max(c.sessionTimeout()/5, 100*time.Millisecond)
	config.Consumer.Group.Rebalance.GroupStrategies = []sarama.BalanceStrategy{map[string]func() sarama.BalanceStrategy{
		"": sarama.NewBalanceStrategyRange, "range": sarama.NewBalanceStrategyRange,
		"roundrobin": sarama.NewBalanceStrategyRoundRobin, "cooperative-sticky": sarama.NewBalanceStrategyCooperativeSticky,
	}[c.Assignor]()}
	config.Consumer.Group.InstanceId = c.InstanceID
	consumer, err := sarama.NewConsumerGroup([]string{c.Bootstrap}, c.Group, config)
	must(err)
	file, output := create(c.Output)
	ctx, cancel := untilStopped(c)
	defer cancel()
	member := &saramaMember{c: c, output: output}
	for ctx.Err() == nil {
		if err := consumer.Consume(ctx, c.topicNames(), member); err != nil {
			fmt.Fprintln(os.Stderr, "the session ended:", err)
			time.Sleep(100 * time.Millisecond)
		}
	}
	must(consumer.Close())
	must(output.Flush())
	must(file.Close())
	return facts{"records": member.count}
}

// Offsets.

func saramaListOffsets(c *command) facts {
	admin := saramaAdmin(c)
	defer admin.Close()
	at, known := map[string]int64{
		"earliest": sarama.OffsetOldest, "latest": sarama.OffsetNewest, "max-timestamp": -3,
	}[c.At]
	if !known {
		parsed, err := strconv.ParseInt(c.At, 10, 64)
		must(err)
		at = parsed
	}
	asked := map[int32]int64{}
	for _, p := range c.Partitions {
		asked[p] = at
	}
	found, err := admin.ListOffsets(map[string]map[int32]int64{c.Topic: asked}, nil)
	must(err)
	offsets := []facts{}
	for _, p := range c.Partitions {
		one := found[c.Topic][p]
		if codeOf(one.Err) != 0 && one.Err != sarama.ErrNoError {
			panic(one.Err)
		}
		offsets = append(offsets, facts{"partition": p, "offset": one.Offset, "timestamp": one.Timestamp})
	}
	return facts{"offsets": offsets}
}

func saramaCommit(c *command) facts {
	admin := saramaAdmin(c)
	defer admin.Close()
	offsets := map[string]map[int32]sarama.OffsetAndMetadata{}
	for _, o := range c.Offsets {
		if offsets[o.Topic] == nil {
			offsets[o.Topic] = map[int32]sarama.OffsetAndMetadata{}
		}
		offsets[o.Topic][o.Partition] = sarama.OffsetAndMetadata{Offset: o.Offset, Metadata: o.Metadata, LeaderEpoch: -1}
	}
	done, err := admin.AlterConsumerGroupOffsets(c.Group, offsets, nil)
	must(err)
	for _, partitions := range done.Errors {
		for _, code := range partitions {
			if code != sarama.ErrNoError {
				panic(code)
			}
		}
	}
	return facts{}
}

func saramaCommitted(c *command) facts {
	admin := saramaAdmin(c)
	defer admin.Close()
	found, err := admin.ListConsumerGroupOffsets(c.Group, map[string][]int32{c.Topic: c.Partitions})
	must(err)
	offsets := []facts{}
	for _, p := range c.Partitions {
		one := found.GetGroupBlock(c.Group, c.Topic, p)
		if one == nil {
			one = found.GetBlock(c.Topic, p)
		}
		if one.Err != sarama.ErrNoError {
			panic(one.Err)
		}
		offsets = append(offsets, facts{"partition": p, "offset": one.Offset, "metadata": one.Metadata})
	}
	return facts{"offsets": offsets}
}

// Administration.

func saramaCreateTopics(c *command) facts {
	admin := saramaAdmin(c)
	defer admin.Close()
	var topics []newTopic
	must(json.Unmarshal(c.Topics, &topics))
	results := facts{}
	for _, t := range topics {
		detail := &sarama.TopicDetail{NumPartitions: -1, ReplicationFactor: -1, ConfigEntries: t.Configs}
		if t.Partitions != nil {
			detail.NumPartitions = *t.Partitions
		}
		if t.Replication != nil {
			detail.ReplicationFactor = *t.Replication
		}
		results[t.Name] = codeOf(admin.CreateTopic(t.Name, detail, false))
	}
	return facts{"results": results}
}

func saramaDeleteTopics(c *command) facts {
	admin := saramaAdmin(c)
	defer admin.Close()
	results := facts{}
	for _, name := range c.topicNames() {
		results[name] = codeOf(admin.DeleteTopic(name))
	}
	return facts{"results": results}
}

func saramaListTopics(c *command) facts {
	admin := saramaAdmin(c)
	defer admin.Close()
	found, err := admin.ListTopics()
	must(err)
	names := []string{}
	for name := range found {
		names = append(names, name)
	}
	sort.Strings(names)
	return facts{"topics": names}
}

func saramaDescribeTopics(c *command) facts {
	admin := saramaAdmin(c)
	defer admin.Close()
	found, err := admin.DescribeTopics(c.topicNames())
	must(err)
	topics := facts{}
	for _, t := range found {
		sort.Slice(t.Partitions, func(i, j int) bool { return t.Partitions[i].ID < t.Partitions[j].ID })
		partitions := []facts{}
		for _, p := range t.Partitions {
			partitions = append(partitions, facts{"partition": p.ID, "leader": p.Leader, "replicas": p.Replicas, "isr": p.Isr})
		}
		topics[t.Name] = facts{"error": int(t.Err), "partitions": partitions}
	}
	return facts{"topics": topics}
}

func saramaDescribeConfigs(c *command) facts {
	admin := saramaAdmin(c)
	defer admin.Close()
	kind := sarama.BrokerResource
	if c.Kind == "topic" {
		kind = sarama.TopicResource
	}
	entries, err := admin.DescribeConfig(sarama.ConfigResource{Type: kind, Name: c.Name})
	must(err)
	configs := facts{}
	for _, entry := range entries {
		configs[entry.Name] = entry.Value
	}
	return facts{"configs": configs}
}

func saramaDescribeCluster(c *command) facts {
	config := saramaConfig()
	client, err := sarama.NewClient([]string{c.Bootstrap}, config)
	must(err)
	defer client.Close()
	controller, err := client.Controller()
	must(err)
	// Its admin client keeps the cluster's id to itself.
	told, err := controller.GetMetadata(sarama.NewMetadataRequest(config.Version, nil))
	must(err)
	brokers := []facts{}
	for _, b := range told.Brokers {
		host, port := address(b.Addr())
		brokers = append(brokers, facts{"id": b.ID(), "host": host, "port": port})
	}
	id := ""
	if told.ClusterID != nil {
		id = *told.ClusterID
	}
	return facts{"cluster_id": id, "controller": controller.ID(), "brokers": brokers}
}

func saramaCreatePartitions(c *command) facts {
	admin := saramaAdmin(c)
	defer admin.Close()
	must(admin.CreatePartitions(c.Topic, c.Count, nil, false))
	return facts{}
}

func saramaDeleteRecords(c *command) facts {
	admin := saramaAdmin(c)
	defer admin.Close()
	must(admin.DeleteRecords(c.Topic, map[int32]int64{c.Partition: c.Before}))
	return facts{"low": -1}
}

func saramaAlterConfigs(c *command) facts {
	admin := saramaAdmin(c)
	defer admin.Close()
	wanted := map[string]sarama.IncrementalAlterConfigsEntry{}
	for name, value := range c.Set {
		wanted[name] = sarama.IncrementalAlterConfigsEntry{Operation: sarama.IncrementalAlterConfigsOperationSet, Value: &value}
	}
	must(admin.IncrementalAlterConfig(sarama.TopicResource, c.Topic, wanted, false))
	return facts{}
}

func saramaListGroups(c *command) facts {
	admin := saramaAdmin(c)
	defer admin.Close()
	told, err := admin.ListConsumerGroups()
	must(err)
	groups := []string{}
	for group := range told {
		groups = append(groups, group)
	}
	return facts{"groups": groups}
}

func saramaDescribeGroup(c *command) facts {
	admin := saramaAdmin(c)
	defer admin.Close()
	told, err := admin.DescribeConsumerGroups([]string{c.Group})
	must(err)
	if told[0].Err != sarama.ErrNoError {
		panic(told[0].Err)
	}
	return facts{"state": told[0].State, "members": len(told[0].Members)}
}

func saramaDeleteGroup(c *command) facts {
	admin := saramaAdmin(c)
	defer admin.Close()
	must(admin.DeleteConsumerGroup(c.Group))
	return facts{}
}

func saramaDeleteOffset(c *command) facts {
	admin := saramaAdmin(c)
	defer admin.Close()
	must(admin.DeleteConsumerGroupOffset(c.Group, c.Topic, c.Partition))
	return facts{}
}
