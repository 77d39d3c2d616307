// `live`: the status of an order as server-sent events. Node.js without packages.
//
//     GET /live/orders/ID    text/event-stream: one `status` event a change, from the first one on;
//                            ends when the order has ended. `Last-Event-ID` resumes.
//     GET /readyz, /livez
//
// Its state is in Valkey, so any replica can answer anybody, and so are the news of orders: in the
// one that is the registry. Where the shop's messages take another broker, `notifications` copies
// them there. The gateway says who asks.
'use strict';

const http = require('node:http');
const { createServer } = require('./certificate');
const { Connection } = require('./resp');
const { follow, history, join, key } = require('./events');

const url = process.env.SEAWALL_REGISTRY__URL || 'redis://127.0.0.1:6379/0';
const name = process.env.SEAWALL_INSTANCE_ID || `live-${process.pid}`;
const DRAIN = Number(process.env.SEAWALL_DRAIN_SECONDS || 10) * 1000; // ms

const FINAL = new Set(['completed', 'cancelled', 'failed']);
const FIRST_EVENT = 5000; // ms an order may take to be heard of; then it is unknown
const BEAT = 15_000; // ms between comments that keep idle connections open
const MOST = 5000; // open streams of this replica; above it 503, and another replica may answer

let draining = false;
const watchers = new Map(); // order's key → the streams that follow it

const events = new Connection(url, { onReady: join });
const state = new Connection(url);
const news = new Connection(url, {
  onReady: (connection) => connection.call('PSUBSCRIBE', key('*')),
  onMessage: (pattern, channel, text) => {
    for (const stream of watchers.get(channel) ?? []) stream.tell(JSON.parse(text));
  },
});

/** One client following one order. */
class Stream {
  constructor(request, response, order) {
    this.response = response;
    this.order = order;
    this.subject = request.headers['x-identity-subject'];
    this.last = Number(request.headers['last-event-id'] ?? -1);
    this.held = []; // what comes before the history was read
    this.known = false;
    this.open = true;
    this.alarm = setTimeout(() => this.refuse(404, 'no such order'), FIRST_EVENT);
    response.on('close', () => this.end());
    const set = watchers.get(key(order)) ?? new Set();
    watchers.set(key(order), set.add(this));
  }

  async begin() {
    const past = await history(state, this.order); // news are held since before this read
    const held = this.held;
    this.held = null;
    for (const event of [...past, ...held]) this.tell(event);
  }

  tell(event) {
    if (!this.open) return;
    if (this.held) {
      this.held.push(event);
      return;
    }
    // Somebody else's order is as unknown as one that does not exist.
    if (event.customer !== this.subject) {
      this.refuse(404, 'no such order');
      return;
    }
    this.start();
    if (event.sequence <= this.last) return;
    this.last = event.sequence;
    const { customer, ...shown } = event;
    this.response.write(`id: ${event.sequence}\nevent: status\ndata: ${JSON.stringify(shown)}\n\n`);
    if (FINAL.has(event.status)) this.response.end();
  }

  start() {
    if (this.known) return;
    this.known = true;
    clearTimeout(this.alarm);
    this.response.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-store' });
    this.response.write('retry: 1000\n\n');
    this.alarm = setInterval(() => this.response.write(':\n\n'), BEAT);
  }

  refuse(status, detail) {
    if (this.known) this.response.end();
    else problem(this.response, status, detail);
    this.end();
  }

  end() {
    if (!this.open) return;
    this.open = false;
    clearTimeout(this.alarm);
    const set = watchers.get(key(this.order));
    set?.delete(this);
    if (set?.size === 0) watchers.delete(key(this.order));
    if (!this.response.writableEnded) this.response.end();
  }
}

function problem(response, status, detail, more = {}) {
  response.writeHead(status, { 'content-type': 'application/problem+json', ...more });
  response.end(JSON.stringify({ type: 'about:blank', title: http.STATUS_CODES[status], status, detail, service: 'live' }));
}

function answer(response, status, body) {
  response.writeHead(status, { 'content-type': 'application/json' });
  response.end(JSON.stringify(body));
}

let open = 0;

const server = createServer((request, response) => {
  response.setHeader('x-served-by', `live/${name}`);
  const path = request.url.split('?')[0];
  const ready = events.ready && state.ready && news.ready && !draining;
  if (path === '/livez') return answer(response, 200, { status: 'ok' });
  if (path === '/readyz') return answer(response, ready ? 200 : 503, { status: ready ? 'ok' : 'not ready' });
  const found = /^\/live\/orders\/([a-z0-9-]{1,60})$/.exec(path);
  if (!found) return problem(response, 404, 'no such page');
  if (request.method !== 'GET') return problem(response, 405, 'only GET', { allow: 'GET' });
  if (!request.headers['x-identity-subject']) return problem(response, 401, 'who are you?', { 'www-authenticate': 'Bearer' });
  if (!ready || open >= MOST) return problem(response, 503, 'try again', { 'retry-after': '1' });
  open += 1;
  response.on('close', () => { open -= 1; });
  const stream = new Stream(request, response, found[1]);
  return stream.begin().catch(() => stream.refuse(503, 'Valkey does not answer'));
});

server.listen(Number(process.env.PORT || 8090), process.env.HOST || '127.0.0.1');
const following = follow(events, name, () => draining);

async function stop() {
  if (draining) return;
  draining = true;
  setTimeout(() => process.exit(1), DRAIN).unref();
  // Streams end, and their clients come back to another replica, where Last-Event-ID resumes.
  for (const set of [...watchers.values()]) for (const stream of [...set]) stream.end();
  server.close();
  server.closeIdleConnections();
  await following; // the events in hand are kept and acknowledged
  for (const connection of [events, state, news]) connection.close();
  server.closeAllConnections();
}
process.on('SIGTERM', stop);
process.on('SIGINT', stop);
