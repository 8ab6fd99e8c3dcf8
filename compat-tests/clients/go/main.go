// Wraps franz-go behind the contract of ../README.md.
package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

const localError = -1000

type numbersInput struct {
	Topic      string `json:"topic"`
	Prefix     string `json:"prefix"`
	Count      int64  `json:"count"`
	Keys       int64  `json:"keys"`
	ValueBytes int    `json:"value_bytes"`
}

type newTopic struct {
	Name        string             `json:"name"`
	Partitions  *int32             `json:"partitions"`
	Replication *int16             `json:"replication"`
	Configs     map[string]*string `json:"configs"`
}

type wantedOffset struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Offset    int64  `json:"offset"`
	Metadata  string `json:"metadata"`
}

type command struct {
	ID        int64  `json:"id"`
	Op        string `json:"op"`
	Bootstrap string `json:"bootstrap"`

	Input           string        `json:"input"`
	Numbers         *numbersInput `json:"numbers"`
	AcksOutput      string        `json:"acks_output"`
	Acks            string        `json:"acks"`
	Codec           string        `json:"codec"`
	Idempotent      bool          `json:"idempotent"`
	LingerMs        *int          `json:"linger_ms"`
	MaxRequestBytes int32         `json:"max_request_bytes"`
	Window          int           `json:"window"`

	Topics           json.RawMessage `json:"topics"`
	FromOffset       *int64          `json:"from_offset"`
	FromTimestamp    *int64          `json:"from_timestamp"`
	Output           string          `json:"output"`
	TimeoutMs        int             `json:"timeout_ms"`
	AutoCreate       bool            `json:"auto_create"`
	Group            string          `json:"group"`
	Assignor         string          `json:"assignor"`
	InstanceID       string          `json:"instance_id"`
	SessionTimeoutMs int             `json:"session_timeout_ms"`
	Commit           *bool           `json:"commit"`
	Target           int64           `json:"target"`

	Topic      string         `json:"topic"`
	Partitions []int32        `json:"partitions"`
	At         string         `json:"at"`
	Offsets    []wantedOffset `json:"offsets"`
	Kind       string         `json:"kind"`
	Name       string         `json:"name"`
}

func (c *command) topicNames() []string {
	var names []string
	must(json.Unmarshal(c.Topics, &names))
	return names
}

type facts map[string]any

var (
	out   sync.Mutex
	stops sync.Map // id → context.CancelFunc
)

func say(line facts) {
	text, err := json.Marshal(line)
	must(err)
	out.Lock()
	defer out.Unlock()
	os.Stdout.Write(append(text, '\n'))
}

func event(id int64, name string, more facts) {
	more["id"], more["event"] = id, name
	say(more)
}

// must turns an error into a panic that answer reports: every failure of a command ends in its reply.
func must(err error) {
	if err != nil {
		panic(err)
	}
}

func codeOf(err error) int {
	if err == nil {
		return 0
	}
	var known *kerr.Error
	if errors.As(err, &known) {
		return int(known.Code)
	}
	return localError
}

var ops = map[string]func(*command) facts{
	"hello": hello, "produce": produce, "consume": consume, "group": group, "stop": stop,
	"list_offsets": listOffsets, "commit": commit, "committed": committed,
	"create_topics": createTopics, "delete_topics": deleteTopics, "list_topics": listTopics,
	"describe_topics": describeTopics, "describe_configs": describeConfigs, "describe_cluster": describeCluster,
}

func main() {
	lines := bufio.NewReader(os.Stdin)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			os.Exit(0)
		}
		c := new(command)
		must(json.Unmarshal(line, c))
		go answer(c)
	}
}

