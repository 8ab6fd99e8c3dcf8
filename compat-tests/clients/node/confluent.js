// Wraps @confluentinc/kafka-javascript (librdkafka) behind the contract of ../README.md: its callbacks for records and
// groups, its promises for administration.
'use strict'

const fs = require('fs')
const { AdminClient, CODES, KafkaConsumer, KafkaJS, Producer, librdkafkaVersion } = require('@confluentinc/kafka-javascript')
const { LOCAL_ERROR, stops, event, serve, records, encode, Acks } = require('./contract')

const CONNECT_TIMEOUT_MS = 30000
const { ERR__ASSIGN_PARTITIONS, ERR__MSG_TIMED_OUT, ERR__QUEUE_FULL, ERR__REVOKE_PARTITIONS, ERR__TIMED_OUT, ERR__UNKNOWN_PARTITION, ERR__UNKNOWN_TOPIC } = CODES.ERRORS

// librdkafka's own errors are negative; a handful of them have a code of Kafka's.
const LOCAL = new Map([[ERR__UNKNOWN_TOPIC, 3], [ERR__UNKNOWN_PARTITION, 3], [ERR__TIMED_OUT, 7], [ERR__MSG_TIMED_OUT, 7]])

function codeOf(error) {
  const { code } = (error && error.errors && error.errors[0]) || error
  if (typeof code !== 'number') return LOCAL_ERROR
  return code > 0 ? code : LOCAL.get(code) || LOCAL_ERROR
}

const pause = (ms) => new Promise((done) => setTimeout(done, ms))

/** What a call with a callback at its end comes to. */
const outcome = (client, call, ...given) => new Promise((done, failed) => client[call](...given, (error, result) => (error ? failed(error) : done(result))))

async function connected(client) {
  client.on('event.error', (error) => process.stderr.write(`${error}\n`))
  await outcome(client, 'connect', { timeout: CONNECT_TIMEOUT_MS })
  return client
}

// Producing.

async function produce(command) {
  const timeout = command.delivery_timeout_ms || 60000
  const producer = await connected(new Producer({
    'bootstrap.servers': command.bootstrap,
    'client.id': 'confluent',
    acks: command.acks || 'all',
    'compression.type': command.codec || 'none',
    'enable.idempotence': command.idempotent || false,
    'linger.ms': command.linger_ms === undefined ? 5 : command.linger_ms,
    'batch.size': command.batch_bytes || 16384,
    'delivery.timeout.ms': timeout,
    'request.timeout.ms': Math.min(timeout, 10000),
    'message.max.bytes': command.max_request_bytes || 2097152,
    partitioner: 'murmur2_random',
    'queue.buffering.max.kbytes': 262144,
    'reconnect.backoff.max.ms': 250,
    'topic.metadata.refresh.interval.ms': 1000,
    dr_cb: true,
  }))
  const told = new Acks(command)
  const window = command.window || 100000
  let stopped = false
  let open = 0
  stops.set(command.id, () => (stopped = true))
  producer.on('delivery-report', (error, report) => {
    open--
    if (error) told.refused([report.opaque.index], codeOf(error))
    else told.acked([told.line(report.opaque.index, report.partition, report.offset ?? -1, report.timestamp ?? -1, 0)])
  })
  producer.setPollInBackground(true)
  for (const record of records(command)) {
    if (stopped) break
    while (open >= window) await pause(1)
    const index = told.counts.sent++
    const headers = record.headers.map(([name, value]) => ({ [name]: value }))
    const timestamp = record.timestamp < 0 ? 0 : record.timestamp
    for (;;) {
      try {
        producer.produce(record.topic, record.partition, record.value, record.key, timestamp, { index }, headers)
        open++
        break
      } catch (error) {
        if (error.code !== ERR__QUEUE_FULL) {
          told.refused([index], codeOf(error))
          break
        }
        await pause(10)
      }
    }
    // Reports come only when the loop turns.
    if (index % 1000 === 999) await pause(0)
  }
  while (open > 0) await pause(1)
  await outcome(producer, 'disconnect', 1000)
  return told.close()
}

// Consuming.

const consumer = (command, more) => connected(new KafkaConsumer({
  'bootstrap.servers': command.bootstrap,
  'client.id': 'confluent',
  'group.id': command.group || 'unused',
  'enable.auto.commit': false,
  'fetch.wait.max.ms': 100,
  'fetch.error.backoff.ms': 50,
  'reconnect.backoff.max.ms': 250,
  ...more,
}, { 'auto.offset.reset': 'earliest' }))

const toRecord = (message) => ({ ...message, headers: (message.headers || []).flatMap((header) => Object.entries(header)) })

function write(out, messages) {
  fs.writeSync(out, Buffer.concat(messages.map((message) => encode(message.topic, message.partition, toRecord(message)))))
}

