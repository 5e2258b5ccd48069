// Scenario: a client in JavaScript that submits a run, streams its events, signals it and resumes after a disconnect, with no
// Python on its side. Needs a running system (dspex up) and, once, npm install in this folder. Written from docs/protocol.md.
//   node client.mjs SERVER submit '{"definition": …, "input": …}'    prints the reply, then each event
//   node client.mjs SERVER resume SESSION AFTER                      prints each event after AFTER, then the result
//   node client.mjs SERVER signal SESSION NAME ID '{"by": …}'        prints the reply; the same ID twice is one signal
//
// Every line printed is a JSON object.
import { connect } from "@nats-io/transport-node";

const [server, verb, ...rest] = process.argv.slice(2);
const connection = await connect({ servers: server, name: "javascript-client" });

const print = (value) => process.stdout.write(JSON.stringify(value) + "\n");

// What is too large for a message is in the object store, and the message says where. A reply's object is ours to delete;
// an event's is the session's.
async function bodyOf(message, ours) {
  const name = message.headers?.get("Dspex-Object");
  if (!name) return message.json();
  const { Objm } = await import("@nats-io/obj");
  const store = await new Objm(connection).open("dspex_objects");
  const bytes = await store.getBlob(name);
  if (ours) await store.delete(name);
  return JSON.parse(new TextDecoder().decode(bytes));
}

async function ask(subject, body, timeout = 10_000) {
  const reply = await connection.request(subject, JSON.stringify(body), { timeout });
  const code = reply.headers?.get("Nats-Service-Error-Code");
  if (code) throw new Error(`${subject}: ${code} ${reply.string()}`);
  return bodyOf(reply, true);
}

// Subscribe first, then read what is stored, then go on live: nothing is missed and nothing comes twice.
async function* events(session, after) {
  const live = connection.subscribe(`dspex.v1.event.*.${session}.>`);
  try {
    for (let page; page === undefined || page.events.length > 0; after = page.next_after) {
      page = await ask("dspex.v1.session.events", { session, after });
      for (const { sequence, event } of page.events) yield { sequence, event };
      if (page.ended) return;
    }
    for await (const message of live) {
      const sequence = Number(message.headers.get("Nats-Sequence"));
      if (sequence <= after) continue;
      after = sequence;
      const event = await bodyOf(message, false);
      yield { sequence, event };
      if (event.type === "session.ended") return;
    }
  } finally {
    live.unsubscribe();
  }
}

if (verb === "signal") {
  const [session, name, id, payload] = rest;
  print({ signalled: await ask("dspex.v1.session.signal", { session, name, id, payload: JSON.parse(payload ?? "{}") }) });
  await connection.drain();
  process.exit();
}

let session, after;
if (verb === "submit") {
  const submitted = await ask("dspex.v1.submit.inline", JSON.parse(rest[0]));
  print({ submitted });
  [session, after] = [submitted.session, 0];
} else {
  [session, after] = [rest[0], Number(rest[1])];
}
for await (const { sequence, event } of events(session, after)) print({ sequence, type: event.type });
print({ result: await ask("dspex.v1.session.result", { session, wait_s: 5 }) });
await connection.drain();
