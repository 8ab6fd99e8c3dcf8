// Wraps KafkaJS behind the contract of ../README.md.
'use strict'

const fs = require('fs')
const { randomUUID } = require('crypto')
const { Kafka, AssignerProtocol, CompressionCodecs, CompressionTypes, ConfigResourceTypes, Partitioners, logLevel } = require('kafkajs')
const lz4 = require('lz4-napi')
const snappy = require('snappyjs')
const zstd = require('@bokuweb/zstd-wasm')

const { LOCAL_ERROR, stops, event, serve, records, encode, Acks } = require('./contract')

const CODECS = { none: CompressionTypes.None, gzip: CompressionTypes.GZIP, snappy: CompressionTypes.Snappy, lz4: CompressionTypes.LZ4, zstd: CompressionTypes.ZSTD }

// KafkaJS itself brings gzip only; these are the plug-ins its users write.
const XERIAL = Buffer.from([0x82, 0x53, 0x4e, 0x41, 0x50, 0x50, 0x59, 0x00])
CompressionCodecs[CompressionTypes.Snappy] = () => ({
  compress: async (encoder) => snappy.compress(encoder.buffer),
  decompress: async (buffer) => {
    if (!buffer.subarray(0, 8).equals(XERIAL)) return snappy.uncompress(buffer)
    const chunks = []
    for (let at = 16; at < buffer.length; ) {
      const size = buffer.readInt32BE(at)
      chunks.push(snappy.uncompress(buffer.subarray(at + 4, at + 4 + size)))
      at += 4 + size
    }
    return Buffer.concat(chunks)
  },
})
CompressionCodecs[CompressionTypes.LZ4] = () => ({
  compress: async (encoder) => lz4.compressFrame(encoder.buffer),
  decompress: async (buffer) => lz4.decompressFrame(buffer),
})
CompressionCodecs[CompressionTypes.ZSTD] = () => ({
  compress: async (encoder) => Buffer.from(zstd.compress(encoder.buffer)),
  decompress: async (buffer) => Buffer.from(zstd.decompress(buffer, { defaultHeapSize: 1 << 24 })),
})

function codeOf(error) {
  for (let e = error; e; e = e.cause || (e.errors && e.errors[0])) {
    if (typeof e.code === 'number' && e.code > 0) return e.code
  }
  return LOCAL_ERROR
}

function kafka(command) {
  return new Kafka({
    clientId: 'kafkajs',
    brokers: [command.bootstrap],
    logLevel: logLevel.ERROR,
    logCreator: () => ({ namespace, log }) => process.stderr.write(`[${log.timestamp}] ${namespace} ${log.message} ${log.error || ''}\n`),
    retry: { initialRetryTime: 100, maxRetryTime: 500, retries: Math.ceil((command.delivery_timeout_ms || 5000) / 500) },
  })
}

// A name that comes twice is a list; KafkaJS has no other order than that of first mention.
function toHeaders(pairs) {
  const headers = {}
  for (const [name, value] of pairs) {
    if (name in headers) headers[name] = [].concat(headers[name], [value])
    else headers[name] = value
  }
  return headers
}

const toRecord = (message) => ({
  ...message,
  headers: Object.entries(message.headers || {}).flatMap(([header, value]) =>
    (Array.isArray(value) ? value : [value]).map((one) => [header, one === undefined ? null : one])),
})

// Producing.

async function endTransaction(transaction, command) {
  for (const { topic, partition, offset } of command.offsets || []) {
    await transaction.sendOffsets({ consumerGroupId: command.group, topics: [{ topic, partitions: [{ partition, offset: String(offset) }] }] })
  }
  await (command.end === 'commit' ? transaction.commit() : transaction.abort())
}

