// The gateway that one writes in an afternoon in Node.js: Fastify and its own proxy.
import proxy from "@fastify/http-proxy";
import Fastify from "fastify";

const server = Fastify({ logger: false });
server.register(proxy, {
  upstream: process.env.UPSTREAM,
  undici: { connections: 128, pipelining: 1 },
});
process.on("SIGTERM", () => process.exit(0));
await server.listen({ host: "127.0.0.1", port: Number(process.argv[2]) });
