// ------------------------------------------------------------------------- maps: grey levels -> values -> colours

function ramp(stops) {                              // 256 colours between the stops
  const rgb = stops.map(stop => [1, 3, 5].map(i => parseInt(stop.slice(i, i + 2), 16)));
  return Array.from({ length: 256 }, (_, i) => {
    const at = i / 255 * (rgb.length - 1), k = Math.min(rgb.length - 2, Math.floor(at));
    return rgb[k].map((value, c) => Math.round(value + (rgb[k + 1][c] - value) * (at - k)));
  });
}

// The scale that all methods share: of the channel that is shown, where a map has several.
const rangeOf = map => (map.limits ? [-map.limits[view.channel], map.limits[view.channel]] : [map.low, map.high]);
const levelOf = ({ low, high }, grey) => low + grey / 255 * (high - low);
const channelOf = (map, key) => Math.min(view.channel, map.maps[key].channels - 1);

function coloured(map, key, entry) {
  const { channels } = map.maps[key], channel = channelOf(map, key);
  if (entry.canvas && entry.channel === channel) return entry.canvas;
  const { width } = entry, height = Math.floor(entry.height / channels), canvas = node('canvas', { width, height });
  const picture = new ImageData(width, height), colours = colourOf(map.stops), [low, high] = rangeOf(map), span = high - low || 1;
  for (let i = 0; i < width * height; i++) {        // own scale -> the scale that all maps of the kind share
    const value = levelOf(map.maps[key], entry.grey[channel * width * height + i]);
    const colour = colours[clamp(Math.round((value - low) / span * 255), 0, 255)];
    picture.data.set([...colour, 255], 4 * i);
  }
  canvas.getContext('2d').putImageData(picture, 0, 0);
  Object.assign(entry, { canvas, channel });
  return canvas;
}

function valueAt(map, key, [x, y]) {
  const entry = mapOf(map, key);
  if (!entry) return null;
  const height = Math.floor(entry.height / map.maps[key].channels);
  const column = clamp(Math.floor(x / scene.width * entry.width), 0, entry.width - 1);
  const row = clamp(Math.floor(y / scene.height * height), 0, height - 1);
  return levelOf(map.maps[key], entry.grey[(channelOf(map, key) * height + row) * entry.width + column]);
}

const known = {};                                   // stops -> 256 colours
const colourOf = stops => (known[stops] ||= ramp(stops));

function scaleBar(stops, low, high, title = '') {
  const bar = node('i', { className: 'lens-ramp' });
  bar.style.background = `linear-gradient(to right, ${stops.join(', ')})`;
  const numbers = [low, (low + high) / 2, high].map(value => node('span', { textContent: short(value) }));
  const made = node('span', { className: 'lens-scale' }, bar, node('span', { className: 'lens-numbers' }, ...numbers));
  if (title) made.prepend(node('span', { className: 'lens-caption', textContent: title }));
  return made;
}

function makeLegend() {
  const map = overlay(), legend = part('legend');
  legend.hidden = !map || view.layout === 'difference';
  if (!map) return;
  legend.replaceChildren(
    node('b', { textContent: map.label }),
    scaleBar(map.stops, ...rangeOf(map)),
    node('span', { className: 'lens-values' }), node('span', { className: 'lens-explain', textContent: map.explain }));
  readValues();
}

function readValues() {
  const map = overlay(), place = part('legend').querySelector('.lens-values');
  if (!map || !place) return;
  place.replaceChildren(...onShow().map(key => {
    const value = valueAt(map, key, view.point);
    return node('span', {}, dot(key), `${method(key).label} ${map.maps[key] ? short(value) : 'no map'}`);
  }));
}