async function produce(command) {
  const inner = Partitioners.DefaultPartitioner()
  const producer = kafka(command).producer({
    idempotent: command.idempotent || command.transactional_id !== undefined,
    transactionalId: command.transactional_id,
    maxInFlightRequests: 1,
    allowAutoTopicCreation: true,
    createPartitioner: () => (args) => (args.message.chosen = inner(args)),
  })
  const acks = { 0: 0, 1: 1, all: -1 }[command.acks || 'all']
  const told = new Acks(command)
  let stopped = false
  stops.set(command.id, () => (stopped = true))
  await producer.connect()
  const transaction = command.transactional_id === undefined ? null : await producer.transaction()

  const send = async (chunk) => {
    const topics = new Map()
    for (const { record, index } of chunk) {
      const message = { key: record.key, value: record.value, headers: toHeaders(record.headers), index }
      if (record.partition >= 0) message.partition = record.partition
      if (record.timestamp >= 0) message.timestamp = String(record.timestamp)
      if (!topics.has(record.topic)) topics.set(record.topic, [])
      topics.get(record.topic).push(message)
    }
    try {
      const lines = []
      const topicMessages = [...topics].map(([topic, messages]) => ({ topic, messages }))
      const answer = await (transaction || producer).sendBatch({ acks, compression: CODECS[command.codec || 'none'], timeout: 10000, topicMessages })
      const next = new Map(answer.map((p) => [`${p.topicName}/${p.partition}`, BigInt(p.baseOffset)]))
      for (const { topic, messages } of topicMessages) {
        for (const message of messages) {
          const where = `${topic}/${message.chosen}`
          const offset = next.has(where) ? next.get(where) : -1n
          if (offset >= 0n) next.set(where, offset + 1n)
          lines.push(told.line(message.index, message.chosen, offset, -1, 0))
        }
      }
      told.acked(lines)
    } catch (error) {
      process.stderr.write(`${error}\n`)
      told.refused(chunk.map(({ index }) => index), codeOf(error))
    }
  }

  let chunk = []
  let bytes = 0
  for (const record of records(command)) {
    if (stopped) break
    const size = (record.key ? record.key.length : 0) + (record.value ? record.value.length : 0) + 100
    if (chunk.length > 0 && (chunk.length >= 1000 || bytes + size > (command.batch_bytes || 262144))) {
      await send(chunk)
      chunk = []
      bytes = 0
    }
    chunk.push({ record, index: told.counts.sent++ })
    bytes += size
  }
  if (chunk.length > 0) await send(chunk)
  if (transaction !== null) await endTransaction(transaction, command)
  await producer.disconnect()
  return told.close()
}

// Consuming.

async function withAdmin(command, use) {
  const admin = kafka(command).admin()
  await admin.connect()
  try {
    return await use(admin)
  } finally {
    await admin.disconnect()
  }
}

async function consume(command) {
  const left = new Map()
  const starts = []
  await withAdmin(command, async (admin) => {
    for (const topic of command.topics) {
      const found = 'from_timestamp' in command ? await admin.fetchTopicOffsetsByTimestamp(topic, command.from_timestamp) : []
      const at = new Map(found.map((p) => [p.partition, p.offset]))
      for (const { partition, low, high } of await admin.fetchTopicOffsets(topic)) {
        const offset = at.has(partition) ? at.get(partition) : 'from_offset' in command ? String(command.from_offset) : low
        if (BigInt(offset) < 0n || BigInt(offset) >= BigInt(high)) continue
        left.set(`${topic}/${partition}`, BigInt(high))
        starts.push({ topic, partition, offset })
      }
    }
  })
  const out = fs.openSync(command.output, 'w')
  let count = 0
  if (left.size > 0) {
    const readUncommitted = command.isolation === 'read_uncommitted'
    const consumer = kafka(command).consumer({ groupId: `consume-${randomUUID()}`, maxWaitTimeInMs: 100, maxBytesPerPartition: 4194304, readUncommitted })
    await consumer.connect()
    await consumer.subscribe({ topics: command.topics, fromBeginning: true })
    await new Promise((done, failed) => {
      const timer = setTimeout(() => failed(new Error(`timed out after ${count} records, unread: ${[...left.keys()]}`)), command.timeout_ms || 60000)
      const finish = () => { clearTimeout(timer); done() }
      consumer.on(consumer.events.CRASH, ({ payload }) => { clearTimeout(timer); failed(payload.error) })
      consumer.run({
        autoCommit: false,
        eachBatch: async ({ batch }) => {
          const where = `${batch.topic}/${batch.partition}`
          if (!left.has(where)) return
          const end = left.get(where)
          const wanted = batch.messages.filter((message) => BigInt(message.offset) < end)
          fs.writeSync(out, Buffer.concat(wanted.map((message) => encode(batch.topic, batch.partition, toRecord(message)))))
          count += wanted.length
          if (BigInt(batch.lastOffset()) + 1n >= end) left.delete(where)
          if (left.size === 0) finish()
        },
      }).catch(failed)
      for (const start of starts) consumer.seek(start)
    }).finally(() => consumer.disconnect())
  }
  fs.closeSync(out)
  return { records: count }
}

