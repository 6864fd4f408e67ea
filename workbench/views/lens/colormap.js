// From the gray levels of a map to its values and colors.

import { clamp, formatNumber, node, range } from './dom.js';

const tables = {};                                  // stops -> 256 colors

function colorTable(stops) {
  const rgb = stops.map(stop => [1, 3, 5].map(i => parseInt(stop.slice(i, i + 2), 16)));
  return (tables[stops] ||= range(256).map(i => {
    const at = i / 255 * (rgb.length - 1), k = Math.min(rgb.length - 2, Math.floor(at));
    return rgb[k].map((value, c) => Math.round(value + (rgb[k + 1][c] - value) * (at - k)));
  }));
}

// Value that a gray level of one method's map represents.
export const valueOf = ({ vmin, vmax }, gray) => vmin + gray / 255 * (vmax - vmin);

// An image in which pixel i has the color of valueAt(i) for color limits vmin and vmax.
export function colorImage(width, height, stops, [vmin, vmax], valueAt) {
  const image = new ImageData(width, height), colors = colorTable(stops), span = vmax - vmin || 1;
  for (let i = 0; i < width * height; i++) {
    const color = colors[clamp(Math.round((valueAt(i) - vmin) / span * 255), 0, 255)];
    for (let c = 0; c < 3; c++) image.data[4 * i + c] = color[c];
    image.data[4 * i + 3] = 255;
  }
  return image;
}

export function colorbar(stops, [vmin, vmax]) {
  const bar = node('i', { className: 'lens-gradient', style: `background: linear-gradient(to right, ${stops.join(', ')})` });
  const numbers = [vmin, (vmin + vmax) / 2, vmax].map(value => node('span', { textContent: formatNumber(value) }));
  return node('span', { className: 'lens-colorbar' }, bar, node('span', { className: 'lens-numbers' }, ...numbers));
}
