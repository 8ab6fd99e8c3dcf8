// The contract of ../README.md, shared by the programs for Node: command loop, record files, acks files.
'use strict'

const fs = require('fs')
const readline = require('readline')

const LOCAL_ERROR = -1000

const stops = new Map()
const say = (line) => fs.writeSync(1, JSON.stringify(line) + '\n')
const event = (id, name, facts) => say({ id, event: name, ...facts })

async function stop(command) {
  const stopping = stops.get(command.target)
  if (!stopping) throw new Error(`nothing to stop: ${command.target}`)
  stopping()
  return {}
}

/** Answers the commands of stdin until it ends. */
function serve(ops, codeOf) {
  const all = { ...ops, stop }
  const answer = async (command) => {
    try {
      say({ id: command.id, ok: await all[command.op](command) })
    } catch (error) {
      if (codeOf(error) === LOCAL_ERROR) process.stderr.write(`${error.stack}\n`)
      say({ id: command.id, error: { code: codeOf(error), message: String(error) } })
    }
  }
  const commands = readline.createInterface({ input: process.stdin })
  commands.on('line', (line) => answer(JSON.parse(line)))
  commands.on('close', () => process.exit(0))
}

// Records and their file. Headers are pairs of a name and a value.

function* numbers({ topic, prefix, count, keys, value_bytes }) {
  for (let i = 0; i < count; i++) {
    yield { topic, partition: -1, timestamp: -1, key: Buffer.from(`k${i % keys}`), value: Buffer.from(`${prefix}-${i}`.padEnd(value_bytes, '.')), headers: [] }
  }
}

function* recordsOf(path) {
  const file = fs.openSync(path)
  const size = Buffer.alloc(4)
  while (fs.readSync(file, size, 0, 4, null) === 4) {
    const body = Buffer.alloc(size.readUInt32BE())
    fs.readSync(file, body, 0, body.length, null)
    yield decode(body)
  }
  fs.closeSync(file)
}

/** The records that a produce command names. */
const records = (command) => (command.numbers ? numbers(command.numbers) : recordsOf(command.input))

function decode(body) {
  let at = 0
  const bytes = () => {
    const length = body.readInt32BE(at)
    at += 4
    if (length < 0) return null
    at += length
    return body.subarray(at - length, at)
  }
  const length = body.readInt16BE(0)
  const record = {
    topic: body.toString('utf8', 2, 2 + length),
    partition: body.readInt32BE(2 + length),
    timestamp: Number(body.readBigInt64BE(14 + length)),
    headers: [],
  }
  at = 24 + length
  record.key = bytes()
  record.value = bytes()
  const count = body.readInt32BE(at)
  at += 4
  for (let i = 0; i < count; i++) {
    const name = bytes().toString()
    record.headers.push([name, bytes()])
  }
  return record
}

const sized = (bytes) => {
  const length = Buffer.alloc(4)
  length.writeInt32BE(bytes === null ? -1 : bytes.length)
  return bytes === null ? [length] : [length, bytes]
}

function encode(topic, partition, message) {
  const name = Buffer.from(topic)
  const head = Buffer.alloc(24 + name.length)
  head.writeInt16BE(name.length)
  name.copy(head, 2)
  head.writeInt32BE(partition, 2 + name.length)
  head.writeBigInt64BE(BigInt(message.offset), 6 + name.length)
  head.writeBigInt64BE(BigInt(message.timestamp), 14 + name.length)
  head.writeInt8(-1, 22 + name.length)
  head.writeInt8(-1, 23 + name.length)
  const count = Buffer.alloc(4)
  count.writeInt32BE(message.headers.length)
  const parts = [head, ...sized(message.key), ...sized(message.value), count]
  for (const [header, value] of message.headers) parts.push(...sized(Buffer.from(header)), ...sized(value))
  const size = Buffer.alloc(4)
  size.writeUInt32BE(parts.reduce((sum, part) => sum + part.length, 0))
  return Buffer.concat([size, ...parts])
}

/** Writes the acks file, counts, and tells of every thousandth acknowledgement. */
class Acks {
  constructor(command) {
    this.id = command.id
    this.out = fs.openSync(command.acks_output, 'w')
    this.counts = { sent: 0, acked: 0, failed: 0 }
  }

  /** One line of the file; `code` is 0 for an acknowledgement. */
  line(index, partition, offset, timestamp, code) {
    const ack = Buffer.alloc(30)
    ack.writeBigInt64BE(BigInt(index), 0)
    ack.writeInt32BE(partition, 8)
    ack.writeBigInt64BE(BigInt(offset), 12)
    ack.writeBigInt64BE(BigInt(timestamp), 20)
    ack.writeInt16BE(code, 28)
    return ack
  }

  acked(lines) {
    const before = this.counts.acked
    this.counts.acked += lines.length
    fs.writeSync(this.out, Buffer.concat(lines))
    if (Math.floor(before / 1000) < Math.floor(this.counts.acked / 1000)) event(this.id, 'acked', { count: this.counts.acked })
  }

  refused(indexes, code) {
    this.counts.failed += indexes.length
    fs.writeSync(this.out, Buffer.concat(indexes.map((index) => this.line(index, -1, -1, -1, code))))
  }

  close() {
    fs.closeSync(this.out)
    return this.counts
  }
}

module.exports = { LOCAL_ERROR, stops, event, serve, records, encode, Acks }