/** The client with what it has to be told before it reads. */
function reading(client, timeout) {
  client.setDefaultConsumeTimeout(timeout)
  client.setDefaultIsTimeoutOnlyForFirstMessage(true)
  return client
}

async function partitionsOf(client, topic) {
  const { topics } = await outcome(client, 'getMetadata', { topic, timeout: CONNECT_TIMEOUT_MS })
  return topics.find(({ name }) => name === topic).partitions.map(({ id }) => id).sort((a, b) => a - b)
}

async function consume(command) {
  const deadline = Date.now() + (command.timeout_ms || 60000)
  const client = reading(await consumer(command), 500)
  const out = fs.openSync(command.output, 'w')
  let count = 0
  try {
    const ends = new Map()
    let starts = []
    for (const topic of command.topics) {
      for (const partition of await partitionsOf(client, topic)) {
        const { lowOffset, highOffset } = await outcome(client, 'queryWatermarkOffsets', topic, partition, CONNECT_TIMEOUT_MS)
        ends.set(`${topic}/${partition}`, highOffset)
        starts.push({ topic, partition, offset: 'from_offset' in command ? command.from_offset : lowOffset })
      }
    }
    if ('from_timestamp' in command) {
      const asked = starts.map((start) => ({ ...start, offset: command.from_timestamp }))
      starts = await outcome(client, 'offsetsForTimes', asked, CONNECT_TIMEOUT_MS)
    }
    const where = ({ topic, partition }) => `${topic}/${partition}`
    starts = starts.filter((start) => start.offset >= 0 && start.offset < ends.get(where(start)))
    const left = new Set(starts.map(where))
    client.assign(starts)
    while (left.size > 0) {
      if (Date.now() > deadline) throw new Error(`timed out after ${count} records, unread: ${[...left]}`)
      const messages = await outcome(client, 'consume', 1000)
      const wanted = messages.filter((message) => message.offset < ends.get(where(message)))
      write(out, wanted)
      count += wanted.length
      for (const message of messages) if (message.offset + 1 >= ends.get(where(message))) left.delete(where(message))
    }
  } finally {
    fs.closeSync(out)
    await outcome(client, 'disconnect')
  }
  return { records: count }
}

async function group(command) {
  const sessionTimeout = command.session_timeout_ms || 10000
  const more = command.instance_id === undefined ? {} : { 'group.instance.id': command.instance_id }
  let stopped = false
  stops.set(command.id, () => (stopped = true))
  const client = reading(await consumer(command, {
    'session.timeout.ms': sessionTimeout,
    'heartbeat.interval.ms': Math.max(Math.floor(sessionTimeout / 5), 100),
    'partition.assignment.strategy': command.assignor || 'range',
    rebalance_cb: true,
    ...more,
  }), 200)
  const names = new Map([[ERR__ASSIGN_PARTITIONS, 'assigned'], [ERR__REVOKE_PARTITIONS, 'revoked']])
  client.on('rebalance', ({ code }, changed) => {
    if (names.has(code)) event(command.id, names.get(code), { partitions: changed.map(({ topic, partition }) => [topic, partition]) })
  })
  client.subscribe(command.topics)
  const out = fs.openSync(command.output, 'w')
  let count = 0
  while (!stopped) {
    const messages = await outcome(client, 'consume', 5000)
    if (messages.length === 0) continue
    write(out, messages)
    count += messages.length
    event(command.id, 'received', { count })
    if (command.commit === false) continue
    try {
      await outcome(client, 'commitCb', null)
    } catch (lost) {
      process.stderr.write(`commit failed: ${lost}\n`)
    }
  }
  await outcome(client, 'disconnect')
  fs.closeSync(out)
  return { records: count }
}

// Offsets.

async function list_offsets(command) {
  const named = { earliest: -2, latest: -1, 'max-timestamp': -3 }
  const timestamp = command.at in named ? named[command.at] : Number(command.at)
  const asked = command.partitions.map((partition) => ({ topic: command.topic, partition, offset: { timestamp } }))
  const client = AdminClient.create({ 'bootstrap.servers': command.bootstrap })
  try {
    const found = new Map((await outcome(client, 'listOffsets', asked, { timeout: CONNECT_TIMEOUT_MS })).map((p) => [p.partition, p]))
    return { offsets: command.partitions.map((partition) => ({ partition, offset: found.get(partition).offset, timestamp: found.get(partition).timestamp })) }
  } finally {
    client.disconnect()
  }
}

async function commit(command) {
  const client = await consumer(command)
  try {
    await outcome(client, 'commitCb', command.offsets.map(({ topic, partition, offset, metadata }) => ({ topic, partition, offset, metadata: metadata || '' })))
  } finally {
    await outcome(client, 'disconnect')
  }
  return {}
}

