// The transactional copier of ../README.md on franz-go: its group session, which begins and ends a transaction for
// each batch and commits the group's offsets with it.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sort"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

func now() int64 { return time.Now().UnixMicro() }

// history tells what a command does, as lines of a history.
type history struct {
	id   int64
	last atomic.Int64
}

// begin tells that an operation begins, and gives its number.
func (h *history) begin(f string, more facts) int64 {
	op := h.last.Add(1)
	more["op"], more["type"], more["t"], more["f"] = op, "invoke", now(), f
	event(h.id, "history", more)
	return op
}

// end tells how it ended.
func (h *history) end(op int64, kind string, more facts) {
	more["op"], more["type"], more["t"] = op, kind, now()
	event(h.id, "history", more)
}

// told tells of something that began at a time and has ended now.
func (h *history) told(f string, begun int64, more facts) {
	more["op"], more["type"], more["t_invoke"], more["t"], more["f"] = h.last.Add(1), "ok", begun, now(), f
	event(h.id, "history", more)
}

func outcome(err error) string {
	if err == nil {
		return "ok"
	}
	return "info"
}

type copier struct {
	c          *command
	h          *history
	session    *kgo.GroupTransactSession
	generation atomic.Int64
	copies     int64
	txns       int64
}

func copyAll(c *command) facts {
	ctx, cancel := untilStopped(c)
	defer cancel()
	k := &copier{c: c, h: &history{id: c.ID}}
	for ctx.Err() == nil {
		k.live(ctx)
	}
	return facts{"copies": k.copies}
}

// live is one session, until it is told to stop or does not know how a transaction has ended: then, as its
// documentation asks, the next one begins anew.
func (k *copier) live(ctx context.Context) {
	c := k.c
	k.generation.Add(1)
	var asked atomic.Int64
	asked.Store(now())
	session := c.sessionTimeout()
	options := []kgo.Opt{
		kgo.SeedBrokers(c.Bootstrap),
		kgo.RetryBackoffFn(func(int) time.Duration { return 50 * time.Millisecond }),
		// As long as it takes a killed broker to come back.
		kgo.RequestRetries(1000), kgo.RetryTimeout(60 * time.Second),
		kgo.MetadataMinAge(100 * time.Millisecond),
		kgo.TransactionalID(c.TransactionalID),
		kgo.TransactionTimeout(60 * time.Second),
		kgo.ConsumerGroup(c.Group), kgo.ConsumeTopics(c.Topic), kgo.InstanceID(c.InstanceID),
		kgo.SessionTimeout(session), kgo.HeartbeatInterval(max(session/5, 100*time.Millisecond)),
		kgo.Balancers(kgo.RangeBalancer()),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.FetchMaxWait(100 * time.Millisecond),
		kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(0),
		kgo.OnPartitionsAssigned(func(context.Context, *kgo.Client, map[string][]int32) { k.generation.Add(1) }),
		// What the group's offsets were found to be; when they were asked for is known no better.
		kgo.AdjustFetchOffsetsFn(func(_ context.Context, found map[string]map[int32]kgo.Offset) (map[string]map[int32]kgo.Offset, error) {
			since := asked.Swap(now())
			for topic, partitions := range found {
				for partition, offset := range partitions {
					at := max(offset.EpochOffset().Offset, -1)
					k.h.told("fetch_offset", since, facts{"group": c.Group, "topic": topic, "partition": partition, "offset": at})
				}
			}
			return found, nil
		}),
	}
	var err error
	op := k.h.begin("init", facts{"producer": c.TransactionalID})
	k.session, err = kgo.NewGroupTransactSession(options...)
	must(err)
	defer k.session.CloseAllowingRebalance()
	// The producer id is asked for now, so that what a predecessor left open is ended.
	producerID, epoch, err := k.session.Client().ProducerID(context.Background())
	if err != nil {
		fmt.Fprintln(os.Stderr, "again:", err)
		k.h.end(op, "info", facts{})
		return
	}
	k.h.end(op, "ok", facts{"producer_id": producerID, "epoch": epoch})
	for ctx.Err() == nil && k.step(ctx) {
	}
}

// step copies one batch, if there is one. Whether the session is good for another one.
func (k *copier) step(ctx context.Context) bool {
	begun := now()
	fetches := k.session.PollRecords(ctx, k.c.Batch)
	fetches.EachError(func(topic string, partition int32, err error) {
		if !errors.Is(err, context.Canceled) {
			fmt.Fprintln(os.Stderr, "fetch:", topic, partition, err)
		}
	})
	if fetches.NumRecords() == 0 {
		return true
	}
	k.txns++
	txn := fmt.Sprintf("%s#%d.%d", k.c.TransactionalID, k.c.Process, k.txns)
	next := map[int32]int64{}
	fetches.EachPartition(func(p kgo.FetchTopicPartition) {
		if len(p.Records) == 0 {
			return
		}
		read := [][2]any{}
		for _, r := range p.Records {
			read = append(read, [2]any{r.Offset, string(r.Value)})
			next[r.Partition] = r.Offset + 1
		}
		k.h.told("poll", begun, facts{
			"topic": p.Topic, "partition": p.Partition, "isolation": "read_committed", "mode": "subscribe",
			"generation": k.generation.Load(), "records": read, "txn": txn,
		})
	})
	must(k.session.Begin())
	fetches.EachRecord(func(r *kgo.Record) { k.send(txn, r) })
	offsets := k.offsets(txn, next)
	ended := k.h.begin("end", facts{"txn": txn, "commit": true, "producer": k.c.TransactionalID})
	// Its own retries are patient; a command that is stopped still ends its transaction.
	committed, err := k.session.End(context.Background(), kgo.TryCommit)
	for _, op := range offsets {
		k.h.end(op, outcome(err), facts{})
	}
	switch {
	case err != nil:
		fmt.Fprintln(os.Stderr, "not ended:", err)
		k.h.end(ended, "info", facts{"commit": true})
		return false
	case committed:
		k.h.end(ended, "ok", facts{"commit": true})
	default:
		// It was told to commit and has aborted: the group had gone on without it, or a record was refused. Where it
		// goes on is where it was before.
		k.h.end(ended, "ok", facts{"commit": false})
		k.generation.Add(1)
	}
	return true
}

func (k *copier) send(txn string, r *kgo.Record) {
	k.copies++
	value := fmt.Sprintf("%s~%d.%d", r.Value, k.c.Process, k.copies)
	to := int32(k.copies % int64(k.c.OutputPartitions))
	op := k.h.begin("send", facts{
		"topic": k.c.Output, "partition": to, "value": value, "txn": txn, "producer": k.c.TransactionalID, "input": string(r.Value),
	})
	made := &kgo.Record{Topic: k.c.Output, Partition: to, Key: r.Key, Value: []byte(value)}
	k.session.Produce(context.Background(), made, func(sent *kgo.Record, err error) {
		if err != nil {
			fmt.Fprintln(os.Stderr, "not produced:", err)
			k.h.end(op, "info", facts{})
			return
		}
		k.h.end(op, "ok", facts{"offset": sent.Offset})
	})
}

func (k *copier) offsets(txn string, next map[int32]int64) []int64 {
	partitions := []int{}
	for partition := range next {
		partitions = append(partitions, int(partition))
	}
	sort.Ints(partitions)
	ops := []int64{}
	for _, partition := range partitions {
		ops = append(ops, k.h.begin("commit_offset", facts{
			"group": k.c.Group, "topic": k.c.Topic, "partition": partition, "offset": next[int32(partition)], "txn": txn,
		}))
	}
	return ops
}
