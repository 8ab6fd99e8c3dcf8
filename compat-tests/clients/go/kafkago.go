// Wraps segmentio's kafka-go behind the contract of ../README.md.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"net"
	"os"
	"sort"
	"strconv"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"
)

var ofSegmentio = ops{
	"hello": hello("kafka-go", "github.com/segmentio/kafka-go"), "produce": segmentioProduce, "consume": segmentioConsume,
	"group": segmentioGroup, "list_offsets": segmentioListOffsets, "commit": segmentioCommit, "committed": segmentioCommitted,
	"create_topics": segmentioCreateTopics, "delete_topics": segmentioDeleteTopics, "list_topics": segmentioListTopics,
	"describe_topics": segmentioDescribeTopics, "describe_configs": segmentioDescribeConfigs,
	"describe_cluster": segmentioDescribeCluster, "create_partitions": segmentioCreatePartitions,
	"alter_configs": segmentioAlterConfigs, "list_groups": segmentioListGroups, "describe_group": segmentioDescribeGroup,
	"delete_group": segmentioDeleteGroup, "delete_offset": segmentioDeleteOffset,
}

func address(of string) (string, int) {
	host, port, err := net.SplitHostPort(of)
	must(err)
	number, err := strconv.Atoi(port)
	must(err)
	return host, number
}

func segmentio(c *command) (*kafka.Client, context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	// A transport of its own: the default one remembers addresses across brokers.
	client := &kafka.Client{Addr: kafka.TCP(c.Bootstrap), Transport: &kafka.Transport{MetadataTTL: time.Second}}
	return client, ctx, cancel
}

// Producing.

func byKeyOrKept(m kafka.Message, partitions ...int) int {
	kept := m.WriterData.(sending)
	if kept.partition >= 0 {
		return int(kept.partition)
	}
	hash := fnv.New32a()
	hash.Write(m.Key)
	return partitions[int(hash.Sum32()%uint32(len(partitions)))]
}

func segmentioProduce(c *command) facts {
	told := newAcks(c)
	writer := &kafka.Writer{
		Addr: kafka.TCP(c.Bootstrap), Balancer: kafka.BalancerFunc(byKeyOrKept), AllowAutoTopicCreation: true, Async: true,
		RequiredAcks: map[string]kafka.RequiredAcks{
			"": kafka.RequireAll, "all": kafka.RequireAll, "1": kafka.RequireOne, "0": kafka.RequireNone,
		}[c.Acks],
		Compression: map[string]kafka.Compression{
			"gzip": kafka.Gzip, "snappy": kafka.Snappy, "lz4": kafka.Lz4, "zstd": kafka.Zstd,
		}[c.Codec],
		BatchTimeout: c.linger(), BatchBytes: 1_000_000, BatchSize: 1000,
		MaxAttempts:     max(3, int(c.deliveryTimeout()/(250*time.Millisecond))),
		WriteBackoffMin: 100 * time.Millisecond, WriteBackoffMax: 250 * time.Millisecond,
		Transport: &kafka.Transport{MetadataTTL: time.Second},
		Completion: func(messages []kafka.Message, err error) {
			for i, m := range messages {
				failure := err
				var each kafka.WriteErrors
				if errors.As(err, &each) {
					failure = each[i]
				}
				told.told(m.WriterData.(sending).index, int32(m.Partition), m.Offset, m.Time.UnixMilli(), failure)
			}
		},
	}
	if c.MaxRequestBytes > 0 {
		writer.BatchBytes = int64(c.MaxRequestBytes)
	}
	ctx, cancel := untilStopped(c)
	defer cancel()
	next := records(c)
	for ctx.Err() == nil {
		r := next()
		if r == nil {
			break
		}
		made := kafka.Message{Topic: r.topic, Key: r.key, Value: r.value, WriterData: sending{told.next(), r.partition}}
		if r.timestamp >= 0 {
			made.Time = time.UnixMilli(r.timestamp)
		}
		for _, h := range r.headers {
			made.Headers = append(made.Headers, kafka.Header{Key: h.name, Value: h.value})
		}
		for try := 0; ; try++ {
			err := writer.WriteMessages(context.Background(), made)
			if err == nil {
				break
			}
			// Looking up the topic is not among what the writer tries again.
			if try >= 20 || time.Duration(try)*200*time.Millisecond >= c.deliveryTimeout() {
				told.told(made.WriterData.(sending).index, -1, -1, -1, err)
				break
			}
			time.Sleep(200 * time.Millisecond)
		}
	}
	if err := writer.Close(); err != nil {
		fmt.Fprintln(os.Stderr, "closing:", err)
	}
	return told.close()
}

