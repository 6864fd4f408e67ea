// Temporal profile, an x-t slice: one row of the frames over time. A line of the slice is a frame; later frames are below.

import { imageUrl } from './image_cache.js';
import { clamp, node, pointerIn, range } from './dom.js';

export function createSlice(lens) {
  const { part, view } = lens;
  let slices = [];                                  // [{ key, canvas, context, mark, box }]
  let request = 0;                                  // counts requested rows; only the newest is drawn

  function make() {
    const { methods, width, frame_count: frameCount } = lens.scene, open = view.panels.has('slice'), zoom = clamp(Math.floor(144 / frameCount), 1, 10);
    request++;
    slices = methods.filter(m => open && !view.hidden.has(m.key)).map(({ key, label }) => {
      const canvas = node('canvas', { width, height: frameCount, style: `height: ${frameCount * zoom}px` }), context = canvas.getContext('2d');
      const mark = node('i', { className: 'lens-now' }), plot = node('div', { className: 'lens-slice', role: 'img', ariaLabel: `Row of ${label} over time` }, canvas, mark);
      context.imageSmoothingEnabled = false;
      plot.onclick = event => {
        const [x, y] = pointerIn(canvas, event);
        lens.loupe.pinAt(x * width, view.row);
        lens.player.seek(Math.floor(y * frameCount));
      };
      return { key, canvas, context, mark, box: node('div', {}, node('span', { className: 'lens-name' }, lens.dot(key), label), plot) };
    });
    part('slices').replaceChildren(...slices.map(one => one.box));
    part('row').max = lens.scene.height - 1;
    if (open) draw();
  }

  // Draws the row of every frame; the frames near the visible one first.
  function draw() {
    const mine = ++request, { row } = view, { frame_count: frameCount, height, width } = lens.scene, cancelled = () => mine !== request;
    let left = frameCount * slices.length, missing = 0;
    part('row').value = row;
    part('slice-progress').textContent = '';
    for (const index of range(frameCount).sort((a, b) => Math.abs(a - lens.frame) - Math.abs(b - lens.frame))) {
      for (const { key, context } of slices) {
        lens.images.fetchLowPriority(imageUrl(lens.method(key).image_folder, index), bitmap => {
          context.drawImage(bitmap, 0, Math.floor((row + 0.5) * bitmap.height / height), bitmap.width, 1, 0, index, width, 1);
        }, cancelled).then(drawn => {
          left--;
          missing += !drawn;
          if (!cancelled()) part('slice-progress').textContent = left ? `${left} images to come` : missing ? `${missing} images are missing.` : '';
        });
      }
    }
    mark();
  }

  function mark() {
    for (const { mark: { style } } of slices) {
      style.top = `${lens.frame / lens.scene.frame_count * 100}%`;
      style.height = `${100 / lens.scene.frame_count}%`;
    }
  }

  function rowAt(row) {
    view.row = clamp(Math.round(row), 0, lens.scene.height - 1);
    lens.label();
    draw();
  }

  return { make, mark, rowAt };
}