// KafkaJS names its assigner as nobody else does; in a mixed group all members must share a name.
const assigner = (name, share) => ({ cluster }) => ({
  name,
  version: 0,
  async assign({ members }) {
    const subscribed = new Map()
    for (const { memberId, memberMetadata } of members) {
      for (const topic of AssignerProtocol.MemberMetadata.decode(memberMetadata).topics) {
        if (!subscribed.has(topic)) subscribed.set(topic, [])
        subscribed.get(topic).push(memberId)
      }
    }
    const assignment = new Map(members.map(({ memberId }) => [memberId, {}]))
    let turn = 0
    for (const topic of [...subscribed.keys()].sort()) {
      await cluster.addTargetTopic(topic)
      const owners = subscribed.get(topic).sort()
      const partitions = cluster.findTopicPartitionMetadata(topic).map((p) => p.partitionId).sort((a, b) => a - b)
      partitions.forEach((partition, i) => {
        const owner = owners[share === 'range' ? Math.floor((i * owners.length) / partitions.length) : turn++ % owners.length]
        const mine = assignment.get(owner)
        ;(mine[topic] = mine[topic] || []).push(partition)
      })
    }
    return [...assignment].map(([memberId, mine]) => ({
      memberId,
      memberAssignment: AssignerProtocol.MemberAssignment.encode({ version: 0, assignment: mine, userData: Buffer.alloc(0) }),
    }))
  },
  protocol: ({ topics }) => ({
    name,
    metadata: AssignerProtocol.MemberMetadata.encode({ version: 0, topics, userData: Buffer.alloc(0) }),
  }),
})

async function group(command) {
  const sessionTimeout = command.session_timeout_ms || 10000
  const name = command.assignor || 'range'
  const consumer = kafka(command).consumer({
    groupId: command.group,
    sessionTimeout,
    rebalanceTimeout: Math.max(sessionTimeout, 10000),
    heartbeatInterval: Math.max(Math.floor(sessionTimeout / 5), 100),
    maxWaitTimeInMs: 100,
    partitionAssigners: [assigner(name, name)],
    retry: { initialRetryTime: 100, maxRetryTime: 500, retries: 1000 },
  })
  const out = fs.openSync(command.output, 'w')
  let count = 0
  let owned = []
  consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => {
    event(command.id, 'revoked', { partitions: owned })
    owned = Object.entries(payload.memberAssignment).flatMap(([topic, partitions]) => partitions.map((p) => [topic, p]))
    event(command.id, 'assigned', { partitions: owned })
  })
  await consumer.connect()
  await consumer.subscribe({ topics: command.topics, fromBeginning: true })
  const stopped = new Promise((done, failed) => {
    stops.set(command.id, done)
    consumer.on(consumer.events.CRASH, ({ payload }) => { if (!payload.restart) failed(payload.error) })
  })
  await consumer.run({
    autoCommit: false,
    partitionsConsumedConcurrently: 1,
    eachBatch: async ({ batch, heartbeat }) => {
      fs.writeSync(out, Buffer.concat(batch.messages.map((message) => encode(batch.topic, batch.partition, toRecord(message)))))
      count += batch.messages.length
      event(command.id, 'received', { count })
      if (command.commit !== false) {
        const offset = String(BigInt(batch.lastOffset()) + 1n)
        try {
          await consumer.commitOffsets([{ topic: batch.topic, partition: batch.partition, offset }])
        } catch (lost) {
          process.stderr.write(`commit failed: ${lost}\n`)
          if (lost.type === 'REBALANCE_IN_PROGRESS' || lost.type === 'UNKNOWN_MEMBER_ID' || lost.type === 'ILLEGAL_GENERATION') throw lost
        }
      }
      await heartbeat()
    },
  })
  await stopped
  await consumer.disconnect()
  fs.closeSync(out)
  return { records: count }
}

// Offsets.

async function list_offsets(command) {
  return withAdmin(command, async (admin) => {
    const at = command.at
    const found = at === 'earliest' || at === 'latest'
      ? (await admin.fetchTopicOffsets(command.topic)).map((p) => ({ partition: p.partition, offset: at === 'earliest' ? p.low : p.high }))
      : await admin.fetchTopicOffsetsByTimestamp(command.topic, Number(at))
    const offsets = new Map(found.map((p) => [p.partition, Number(p.offset)]))
    return { offsets: command.partitions.map((partition) => ({ partition, offset: offsets.get(partition), timestamp: -1 })) }
  })
}

// As a member: the admin client's way asks for more than the offset commit.
async function commit(command) {
  const topics = [...new Set(command.offsets.map(({ topic }) => topic))]
  const consumer = kafka(command).consumer({ groupId: command.group })
  await consumer.connect()
  try {
    await consumer.subscribe({ topics })
    const joined = new Promise((done, failed) => {
      consumer.on(consumer.events.GROUP_JOIN, done)
      consumer.on(consumer.events.CRASH, ({ payload }) => failed(payload.error))
    })
    await consumer.run({ autoCommit: false, eachMessage: async () => {} })
    await joined
    await consumer.commitOffsets(command.offsets.map(({ topic, partition, offset, metadata }) => ({ topic, partition, offset: String(offset), metadata: metadata || '' })))
  } finally {
    await consumer.disconnect()
  }
  return {}
}

