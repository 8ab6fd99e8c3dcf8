// The contract of ../README.md, shared by the clients written in Go: command loop, record files, acks files. The first
// argument names the client.
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
	"strings"
	"sync"
	"time"

	"github.com/IBM/sarama"
	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kerr"
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
	DeliveryTimeout int           `json:"delivery_timeout_ms"`
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

	Partition int32             `json:"partition"`
	Count     int32             `json:"count"`
	Before    int64             `json:"before"`
	Set       map[string]string `json:"set"`

	Isolation        string `json:"isolation"`
	TransactionalID  string `json:"transactional_id"`
	End              string `json:"end"`
	OutputPartitions int    `json:"output_partitions"`
	Process          int    `json:"process"`
	Batch            int    `json:"batch"`
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
	var ofFranz *kerr.Error
	var ofSarama sarama.KError
	var ofSegmentio kafka.Error
	switch {
	case errors.As(err, &ofFranz):
		return int(ofFranz.Code)
	case errors.As(err, &ofSarama) && ofSarama > 0:
		return int(ofSarama)
	case errors.As(err, &ofSegmentio) && ofSegmentio > 0:
		return int(ofSegmentio)
	}
	return localError
}

// deadline bounds what an admin client does.
const deadline = 30 * time.Second

type ops map[string]func(*command) facts

var clients = map[string]ops{"franz-go": franzGo, "sarama": ofSarama, "kafka-go": ofSegmentio}

func main() {
	known := clients[os.Args[1]]
	known["stop"] = stop
	lines := bufio.NewReader(os.Stdin)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			os.Exit(0)
		}
		c := new(command)
		must(json.Unmarshal(line, c))
		go answer(known, c)
	}
}

func answer(known ops, c *command) {
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
	say(facts{"id": c.ID, "ok": known[c.Op](c)})
}

// hello tells the version of the module that is the client.
func hello(name, module string) func(*command) facts {
	return func(*command) facts {
		version := "unknown"
		if info, ok := debug.ReadBuildInfo(); ok {
			for _, dep := range info.Deps {
				if dep.Path == module {
					version = dep.Version
				}
			}
		}
		return facts{"client": name, "version": version}
	}
}

func stop(c *command) facts {
	cancel, ok := stops.Load(c.Target)
	if !ok {
		panic(fmt.Errorf("nothing to stop: %d", c.Target))
	}
	cancel.(context.CancelFunc)()
	return facts{}
}

// untilStopped is a context that ends when the command is told to stop.
func untilStopped(c *command) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.Background())
	stops.Store(c.ID, cancel)
	return ctx, cancel
}

func (c *command) timeout() time.Duration {
	if c.TimeoutMs > 0 {
		return time.Duration(c.TimeoutMs) * time.Millisecond
	}
	return 60 * time.Second
}

func (c *command) deliveryTimeout() time.Duration {
	if c.DeliveryTimeout > 0 {
		return time.Duration(c.DeliveryTimeout) * time.Millisecond
	}
	return 60 * time.Second
}

func (c *command) linger() time.Duration {
	if c.LingerMs != nil {
		return time.Duration(*c.LingerMs) * time.Millisecond
	}
	return 5 * time.Millisecond
}

func (c *command) sessionTimeout() time.Duration {
	if c.SessionTimeoutMs > 0 {
		return time.Duration(c.SessionTimeoutMs) * time.Millisecond
	}
	return 10 * time.Second
}

// Records and their file.

type header struct {
	name  string
	value []byte
}

type record struct {
	topic         string
	partition     int32
	offset        int64
	timestamp     int64
	timestampType int8
	codec         int8
	key, value    []byte
	headers       []header
}

func records(c *command) func() *record {
	if n := c.Numbers; n != nil {
		var i int64
		return func() *record {
			if i == n.Count {
				return nil
			}
			value := fmt.Sprintf("%s-%d", n.Prefix, i)
			if len(value) < n.ValueBytes {
				value += strings.Repeat(".", n.ValueBytes-len(value))
			}
			key := fmt.Sprintf("k%d", i%n.Keys)
			i++
			return &record{topic: n.Topic, partition: -1, timestamp: -1, key: []byte(key), value: []byte(value)}
		}
	}
	file, err := os.Open(c.Input)
	must(err)
	in := bufio.NewReaderSize(file, 1<<20)
	return func() *record {
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

func decode(body []byte) *record {
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
	r := &record{topic: string(take(int(binary.BigEndian.Uint16(take(2)))))}
	r.partition = int32(binary.BigEndian.Uint32(take(4)))
	take(8)
	r.timestamp = int64(binary.BigEndian.Uint64(take(8)))
	take(2)
	r.key = sized()
	r.value = sized()
	count := binary.BigEndian.Uint32(take(4))
	for range count {
		name := string(sized())
		r.headers = append(r.headers, header{name, sized()})
	}
	return r
}

func write(w *bufio.Writer, r *record) {
	var b []byte
	sized := func(content []byte) {
		if content == nil {
			b = binary.BigEndian.AppendUint32(b, 0xffffffff)
			return
		}
		b = binary.BigEndian.AppendUint32(b, uint32(len(content)))
		b = append(b, content...)
	}
	b = binary.BigEndian.AppendUint16(b, uint16(len(r.topic)))
	b = append(b, r.topic...)
	b = binary.BigEndian.AppendUint32(b, uint32(r.partition))
	b = binary.BigEndian.AppendUint64(b, uint64(r.offset))
	b = binary.BigEndian.AppendUint64(b, uint64(r.timestamp))
	b = append(b, byte(r.timestampType), byte(r.codec))
	sized(r.key)
	sized(r.value)
	b = binary.BigEndian.AppendUint32(b, uint32(len(r.headers)))
	for _, h := range r.headers {
		sized(append([]byte{}, h.name...))
		sized(h.value)
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

// acks writes the acks file and counts; safe from any goroutine.
type acks struct {
	c                   *command
	file                *os.File
	out                 *bufio.Writer
	window              chan struct{}
	lock                sync.Mutex
	sent, acked, failed int64
}

func newAcks(c *command) *acks {
	slots := c.Window
	if slots == 0 {
		slots = 100_000
	}
	file, out := create(c.AcksOutput)
	return &acks{c: c, file: file, out: out, window: make(chan struct{}, slots)}
}

// next waits for room in the window and gives the index of the record to send.
func (a *acks) next() int64 {
	a.window <- struct{}{}
	a.sent++
	return a.sent - 1
}

func (a *acks) told(index int64, partition int32, offset, timestamp int64, err error) {
	if err != nil {
		partition, offset, timestamp = -1, -1, -1
		fmt.Fprintln(os.Stderr, "not produced:", err)
	}
	if a.c.Acks == "0" {
		offset = -1
	}
	line := binary.BigEndian.AppendUint64(nil, uint64(index))
	line = binary.BigEndian.AppendUint32(line, uint32(partition))
	line = binary.BigEndian.AppendUint64(line, uint64(offset))
	line = binary.BigEndian.AppendUint64(line, uint64(timestamp))
	line = binary.BigEndian.AppendUint16(line, uint16(int16(codeOf(err))))
	a.lock.Lock()
	a.out.Write(line)
	if err == nil {
		a.acked++
	} else {
		a.failed++
	}
	count := a.acked
	a.lock.Unlock()
	if err == nil && count%1000 == 0 {
		event(a.c.ID, "acked", facts{"count": count})
	}
	<-a.window
}

func (a *acks) close() facts {
	must(a.out.Flush())
	must(a.file.Close())
	return facts{"sent": a.sent, "acked": a.acked, "failed": a.failed}
}
