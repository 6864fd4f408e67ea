// The loupe: the same patch of every method, enlarged, and the pixel values at one point.

import { clamp, draggable, formatNumber, isFiniteNumber, node, pointerIn } from './dom.js';
import { pixelsOf } from './image_cache.js';

const SIDE = 32;                                    // side of a patch in pixels of the frame, for the automatic magnification
const BLOCK = 8;                                    // side of the squares whose differences are summed
const SIDES = [5, 96];                              // limits of the side where one is chosen
const MIN_SCALE = 2, MAX_SCALE = 8;                 // limits of the automatic magnification
const MIN_WIDTH = 72, CAPTION_HEIGHT = 62, GAP = 6; // patch with its captions, in CSS pixels
const NARROW_HEIGHT = 0.6, BELOW_HEIGHT = 0.33;     // part of the window's height for the patches of a narrow page, and below the maps
const MIN_PATCH = 120, OVERHANG = 48;               // a smaller patch, or one that is longer than the frames by more, goes below the maps
const signed = value => (value > 0 ? `+${value}` : value < 0 ? `−${-value}` : '0');

export function createLoupe(lens) {
  const { part, root, view, images } = lens;
  let patches = [];                                 // [{ key, box, canvas, context, text, error, mapped, pixel }]
  let side = SIDE, scale = 4, automatic = false;    // automatic: the loupe has not been placed yet

  // The patch in the frame.
  function patch() {
    const [[left, width], [top, height]] = [lens.scene.width, lens.scene.height].map((size, i) => (
      [clamp(view.point[i] - (side >> 1), 0, Math.max(0, size - side)), Math.min(side, size)]));
    return { left, top, width, height };
  }

  // Places the loupe where the two visible methods differ most in squared error, unless the URL or the user has placed it. It
  // waits for a frame on which they differ: a student and its plain twin are equal at step 0.
  function start() {
    if (!automatic || !lens.scene || !view.loupe || view.left === view.right) return;
    if (view.pinned) { automatic = false; return; }
    const { width, height } = lens.scene;
    const [a, b] = [view.left, view.right].map(key => images.bitmap(key)).map(bitmap => bitmap && pixelsOf(bitmap, width, height).data);
    if (!a || !b) return;
    const columns = Math.ceil(width / BLOCK), sums = new Float64Array(columns * Math.ceil(height / BLOCK));
    for (let y = 0, i = 0; y < height; y++) {
      for (let x = 0; x < width; x++, i += 4) {
        const square = (a[i] - b[i]) ** 2 + (a[i + 1] - b[i + 1]) ** 2 + (a[i + 2] - b[i + 2]) ** 2;
        sums[Math.floor(y / BLOCK) * columns + Math.floor(x / BLOCK)] += square;
      }
    }
    let most = 0, found = null;
    for (let top = 0; top === 0 || top + SIDE <= height; top += BLOCK) {
      for (let left = 0; left === 0 || left + SIDE <= width; left += BLOCK) {
        let sum = 0;
        for (let y = top; y < Math.min(top + SIDE, height); y += BLOCK) {
          for (let x = left; x < Math.min(left + SIDE, width); x += BLOCK) sum += sums[y / BLOCK * columns + x / BLOCK];
        }
        if (sum > most) [most, found] = [sum, [left + SIDE / 2, top + SIDE / 2]];
      }
    }
    if (found) pointAt(...found);
  }

  function make() {
    patches = lens.scene.methods.map(({ key, label }) => {
      const canvas = node('canvas'), context = canvas.getContext('2d', { willReadFrequently: true });
      const [text, error, mapped] = ['lens-color', 'lens-error', 'lens-attention'].map(className => node('span', { className }));
      const pixel = node('i', { className: 'lens-pixel' }), name = node('span', { className: 'lens-name', title: label }, lens.dot(key), label);
      const box = node('div', { className: 'lens-patch' }, name, node('span', { className: 'lens-view' }, canvas, pixel), text, error, mapped);
      drag(canvas);
      return { key, box, canvas, context, text, error, mapped, pixel };
    });
    part('patches').replaceChildren(...patches.map(one => one.box));
  }

  // The number of columns with which the patches are largest in the free height, else with which they are lowest. The
  // magnification is a whole number.
  function bestLayout(room, free) {
    const layouts = patches.map((_, i) => {
      const rows = i + 1, columns = Math.ceil(patches.length / rows), width = Math.floor((room - GAP * (columns - 1)) / columns);
      const fitting = Math.max(MIN_SCALE, Math.floor((free / rows - CAPTION_HEIGHT) / SIDE));
      const magnification = clamp(Math.min(Math.floor(width / SIDE), fitting), 1, MAX_SCALE);
      return { columns, width, magnification, height: rows * (SIDE * magnification + CAPTION_HEIGHT) };
    }).filter((layout, i) => layout.width >= MIN_WIDTH || i === patches.length - 1);
    const low = layouts.filter(layout => layout.height <= free);
    return low.length ? low.reduce((a, b) => (b.magnification > a.magnification ? b : a)) : layouts.reduce((a, b) => (b.height < a.height ? b : a));
  }

  // On a wide page the loupe is next to the frames, below the maps; where they leave it too little height, it takes the whole width
  // below both. It is moved only where its place changes, since an element that is moved loses the focus.
  function place() {
    const [panel, list, side, left] = ['loupe-panel', 'patches', 'side', 'left-column'].map(part), wide = root.classList.contains('wide');
    if (!list.clientWidth) return null;
    const top = panel.parentElement === side ? list.offsetTop : side.offsetTop + side.offsetHeight + list.offsetTop - panel.offsetTop;
    const layout = bestLayout(side.clientWidth, wide ? left.offsetHeight - top + OVERHANG : innerHeight * NARROW_HEIGHT);
    const fitting = !wide || layout.magnification * SIDE >= MIN_PATCH, parent = fitting ? side : part('main');
    if (panel.parentElement !== parent) parent.append(panel);
    return fitting ? layout : bestLayout(list.clientWidth, innerHeight * BELOW_HEIGHT);
  }

  function fit() {
    const layout = patches.length ? place() : null;
    if (!layout) return;
    const { columns, width: wide, magnification } = layout;
    scale = view.enlarge === 'auto' ? magnification : view.enlarge;
    side = view.enlarge === 'auto' ? SIDE : clamp(Math.floor(Math.min(wide, SIDE * 6) / scale), ...SIDES);
    const { width, height } = patch();
    part('patches').style.gridTemplateColumns = `repeat(${columns}, ${Math.max(width * scale, Math.min(wide, 100))}px)`;
    for (const { canvas, context } of patches) {
      Object.assign(canvas, { width, height });
      context.imageSmoothingEnabled = false;        // setting the size resets it
      canvas.style.width = `${width * scale}px`;
      canvas.style.height = `${height * scale}px`;
    }
    lens.label();
    draw();
  }

  function draw() {
    if (!lens.scene || !view.loupe) return;
    const { left, top } = patch(), [x, y] = view.point, kind = lens.overlay(), { width, height } = lens.scene;
    const values = Object.fromEntries(patches.map(({ key, canvas, context }) => {
      const bitmap = images.bitmap(key);
      context.clearRect(0, 0, canvas.width, canvas.height);
      if (!bitmap) return [key, null];
      context.drawImage(bitmap, -left, -top, width, height);
      return [key, [...context.getImageData(x - left, y - top, 1, 1).data.slice(0, 3)]];
    }));
    for (const { key, canvas, text, error, mapped, pixel } of patches) {
      const value = values[key], mapValue = kind?.by_method[key] ? lens.featureMaps.valueAt(kind, key, view.point) : null;
      text.textContent = value ? value.join(' ') : 'no image';
      error.textContent = value && values.high && key !== 'high' ? `error ${value.map((v, c) => signed(v - values.high[c])).join(' ')}` : '';
      mapped.textContent = isFiniteNumber(mapValue) ? `map ${formatNumber(mapValue)}` : '';
      Object.assign(pixel.style, {
        left: `${(x - left) / canvas.width * 100}%`, top: `${(y - top) / canvas.height * 100}%`,
        width: `${100 / canvas.width}%`, height: `${100 / canvas.height}%` });
    }
    part('loupe-position').textContent = `× ${scale} at column ${x}, row ${y}; ${view.pinned ? 'pinned, click to release' : 'click a frame to pin'}`;
  }

  // Dragging one patch moves all of them; a click goes to the pixel under it.
  const drag = canvas => draggable(canvas, {
    begin: () => view.point,
    drag: (event, [x, y], by) => { const [dx, dy] = by.map(pixels => Math.round(pixels / scale)); pinAt(x - dx, y - dy); },
    click: event => {
      const [x, y] = pointerIn(canvas, event), { left, top } = patch();
      pinAt(left + x * canvas.width, top + y * canvas.height);
    },
  });

  function pinAt(x, y) {
    view.pinned = true;
    pointAt(x, y);
  }

  function pointAt(x, y) {
    automatic = false;
    view.point = [clamp(Math.floor(x), 0, lens.scene.width - 1), clamp(Math.floor(y), 0, lens.scene.height - 1)];
    lens.label();
    draw();
    lens.featureMaps.updateReadouts();
  }

  return { make, fit, draw, start, startAgain: () => { automatic = true; }, pinAt, pointAt, patch, get patches() { return patches; }, get scale() { return scale; } };
}