func answer(c *command) {
	defer func() {
		if failure := recover(); failure != nil {
			code := localError
			if err, ok := failure.(error); ok {
				code = codeOf(err)
			}
			if code == localError {
				fmt.Fprintf(os.Stderr, "%v\n%s\n", failure, debug.Stack())
			}
			say(facts{"id": c.ID, "error": facts{"code": code, "message": fmt.Sprint(failure)}})
		}
	}()
	say(facts{"id": c.ID, "ok": ops[c.Op](c)})
}

func hello(*command) facts {
	version := "unknown"
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, dep := range info.Deps {
			if dep.Path == "github.com/twmb/franz-go" {
				version = dep.Version
			}
		}
	}
	return facts{"client": "franz-go", "version": version}
}

func stop(c *command) facts {
	cancel, ok := stops.Load(c.Target)
	if !ok {
		panic(fmt.Errorf("nothing to stop: %d", c.Target))
	}
	cancel.(context.CancelFunc)()
	return facts{}
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

// Records and their file.

func records(c *command) func() *kgo.Record {
	if n := c.Numbers; n != nil {
		var i int64
		return func() *kgo.Record {
			if i == n.Count {
				return nil
			}
			value := fmt.Sprintf("%s-%d", n.Prefix, i)
			if len(value) < n.ValueBytes {
				value += strings.Repeat(".", n.ValueBytes-len(value))
			}
			key := fmt.Sprintf("k%d", i%n.Keys)
			i++
			return &kgo.Record{Topic: n.Topic, Partition: -1, Key: []byte(key), Value: []byte(value)}
		}
	}
	file, err := os.Open(c.Input)
	must(err)
	in := bufio.NewReaderSize(file, 1<<20)
	return func() *kgo.Record {
		var size [4]byte
		if _, err := io.ReadFull(in, size[:]); err == io.EOF {
			file.Close()
			return nil
		} else {
			must(err)
		}
		body := make([]byte, binary.BigEndian.Uint32(size[:]))
		_, err := io.ReadFull(in, body)
		must(err)
		return decode(body)
	}
}

func decode(body []byte) *kgo.Record {
	take := func(n int) []byte {
		taken := body[:n:n]
		body = body[n:]
		return taken
	}
	sized := func() []byte {
		n := int32(binary.BigEndian.Uint32(take(4)))
		if n < 0 {
			return nil
		}
		return take(int(n))
	}
	r := &kgo.Record{Topic: string(take(int(binary.BigEndian.Uint16(take(2)))))}
	r.Partition = int32(binary.BigEndian.Uint32(take(4)))
	take(8)
	if timestamp := int64(binary.BigEndian.Uint64(take(8))); timestamp >= 0 {
		r.Timestamp = time.UnixMilli(timestamp)
	}
	take(2)
	r.Key = sized()
	r.Value = sized()
	count := binary.BigEndian.Uint32(take(4))
	for range count {
		name := string(sized())
		r.Headers = append(r.Headers, kgo.RecordHeader{Key: name, Value: sized()})
	}
	return r
}

func write(w *bufio.Writer, r *kgo.Record) {
	var b []byte
	sized := func(content []byte) {
		if content == nil {
			b = binary.BigEndian.AppendUint32(b, 0xffffffff)
			return
		}
		b = binary.BigEndian.AppendUint32(b, uint32(len(content)))
		b = append(b, content...)
	}
	b = binary.BigEndian.AppendUint16(b, uint16(len(r.Topic)))
	b = append(b, r.Topic...)
	b = binary.BigEndian.AppendUint32(b, uint32(r.Partition))
	b = binary.BigEndian.AppendUint64(b, uint64(r.Offset))
	b = binary.BigEndian.AppendUint64(b, uint64(r.Timestamp.UnixMilli()))
	b = append(b, byte(r.Attrs.TimestampType()), r.Attrs.CompressionType())
	sized(r.Key)
	sized(r.Value)
	b = binary.BigEndian.AppendUint32(b, uint32(len(r.Headers)))
	for _, h := range r.Headers {
		sized(append([]byte{}, h.Key...))
		sized(h.Value)
	}
	must(binary.Write(w, binary.BigEndian, uint32(len(b))))
	_, err := w.Write(b)
	must(err)
}

func create(path string) (*os.File, *bufio.Writer) {
	file, err := os.Create(path)
	must(err)
	return file, bufio.NewWriterSize(file, 1<<20)
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
	linger := 5
	if c.LingerMs != nil {
		linger = *c.LingerMs
	}
	acks := map[string]kgo.Acks{"": kgo.AllISRAcks(), "all": kgo.AllISRAcks(), "1": kgo.LeaderAck(), "0": kgo.NoAck()}[c.Acks]
	options := []kgo.Opt{
		kgo.RequiredAcks(acks), kgo.ProducerBatchCompression(codec), kgo.RecordPartitioner(chosen()),
		// No RecordDeliveryTimeout: it counts from a record's own timestamp, which may be long past.
		kgo.ProducerLinger(time.Duration(linger) * time.Millisecond),
		kgo.AllowAutoTopicCreation(), kgo.UnknownTopicRetries(3), kgo.MaxBufferedRecords(100_000),
		kgo.ProduceRequestTimeout(10 * time.Second),
	}
	if c.MaxRequestBytes > 0 {
		options = append(options, kgo.ProducerBatchMaxBytes(c.MaxRequestBytes))
	}
	if !c.Idempotent {
		options = append(options, kgo.DisableIdempotentWrite(), kgo.MaxProduceRequestsInflightPerBroker(1))
	}
	producer := client(c, options...)
	defer producer.Close()
	file, acknowledged := create(c.AcksOutput)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	stops.Store(c.ID, cancel)
	slots := c.Window
	if slots == 0 {
		slots = 100_000
	}
	window := make(chan struct{}, slots)
	var (
		lock                sync.Mutex
		sent, acked, failed int64
		next                = records(c)
	)
	for ctx.Err() == nil {
		record := next()
		if record == nil {
			break
		}
		window <- struct{}{}
		index := sent
		sent++
		producer.Produce(context.Background(), record, func(r *kgo.Record, err error) {
			line := binary.BigEndian.AppendUint64(nil, uint64(index))
			partition, offset, timestamp := r.Partition, r.Offset, r.Timestamp.UnixMilli()
			if err != nil {
				partition, offset, timestamp = -1, -1, -1
			}
			if c.Acks == "0" {
				offset = -1
			}
			line = binary.BigEndian.AppendUint32(line, uint32(partition))
			line = binary.BigEndian.AppendUint64(line, uint64(offset))
			line = binary.BigEndian.AppendUint64(line, uint64(timestamp))
			line = binary.BigEndian.AppendUint16(line, uint16(int16(codeOf(err))))
			lock.Lock()
			acknowledged.Write(line)
			if err == nil {
				acked++
			} else {
				failed++
				fmt.Fprintln(os.Stderr, "not produced:", err)
			}
			count := acked
			lock.Unlock()
			if err == nil && count%1000 == 0 {
				event(c.ID, "acked", facts{"count": count})
			}
			<-window
		})
	}
	must(producer.Flush(context.Background()))
	must(acknowledged.Flush())
	must(file.Close())
	return facts{"sent": sent, "acked": acked, "failed": failed}
}

// Consuming.

func consume(c *command) facts {
	timeout := 60 * time.Second
	if c.TimeoutMs > 0 {
		timeout = time.Duration(c.TimeoutMs) * time.Millisecond
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
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
		consumer := client(c, kgo.ConsumePartitions(from), kgo.FetchMaxWait(100*time.Millisecond))
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
					write(output, r)
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
	session := 10 * time.Second
	if c.SessionTimeoutMs > 0 {
		session = time.Duration(c.SessionTimeoutMs) * time.Millisecond
	}
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
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	stops.Store(c.ID, cancel)
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
			write(output, r)
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

const deadline = 30 * time.Second

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
