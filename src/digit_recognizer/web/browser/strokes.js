// Digits of a drawing as 28x28 pixels: what src/digit_recognizer/handwriting does with pictures, for dark ink on white.
// A map is {width, height, data}: rows of numbers, mostly strokes in [0, 1], 0 on paper.

const FAR = 1e6; // pixels
const map = (width, height, data = new Float32Array(width * height)) => ({ width, height, data });
const clip = (value) => Math.min(1, Math.max(0, value));
const maximum = ({ data }) => data.reduce((most, value) => Math.max(most, value), 0);
const right = (part) => part.x + part.width;
const bottom = (part) => part.y + part.height;

/** Blur with a Gaussian of a standard deviation in pixels. */
function blur(image, sigma) {
  const reach = Math.ceil(3 * sigma);
  const weights = Array.from({ length: 2 * reach + 1 }, (_, at) => Math.exp(-(((at - reach) / sigma) ** 2) / 2));
  const total = weights.reduce((sum, weight) => sum + weight);
  const tap = (size) => (place) => weights.map((weight, at) => {
    const source = Math.abs(place + at - reach); // mirrored at the edges
    return [source < size ? source : 2 * size - 2 - source, weight / total];
  });
  return resample(image, image.width, image.height, tap(image.width), tap(image.height));
}

/** Return a map of another size; a tap returns the weighted source pixels of a row or column. */
function resample(source, width, height, tapX, tapY) {
  const wide = map(width, source.height);
  const result = map(width, height);
  for (let x = 0; x < width; x += 1) {
    for (const [from, weight] of tapX(x)) {
      for (let y = 0; y < source.height; y += 1) {
        wide.data[y * width + x] += weight * source.data[y * source.width + from];
      }
    }
  }
  for (let y = 0; y < height; y += 1) {
    for (const [from, weight] of tapY(y)) {
      for (let x = 0; x < width; x += 1) result.data[y * width + x] += weight * wide.data[from * width + x];
    }
  }
  return result;
}

/** Scale by a factor: smaller by the mean of areas, larger by cubic interpolation; clipped to [0, 1]. */
function rescale(source, factor) {
  const size = [source.width, source.height].map((length) => Math.max(1, Math.round(length * factor)));
  const area = (from, to) => (place) => {
    const scale = from / to;
    const [start, end] = [place * scale, Math.min(from, (place + 1) * scale)];
    const cells = [];
    for (let cell = Math.floor(start); cell < end; cell += 1) {
      cells.push([cell, (Math.min(cell + 1, end) - Math.max(cell, start)) / (end - start)]);
    }
    return cells;
  };
  const cubic = (from, to) => (place) => {
    const centre = ((place + 0.5) * from) / to - 0.5;
    const [first, t, a] = [Math.floor(centre), centre - Math.floor(centre), -0.75];
    const near = (d) => ((a + 2) * d - (a + 3)) * d * d + 1;
    const far = (d) => ((a * d - 5 * a) * d + 8 * a) * d - 4 * a;
    return [far(1 + t), near(t), near(1 - t), far(2 - t)].map((weight, at) => [
      Math.min(from - 1, Math.max(0, first - 1 + at)), weight,
    ]);
  };
  const tap = factor < 1 ? area : cubic;
  const result = resample(source, ...size, tap(source.width, size[0]), tap(source.height, size[1]));
  return map(...size, result.data.map(clip));
}

/** Return a part of a map; outside of it there is paper. */
function cut(source, x, y, width, height) {
  const result = map(width, height);
  for (let row = Math.max(0, -y); row < Math.min(height, source.height - y); row += 1) {
    for (let column = Math.max(0, -x); column < Math.min(width, source.width - x); column += 1) {
      result.data[row * width + column] = source.data[(row + y) * source.width + column + x];
    }
  }
  return result;
}

/** Return x, y, width and height of the values above 0.1. */
function findBox({ width, height, data }) {
  let [left, top, end, low] = [width, height, 0, 0];
  for (let at = 0; at < data.length; at += 1) {
    if (data[at] <= 0.1) continue;
    const [x, y] = [at % width, Math.floor(at / width)];
    [left, top, end, low] = [Math.min(left, x), Math.min(top, y), Math.max(end, x + 1), Math.max(low, y + 1)];
  }
  return end ? [left, top, end - left, low - top] : [0, 0, width, height];
}

