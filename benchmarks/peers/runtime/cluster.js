// Node's own `cluster`, with the reload that its documentation leads to: on SIGHUP a new worker
// first, and when it listens, the old one is disconnected. Workers that die are replaced.
'use strict';

const cluster = require('node:cluster');

if (cluster.isPrimary) {
  cluster.setupPrimary({ exec: `${__dirname}/hello.js` });
  for (let i = 0; i < Number(process.env.WORKERS); i += 1) cluster.fork();
  cluster.on('exit', (worker) => worker.exitedAfterDisconnect || cluster.fork());
  process.on('SIGHUP', async () => {
    for (const old of Object.values(cluster.workers)) {
      await new Promise((listens) => { cluster.fork().on('listening', listens); });
      old.disconnect();
    }
  });
  process.on('SIGTERM', () => {
    for (const worker of Object.values(cluster.workers)) worker.process.kill('SIGKILL');
    process.exit(0);
  });
}
