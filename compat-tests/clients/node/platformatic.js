// Wraps @platformatic/kafka behind the contract of ../README.md.
'use strict'

// What it takes from a newer Node than Debian has.
const zlib = require('zlib')
const zstd = require('@bokuweb/zstd-wasm')
zlib.zstdCompressSync ??= (buffer) => Buffer.from(zstd.compress(buffer))
zlib.zstdDecompressSync ??= (buffer) => Buffer.from(zstd.decompress(buffer, { defaultHeapSize: 1 << 24 }))
Promise.withResolvers ??= () => {
  const made = {}
  made.promise = new Promise((resolve, reject) => Object.assign(made, { resolve, reject }))
  return made
}

const fs = require('fs')
const { randomUUID } = require('crypto')
const { Admin, ConfigResourceTypes, IncrementalAlterConfigOperationTypes, Consumer, ListOffsetTimestamps, Producer, MessagesStreamModes, MessagesStreamFallbackModes, cooperativeStickyAssigner, roundRobinAssigner } = require('@platformatic/kafka')
const { LOCAL_ERROR, stops, event, serve, records, encode, Acks } = require('./contract')

const pause = (ms) => new Promise((done) => setTimeout(done, ms))

const UNKNOWN_TOPIC_OR_PARTITION = 3

function codeOf(error) {
  // It has read Kafka's code, and tells it in words only.
  if (error.code === 'PLT_KFK_USER' && /^Unknown topic/.test(error.message)) return UNKNOWN_TOPIC_OR_PARTITION
  for (let e = error; e; e = e.cause || (e.errors && e.errors[0])) {
    if (typeof e.apiCode === 'number' && e.apiCode > 0) return e.apiCode
  }
  return LOCAL_ERROR
}

const options = (command) => ({ clientId: 'platformatic', bootstrapBrokers: [command.bootstrap], retries: 5, retryDelay: 200, metadataMaxAge: 1000 })

// Producing.