const crop = (source) => cut(source, ...findBox(source));

/** Return the distance of each pixel in a mask to the nearest one outside: G. Borgefors 1986, 5x5 chamfer. */
function measureDistances(inside, width, height) {
  const stride = width + 4; // with a frame, so that no pixel has neighbours outside of the array
  const distances = new Float32Array(stride * (height + 4)).fill(FAR);
  for (let at = 0, y = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1, at += 1) if (!inside[at]) distances[(y + 2) * stride + x + 2] = 0;
  }
  for (const sign of [-1, 1]) {
    for (let y = 0; y < height; y += 1) {
      let at = (sign < 0 ? y + 2 : height + 1 - y) * stride + (sign < 0 ? 2 : width + 1);
      for (let x = 0; x < width; x += 1, at -= sign) {
        if (!distances[at]) continue;
        const row = at + sign * stride; // the row before, from above or from below
        const straight = Math.min(distances[at + sign], distances[row]) + 1;
        const diagonal = Math.min(distances[row - 1], distances[row + 1]) + 1.4;
        const two = row + sign * stride;
        const wide = Math.min(distances[row - 2], distances[row + 2]) + 2.1969;
        const high = Math.min(distances[two - 1], distances[two + 1]) + 2.1969;
        distances[at] = Math.min(distances[at], straight, diagonal, wide, high);
      }
    }
  }
  const result = new Float32Array(width * height);
  for (let y = 0; y < height; y += 1) {
    result.set(distances.subarray((y + 2) * stride + 2, (y + 2) * stride + 2 + width), y * width);
  }
  return result;
}

/** Return the mean stroke width in pixels: the mean distance to the paper is a quarter of it. */
function measureStrokeWidth(strokes) {
  const { width, height, data } = cut(strokes, -1, -1, strokes.width + 2, strokes.height + 2);
  const distances = measureDistances(data.map((value) => value > 0.5), width, height).filter((value) => value > 0);
  return distances.length ? 4 * (distances.reduce((sum, value) => sum + value - 0.5, 0) / distances.length) : 0;
}

/** Move the edges of strokes outwards by `growth` pixels, or inwards; at least one pixel remains. */
function thicken(strokes, growth, margin) {
  const padded = cut(strokes, -margin, -margin, strokes.width + 2 * margin, strokes.height + 2 * margin);
  const inside = padded.data.map((value) => value > 0.5);
  const depth = measureDistances(inside, padded.width, padded.height);
  const outside = measureDistances(inside.map((one) => !one), padded.width, padded.height);
  const by = Math.max(growth, 1 - depth.reduce((most, value) => Math.max(most, value), 0));
  const edge = inside.map((one, at) => by + 0.5 + (one ? depth[at] - 0.5 : 0.5 - outside[at]));
  return map(padded.width, padded.height, edge.map(clip));
}

/** Return the strokes of one digit in MNIST's format: a Uint8Array [784]. */
export function normalise(strokes, { side, digitSize, centre, strokeWidths, oversampling }) {
  const most = maximum(strokes);
  let digit = crop(map(strokes.width, strokes.height, strokes.data.map((value) => value / most)));
  const fine = rescale(digit, (digitSize * oversampling) / Math.max(digit.width, digit.height));
  const peak = maximum(fine);
  fine.data = fine.data.map((value) => value / peak);
  const width = measureStrokeWidth(fine) / oversampling;
  const target = Math.min(strokeWidths[1], Math.max(strokeWidths[0], width));
  if (target !== width) {
    const growth = (oversampling * digitSize * (target - width)) / (digitSize - target) / 2;
    digit = crop(thicken(fine, growth, Math.max(0, Math.ceil(growth)) + 1));
  }
  digit = rescale(digit, digitSize / Math.max(digit.width, digit.height));
  const full = maximum(digit);
  const gray = digit.data.map((value) => Math.round((value * 255) / full));
  let [mass, sumX, sumY] = [0, 0, 0];
  gray.forEach((value, at) => {
    mass += value;
    sumX += value * (at % digit.width);
    sumY += value * Math.floor(at / digit.width);
  });
  const place = (sum, length) => Math.min(Math.max(0, Math.round(centre - sum / mass)), side - length);
  const [left, top] = [place(sumX, digit.width), place(sumY, digit.height)];
  return Uint8Array.from(cut(map(digit.width, digit.height, gray), -left, -top, side, side).data);
}

