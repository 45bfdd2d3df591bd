// The server of the tests: `penstock up` with the model slow-v1, whose address and process are in the environment.
import { readFileSync } from "node:fs";
import { Penstock, PenstockApiError, type Settings } from "penstock-client";

export const url = process.env["PENSTOCK_URL"]!;
export const photo = new Uint8Array(readFileSync(process.env["PENSTOCK_PHOTO"]!));

const UP = Number(process.env["PENSTOCK_UP_PID"]);

export const client = (settings: Settings = {}): Penstock => new Penstock({ url, ...settings });

/** A task with so many tiles, which equals no other. */
export const slow = (tiles: number, tile_s = 0.1) => ({
  model: "slow-v1",
  input: photo,
  params: { tiles, tile_s },
  reuse: false,
});

/** Whether an error is a refusal with this code. */
export const refusedAs = (code: string) => (error: unknown) => error instanceof PenstockApiError && error.code === code;

/** Kills the API as a power cut would; `penstock up` starts it again. */
export function killApi(): void {
  const children = readFileSync(`/proc/${UP}/task/${UP}/children`, "utf8").trim().split(" ");
  const api = children.find((pid) => readFileSync(`/proc/${pid}/cmdline`, "utf8").split(/[\0 ]/).includes("api"));
  process.kill(Number(api), "SIGKILL");
}

export async function all<T>(items: AsyncIterable<T>): Promise<T[]> {
  const found: T[] = [];
  for await (const item of items) found.push(item);
  return found;
}