func fromSegmentio(m *kafka.Message) *record {
	read := &record{
		topic: m.Topic, partition: int32(m.Partition), offset: m.Offset, timestamp: m.Time.UnixMilli(),
		timestampType: -1, codec: -1, key: m.Key, value: m.Value,
	}
	for _, h := range m.Headers {
		read.headers = append(read.headers, header{h.Key, h.Value})
	}
	return read
}

// Consuming.

func (c *command) reader(topic string, partition int, offset int64) *kafka.Reader {
	reader := kafka.NewReader(kafka.ReaderConfig{
		Brokers: []string{c.Bootstrap}, Topic: topic, Partition: partition, MinBytes: 1, MaxBytes: 4 << 20,
		MaxWait: 100 * time.Millisecond, ReadBackoffMin: 10 * time.Millisecond, ReadBackoffMax: 250 * time.Millisecond,
	})
	must(reader.SetOffset(offset))
	return reader
}

func segmentioConsume(c *command) facts {
	ctx, cancel := context.WithTimeout(context.Background(), c.timeout())
	defer cancel()
	client, _, done := segmentio(c)
	defer done()
	file, output := create(c.Output)
	count := 0
	for _, topic := range c.topicNames() {
		for _, p := range topicOf(ctx, client, topic).Partitions {
			start, end := listOne(ctx, client, topic, p.ID, kafka.FirstOffset), listOne(ctx, client, topic, p.ID, kafka.LastOffset)
			if c.FromOffset != nil {
				start = *c.FromOffset
			}
			if c.FromTimestamp != nil {
				start = listOne(ctx, client, topic, p.ID, *c.FromTimestamp)
			}
			if start < 0 || start >= end {
				continue
			}
			reader := c.reader(topic, p.ID, start)
			for last := int64(-1); last+1 < end; {
				m, err := reader.ReadMessage(ctx)
				must(err)
				last = m.Offset
				if last < end {
					write(output, fromSegmentio(&m))
					count++
				}
			}
			must(reader.Close())
		}
	}
	must(output.Flush())
	must(file.Close())
	return facts{"records": count}
}

func segmentioGroup(c *command) facts {
	balancer := map[string]kafka.GroupBalancer{
		"": kafka.RangeGroupBalancer{}, "range": kafka.RangeGroupBalancer{}, "roundrobin": kafka.RoundRobinGroupBalancer{},
	}[c.Assignor]
	consumer, err := kafka.NewConsumerGroup(kafka.ConsumerGroupConfig{
		ID: c.Group, Brokers: []string{c.Bootstrap}, Topics: c.topicNames(), GroupBalancers: []kafka.GroupBalancer{balancer},
		HeartbeatInterval: max(c.sessionTimeout()/5, 100*time.Millisecond), SessionTimeout: c.sessionTimeout(),
		RebalanceTimeout: max(c.sessionTimeout(), 10*time.Second), JoinGroupBackoff: 200 * time.Millisecond,
		StartOffset: kafka.FirstOffset,
	})
	must(err)
	ctx, cancel := untilStopped(c)
	defer cancel()
	file, output := create(c.Output)
	var lock sync.Mutex
	count := 0
	for {
		generation, err := consumer.Next(ctx)
		if ctx.Err() != nil {
			break
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "no generation:", err)
			continue
		}
		mine := [][2]any{}
		for topic, assignments := range generation.Assignments {
			for _, assignment := range assignments {
				mine = append(mine, [2]any{topic, assignment.ID})
				generation.Start(func(ctx context.Context) {
					follow(ctx, c, generation, topic, assignment, output, &lock, &count)
				})
			}
		}
		event(c.ID, "assigned", facts{"partitions": mine})
		generation.Start(func(ctx context.Context) {
			<-ctx.Done()
			event(c.ID, "revoked", facts{"partitions": mine})
		})
	}
	must(consumer.Close())
	lock.Lock()
	defer lock.Unlock()
	must(output.Flush())
	must(file.Close())
	return facts{"records": count}
}

// follow reads one partition for as long as the generation lasts.
func follow(ctx context.Context, c *command, generation *kafka.Generation, topic string, from kafka.PartitionAssignment,
	output *bufio.Writer, lock *sync.Mutex, count *int) {
	reader := c.reader(topic, from.ID, from.Offset)
	defer reader.Close()
	for {
		m, err := reader.ReadMessage(ctx)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			if !errors.Is(err, io.EOF) {
				fmt.Fprintln(os.Stderr, "fetch:", topic, from.ID, err)
			}
			time.Sleep(100 * time.Millisecond)
			continue
		}
		lock.Lock()
		write(output, fromSegmentio(&m))
		*count++
		must(output.Flush())
		event(c.ID, "received", facts{"count": *count})
		lock.Unlock()
		if c.Commit == nil || *c.Commit {
			offsets := map[string]map[int]int64{topic: {from.ID: m.Offset + 1}}
			if err := generation.CommitOffsets(offsets); err != nil {
				fmt.Fprintln(os.Stderr, "commit failed:", err)
			}
		}
	}
}