/** Return copies of an image that are scaled about its centre, by [x, y] each: Uint8Arrays [784]. */
export function makeVariants(pixels, { side, centre, variantScales }) {
  const image = map(side, side, Float32Array.from(pixels));
  return variantScales.map(([scaleX, scaleY]) => {
    const linear = (scale) => (place) => {
      const from = (place - centre * (1 - scale)) / scale;
      const [first, part] = [Math.floor(from), from - Math.floor(from)];
      return [[first, 1 - part], [first + 1, part]].filter(([cell]) => cell >= 0 && cell < side);
    };
    return Uint8Array.from(resample(image, side, side, linear(scaleX), linear(scaleY)).data.map(Math.round));
  });
}

/** Return the number of each pixel's component (8-connected), 0 outside of the mask. */
function labelComponents(mask, width, height) {
  const labels = new Uint16Array(mask.length);
  let count = 0;
  for (let start = 0; start < mask.length; start += 1) {
    if (!mask[start] || labels[start]) continue;
    count += 1;
    labels[start] = count;
    const open = [start];
    while (open.length) {
      const at = open.pop();
      const [x, y] = [at % width, Math.floor(at / width)];
      for (let row = Math.max(0, y - 1); row <= Math.min(height - 1, y + 1); row += 1) {
        for (let column = Math.max(0, x - 1); column <= Math.min(width - 1, x + 1); column += 1) {
          const next = row * width + column;
          if (!mask[next] || labels[next]) continue;
          labels[next] = count;
          open.push(next);
        }
      }
    }
  }
  return { labels, count };
}

/** Return whether there is a pixel of a mask within a square around each pixel. */
function dilate(mask, width, height, reach) {
  const near = new Uint8Array(mask.length);
  mask.forEach((one, at) => {
    if (!one) return;
    const [x, y] = [at % width, Math.floor(at / width)];
    for (let row = Math.max(0, y - reach); row <= Math.min(height - 1, y + reach); row += 1) {
      near.fill(1, row * width + Math.max(0, x - reach), row * width + Math.min(width - 1, x + reach) + 1);
    }
  });
  return near;
}

const MASK = 0.28; // contrast of a stroke
const FLOOR = { small: 0.05, large: 0.25 }; // contrast of paper, relative to the strokes, of components up to 40 pixels

/** Return connected strokes, each {x, y, width, height, strokes, mass}; gaps of half a stroke's width are bridged. */
function findComponents(gray, width) {
  const height = gray.length / width;
  const drawing = map(width, height, new Float32Array(gray).map((value) => (255 - value) / 255));
  const sigma = Math.min(width / 300, 0.12 * measureStrokeWidth(drawing));
  const contrast = sigma > 0.4 ? blur(drawing, sigma) : drawing;
  contrast.data = contrast.data.map((value) => (value * 255) / 270);
  const mask = new Uint8Array(contrast.data.map((value) => value > MASK));
  const reach = Math.round(0.5 * measureStrokeWidth(map(width, height, mask)));
  const { labels, count } = labelComponents(dilate(mask, width, height, reach), width, height);
  const boxes = Array.from({ length: count }, () => ({ left: width, top: height, end: 0, low: 0, values: [] }));
  for (let at = 0; at < labels.length; at += 1) {
    if (!labels[at]) continue;
    const box = boxes[labels[at] - 1];
    const x = at % width;
    const y = (at - x) / width;
    box.left = Math.min(box.left, x);
    box.end = Math.max(box.end, x + 1);
    box.top = Math.min(box.top, y);
    box.low = Math.max(box.low, y + 1);
    if (mask[at]) box.values.push(contrast.data[at]);
  }
  const sizes = boxes.map((box) => Math.max(box.end - box.left, box.low - box.top));
  const least = Math.max(4, 0.1 * Math.max(...sizes));
  return boxes.flatMap((box, index) => {
    if (sizes[index] < least || !box.values.length) return [];
    const full = box.values.sort((a, b) => a - b)[Math.round(0.6 * (box.values.length - 1))];
    const floor = sizes[index] <= 40 ? FLOOR.small : FLOOR.large;
    const [x, y] = [Math.max(0, box.left - 2), Math.max(0, box.top - 2)]; // the soft edge has 2 pixels
    const window = cut(contrast, x, y, box.end + 2 - x, box.low + 2 - y);
    const [ink, owner] = [mask, labels].map((data) => {
      return cut(map(width, height, data), x, y, window.width, window.height).data;
    });
    const around = dilate(ink.map((one, at) => one && owner[at] === index + 1), window.width, window.height, 2);
    const strokes = window.data.map((value, at) => around[at] * clip((value / full - floor) / (1 - floor)));
    const [left, top, wide, high] = findBox(map(window.width, window.height, strokes));
    return [makeComponent(x + left, y + top, cut(map(window.width, window.height, strokes), left, top, wide, high))];
  });
}

