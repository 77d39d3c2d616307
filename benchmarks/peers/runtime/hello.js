// What every Node.js peer serves: the number of the process that answered.
'use strict';

const server = require('node:http').createServer((request, response) => {
  response.end(`"${process.pid}"`);
});
server.listen(Number(process.env.PORT), '127.0.0.1', () => {
  if (process.send) process.send('ready'); // for PM2's wait_ready
});

// As PM2's guide to graceful reloads has it: no new connections, finish those that are there.
function stop() {
  server.close(() => process.exit(0));
  server.closeIdleConnections();
}
process.on('SIGINT', stop);
process.on('SIGTERM', stop);
