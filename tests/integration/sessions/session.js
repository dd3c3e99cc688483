// A session of ioredis through the proxy; prints what it got as JSON. Argument: the proxy's socket.
const Redis = require("ioredis");

async function main() {
  const options = { path: process.argv[2], maxRetriesPerRequest: 1, retryStrategy: () => null };
  const kv = new Redis(options);
  const got = {};
  await kv.set("greeting", "hello");
  await kv.setex("short", 100, Buffer.from([0, 13, 10, 255]));
  const short = (await kv.getBuffer("short")).toString("hex");
  got.get = [await kv.get("greeting"), short, (await kv.ttl("short")) > 90, await kv.get("nothing")];
  await kv.hset("h", { f: "v", g: "w" });
  got.hash = await kv.hgetall("h");
  await kv.rpush("l", "one", "two");
  got.list = [await kv.lrange("l", 0, -1), await kv.blpop("nothing", "l", 5)];
  got.counter = [await kv.incr("n"), await kv.incrby("n", 41)];
  got.pipeline = (await kv.pipeline().incr("n").get("greeting").exec()).map((each) => each[1]);
  await kv.watch("n");
  got.multi = (await kv.multi().incr("n").get("greeting").exec()).map((each) => each[1]);
  kv.defineCommand("look", { numberOfKeys: 1, lua: "return {KEYS[1], redis.call('GET', KEYS[1]), ARGV[1]}" });
  got.eval = await kv.look("greeting", "x").catch((error) => error.message);
  got.scan = [];
  for await (const names of kv.scanStream({ match: "g*" })) got.scan.push(...names);
  got.refused = [];
  for (const name of ["flushall", "flushdb", "move"]) {
    const said = await kv.call(name, ...(name === "move" ? ["greeting", 1] : [])).catch((error) => error.message);
    got.refused.push(said.includes("refused"));
  }
  // Somebody publishes now and then.
  const listener = new Redis(options);
  const heard = new Promise((resolve) => listener.on("message", (...words) => resolve(words)));
  await listener.subscribe("news");
  got.heard = await heard;
  await listener.unsubscribe("news");
  console.log(JSON.stringify(got));
  listener.disconnect();
  kv.disconnect();
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