// Offsets.

func listOne(ctx context.Context, client *kafka.Client, topic string, partition int, at int64) int64 {
	told, err := client.ListOffsets(ctx, &kafka.ListOffsetsRequest{
		Topics: map[string][]kafka.OffsetRequest{topic: {{Partition: partition, Timestamp: at}}},
	})
	must(err)
	found := told.Topics[topic][0]
	must(found.Error)
	switch at {
	case kafka.FirstOffset:
		return found.FirstOffset
	case kafka.LastOffset:
		return found.LastOffset
	}
	for offset := range found.Offsets {
		return offset
	}
	return -1
}

func segmentioListOffsets(c *command) facts {
	client, ctx, done := segmentio(c)
	defer done()
	at, known := map[string]int64{"earliest": kafka.FirstOffset, "latest": kafka.LastOffset}[c.At]
	if !known {
		parsed, err := strconv.ParseInt(c.At, 10, 64)
		must(err)
		at = parsed
	}
	offsets := []facts{}
	for _, p := range c.Partitions {
		offsets = append(offsets, facts{"partition": p, "offset": listOne(ctx, client, c.Topic, int(p), at), "timestamp": -1})
	}
	return facts{"offsets": offsets}
}

func segmentioCommit(c *command) facts {
	client, ctx, done := segmentio(c)
	defer done()
	topics := map[string][]kafka.OffsetCommit{}
	for _, o := range c.Offsets {
		one := kafka.OffsetCommit{Partition: int(o.Partition), Offset: o.Offset, Metadata: o.Metadata}
		topics[o.Topic] = append(topics[o.Topic], one)
	}
	told, err := client.OffsetCommit(ctx, &kafka.OffsetCommitRequest{GroupID: c.Group, GenerationID: -1, Topics: topics})
	must(err)
	for _, partitions := range told.Topics {
		for _, p := range partitions {
			must(p.Error)
		}
	}
	return facts{}
}

func segmentioCommitted(c *command) facts {
	client, ctx, done := segmentio(c)
	defer done()
	asked := []int{}
	for _, p := range c.Partitions {
		asked = append(asked, int(p))
	}
	told, err := client.OffsetFetch(ctx, &kafka.OffsetFetchRequest{GroupID: c.Group, Topics: map[string][]int{c.Topic: asked}})
	must(err)
	must(told.Error)
	found := map[int]kafka.OffsetFetchPartition{}
	for _, p := range told.Topics[c.Topic] {
		found[p.Partition] = p
	}
	offsets := []facts{}
	for _, p := range asked {
		must(found[p].Error)
		offsets = append(offsets, facts{"partition": p, "offset": found[p].CommittedOffset, "metadata": found[p].Metadata})
	}
	return facts{"offsets": offsets}
}

// Administration.

func segmentioCreateTopics(c *command) facts {
	client, ctx, done := segmentio(c)
	defer done()
	var topics []newTopic
	must(json.Unmarshal(c.Topics, &topics))
	results := facts{}
	for _, t := range topics {
		wanted := kafka.TopicConfig{Topic: t.Name, NumPartitions: -1, ReplicationFactor: -1}
		if t.Partitions != nil {
			wanted.NumPartitions = int(*t.Partitions)
		}
		if t.Replication != nil {
			wanted.ReplicationFactor = int(*t.Replication)
		}
		for name, value := range t.Configs {
			wanted.ConfigEntries = append(wanted.ConfigEntries, kafka.ConfigEntry{ConfigName: name, ConfigValue: *value})
		}
		told, err := client.CreateTopics(ctx, &kafka.CreateTopicsRequest{Topics: []kafka.TopicConfig{wanted}})
		must(err)
		results[t.Name] = codeOf(told.Errors[t.Name])
	}
	return facts{"results": results}
}

func segmentioDeleteTopics(c *command) facts {
	client, ctx, done := segmentio(c)
	defer done()
	told, err := client.DeleteTopics(ctx, &kafka.DeleteTopicsRequest{Topics: c.topicNames()})
	must(err)
	results := facts{}
	for name, failure := range told.Errors {
		results[name] = codeOf(failure)
	}
	return facts{"results": results}
}

func segmentioListTopics(c *command) facts {
	client, ctx, done := segmentio(c)
	defer done()
	told, err := client.Metadata(ctx, &kafka.MetadataRequest{})
	must(err)
	names := []string{}
	for _, t := range told.Topics {
		names = append(names, t.Name)
	}
	sort.Strings(names)
	return facts{"topics": names}
}

func topicOf(ctx context.Context, client *kafka.Client, name string) kafka.Topic {
	told, err := client.Metadata(ctx, &kafka.MetadataRequest{Topics: []string{name}})
	must(err)
	topic := told.Topics[0]
	sort.Slice(topic.Partitions, func(i, j int) bool { return topic.Partitions[i].ID < topic.Partitions[j].ID })
	return topic
}