function makeComponent(x, y, strokes) {
  const mass = strokes.data.reduce((sum, value) => sum + value, 0);
  return { x, y, width: strokes.width, height: strokes.height, strokes, mass };
}

function merge(a, b) {
  const [x, y] = [Math.min(a.x, b.x), Math.min(a.y, b.y)];
  const [width, height] = [Math.max(right(a), right(b)) - x, Math.max(bottom(a), bottom(b)) - y];
  const [one, other] = [a, b].map((part) => cut(part.strokes, x - part.x, y - part.y, width, height).data);
  return makeComponent(x, y, map(width, height, one.map((value, at) => Math.max(value, other[at]))));
}

/** Return whether components above each other have the height of one digit together, such as a 5 and its bar. */
function areStacked(a, b, height) {
  const overlap = Math.min(right(a), right(b)) - Math.max(a.x, b.x);
  const gap = Math.max(a.y, b.y) - Math.min(bottom(a), bottom(b));
  const total = Math.max(bottom(a), bottom(b)) - Math.min(a.y, b.y);
  return overlap >= 0.5 * Math.min(a.width, b.width) && gap <= 0.3 * height && total <= 1.6 * height;
}

/** Return whether b is a loose stroke of a, such as the flag of a 5. */
function belongs(a, b, height) {
  const gap = Math.max(a.x, b.x) - Math.min(right(a), right(b));
  const total = Math.max(right(a), right(b)) - Math.min(a.x, b.x);
  return b.height < 0.4 * height && gap < 0.25 * height && total < 1.3 * height;
}

const areLevel = (a, b) => {
  return Math.min(bottom(a), bottom(b)) - Math.max(a.y, b.y) >= 0.4 * Math.min(a.height, b.height);
};

/**
 * Return the lines of digits in a drawing, from the top and from the left, each {box: [x, y, width, height], pixels}.
 *
 * `gray` is a Uint8Array of rows of a width. Digits that touch are one.
 */
export function findDigits(gray, width, settings) {
  const components = findComponents(gray, width).sort((a, b) => a.height - b.height);
  const half = components.reduce((sum, one) => sum + one.mass, 0) / 2;
  let mass = 0;
  const height = components.find((one) => (mass += one.mass) >= half)?.height ?? 0; // the median by mass
  const digits = [];
  const large = components.filter((part) => Math.max(part.width, part.height) >= 0.25 * height);
  for (const one of large.sort((a, b) => b.mass - a.mass)) {
    const at = digits.findIndex((other) => areStacked(one, other, height) || belongs(other, one, height));
    if (at < 0) digits.push(one);
    else digits[at] = merge(digits[at], one);
  }
  const placed = [];
  const high = digits.filter((part) => part.height > 0.4 * height);
  for (const one of high.sort((a, b) => a.x + a.width / 2 - b.x - b.width / 2)) {
    const line = placed.findLast((other) => areLevel(other.one, one))?.line ?? [];
    line.push(one);
    placed.push({ one, line });
  }
  const middle = (line) => line.reduce((sum, one) => sum + one.y + one.height / 2, 0) / line.length;
  const lines = [...new Set(placed.map(({ line }) => line))].sort((a, b) => middle(a) - middle(b));
  return lines.map((line) => line.map((one) => {
    return { box: [one.x, one.y, one.width, one.height], pixels: normalise(one.strokes, settings) };
  }));
}
