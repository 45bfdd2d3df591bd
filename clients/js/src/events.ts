import type { Connection } from "./connection.js";
import { unreachable } from "./problems.js";
import type { Transport } from "./transport.js";
import type { Options, TaskEvent } from "./types.js";

/** Longest silence in seconds of an open stream: the server says something every 15 s. */
const SILENCE = 45;

const KNOWN: readonly string[] = ["status", "progress", "completed"] satisfies TaskEvent["event"][];

/** Where a stream begins. */
export interface EventOptions extends Options {
  /** The `id` of the last event that you have seen: of what came since, you get the last. */
  lastEventId?: string | undefined;
}

/** Yields the changes of a task until it has ended, over as many connections as it takes. */
export function eventsOf(
  transport: Transport,
  path: string,
  { lastEventId, signal }: EventOptions,
): AsyncGenerator<TaskEvent, void, undefined> {
  let seen = lastEventId;
  let back = 2;

  async function* connected(connection: Connection): AsyncGenerator<TaskEvent | undefined> {
    const headers = { accept: "text/event-stream", ...(seen && { "last-event-id": seen }) };
    const answer = await transport.open("GET", { headers }, connection);
    if (answer.status === 204) return; // it has ended, and the end was seen
    for await (const fields of messagesOf(connection, answer)) {
      if (fields.retry) back = Number(fields.retry) / 1000;
      if (!fields.data || !KNOWN.includes(fields.event ?? "")) {
        yield undefined;
        continue;
      }
      seen = fields.id ?? seen;
      yield { id: seen, event: fields.event, data: JSON.parse(fields.data) } as TaskEvent;
      if (fields.event === "completed") return;
    }
    throw unreachable(connection.url, "the stream of events has broken", { retryAfter: back });
  }

  return transport.stream(() => path, SILENCE, connected, signal);
}

type Fields = { [name in "id" | "event" | "data" | "retry"]?: string };

/** Yields the fields of each whole message (WHATWG HTML, 9.2.6); a comment is a field without a name. */
async function* messagesOf(connection: Connection, answer: Response): AsyncGenerator<Fields> {
  let fields: Fields = {};
  for await (const line of connection.lines(answer)) {
    if (line === "") {
      if (Object.keys(fields).length) yield fields;
      fields = {};
    } else {
      const [, name, value = ""] = /^([^:]*)(?:: ?(.*))?$/s.exec(line) as unknown as [string, keyof Fields, string?];
      fields[name] = name === "data" && fields.data !== undefined ? `${fields.data}\n${value}` : value;
    }
  }
}
