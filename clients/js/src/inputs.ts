import type { Contents, Input, Upload } from "./types.js";

/** Files up to this size, together, are sent inside their submit: in base64 they stay below 1 MB, as any proxy takes. */
const DIRECT_BYTES = 512 * 1024;

/** The member of an input that is one image. */
const SOLE_IMAGE = "image_url";

/** Returns the `input` of a request, with files as `data:` URLs; what is too big for that goes through `upload`. */
export async function inputOf(input: Input, upload?: (contents: Contents) => Promise<Upload>): Promise<object> {
  if (typeof input === "string") return { [SOLE_IMAGE]: input };
  if (isUpload(input)) return idOf(input);
  const members: { [member: string]: unknown } = {};
  let room = DIRECT_BYTES;
  for (const [name, value] of Object.entries(isContents(input) ? { [SOLE_IMAGE]: input } : input)) {
    if (!isContents(value)) members[name] = isUpload(value) ? idOf(value) : value;
    else if (upload && blobOf(value).size > room) members[name] = idOf(await upload(value));
    else {
      room -= blobOf(value).size;
      members[name] = await dataUrl(value);
    }
  }
  const sole = members[SOLE_IMAGE];
  return isContents(input) && isUpload(sole) ? sole : members;
}

/** Returns contents as a Blob, which keeps the type and the name of a file. */
export function blobOf(contents: Contents): Blob {
  return contents instanceof Blob ? contents : new Blob([contents as BlobPart]);
}

/** Returns the name of a file if it has one that a header may say. */
export function nameOf(contents: Contents): string | undefined {
  const name = (contents as Partial<File>).name;
  return name && !/\p{C}/u.test(name) ? name : undefined;
}

const idOf = ({ upload_id }: Pick<Upload, "upload_id">): Pick<Upload, "upload_id"> => ({ upload_id });

async function dataUrl(contents: Contents): Promise<string> {
  const name = nameOf(contents);
  const blob = blobOf(contents);
  const bytes = new Uint8Array(await blob.arrayBuffer());
  let binary = "";
  for (let start = 0; start < bytes.length; start += 0x8000) {
    binary += String.fromCharCode(...bytes.subarray(start, start + 0x8000));
  }
  return `data:${blob.type}${name ? `;name=${encodeURIComponent(name)}` : ""};base64,${btoa(binary)}`;
}

function isContents(value: unknown): value is Contents {
  return value instanceof Blob || value instanceof ArrayBuffer || value instanceof Uint8Array;
}

function isUpload(value: unknown): value is Pick<Upload, "upload_id"> {
  return typeof (value as Partial<Upload> | null)?.upload_id === "string";
}
