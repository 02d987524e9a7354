// Saliency by occlusion: M. Zeiler and R. Fergus 2014, Visualizing and understanding convolutional networks
// (arXiv:1311.2901). Patches of ink are erased one at a time; what lowers the odds of the answer speaks for it.

const SIDE = 28, PATCH = 6, STEP = 2; // pixels
const odds = (probability) => Math.log((probability + 1e-6) / (1 - probability + 1e-6));

/**
 * Explain why an image, a Uint8Array [784], is read as a digit.
 *
 * Returns heat, a Float32Array [784] in [-1, 1], above 0 where the ink speaks for the digit and below where it speaks
 * against it; and the digit that is read without the patch that matters most.
 */
export async function explain(pixels, digit, classify) {
  const patches = [];
  for (let top = 0; top <= SIDE - PATCH; top += STEP) {
    for (let left = 0; left <= SIDE - PATCH; left += STEP) {
      const cells = [];
      for (let y = top; y < top + PATCH; y += 1) for (let x = left; x < left + PATCH; x += 1) cells.push(SIDE * y + x);
      if (cells.some((cell) => pixels[cell])) patches.push(cells);
    }
  }
  const images = new Uint8Array((patches.length + 1) * pixels.length);
  for (const [index, cells] of [[], ...patches].entries()) {
    images.set(pixels, index * pixels.length);
    for (const cell of cells) images[index * pixels.length + cell] = 0;
  }
  const probabilities = await classify(images);
  const rows = [[], ...patches].map((_, index) => [...probabilities.subarray(10 * index, 10 * index + 10)]);
  const drops = rows.map((row) => odds(rows[0][digit]) - odds(row[digit]));
  const heat = new Float32Array(pixels.length);
  const counts = new Float32Array(pixels.length);
  for (const [index, cells] of patches.entries()) {
    for (const cell of cells) {
      heat[cell] += drops[index + 1];
      counts[cell] += 1;
    }
  }
  const means = heat.map((sum, cell) => (counts[cell] ? sum / counts[cell] : 0));
  const most = Math.max(...means.map((mean, cell) => (pixels[cell] ? Math.abs(mean) : 0)), 1e-6);
  const worst = rows[drops.indexOf(Math.max(...drops))];
  const scaled = means.map((mean) => Math.max(-1, Math.min(1, mean / most)));
  return { heat: scaled, without: worst.indexOf(Math.max(...worst)) };
}
