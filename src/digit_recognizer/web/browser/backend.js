// Answers of networks in the browser: the page needs no server, and sends nothing.
import { makePredictor } from "./network.js";
import { findDigits, makeVariants } from "./strokes.js";

export const abilities = { pictures: false, saving: false };
export const note = "This page reads digits that are drawn on it and do not touch, and takes all strokes for digits.";

function load(script) {
  return new Promise((done, fail) => {
    const loaded = () => done();
    const properties = { src: script, onload: loaded, onerror: fail };
    document.head.append(Object.assign(document.createElement("script"), properties));
  });
}

async function prepare() {
  const [settings, weights] = await Promise.all([
    fetch("network.json").then((response) => response.json()),
    fetch("network.bin").then((response) => response.arrayBuffer()),
    load("vendor/tf-core.es2017.min.js").then(() => load("vendor/tf-backend-wasm.es2017.min.js")),
  ]);
  tf.wasm.setWasmPaths("vendor/");
  tf.env().set("WASM_HAS_MULTITHREAD_SUPPORT", false); // that needs another file, and headers of the server
  await tf.setBackend("wasm");
  const predict = makePredictor(settings, weights);
  predict(new Uint8Array(settings.side ** 2)); // the first call takes longer
  return { settings, predict };
}

const ready = prepare();

/** Return the name of the networks. */
export const findName = async () => (await ready).settings.name;

/** Return the probabilities of images, a Uint8Array [n * 784], as a Float32Array [n * 10]. */
export const classify = async (images) => (await ready).predict(images);

/** Read the gray levels of a drawing, a Uint8Array of rows: text, digits, width and height. */
export async function readDrawing(gray, width) {
  const { settings, predict } = await ready;
  const rows = findDigits(gray, width, settings);
  const variants = rows.flat().flatMap(({ pixels }) => makeVariants(pixels, settings));
  const images = new Uint8Array(variants.length * settings.side ** 2);
  variants.forEach((image, index) => images.set(image, index * image.length));
  const found = variants.length ? predict(images) : [];
  const count = settings.variantScales.length;
  const digits = rows.flat().map((digit, index) => {
    const probabilities = Array.from({ length: 10 }, (_, label) => {
      const own = Array.from({ length: count }, (_, variant) => found[10 * (index * count + variant) + label]);
      return own.reduce((sum, one) => sum + one) / count;
    });
    const best = Math.max(...probabilities);
    return { ...digit, probabilities, digit: probabilities.indexOf(best), confident: best >= settings.confident };
  });
  const left = [...digits];
  const text = rows.map((row) => left.splice(0, row.length).map(({ digit }) => digit).join("")).join("\n");
  return { text, digits, width, height: gray.length / width };
}
