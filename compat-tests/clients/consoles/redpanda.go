// The calls of Redpanda Console, in its order, each printed as `name<TAB>what came of it`: the essential of the answer,
// or the error's name. The broker is expected to hold a topic of three partitions with ten records in each, and a group
// without members at the end of all of them.
//
// Arguments: bootstrap address, the name of topic and group.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sort"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

var topic, group, made string

type console struct {
	ctx    context.Context
	client *kgo.Client
	admin  *kadm.Client
}

func step(name string, call func() (any, error)) {
	result, err := call()
	var known *kerr.Error
	switch {
	case errors.As(err, &known):
		fmt.Printf("%s\t%s\n", name, known.Message)
	case err != nil:
		fmt.Printf("%s\t%v\n", name, err)
	default:
		fmt.Printf("%s\tok %v\n", name, result)
	}
}

// message tells an absent message from an empty one.
func message(text *string) string {
	if text == nil {
		return "null"
	}
	return fmt.Sprintf("%q", *text)
}

func code(code int16) error {
	return kerr.ErrorForCode(code)
}

func main() {
	topic, group, made = os.Args[2], os.Args[2], os.Args[2]+".made"
	client, err := kgo.NewClient(kgo.SeedBrokers(os.Args[1]))
	if err != nil {
		panic(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c := &console{ctx, client, kadm.NewClient(client)}
	c.start()
	c.topics()
	c.messages()
	c.groups()
	c.administration()
	fmt.Println("end\tok")
}

func (c *console) start() {
	step("endpoint compatibility", func() (any, error) {
		request := kmsg.NewApiVersionsRequest()
		request.ClientSoftwareName, request.ClientSoftwareVersion = "console", "3.0"
		answer, err := request.RequestWith(c.ctx, c.client)
		if err != nil {
			return nil, err
		}
		// What its pages need; a page whose request is missing is hidden.
		wanted := []kmsg.Request{
			&kmsg.DescribeConfigsRequest{}, &kmsg.DescribeGroupsRequest{}, &kmsg.ListGroupsRequest{},
			&kmsg.DeleteRecordsRequest{}, &kmsg.OffsetCommitRequest{}, &kmsg.DeleteGroupsRequest{},
			&kmsg.OffsetDeleteRequest{}, &kmsg.ListPartitionReassignmentsRequest{},
			&kmsg.IncrementalAlterConfigsRequest{}, &kmsg.AlterPartitionAssignmentsRequest{},
			&kmsg.DescribeClientQuotasRequest{}, &kmsg.DescribeUserSCRAMCredentialsRequest{},
			&kmsg.AlterUserSCRAMCredentialsRequest{},
		}
		served := make(map[int16]bool)
		for _, key := range answer.ApiKeys {
			served[key.ApiKey] = true
		}
		var hidden []string
		for _, request := range wanted {
			if !served[request.Key()] {
				hidden = append(hidden, kmsg.NameForKey(request.Key()))
			}
		}
		return hidden, code(answer.ErrorCode)
	})
	step("version guess", func() (any, error) {
		versions, err := c.admin.ApiVersions(c.ctx)
		for _, version := range versions {
			return strings.Contains(version.VersionGuess(), "v"), version.Err
		}
		return nil, err
	})
	step("cluster", func() (any, error) {
		request := kmsg.NewMetadataRequest()
		answer, err := request.RequestWith(c.ctx, c.client)
		if err != nil {
			return nil, err
		}
		return []any{len(answer.Brokers), answer.ControllerID == answer.Brokers[0].NodeID, len(*answer.ClusterID) >= 22}, nil
	})
	step("broker settings", func() (any, error) {
		meta, err := c.admin.BrokerMetadata(c.ctx)
		if err != nil {
			return nil, err
		}
		request := kmsg.NewDescribeConfigsRequest()
		resource := kmsg.NewDescribeConfigsRequestResource()
		resource.ResourceType = kmsg.ConfigResourceTypeBroker
		resource.ResourceName = fmt.Sprint(meta.Controller)
		request.Resources = append(request.Resources, resource)
		request.IncludeSynonyms = true
		answer, err := request.RequestWith(c.ctx, c.client)
		if err != nil {
			return nil, err
		}
		return settings(answer.Resources[0], "num.partitions", "delete.topic.enable"), code(answer.Resources[0].ErrorCode)
	})
}

func settings(resource kmsg.DescribeConfigsResponseResource, names ...string) []string {
	var told []string
	for _, config := range resource.Configs {
		for _, name := range names {
			if config.Name == name {
				told = append(told, fmt.Sprintf("%s=%s/%v/%v/%d", name, *config.Value, config.Source, config.ConfigType,
					len(config.ConfigSynonyms)))
			}
		}
	}
	sort.Strings(told)
	return told
}

func (c *console) topics() {
	step("topics", func() (any, error) {
		meta, err := c.admin.Metadata(c.ctx)
		if err != nil {
			return nil, err
		}
		told := meta.Topics[topic]
		return []any{len(told.Partitions), told.IsInternal, len(told.Partitions[0].Replicas)}, meta.Topics.Error()
	})
	step("topic settings", func() (any, error) {
		request := kmsg.NewDescribeConfigsRequest()
		resource := kmsg.NewDescribeConfigsRequestResource()
		resource.ResourceType, resource.ResourceName = kmsg.ConfigResourceTypeTopic, topic
		request.Resources = append(request.Resources, resource)
		request.IncludeSynonyms, request.IncludeDocumentation = true, true
		answer, err := request.RequestWith(c.ctx, c.client)
		if err != nil {
			return nil, err
		}
		return settings(answer.Resources[0], "cleanup.policy", "max.message.bytes"), code(answer.Resources[0].ErrorCode)
	})
	step("log dirs", func() (any, error) {
		dirs, err := c.admin.DescribeAllLogDirs(c.ctx, nil)
		if err != nil {
			return nil, err
		}
		sized := 0
		dirs.Each(func(dir kadm.DescribedLogDir) {
			err = errors.Join(err, dir.Err)
			dir.Topics.Each(func(p kadm.DescribedLogDirPartition) {
				if p.Topic == topic && p.Size > 0 {
					sized++
				}
			})
		})
		return sized, err
	})
	step("log dirs of a topic", func() (any, error) {
		var set kadm.TopicsSet
		set.Add(topic, 0, 2)
		dirs, err := c.admin.DescribeAllLogDirs(c.ctx, set)
		count := 0
		dirs.Each(func(dir kadm.DescribedLogDir) {
			dir.Topics.Each(func(kadm.DescribedLogDirPartition) { count++ })
		})
		return count, err
	})
}

func (c *console) messages() {
	step("start offsets", func() (any, error) { return offsets(c.admin.ListStartOffsets(c.ctx, topic)) })
	step("end offsets", func() (any, error) { return offsets(c.admin.ListEndOffsets(c.ctx, topic)) })
	step("offsets after a time", func() (any, error) { return offsets(c.admin.ListOffsetsAfterMilli(c.ctx, 1, topic)) })
	step("offsets of greatest time", func() (any, error) { return offsets(c.admin.ListMaxTimestampOffsets(c.ctx, topic)) })
	step("read", func() (any, error) {
		at := map[int32]kgo.Offset{0: kgo.NewOffset().At(0), 1: kgo.NewOffset().At(0), 2: kgo.NewOffset().At(5)}
		partitions := map[string]map[int32]kgo.Offset{topic: at}
		client, err := kgo.NewClient(append(c.client.Opts(), kgo.ConsumePartitions(partitions))...)
		if err != nil {
			return nil, err
		}
		defer client.Close()
		for count := 0; ; {
			fetches := client.PollFetches(c.ctx)
			if err := fetches.Err(); err != nil {
				return nil, err
			}
			if count += fetches.NumRecords(); count >= 25 {
				return count, nil
			}
		}
	})
}

// send gives the offset of one record, written by a client of its own.
func (c *console) send(more ...kgo.Opt) (any, error) {
	options := append(c.client.Opts(), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	client, err := kgo.NewClient(append(options, more...)...)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	if len(more) > 0 {
		if err := client.BeginTransaction(); err != nil {
			return nil, err
		}
	}
	sent, err := client.ProduceSync(c.ctx, &kgo.Record{Topic: made, Partition: 1, Value: []byte("v")}).First()
	if err == nil && len(more) > 0 {
		err = client.EndTransaction(c.ctx, kgo.TryCommit)
	}
	if err != nil {
		return nil, err
	}
	return sent.Offset, nil
}

func offsets(listed kadm.ListedOffsets, err error) (any, error) {
	var all []string
	listed.Each(func(at kadm.ListedOffset) { all = append(all, fmt.Sprintf("%d:%d", at.Partition, at.Offset)) })
	sort.Strings(all)
	return all, errors.Join(err, listed.Error())
}

func (c *console) groups() {
	step("groups", func() (any, error) {
		groups, err := c.admin.ListGroups(c.ctx)
		return fmt.Sprint(groups[group].State, " ", groups[group].ProtocolType), err
	})
	step("group", func() (any, error) {
		groups, err := c.admin.DescribeGroups(c.ctx, group)
		return fmt.Sprint(groups[group].State, " ", len(groups[group].Members)), errors.Join(err, groups.Error())
	})
	step("group offsets", func() (any, error) {
		fetched := c.admin.FetchManyOffsets(c.ctx, group, "console.nobody")
		count := 0
		for _, of := range fetched {
			of.Fetched.Each(func(kadm.OffsetResponse) { count++ })
		}
		return count, fetched[group].Err
	})
	// It knows no topic ids, without which no broker takes the version of the request that its client prefers.
	step("move group", func() (any, error) {
		request := kmsg.NewOffsetCommitRequest()
		request.Group = group
		moved := kmsg.NewOffsetCommitRequestTopic()
		moved.Topic = topic
		for i := int32(0); i < 3; i++ {
			partition := kmsg.NewOffsetCommitRequestTopicPartition()
			partition.Partition, partition.Offset = i, 4
			moved.Partitions = append(moved.Partitions, partition)
		}
		request.Topics = append(request.Topics, moved)
		answer, err := request.RequestWith(c.ctx, c.client)
		if err != nil {
			return nil, err
		}
		return "", code(answer.Topics[0].Partitions[0].ErrorCode)
	})
	step("delete group offsets", func() (any, error) {
		request := kmsg.NewOffsetDeleteRequest()
		request.Group = group
		deleted := kmsg.NewOffsetDeleteRequestTopic()
		deleted.Topic = topic
		partition := kmsg.NewOffsetDeleteRequestTopicPartition()
		partition.Partition = 2
		deleted.Partitions = append(deleted.Partitions, partition)
		request.Topics = append(request.Topics, deleted)
		answer, err := request.RequestWith(c.ctx, c.client)
		if err != nil {
			return nil, err
		}
		return "", errors.Join(code(answer.ErrorCode), code(answer.Topics[0].Partitions[0].ErrorCode))
	})
	step("delete no group", func() (any, error) {
		answer, err := c.admin.DeleteGroup(c.ctx, "console.nobody")
		return "", errors.Join(err, answer.Err)
	})
	step("delete group", func() (any, error) {
		answer, err := c.admin.DeleteGroup(c.ctx, group)
		return "", errors.Join(err, answer.Err)
	})
}

func (c *console) administration() {
	step("acls", func() (any, error) {
		request := kmsg.NewDescribeACLsRequest()
		request.ResourceType, request.Operation = kmsg.ACLResourceTypeAny, kmsg.ACLOperationAny
		request.PermissionType, request.ResourcePatternType = kmsg.ACLPermissionTypeAny, kmsg.ACLResourcePatternTypeAny
		answer, err := request.RequestWith(c.ctx, c.client)
		if err != nil {
			return nil, err
		}
		return len(answer.Resources), code(answer.ErrorCode)
	})
	step("create acl", func() (any, error) {
		rule := kadm.NewACLs().Topics(topic).ResourcePatternType(kadm.ACLPatternLiteral).Operations(kadm.OpRead).
			Allow("User:me").AllowHosts("*")
		results, err := c.admin.CreateACLs(c.ctx, rule)
		for _, result := range results {
			err = errors.Join(err, result.Err)
		}
		return "", err
	})
	step("delete acls", func() (any, error) {
		request := kmsg.NewDeleteACLsRequest()
		filter := kmsg.NewDeleteACLsRequestFilter()
		filter.ResourceType, filter.Operation = kmsg.ACLResourceTypeAny, kmsg.ACLOperationAny
		filter.PermissionType, filter.ResourcePatternType = kmsg.ACLPermissionTypeAny, kmsg.ACLResourcePatternTypeAny
		request.Filters = append(request.Filters, filter)
		answer, err := request.RequestWith(c.ctx, c.client)
		if err != nil {
			return nil, err
		}
		return "", code(answer.Results[0].ErrorCode)
	})
	step("quotas", func() (any, error) {
		request := kmsg.NewDescribeClientQuotasRequest()
		answer, err := request.RequestWith(c.ctx, c.client)
		if err != nil {
			return nil, err
		}
		return message(answer.ErrorMessage), code(answer.ErrorCode)
	})
	step("users", func() (any, error) {
		request := kmsg.NewDescribeUserSCRAMCredentialsRequest()
		answer, err := request.RequestWith(c.ctx, c.client)
		if err != nil {
			return nil, err
		}
		return message(answer.ErrorMessage), code(answer.ErrorCode)
	})
	step("change quotas", func() (any, error) {
		request := kmsg.NewAlterClientQuotasRequest()
		entry := kmsg.NewAlterClientQuotasRequestEntry()
		client := kmsg.NewAlterClientQuotasRequestEntryEntity()
		client.Type, client.Name = "client-id", kmsg.StringPtr(topic)
		limit := kmsg.NewAlterClientQuotasRequestEntryOp()
		limit.Key, limit.Value = "producer_byte_rate", 1e6
		entry.Entity, entry.Ops = append(entry.Entity, client), append(entry.Ops, limit)
		request.Entries = append(request.Entries, entry)
		answer, err := request.RequestWith(c.ctx, c.client)
		if err != nil {
			return nil, err
		}
		return "", code(answer.Entries[0].ErrorCode)
	})
	step("create user", func() (any, error) {
		user := kadm.UpsertSCRAM{User: topic, Mechanism: kadm.ScramSha256, Iterations: 4096, Password: "secret"}
		answers, err := c.admin.AlterUserSCRAMs(c.ctx, nil, []kadm.UpsertSCRAM{user})
		return len(answers), errors.Join(err, answers.Error())
	})
	step("reassignments", func() (any, error) {
		request := kmsg.NewListPartitionReassignmentsRequest()
		answer, err := request.RequestWith(c.ctx, c.client)
		if err != nil {
			return nil, err
		}
		return len(answer.Topics), code(answer.ErrorCode)
	})
	step("create topic", func() (any, error) {
		request := kmsg.NewCreateTopicsRequest()
		wanted := kmsg.NewCreateTopicsRequestTopic()
		wanted.Topic, wanted.NumPartitions, wanted.ReplicationFactor = made, 2, 1
		policy := kmsg.NewCreateTopicsRequestTopicConfig()
		policy.Name, policy.Value = "cleanup.policy", kmsg.StringPtr("delete")
		wanted.Configs = append(wanted.Configs, policy)
		request.Topics = append(request.Topics, wanted)
		answer, err := request.RequestWith(c.ctx, c.client)
		if err != nil {
			return nil, err
		}
		told := answer.Topics[0]
		return []any{told.NumPartitions, told.ReplicationFactor, len(told.Configs) > 20}, code(told.ErrorCode)
	})
	step("add partitions", func() (any, error) {
		answers, err := c.admin.CreatePartitions(c.ctx, 1, made)
		return len(answers), errors.Join(err, answers[made].Err)
	})
	step("change settings", func() (any, error) {
		value := "1000"
		answers, err := c.admin.AlterTopicConfigs(c.ctx, []kadm.AlterConfig{{Name: "retention.ms", Value: &value}}, made)
		for _, answer := range answers {
			err = errors.Join(err, answer.Err)
		}
		return len(answers), err
	})
	step("change all settings", func() (any, error) {
		request := kmsg.NewAlterConfigsRequest()
		resource := kmsg.NewAlterConfigsRequestResource()
		resource.ResourceType, resource.ResourceName = kmsg.ConfigResourceTypeTopic, made
		request.Resources = append(request.Resources, resource)
		answer, err := request.RequestWith(c.ctx, c.client)
		if err != nil {
			return nil, err
		}
		return "", code(answer.Resources[0].ErrorCode)
	})
	step("reassign", func() (any, error) {
		meta, err := c.admin.BrokerMetadata(c.ctx)
		if err != nil {
			return nil, err
		}
		var wanted kadm.AlterPartitionAssignmentsReq
		wanted.Assign(made, 0, []int32{meta.Controller})
		answers, err := c.admin.AlterPartitionAssignments(c.ctx, wanted)
		return len(answers), errors.Join(err, answers.Error())
	})
	step("send", func() (any, error) { return c.send() })
	step("send in a transaction", func() (any, error) { return c.send(kgo.TransactionalID(topic)) })
	step("delete records", func() (any, error) {
		before := make(kadm.Offsets)
		before.Add(kadm.Offset{Topic: made, Partition: 0, At: 0})
		answers, err := c.admin.DeleteRecords(c.ctx, before)
		return len(answers), errors.Join(err, answers.Error())
	})
	step("delete topic", func() (any, error) {
		answers, err := c.admin.DeleteTopics(c.ctx, made)
		return len(answers), errors.Join(err, answers.Error())
	})
	step("delete no topic", func() (any, error) {
		answers, err := c.admin.DeleteTopics(c.ctx, "console.none")
		return len(answers), errors.Join(err, answers.Error())
	})
}
