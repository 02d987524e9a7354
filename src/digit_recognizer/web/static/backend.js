// Answers of the server of `make draw`; a page of `make export` has browser/backend.js in place of this module.

const UPLOAD_LIMIT = 20_000_000; // bytes; server.py has the same limit

export const abilities = { pictures: true, saving: true };
export const note = "";

async function post(path, body) {
  if (body.size > UPLOAD_LIMIT) {
    throw new Error(`expected a picture of at most ${UPLOAD_LIMIT / 1e6} MB, received a larger file`);
  }
  const response = await fetch(path, { method: "POST", body }).catch(() => {
    throw new Error("the server does not respond; is `make draw` still running?");
  });
  if (response.ok) return response;
  const value = await response.json().catch(() => ({}));
  throw new Error(value.error ?? `the server responded with status ${response.status}`);
}

async function read(path, body) {
  const result = await (await post(path, body)).json();
  for (const digit of result.digits) digit.pixels = Uint8Array.from(atob(digit.pixels), (byte) => byte.charCodeAt(0));
  return result;
}

/** Return the name of the networks. */
export const findName = async () => (await fetch("networks")).json();

/** Read the gray levels of a drawing, a Uint8Array of rows: text, digits, width and height. */
export const readDrawing = (gray, width) => read(`read?width=${width}`, gray);

/** Read an image file: the same, with a preview as a data URL. */
export const readPicture = (file) => read("read?preview", file);

/** Return the probabilities of images, a Uint8Array [n * 784], as a Float32Array [n * 10]. */
export const classify = async (images) => new Float32Array(await (await post("classify", images)).arrayBuffer());

/** Save a picture with its label; return the path. */
export const save = async (label, picture) => {
  return (await (await post(`save?label=${encodeURIComponent(label)}`, picture)).json()).path;
};
