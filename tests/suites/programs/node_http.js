// SPDX-License-Identifier: MIT
// node's own modules: http with and without keep-alive, cluster, net, dgram, http2 over TLS.
//
// node_http.js server PORT [WORKERS]      answers with a digest of what it was sent; workers by cluster
// node_http.js client PORT REQUESTS       sends bodies of all sizes, 50 at a time
// node_http.js h2server PORT KEY CERT     the same over HTTP/2 and TLS
// node_http.js h2client PORT REQUESTS
// node_http.js net PORT                   half-close, pause and resume, time-out, refusal, in one process
'use strict';
const assert = require('assert');
const cluster = require('cluster');
const crypto = require('crypto');
const fs = require('fs');
const http = require('http');
const http2 = require('http2');
const net = require('net');
const dgram = require('dgram');

const [what, port, ...rest] = process.argv.slice(2);
const host = '127.0.0.1';

function digest(data) {
  return crypto.createHash('sha256').update(data).digest('hex');
}

function body(number) {
  return Buffer.alloc(number * number % 300000, `body ${number} `);
}

function answer(request, response) {
  const hash = crypto.createHash('sha256');
  request.on('data', (data) => hash.update(data));
  request.on('end', () => response.end(`${hash.digest('hex')} ${'.'.repeat(1000)}`));
}

function serve(workers) {
  if (workers && cluster.isPrimary) {
    let ready = 0;
    for (let i = 0; i < workers; i++)
      cluster.fork();
    cluster.on('listening', () => ++ready === workers && console.log('ready'));
    cluster.on('exit', () => process.exit(1));
    return;
  }
  // a client that comes back within its 5 seconds may meet the end of the connection
  http.createServer({ keepAliveTimeout: 120000 }, answer).listen(port, host, () => workers || console.log('ready'));
}

function post(number, agent) {
  return new Promise((resolve, reject) => {
    const data = body(number);
    const request = http.request({ host, port, agent, method: 'POST', path: `/${number}` }, (response) => {
      let text = '';
      response.on('data', (part) => text += part);
      response.on('end', () => {
        assert.strictEqual(text.split(' ')[0], digest(data));
        resolve();
      });
    });
    request.on('error', reject);
    // in two parts: the second after the first has left
    request.write(data.subarray(0, data.length / 2), () => request.end(data.subarray(data.length / 2)));
  });
}

async function abreast(count, width, one) {
  let next = 0;
  await Promise.all(Array.from({ length: width }, async () => {
    while (next < count)
      await one(next++);
  }));
}

async function clients(count) {
  const kept = new http.Agent({ keepAlive: true, maxSockets: 50 });
  const fresh = new http.Agent({ keepAlive: false });
  await abreast(count, 50, (number) => post(number, kept));
  await abreast(count, 50, (number) => post(number, fresh));
  kept.destroy();
  console.log('all equal');
}

function serveH2(key, cert) {
  const server = http2.createSecureServer({ key: fs.readFileSync(key), cert: fs.readFileSync(cert) }, answer);
  server.listen(port, host, () => console.log('ready'));
}

async function clientsH2(count) {
  const session = http2.connect(`https://${host}:${port}`, { rejectUnauthorized: false });
  await abreast(count, 50, (number) => new Promise((resolve, reject) => {
    const data = body(number);
    const stream = session.request({ ':method': 'POST', ':path': `/${number}` });
    let text = '';
    stream.on('error', reject);
    stream.on('data', (part) => text += part);
    stream.on('end', () => {
      assert.strictEqual(text.split(' ')[0], digest(data));
      resolve();
    });
    stream.end(data);
  }));
  session.close();
  console.log('all equal');
}

function once(emitter, event) {
  return new Promise((resolve) => emitter.once(event, (...values) => resolve(values)));
}

async function halfClose() {
  const server = net.createServer({ allowHalfOpen: true }, (socket) => {
    const parts = [];
    socket.on('data', (part) => parts.push(part));
    socket.on('end', () => socket.end(digest(Buffer.concat(parts))));
  }).listen(port, host);
  await once(server, 'listening');
  const socket = net.connect({ port, host, allowHalfOpen: true });
  let text = '';
  socket.on('data', (part) => text += part);
  socket.end(body(1234));
  await once(socket, 'end');
  assert.strictEqual(text, digest(body(1234)));
  socket.destroy();
  server.close();
  await once(server, 'close');
}

// A reader that pauses makes the writer wait; all arrives once it goes on.
async function pause() {
  const length = 16 << 20;
  let drained = 0;
  const server = net.createServer((socket) => {
    let left = length;
    const part = Buffer.alloc(65536, 'x');
    const more = () => {
      while (left > 0) {
        left -= part.length;
        if (!socket.write(part))
          return;
      }
      socket.end();
    };
    socket.on('drain', () => { drained++; more(); });
    more();
  }).listen(port, host);
  await once(server, 'listening');
  const socket = net.connect({ port, host });
  let got = 0;
  socket.on('data', (part) => {
    got += part.length;
    socket.pause();
    setImmediate(() => socket.resume());
  });
  await once(socket, 'close');
  assert.strictEqual(got, length);
  assert(drained > 0);
  server.close();
}

async function errors() {
  const [refused] = await once(net.connect({ port, host }), 'error');
  assert.strictEqual(refused.code, 'ECONNREFUSED');
  const server = net.createServer((socket) => socket.on('error', () => {})).listen(port, host);
  await once(server, 'listening');
  const [inUse] = await once(net.createServer().listen(port, host), 'error');
  assert.strictEqual(inUse.code, 'EADDRINUSE');
  const socket = net.connect({ port, host });
  socket.setTimeout(50);
  await once(socket, 'timeout');
  socket.resetAndDestroy();
  server.close();
  await once(server, 'close');
}

async function datagrams() {
  const one = dgram.createSocket('udp4'), two = dgram.createSocket('udp4');
  two.on('message', (data, from) => two.send(data, from.port, from.address));
  two.bind(port, host);
  await once(two, 'listening');
  for (let number = 0; number < 100; number++) {
    one.send(`datagram ${number}`, port, host);
    const [data] = await once(one, 'message');
    assert.strictEqual(String(data), `datagram ${number}`);
  }
  one.close();
  two.close();
}

async function main() {
  if (what === 'server')
    serve(Number(rest[0] || 0));
  else if (what === 'client')
    await clients(Number(rest[0]));
  else if (what === 'h2server')
    serveH2(...rest);
  else if (what === 'h2client')
    await clientsH2(Number(rest[0]));
  else if (what === 'net') {
    for (const test of [halfClose, pause, errors, datagrams])
      await test();
    console.log('all equal');
  }
}

main();