async function committed(command) {
  return withAdmin(command, async (admin) => {
    const [found] = await admin.fetchOffsets({ groupId: command.group, topics: [command.topic] })
    const offsets = new Map(found.partitions.map((p) => [p.partition, p]))
    return { offsets: command.partitions.map((partition) => ({ partition, offset: Number(offsets.get(partition).offset), metadata: offsets.get(partition).metadata || '' })) }
  })
}

// Administration.

const TOPIC_ALREADY_EXISTS = 36

async function create_topics(command) {
  return withAdmin(command, async (admin) => {
    const results = {}
    for (const { name, partitions, replication, configs } of command.topics) {
      try {
        const created = await admin.createTopics({
          waitForLeaders: true,
          topics: [{
            topic: name,
            numPartitions: partitions === undefined ? -1 : partitions,
            replicationFactor: replication === undefined ? -1 : replication,
            configEntries: Object.entries(configs || {}).map(([key, value]) => ({ name: key, value })),
          }],
        })
        results[name] = created ? 0 : TOPIC_ALREADY_EXISTS
      } catch (error) {
        results[name] = codeOf(error)
      }
    }
    return { results }
  })
}

async function delete_topics(command) {
  return withAdmin(command, async (admin) => {
    const results = {}
    for (const name of command.topics) {
      try {
        await admin.deleteTopics({ topics: [name] })
        results[name] = 0
      } catch (error) {
        results[name] = codeOf(error)
      }
    }
    return { results }
  })
}

const list_topics = (command) => withAdmin(command, async (admin) => ({ topics: (await admin.listTopics()).sort() }))

async function describe_topics(command) {
  return withAdmin(command, async (admin) => {
    const topics = {}
    for (const name of command.topics) {
      try {
        const [found] = (await admin.fetchTopicMetadata({ topics: [name] })).topics
        topics[name] = {
          error: 0,
          partitions: found.partitions.map((p) => ({ partition: p.partitionId, leader: p.leader, replicas: p.replicas, isr: p.isr })),
        }
      } catch (error) {
        topics[name] = { error: codeOf(error), partitions: [] }
      }
    }
    return { topics }
  })
}

async function describe_configs(command) {
  return withAdmin(command, async (admin) => {
    const type = command.kind === 'topic' ? ConfigResourceTypes.TOPIC : ConfigResourceTypes.BROKER
    const { resources } = await admin.describeConfigs({ includeSynonyms: false, resources: [{ type, name: command.name }] })
    return { configs: Object.fromEntries(resources[0].configEntries.map((entry) => [entry.configName, entry.configValue])) }
  })
}

async function describe_cluster(command) {
  return withAdmin(command, async (admin) => {
    const cluster = await admin.describeCluster()
    return {
      cluster_id: cluster.clusterId,
      controller: cluster.controller === null ? -1 : cluster.controller,
      brokers: cluster.brokers.map((b) => ({ id: b.nodeId, host: b.host, port: b.port })),
    }
  })
}

/** Some of its errors keep what the broker said of each part to themselves. */
const unfolded = (parts) => (error) => {
  const told = error[parts] || (error.cause && error.cause[parts]) || []
  throw (told[0] && told[0].error) || error
}

const create_partitions = (command) => withAdmin(command, async (admin) => {
  await admin.createPartitions({ topicPartitions: [{ topic: command.topic, count: command.count }] })
  return {}
})

const delete_records = (command) => withAdmin(command, async (admin) => {
  const partitions = [{ partition: command.partition, offset: String(command.before) }]
  // It deletes in topics alone of which it has heard.
  await admin.fetchTopicOffsets(command.topic)
  await admin.deleteTopicRecords({ topic: command.topic, partitions }).catch(unfolded('partitions'))
  return { low: -1 }
})

const alter_configs = (command) => withAdmin(command, async (admin) => {
  const configEntries = Object.entries(command.set).map(([name, value]) => ({ name, value }))
  await admin.alterConfigs({ validateOnly: false, resources: [{ type: ConfigResourceTypes.TOPIC, name: command.topic, configEntries }] })
  return {}
})

const list_groups = (command) => withAdmin(command, async (admin) => ({ groups: (await admin.listGroups()).groups.map(({ groupId }) => groupId) }))

const describe_group = (command) => withAdmin(command, async (admin) => {
  const { groups: [told] } = await admin.describeGroups([command.group])
  return { state: told.state, members: told.members.length }
})

const delete_group = (command) => withAdmin(command, async (admin) => {
  await admin.deleteGroups([command.group]).catch(unfolded('groups'))
  return {}
})

const hello = async () => ({ client: 'kafkajs', version: require('kafkajs/package.json').version })

const OPS = { hello, produce, consume, group, list_offsets, commit, committed, create_topics, delete_topics, list_topics, describe_topics, describe_configs, describe_cluster, create_partitions, delete_records, alter_configs, list_groups, describe_group, delete_group }

zstd.init().then(() => serve(OPS, codeOf))