async function produce(command) {
  const timeout = command.delivery_timeout_ms || 60000
  const producer = new Producer({
    ...options(command),
    retries: Math.ceil(timeout / 250),
    retryDelay: 250,
    timeout: Math.min(timeout, 10000),
    autocreateTopics: true,
    idempotent: command.idempotent || false,
    acks: { 0: 0, 1: 1, all: -1 }[command.acks || 'all'],
    compression: command.codec || 'none',
  })
  const told = new Acks(command)
  let stopped = false
  stops.set(command.id, () => (stopped = true))

  // What goes in one call comes back as the first offset of each partition.
  const send = async (chunk) => {
    const messages = chunk.map(({ record }) => {
      const message = { topic: record.topic }
      if (record.key !== null) message.key = record.key
      if (record.value !== null) message.value = record.value
      if (record.partition >= 0) message.partition = record.partition
      if (record.timestamp >= 0) message.timestamp = BigInt(record.timestamp)
      // Names are told apart by identity, so one may come twice.
      if (record.headers.length > 0) message.headers = new Map(record.headers.map(([name, value]) => [Buffer.from(name), value]))
      return message
    })
    try {
      const { offsets = [] } = await producer.send({ messages })
      const next = new Map(offsets.map((p) => [`${p.topic}/${p.partition}`, p.offset]))
      const only = next.size === 1 ? offsets[0].partition : -1
      told.acked(chunk.map(({ record, index }) => {
        const partition = record.partition >= 0 ? record.partition : only
        const where = `${record.topic}/${partition}`
        const offset = next.has(where) ? next.get(where) : -1n
        if (offset >= 0n) next.set(where, offset + 1n)
        return told.line(index, partition, offset, -1, 0)
      }))
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
  await producer.close()
  return told.close()
}

// Consuming.

const toRecord = (message) => ({ ...message, key: message.key ?? null, value: message.value ?? null, offset: message.offset, timestamp: message.timestamp, headers: message.headerEntries.map(([name, value]) => [name, value ?? null]) })

async function withAdmin(command, use) {
  const admin = new Admin(options(command))
  try {
    return await use(admin)
  } finally {
    await admin.close()
  }
}

async function partitionsOf(admin, topic) {
  const { topics } = await admin.metadata({ topics: [topic], forceUpdate: true })
  return [...topics.get(topic).partitions.keys()]
}

async function offsetsAt(admin, topic, partitions, timestamp) {
  const asked = partitions.map((partitionIndex) => ({ partitionIndex, timestamp }))
  const [found] = await admin.listOffsets({ topics: [{ name: topic, partitions: asked }] })
  return new Map(found.partitions.map((p) => [p.partitionIndex, p]))
}

async function consume(command) {
  const left = new Map()
  const offsets = []
  await withAdmin(command, async (admin) => {
    for (const topic of command.topics) {
      const partitions = await partitionsOf(admin, topic)
      const ends = await offsetsAt(admin, topic, partitions, ListOffsetTimestamps.LATEST)
      const starts = await offsetsAt(admin, topic, partitions, 'from_timestamp' in command ? BigInt(command.from_timestamp) : ListOffsetTimestamps.EARLIEST)
      for (const partition of partitions) {
        const offset = 'from_offset' in command ? BigInt(command.from_offset) : starts.get(partition).offset
        const end = ends.get(partition).offset
        if (offset < 0n || offset >= end) {
          // Every partition is fetched: from where nothing of ours comes.
          offsets.push({ topic, partition, offset: end })
          continue
        }
        left.set(`${topic}/${partition}`, end)
        offsets.push({ topic, partition, offset })
      }
    }
  })
  const out = fs.openSync(command.output, 'w')
  let count = 0
  if (left.size > 0) {
    const consumer = new Consumer({ ...options(command), groupId: `consume-${randomUUID()}`, maxWaitTime: 100, maxBytesPerPartition: 4194304 })
    const stream = await consumer.consume({ topics: command.topics, mode: MessagesStreamModes.MANUAL, offsets, autocommit: false })
    await new Promise((done, failed) => {
      const timer = setTimeout(() => failed(new Error(`timed out after ${count} records, unread: ${[...left.keys()]}`)), command.timeout_ms || 60000)
      stream.on('error', failed)
      stream.on('data', (message) => {
        const where = `${message.topic}/${message.partition}`
        const end = left.get(where)
        if (end === undefined) return
        if (message.offset < end) {
          fs.writeSync(out, encode(message.topic, message.partition, toRecord(message)))
          count++
        }
        if (message.offset + 1n >= end) left.delete(where)
        if (left.size === 0) {
          clearTimeout(timer)
          done()
        }
      })
    }).finally(() => consumer.close(true))
  }
  fs.closeSync(out)
  return { records: count }
}

// It brings no range assigner of its own, and in a mixed group all members must share one.
function rangeAssigner(_current, members, topics, metadata) {
  const assignment = new Map([...members.keys()].map((memberId) => [memberId, new Map()]))
  for (const topic of topics) {
    const owners = [...members].filter(([, { topics: wanted }]) => !wanted || wanted.includes(topic)).map(([memberId]) => memberId).sort()
    const count = metadata.topics.get(topic).partitionsCount
    for (let i = 0; i < count; i++) {
      const mine = assignment.get(owners[Math.floor((i * owners.length) / count)])
      if (!mine.has(topic)) mine.set(topic, { topic, partitions: [] })
      mine.get(topic).partitions.push(i)
    }
  }
  return [...assignment].map(([memberId, assignments]) => ({ memberId, assignments }))
}

const ASSIGNERS = { range: rangeAssigner, roundrobin: roundRobinAssigner, 'cooperative-sticky': cooperativeStickyAssigner }

async function group(command) {
  const sessionTimeout = command.session_timeout_ms || 10000
  const name = command.assignor || 'range'
  const consumer = new Consumer({
    ...options(command),
    retries: true,
    groupId: command.group,
    groupInstanceId: command.instance_id,
    sessionTimeout,
    rebalanceTimeout: Math.max(sessionTimeout, 10000),
    heartbeatInterval: Math.max(Math.floor(sessionTimeout / 5), 100),
    maxWaitTime: 100,
    protocols: [{ name, version: name === 'cooperative-sticky' ? 1 : 0 }],
    partitionAssigner: ASSIGNERS[name],
  })
  const out = fs.openSync(command.output, 'w')
  const flat = (assignments) => (assignments || []).flatMap(({ topic, partitions }) => partitions.map((p) => [topic, p]))
  let count = 0
  let owned = []
  consumer.on('consumer:group:join', ({ assignments }) => {
    const now = flat(assignments)
    const among = (list, [topic, partition]) => list.some(([t, p]) => t === topic && p === partition)
    const gone = owned.filter((one) => !among(now, one))
    const come = now.filter((one) => !among(owned, one))
    if (gone.length > 0) event(command.id, 'revoked', { partitions: gone })
    if (come.length > 0 || now.length === 0) event(command.id, 'assigned', { partitions: come })
    owned = now
  })
  let stopped
  const stopping = new Promise((done) => (stopped = done))
  stops.set(command.id, stopped)
  const stream = await consumer.consume({ topics: command.topics, mode: MessagesStreamModes.COMMITTED, fallbackMode: MessagesStreamFallbackModes.EARLIEST, autocommit: false })
  let broken
  const failing = new Promise((_, failed) => (broken = failed))
  stream.on('error', broken)
  // One commit at a time, each of the newest that was read.
  let committing = null
  const read = new Map()
  const commit = async () => {
    while (read.size > 0) {
      const offsets = [...read.values()]
      read.clear()
      try {
        await consumer.commit({ offsets })
      } catch (lost) {
        process.stderr.write(`commit failed: ${lost}\n`)
      }
    }
    committing = null
  }
  stream.on('data', (message) => {
    fs.writeSync(out, encode(message.topic, message.partition, toRecord(message)))
    count++
    event(command.id, 'received', { count })
    read.set(`${message.topic}/${message.partition}`, { topic: message.topic, partition: message.partition, offset: message.offset + 1n, leaderEpoch: -1 })
    if (command.commit !== false && !committing) committing = commit()
  })
  await Promise.race([stopping, failing])
  while (committing) await Promise.race([committing, pause(1000)])
  await consumer.close(true)
  fs.closeSync(out)
  return { records: count }
}

// Offsets.

async function list_offsets(command) {
  const named = { earliest: ListOffsetTimestamps.EARLIEST, latest: ListOffsetTimestamps.LATEST, 'max-timestamp': ListOffsetTimestamps.MAX }
  const at = command.at in named ? named[command.at] : BigInt(command.at)
  const found = await withAdmin(command, (admin) => offsetsAt(admin, command.topic, command.partitions, at))
  return { offsets: command.partitions.map((partition) => ({ partition, offset: Number(found.get(partition).offset), timestamp: Number(found.get(partition).timestamp) })) }
}

async function committed(command) {
  const groups = [{ groupId: command.group, topics: [{ name: command.topic, partitionIndexes: command.partitions }] }]
  const [found] = await withAdmin(command, (admin) => admin.listConsumerGroupOffsets({ groups }))
  const offsets = new Map(found.topics.flatMap((topic) => topic.partitions.map((p) => [p.partitionIndex, p])))
  return { offsets: command.partitions.map((partition) => ({ partition, offset: Number(offsets.get(partition).committedOffset), metadata: offsets.get(partition).metadata || '' })) }
}

// Administration.

async function outcome(action) {
  try {
    await action()
    return 0
  } catch (error) {
    if (codeOf(error) === LOCAL_ERROR) throw error
    return codeOf(error)
  }
}

const create_topics = (command) => withAdmin(command, async (admin) => {
  const results = {}
  for (const { name, partitions = -1, replication = -1, configs = {} } of command.topics) {
    const entries = Object.entries(configs).map(([key, value]) => ({ name: key, value }))
    results[name] = await outcome(() => admin.createTopics({ topics: [name], partitions, replicas: replication, configs: entries }))
  }
  return { results }
})

const delete_topics = (command) => withAdmin(command, async (admin) => {
  const results = {}
  for (const name of command.topics) results[name] = await outcome(() => admin.deleteTopics({ topics: [name] }))
  return { results }
})

const list_topics = (command) => withAdmin(command, async (admin) => ({ topics: (await admin.listTopics({ includeInternals: true })).sort() }))

const describe_topics = (command) => withAdmin(command, async (admin) => {
  const topics = {}
  for (const name of command.topics) {
    const partitions = []
    const error = await outcome(async () => {
      const { topics: found } = await admin.metadata({ topics: [name], forceUpdate: true, retries: 0 })
      found.get(name).partitions.forEach(({ leader, replicas, isr }, partition) => partitions.push({ partition, leader, replicas, isr }))
    })
    topics[name] = { error, partitions }
  }
  return { topics }
})

const describe_configs = (command) => withAdmin(command, async (admin) => {
  const resourceType = command.kind === 'topic' ? ConfigResourceTypes.TOPIC : ConfigResourceTypes.BROKER
  const [found] = await admin.describeConfigs({ resources: [{ resourceType, resourceName: command.name }] })
  return { configs: Object.fromEntries(found.configs.map((entry) => [entry.name, entry.value])) }
})

const describe_cluster = (command) => withAdmin(command, async (admin) => {
  const { id, controllerId, brokers } = await admin.metadata({ forceUpdate: true })
  return { cluster_id: id, controller: controllerId, brokers: [...brokers].map(([broker, { host, port }]) => ({ id: broker, host, port })) }
})

const create_partitions = (command) => withAdmin(command, async (admin) => {
  await admin.createPartitions({ topics: [{ name: command.topic, count: command.count, assignments: null }], validateOnly: false })
  return {}
})

const delete_records = (command) => withAdmin(command, async (admin) => {
  const partitions = [{ partition: command.partition, offset: BigInt(command.before) }]
  const [told] = await admin.deleteRecords({ topics: [{ name: command.topic, partitions }] })
  return { low: Number(told.partitions[0].lowWatermark) }
})

const alter_configs = (command) => withAdmin(command, async (admin) => {
  const configs = Object.entries(command.set).map(([name, value]) => ({ name, value, configOperation: IncrementalAlterConfigOperationTypes.SET }))
  await admin.incrementalAlterConfigs({ resources: [{ resourceType: ConfigResourceTypes.TOPIC, resourceName: command.topic, configs }] })
  return {}
})

const list_groups = (command) => withAdmin(command, async (admin) => ({ groups: [...(await admin.listGroups()).keys()] }))

const describe_group = (command) => withAdmin(command, async (admin) => {
  const told = (await admin.describeGroups({ groups: [command.group] })).get(command.group)
  return { state: told.state, members: told.members.size }
})

const delete_group = (command) => withAdmin(command, async (admin) => {
  await admin.deleteGroups({ groups: [command.group] })
  return {}
})

const delete_offset = (command) => withAdmin(command, async (admin) => {
  await admin.deleteConsumerGroupOffsets({ groupId: command.group, topics: [{ name: command.topic, partitionIndexes: [command.partition] }] })
  return {}
})

// The package does not export its description.
const described = require.resolve('@platformatic/kafka').replace(/dist\/index\.js$/, 'package.json')
const hello = async () => ({ client: 'platformatic', version: JSON.parse(fs.readFileSync(described)).version })

const OPS = { hello, produce, consume, group, list_offsets, committed, create_topics, delete_topics, list_topics, describe_topics, describe_configs, describe_cluster, create_partitions, delete_records, alter_configs, list_groups, describe_group, delete_group, delete_offset }

zstd.init().then(() => serve(OPS, codeOf))
