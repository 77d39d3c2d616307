// From the order events to the state of each order, kept in Valkey for all replicas.
//
// The replicas form one consumer group: each event is taken by one of them, which keeps it under
// the order's key and tells all the others. An event that comes twice is kept once, since its
// place is its sequence number; one whose replica died is taken over by another.
'use strict';

const TOPIC = 'seawall:{order.moved}'; // the stream that Seawall's Valkey transport writes
const GROUP = 'live';
const BLOCK = 2000; // ms one read waits for events
const COUNT = 100; // events a read
const TAKE_OVER = 15_000; // ms after which another replica's unfinished event is ours
const KEPT = 86_400; // s after its last event that an order can still be followed

const key = (order) => `live:order:${order}`;

/** The fields of a stream entry as an object. */
function fields(flat) {
  const found = {};
  for (let i = 0; i + 1 < flat.length; i += 2) found[flat[i]] = flat[i + 1];
  return found;
}

/** All at once: the connection keeps the order, and waiting for each answer singly is slow. */
function keep(connection, entries) {
  return Promise.all(entries.map(async ([id, flat]) => {
    const text = flat ? fields(flat).data : null; // null: it was trimmed away
    const event = readable(text);
    if (event) {
      const isNew = await connection.call('HSETNX', key(event.order_id), event.sequence, text);
      connection.call('EXPIRE', key(event.order_id), KEPT).catch(() => {}); // a lost connection fails the next call too
      if (isNew) await connection.call('PUBLISH', key(event.order_id), text);
    } else if (text !== null) {
      console.error(`event ${id} cannot be read and is left out`);
    }
    await connection.call('XACK', TOPIC, GROUP, id);
  }));
}

function readable(text) {
  try {
    const event = JSON.parse(text);
    return event && typeof event.order_id === 'string' && Number.isInteger(event.sequence) ? event : null;
  } catch {
    return null;
  }
}

/** Takes events until `stopped()`; outlives a Valkey that goes away. */
async function follow(connection, name, stopped) {
  let lookedAt = 0;
  while (!stopped()) {
    try {
      if (Date.now() - lookedAt > TAKE_OVER) {
        const [, entries] = await connection.call('XAUTOCLAIM', TOPIC, GROUP, name, TAKE_OVER, '0', 'COUNT', COUNT);
        await keep(connection, entries);
        lookedAt = Date.now();
      }
      const found = await connection.call('XREADGROUP', 'GROUP', GROUP, name, 'COUNT', COUNT, 'BLOCK', BLOCK, 'STREAMS', TOPIC, '>');
      if (found) await keep(connection, found[0][1]);
    } catch (error) {
      if (stopped()) return;
      if (/^NOGROUP/.test(error.message)) await join(connection).catch(() => {});
      else console.error(`events: ${error.message}`);
      await new Promise((resume) => { setTimeout(resume, 200); });
    }
  }
}

/** Makes the group, from the oldest event still there. */
async function join(connection) {
  try {
    await connection.call('XGROUP', 'CREATE', TOPIC, GROUP, '0', 'MKSTREAM');
  } catch (error) {
    if (!/^BUSYGROUP/.test(error.message)) throw error;
  }
}

/** What happened to an order so far, oldest first. */
async function history(connection, order) {
  const flat = await connection.call('HGETALL', key(order));
  return Object.values(fields(flat)).map((text) => JSON.parse(text)).sort((a, b) => a.sequence - b.sequence);
}

module.exports = { follow, history, join, key };