func segmentioDescribeTopics(c *command) facts {
	client, ctx, done := segmentio(c)
	defer done()
	ids := func(brokers []kafka.Broker) []int {
		list := []int{}
		for _, b := range brokers {
			list = append(list, b.ID)
		}
		return list
	}
	topics := facts{}
	for _, name := range c.topicNames() {
		found := topicOf(ctx, client, name)
		partitions := []facts{}
		for _, p := range found.Partitions {
			partitions = append(partitions, facts{"partition": p.ID, "leader": p.Leader.ID, "replicas": ids(p.Replicas), "isr": ids(p.Isr)})
		}
		topics[name] = facts{"error": codeOf(found.Error), "partitions": partitions}
	}
	return facts{"topics": topics}
}

func segmentioDescribeConfigs(c *command) facts {
	client, ctx, done := segmentio(c)
	defer done()
	kind := kafka.ResourceTypeBroker
	if c.Kind == "topic" {
		kind = kafka.ResourceTypeTopic
	}
	told, err := client.DescribeConfigs(ctx, &kafka.DescribeConfigsRequest{
		Resources: []kafka.DescribeConfigRequestResource{{ResourceType: kind, ResourceName: c.Name}},
	})
	must(err)
	must(told.Resources[0].Error)
	configs := facts{}
	for _, entry := range told.Resources[0].ConfigEntries {
		configs[entry.ConfigName] = entry.ConfigValue
	}
	return facts{"configs": configs}
}

func segmentioDescribeCluster(c *command) facts {
	client, ctx, done := segmentio(c)
	defer done()
	told, err := client.Metadata(ctx, &kafka.MetadataRequest{})
	must(err)
	brokers := []facts{}
	for _, b := range told.Brokers {
		brokers = append(brokers, facts{"id": b.ID, "host": b.Host, "port": b.Port})
	}
	return facts{"cluster_id": told.ClusterID, "controller": told.Controller.ID, "brokers": brokers}
}

func segmentioCreatePartitions(c *command) facts {
	client, ctx, done := segmentio(c)
	defer done()
	told, err := client.CreatePartitions(ctx, &kafka.CreatePartitionsRequest{
		Topics: []kafka.TopicPartitionsConfig{{Name: c.Topic, Count: c.Count}},
	})
	must(err)
	must(told.Errors[c.Topic])
	return facts{}
}

func segmentioAlterConfigs(c *command) facts {
	client, ctx, done := segmentio(c)
	defer done()
	wanted := kafka.IncrementalAlterConfigsRequestResource{ResourceType: kafka.ResourceTypeTopic, ResourceName: c.Topic}
	for name, value := range c.Set {
		set := kafka.IncrementalAlterConfigsRequestConfig{Name: name, Value: value, ConfigOperation: kafka.ConfigOperationSet}
		wanted.Configs = append(wanted.Configs, set)
	}
	told, err := client.IncrementalAlterConfigs(ctx, &kafka.IncrementalAlterConfigsRequest{
		Resources: []kafka.IncrementalAlterConfigsRequestResource{wanted},
	})
	must(err)
	must(told.Resources[0].Error)
	return facts{}
}

func segmentioListGroups(c *command) facts {
	client, ctx, done := segmentio(c)
	defer done()
	told, err := client.ListGroups(ctx, &kafka.ListGroupsRequest{})
	must(err)
	must(told.Error)
	groups := []string{}
	for _, group := range told.Groups {
		groups = append(groups, group.GroupID)
	}
	return facts{"groups": groups}
}

func segmentioDescribeGroup(c *command) facts {
	client, ctx, done := segmentio(c)
	defer done()
	told, err := client.DescribeGroups(ctx, &kafka.DescribeGroupsRequest{GroupIDs: []string{c.Group}})
	must(err)
	must(told.Groups[0].Error)
	return facts{"state": told.Groups[0].GroupState, "members": len(told.Groups[0].Members)}
}

func segmentioDeleteGroup(c *command) facts {
	client, ctx, done := segmentio(c)
	defer done()
	told, err := client.DeleteGroups(ctx, &kafka.DeleteGroupsRequest{GroupIDs: []string{c.Group}})
	must(err)
	must(told.Errors[c.Group])
	return facts{}
}

func segmentioDeleteOffset(c *command) facts {
	client, ctx, done := segmentio(c)
	defer done()
	told, err := client.OffsetDelete(ctx, &kafka.OffsetDeleteRequest{
		GroupID: c.Group, Topics: map[string][]int{c.Topic: {int(c.Partition)}},
	})
	must(err)
	must(told.Error)
	must(told.Topics[c.Topic][0].Error)
	return facts{}
}
