// As much of the Redis protocol (RESP2) as `live` needs: commands out, answers and messages in.
'use strict';

const net = require('node:net');

// Backoff while the server is away: doubled from the first to the last, in milliseconds.
const FIRST_PAUSE = 50;
const LAST_PAUSE = 2000;

// An answer that takes longer than this means that the server is paused or gone. Longer than any
// blocking read (see `BLOCK` in events.js).
const TIMEOUT = 10_000;

/** Where a URL of the form redis://, valkey:// or unix:// points to. */
function parse(url) {
  const parts = new URL(url.replace(/^valkey:/, 'redis:'));
  const secret = { user: decodeURIComponent(parts.username), password: decodeURIComponent(parts.password) };
  if (parts.protocol === 'unix:') {
    return { ...secret, path: decodeURIComponent(parts.pathname), db: parts.searchParams.get('db') ?? '0' };
  }
  if (parts.protocol !== 'redis:') throw new Error(`live reads orders from Valkey or Redis, not from ${parts.protocol}//`);
  return { ...secret, host: parts.hostname || 'localhost', port: Number(parts.port || 6379), db: parts.pathname.slice(1) || '0' };
}

function encode(command) {
  const parts = [`*${command.length}\r\n`];
  for (const word of command) {
    const text = String(word);
    parts.push(`$${Buffer.byteLength(text)}\r\n${text}\r\n`);
  }
  return parts.join('');
}

/** Reads one value at `at`; undefined if it is not complete yet, else [value, end]. */
function decode(buffer, at) {
  const end = buffer.indexOf('\r\n', at);
  if (end < 0) return undefined;
  const line = buffer.toString('utf8', at + 1, end);
  const next = end + 2;
  switch (buffer[at]) {
    case 0x2b: return [line, next]; // +
    case 0x2d: return [new Error(line), next]; // -
    case 0x3a: return [Number(line), next]; // :
    case 0x24: { // $
      const length = Number(line);
      if (length < 0) return [null, next];
      if (buffer.length < next + length + 2) return undefined;
      return [buffer.toString('utf8', next, next + length), next + length + 2];
    }
    case 0x2a: { // *
      const count = Number(line);
      if (count < 0) return [null, next];
      const values = [];
      let position = next;
      for (let i = 0; i < count; i += 1) {
        const found = decode(buffer, position);
        if (found === undefined) return undefined;
        values.push(found[0]);
        position = found[1];
      }
      return [values, position];
    }
    default: throw new Error(`this is not RESP: ${JSON.stringify(line)}`);
  }
}

/**
 * A connection that is made again whenever it is lost. Commands written meanwhile fail at once:
 * the caller knows whether to try again. `onReady` runs after each connection, `onMessage` gets
 * what subscriptions bring.
 */
class Connection {
  constructor(url, { onReady = async () => {}, onMessage = null } = {}) {
    this.server = parse(url);
    this.onReady = onReady;
    this.onMessage = onMessage;
    this.ready = false;
    this.closed = false;
    this.pause = FIRST_PAUSE;
    this.waiting = [];
    this.connect();
  }

  connect() {
    this.buffer = Buffer.alloc(0);
    this.socket = net.connect(this.server.path ? { path: this.server.path } : { host: this.server.host, port: this.server.port });
    this.socket.setNoDelay(true);
    this.socket.on('connect', () => this.greet());
    this.socket.on('data', (data) => this.receive(data));
    this.socket.on('error', () => {}); // 'close' follows
    this.socket.on('close', () => this.lost());
  }

  async greet() {
    try {
      const { user, password, db } = this.server;
      if (password) await this.call('AUTH', ...(user ? [user, password] : [password]));
      if (db !== '0') await this.call('SELECT', db);
      await this.onReady(this);
      this.ready = true;
      this.pause = FIRST_PAUSE;
    } catch (error) {
      if (!this.closed) console.error(`valkey: ${error.message}`);
      this.socket.destroy();
    }
  }

  receive(data) {
    this.buffer = this.buffer.length ? Buffer.concat([this.buffer, data]) : data;
    let at = 0;
    try {
      for (let found = decode(this.buffer, at); found !== undefined; found = at < this.buffer.length ? decode(this.buffer, at) : undefined) {
        at = found[1];
        this.answer(found[0]);
      }
    } catch (error) {
      this.socket.destroy(error);
      return;
    }
    this.buffer = this.buffer.subarray(at);
  }

  answer(value) {
    if (this.onMessage && Array.isArray(value) && /^p?message$/.test(value[0])) {
      this.onMessage(...value.slice(1));
      return;
    }
    const waiter = this.waiting.shift();
    if (!waiter) return;
    clearTimeout(waiter.alarm);
    if (value instanceof Error) waiter.reject(value);
    else waiter.resolve(value);
  }

  lost() {
    this.ready = false;
    for (const waiter of this.waiting.splice(0)) {
      clearTimeout(waiter.alarm);
      waiter.reject(new Error('the connection to Valkey was lost'));
    }
    if (this.closed) return;
    setTimeout(() => this.closed || this.connect(), this.pause);
    this.pause = Math.min(LAST_PAUSE, this.pause * 2);
  }

  call(...command) {
    return new Promise((resolve, reject) => {
      if (this.socket.readyState !== 'open') {
        reject(new Error('no connection to Valkey'));
        return;
      }
      const alarm = setTimeout(() => this.socket.destroy(), TIMEOUT);
      this.waiting.push({ resolve, reject, alarm });
      this.socket.write(encode(command));
    });
  }

  close() {
    this.closed = true;
    this.socket.destroy();
  }
}

module.exports = { Connection, decode, encode, parse };