// The admin client reads on behind the end of what is written beside an offset.
async function committed(command) {
  const client = await consumer(command)
  try {
    const asked = command.partitions.map((partition) => ({ topic: command.topic, partition }))
    const found = new Map((await outcome(client, 'committed', asked, CONNECT_TIMEOUT_MS)).map((p) => [p.partition, p]))
    return { offsets: command.partitions.map((partition) => ({ partition, offset: found.get(partition).offset ?? -1, metadata: found.get(partition).metadata || '' })) }
  } finally {
    await outcome(client, 'disconnect')
  }
}

// Administration.

async function withAdmin(command, use) {
  const admin = new KafkaJS.Kafka({ kafkaJS: { brokers: [command.bootstrap], logLevel: KafkaJS.logLevel.ERROR } }).admin()
  await admin.connect()
  try {
    return await use(admin)
  } finally {
    await admin.disconnect()
  }
}

async function resultOf(action) {
  try {
    return await action()
  } catch (error) {
    if (codeOf(error) === LOCAL_ERROR) throw error
    return codeOf(error)
  }
}

const TOPIC_ALREADY_EXISTS = 36

const create_topics = (command) => withAdmin(command, async (admin) => {
  const results = {}
  for (const { name, partitions, replication, configs = {} } of command.topics) {
    const configEntries = Object.entries(configs).map(([key, value]) => ({ name: key, value }))
    const topics = [{ topic: name, numPartitions: partitions, replicationFactor: replication, configEntries }]
    results[name] = await resultOf(async () => ((await admin.createTopics({ topics, timeout: CONNECT_TIMEOUT_MS })) ? 0 : TOPIC_ALREADY_EXISTS))
  }
  return { results }
})

const delete_topics = (command) => withAdmin(command, async (admin) => {
  const results = {}
  for (const name of command.topics) {
    results[name] = await resultOf(async () => {
      await admin.deleteTopics({ topics: [name], timeout: CONNECT_TIMEOUT_MS })
      return 0
    })
  }
  return { results }
})

const list_topics = (command) => withAdmin(command, async (admin) => ({ topics: (await admin.listTopics({ timeout: CONNECT_TIMEOUT_MS })).sort() }))

const describe_topics = (command) => withAdmin(command, async (admin) => {
  const topics = {}
  for (const name of command.topics) {
    let partitions = []
    const error = await resultOf(async () => {
      const [found] = await admin.fetchTopicMetadata({ topics: [name], timeout: CONNECT_TIMEOUT_MS })
      partitions = found.partitions.map((p) => ({ partition: p.partitionId, leader: p.leader, replicas: p.replicas, isr: p.isr }))
      return 0
    })
    topics[name] = { error, partitions }
  }
  return { topics }
})

/** Some of its errors keep what the broker said of each part to themselves. */
const unfolded = (parts) => (error) => {
  throw (error[parts] && error[parts][0] && error[parts][0].error) || error
}

async function create_partitions(command) {
  const client = AdminClient.create({ 'bootstrap.servers': command.bootstrap })
  try {
    await outcome(client, 'createPartitions', command.topic, command.count, CONNECT_TIMEOUT_MS)
    return {}
  } finally {
    client.disconnect()
  }
}

const delete_records = (command) => withAdmin(command, async (admin) => {
  const partitions = [{ partition: command.partition, offset: String(command.before) }]
  const [told] = await admin.deleteTopicRecords({ topic: command.topic, partitions, timeout: CONNECT_TIMEOUT_MS }).catch(unfolded('partitions'))
  return { low: told.lowWatermark }
})

const list_groups = (command) => withAdmin(command, async (admin) => ({ groups: (await admin.listGroups({ timeout: CONNECT_TIMEOUT_MS })).groups.map(({ groupId }) => groupId) }))

const describe_group = (command) => withAdmin(command, async (admin) => {
  const { groups: [told] } = await admin.describeGroups([command.group], { timeout: CONNECT_TIMEOUT_MS })
  if (told.error) throw told.error
  const [state] = Object.entries(KafkaJS.ConsumerGroupStates).find(([, number]) => number === told.state)
  return { state, members: told.members.length }
})

const delete_group = (command) => withAdmin(command, async (admin) => {
  await admin.deleteGroups([command.group], { timeout: CONNECT_TIMEOUT_MS }).catch(unfolded('groups'))
  return {}
})

const { version } = require('@confluentinc/kafka-javascript/package.json')
const hello = async () => ({ client: 'kafka-javascript', version: `${version} on ${librdkafkaVersion}` })

const OPS = { hello, produce, consume, group, list_offsets, commit, committed, create_topics, delete_topics, list_topics, describe_topics, create_partitions, delete_records, list_groups, describe_group, delete_group }

serve(OPS, codeOf)
