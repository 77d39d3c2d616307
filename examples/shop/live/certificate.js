// TLS with both sides named, by the folder that SEAWALL_TLS names; plain text where it names none.
//
// The folder holds tls.crt, tls.key, ca.crt and policy.json. They are replaced while we run, the
// certificate last: what is there then is shown to new connections, and open ones go on.
'use strict';

const fs = require('node:fs');
const http = require('node:http');
const https = require('node:https');
const path = require('node:path');

const LOOK = 1000; // ms between looks for a new certificate

function read(folder) {
  const file = (name) => fs.readFileSync(path.join(folder, name));
  return { cert: file('tls.crt'), key: file('tls.key'), ca: file('ca.crt'), callers: new Set(JSON.parse(file('policy.json')).callers) };
}

/** A server for those whom the policy names; the others get 403. */
function createServer(handle) {
  const folder = process.env.SEAWALL_TLS;
  if (!folder) return http.createServer(handle);
  let { callers, ...shown } = read(folder);
  const options = { ...shown, requestCert: true, rejectUnauthorized: true, minVersion: 'TLSv1.3' };
  const server = https.createServer(options, (request, response) => {
    const [, caller] = /^URI:(\S+)$/.exec(request.socket.getPeerCertificate().subjectaltname ?? '') ?? [];
    if (callers.has(caller)) return handle(request, response);
    response.writeHead(403, { 'content-type': 'application/problem+json', connection: 'close' });
    return response.end(JSON.stringify({ type: 'about:blank', title: 'Forbidden', status: 403, detail: `${caller} may not call live`, service: 'live' }));
  });
  fs.watchFile(path.join(folder, 'tls.crt'), { interval: LOOK, persistent: false }, () => {
    try {
      ({ callers, ...shown } = read(folder));
      server.setSecureContext({ ...shown, minVersion: 'TLSv1.3' });
    } catch (error) {
      console.error(`the new certificate cannot be used: ${error.message}`); // the one before is
    }
  });
  return server;
}

module.exports = { createServer };
