// Keras networks, computed by TensorFlow.js on WebAssembly: their layers from network.json, weights from network.bin.

/** Return the numbers of half precision (IEEE 754 binary16) in a buffer. */
function decodeHalf(buffer) {
  return Float32Array.from(new Uint16Array(buffer), (bits) => {
    const [sign, exponent, fraction] = [bits & 0x8000 ? -1 : 1, (bits >> 10) & 31, bits & 1023];
    return sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -14 * (fraction / 1024));
  });
}

const activate = { linear: (x) => x, relu: (x) => tf.relu(x), softmax: (x) => tf.softmax(x) };
const operations = {
  Conv2D: ([x], { strides, padding, activation }, [kernel, bias]) => {
    const y = tf.conv2d(x, kernel, strides, padding);
    return activate[activation](bias ? tf.add(y, bias) : y);
  },
  MaxPooling2D: ([x], { pool_size: size, strides, padding }) => tf.maxPool(x, size, strides, padding),
  ReLU: ([x]) => tf.relu(x),
  Add: (inputs) => inputs.reduce((sum, x) => tf.add(sum, x)),
  GlobalAveragePooling2D: ([x]) => tf.mean(x, [1, 2]),
  Dropout: ([x]) => x,
  Dense: ([x], { activation }, [kernel, bias]) => activate[activation](tf.add(tf.matMul(x, kernel), bias)),
};

/** Return the names of the layers whose outputs a layer takes, from Keras' description of its call. */
function findInputs(value) {
  if (value?.class_name === "__keras_tensor__") return [value.config.keras_history[0]];
  return value && typeof value === "object" ? Object.values(value).flatMap(findInputs) : [];
}

/** Return a function from images, Uint8Array [n * 784], to the mean probabilities, Float32Array [n * 10]. */
export function makePredictor({ networks, side, temperature }, buffer) {
  const values = decodeHalf(buffer);
  let start = 0;
  const take = (shape) => {
    const size = shape.reduce((product, length) => product * length, 1);
    start += size;
    return tf.tensor(values.slice(start - size, start), shape);
  };
  const weights = networks.map(({ shapes }) => shapes.map((layer) => layer.map(take)));
  const compute = (network, arrays, images) => {
    const outputs = {};
    let last = images;
    for (const [index, { class_name: kind, config, inbound_nodes: calls }] of network.layers.entries()) {
      const inputs = findInputs(calls).map((name) => outputs[name]);
      last = kind === "InputLayer" ? images : operations[kind](inputs, config, arrays[index]);
      outputs[config.name] = last;
    }
    return last;
  };
  return (pixels) => tf.tidy(() => {
    const images = tf.div(tf.tensor(Float32Array.from(pixels), [pixels.length / side ** 2, side, side, 1]), 255);
    const found = networks.map((network, index) => compute(network, weights[index], images));
    const mean = tf.div(found.reduce((sum, one) => tf.add(sum, one)), networks.length);
    return tf.softmax(tf.div(tf.log(tf.maximum(mean, 1e-12)), temperature)).dataSync();
  });
}
